"""mtlsize run --confirm: an untouched nginx is verified over two paths, and a man in the middle is an alarm that
explains itself. What the preloaded library does is tested in test_preload_confirm.py. [RSM-2]"""

import json

from conftest import SECRET
from mtlslab import attack, check, stock, tools
from preload_tools import curl_argv


def run(lab, pki, port, *flags, cafile=None):
    lab.hosts(lab.client, server_example=lab.addr)
    return lab.run(lab.client, [tools.tool("mtlsize"), "run", *flags, "--path2", f"dev=p2,remote={lab.addr}",
                                *curl_argv(pki, lab.addr, port, cafile=cafile)])


def summary(proc):
    [line] = [json.loads(text) for text in proc.lines() if text.startswith('{"event": "run"')]
    return line


def test_untouched_nginx(lab, pki, www, tmp_path):
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    proc = run(lab, pki, server.port, "-v", "--confirm", "resume")
    assert proc.wait() == 0 and SECRET in proc.stdout, proc.log()
    assert b"1 verified, 0 resumed, 0 plain TLS, 0 failed, 0 refused; by resumption: 1 verified\n" in proc.stderr, proc.log()
    plain = run(lab, pki, server.port, "--confirm", "exporter")
    assert plain.wait() != 0 and SECRET not in plain.stdout, plain.log()


def test_man_in_the_middle(lab, pki, www, tmp_path):
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    proc = run(lab, pki, server.port, "--confirm", "resume", cafile=pki.bundle)
    assert proc.wait() != 0 and SECRET not in proc.stdout, proc.log()
    assert b"curl: ALARM, refused: " in proc.stderr and b"1 alarm" in proc.stderr, proc.log()
    proc = run(lab, pki, server.port, "--json", "--confirm", "resume", cafile=pki.bundle)
    assert proc.wait() != 0 and summary(proc)["by_resumption"] == {
        "verified": 0, "consistent": 0, "unproven": 0, "alarm": 1}, proc.log()
    check.nothing_stolen(mitm)


def test_not_confirmed_under_prefer(lab, pki, www, tmp_path):
    """A server that forgets its sessions shows its key alone: let through under prefer, and named."""
    server = stock.nginx(lab, pki, tmp_path / "nginx", www, extra="ssl_session_tickets off; ssl_session_cache off;")
    proc = run(lab, pki, server.port, "--confirm", "resume", "--policy", "prefer")
    assert proc.wait() == 0 and SECRET in proc.stdout, proc.log()
    assert b"ordinary TLS, not confirmed: server.example" in proc.stderr and b"(consistent: not-resumed)" in proc.stderr, proc.log()
    assert run(lab, pki, server.port, "--confirm", "resume").wait() != 0
