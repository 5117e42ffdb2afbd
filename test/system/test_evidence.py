"""Evidence bundles: what a failed session leaves behind, and what `mtls-client explain` makes of it."""

import re
import subprocess

import pytest

from conftest import SECRET
from mtlslab import attack, check, smkex, tools
from mtlslab.tools import client


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "evidence"
    found.mkdir()
    return found


def bundles(folder):
    return sorted(folder.glob("*.evidence"))


def explain(*files):
    done = subprocess.run([tools.tool("mtls-client"), "explain", *map(str, files)], text=True,
                          capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


def words(folder, *more):
    return ["--evidence", folder, *(["--config", " ".join(more)] if more else [])]


def intercepted(lab, pki, www, tmp_path, mitm_ext, folder):
    """Both ends' bundles of one interception."""
    server = tools.Server(lab, pki, "--deadline", "1500", *words(folder), www=www, policy="prefer")
    attack.ext_mitm(lab, pki, tmp_path, mitm_ext, server.port)
    result = client(lab, pki, server, *words(folder), "--deadline", "3000", cafile=pki.bundle)
    check.refused(result, "proof-wrong")
    assert result.line["evidence"].startswith(str(folder))
    assert server.session()["evidence"] != result.line["evidence"]
    return [next(one for one in bundles(folder) if role in one.name) for role in ("client", "server")]


def test_interception(lab, pki, www, tmp_path, mitm_ext, folder):
    """The bundle names the rogue certificate, and its signature over the handshake is found right; beside the
    server's bundle of the same attempt it shows that there were two handshakes."""
    mine, other = intercepted(lab, pki, www, tmp_path, mitm_ext, folder)
    assert mine.stat().st_mode & 0o777 == 0o600
    code, text, errors = explain(mine, other)
    assert code == 0 and errors == "", errors
    assert "[TAG-3]" in text and "rogue CA" in text and "signed this very handshake" in text
    assert "proof on path 2: wrong" in text and "ANOTHER handshake" in text
    assert "That the session failed says" in text
    code, text, _ = explain(other)
    assert code == 0 and "[SRV-2]" in text and "its own" in text


def test_changed_bundle(lab, pki, www, tmp_path, mitm_ext, folder):
    """A bit of the recorded handshake changed afterwards: its signature fits no more."""
    mine, other = intercepted(lab, pki, www, tmp_path, mitm_ext, folder)
    text = mine.read_text()
    hello = re.search(r"^message client 1 .* ([0-9a-f]+)$", text, re.M).group(1)
    for changed, said in ((hello[:20] + ("0" if hello[20] != "0" else "1") + hello[21:], "does NOT fit"),
                          ("-", "cannot be told")):
        mine.write_text(text.replace(hello, changed))
        assert said in explain(mine)[1]
    assert "nothing follows" in explain(other, other)[1]


def test_nothing_secret(lab, pki, www, tmp_path, folder):
    """Neither plain text, nor keys, nor a ticket: also where a ticket is offered."""
    server = tools.Server(lab, pki, *words(folder, "evidence-of=all"), www=www)
    session, log = tmp_path / "session", words(folder, "evidence-of=all")
    check.verified(client(lab, pki, server, *log, "--sess-out", session), server)
    ticket = subprocess.run(["openssl", "sess_id", "-in", str(session), "-noout", "-text"], text=True,
                            capture_output=True, check=True).stdout
    psk = re.search(r"Resumption PSK: ([0-9A-F]+)", ticket).group(1).lower()
    lines = re.search(r"TLS session ticket:\n((?: +[0-9a-f]{4} - .*\n)+)", ticket).group(1)
    ticket = "".join(re.sub(r"[^0-9a-f]", "", line[11:58]) for line in lines.splitlines())
    attack.path2_relay(lab, server.path2_port, "--accept", "close")  # or it is verified anew
    result = client(lab, pki, server, *log, "--sess-in", session)
    assert result.outcome == tools.RESUMED, result
    found = bundles(folder)
    assert len(found) == 4
    for one in found:
        text = one.read_text()
        assert psk not in text and ticket[32:96] not in text and SECRET.hex() not in text
        assert "Nothing: the outcome was" in explain(one)[1]
    resumed = [one.read_text() for one in found if "outcome resumed-verified" in one.read_text()]
    assert len(resumed) == 2
    assert all(re.search(r"^message client 1 .* -$", text, re.M) for text in resumed)


def test_the_same_handshake(lab, pki, www, folder):
    """The twin of the interception: nobody in between, and the two ends' bundles agree."""
    server = tools.Server(lab, pki, *words(folder, "evidence-of=all"), www=www)
    check.verified(client(lab, pki, server, *words(folder, "evidence-of=all")), server)
    text = explain(*bundles(folder))[1]
    assert "nobody ended TLS between them" in text and "That the session failed" not in text


def test_only_failures_unless_asked(lab, pki, www, folder):
    server = tools.Server(lab, pki, *words(folder), www=www)
    check.verified(client(lab, pki, server, *words(folder)), server)
    assert bundles(folder) == []
    lab.filter(2, f"tcp dport {server.path2_port} reject with tcp reset")
    check.refused(client(lab, pki, server, *words(folder)), "path2-refused")
    assert "[DWN-4]" in explain(bundles(folder)[0])[1]


def test_bounded(lab, pki, www, tmp_path, folder):
    """A full folder, and one that is not there: the session's result is the same, and says why there is no bundle."""
    server = tools.Server(lab, pki, www=www)
    lab.filter(2, f"tcp dport {server.path2_port} reject with tcp reset")
    for number in range(64):
        (folder / f"old-{number}.evidence").touch()
    for where, reason in ((folder, "limit-reached"), (tmp_path / "missing", "system-error")):
        result = check.refused(client(lab, pki, server, *words(where)), "path2-refused")
        assert result.line["evidence_error"] == reason and "evidence" not in result.line
    assert len(bundles(folder)) == 64


@pytest.mark.parametrize("content", [
    b"", b"something else\n", b"mtls-evidence 1\nmessage server 11 5 0 00 zz\n", b"mtls-evidence 2\n",
    b"mtls-evidence 1\n" + b"x" * (1 << 18), b"mtls-evidence 1\nmessage server 11 9 0 00 0b0000\n",
    b"mtls-evidence 1\0\n"], ids=["empty", "other", "hex", "version", "long", "length", "nul"])
def test_damaged(folder, content):
    """Refused in one line; a crash would be another exit code."""
    file = folder / "one.evidence"
    file.write_bytes(content)
    code, text, errors = explain(file)
    assert code == 1 and text == "" and len(errors.splitlines()) == 1, errors


def test_usage():
    assert explain()[0] == 1 and explain("/nowhere/at-all")[0] == 1


# ---- SMKEX ---------------------------------------------------------------------------------------


def smkex_pair(lab, www, tmp_path, folder, *options):
    """Both ends' bundles of one attempt."""
    server = smkex.Server(lab, "--evidence", folder, "--policy", "prefer", "--deadline", "1500", www=www)
    smkex.mitm(lab, tmp_path, server.port, *options)
    result = smkex.client(lab, server, "--evidence", folder)
    line = server.session()
    assert result.line["evidence"].startswith(str(folder)) and line["evidence"] != result.line["evidence"]
    return result, [next(one for one in bundles(folder) if role in one.name) for role in ("client", "server")]


def test_smkex_interception(lab, www, tmp_path, folder):
    result, (mine, other) = smkex_pair(lab, www, tmp_path, folder)
    smkex.refused(result, "proof-wrong")
    code, text, errors = explain(mine, other)
    assert code == 0 and errors == "", errors
    assert "another key exchange" in text and "ANOTHER handshake" in text and "p2: wrong" in text
    code, text, _ = explain(other)
    assert code == 0 and "A man in the middle of path 1 looks like this" in " ".join(text.split())


def test_smkex_without_a_secret(lab, www, tmp_path, folder):
    """OFFER is the client's own and its join; what path 2 showed, its secret and nonces, is not in it."""
    _, (mine, _) = smkex_pair(lab, www, tmp_path, folder)
    lines = dict(line.split(" ", 1) for line in mine.read_text().splitlines() if " " in line)
    assert set(lines) == {"mtls-evidence", "written-at", "library", "openssl", "role", "mode", "outcome", "reason", "meaning",
                          "name", "port", "join", "transcript-hash", "offer", "answer", "path", "report"}
    assert lines["join"] in lines["offer"] and len(lines["transcript-hash"]) == 64
    assert mine.stat().st_mode & 0o777 == 0o600


def test_smkex_nothing_failed(lab, www, folder):
    """No bundle, unless of all sessions; both ends then show one exchange."""
    server = smkex.Server(lab, "--evidence", folder, "--config", "evidence-of=all", www=www)
    smkex.expect(smkex.client(lab, server, "--evidence", folder), smkex.VERIFIED)
    assert [one.name for one in bundles(folder) if "client" in one.name] == []
    smkex.expect(smkex.client(lab, server, "--evidence", folder, "--config", "evidence-of=all"), smkex.VERIFIED)
    server.session(1)
    mine = [one for one in bundles(folder) if "client" in one.name]
    assert len(mine) == 1
    found = [explain(mine[0], one)[1] for one in bundles(folder) if "server" in one.name]
    assert len(found) == 2 and sum("the same handshake" in text for text in found) == 1, found
