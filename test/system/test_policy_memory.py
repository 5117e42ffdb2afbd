"""Policies, the memory of verified hosts (rule 12), exit codes."""

import json
import subprocess

import pytest

from conftest import SECRET
from mtlslab import attack, check, stock, tools
from mtlslab.tools import client


def memory(tmp_path):
    return tmp_path / "hosts"


def test_remembered_host_is_not_downgraded(lab, pki, www, tmp_path):
    """Verified once; then both paths are attacked. Under prefer that would be plain at first contact (the
    twin below); a remembered host refuses."""
    server = tools.Server(lab, pki, www=www, policy="prefer")
    hosts = memory(tmp_path)
    options = ["--hosts", hosts]
    check.verified(client(lab, pki, server, *options, policy="prefer", cafile=pki.bundle), None)
    assert hosts.stat().st_mode & 0o077 == 0
    assert pki.name.encode() not in hosts.read_bytes(), "names are kept as keyed hashes"
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    lab.filter(2, f"tcp dport {server.path2_port} reject with tcp reset")
    result = client(lab, pki, server, *options, policy="prefer", cafile=pki.bundle)
    check.refused(result, "remembered")
    check.nothing_stolen(mitm)
    result = client(lab, pki, server, policy="prefer", cafile=pki.bundle)
    check.plain(result)
    assert SECRET in mitm.record


def test_forget(lab, pki, www, tmp_path):
    """memory=0 at the server: the host is not remembered, or forgotten again."""
    hosts = memory(tmp_path)
    server = tools.Server(lab, pki, www=www, policy="prefer")
    check.verified(client(lab, pki, server, "--hosts", hosts, policy="prefer"), None)
    listen, path2 = server.listen, server.path2
    server.stop()
    server = tools.Server(lab, pki, "--config", "memory=0", www=www, policy="prefer", listen=listen,
                          path2_listen=path2)
    check.verified(client(lab, pki, server, "--hosts", hosts, policy="prefer"), None)
    server.stop()
    stock_server = stock.s_server(lab, pki, www=www)
    server.port, server.path2_port = stock_server.port, lab.port()
    check.plain(client(lab, pki, server, "--hosts", hosts, policy="prefer"))


@pytest.mark.parametrize("damage", ["noise", "cut", "directory"])
def test_damaged_memory(lab, pki, www, tmp_path, damage):
    """Unreadable or corrupt is an error under require, never "empty"."""
    hosts = memory(tmp_path)
    server = tools.Server(lab, pki, www=www)
    check.verified(client(lab, pki, server, "--hosts", hosts), None)
    if damage == "noise":
        hosts.write_bytes(bytes(range(256)))
    elif damage == "cut":
        hosts.write_bytes(hosts.read_bytes()[:-1])
    else:
        hosts.unlink()
        hosts.mkdir()
    result = client(lab, pki, server, "--hosts", hosts)
    assert result.code in (tools.EXIT_USAGE, tools.EXIT_UNVERIFIED), result
    assert result.outcome != tools.VERIFIED and result.body == b"", result
    assert b"hosts-file" in result.proc.stderr or b"memory of verified hosts" in result.proc.stderr


def test_remembered_by_many_at_once(lab, pki, www, tmp_path):
    """Concurrent writers: every one succeeds and the file stays readable."""
    hosts = memory(tmp_path)
    server = tools.Server(lab, pki, www=www)
    running = [tools.start_client(lab, pki, server, "--hosts", hosts) for _ in range(8)]
    for proc in running:
        check.verified(tools.Result(proc), None, (www / "file").read_bytes())
    check.verified(client(lab, pki, server, "--hosts", hosts), None)


def test_require_is_the_default(lab, pki, www):
    """A second path without a policy means require; no path means plain TLS."""
    target = stock.s_server(lab, pki, www=www)
    target.host, target.path2_port = lab.addr, lab.port()
    lab.hosts(lab.client, server_example=lab.addr)
    check.refused(client(lab, pki, target), "not-offered")
    result = client(lab, pki, target, path2=[])
    assert result.outcome == tools.PLAIN and SECRET in result.body, result


def test_require_without_a_path(lab, pki, server):
    """Nothing to verify with: refused, not plain."""
    result = client(lab, pki, server, policy="require", path2=[])
    assert result.code in (tools.EXIT_USAGE, tools.EXIT_UNVERIFIED), result
    assert result.body == b"" and result.outcome != tools.VERIFIED


def test_configuration_from_the_environment(lab, pki, www, server):
    """MTLS_CONFIG holds the same words; the command line goes before it."""
    words = tools.spec(lab, server)
    env = {"MTLS_CONFIG": f"policy=require path2={words}"}
    check.verified(client(lab, pki, server, path2=[], env=env), server)
    env["MTLS_CONFIG"] += " need=2"  # more than there are paths
    result = client(lab, pki, server, path2=[], env=env)
    assert result.code == tools.EXIT_USAGE and result.body == b"", result


@pytest.mark.parametrize("words", ["policy=maybe", "nonsense=1", "path2=dev=", "deadline=1"])
def test_bad_configuration(lab, pki, server, words):
    """Refused before anything is sent, with exit code 1."""
    result = client(lab, pki, server, env={"MTLS_CONFIG": words})
    assert result.code == tools.EXIT_USAGE and result.body == b"", result


def test_nobody_there(lab, pki, server):
    """A network error is none of verification."""
    result = client(lab, pki, server, port=lab.port())
    assert result.code == tools.EXIT_NETWORK, result


def test_json_is_one_object_a_line(lab, pki, server):
    """Everything on standard error is JSON with --json, and the last line has the outcome."""
    result = check.verified(client(lab, pki, server), server)
    lines = [json.loads(line) for line in result.proc.lines() if line]
    assert lines[-1]["outcome"] == "verified"
    assert {"reason", "message", "scope", "paths", "times_us"} <= set(lines[-1]), lines[-1]


def test_key_log(lab, pki, server, tmp_path):
    """SSLKEYLOGFILE is honoured, and nothing of path 2's secrets is in it."""
    log = tmp_path / "keys"
    check.verified(client(lab, pki, server, env={"SSLKEYLOGFILE": str(log)}), server)
    labels = {line.split()[0] for line in log.read_text().splitlines() if line.strip()}
    assert "EXPORTER_SECRET" in labels and not [name for name in labels if "mtls" in name.lower()]


def test_server_stops_gracefully(lab, pki, server):
    check.verified(client(lab, pki, server), server)
    assert server.stop() == 0
    assert subprocess.run(["ip", "netns", "pids", lab.server], capture_output=True,
                          check=True).stdout == b""
