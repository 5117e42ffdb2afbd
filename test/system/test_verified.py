"""Honest networks: sessions are verified at both ends, and data arrives byte for byte."""

import pytest

from conftest import noise
from mtlslab import attack, check, stock, tools
from mtlslab.tools import client, spec


def test_verified_at_both_ends(lab, pki, www, server):
    result = check.verified(client(lab, pki, server), server, (www / "file").read_bytes())
    assert result.reason in (None, "ok", "")
    assert check.scope(result) == {"client"}
    assert len(result.paths) == 2 and result.line["times_us"]
    first, second = result.paths
    assert (first["device"], second["device"]) == ("p1", "p2"), result
    assert second["state"] in ("counted", "confirmed")


def test_data_took_path_1(lab, pki, www, server):
    """A big body comes over path 1; path 2 carries a few frames only."""
    body = (www / "big").read_bytes()
    relay = attack.path2_relay(lab, server.path2_port)
    check.verified(client(lab, pki, server, get="/big"), server, body)
    assert len(relay.events("frame")) >= 4


def test_big_download(lab, pki, www, server):
    check.verified(client(lab, pki, server, get="/big"), server, (www / "big").read_bytes())


def test_big_both_ways(lab, pki):
    """A pipe through --echo: as much up as down."""
    server = tools.Server(lab, pki, "--echo")
    data = noise(6 << 20)
    result = check.verified(client(lab, pki, server, get=None, stdin=data), server, data)
    assert len(result.body) == len(data)


@pytest.mark.parametrize("device, remote", [("dev", "service"), ("local", "service"),
                                            ("dev", "other"), ("local", "other")])
def test_topologies(lab, pki, www, device, remote):
    """Path 2 by device or by local address, to the same server address or to another one."""
    listen = [f"{lab.addr}:0", f"{lab.server_addr(2)}:0"]
    server = tools.Server(lab, pki, www=www, path2_listen=listen)
    target = server.path2[0 if remote == "service" else 1]
    words = f"dev=p2,remote={target}" if device == "dev" else \
        f"local={lab.client_addr(2)},remote={target}"
    result = check.verified(client(lab, pki, server, path2=[words]), server,
                            (www / "file").read_bytes())
    assert result.paths[1]["device"] == "p2", result
    assert check.scope(result) == ({"client", "server"} if remote == "other" else {"client"})


@pytest.mark.parametrize("path2", ["ipv6", "ipv4"])
def test_ipv6(lab, pki, www, path2):
    """Path 1 over IPv6, path 2 over either."""
    address = lab.addr6 if path2 == "ipv6" else lab.addr
    server = tools.Server(lab, pki, www=www, address=lab.addr6,
                          path2_listen=[tools.join(address, 0)])
    words = spec(lab, server, address=address)
    check.verified(client(lab, pki, server, path2=[words], connect=lab.addr6), server,
                   (www / "file").read_bytes())


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_client_certificate(lab, pki, www, who):
    """Given when asked for; bob's is larger than libssl's buffer, so it would be written in pieces."""
    server = tools.Server(lab, pki, "--client-ca", pki.clients.cafile, www=www)
    cert, key = ((pki.client_cert, pki.client_key) if who == "alice"
                 else (pki.big_client_cert, pki.big_client_key))
    check.verified(client(lab, pki, server, "--cert", cert, "--key", key), server,
                   (www / "file").read_bytes())


def test_client_certificate_missing(lab, pki, www):
    """The twin: without one the server refuses, though the paths confirm."""
    server = tools.Server(lab, pki, "--client-ca", pki.clients.cafile, www=www)
    result = client(lab, pki, server)
    assert result.code in (tools.EXIT_NETWORK, tools.EXIT_UNVERIFIED) and result.body == b"", result


OPENSSL_GROUPS = """
openssl_conf = init
[init]
ssl_conf = ssl
[ssl]
system_default = groups
[groups]
Groups = {groups}
"""


def groups_env(tmp_path, name, groups):
    """OPENSSL_CONF that sets the key exchange groups of every SSL_CTX."""
    path = tmp_path / f"{name}.cnf"
    path.write_text(OPENSSL_GROUPS.format(groups=groups))
    return {"OPENSSL_CONF": str(path)}


def test_hello_retry_request(lab, pki, www, tmp_path):
    """The server takes P-384 alone, the client's first share is X25519: two ClientHellos."""
    server = tools.Server(lab, pki, www=www, policy="prefer",
                          env=groups_env(tmp_path, "server", "P-384"))
    # s_client shows that this server does ask again; its -msg names no message of its own for it.
    probe = lab.run(lab.client, ["openssl", "s_client", "-connect", server.listen, "-groups",
                                 "X25519:P-384", "-msg"], name="s_client")
    assert probe.stdout.count(b"ClientHello") == 2, probe.log()
    check.verified(client(lab, pki, server, env=groups_env(tmp_path, "client", "X25519:P-384")),
                   None, (www / "file").read_bytes())
    assert server.sessions()[-1]["outcome"] == tools.VERIFIED


@pytest.mark.parametrize("first", ["path1", "path2"])
def test_either_path_first(lab, pki, www, server, first):
    """HELLO before the ClientHello, and long after it."""
    if first == "path2":
        attack.path1_copy(lab, server.port, "--delay", 300)
    else:
        attack.path2_relay(lab, server.path2_port, "--delay-up", 300)
    check.verified(client(lab, pki, server), server, (www / "file").read_bytes())


def test_one_byte_segments(lab, pki, www, server):
    attack.path2_relay(lab, server.path2_port, "--chop")
    check.verified(client(lab, pki, server), server, (www / "file").read_bytes())


def test_late_mode(lab, pki, www, server):
    """early=off: path 2 is opened when the server has answered."""
    check.verified(client(lab, pki, server, env={"MTLS_CONFIG": "early=off"}), server,
                   (www / "file").read_bytes())


def test_server_that_ends_at_once(lab, pki, www, server):
    """Many sessions one after the other: each its own verification."""
    for number in range(5):
        check.verified(client(lab, pki, server), server, (www / "file").read_bytes(), number)


def test_forward_to_plain_backend(lab, pki, www):
    """A TLS terminator in front of a plain HTTP backend on the server."""
    backend = lab.spawn(lab.server, ["/usr/bin/python3", "-u", "-m", "http.server", "--bind",
                                     "127.0.0.1", "--directory", str(www), "0"], name="backend")
    port = backend.wait_text("Serving HTTP").split("port ")[1].split()[0]
    server = tools.Server(lab, pki, "--forward", f"127.0.0.1:{port}")
    check.verified(client(lab, pki, server), server, (www / "file").read_bytes())


def test_untrusted_certificate(lab, pki, www, server):
    """Both paths honest, but an authority that the client does not trust: TLS's own check stands."""
    result = client(lab, pki, server, cafile=pki.clients.cafile)
    assert result.code in (tools.EXIT_NETWORK, tools.EXIT_UNVERIFIED) and result.body == b"", result
    assert result.outcome == tools.FAILED


def test_wrong_name(lab, pki, www):
    server = tools.Server(lab, pki, www=www, cert=pki.other_cert, key=pki.other_key)
    result = client(lab, pki, server)
    assert result.outcome == tools.FAILED and result.body == b"", result
    # The twin: asked for under its own name it is fine.
    check.verified(client(lab, pki, server, "--servername", "other.example"), None,
                   (www / "file").read_bytes())


def test_two_servers_of_one_library(lab, pki, www):
    """Two listeners of one server process share the engine."""
    server = tools.Server(lab, pki, "--listen", f"{lab.server_addr(1)}:0", www=www)
    second = server.proc.wait_json(event="listening")["listen"][1]
    host, port = tools.split(second)
    check.verified(client(lab, pki, server), server)
    check.verified(client(lab, pki, server, host=pki.name, port=port, connect=host), server,
                   (www / "file").read_bytes(), 1)


def test_stock_probe_sees_the_extension(lab, pki, server):
    """An ordinary client is not answered with extension 0xFF4D that it did not send."""
    done = stock.s_client(lab, pki, server.host, server.port, "-tlsextdebug")
    assert b"65357" not in done.stdout + done.stderr
