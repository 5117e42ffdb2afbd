"""Our client, written from doc/protocol.md alone, against mtls-server."""

import os
import time

import pytest

from stranger_lab import (SUITES, alert_of, ended, link, make_files, mtls_server, peer, session,
                          until)
from stranger_tls import Failed


@pytest.fixture(name="files", scope="module")
def fixture_files(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("stranger"))


@SUITES
def test_client_is_verified(files, suite):
    with mtls_server(files) as server, link(server) as path2:
        with session(files, server, [path2], suite) as client:
            client.verify()
            assert client.ask(b"over path 1") == b"over path 1"
            assert client.answer[2] == server.path2[1]
        assert server.outcomes() == ["verified"]


@SUITES
def test_client_after_hello_retry_request(files, suite):
    with mtls_server(files, env={"OPENSSL_CONF": str(files / "p384.cnf")}) as server, \
            link(server) as path2, session(files, server, [path2], suite, "X25519:P-384") as client:
        client.verify()
        assert len(peer.client_hello_exts(client.tls.messages)) == 2
        assert client.ask(b"again") == b"again"


def test_extension_changed_after_hello_retry_request(files):
    with mtls_server(files, env={"OPENSSL_CONF": str(files / "p384.cnf")}) as server, \
            session(files, server, [], groups="X25519:P-384") as client:
        assert not client.tls.handshake()
        assert alert_of(client) is None
        client.ext = peer.client_ext(os.urandom(16))
        assert not client.tls.handshake()
        assert alert_of(client) == peer.ILLEGAL_PARAMETER  # [EXT-3]


@pytest.mark.parametrize("where, policy", [
    (0, "require"), (0, "prefer"), (1, "require"), (1, "prefer")])
def test_extension_in_only_one_client_hello(files, where, policy):
    """[EXT-3]; `require` may end a first ClientHello without it at once."""
    with mtls_server(files, policy=policy, env={"OPENSSL_CONF": str(files / "p384.cnf")}) \
            as server, session(files, server, [], groups="X25519:P-384") as client:
        alerts = []
        for client.ext in [None, client.ext] if where else [client.ext, None]:
            client.tls.handshake()
            alerts.append(alert_of(client))
            if alerts[-1]:
                break
        early = where == 1 and policy == "require"
        assert alerts == ([peer.HANDSHAKE_FAILURE] if early else [None, peer.ILLEGAL_PARAMETER])


@pytest.mark.parametrize("ext, alert", [
    (None, peer.HANDSHAKE_FAILURE),  # [EXT-8] under require
    (b"ABCD" + bytes(19), peer.HANDSHAKE_FAILURE),  # [EXT-4]
    (peer.client_ext(bytes(16), b"\2"), peer.HANDSHAKE_FAILURE),  # [EXT-7]
    (peer.client_ext(bytes(16))[:-1], peer.DECODE_ERROR),  # [EXT-5]
    (peer.client_ext(bytes(17)), peer.DECODE_ERROR),
    (peer.client_ext(bytes(16), b""), peer.DECODE_ERROR),
], ids=["none", "magic", "version", "short", "long", "no versions"])
def test_server_refuses_extension(files, ext, alert):
    with mtls_server(files) as server, session(files, server, []) as client:
        client.ext = ext
        assert not client.tls.handshake()
        assert alert_of(client) == alert


def test_versions_and_flags_we_do_not_know(files):
    with mtls_server(files) as server, link(server) as path2, \
            session(files, server, [path2]) as client:
        ext = bytearray(peer.client_ext(peer.join_of(client.secret), b"\7\1\2"))
        ext[8] = 0xFF  # [EXT-6]
        client.ext = bytes(ext)
        client.verify()
        assert client.ask(b"x") == b"x"


def test_hello_before_client_hello_byte_by_byte(files):
    with mtls_server(files) as server, link(server) as path2, \
            session(files, server, [path2]) as client:
        path2.send, whole = (lambda data: [whole(data[at:at + 1]) for at in range(len(data))]), \
            path2.send
        client.hello()
        until(lambda: client.claims[0].ready, path2)  # [RDY-2], [SRV-4]
        client.flight()
        client.prove()
        client.confirm()
        client.release()
        assert client.ask(b"x") == b"x"


def test_hello_after_the_flight(files):
    with mtls_server(files) as server, link(server) as path2, \
            session(files, server, [path2]) as client:
        client.flight()  # late mode
        client.hello()
        client.prove()
        client.confirm()
        client.release()
        assert client.ask(b"x") == b"x"


def test_confirm_and_the_end_of_its_connection(files):
    with mtls_server(files) as server, link(server) as path2, \
            session(files, server, [path2]) as client:
        client.hello()
        client.flight()
        client.prove()
        client.confirm()
        path2.close()  # [CNF-6]
        client.release()
        assert client.ask(b"x") == b"x"


@pytest.mark.parametrize("finished", [True, False])
def test_missing_confirm(files, finished):
    with mtls_server(files, "--deadline", "1000") as server, link(server) as path2:
        with session(files, server, [path2]) as client:
            began = time.monotonic()
            client.hello()
            client.flight()
            client.prove()
            if finished:
                client.sock.sendall(client.held + client.tls.write(b"released?"))
            with pytest.raises(Failed, match="path 1"):
                while True:
                    client.tls.feed(client._receive(client.by))
            assert 0.9 < time.monotonic() - began < 5  # [TIM-1]
            until(lambda: client.claims[0].ended, path2)
            assert client.claims[0].reason == peer.ABANDONED and path2.up  # [SRV-9]
            assert not [m for sender, m in client.tls.messages if m[0] == 4]
        assert server.outcomes() == ["failed"]


def test_confirm_without_finished(files):
    with mtls_server(files, "--deadline", "1000") as server, link(server) as path2:
        with session(files, server, [path2]) as client:
            client.hello()
            client.flight()
            client.prove()
            client.confirm()
            with pytest.raises(Failed, match="path 1"):
                while True:
                    client.tls.feed(client._receive(client.by))
        assert server.outcomes() == ["failed"]


def test_wrong_confirm_then_right_one(files):
    with mtls_server(files) as server, link(server) as bad, link(server) as good, \
            session(files, server, [bad, good]) as client:
        client.hello()
        client.flight()
        until(lambda: all(client.right(each) is not None for each in client.claims), bad, good)
        first, second = client.claims
        client.claims = [first]
        client.confirm(spoil=1)
        first.ended = False  # to see the answer
        assert ended(bad) and first.reason == peer.CONFIRM_WRONG  # [CNF-5]
        client.claims = [second]
        client.confirm()
        client.release()
        assert client.ask(b"x") == b"x"


@pytest.mark.parametrize("same_path", [False, True])
def test_two_claims_one_session(files, same_path):
    """Two connections: two paths, or one path whose HELLO came twice [SRV-7]."""
    with mtls_server(files) as server, link(server) as one, link(server) as two:
        with session(files, server, [one]) as client:
            client.hello()
            port = server.path1[1]
            client.claims.append(two.claim(port, 0 if same_path else 1, client.secret))
            client.flight()
            until(lambda: all(client.right(each) is not None for each in client.claims), one, two)
            pairs = [(each.path, each.p2()) for each in client.claims]
            for at in (1, 0):
                counted = pairs[at:at + 1] if same_path else pairs
                tag = client.keys.tag_c(pairs[at][1], 1, counted)
                client.claims[at].send(peer.CONFIRM, bytes([0, 1, len(counted)]) + tag)
                if at == 1:
                    client.release()
                    assert client.ask(b"x") == b"x"
            two_is_up(client, one)  # [CNF-4]: the second CONFIRM was ignored
        assert server.outcomes() == ["verified"]


def two_is_up(client, path2):
    """The connection still answers a HELLO, so it was not closed."""
    claim = path2.claim(client.sock.getpeername()[1], 0, os.urandom(32))
    until(lambda: claim.ready, path2)
    assert path2.up


@pytest.mark.parametrize("finished", [True, False])
def test_wrong_confirm_for_a_confirmed_session(files, finished):
    with mtls_server(files) as server, link(server) as one, link(server) as two, \
            session(files, server, [one, two]) as client:
        client.hello()
        client.flight()
        until(lambda: all(client.right(each) is not None for each in client.claims), one, two)
        _, other = client.claims
        client.claims = client.claims[:1]
        client.confirm()
        two_is_up(client, one)  # CONFIRM has been taken
        if finished:
            client.release()
            assert client.ask(b"x") == b"x"
        other.send(peer.CONFIRM, bytes([0, 1, 1]) + bytes(32))
        two_is_up(client, two)  # [CNF-4]
        if not finished:
            client.release()
            assert client.ask(b"x") == b"x"


def test_fail_ends_its_claim_alone(files):
    """In each state of a claim; the session is confirmed over another one of that connection, and a
    FAIL that follows its CONFIRM takes nothing back [FAIL-1]."""
    with mtls_server(files) as server, link(server) as path2, \
            session(files, server, [path2]) as client:
        client.hello()
        waiting = client.claims.pop()
        until(lambda: waiting.ready, path2)
        waiting.send(peer.FAIL, bytes([5]))
        waiting.ended = False  # to see what comes all the same
        proved, last = (path2.claim(server.path1[1], 0, client.secret) for _ in range(2))
        client.claims = [proved, last]
        client.flight()
        until(lambda: all(client.right(each) is not None for each in client.claims), path2)
        assert not waiting.proofs  # it had ended before there were keys
        proved.send(peer.FAIL, bytes([5]))
        client.claims = [last]
        client.confirm()
        last.send(peer.FAIL, bytes([5]))
        two_is_up(client, path2)
        client.release()
        assert client.ask(b"x") == b"x"


def test_failed_session_leaves_the_connection(files):
    """A session fails by its deadline; another is confirmed over the same connection [REU-4]."""
    with mtls_server(files, "--deadline", "1000") as server, link(server) as path2:
        with session(files, server, [path2]) as client:
            client.hello()
            client.flight()
            client.prove()
            until(lambda: client.claims[0].ended, path2)
            assert client.claims[0].reason == peer.ABANDONED and path2.up
        with session(files, server, [path2]) as client:
            client.verify()
            assert client.ask(b"x") == b"x"
        assert server.outcomes() == ["failed", "verified"]


def test_connection_reused_by_two_sessions(files):
    """One after the other, then two at once on the same connection [REU-1], [REU-5]."""
    with mtls_server(files) as server, link(server) as path2:
        with session(files, server, [path2]) as client:
            client.verify()
            assert client.ask(b"one") == b"one"
        with session(files, server, [path2]) as left, session(files, server, [path2]) as right:
            for step in ("hello", "flight", "prove", "confirm", "release"):
                getattr(left, step)()
                getattr(right, step)()
            assert (left.ask(b"two"), right.ask(b"three")) == (b"two", b"three")
            assert right.claims[0].number == 3
        assert server.outcomes() == ["verified"] * 3


def verified_session(files, server):
    with link(server) as path2, session(files, server, [path2]) as client:
        client.verify()
        client.ask(b"for the tickets")
        return client.session()


@SUITES
def test_resumed_without_path2(files, suite):
    with mtls_server(files) as server:
        with link(server) as path2, session(files, server, [path2], suite) as client:
            client.verify()
            client.ask(b"for the tickets")
            kept = client.session()
        with session(files, server, [], suite, resume=kept) as client:
            client.verify()
            assert client.outcome == "resumed-verified" and client.ask(b"x") == b"x"
        assert server.outcomes() == ["verified", "resumed-verified"]


def test_resumed_session_answers_path2(files):
    """Our record is not valid any more, the server's is: late mode [RES-6], [RES-7]."""
    with mtls_server(files) as server, link(server) as path2:
        kept = verified_session(files, server)
        with session(files, server, [path2], resume=(kept[0], (kept[1][0], 0))) as client:
            client.verify()
            assert peer.SSL.SSL_session_reused(client.tls.ssl)
            assert not client.answer[1] & peer.CONFIRM_NEEDED
            assert client.outcome == "verified" and client.ask(b"x") == b"x"


def test_resumed_session_without_proof(files):
    """RECORD_HELD: a claim that comes nevertheless is READY, and ends with the session [RES-11]."""
    with mtls_server(files) as server, link(server) as path2:
        kept = verified_session(files, server)
        with session(files, server, [path2], resume=kept, flags=peer.RECORD_HELD) as client:
            client.hello()
            client.verify()
            assert client.outcome == "resumed-verified" and client.ask(b"x") == b"x"
            claim = client.claims[0]
            peer.wait_for(lambda: claim.ready, [path2], client.by)
            peer.SSL.SSL_shutdown(client.tls.ssl)
            client.sock.sendall(client.tls.take())
            peer.wait_for(lambda: claim.ended, [path2], client.by)
            assert not claim.proofs and claim.reason == peer.ABANDONED
        assert server.outcomes() == ["verified", "resumed-verified"]


def test_record_held_for_nothing(files):
    """Another server does not know the ticket: the flag has no meaning, CONFIRM is needed [RES-11]."""
    with mtls_server(files) as first, mtls_server(files) as second, link(second) as path2:
        kept = verified_session(files, first)
        with session(files, second, [path2], resume=kept, flags=peer.RECORD_HELD) as client:
            client.verify()
            assert client.outcome == "verified" and client.ask(b"x") == b"x"
        assert second.outcomes() == ["verified"]


def test_ticket_of_a_failed_session_is_not_there(files):
    """A server that knows no record of the ticket needs CONFIRM: another server [RES-5]."""
    with mtls_server(files) as first, mtls_server(files) as second, link(second) as path2:
        kept = verified_session(files, first)
        with session(files, second, [path2], resume=kept) as client:
            client.verify()
            assert client.outcome == "verified" and client.ask(b"x") == b"x"


def test_join_of_an_ended_session(files):
    with mtls_server(files) as server, link(server) as path2:
        with session(files, server, [path2]) as client:
            client.verify()
            secret, ext = client.secret, client.ext
            client.ask(b"x")
        with link(server) as again, session(files, server, [again]) as client:
            claim = again.claim(server.path1[1], 0, secret)
            until(lambda: claim.ended, again)
            assert claim.ready and claim.reason == peer.NO_SESSION  # [SRV-8]
            client.ext = ext
            assert not client.tls.handshake()
            assert alert_of(client) == peer.ILLEGAL_PARAMETER


def test_nine_claims_of_a_join(files):
    with mtls_server(files) as server, link(server) as path2, \
            session(files, server, [path2]) as client:
        client.claims = [path2.claim(server.path1[1], path, client.secret) for path in range(8)]
        ninth = path2.claim(server.path1[1], 0, client.secret)
        until(lambda: ninth.ended, path2)
        assert ninth.ready and ninth.reason == peer.LIMIT  # [SRV-5]
        client.flight()
        client.prove()
        client.confirm()
        client.release()
        assert client.ask(b"x") == b"x"


def test_two_sessions_of_a_join(files):
    """A copied ClientHello: one PROOF a session, in slots of their own [PRF-2], [PRF-3]."""
    with mtls_server(files) as server, link(server) as path2, \
            session(files, server, [path2]) as client, session(files, server, []) as copy:
        copy.secret, copy.ext = client.secret, client.ext
        copy.flight()
        client.flight()
        client.hello()
        client.prove()
        until(lambda: len(client.claims[0].proofs) == 2, path2)
        assert sorted(client.claims[0].proofs) == [0, 1]
        assert client.right(client.claims[0]) == 1
        client.confirm()
        client.release()
        assert client.ask(b"x") == b"x"


CLAIM = bytes(2) + b"\1" + bytes(64)


@pytest.mark.parametrize("stream", [
    b"\x16\3\1",  # TLS
    peer.PREFACE + peer.frame(peer.HELLO, 0, CLAIM),  # [P2-3]
    peer.PREFACE + peer.frame(peer.HELLO, 2, CLAIM) * 2,
    peer.PREFACE + peer.frame(peer.HELLO, 2, CLAIM) + peer.frame(peer.HELLO, 1, CLAIM),
    peer.PREFACE + peer.frame(peer.HELLO, 1, bytes(2) + b"\x08" + bytes(64)),  # [P2-4]
    peer.PREFACE + peer.frame(peer.READY, 1, bytes(65)),
    peer.PREFACE + peer.frame(peer.FAIL, 1, b"\0"),  # [P2-5]: never opened
    peer.PREFACE + peer.frame(peer.HELLO, 1, CLAIM) +
    peer.frame(peer.CONFIRM, 1, b"\0\1\1" + bytes(32)),
], ids=["tls", "claim 0", "claim again", "claim lower", "path 8", "ready", "fail of nothing",
        "confirm without proof"])
def test_server_closes_a_broken_stream(files, stream):
    with mtls_server(files) as server, link(server) as path2:
        path2.send(stream)
        path2.sock.settimeout(5)
        try:
            while path2.sock.recv(4096):
                pass
        except ConnectionResetError:
            pass


def test_frames_on_ended_claims_are_ignored(files):
    with mtls_server(files) as server, link(server) as path2, \
            session(files, server, [path2]) as client:
        claim = path2.claim(server.path1[1], 0, os.urandom(32))
        until(lambda: claim.ready, path2)
        claim.send(peer.FAIL, bytes([200]))  # [P2-4]: any reason is legal
        client.verify()
        assert client.ask(b"x") == b"x"


def test_sixty_five_open_claims(files):
    with mtls_server(files) as server, link(server) as path2:
        claims = [path2.claim(server.path1[1], 0, os.urandom(32)) for _ in range(65)]
        until(lambda: all(claim.ready for claim in claims), path2)
        assert [claim.ready[8] for claim in claims] == [peer.OK] * 64 + [peer.BUSY]  # [TIM-9]


def test_claim_without_its_session_ends(files):
    with mtls_server(files) as server, link(server) as path2:
        began = time.monotonic()
        claim = path2.claim(server.path1[1], 0, os.urandom(32))
        until(lambda: claim.ended, path2)
        assert claim.reason == peer.NO_SESSION and path2.up
        assert 9.9 < time.monotonic() - began < 15  # [TIM-4]


def test_join_of_a_verified_session(files):
    """The session has ended for its join though path 1 goes on [PRF-1], [SRV-8]."""
    with mtls_server(files) as server, link(server) as path2, \
            session(files, server, [path2]) as client:
        client.verify()
        client.ask(b"x")
        late = path2.claim(server.path1[1], 1, client.secret)
        until(lambda: late.ended, path2)
        assert late.ready and late.reason == peer.NO_SESSION
        with session(files, server, []) as copy:
            copy.ext = client.ext
            assert not copy.tls.handshake()
            assert alert_of(copy) == peer.ILLEGAL_PARAMETER
        assert client.ask(b"y") == b"y"


def test_resumed_session_gets_proof_before_finished(files):
    """On a warm connection, with the record valid on both sides [RES-6]."""
    with mtls_server(files) as server, link(server) as path2:
        kept = verified_session(files, server)
        with session(files, server, [path2], resume=kept) as client:
            client.hello()
            client.flight()
            assert client.resumed()
            client.prove()
            client.release()
            assert client.ask(b"x") == b"x"
