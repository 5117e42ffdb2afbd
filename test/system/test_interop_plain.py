"""Peers that know nothing of Multipath TLS: four libraries' servers and clients, under each policy."""

import pytest

from conftest import SECRET
from mtlslab import check, stock, tools
from mtlslab.tools import client

SERVERS = ["s_server", "gnutls-serv", "selfserv", "nginx"]
CLIENTS = ["s_client", "gnutls-cli", "tstclnt", "curl"]


def start(name, lab, pki, tmp_path, www):
    """(server, a piece of what it answers to GET /file)."""
    if name == "s_server":
        return stock.s_server(lab, pki, www=www), SECRET
    if name == "gnutls-serv":
        return stock.gnutls_serv(lab, pki), b"GnuTLS"
    if name == "selfserv":
        return stock.selfserv(lab, pki, str(tmp_path / "nss"), "-H", "1"), b"HTTP/1"
    return stock.nginx(lab, pki, tmp_path / "nginx", www), SECRET


def fetch(name, lab, pki, tmp_path, host, port):
    """What a stock client got for GET /file, standard output."""
    if name == "s_client":
        return stock.s_client(lab, pki, host, port)
    if name == "gnutls-cli":
        return stock.gnutls_cli(lab, pki, host, port)
    if name == "tstclnt":
        return stock.tstclnt(lab, pki, host, port, str(tmp_path / "nss-client"))
    return tools.curl(lab, pki, host, port)


class At:
    """A stock server as a target of mtls-client; nobody listens on its path-2 port."""

    def __init__(self, lab, server):
        self.host, self.port, self.path2_port = lab.addr, server.port, lab.port()


@pytest.mark.parametrize("name", SERVERS)
def test_stock_server(lab, pki, www, tmp_path, name):
    """off and prefer get the page as plain TLS; require refuses to send the request."""
    server, piece = start(name, lab, pki, tmp_path, www)
    target = At(lab, server)
    lab.hosts(lab.client, server_example=lab.addr)
    result = client(lab, pki, target, policy="off", path2=[])
    assert result.code == tools.EXIT_OK and result.outcome == tools.PLAIN, result
    assert piece in result.body or result.body, result
    result = client(lab, pki, target, policy="prefer")
    check.plain(result, "not-offered")
    assert result.body, result
    check.refused(client(lab, pki, target, policy="require"), "not-offered")


@pytest.mark.parametrize("name", SERVERS)
def test_stock_server_is_what_we_think(lab, pki, www, tmp_path, name):
    """The control: curl gets the same page from it."""
    server, piece = start(name, lab, pki, tmp_path, www)
    done = tools.curl(lab, pki, lab.addr, server.port, options=["-i"])
    assert piece in done.stdout, done.log()


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("policy", ["off", "prefer", "require"])
def test_stock_client(lab, pki, www, tmp_path, name, policy):
    """off and prefer serve it; require ends the handshake and serves nothing."""
    server = tools.Server(lab, pki, www=www, policy=policy, path2=policy != "off")
    done = fetch(name, lab, pki, tmp_path, server.host, server.port)
    if policy == "require":
        assert SECRET not in done.stdout, done.log()
        line = server.session()
        assert (line["outcome"], line["reason"]) == (tools.FAILED, "not-offered"), line
    else:
        assert SECRET in done.stdout, done.log()
        assert server.session()["outcome"] == tools.PLAIN


@pytest.mark.parametrize("policy", ["prefer", "require"])
def test_tls12_client(lab, pki, www, policy):
    """TLS 1.2: served under prefer, refused with protocol_version under require."""
    server = tools.Server(lab, pki, www=www, policy=policy)
    done = stock.s_client(lab, pki, server.host, server.port, "-tls1_2")
    assert (SECRET in done.stdout) is (policy == "prefer"), done.log()
    if policy == "require":
        assert b"protocol version" in done.stderr, done.log()


@pytest.mark.parametrize("policy", ["off", "prefer", "require"])
def test_tls12_server(lab, pki, www, policy):
    """A server that stops at TLS 1.2."""
    target = At(lab, stock.s_server(lab, pki, "-tls1_2", www=www))
    lab.hosts(lab.client, server_example=lab.addr)
    result = client(lab, pki, target, policy=policy, path2=[] if policy == "off" else None)
    if policy == "require":
        assert result.outcome == tools.FAILED and result.body == b"", result
        assert result.code in (tools.EXIT_UNVERIFIED, tools.EXIT_NETWORK)
    else:
        assert result.outcome == tools.PLAIN and SECRET in result.body, result


def test_prefer_waits_for_silence(lab, pki, www):
    """A stock server behind a firewall that drops path 2's port: plain when the grace is over."""
    target = At(lab, stock.s_server(lab, pki, www=www))
    lab.hosts(lab.client, server_example=lab.addr)
    lab.filter(2, f"tcp dport {target.path2_port} drop")
    check.plain(client(lab, pki, target, policy="prefer"), body=(www / "file").read_bytes())


def test_not_here(lab, pki, www):
    """A TLS port that is not on the server's list is plain TLS beside a Multipath TLS service."""
    server = tools.Server(lab, pki, "--config", "tls-port=1", www=www, policy="prefer")
    stock_server = stock.s_server(lab, pki, www=www)
    target = At(lab, stock_server)
    target.path2_port = server.path2_port
    check.plain(client(lab, pki, target, policy="prefer"), body=(www / "file").read_bytes())
    check.refused(client(lab, pki, target, policy="require"), "not-offered", "path2-not-here")


def test_hidden_beside_a_service(lab, pki, www):
    """The twin: a service without such a list says READY, and prefer takes it for a downgrade."""
    server = tools.Server(lab, pki, www=www, policy="prefer")
    target = At(lab, stock.s_server(lab, pki, www=www))
    target.path2_port = server.path2_port
    check.refused(client(lab, pki, target, policy="prefer"), "downgrade")


@pytest.mark.parametrize("client_policy, server_policy, expected", [
    ("off", "off", "plain"), ("off", "prefer", "plain"), ("off", "require", "failed"),
    ("prefer", "off", "plain"), ("prefer", "prefer", "verified"), ("prefer", "require", "verified"),
    ("require", "off", "failed"), ("require", "prefer", "verified"),
    ("require", "require", "verified")])
def test_policies_of_both_ends(lab, pki, www, client_policy, server_policy, expected):
    server = tools.Server(lab, pki, www=www, policy=server_policy, path2=server_policy != "off")
    if not server.path2_port:
        server.path2_port = lab.port()
    result = client(lab, pki, server, policy=client_policy,
                    path2=[] if client_policy == "off" else None)
    assert result.outcome == expected, result
    assert (result.body == (www / "file").read_bytes()) is (expected != "failed"), result


def test_no_early_data(lab, pki, www, tmp_path):
    """Tickets of a hooked server allow no 0-RTT data. The control: s_server's do, when told to."""
    server = tools.Server(lab, pki, www=www, policy="prefer")
    control = stock.s_server(lab, pki, "-max_early_data", "4096", www=www)
    found = {}
    for name, port in (("ours", server.port), ("control", control.port)):
        session = tmp_path / name
        stock.s_client(lab, pki, server.host, port, "-sess_out", str(session))
        text = lab.run(lab.client, ["openssl", "sess_id", "-in", str(session), "-text", "-noout"])
        assert text.wait() == 0, text.log()
        found[name] = next(line.split(":")[1].strip() for line in text.lines("stdout")
                           if "Max Early Data" in line)
    assert found == {"ours": "0", "control": "4096"}


@pytest.mark.parametrize("name", CLIENTS)
def test_stock_client_is_what_we_think(lab, pki, www, tmp_path, name):
    """The control: each of them fetches the file from nginx."""
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    done = fetch(name, lab, pki, tmp_path, lab.addr, server.port)
    assert SECRET in done.stdout, done.log()
