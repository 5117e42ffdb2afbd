"""What the tools show and do about Multipath TLS itself, over two real paths."""

import hashlib
import signal

from mtlslab import check, tools
from mtlslab.tools import client, client_argv


def shown(lab, pki, server, *options, **words):
    """A run without --json, as a person sees it."""
    argv = [word for word in client_argv(lab, pki, server, *options, **words) if word != "--json"]
    done = lab.run(lab.client, argv, name="mtls-client")
    return done.wait(), done.stderr.decode(), done.stdout


def test_picture_of_both_paths(lab, pki, server, www):
    code, text, body = shown(lab, pki, server, "--verbose")
    assert (code, body) == (0, (www / "file").read_bytes()), text
    lines = text.splitlines()
    assert "verified" in lines[0] and "TLSv1.3" in lines[0] and "distinct at the client" in lines[0], text
    assert any(line.startswith("  path 1 ") and "dev p1" in line for line in lines), text
    assert any(line.startswith("  path 2 ") and "dev p2" in line for line in lines), text
    assert any("shares with path 1: " in line for line in lines), text
    assert any(line.startswith("  times ") and "decided" in line for line in lines), text


def test_quiet_when_nobody_looks(lab, pki, server):
    code, text, _ = shown(lab, pki, server)
    assert (code, text) == (0, "")


def test_plain_is_never_silent(lab, pki, www):
    """Under prefer a server that does not offer Multipath TLS is plain TLS; one line says so, and why."""
    server = tools.Server(lab, pki, www=www, path2=False, policy="off")
    words = [f"dev=p2,remote={tools.join(server.host, server.port)}"]
    code, text, body = shown(lab, pki, server, policy="prefer", path2=words)
    assert (code, body) == (0, (www / "file").read_bytes()), text
    assert len(text.splitlines()) == 1 and ": plain TLS: " in text and text.strip()[-1] != ":", text


def test_refusal_in_words(lab, pki, www):
    server = tools.Server(lab, pki, www=www, path2=False, policy="off")
    words = [f"dev=p2,remote={tools.join(server.host, server.port)}"]
    code, text, body = shown(lab, pki, server, path2=words)
    assert (code, body) == (tools.EXIT_UNVERIFIED, b""), text
    assert "failed" in text and len(text.splitlines()) <= 8, text


def test_failed_path_is_named(lab, pki, server):
    """The error says which of the configured paths it was; a path that worked is not named."""
    words = f"dev=nodev0,remote={tools.join(server.host, server.path2_port)}"
    result = client(lab, pki, server, path2=[words])
    check.refused(result, "path2-bind")
    assert result.line["times_us"]["hello"] is None
    code, text, _ = shown(lab, pki, server, path2=[words])
    assert code == tools.EXIT_UNVERIFIED and words in text, text


def test_memory_that_cannot_be_written_is_told(lab, pki, server, tmp_path):
    """A session is verified all the same, but not silently: the next one would be a first contact again."""
    result = client(lab, pki, server, "--hosts", "/proc/no/such")
    assert result.outcome == "verified" and result.line["memory_error"].startswith("hosts-file"), result
    result = client(lab, pki, server, "--hosts", tmp_path / "hosts")
    assert result.outcome == "verified" and "memory_error" not in result.line, result


def test_literal_host_is_path_2s_address_too(lab, pki, server, www):
    """[--path2 without remote=, HOST an address]: the address that the user typed is admissible."""
    words = [f"dev=p2,port={server.path2_port}"]
    check.verified(client(lab, pki, server, host=server.host, path2=words), server,
                   (www / "file").read_bytes())


def test_policy_off_beside_a_hooked_server(lab, pki, www):
    server = tools.Server(lab, pki, www=www, policy="prefer")
    check.plain(client(lab, pki, server, policy="off", path2=[]), body=(www / "file").read_bytes())


def test_bound_path_1(lab, pki, server, www):
    done = check.verified(client(lab, pki, server, "--path1-dev", "p1"), server, (www / "file").read_bytes())
    assert done.paths[0]["device"] == "p1"


def test_reload_keeps_the_hook(lab, pki, server, www):
    server.proc.send(signal.SIGHUP)
    server.proc.wait_json(event="reloaded")
    check.verified(client(lab, pki, server), server, (www / "file").read_bytes())


def test_terminator_and_forwarder(lab, pki):
    """plain program - mtls-client --forward - two paths - mtls-server --forward - plain program."""
    backend = lab.spawn(lab.server, ["/usr/bin/python3", "-c", BACKEND], name="backend")
    port = backend.wait_json("stdout", event="listening")["port"]
    server = tools.Server(lab, pki, "--forward", f"127.0.0.1:{port}")
    tunnel = tools.start_client(lab, pki, server, "--forward", "127.0.0.1:0", get=None)
    local = tools.split(tunnel.wait_json(event="listening")["listen"][0])
    plain = lab.run(lab.client, ["/usr/bin/python3", "-c", PLAIN, *map(str, local)], name="plain")
    assert plain.wait() == 0, plain.log()
    size = 3_000_000
    assert plain.stdout.decode() == f"{size} {hashlib.sha256(b'z' * size).hexdigest()}"
    assert tunnel.wait_json(event="session")["outcome"] == tools.VERIFIED
    assert server.session()["outcome"] == tools.VERIFIED
    assert tunnel.stop() == 0
    assert server.stop() == 0


def test_need_more_than_there_are(lab, pki, server):
    result = client(lab, pki, server, "--need", "2")
    assert result.code != tools.EXIT_OK and result.body == b""


BACKEND = """
import hashlib, json, socket
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(json.dumps({"event": "listening", "port": listener.getsockname()[1]}), flush=True)
    sock, _ = listener.accept()
    size, digest = 0, hashlib.sha256()
    while piece := sock.recv(65536):
        size += len(piece)
        digest.update(piece)
    sock.sendall(f"{size} {digest.hexdigest()}".encode())
    sock.close()
"""

PLAIN = """
import socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
sock.sendall(b"z" * 3_000_000)
sock.shutdown(socket.SHUT_WR)
while piece := sock.recv(65536):
    sys.stdout.write(piece.decode())
"""
