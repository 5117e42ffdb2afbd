"""A man in the middle on path 1 with a certificate that the client accepts. Each refusal stands beside
its twin: the same attacker reads what plain TLS sends through it."""

import pytest

from conftest import SECRET
from mtlslab import attack, check, stock, tools
from mtlslab.tools import client


def steals_from_plain_tls(lab, pki, server, mitm):
    """curl, which trusts the rogue authority as well, gives everything away."""
    done = tools.curl(lab, pki, server.host, server.port, cafile=pki.bundle)
    assert done.wait() == 0 and SECRET in mitm.record and b"GET /file" in mitm.record, done.log()
    with open(mitm.record_file, "wb"):
        pass  # what follows is judged on an empty record


def test_plain_tls_is_read_multipath_tls_is_not(lab, pki, www, tmp_path):
    """policy=prefer at the server, so that curl is served and the theft is real; the client that
    requires verification sends nothing."""
    server = tools.Server(lab, pki, www=www, policy="prefer")
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    steals_from_plain_tls(lab, pki, server, mitm)
    result = client(lab, pki, server, cafile=pki.bundle)
    check.refused(result, "downgrade", "not-offered")
    check.nothing_stolen(mitm)


def test_without_the_attacker_it_works(lab, pki, www):
    """The control of all tests here: the same client, the same bundle, nobody in the middle."""
    server = tools.Server(lab, pki, www=www, policy="prefer")
    check.verified(client(lab, pki, server, cafile=pki.bundle), None, (www / "file").read_bytes())


def test_prefer_sees_ready(lab, pki, www, tmp_path):
    """First contact under prefer: path 1 hides the extension, READY on path 2 tells."""
    server = tools.Server(lab, pki, www=www, policy="prefer")
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    steals_from_plain_tls(lab, pki, server, mitm)
    check.refused(client(lab, pki, server, cafile=pki.bundle, policy="prefer"), "downgrade")
    check.nothing_stolen(mitm)


def test_prefer_waits_for_a_slow_ready(lab, pki, www, tmp_path):
    """READY comes after path 1's handshake and within the grace."""
    server = tools.Server(lab, pki, www=www, policy="prefer")
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    attack.path2_relay(lab, server.path2_port, "--hold", "ready:500")
    check.refused(client(lab, pki, server, cafile=pki.bundle, policy="prefer"), "downgrade")
    check.nothing_stolen(mitm)


def test_prefer_both_paths_attacked(lab, pki, www, tmp_path):
    """The limit, and documented: rogue certificate on path 1 and path 2 cut, first contact, prefer.
    The session is plain, and says so."""
    server = tools.Server(lab, pki, www=www, policy="prefer")
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    lab.filter(2, f"tcp dport {server.path2_port} reject with tcp reset")
    result = client(lab, pki, server, cafile=pki.bundle, policy="prefer")
    check.plain(result, body=(www / "file").read_bytes())
    assert SECRET in mitm.record


def test_ready_after_the_grace(lab, pki, www, tmp_path):
    """READY too late: data was exposed, the connection is torn down, and the outcome says so."""
    server = tools.Server(lab, pki, "--echo", policy="prefer")
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    opened = tmp_path / "open"
    relay = attack.path2_relay(lab, server.path2_port, "--gate", f"ready:{opened}")
    running = tools.start_client(lab, pki, server, cafile=pki.bundle, policy="prefer", get=None,
                                 stdin=True)
    running.write(SECRET)
    relay.wait("held", type="ready")
    running.wait_until(lambda: SECRET in running.stdout, "echo through the interceptor")
    opened.touch()
    result = tools.Result(running)
    assert SECRET in mitm.record
    assert (result.outcome, result.reason) == (tools.FAILED, "downgrade-late"), result
    assert result.code == tools.EXIT_UNVERIFIED


@pytest.mark.parametrize("policy", ["prefer", "require"])
def test_extension_carried_over(lab, pki, www, tmp_path, mitm_ext, policy):
    """The strongest attacker of path 1 alone: both ends see the extension negotiated, the real
    server answers on path 2, and its proof is for another transcript."""
    server = tools.Server(lab, pki, "--deadline", "3000", www=www, policy="prefer")
    mitm = attack.ext_mitm(lab, pki, tmp_path, mitm_ext, server.port)
    result = client(lab, pki, server, cafile=pki.bundle, policy=policy)
    check.refused(result, "proof-wrong")
    assert mitm.wait("connected")["detail"].startswith("server answered")
    check.nothing_stolen(mitm)
    # The server released nothing either: no CONFIRM came for that session.
    line = server.session()
    assert line["outcome"] == tools.FAILED, line


def test_extension_carried_over_path2_cut(lab, pki, www, tmp_path, mitm_ext):
    """Negotiated, so prefer does not fall back when path 2 is cut."""
    server = tools.Server(lab, pki, www=www, policy="prefer")
    mitm = attack.ext_mitm(lab, pki, tmp_path, mitm_ext, server.port)
    lab.filter(2, f"tcp dport {server.path2_port} reject with tcp reset")
    check.refused(client(lab, pki, server, cafile=pki.bundle, policy="prefer"), "path2-refused",
                  "proof-too-few", "proof-missing")
    check.nothing_stolen(mitm)


def test_client_certificate_stays_secret(lab, pki, www, tmp_path, mitm_ext):
    """The client's certificate is in the second flight, which an unverified peer never gets: the
    interceptor asks for one and sees none. (It ends with an error before SSL_accept returns.)"""
    server = tools.Server(lab, pki, "--client-ca", pki.clients.cafile, www=www, policy="prefer")
    mitm = attack.ext_mitm(lab, pki, tmp_path, mitm_ext, server.port)
    result = client(lab, pki, server, "--cert", pki.client_cert, "--key", pki.client_key,
                    cafile=pki.bundle)
    assert result.outcome == tools.FAILED and result.body == b"", result
    check.nothing_stolen(mitm)
    assert not mitm.events("intercepted")


def test_rogue_server_of_its_own(lab, pki, www, tmp_path):
    """Not relayed: an attacker's own TLS server on path 1, the real one on path 2."""
    server = tools.Server(lab, pki, www=www)
    fake = stock.s_server(lab, pki, "-cert", pki.rogue_cert, "-key", pki.rogue_key, www=www,
                          address="0.0.0.0", ns=lab.routers[1])
    lab.redirect(1, server.port, fake.port)
    done = tools.curl(lab, pki, server.host, server.port, cafile=pki.bundle)
    assert done.stdout == (www / "file").read_bytes()
    check.refused(client(lab, pki, server, cafile=pki.bundle), "downgrade", "not-offered")


def test_copied_client_hello(lab, pki, www, server):
    """Two sessions with one join at the server: the proof of the other one does no harm."""
    copier = attack.path1_copy(lab, server.port, "--copy")
    check.verified(client(lab, pki, server), None, (www / "file").read_bytes())
    assert copier.wait("copied")["answered"] > 0
