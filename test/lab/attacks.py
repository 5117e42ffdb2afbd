"""The attacks of the table. Each is a function of a Scene whose server runs already: it puts attackers onto the
network, lets the client fetch, and leaves the verdict to the attackers' records. Its first line of
documentation is what the table says about it."""

import re

from mtlslab import attack
from scene import LONG, PAGE

EXTENSION = "0xff4d"


# ---- P-P: both listen ---------------------------------------------------------------------------

def listen(scene):
    """record every byte of both paths, look for bytes that are on both"""
    for path in scene.lab.routers:
        scene.record(path)
    scene.deadline, scene.delivers = LONG, True
    scene.fetch()


# ---- P-A: path 1 is listened to, path 2 is the attackers' ----------------------------------------

def _hear_path_1(scene):
    scene.record(1)


def path_2_changed(scene):
    """record path 1; flip a bit of the proof on path 2"""
    _hear_path_1(scene)
    scene.frames("--modify", "proof:2")
    scene.fetch()


def path_2_forged(scene):
    """record path 1; answer path 2 in the server's place, with proofs under keys of their own"""
    _hear_path_1(scene)
    scene.forge()
    scene.fetch()


SLOWER = 1000  # ms: by so much one path is slower than the other, so that their order is certain


def _slow_path_1(scene):
    scene._keep(attack.path2_relay(scene.lab, scene.server.port, "--delay-down", str(SLOWER), path=1), "connection")


def path_2_changed_first(scene):
    """record path 1; flip a bit of the proof on path 2, while path 1 answers later"""
    _slow_path_1(scene)
    path_2_changed(scene)


def path_2_forged_first(scene):
    """record path 1; answer path 2 in the server's place, with proofs under keys of their own, while path 1 answers later"""
    _slow_path_1(scene)
    path_2_forged(scene)


def path_2_changed_late(scene):
    """record path 1; flip a bit of the proof on path 2, and let it pass after path 1 has answered"""
    _hear_path_1(scene)
    scene.frames("--modify", "proof:2", "--hold", f"proof:{SLOWER}")
    scene.fetch()


def path_2_cut(scene):
    """record path 1; refuse path 2"""
    _hear_path_1(scene)
    scene.cut()
    scene.fetch()


def path_2_copied(scene):
    """record path 1; copy the claim on path 2 onto a connection of their own"""
    _hear_path_1(scene)
    scene.frames("--copy")
    scene.deadline, scene.delivers = LONG, True
    scene.fetch()


def one_proof_missing(scene):
    """record path 1; drop the proof on path 2, look for an early CONFIRM on path 3"""
    _hear_path_1(scene)
    scene.frames("--drop", "proof")
    scene.frames(path=3)
    scene.fetch()


# ---- A-P: path 1 is the attackers', path 2 is listened to ----------------------------------------

def _hear_path_2(scene):
    for path in scene.lab.routers:
        if path > 1:
            scene.record(path)


def tcp_altered(scene):
    """sit in path 1's TCP and alter the answer"""
    _hear_path_2(scene)
    scene.mitm(plain=True)
    scene.fetch()


def interception(scene):
    """end the client's TLS on path 1, their own TLS to the server"""
    _hear_path_2(scene)
    scene.mitm()
    scene.fetch()


def carried_over(scene):
    """end the client's TLS on path 1, extension and answer carried over to the server and back"""
    _hear_path_2(scene)
    scene.carry()
    scene.fetch()


def answered(scene):
    """end the client's TLS on path 1, answer the extension themselves"""
    _hear_path_2(scene)
    scene.answer()
    scene.fetch()


def with_tls_1_2(scene):
    """end the client's TLS on path 1, with TLS 1.2"""
    _hear_path_2(scene)
    scene.mitm(options=["--tls12"])
    scene.fetch()


def stripped(scene):
    """remove the extension from the ClientHello, without a key"""
    _hear_path_2(scene)
    scene.edit("--strip", EXTENSION)
    scene.fetch()


def record_changed(scene):
    """flip a bit of the server's first protected record"""
    _hear_path_2(scene)
    scene.edit("--flip-down", 1)
    scene.fetch()


def answer_cut(scene):
    """end path 1 in the server's name in the middle of the answer"""
    _hear_path_2(scene)
    scene.edit("--fin-down", 6000)
    scene.deadline = LONG
    scene.fetch()


def downgraded(scene):
    """remove supported_versions, so that TLS 1.2 would be spoken"""
    _hear_path_2(scene)
    scene.edit("--strip", "43")
    scene.fetch()


def slow_ready(scene):
    """end the client's TLS on path 1, while path 2 by itself is slower than the grace"""
    _hear_path_2(scene)
    scene.mitm()
    scene.frames("--hold", "ready:4000")  # the network's own slowness: no attacker is there
    scene.deadline = LONG
    scene.fetch()


# ---- A/A: both active, no channel between them ---------------------------------------------------

def _both(path_1, path_2):
    def attack(scene):
        path_1(scene)
        path_2(scene)
        scene.fetch()
    attack.__name__ = f"{path_1.__name__}_{path_2.__name__}"
    attack.__doc__ = f"{path_1.__doc__}; {path_2.__doc__}"
    return attack


def _strip(scene):
    """end the client's TLS on path 1"""
    scene.mitm()


def _carry(scene):
    """end the client's TLS on path 1, extension carried over"""
    scene.carry()


def _cut(scene):
    """path 2 refused"""
    for path in scene.lab.routers:
        if path > 1:
            scene.cut(path)


def _forge(scene):
    """proofs on path 2 under keys of their own"""
    for path in scene.lab.routers:
        if path > 1:
            scene.forge(path=path)


def _not_here(scene):
    """READY{not-here} on path 2"""
    for path in scene.lab.routers:
        if path > 1:
            scene.forge("--status", "not-here", path=path)


strip_and_cut = _both(_strip, _cut)
strip_and_not_here = _both(_strip, _not_here)
carry_and_cut = _both(_carry, _cut)
carry_and_forge = _both(_carry, _forge)


def prepared(scene):
    """one TLS server of theirs on path 1, proofs on path 2 under the keys of a session that they prepared"""
    scene.own_server()
    for path in scene.lab.routers:
        if path > 1:
            scene.forge("--ek", "5a" * 64, "--th", "a5" * 32, path=path)
    scene.fetch()


# ---- A-A: both active, with a link ---------------------------------------------------------------

def _secondary(scene):
    return [path for path in scene.lab.routers if path > 1]


def synchronised(scene):
    """one Multipath TLS server of theirs that has path 1 and, over their link, path 2 alone"""
    scene.synchronised(2)
    scene.fetch()


def synchronised_everywhere(scene):
    """the same with every path"""
    scene.deadline = LONG
    scene.synchronised(*_secondary(scene))
    scene.fetch()


def tcp_altered_everywhere(scene):
    """sit in path 1's TCP and alter the answer"""
    scene.mitm(plain=True)
    scene.fetch()


def name_of(attack):
    return re.sub(r"^_", "", attack.__name__).replace("__", "_").replace("_", "-")


def says(attack):
    return " ".join(attack.__doc__.split())
