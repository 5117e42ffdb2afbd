"""What a session must have come to, said once for all tests."""

from . import tools


def scope(result):
    """The ends at which the paths differ, as a set of words."""
    words = result.line["scope"]
    return {"client", "server"} if words == "both" else {words} - {""}


def verified(result, server=None, body=None, number=0):
    """Verified at the client, and at the server too."""
    assert result.outcome == tools.VERIFIED and result.code == tools.EXIT_OK, result
    if body is not None:
        assert result.body == body, f"{len(result.body)} bytes instead of {len(body)}\n{result}"
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
