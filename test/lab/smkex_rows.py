"""SMKEX in the table: its rows, and the attacks that are for it alone. Certificates play no part."""

from mtlslab import smkex, tools

import attacks as a
from scene import BALANCE, BOTH, FORGED, LONG, PAGE, SAFE
from victims import Row

ALTER = ["--alter", f"{BALANCE.decode()}={FORGED.decode()}"]


class Smkex(Row):
    """smkex-client and smkex-server. The server's policy is prefer, so that attackers who speak plain TCP to
    it are served and get the most that there is to get. known: the client remembers the server's key."""

    def __init__(self, key, title, single=False, known=False):
        super().__init__(key, title)
        self.single, self.known = single, known

    def hosts(self, scene):
        """The client is given the address."""

    def serve(self, scene):
        words = ["--policy", "prefer"]
        if self.known:
            words += ["--key", smkex.make_key(str(scene.folder), "server.key")]
        return smkex.Server(scene.lab, *words, www=scene.www, single=self.single)

    def run(self, scene, deadline):
        words = ["--hosts", scene.file("hosts")] if self.known else []
        return smkex.client(scene.lab, scene.server, "--deadline", deadline, *words, get=PAGE,
                            single=self.single)

    def prepare(self, scene):
        if self.known:
            result = self.run(scene, LONG)
            assert result.outcome == smkex.VERIFIED and result.line["key"] == "new", result

    def fetch(self, scene):
        result = self.run(scene, scene.deadline)
        said = {key: result.line.get(key) for key in ("outcome", "reason", "scope") if result.line.get(key)}
        return result.body, {"exit": result.code, **said}


ROWS = {
    "dh": Smkex("dh", "single-path Diffie-Hellman", single=True),
    "smkex": Smkex("smkex", "SMKEX, two connections"),
    "smkex-known": Smkex("smkex-known", "SMKEX, server key known, change refused", known=True),
}


# ---- Attacks ------------------------------------------------------------------------------------

def _middle(scene, event, *options):
    found = smkex.mitm(scene.lab, scene.folder, scene.server.port, *options)
    return scene._keep(found, event)


def exchange_with_each(scene):
    """do a Diffie-Hellman exchange with each side on path 1"""
    a._hear_path_2(scene)
    _middle(scene, "answered", *ALTER)
    scene.fetch()


def offer_unanswered(scene):
    """answer the OFFER as a server that does not speak SMKEX"""
    a._hear_path_2(scene)
    _middle(scene, "connection", "--strip")
    scene.fetch()


def offer_refused(scene):
    """refuse the OFFER in the server's name"""
    a._hear_path_2(scene)
    _middle(scene, "connection", "--refuse", 1)
    scene.fetch()


def share_changed(scene):
    """flip a bit of the server's share"""
    a._hear_path_2(scene)
    _middle(scene, "connection", "--flip", 30)
    scene.fetch()


def _exchange(scene):
    """a Diffie-Hellman exchange with each side on path 1"""
    _middle(scene, "answered", *ALTER)


exchange_and_cut = a._both(_exchange, a._cut)
exchange_and_forge = a._both(_exchange, a._forge)


def exchange_prepared(scene):
    """a Diffie-Hellman exchange with each side on path 1; proofs on path 2 under keys that they prepared"""
    _exchange(scene)
    scene.forge("--ek", "5a" * 64, "--th", "a5" * 32)
    scene.fetch()


def synchronised_smkex(scene):
    """one SMKEX server of theirs that has path 1 and, over their link, path 2"""
    lab, record = scene.lab, scene.file("stolen")
    scene.deadline = LONG
    middle = scene.spawn(1, "tls_mitm.py", "--plain-in", "--plain-out", "--to",
                         tools.join(scene.server.host, scene.server.port), "--name", scene.pki.name,
                         "--record", record, *ALTER, record=record)
    links = lab.link_routers(1, 2)
    evil = smkex.Server(lab, ns=lab.routers[1], address="0.0.0.0",
                        service=["--forward", f"127.0.0.1:{middle.port}"])
    lab.redirect(1, scene.server.port, evil.port)
    scene.attackers.append(middle)
    scene.steer(lab.routers[2], scene.server.path2_port, *links, evil.path2_port)
    scene.fetch()


for _attack in (exchange_and_cut, exchange_and_forge):
    _attack.__name__ = _attack.__name__.lstrip("_")


# ---- What is promised ---------------------------------------------------------------------------

def single_path():
    """Whoever acts on the path has everything."""
    won = [(exchange_with_each, BOTH)]
    return {"P-P": [(a.listen, SAFE)], "P-A": "P-P", "A-P": won, "A-P-rogue": "A-P", "A/A": "A-P",
            "A/A-rogue": "A-P", "A/A-pre": "A-P", "A-A": "A-P", "A-A-rogue": "A-P"}


def two_paths(path_2, both):
    """path_2: what happens to path 2 alone; both: what attackers on both with a link get."""
    apart = [(exchange_and_cut, SAFE), (exchange_and_forge, SAFE)]
    return {"P-P": [(a.listen, SAFE)], "P-A": path_2,
            "A-P": [(exchange_with_each, SAFE), (offer_unanswered, SAFE), (offer_refused, SAFE),
                    (share_changed, SAFE)],
            "A-P-rogue": "A-P", "A/A": apart, "A/A-rogue": "A/A",
            "A/A-pre": [(exchange_prepared, SAFE)], "A-A": [(synchronised_smkex, both)],
            "A-A-rogue": "A-A"}
