"""An unmodified nginx with workers, reloaded under load, beside the same nginx with plain TLS."""

import signal
import time

import preload_tools
from test_workers import RELOADS, ended, start_load


class Bare:
    """No wrap at all."""

    @staticmethod
    def argv(words):
        return [str(word) for word in words]


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return {int(word) for word in file.read().split()}


def reload_nginx_under_load(lab, pki, folder, www, plain):
    """nginx, unmodified, with 4 workers: so many reloads under load."""
    def start(port, wrap):
        return preload_tools.nginx(lab, pki, folder, www, port, Bare if plain else wrap, workers=4, tls=" ssl")

    server = preload_tools.wrapped_server(lab, pki, folder, start, per_source=4096, deadline=30000)
    running = start_load(lab, pki, server, count=None, threads=8, words="reuse=off", plain=plain)
    for _ in range(RELOADS):
        before = children(server.proc.pid)
        server.proc.send(signal.SIGHUP)
        limit = time.monotonic() + 60
        while before & children(server.proc.pid):
            assert time.monotonic() < limit, server.proc.log()
            time.sleep(0.01)
    done = ended(running)
    assert b"exited on signal" not in server.proc.stderr, server.proc.log()
    server.proc.stop()
    return done


def test_nginx_is_reloaded_under_load(lab, pki, www, tmp_path):
    """24 reloads of nginx: no session is lost that plain TLS does not lose, and no worker crashes."""
    folders = [tmp_path / "plain", tmp_path / "mtls"]
    for folder in folders:
        folder.mkdir()
    plain = reload_nginx_under_load(lab, pki, folders[0], www, True)
    hooked = reload_nginx_under_load(lab, pki, folders[1], www, False)
    print("plain:", plain, "hooked:", hooked)
    assert plain["plain"] > 100 and hooked["verified"] > 100 and hooked["plain"] == 0, hooked
    assert hooked["failed"] + hooked["broken"] <= plain["failed"] + plain["broken"], (plain, hooked)
