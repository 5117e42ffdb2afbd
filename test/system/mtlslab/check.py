"""What a session must have come to, said once for all tests."""

from . import tools


def verified(result, server=None, body=None, number=0, scope=None):
    """Verified at the client, and at the server too."""
    assert result.outcome == tools.VERIFIED and result.code == tools.EXIT_OK, result
    if body is not None:
        assert result.body == body, f"{len(result.body)} bytes instead of {len(body)}\n{result}"
    if scope:
        assert scope in result.line["scope"], result
    if server is not None:
        line = server.session(number)
        assert line["outcome"] == tools.VERIFIED, line
    return result


def refused(result, *reasons):
    """Failed for one of these reasons, with the exit code of a failed verification, and not a byte
    of an answer."""
    assert result.outcome == tools.FAILED, result
    assert result.code == tools.EXIT_UNVERIFIED, result
    assert result.reason in reasons, f"{result.reason} is none of {reasons}\n{result}"
    assert result.body == b"", result
    return result


def plain(result, *reasons, body=None):
    """Ordinary TLS, reported as such."""
    assert result.outcome == tools.PLAIN and result.code == tools.EXIT_OK, result
    if reasons:
        assert result.reason in reasons, result
    if body is not None:
        assert result.body == body, result
    return result


def nothing_stolen(attacker):
    """The man in the middle holds no byte of a request."""
    assert attacker.record == b"", attacker.record[:200]
