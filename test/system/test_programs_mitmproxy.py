"""mitmproxy, a man in the middle that somebody else wrote, with the rogue authority on path 1: it reads what plain TLS sends,
and nothing of those who confirm over path 2."""

import pytest

from conftest import SECRET
from mtlslab import attack, stock, tools
from test_confirm_resume import confirm, failed


def read_plain_tls_alone(lab, pki, mitm, port):
    """The positive twin; it must be all that the attacker has."""
    done = tools.curl(lab, pki, lab.addr, port, cafile=pki.bundle)
    assert done.wait() == 0 and SECRET in done.stdout, done.log()
    mitm.proc.stop()
    assert mitm.record.count(SECRET) == 1, mitm.proc.log()


def test_confirmation_by_resumption(lab, pki, www, tmp_path):
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    mitm = attack.mitmproxy(lab, pki, tmp_path, server.port)
    failed(confirm(lab, pki, server, cafile=pki.bundle), "alarm", "other-key")
    read_plain_tls_alone(lab, pki, mitm, server.port)


@pytest.mark.parametrize("policy", ["require", "prefer"])
def test_multipath_tls(lab, pki, www, tmp_path, policy):
    server = tools.Server(lab, pki, www=www, policy="prefer")
    mitm = attack.mitmproxy(lab, pki, tmp_path, server.port)
    result = tools.client(lab, pki, server, policy=policy, cafile=pki.bundle)
    assert result.code == tools.EXIT_UNVERIFIED and result.outcome == "failed", result
    read_plain_tls_alone(lab, pki, mitm, server.port)
