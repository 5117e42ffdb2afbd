"""Servers of several processes: path 2 lands in one of them, the session in another.

The server is test/workers/workers_server (a parent that forks workers, as nginx does, or a process by
itself), the client workers_client. `handed over` counts connections that moved to their session's
process and claims that were relayed to it."""

import os

import pytest

from mtlslab import tools

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
        self.proc = lab.spawn(lab.server, argv, name="workers_server")
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
    argv = [os.path.join(PROGRAMS, "workers_client"), "--host", server.host, "--port", server.port,
            "--cafile", pki.cafile, "--name", pki.name, "--count", count, "--threads", threads, *options]
    if not plain:
        argv += ["--words", f"policy=require deadline=30000 path2={tools.spec(lab, server)} {words}"]
    return lab.spawn(lab.client, argv, name="workers_client")


def load(*args, **words):
    """Runs many sessions; returns how they ended."""
    proc = start_load(*args, **words)
    assert proc.wait(timeout=120) == 0, proc.log()
    tools.check_sanitizer(proc)
    return proc.wait_json("stdout", event="done")


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
