"""SMKEX over one MPTCP connection in the table: path 2 is a subflow of path 1's own connection, and what is believed is
how many bytes each subflow carried (smkex.md, section 13)."""

from mtlslab import smkex, tools

import attacks as a
from scene import ALTER, BOTH, SAFE
from smkex_rows import AS_AUTH, Smkex, _middle


class Links:
    """The attacker on both routers who knows MPTCP's options and keys (mptcp_link.py)."""

    path, record_file = 1, None

    def __init__(self, proc):
        self.proc = proc

    def events(self, event):
        return [line for line in self.proc.jsons("stdout") if line.get("event") == event]


class SmkexMptcp(Smkex):
    """smkex-client --over mptcp, with its helper. Path 2 goes to the service's own port."""

    path_2_bytes = smkex.INBAND  # what belongs to path 2; then either subflow carries data

    def serve(self, scene):
        scene.helper = smkex.Helper(scene.lab)
        # It takes either variant, so that an attacker's own plain TCP to it is served.
        served = smkex.Server(scene.lab, "--policy", "prefer", www=scene.www, over="mptcp,connections")
        served.path2_port = served.port
        return served

    def attackers_server(self, scene, ns, words, _cert, _key, _path2):
        evil = smkex.Server(scene.lab, *words, "--policy", "prefer", ns=ns, service=[],
                            listen=f"0.0.0.0:{scene.server.port}", over="mptcp")
        evil.path2_port = evil.port
        return evil

    def run(self, scene, deadline):
        return tools.Result(smkex.start_over(scene.lab, scene.server, scene.helper, "--policy", self.policy,
                                             "--deadline", deadline, get=a.PAGE))


ROW = SmkexMptcp("smkex-mptcp", "SMKEX, one MPTCP connection")


# ---- Attacks ------------------------------------------------------------------------------------

def exchange_by_tcp(scene):
    """a Diffie-Hellman exchange with each side on path 1, plain TCP to the client"""
    _middle(scene, "connection", "--to", f"{scene.server.host}:{scene.server.port}", "--alter", ALTER)
    scene.fetch()


def exchange_by_mptcp(scene):
    """a Diffie-Hellman exchange with each side on path 1, an MPTCP connection of their own to the client"""
    _exchange(scene)
    scene.fetch()


def _exchange(scene):
    """a Diffie-Hellman exchange with each side on path 1, an MPTCP connection of their own to the client"""
    _middle(scene, "answered", "--mptcp", "--to", f"{scene.server.host}:{scene.server.port}", "--alter", ALTER)


exchange_and_cut = a._both(_exchange, a._cut)
exchange_and_cut.__name__ = "exchange_cut"


def _links(action, event, says, *words):
    def attack(scene):
        found = Links(smkex.own_links(scene.lab, action, *[str(word(scene)) for word in words]))
        scene.attackers.append(found)
        scene.need.append((found, (event,)))
        scene.fetch()
    attack.__name__, attack.__doc__ = event, says
    return attack


PATH_1 = [
    (_links("flip", "flipped", "flip a bit of the server's share"), SAFE),
    (_links("repeat", "repeated", "repeat the server's first bytes as new ones, with forged data-sequence mappings"), SAFE),
    (_links("add-addr", "announced", "announce one more address of the server, with the right HMAC",
            lambda scene: scene.lab.server_addr(2)), SAFE),
    (_links("join", "joined", "join a third subflow with the keys that crossed path 1",
            lambda scene: scene.lab.client_addr(1) + "7"), SAFE)]
CARRY = [
    (_links("carry-s2c", "carried", "carry the server's bytes of path 2 over to path 1, under the right mapping"), SAFE),
    (_links("copy-s2c", "carried", "carry the server's bytes of path 2 over to path 1 as well, so that they are there first"),
     SAFE),
    (_links("carry-c2s", "carried", "carry what the client says from its confirmation on from path 2 over to path 1, under the right mapping: to "
            "the server, which refuses it"),
     SAFE)]
for (_attack, _), _name in zip(CARRY, ("carried_down", "copied_down", "carried_up")):
    _attack.__name__ = _name

PROMISED = {ROW.key: {
    "P-P": [(a.listen, SAFE)], "P-A": [(a.path_2_cut, SAFE)],
    "A-P": [(exchange_by_tcp, SAFE), (exchange_by_mptcp, SAFE), *PATH_1],
    "A/A": [(exchange_and_cut, SAFE)], "A/A-pre": "A/A",
    "A-A": [*CARRY, (a.synchronised_everywhere, BOTH)], **AS_AUTH}}
