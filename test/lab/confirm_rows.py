"""Confirmation by resumption in the table: a stock server (nginx), our client, and the attacks that are for this alone
(protocol.md, section 20)."""

import os
import pathlib

from mtlslab import attack, stock, tools

import attacks as a
from scene import BOTH, LONG, SAFE
from victims import Multipath

PROXY = "location / {{ proxy_pass http://{to}; proxy_http_version 1.0; }} ssl_session_ticket_key {key};"


def new_ticket_key(scene, name):
    path = scene.file(name)
    with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
        file.write(os.urandom(80))
    return path


class At:
    """Where a server of these rows is: path 2 goes to the service itself."""

    def __init__(self, host, port, proc):
        self.host, self.port, self.path2_port, self.proc = host, port, port, proc


class ConfirmResume(Multipath):
    bytes_on_one_path = False  # two ClientHellos for one server have much in common

    def __init__(self, key, title, policy="require", extra=""):
        super().__init__(key, title, policy=policy)
        self.extra = extra

    def serve(self, scene):
        scene.ticket_key = new_ticket_key(scene, "ticket-key")
        extra = self.extra or f"ssl_session_ticket_key {scene.ticket_key};"
        server = stock.nginx(scene.lab, scene.pki, scene.folder / "nginx", scene.www, extra=extra)
        return At(scene.lab.addr, server.port, server.proc)

    @staticmethod
    def attackers_server(scene, ns, words, cert, key, _path2):
        """nginx with their certificate; what it decrypts goes on in plain to their interceptor."""
        given = dict(zip(words[::2], words[1::2]))
        extra = PROXY.format(to=given["--forward"],
                             key=given.get("--ticket-key") or new_ticket_key(scene, "their-ticket-key"))
        found = stock.nginx(scene.lab, scene.pki, scene.folder / f"nginx-{len(scene.attackers)}", scene.www,
                            extra=extra, ns=ns, address="0.0.0.0", cert=cert, key=key)
        return At("0.0.0.0", found.port, found.proc)

    def path2(self, scene):
        return [f"dev=p2,remote={scene.lab.addr}"]

    def start(self, scene, *options, deadline):
        return super().start(scene, "--confirm", "resume", *options, deadline=deadline)

    @staticmethod
    def words(result):
        said = Multipath.words(result)
        if result.line.get("verdict"):
            said["verdict"] = result.line["verdict"]
        return said


class StolenTicketKey(ConfirmResume):
    """mtls-server with Multipath TLS off, on both sides: nginx binds its tickets to its certificate as well."""

    def serve(self, scene):
        scene.ticket_key = new_ticket_key(scene, "ticket-key")
        return self._server(scene, ["--ticket-key", scene.ticket_key], www=scene.www)

    @staticmethod
    def _server(scene, words, **options):
        server = tools.Server(scene.lab, scene.pki, *words, path2=False, policy="off", **options)
        server.path2_port = server.port
        return server

    def attackers_server(self, scene, ns, words, cert, key, _path2):
        return self._server(scene, words, ns=ns, cert=cert, key=key, listen=f"0.0.0.0:{scene.server.port}")


# ---- Attacks ------------------------------------------------------------------------------------

def path_2_intercepted(scene):
    """record path 1; end the client's TLS on path 2 with a certificate of theirs"""
    scene.record(1)
    scene.mitm(path=2)
    scene.fetch()


def without_tickets(scene):
    """end the client's TLS on path 1, and give it no ticket"""
    a._hear_path_2(scene)
    scene.mitm(options=["--no-tickets"])
    scene.fetch()


def both_intercepted(scene):
    """one TLS server of theirs on each path, with the same certificate"""
    scene.own_server()
    second = scene.row.attackers_server(scene, scene.lab.routers[2], ["--forward", "127.0.0.1:9"],
                                        scene.pki.rogue_cert, scene.pki.rogue_key, None)
    scene.steer_here(2, second.port)
    scene.fetch()


def both_with_prepared_key(scene):
    """one TLS server of theirs on each path, with a ticket key that they made before"""
    key = new_ticket_key(scene, "prepared")
    scene.own_server(ticket_key=key)
    second = scene.row.attackers_server(scene, scene.lab.routers[2], ["--forward", "127.0.0.1:9", "--ticket-key", key],
                                        scene.pki.rogue_cert, scene.pki.rogue_key, None)
    scene.steer_here(2, second.port)
    scene.deadline = LONG
    scene.fetch()


def relayed_ticket(scene):
    """end the client's TLS on path 1, and pass the real server's own ticket on"""
    record = scene.file("stolen")
    pathlib.Path(record).touch()
    proc = scene.lab.spawn(scene.lab.routers[1], [scene.mitm_ticket, scene.pki.rogue_cert, scene.pki.rogue_key,
                                                  scene.server.host, str(scene.server.port), record],
                           name="mitm_ticket")
    found = attack.Attacker(proc, record)
    scene.lab.redirect(1, scene.server.port, found.port)
    scene._keep(found, "passed-on")
    scene.fetch()


def stolen_ticket_key(scene):
    """a server of theirs on path 1 with the real server's stolen ticket key, path 2 untouched"""
    scene.own_server(ticket_key=scene.ticket_key)
    scene.deadline = LONG
    scene.fetch()


def stolen_certificate_key(scene):
    """a server of theirs on path 1 with the real server's stolen private key, path 2 untouched"""
    scene.own_server(cert=scene.pki.cert, key=scene.pki.key)
    scene.deadline = LONG
    scene.fetch()


# ---- What is promised ---------------------------------------------------------------------------

VERIFIED_ONLY = ConfirmResume("confirm-resume", "`confirm=resume`, verified only")
UNPROVEN = ConfirmResume("confirm-unproven", "`confirm=resume`, unproven allowed", policy="prefer")


def promised(unproven):
    """unproven: what becomes of a session that is neither verified nor an alarm."""
    return {
        "P-P": [(a.listen, SAFE)], "P-A": [(path_2_intercepted, SAFE), (a.path_2_cut, SAFE)],
        "A-P": [(a.interception, SAFE), (a.downgraded, SAFE), (a.record_changed, SAFE), (a.answer_cut, SAFE)],
        "A-P-rogue": [(a.interception, SAFE), (without_tickets, SAFE), (a.with_tls_1_2, unproven)],
        "A/A": [(a.strip_and_cut, SAFE)],
        "A/A-rogue": [(a.strip_and_cut, unproven), (both_intercepted, unproven)],
        "A/A-pre": [(both_with_prepared_key, BOTH)],
        "A-A": [(a.synchronised_everywhere, SAFE)],
        "A-A-rogue": [(a.synchronised_everywhere, BOTH)],
    }


PROMISED = {VERIFIED_ONLY.key: promised(SAFE), UNPROVEN.key: promised(BOTH)}
FURTHER = [(ConfirmResume("confirm-stateful", "`confirm=resume`, a server that keeps its sessions", policy="prefer",
                          extra="ssl_session_tickets off; ssl_session_cache shared:s:1m;"), [(relayed_ticket, True, SAFE)]),
           (ConfirmResume("confirm-stolen-key", "`confirm=resume`, verified only"), [(stolen_certificate_key, False, SAFE)])]
ASSUMPTIONS = [(StolenTicketKey("confirm-stolen-ticket-key", "`confirm=resume`, the server's ticket key stolen"),
                [(stolen_ticket_key, True, BOTH)])]
