"""nginx with several workers under the preload library: reloaded, and replaced by a new binary."""

import os
import signal
import time

from conftest import SECRET
from mtlslab import tools
from mtlslab.proc import DEADLINE
from preload_tools import nginx, nginx_argv, wrapped_server
from test_workers import share  # noqa: F401, a fixture


def verified(lab, pki, service):
    result = tools.client(lab, pki, service)
    assert (result.code, result.outcome) == (0, "verified"), result
    assert SECRET in result.body


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return {int(word) for word in file.read().split()}


def until(test, what):
    limit = time.monotonic() + DEADLINE
    while not test():
        assert time.monotonic() < limit, what
        time.sleep(0.02)


def no_crash(proc):
    assert b"exited on signal" not in proc.stderr and b"exited with code" not in proc.stderr.replace(
        b"exited with code 0", b""), proc.log()


def test_reloaded_under_use(lab, pki, www, tmp_path):
    service = wrapped_server(lab, pki, tmp_path, lambda port, wrap: nginx(
        lab, pki, tmp_path, www, port, wrap, workers=4))
    for _ in range(6):
        before = children(service.proc.pid)
        verified(lab, pki, service)
        service.proc.send(signal.SIGHUP)
        verified(lab, pki, service)
        until(lambda old=before: not old & children(service.proc.pid), "old workers end")
        verified(lab, pki, service)
    no_crash(service.proc)
    assert len(service.wrap.wait(18, outcome="verified")) == 18


# A shell between us and nginx, gone once nginx runs: nginx heeds USR2 only where its parent is not
# the one that started it.
DETACH = '("$@" & until [ -s "$PIDFILE" ]; do sleep 0.02; done); exec sleep 300'


def test_replaced_by_a_new_binary(lab, pki, www, tmp_path, share):
    """nginx hands an almost empty environment to the new binary."""
    pidfile = tmp_path / "pid"

    def start(port, wrap):
        argv = nginx_argv(lab, pki, tmp_path, www, port, wrap, workers=2)
        return lab.spawn(lab.server, ["env", f"PIDFILE={pidfile}", "sh", "-c", DETACH, "sh", *argv],
                         name="nginx")
    service = wrapped_server(lab, pki, tmp_path, start, share=share.split("=")[1])
    verified(lab, pki, service)
    old = int(pidfile.read_text())
    os.kill(old, signal.SIGUSR2)
    until(lambda: os.path.exists(f"{pidfile}.oldbin") and pidfile.exists()
          and len(children(int(pidfile.read_text()))) == 2, "the new master has workers")
    new = int(pidfile.read_text())
    with open(f"/proc/{new}/maps", encoding="ascii") as maps:
        assert "libmtls-preload" in maps.read()
    os.kill(old, signal.SIGQUIT)
    until(lambda: not os.path.exists(f"{pidfile}.oldbin"), "the old master ends")
    for _ in range(4):
        verified(lab, pki, service)
    assert {line["pid"] for line in service.wrap.wait(5, outcome="verified")[1:]} <= children(new)
    no_crash(service.proc)
