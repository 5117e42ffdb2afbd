"""Servers of several processes: path 2 lands in one of them, the session in another.

The server is test/workers/workers_server (a parent that forks workers, as nginx does, or a process by
itself), the client workers_client. `handed over` counts connections that moved to their session's
process and claims that were relayed to it."""

import os
import secrets
import signal
import sys

import pytest

from mtlslab import check, tools

LOAD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mtlslab", "load.py")
PROGRAMS = os.path.join(tools.BUILD, "test", "workers")
POLICY = "policy=require per-source=4096 deadline=30000"


class Workers:
    """A running workers_server."""

    def __init__(self, lab, pki, words="", workers=4, port=0, path2=0, plain=False):
        self.lab, self.pki = lab, pki
        argv = [os.path.join(PROGRAMS, "workers_server"), "--host", lab.addr, "--cert", pki.cert, "--key",
                pki.key, "--workers", workers, "--port", port]
        if not plain:
            argv += ["--words", f"{POLICY} listen={tools.join(lab.addr, path2)} {words}"]
        # A fork child cannot free what libcrypto keeps for the threads of its parent.
        self.proc = lab.spawn(lab.server, argv, name="workers_server", env={
            "ASAN_OPTIONS": "exitcode=99:detect_leaks=0", "UBSAN_OPTIONS": "halt_on_error=1:exitcode=99"})
        line = self.proc.wait_json("stdout", event="listening")
        self.host, self.port = lab.addr, line["port"]
        self.path2_port = tools.split(line["path2"])[1] if line["path2"] else None
        self.pids = self.proc.wait_json("stdout", event="workers")["pids"] if workers else [line["pid"]]

    def said(self, event):
        return [line for line in self.proc.jsons("stdout") if line["event"] == event]

    def stop(self):
        """A graceful stop; returns the sums of what the processes have done."""
        self.proc.stop()
        tools.check_sanitizer(self.proc)
        exits = [line for line in self.said("exit") if line["signal"] != 9]
        assert all(line["status"] == 0 for line in exits), exits
        lines = self.said("worker")
        return {key: sum(line[key] for line in lines) for key in lines[0] if key != "event"}


def start_load(lab, pki, server, *options, words="", count=200, threads=16, plain=False):
    """Starts a load of so many sessions; count None: until its standard input is closed."""
    argv = [os.path.join(PROGRAMS, "workers_client"), "--host", server.host, "--port", server.port,
            "--cafile", pki.cafile, "--name", pki.name, "--threads", threads, *options]
    argv += ["--count", count] if count else ["--until-eof"]
    if not plain:
        argv += ["--words", f"policy=require deadline=30000 path2={tools.spec(lab, server)} {words}"]
    return lab.spawn(lab.client, argv, name="workers_client", stdin=None if count else True)


def ended(running):
    """How the sessions of a load have ended."""
    if running.popen.stdin:
        running.close_stdin()
    assert running.wait(timeout=120) == 0, running.log()
    tools.check_sanitizer(running)
    return running.wait_json("stdout", event="done")


@pytest.fixture
def share():
    """A name that processes share, gone after the test."""
    name = f"test{secrets.token_hex(4)}"
    yield f"share={name}"
    os.unlink(f"/dev/shm/mtls3-{os.geteuid()}-{name}")


def load(*args, **words):
    """Runs many sessions; returns how they ended."""
    return ended(start_load(*args, **words))


def handed_over(sums):
    return sums["moved_in"] + sums["guests"]


@pytest.mark.parametrize("reuse", ["on", "off"])
@pytest.mark.parametrize("order", ["path 1 first", "together", "path 2 first"])
def test_prefork(lab, pki, order, reuse):
    """200 of 200 sessions are verified by 4 workers, whichever path comes first, over connections of
    their own and over kept ones."""
    server = Workers(lab, pki)
    words = f"reuse={reuse} tfo=off" + (" early=off" if order == "path 1 first" else "")
    options = ["--path2-first"] if order == "path 2 first" else []
    done = load(lab, pki, server, *options, words=words)
    assert done["verified"] == 200, done
    assert done["processes"] > 1, done
    sums = server.stop()
    print(order, reuse, sums)
    assert sums["verified"] == 200 and handed_over(sums) > 0, sums


def test_unrelated_processes_on_one_port(lab, pki, share):
    """Three processes that are not each other's children share the TLS port (SO_REUSEPORT) and, by
    share=NAME, the path-2 port; without the word the second cannot have it."""
    first = Workers(lab, pki, share, workers=0)
    others = [Workers(lab, pki, share, workers=0, port=first.port, path2=first.path2_port)
              for _ in range(2)]
    alone = lab.run(lab.server, [word.replace(share, "") for word in others[0].proc.argv])
    assert alone.popen.returncode == 1 and b"listener" in alone.stderr, alone.log()
    for reuse in ("on", "off"):
        done = load(lab, pki, first, words=f"reuse={reuse}")
        assert done["verified"] == 200 and done["processes"] == 3, done
    sums = [server.stop() for server in (first, *others)]
    assert sum(each["verified"] for each in sums) == 400, sums
    assert sum(handed_over(each) for each in sums) > 50, sums


def test_a_process_is_killed(lab, pki, share):
    """One of three processes is killed at work: the others forget it and go on, with every later
    session verified."""
    first = Workers(lab, pki, share, workers=0)
    others = [Workers(lab, pki, share, workers=0, port=first.port, path2=first.path2_port)
              for _ in range(2)]
    running = start_load(lab, pki, first, count=None, threads=8)
    others[1].proc.wait_json("stdout", event="first")
    os.kill(others[1].proc.pid, signal.SIGKILL)
    others[1].proc.wait()
    done = load(lab, pki, first)
    assert done["verified"] == 200, done
    hit = ended(running)
    print("hit:", hit)
    assert hit["failed"] + hit["broken"] < 50 < hit["verified"], hit
    sums = [server.stop() for server in (first, others[0])]
    assert sum(each["lost"] for each in sums) == 1, sums


RELOADS = 24


def reload_under_load(lab, pki, words, plain):
    """So many reloads while sessions come and go; returns how the sessions ended, and what the
    processes have done."""
    server = Workers(lab, pki, plain=plain)
    running = start_load(lab, pki, server, count=None, words=words, plain=plain)
    server.proc.wait_until(lambda: server.said("first") or plain, "first session")
    for number in range(1, RELOADS + 1):
        os.kill(server.proc.pid, signal.SIGHUP)
        server.proc.wait_until(lambda: len(server.said("exit")) == 4 * number, "exits", timeout=60)
    done = ended(running)
    return done, server.stop()


def test_reload_under_load(lab, pki):
    """Workers are replaced 24 times under load: no session is lost that plain TLS does not lose, and no
    worker crashes."""
    lost = {}
    for words in ("plain", "reuse=on", "reuse=off"):
        done, sums = reload_under_load(lab, pki, words, words == "plain")
        print(words, done, sums)
        lost[words] = done["failed"] + done["broken"]
        assert done["verified"] + done["plain"] > 500, done
        assert words == "plain" or done["plain"] == 0, done
        assert words == "plain" or handed_over(sums) > 0, sums
    assert lost["reuse=on"] <= lost["plain"] and lost["reuse=off"] <= lost["plain"], lost


@pytest.mark.parametrize("policy", ["prefer", "require"])
def test_path_2_on_the_tls_port(lab, pki, www, policy):
    """single-port=on: path 2 comes to the TLS port of another address of the server, which tells it from
    TLS by its first byte; a stranger's bytes there are TLS's to refuse, and plain TLS is served."""
    server = tools.Server(lab, pki, "--config", "single-port=on", path2=False, policy=policy, www=www,
                          listen=f"0.0.0.0:{lab.port()}", address=lab.addr)
    server.host = lab.addr
    lab.hosts(lab.client, **{pki.name.replace(".", "_"): lab.addr})
    path2 = f"dev=p2,remote={tools.join(lab.server_addr(2), server.port)}"
    for words in ([], ["--config", "early=off"]):
        result = tools.client(lab, pki, server, *words, path2=[path2])
        check.verified(result, None, (www / "file").read_bytes())
        assert result.line["paths"][1]["remote"] == tools.join(lab.server_addr(2), server.port)
    late = tools.client(lab, pki, server, "--config", "early=off",  # the port is EncryptedExtensions'
                        path2=[f"dev=p2,remote={lab.server_addr(2)}"])
    check.verified(late, None, (www / "file").read_bytes())
    plain = tools.curl(lab, pki, lab.addr, server.port)
    assert plain.stdout == ((www / "file").read_bytes() if policy == "prefer" else b""), plain.log()
    strangers = lab.spawn(lab.client, [sys.executable, LOAD, "flood", lab.addr, str(server.port), "8"],
                          name="load", stdin=True)
    strangers.wait_json("stdout", event="done")
    assert tools.client(lab, pki, server, path2=[path2]).outcome == tools.VERIFIED
    assert server.stop() == 0
    assert b"--path2-listen" not in server.proc.stderr, server.proc.log()


def test_path_2_on_the_tls_port_is_off(lab, pki, www):
    """Without the word path 2 gets no answer on the TLS port, and the server says that there is none."""
    server = tools.Server(lab, pki, path2=False, policy="prefer", www=www)
    assert b"no --path2-listen" in server.proc.stderr, server.proc.log()
    path2 = f"dev=p2,remote={tools.join(lab.addr, server.port)}"
    result = tools.client(lab, pki, server, path2=[path2], policy="require")
    assert result.outcome == tools.FAILED, result


def test_what_lands_in_the_parent(lab, pki):
    """Once its only worker has sessions the parent leaves path 2 to it: hardly a connection moves. With no worker there yet
    the parent answers, and hands over what is the first session's."""
    server = Workers(lab, pki, workers=1)
    first = load(lab, pki, server, words="reuse=off tfo=off", count=1, threads=1)
    assert first["verified"] == 1, first
    done = load(lab, pki, server, words="reuse=off tfo=off", count=300, threads=4)
    assert done["verified"] == 300, done
    sums = server.stop()
    assert sums["verified"] == 301 and 1 <= handed_over(sums) < 30, sums
