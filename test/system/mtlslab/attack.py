"""Puts the attackers of test/system/attackers into a laboratory."""

import json
import os
import sys

from cryptography.hazmat.primitives import serialization

from . import netns, tools

ATTACKERS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "attackers")


class Attacker:
    """A running attacker and what it reported."""

    def __init__(self, proc, record=None):
        self.proc, self.record_file = proc, record
        self.port = proc.wait_json("stdout", event="listening")["port"]

    def events(self, event):
        return [line for line in self.proc.jsons("stdout") if line.get("event") == event]

    def wait(self, event, **match):
        return self.proc.wait_json("stdout", event=event, **match)

    @property
    def record(self):
        """The plaintext it has got so far."""
        with open(self.record_file, "rb") as file:
            return file.read()


def program(name):
    return [sys.executable, os.path.join(ATTACKERS, name)]


def tls_mitm(lab, pki, tmp_path, port, path=1, cert=None, key=None, options=()):
    """A TLS-terminating interceptor for this port on a path; it strips our extension."""
    record = str(tmp_path / f"stolen-{port}")
    proc = lab.spawn(lab.routers[path], program("tls_mitm.py") + [
        "--cert", cert or pki.rogue_cert, "--key", key or pki.rogue_key, "--name", pki.name,
        "--record", record, *options], name="tls_mitm")
    attacker = Attacker(proc, record)
    lab.redirect(path, port, attacker.port)
    return attacker


class Stranger:
    """A third party's program: what it keeps is read from its file."""

    def __init__(self, proc, record, port):
        self.proc, self.record_file, self.port = proc, record, port

    @property
    def record(self):
        if not os.path.exists(self.record_file):
            return b""
        with open(self.record_file, "rb") as file:
            return file.read()


def mitmproxy(lab, pki, tmp_path, port, path=1):
    """Somebody else's man in the middle, which makes a certificate for each name by the rogue authority."""
    folder, own, record = tmp_path / "mitmproxy", lab.port(), str(tmp_path / f"flows-{port}")
    folder.mkdir()
    with open(pki.rogue.cafile, "rb") as cert, open(folder / "mitmproxy-ca.pem", "wb") as out:
        out.write(pki.rogue.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()))
        out.write(cert.read())
    proc = lab.spawn(lab.routers[path], [
        tools.which("mitmdump"), "--mode", "transparent", "--showhost", "--ssl-insecure", "--listen-port", str(own),
        "--set", f"confdir={folder}", "--set", "flow_detail=0", "-w", record], name="mitmdump")
    proc.wait_listening(own)
    lab.redirect(path, port, own)
    return Stranger(proc, record, own)


def ext_mitm(lab, pki, tmp_path, binary, port, *options, path=1):
    """The interceptor that carries our extension over, or (--answer) answers it."""
    record = str(tmp_path / f"stolen-ext-{port}")
    proc = lab.spawn(lab.routers[path], [binary, *options, pki.rogue_cert, pki.rogue_key, pki.name, record],
                     name="mitm_ext")
    attacker = Attacker(proc, record)
    lab.redirect(path, port, attacker.port)
    return attacker


def path2_relay(lab, port, *options, path=2):
    """A man in the middle on path 2; options as in path2_relay.py."""
    proc = lab.spawn(lab.routers[path], program("path2_relay.py") + [str(o) for o in options],
                     name="path2_relay")
    attacker = Attacker(proc)
    lab.redirect(path, port, attacker.port)
    return attacker


def path1_copy(lab, port, *options, path=1):
    """Passes path 1 on, copying or delaying the first flight."""
    proc = lab.spawn(lab.routers[path], program("path1_copy.py") + [str(o) for o in options],
                     name="path1_copy")
    attacker = Attacker(proc)
    lab.redirect(path, port, attacker.port)
    return attacker


def dns(lab, ns, address, port=53, **names):
    """A resolver; names with '_' for '.'."""
    words = [f"{name.replace('_', '.')}={value}" for name, value in names.items()]
    return Attacker(lab.spawn(ns, program("dns_answer.py") + [address, str(port)] + words,
                              name="dns"))


class Sniffer:
    """Where a connection on a link stands."""

    def __init__(self, proc):
        self.proc = proc
        proc.wait_json("stdout", event="sniffing")

    def at(self):
        """The last segment that carried an acknowledgement, after data was sent."""
        return self.proc.wait_until(self._last, "segment with data")

    def _last(self):
        seen = [line for line in self.proc.jsons("stdout") if line.get("event") == "segment"]
        return seen[-1] if len(seen) >= 3 else None


def sniff(lab, ns, device, port):
    return Sniffer(lab.spawn(ns, program("inject.py") + ["sniff", device, str(port)],
                             name="sniffer"))


def inject(lab, at, data, path=1):
    """Writes data into the connection from the network of a path."""
    mac = json.loads(netns.ip(lab.client, "-j", "link", "show", f"p{path}"))[0]["address"]
    proc = lab.spawn(lab.routers[path], program("inject.py") + ["send", "c", mac], name="injector",
                     stdin=(json.dumps({**at, "data": data.hex()}) + "\n").encode())
    proc.wait_json("stdout", event="sent")
    assert proc.wait() == 0


WIRE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wire.py")


def _claims(lab, server, options, stdin):
    proc = lab.spawn(lab.client, [sys.executable, WIRE, server.host, str(server.path2_port),
                                  str(server.port), *options], name="claims", stdin=stdin)
    proc.wait_json("stdout", event="done")
    return [line for line in proc.jsons("stdout") if "type" in line]


def raw_claim(lab, server, *options):
    """A HELLO of our own (random secret, or --hex); what came back within a second of READY."""
    return _claims(lab, server, ["--listen-for", "1", *options], None)


def fill_waiting(lab, server, count, device="p2"):
    """Leaves count claims waiting at the server, and checks that the next one is told busy."""
    lines = _claims(lab, server, ["--count", str(count + 1), "--device", device], True)
    assert [line["status"] for line in lines] == [0] * count + [1], lines
