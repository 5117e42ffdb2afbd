"""Rule 9: what a resumed session inherits, and what it does not."""

import pytest

from mtlslab import attack, check, tools
from mtlslab.tools import client


def first(lab, pki, server, session, **words):
    """A full session that leaves a ticket."""
    result = client(lab, pki, server, "--sess-out", session, **words)
    assert session.exists() and session.stat().st_size > 0, result
    return result


def test_inherited(lab, pki, www, tmp_path, server):
    """A verified session's ticket needs no second path."""
    session = tmp_path / "session"
    check.verified(first(lab, pki, server, session), server)
    relay = attack.path2_relay(lab, server.path2_port, "--accept", "close")
    result = client(lab, pki, server, "--sess-in", session)
    assert (result.outcome, result.code) == (tools.RESUMED, tools.EXIT_OK), result
    assert result.body == (www / "file").read_bytes()
    assert server.session(1)["outcome"] == tools.RESUMED
    # The twin: without the ticket the same network refuses.
    check.refused(client(lab, pki, server), "path2-closed", "proof-too-few", "proof-missing")
    assert relay.events("connection")


def test_not_inherited_from_plain(lab, pki, www, tmp_path):
    """A plain session's ticket proves nothing."""
    server = tools.Server(lab, pki, www=www, policy="prefer")
    session = tmp_path / "session"
    result = first(lab, pki, server, session, policy="off", path2=[])
    assert result.outcome == tools.PLAIN
    check.verified(client(lab, pki, server, "--sess-in", session), None)
    attack.path2_relay(lab, server.path2_port, "--accept", "close")
    check.refused(client(lab, pki, server, "--sess-in", session), "path2-closed", "proof-too-few",
                  "proof-missing")


def test_switched_off_at_the_client(lab, pki, www, tmp_path, server):
    """resume=0: a ticket is used, and confirmed again."""
    session = tmp_path / "session"
    check.verified(first(lab, pki, server, session), server)
    check.verified(client(lab, pki, server, "--sess-in", session, "--config", "resume=0"), None)


def test_policy_asks_for_more(lab3, pki, www, tmp_path):
    """Verified over one path; now two are needed: the record does not vouch for that."""
    server = tools.Server(lab3, pki, www=www)
    session = tmp_path / "session"
    check.verified(first(lab3, pki, server, session), server)
    both = [tools.spec(lab3, server, path=2), tools.spec(lab3, server, path=3)]
    check.verified(client(lab3, pki, server, "--sess-in", session, "--config", "need=2", path2=both), None)


def test_rogue_server_gets_no_ticket(lab, pki, www, tmp_path, mitm_ext):
    """A session that failed leaves nothing to resume."""
    server = tools.Server(lab, pki, www=www, policy="prefer")
    attack.ext_mitm(lab, pki, tmp_path, mitm_ext, server.port)
    session = tmp_path / "session"
    result = client(lab, pki, server, "--sess-out", session, cafile=pki.bundle)
    check.refused(result, "proof-wrong")
    assert not session.exists() or session.stat().st_size == 0


def test_rogue_server_cannot_resume(lab, pki, www, tmp_path, mitm_ext):
    """A verified ticket shown to a man in the middle: it does not have the key, so a full handshake follows,
    and that one needs path 2."""
    server = tools.Server(lab, pki, www=www, policy="prefer")
    session = tmp_path / "session"
    check.verified(first(lab, pki, server, session, cafile=pki.bundle), None)
    mitm = attack.ext_mitm(lab, pki, tmp_path, mitm_ext, server.port)
    result = client(lab, pki, server, "--sess-in", session, cafile=pki.bundle)
    check.refused(result, "proof-wrong")
    check.nothing_stolen(mitm)


@pytest.mark.parametrize("shared", [True, False])
def test_server_restart(lab, pki, www, tmp_path, shared):
    """With the ticket keys kept across the restart the session resumes; without, it is confirmed anew."""
    keys = tmp_path / "ticket-keys"
    keys.write_bytes(bytes(range(80)))
    keys.chmod(0o600)
    options = ["--ticket-key", keys] if shared else []
    server = tools.Server(lab, pki, *options, www=www)
    session = tmp_path / "session"
    check.verified(first(lab, pki, server, session), server)
    listen, path2 = server.listen, server.path2
    server.stop()
    again = tools.Server(lab, pki, *options, www=www, listen=listen, path2_listen=path2)
    if shared:  # a right proof that is there already makes a session verified anew
        attack.path2_relay(lab, again.path2_port, "--accept", "close")
    result = client(lab, pki, again, "--sess-in", session)
    assert result.outcome == (tools.RESUMED if shared else tools.VERIFIED), result
    assert result.body == (www / "file").read_bytes()


def test_session_file_is_private(lab, pki, server, tmp_path):
    session = tmp_path / "session"
    check.verified(first(lab, pki, server, session), server)
    assert session.stat().st_mode & 0o077 == 0
