"""nginx with several workers under the preload library: reloaded under use."""

import signal
import time

from conftest import SECRET
from mtlslab import tools
from mtlslab.proc import DEADLINE
from preload_tools import nginx, wrapped_server


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
