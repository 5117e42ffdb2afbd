"""SMKEX in the table: its rows, and the attacks that are for it alone. Certificates play no part."""

from mtlslab import smkex, tools

import attacks as a
from scene import ALTER, BOTH, LONG, PAGE, SAFE
from victims import Multipath, Row


class Smkex(Row):
    """smkex-client and smkex-server. The server's policy is prefer, so that an attacker that speaks plain
    TCP to it is served."""

    onward = ["--plain-in", "--plain-out"]
    bytes_on_one_path = True

    def __init__(self, key, title, policy="require", single=False, known=False):
        super().__init__(key, title)
        self.policy, self.single, self.known = policy, single, known

    def serve(self, scene):
        words = ["--key", smkex.make_key(scene.folder, "key")] if self.known else []
        if not self.single:
            words += ["--policy", "prefer"]
        served = smkex.Server(scene.lab, *words, www=scene.www, single=self.single)
        served.path2_port = served.path2_port or scene.lab.port()
        return served

    def hosts(self, scene):
        """It is reached by address: it has no name."""

    def attackers_server(self, scene, ns, words, _cert, _key, path2):
        if self.known:
            words = [*words, "--key", smkex.make_key(scene.folder, "evil")]
        return smkex.Server(scene.lab, *words, "--policy", "prefer", ns=ns, service=[],
                            listen=f"0.0.0.0:{scene.server.port}", path2_listen=path2)

    def run(self, scene, deadline):
        words = ["--hosts", scene.file("kept")] if self.known else []
        if not self.single:
            words += ["--policy", self.policy]
        return tools.Result(smkex.start_client(scene.lab, scene.server, *words, "--deadline", deadline,
                                               single=self.single, get=PAGE))

    def prepare(self, scene):
        if self.known:
            result = self.run(scene, LONG)
            assert result.line.get("key") == "new", result

    def fetch(self, scene):
        result = self.run(scene, scene.deadline)
        return result.body, Multipath.words(result)


ROWS = {row.key: row for row in (
    Smkex("dh", "single-path Diffie-Hellman", single=True),
    Smkex("dh-known", "single-path Diffie-Hellman, server key known", single=True, known=True),
    Smkex("smkex", "SMKEX, two connections, `require`"),
    Smkex("smkex-known", "SMKEX, server key known, change refused", known=True),
    Smkex("smkex-prefer", "SMKEX, `prefer`, first contact", policy="prefer"))}


# ---- Attacks ------------------------------------------------------------------------------------

def _middle(scene, event, *options):
    found = smkex.mitm(scene.lab, scene.folder, scene.server.port, *options)
    return scene._keep(found, event)


def exchange_with_each(scene):
    """do a Diffie-Hellman exchange with each side on path 1"""
    a._hear_path_2(scene)
    _middle(scene, "answered", "--alter", ALTER)
    scene.fetch()


def offer_unanswered(scene):
    """answer the OFFER as a server that does not speak SMKEX, sit in the plain TCP that follows"""
    a._hear_path_2(scene)
    _deaf(scene)
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
    _middle(scene, "answered", "--alter", ALTER)


exchange_and_cut = a._both(_exchange, a._cut)


def _forge(scene):
    """proofs on path 2 under keys of their own"""
    scene.forge("--label", "smkex1")


exchange_and_forge = a._both(_exchange, _forge)


def exchange_keeping_signature(scene):
    """do a Diffie-Hellman exchange with each side, the server's key and signature passed on"""
    a._hear_path_2(scene)
    _middle(scene, "answered", "--signature", "keep")
    scene.fetch()


def _deaf(scene):
    """answer the OFFER as a server that does not speak SMKEX, sit in the plain TCP that follows"""
    scene.mitm(plain=True, options=["--deaf", "0xf0"])


offer_deaf_and_cut = a._both(_deaf, a._cut)


def prepared_smkex(scene):
    """an SMKEX server of theirs on path 1, proofs on path 2 under the keys of a session that they prepared"""
    scene.own_server()
    scene.forge("--label", "smkex1", "--ek", "5a" * 64, "--th", "a5" * 32)
    scene.fetch()


for _attack in (exchange_and_cut, exchange_and_forge, offer_deaf_and_cut):
    _attack.__name__ = _attack.__name__.lstrip("_")


# ---- What is promised ---------------------------------------------------------------------------

AS_AUTH = {"A-P-rogue": "A-P", "A/A-rogue": "A/A", "A-A-rogue": "A-A"}  # certificates play no part


def single_path(*attacks):
    """One path: what is done on path 2 does not matter."""
    return {"P-P": [(a.listen, SAFE)], "P-A": "P-P", "A-P": list(attacks), "A/A": "A-P", "A/A-pre": "A-P",
            "A-A": "A-P", **AS_AUTH}


def two_paths(path_2, both, stripped=SAFE):
    """path_2: what happens to path 2 alone; both: what attackers on both with a link get; stripped: what those get
    who hide SMKEX on both."""
    hidden = [] if stripped == SAFE else [(offer_deaf_and_cut, stripped)]
    return {"P-P": [(a.listen, SAFE)], "P-A": path_2,
            "A-P": [(exchange_with_each, SAFE), (offer_unanswered, SAFE), (offer_refused, SAFE),
                    (share_changed, SAFE)],
            "A/A": [(exchange_and_cut, SAFE), (exchange_and_forge, SAFE), (offer_deaf_and_cut, stripped)],
            "A/A-pre": [(prepared_smkex, SAFE), *hidden], "A-A": [(a.synchronised_everywhere, both)],
            **AS_AUTH}


def promised(path_2):
    """For each row."""
    return {"dh": single_path((exchange_with_each, BOTH)),
            "dh-known": single_path((exchange_with_each, SAFE), (exchange_keeping_signature, SAFE)),
            "smkex": two_paths(path_2, BOTH), "smkex-known": two_paths(path_2, SAFE),
            "smkex-prefer": two_paths(path_2, BOTH, BOTH)}
