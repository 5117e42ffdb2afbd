"""Weakened builds: each takes one rule out of a copy of the sources, and the lab must notice. `scripts/lab --mutants`.
Nothing of this is in the product: no option weakens it. A mutation that no longer fits the sources is a failure."""

import dataclasses

CLIENT, SESSION, RESUME = "mtls/ossl/client.c", "mtls/ossl/session.c", "mtls/ossl/resume.c"
SECONDARY = "mtls/net/secondary.c"


@dataclasses.dataclass
class Mutant:
    """changes: (file, text that stands there once, what it becomes). cells: the runs that must notice."""

    key: str
    says: str
    changes: list
    cells: list
    missing: str = ""  # why it cannot be made yet: shown, and never counted as noticed


# What a record needs where no path has confirmed.
RECORD_OF_NOTHING = [(RESUME, "r.k = (uint8_t)s->confirmed_paths;", "r.k = 1;"),
                     (RESUME, ": (uint8_t)s->scope;", ": MTLS_DISTINCT_CLIENT;")]
STORED_WHEN = "outcome == MTLS_OUTCOME_VERIFIED &&\n        !s->server) /* a server's"

MUTANTS = [
    Mutant("comparison", "the client does not compare the server's tag", [
        (SECONDARY, "err == 0 && mtls_tag_equal(tag, w->proofs[i].tag)", "err == 0")],
        ["require/A-P-rogue/carried-over", "require/A/A-rogue/carry-forge"]),
    Mutant("nonce", "the nonce of path 2 repeats bytes of path 1", [
        ("mtls/core/path2_client.c", "mtls_crypto_random(p->crypto, nonce, sizeof(nonce))) < 0",
         "mtls_crypto_random(p->crypto, nonce, sizeof(nonce))) < 0 ||\n"
         "        (rc = mtls_crypto_join(p->crypto, secret, nonce)) < 0")],
        ["require/P-P/listen"]),
    Mutant("address", "an address in EncryptedExtensions is trusted before the decision", [
        (CLIENT, "            p->error = mtls_client_path_port(p, hs->facts->ee.port);\n", """\
            p->error = mtls_client_path_port(p, hs->facts->ee.port);
        if (p->error == 0 && p->own != NULL && hs->facts->ee.naddr > 0) {
            p->own->remote.addr = hs->facts->ee.addrs[0];
            p->own->port = hs->facts->ee.addrs[0].port;
            p->error = mtls_path_spec_format(p->own);
        }
""")], ["late-address/further/offered-address/rogue"]),
    Mutant("port", "any port in EncryptedExtensions is trusted", [
        (CLIENT, " &&\n            (hs->facts->ee.port == hs->port || hs->facts->ee.port == MTLS_PORT_DEFAULT))", ")")],
        ["late/further/rented-port/rogue"]),
    Mutant("ready", "READY without the extension is no downgrade", [
        ("mtls/core/decision.c", "    if (n->ready)\n        return verdict(MTLS_FAILED, MTLS_ERR_DOWNGRADE);\n", "")],
        ["prefer/A-P-rogue/interception"]),
    Mutant("grace", "the grace runs from path 1's ClientHello when path 2 begins later", [
        (CLIENT, "    hs->grace_from =\n        now; /*", "    (void)end; /*"),
        (CLIENT, "    hs->grace_end_at = end > hs->grace_end_at ? end : hs->grace_end_at;\n", "")],
        ["late-prefer/further/delayed/rogue"]),
    Mutant("look-up", "path 2's name is looked up over path 1", [
        ("mtls/net/resolve.c", "    return ares_error(ares_set_servers_ports(q->channel, &server));", "    return 0;"),
        ("mtls/net/resolve.c", "    ares_set_socket_configure_callback(q->channel, socket_bind, q);\n",
         "    (void)socket_bind;\n"),
        ("mtls/net/resolve.c", '(char[]){"/dev/null"}', '(char[]){"/etc/resolv.conf"}')],
        ["named/further/spoofed-name/rogue"]),
    Mutant("binding", "local= binds to the address instead of its device", [
        ("mtls/net/path2_socket.c", "        err = bind_device(fd, dev);",
         "        err = spec->local.family != 0 ? 0 : bind_device(fd, dev);")],
        ["local/further/listen/rogue", "local-prefer/further/weak-host-reset/rogue"]),
    Mutant("gateway", "another gateway is another path", [
        ("mtls/core/distinct.c", "    if (!a->loopback && !b->loopback && !mtls_paths_same_link(a, b))",
         "    if (!same_ip(&a->gateway, &b->gateway) || !mtls_paths_same_link(a, b))")],
        ["one-device/further/one-uplink/rogue"]),
    Mutant("family", "another family is another path", [
        ("mtls/core/distinct.c", "    if (!a->loopback && !b->loopback && !mtls_paths_same_link(a, b))",
         "    if (a->remote.family != b->remote.family || !mtls_paths_same_link(a, b))")],
        ["one-device-6/further/one-uplink/rogue"]),
    Mutant("ticket", "the ticket of a session that was not verified counts as verified", [
        *RECORD_OF_NOTHING, (SESSION, STORED_WHEN, "outcome != MTLS_OUTCOME_FAILED &&\n        !s->server) /* a server's")],
        ["ticket-of-plain/further/ticket-of-plain/rogue"]),
    Mutant("renewed", "verified_at is renewed by a resumption", [
        *RECORD_OF_NOTHING, (SESSION, STORED_WHEN, "outcome != MTLS_OUTCOME_FAILED &&\n        !s->server) /* a server's"),
        (RESUME, "s->hook->config.resume_max_s == 0 || SSL_session_reused(s->ssl) == 1)",
         "s->hook->config.resume_max_s == 0)")],
        ["aged/further/aged-ticket/rogue"]),
    Mutant("reused", "a session counts as resumed before the server has selected it", [
        (RESUME, "hs->record_offered && resumed_with_key_share(s) && record_fits(s) &&", "hs->record_offered &&")],
        ["resumed/A-P-rogue/answered"]),
    Mutant("counters", "MPTCP byte counters are compared with \"at least\"", [
        ("mtls/core/subflows.c", "received != expected[i].received || now->at[i].sent != expected[i].sent",
         "received < expected[i].received || now->at[i].sent < expected[i].sent")],
        ["smkex-mptcp/A-A/copied-down"]),
    Mutant("confirm", "CONFIRM leaves for each path as it proves, not at the decision", [
        (SECONDARY, "            memcpy(p->p2, w->p2, sizeof(p->p2));\n", """\
            memcpy(p->p2, w->p2, sizeof(p->p2));
            struct mtls_counted one = {.path = 0};
            uint8_t d[MTLS_SHA256_LEN], tag_c[MTLS_TAG_LEN];
            memcpy(one.p2, w->p2, sizeof(one.p2));
            memcpy(one.tag_s, tag, sizeof(one.tag_s));
            if (mtls_confirm_d(c, &one, 1, d) == 0 &&
                mtls_confirm_client_tag(c, keys, p->p2, tag, 1, 1, d, tag_c) == 0)
                (void)!mtls_path2_claim_confirm(p->claim, p->slot, 1, 1, tag_c);
"""), ("mtls/core/decision.c", "enough = n->proof >= need || in->resumed_ok", "enough = n->proof > 0 || in->resumed_ok")],
           ["k-of-n/P-A/one-proof-missing"]),
    Mutant("gate", "the server reads the client's Finished before CONFIRM", [
        ("mtls/ossl/gate.c", "    if (mtls_gate_hold(s, false, d) != MTLS_HOLD_PASS)\n        return d->verdict",
         "    if (SSL_get_peer_finished(s->ssl, own, sizeof(own)) == 0)\n        return MTLS_HOLD_PASS;\n"
         "    if (mtls_gate_hold(s, false, d) != MTLS_HOLD_PASS)\n        return d->verdict"),
        ("mtls/ossl/gate.c", "    if (s->phase != MTLS_PHASE_CONFIRMED || SSL_get_peer_finished(s->ssl, peer, sizeof(peer)) == 0)\n"
         "        return fail_write(b, s, MTLS_ERR_EARLY_DATA);\n",
         "    if (SSL_get_peer_finished(s->ssl, peer, sizeof(peer)) == 0)\n"
         "        return fail_write(b, s, MTLS_ERR_EARLY_DATA);\n"
         "    if (s->phase != MTLS_PHASE_CONFIRMED)\n        return pass_write(b, in, len);\n")],
        ["require/A-P-rogue/carried-over"]),
]
