"""smkex-server and smkex-client inside a laboratory, and the attackers that are for them alone."""

import os
import subprocess

from . import attack, netns, tools
from .tools import REPO, Result, join, spec, split, tool

VERIFIED, SINGLE, PLAIN, FAILED = "verified", "single-path", "plain", "failed"


class Server:
    """A running smkex-server."""

    def __init__(self, lab, *options, www=None, path2=True, single=False, ns=None, address=None,
                 service=None, listen=None, path2_listen=None, over=None):
        address = address or lab.addr
        argv = [tool("smkex-server"), "--json", "--listen", listen or join(address, 0)]
        if single:
            argv += ["--single-path"]
        elif path2 and over != "mptcp":
            argv += ["--path2-listen", path2_listen or join(address, 0)]
        argv += ["--over", over] if over else []
        argv += ["--www", str(www)] if www else ["--echo"] if service is None else service
        self.proc = lab.spawn(ns or lab.server, argv + [str(word) for word in options],
                              name="smkex-server", env=tools._SANITIZER)
        line = self.proc.wait_json(event="listening")
        self.host, self.port = split(line["listen"][0])
        self.path2_port = split(line["path2"][0])[1] if line["path2"] else None

    def session(self, number=0):
        return self.proc.wait_json(event="session", skip=number)


INBAND = 83 + 115 + 8 + 43 + 8  # HELLO, READY and PROOF, CONFIRM, with their prefaces: the bytes of path 2 in one connection


class Helper:
    """A running mtls-mptcp-helper in the client's namespace, whose path manager is set for it."""

    def __init__(self, lab, manager=True, folder=None):
        netns.sysctl(lab.client, {"net.mptcp.pm_type": int(manager)})
        self.path = os.path.join(folder or os.path.join(netns.ETC, lab.client), "mptcp-helper")  # where every user comes
        self.proc = lab.spawn(lab.client, [tool("mtls-mptcp-helper"), "--listen", self.path],
                              name="mtls-mptcp-helper", env=tools._SANITIZER)
        self.proc.wait_text("listening", "stderr")


def over_spec(lab, path=2):
    """The second subflow leaves by this path, for the service's own address."""
    return f"dev=p{path},local={lab.client_addr(path)}"


def start_over(lab, server, helper, *options, over="mptcp", path2=None, **words):
    path2 = path2 or [over_spec(lab)]
    return start_client(lab, server, "--over", over, "--mptcp-helper", helper.path, *options, path2=path2, **words)


def start_client(lab, server, *options, path2=None, single=False, get="/file", stdin=None,
                 port=None, prefix=()):
    """path2: None = one path over p2, [] = none, or a list of specifications."""
    argv = [tool("smkex-client"), join(server.host, port or server.port), "--json"]
    if single:
        argv += ["--single-path"]
    else:
        for words in [spec(lab, server)] if path2 is None else path2:
            argv += ["--path2", words]
    argv += ["--get", get] if get else []
    return lab.spawn(lab.client, [*prefix, *argv, *(str(word) for word in options)], name="smkex-client",
                     stdin=stdin, env=tools._SANITIZER)


def client(lab, server, *options, **words):
    return Result(start_client(lab, server, *options, **words))


def expect(result, outcome, body=None, **members):
    assert result.code == 0 and result.outcome == outcome, result
    for name, value in members.items():
        assert result.line[name] == value, result
    if body is not None:
        assert result.body == body, result
    return result


def refused(result, *reasons):
    """Nothing came through, and the reason is one of these."""
    assert result.code == tools.EXIT_UNVERIFIED and result.outcome == FAILED, result
    assert result.reason in reasons, result
    assert result.body == b"", result
    return result


def make_key(folder, name):
    path = os.path.join(folder, name)
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True,
                   capture_output=True)
    return path


def mitm(lab, tmp_path, port, *options, path=1):
    """A man in the middle of path 1 who does a Diffie-Hellman exchange with each side."""
    record = str(tmp_path / f"stolen-smkex-{port}-{len(options)}")
    env = {"PYTHONPATH": os.path.join(REPO, "test", "reference")}
    proc = lab.spawn(lab.routers[path], attack.program("smkex_mitm.py") + [
        "--record", record, *[str(o) for o in options]], name="smkex_mitm", env=env)
    attacker = attack.Attacker(proc, record)
    lab.redirect(path, port, attacker.port)
    return attacker


def hijack(lab, path, port, to, table="hijack"):
    """The router sends connections to this port to another one of the server's host: an attacker who owns
    the network just before it."""
    netns.nft(lab.routers[path], f"""
table ip {table}{port} {{
  chain before {{
    type nat hook prerouting priority -100;
    iifname "c" tcp dport {port} dnat to {lab.addr}:{to}
  }}
}}
""")


def delay(lab, path, rtt_ms):
    """What the router of a path forwards takes half of the round trip each way."""
    router = lab.routers[path]
    proc = lab.spawn(router, attack.program("delay_link.py") + ["delay", str(rtt_ms / 2)],
                     name="delay_link")
    proc.wait_json("stdout", event="ready")
    netns.ip_batch(router, ["link set delay up", "route add default dev delay table 100",
                            "rule add iif c lookup 100 pref 10",
                            "rule add iif s lookup 100 pref 10"])
    return proc


def own_links(lab, action, *words):
    """An attacker on both paths' routers who knows Multipath TCP (mptcp_link.py)."""
    proc = lab.spawn(None, attack.program("mptcp_link.py") + [action, lab.routers[1], lab.routers[2], *words],
                     name="mptcp_link")
    proc.wait_json("stdout", event="ready")
    for path in (1, 2):
        netns.ip_batch(lab.routers[path], [
            "link set tapped up", "route add default dev tapped table 100",
            "rule add iif c lookup 100 pref 10", "rule add iif s lookup 100 pref 10"])
    return proc


def capture(lab, ns, device, port):
    """Segments with data of the connections to this port, as the device shows them."""
    proc = lab.spawn(ns, attack.program("capture.py") + [device, str(port)], name="capture")
    proc.wait_json("stdout", event="ready")
    return proc
