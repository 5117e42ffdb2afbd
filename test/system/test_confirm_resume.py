"""Confirmation by resumption (--confirm resume): stock servers that know nothing of Multipath TLS."""

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


def test_s_server_is_verified(lab, pki, www):
    server = stock.s_server(lab, pki, www=www)
    result = confirm(lab, pki, server)
    check.verified(result, None)
    verdict(result, "verified", "resumed")
    assert SECRET in result.body
    assert check.scope(result) == {"client"}
    assert [path["device"] for path in result.paths] == ["p1", "p2"]
