"""Confirmation by resumption (--confirm resume) of servers that know nothing of Multipath TLS.

Each refusal stands beside a twin that is accepted, and each attacker is seen to win against plain
TLS (test_plain_tls_is_read). [RSM-8] to [RSM-16]."""

import base64
import os
import re
import subprocess

import pytest

from conftest import SECRET
from mtlslab import attack, check, stock, tools


class At:
    """A stock server as mtls-client's target."""

    def __init__(self, lab, server):
        self.host, self.port, self.path2_port = lab.addr, server.port, server.port


def spec(lab, path=2, **words):
    given = {"dev": f"p{path}", "remote": lab.addr, **words}
    return ",".join(f"{key}={value}" for key, value in given.items())


def confirm(lab, pki, server, *options, way="resume", path2=None, **words):
    lab.hosts(lab.client, server_example=lab.addr)
    return tools.client(lab, pki, At(lab, server), "--confirm", way, *options,
                        path2=[spec(lab)] if path2 is None else path2, **words)


def verdict(result, word, reason):
    assert (result.line.get("verdict"), result.line.get("reason")) == (word, reason), result


def proved(result):
    check.verified(result)
    verdict(result, "verified", "resumed")
    assert SECRET in result.body, result
    return result


def failed(result, word, reason):
    assert result.outcome == tools.FAILED and result.code == tools.EXIT_UNVERIFIED, result
    assert result.body == b"", result
    verdict(result, word, reason)
    return result


# ---- servers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [
    "ssl_session_tickets on;",
    "ssl_ecdh_curve secp521r1;",  # HelloRetryRequest on both paths
    "ssl_early_data on;",
    "ssl_session_tickets off; ssl_session_cache shared:s:1m;",
    "ssl_prefer_server_ciphers on; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;",
])
def test_nginx(lab, pki, www, tmp_path, extra):
    server = stock.nginx(lab, pki, tmp_path / "nginx", www, extra=extra)
    result = proved(confirm(lab, pki, server))
    assert check.scope(result) == {"client"}
    assert [path["device"] for path in result.paths] == ["p1", "p2"]
    assert result.line["tickets"]["received"] >= 1
    assert result.line["path2"] == {"end": "completed", "ticket": True, "resumed": True, "key": ""}


@pytest.mark.parametrize("extra", ["", "SSLSessionTickets off"])
def test_apache(lab, pki, www, tmp_path, extra):
    """Several processes, which share a ticket key, or a cache of sessions."""
    server = stock.apache(lab, pki, str(tmp_path / "apache"), www, extra)
    for _ in range(4):
        proved(confirm(lab, pki, server))


def test_haproxy(lab, pki, www, tmp_path):
    """Three processes on one port with a shared ticket key."""
    keys = tmp_path / "keys"
    keys.write_text("".join(base64.b64encode(os.urandom(48)).decode() + "\n" for _ in range(3)))
    server = stock.haproxy(lab, pki, str(tmp_path / "haproxy"), www, f"tls-ticket-keys {keys}", 3)
    for _ in range(6):
        proved(confirm(lab, pki, server))


def test_haproxy_with_keys_of_their_own(lab, pki, www, tmp_path):
    """Which process path 2 reaches is chance: resumed or not, and never an alarm."""
    server = stock.haproxy(lab, pki, str(tmp_path / "haproxy"), www, processes=3)
    seen = {confirm(lab, pki, server, policy="prefer").line["reason"] for _ in range(6)}
    assert seen <= {"resumed", "not-resumed"}, seen


def test_gnutls(lab, pki):
    """GnuTLS shows a page of its own."""
    server = stock.gnutls_serv(lab, pki)
    result = confirm(lab, pki, server)
    verdict(check.verified(result), "verified", "resumed")


def test_gnutls_without_tickets(lab, pki):
    server = stock.gnutls_serv(lab, pki, "--noticket")
    failed(confirm(lab, pki, server), "consistent", "no-ticket")


def test_nss(lab, pki, tmp_path):
    server = stock.selfserv(lab, pki, str(tmp_path / "nss"), "-H", "1", "-u")
    verdict(confirm(lab, pki, server, policy="prefer"), "verified", "resumed")


@pytest.mark.parametrize("options,spare", [
    (["--tickets", "1"], False), (["--tickets", "4"], True), (["--stateful"], True),
    (["--curve", "secp384r1"], True)])
def test_tickets_of_many_kinds(lab, pki, tmp_path, options, spare):
    """One, several, session identifiers, a HelloRetryRequest. The second ticket may come after the
    verdict (Nagle's algorithm holds it back); it has the record all the same."""
    server = stock.threaded(lab, pki, *options)
    session = tmp_path / "session"
    proved(confirm(lab, pki, server, "--sess-out", session))
    assert session.exists() == spare


def serve_tickets(lab, pki, binary, ticket, *options, ns=None, cert=None, cert_key=None):
    proc = lab.spawn(ns or lab.server, [binary, cert or pki.cert, cert_key or pki.key, str(ticket),
                                        *options], name="ticket_server")
    return stock.Stock(proc, proc.wait_json("stdout", event="listening")["port"])


def test_late_tickets(lab, pki, tmp_path, ticket_server):
    """[RSM-3] Waited for a while, and no longer."""
    key = ticket_key(tmp_path, "late")
    proved(confirm(lab, pki, serve_tickets(lab, pki, ticket_server, key, "late=250")))
    server = serve_tickets(lab, pki, ticket_server, key, "late=6000")
    result = failed(confirm(lab, pki, server), "consistent", "no-ticket")
    assert 1_000_000 <= result.line["times_us"]["ticket"] < 5_000_000, result


def test_single_use_tickets(lab, pki, tmp_path, ticket_server):
    """[RSM-15] The spare ticket is another one than path 2's, which is used up."""
    server = serve_tickets(lab, pki, ticket_server, ticket_key(tmp_path, "single"), "single")
    session = tmp_path / "session"
    proved(confirm(lab, pki, server, "--sess-out", session))
    lab.filter(2, f"tcp dport {server.port} drop")
    result = confirm(lab, pki, server, "--sess-in", session)
    verdict(result, "verified", "spare-ticket")
    # Its twin: used up by now, and path 2 is cut.
    result = confirm(lab, pki, server, "--sess-in", session, "--deadline", "1500")
    failed(result, "unproven", "path2-failed")


def test_a_server_that_speaks_first(lab, pki):
    """Its data comes right behind the tickets, and is not lost."""
    server = stock.threaded(lab, pki, "--greet")
    result = confirm(lab, pki, server, get=None)
    verdict(check.verified(result), "verified", "resumed")
    assert result.body.startswith(b"220 hello"), result


def test_one_serial_server(lab, pki, www):
    """s_server takes one connection after the other: path 2 is not answered while path 1 is open."""
    server = stock.s_server(lab, pki, www=www)
    result = confirm(lab, pki, server, "--deadline", "2500", "--config", "early=off")
    failed(result, "unproven", "path2-silent")


def test_no_tickets(lab, pki):
    """No ticket comes: a full handshake and the same key, which require refuses unless told."""
    server = stock.threaded(lab, pki, "--tickets", "0")
    failed(confirm(lab, pki, server), "consistent", "no-ticket")
    result = confirm(lab, pki, server, "--config", "accept=consistent")
    verdict(check.plain(result), "consistent", "no-ticket")
    assert SECRET in result.body
    verdict(check.plain(confirm(lab, pki, server, policy="prefer")), "consistent", "no-ticket")


def test_tls_1_2(lab, pki):
    server = stock.threaded(lab, pki, "--tls12")
    failed(confirm(lab, pki, server), "unproven", "tls-version")
    result = confirm(lab, pki, server, policy="prefer")
    verdict(check.plain(result), "unproven", "tls-version")
    assert SECRET in result.body


def test_alpn_is_the_same_on_both_paths(lab, pki):
    server = stock.threaded(lab, pki, "--alpn", "h2,http/1.1")
    proved(confirm(lab, pki, server, "--alpn", "http/1.1,h2"))
    shakes = [line for line in server.proc.jsons("stdout") if line["event"] == "handshake"]
    assert len(shakes) == 2 and len({line["alpn"] for line in shakes}) == 1, shakes


def test_the_server_is_left_in_order(lab, pki):
    """[RSM-5] path 2 ends by close_notify, without a byte of data, and not by a reset."""
    server = stock.threaded(lab, pki)
    proved(confirm(lab, pki, server))
    ends = [server.proc.wait_json("stdout", event="end", skip=n) for n in (0, 1)]
    path2 = [line for line in ends if line["bytes"] == 0]
    assert len(path2) == 1 and path2[0]["how"] == "eof", ends


def test_client_certificate(lab, pki):
    """[RSM-2] Refused unless named; never on path 2."""
    server = stock.threaded(lab, pki, "--client-ca", pki.clients.cafile)
    cert = ["--cert", pki.client_cert, "--key", pki.client_key]
    result = confirm(lab, pki, server, *cert)
    assert result.code == tools.EXIT_USAGE, result
    assert not [line for line in server.proc.jsons("stdout") if line["event"] == "handshake"]
    proved(confirm(lab, pki, server, *cert, "--config", "expose-certificate=on"))


# ---- farms --------------------------------------------------------------------------------------


def node(lab, pki, tmp_path, www, label, ticket, path=None, cert=None, cert_key=None):
    """One node of a farm; on a path's router it is the one that this path reaches."""
    extra = f"ssl_session_ticket_key {ticket};" if ticket else "ssl_session_tickets on;"
    return stock.nginx(lab, pki, tmp_path / label, www, extra=extra, address="0.0.0.0",
                       ns=lab.routers[path] if path else None, cert=cert, key=cert_key)


def ticket_key(tmp_path, label):
    file = tmp_path / f"{label}.ticketkey"
    file.write_bytes(os.urandom(80))
    return file


def farm(lab, pki, tmp_path, www, first, second, **words):
    one = node(lab, pki, tmp_path, www, "one", first)
    two = node(lab, pki, tmp_path, www, "two", second, path=2, **words)
    lab.redirect(2, one.port, two.port)
    return one


def test_farm_with_shared_ticket_keys(lab, pki, www, tmp_path):
    key = ticket_key(tmp_path, "shared")
    proved(confirm(lab, pki, farm(lab, pki, tmp_path, www, key, key)))


def test_farm_with_keys_of_their_own(lab, pki, www, tmp_path):
    """The same certificate, another ticket key: consistent, no more."""
    failed(confirm(lab, pki, farm(lab, pki, tmp_path, www, None, None)), "consistent", "not-resumed")


def test_farm_with_several_certificates(lab, pki, www, tmp_path):
    """Another public key is an alarm, unless the configuration names it as one of the service's."""
    cert, key = pki.real.issue("second-node", [pki.name])
    server = farm(lab, pki, tmp_path, www, None, None, cert=cert, cert_key=key)
    result = failed(confirm(lab, pki, server), "alarm", "other-key")
    other = result.line["path2"]["key"]
    assert len(other) == 64 and other != result.line["key"]
    result = confirm(lab, pki, server, "--config", f"alternate={other}", policy="prefer")
    verdict(check.plain(result), "unproven", "alternate-key")
    failed(confirm(lab, pki, server, "--config", f"alternate={other}"), "unproven", "alternate-key")


# ---- attackers on path 1 ------------------------------------------------------------------------


def test_plain_tls_is_read(lab, pki, www, tmp_path):
    """The twin of the refusals below: what the man in the middle gets from a client without them."""
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    done = tools.curl(lab, pki, lab.addr, server.port, cafile=pki.bundle)
    assert done.wait() == 0 and SECRET in mitm.record, done.log()


@pytest.mark.parametrize("policy", ["require", "prefer"])
def test_rogue_authority(lab, pki, www, tmp_path, policy):
    """With tickets of its own: path 2's server does not know them and shows another key."""
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    failed(confirm(lab, pki, server, cafile=pki.bundle, policy=policy), "alarm", "other-key")
    check.nothing_stolen(mitm)


def rogue(lab, pki, server, *options):
    fake = stock.threaded(lab, pki, *options, ns=lab.routers[1], cert=pki.rogue_cert,
                          key=pki.rogue_key)
    lab.redirect(1, server.port, fake.port)
    return fake


def saw_no_request(fake):
    assert all(line["bytes"] == 0 for line in fake.proc.jsons("stdout") if line["event"] == "end")


def test_rogue_authority_without_tickets(lab, pki, www, tmp_path):
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    fake = rogue(lab, pki, server, "--tickets", "0")
    failed(confirm(lab, pki, server, cafile=pki.bundle, policy="prefer"), "alarm", "other-key")
    saw_no_request(fake)


def test_rogue_authority_with_tls_1_2(lab, pki, www, tmp_path):
    """Unproven: require refuses. prefer lets it pass, which the documents say."""
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    fake = rogue(lab, pki, server, "--tls12")
    failed(confirm(lab, pki, server, cafile=pki.bundle), "unproven", "tls-version")
    saw_no_request(fake)


def test_relayed_ticket(lab, pki, tmp_path, mitm_ticket):
    """The server's own ticket, passed on: the server knows it, but not with the client's secret."""
    server = stock.threaded(lab, pki, "--stateful")
    record = str(tmp_path / "stolen")
    proc = lab.spawn(lab.routers[1], [mitm_ticket, pki.rogue_cert, pki.rogue_key, lab.addr,
                                      str(server.port), record], name="mitm_ticket")
    attacker = attack.Attacker(proc, record)
    lab.redirect(1, server.port, attacker.port)
    result = failed(confirm(lab, pki, server, cafile=pki.bundle, policy="prefer"), "alarm",
                    "ticket-refused")
    assert result.line["path2"]["alert"] in (47, 51)
    assert attacker.wait("passed-on")["bytes"] == 32
    check.nothing_stolen(attacker)
    # [RSM-6] the evidence: without the ticket, path 2's server shows another key than path 1's.
    assert result.line["evidence"]["end"] == "completed"
    assert result.line["evidence"]["key"] not in ("", result.line["key"])


def test_stolen_ticket_key(lab, pki, tmp_path, ticket_server):
    """The limit, and documented: a rogue certificate *and* the server's ticket key are not seen.
    With a rogue certificate alone they are."""
    key = ticket_key(tmp_path, "stolen")

    def serve(ns, cert, cert_key, ticket):
        return serve_tickets(lab, pki, ticket_server, ticket, ns=ns, cert=cert, cert_key=cert_key)

    server = serve(lab.server, pki.cert, pki.key, key)
    proved(confirm(lab, pki, server, cafile=pki.bundle))
    thief = serve(lab.routers[1], pki.rogue_cert, pki.rogue_key, ticket_key(tmp_path, "own"))
    lab.redirect(1, server.port, thief.port)
    failed(confirm(lab, pki, server, cafile=pki.bundle), "alarm", "other-key")
    lab.flush(1)
    thief = serve(lab.routers[1], pki.rogue_cert, pki.rogue_key, key)
    lab.redirect(1, server.port, thief.port)
    proved(confirm(lab, pki, server, cafile=pki.bundle))
    assert thief.proc.wait_json("stdout", event="request")


def test_two_silent_attackers_with_a_prepared_key(lab, pki, www, tmp_path):
    """The other limit: one on each path, no word between them, one ticket key made beforehand."""
    key = ticket_key(tmp_path, "prepared")
    server = stock.nginx(lab, pki, tmp_path / "real", www)
    for path in (1, 2):
        fake = node(lab, pki, tmp_path, www, f"fake{path}", key, path, pki.rogue_cert, pki.rogue_key)
        lab.redirect(path, server.port, fake.port)
    verdict(confirm(lab, pki, server, cafile=pki.bundle), "verified", "resumed")


def test_two_silent_attackers_without(lab, pki, www, tmp_path):
    """Its twin: without a prepared key they share the certificate at most."""
    server = stock.nginx(lab, pki, tmp_path / "real", www)
    for path in (1, 2):
        fake = node(lab, pki, tmp_path, www, f"fake{path}", None, path, pki.rogue_cert, pki.rogue_key)
        lab.redirect(path, server.port, fake.port)
    failed(confirm(lab, pki, server, cafile=pki.bundle), "consistent", "not-resumed")


# ---- path 2 ---------------------------------------------------------------------------------------


def test_attacker_on_path2_alone(lab, pki, www, tmp_path):
    """A rogue certificate on path 2: an alarm, and nothing worse."""
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    attack.tls_mitm(lab, pki, tmp_path, server.port, path=2)
    failed(confirm(lab, pki, server, cafile=pki.bundle), "alarm", "other-key")
    failed(confirm(lab, pki, server), "alarm", "path2-certificate")


@pytest.mark.parametrize("instead,reason", [("close", "path2-closed"), ("silence", "path2-silent"),
                                            ("text", "path2-foreign")])
def test_path2_answers_otherwise(lab, pki, www, tmp_path, instead, reason):
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    other = stock.threaded(lab, pki, "--instead", instead, ns=lab.routers[2])
    lab.redirect(2, server.port, other.port)
    failed(confirm(lab, pki, server, "--deadline", "1500"), "unproven", reason)
    result = confirm(lab, pki, server, "--deadline", "1500", policy="prefer")
    verdict(check.plain(result), "unproven", reason)
    assert SECRET in result.body


def test_path2_speaks_tls_1_2(lab, pki, www, tmp_path):
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    other = stock.threaded(lab, pki, "--tls12", ns=lab.routers[2])
    lab.redirect(2, server.port, other.port)
    failed(confirm(lab, pki, server), "unproven", "path2-tls-version")


def test_path2_refused(lab, pki, www, tmp_path):
    """And a second specification helps where the first is cut."""
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    lab.filter(2, f"tcp dport {server.port} reject with tcp reset")
    result = failed(confirm(lab, pki, server), "unproven", "path2-failed")
    assert result.paths[1]["error"] == "path2-refused"


def test_paths_that_are_one(lab, pki, www, tmp_path):
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    failed(confirm(lab, pki, server, path2=[spec(lab, 1)]), "unproven", "paths-not-distinct")
    failed(confirm(lab, pki, server, path2=[spec(lab, 2, distinct="both")]), "unproven",
           "paths-not-distinct")


def test_no_second_path(lab, pki, www, tmp_path):
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    result = confirm(lab, pki, server, path2=[])
    assert (result.code, result.reason) == (tools.EXIT_UNVERIFIED, "no-path2"), result


def test_auto_path(lab, pki, www, tmp_path):
    """The library chooses the device, and the name is looked up over it."""
    dns = attack.dns(lab, lab.routers[2], lab.router_addr(2), server_example=lab.addr)
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    proved(confirm(lab, pki, server, path2=[f"auto,resolver={lab.router_addr(2)}"]))
    assert dns.events("question")


# ---- later connections ----------------------------------------------------------------------------


def test_spare_ticket(lab, pki, www, tmp_path):
    """[RSM-15] [RSM-16] A later connection is confirmed by path 1's resumption; path 2 is cut."""
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    session = tmp_path / "session"
    result = proved(confirm(lab, pki, server, "--sess-out", session))
    assert result.line["tickets"]["spare"] and session.exists()
    lab.filter(2, f"tcp dport {server.port} drop")
    result = confirm(lab, pki, server, "--sess-in", session, "--sess-out", session)
    assert result.outcome == tools.RESUMED and SECRET in result.body, result
    verdict(result, "verified", "spare-ticket")
    # The tickets of that one carry the record on.
    result = confirm(lab, pki, server, "--sess-in", session)
    verdict(result, "verified", "spare-ticket")
    # Not for ever, and not for another name or policy.
    result = confirm(lab, pki, server, "--sess-in", session, "--config", "resume=0", "--deadline",
                     "1500")
    failed(result, "unproven", "path2-failed")
    result = confirm(lab, pki, server, "--sess-in", session, "--deadline", "1500",
                     path2=[spec(lab, distinct="both")])
    failed(result, "unproven", "path2-failed")


def test_a_refused_session_is_not_kept(lab, pki, www, tmp_path):
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    attack.tls_mitm(lab, pki, tmp_path, server.port)
    session = tmp_path / "session"
    failed(confirm(lab, pki, server, "--sess-out", session, cafile=pki.bundle), "alarm", "other-key")
    assert not session.exists()


def test_remembered_host_shows_less(lab, pki, tmp_path):
    """Verified before; now no ticket, or TLS 1.2: an alarm, also under prefer."""
    session = tmp_path / "session"
    server = stock.threaded(lab, pki)
    proved(confirm(lab, pki, server, "--sess-out", session))
    less = stock.threaded(lab, pki, "--tickets", "0", ns=lab.routers[1])
    lab.redirect(1, server.port, less.port)
    failed(confirm(lab, pki, server, "--sess-in", session, policy="prefer"), "alarm", "shows-less")


def test_host_of_the_exporter_proof_never_falls_back(lab, pki, server, tmp_path):
    """[RSM-14] The memory knows it: confirm=resume refuses it, and auto uses the exporter proof."""
    hosts = tmp_path / "hosts"
    path2 = [tools.spec(lab, server)]
    check.verified(tools.client(lab, pki, server, "--hosts", hosts))
    result = tools.client(lab, pki, server, "--hosts", hosts, "--confirm", "resume", path2=path2)
    assert (result.code, result.reason) == (tools.EXIT_UNVERIFIED, "remembered"), result
    result = tools.client(lab, pki, server, "--hosts", hosts, "--confirm", "auto", path2=path2)
    check.verified(result)
    assert "mode" not in result.line


# ---- auto -----------------------------------------------------------------------------------------


def test_auto_with_a_stock_server(lab, pki, www, tmp_path):
    """Plain for the exporter proof, so confirmed by resumption; a man in the middle is not."""
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    result = proved(confirm(lab, pki, server, way="auto"))
    assert result.line["mode"] == "resume"
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    failed(confirm(lab, pki, server, way="auto", cafile=pki.bundle), "alarm", "other-key")
    check.nothing_stolen(mitm)


def test_auto_does_not_help_a_downgrade(lab, pki, www, tmp_path):
    """A Multipath TLS server whose extension is stripped: READY tells, before any resumption."""
    server = tools.Server(lab, pki, www=www, policy="prefer")
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    check.refused(tools.client(lab, pki, server, "--confirm", "auto", cafile=pki.bundle),
                  "downgrade")
    check.nothing_stolen(mitm)


# ---- check ----------------------------------------------------------------------------------------


def checked(lab, pki, *options, cafile=None):
    """(exit code, {target: line}, the process)"""
    proc = lab.run(lab.client, [tools.tool("mtls-client"), "check", "--json", "--cafile",
                                cafile or pki.cafile, "--path2", spec(lab), "--timeout", "5",
                                "--connect", lab.addr, *(str(o) for o in options)], name="check")
    tools.check_sanitizer(proc)
    lines = [line for line in proc.jsons("stdout") if line.get("event") == "check"]
    return proc.wait(), {line["target"]: line for line in lines}, proc


def test_check_many(lab, pki, www, tmp_path):
    """Every kind of server at once, from the command line and from a file; the worst one decides."""
    good = stock.nginx(lab, pki, tmp_path / "good", www)
    without = stock.threaded(lab, pki, "--tickets", "0")
    old = stock.threaded(lab, pki, "--tls12")
    listing = tmp_path / "servers"
    listing.write_text(f"# ours\n{pki.name}:{old.port}  # the old one\n\n{pki.name}:{lab.port()}\n")
    names = [f"{pki.name}:{server.port}" for server in (good, without)]
    code, found, proc = checked(lab, pki, *names, "--file", listing, "--jobs", "4")
    assert code == tools.EXIT_NETWORK, proc.log()
    assert list(found) == names + [f"{pki.name}:{old.port}", f"{pki.name}:{lab._port}"], proc.log()
    assert [line["verdict"] for line in found.values()] == ["verified", "consistent", "unproven",
                                                            "none"]
    best = found[names[0]]
    assert best["tls"] == "TLSv1.3" and best["tickets"]["received"] >= 1
    assert [path["device"] for path in best["paths"]] == ["p1", "p2"]
    assert min(best[key] for key in ("connect_us", "handshake_us", "confirm_us")) > 0
    assert list(found.values())[-1]["reason"] == "connect"


def test_check_exit_codes(lab, pki, www, tmp_path):
    good = stock.nginx(lab, pki, tmp_path / "good", www)
    name = f"{pki.name}:{good.port}"
    assert checked(lab, pki, name)[0] == tools.EXIT_OK
    less = f"{pki.name}:{stock.threaded(lab, pki, '--tickets', '0').port}"
    assert checked(lab, pki, name, less)[0] == 4
    old = f"{pki.name}:{stock.threaded(lab, pki, '--tls12').port}"
    assert checked(lab, pki, old, name, less)[0] == 5
    attack.tls_mitm(lab, pki, tmp_path, good.port)
    code, found, _ = checked(lab, pki, old, name, less, cafile=pki.bundle)
    assert code == tools.EXIT_UNVERIFIED and found[name]["verdict"] == "alarm"
    code, found, _ = checked(lab, pki, name)
    assert code == tools.EXIT_NETWORK and found[name]["reason"] == "certificate"


def test_check_table(lab, pki, www, tmp_path):
    """For people: one line each, a sum, and what each verdict means."""
    good = stock.nginx(lab, pki, tmp_path / "good", www)
    proc = lab.run(lab.client, [tools.tool("mtls-client"), "check", "--cafile", pki.cafile, "--path2",
                                spec(lab), "--connect", lab.addr, f"{pki.name}:{good.port}"])
    assert proc.wait() == 0, proc.log()
    lines = proc.lines("stdout")
    assert lines[0].split()[:3] == ["host", "verdict", "reason"]
    assert lines[1].split()[:4] == [f"{pki.name}:{good.port}", "verified", "resumed", "TLSv1.3"]
    assert "1 verified, 0 consistent, 0 unproven, 0 alarm, 0 not reached" in lines
    assert lines[-1].startswith("resumed: the server on path 2")


@pytest.mark.parametrize("way", ["resume", "auto"])
def test_paths_are_shown(lab, pki, www, tmp_path, way):
    """For people: both paths; those of the proof that was not to be had are not among them."""
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    words = [tools.tool("mtls-client"), "-v", "--cafile", pki.cafile, "--connect", lab.addr, "--confirm", way,
             "--path2", spec(lab), "--get", "/file", f"{pki.name}:{server.port}"]
    proc = lab.run(lab.client, words)
    assert proc.wait() == 0, proc.log()
    lines = proc.lines("stderr")
    assert re.fullmatch(rf"  path 1  \S+ -> {lab.addr}:{server.port}  dev p1", lines[1]), proc.log()
    assert re.fullmatch(rf"  path 2  \S+ -> {lab.addr}:{server.port}  dev p2  confirmed", lines[2]), proc.log()
    assert lines[3:] == ["          shares with path 1: remote-address,remote-prefix"], proc.log()


def test_failed_path_is_named(lab, pki, www, tmp_path):
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    lab.filter(2, f"tcp dport {server.port} reject with tcp reset")
    words = [tools.tool("mtls-client"), "--cafile", pki.cafile, "--connect", lab.addr, "--confirm", "resume",
             "--path2", spec(lab), "--get", "/file", f"{pki.name}:{server.port}"]
    proc = lab.run(lab.client, words)
    assert proc.wait() == tools.EXIT_UNVERIFIED, proc.log()
    assert proc.lines("stderr")[0].endswith(f"(path2={spec(lab)}: path 2 was refused)"), proc.log()


@pytest.mark.parametrize("options", [["check"], ["check", "--path2", "dev=p2"],
                                     ["check", "--get", "/", "a.example"],
                                     ["check", "--path2", "auto", "--confirm", "auto", "a.example"],
                                     ["--jobs", "2", "a.example:443"],
                                     ["check", "--path2", "auto", "--file", "/nowhere/at/all"]])
def test_check_usage(lab, options):
    proc = lab.run(lab.client, [tools.tool("mtls-client"), *options])
    assert proc.wait() == tools.EXIT_USAGE, proc.log()


# ---- early release ---------------------------------------------------------------------------------


def test_expose_request(lab, pki, www, tmp_path):
    """[RSM-2] The request leaves before the verdict, by its name; the answer waits for it."""
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    proved(confirm(lab, pki, server, "--expose-request"))
    stranger = stock.threaded(lab, pki)
    proved(confirm(lab, pki, stranger, "--expose-request"))
    fake = rogue(lab, pki, server)
    failed(confirm(lab, pki, server, "--expose-request", cafile=pki.bundle), "alarm", "other-key")
    end = fake.proc.wait_json("stdout", event="end")
    assert end["bytes"] > 0, end  # read, as its name says
    failed(confirm(lab, pki, server, cafile=pki.bundle), "alarm", "other-key")
    assert fake.proc.wait_json("stdout", event="end", skip=1)["bytes"] == 0  # its twin


@pytest.mark.parametrize("options,words_", [
    (["--confirm", "auto", "--expose-request"], {}), (["--expose-request"], {}),
    (["--confirm", "resume", "--expose-request"], {"get": None})])
def test_expose_request_usage(lab, pki, server, options, words_):
    assert tools.client(lab, pki, server, *options, **words_).code == tools.EXIT_USAGE


# ---- evidence -------------------------------------------------------------------------------------


def explained(file):
    done = subprocess.run([tools.tool("mtls-client"), "explain", str(file)], text=True,
                          capture_output=True, check=True)
    return done.stdout


def test_evidence(lab, pki, www, tmp_path):
    """An alarm leaves both certificates behind, what was verified nothing (unless asked for)."""
    folder = tmp_path / "evidence"
    folder.mkdir()
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    result = proved(confirm(lab, pki, server, "--evidence", folder))
    assert "evidence" not in result.line and not list(folder.iterdir())
    attack.tls_mitm(lab, pki, tmp_path, server.port)
    result = failed(confirm(lab, pki, server, "--evidence", folder, cafile=pki.bundle), "alarm",
                    "other-key")
    (bundle,) = folder.iterdir()
    assert result.line["evidence"] == str(bundle) and bundle.stat().st_mode & 0o777 == 0o600
    text = explained(bundle)
    assert "Verdict: alarm (other-key)" in text and text.count("Certificate for:") == 2, text
    assert "rogue CA" in text and "real CA" in text, text
    assert result.line["key"] in text and result.line["path2"]["key"] in text, text
    again = confirm(lab, pki, server, "--evidence", tmp_path / "nowhere", cafile=pki.bundle)
    failed(again, "alarm", "other-key")
    assert again.line["evidence_error"] == "system-error", again


def test_evidence_of_a_relayed_ticket(lab, pki, tmp_path, mitm_ticket):
    """The second connection on path 2 [RSM-6] is in the bundle."""
    server = stock.threaded(lab, pki, "--stateful")
    proc = lab.spawn(lab.routers[1], [mitm_ticket, pki.rogue_cert, pki.rogue_key, lab.addr,
                                      str(server.port), str(tmp_path / "stolen")])
    lab.redirect(1, server.port, attack.Attacker(proc).port)
    failed(confirm(lab, pki, server, "--evidence", tmp_path, cafile=pki.bundle), "alarm",
           "ticket-refused")
    (bundle,) = tmp_path.glob("*.evidence")
    text = explained(bundle)
    assert "once more, without the ticket" in text and text.count("Certificate for:") == 2, text
    assert "alert-47" in text or "alert-51" in text, text
