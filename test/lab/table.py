"""The table: columns, and for each row what is promised against each attack."""

import attacks as a
import confirm_rows
import mptcp_rows
import smkex_rows
from scene import BOTH, READ, SAFE

# key, heading, does the client trust the authority of the attackers' certificate
COLUMNS = [
    ("P-P", "P-P", False), ("P-A", "P-A", False),
    ("A-P", "A-P auth", False), ("A-P-rogue", "A-P rogue", True),
    ("A/A", "A/A auth", False), ("A/A-rogue", "A/A rogue", True), ("A/A-pre", "A/A rogue, pre", True),
    ("A-A", "A-A auth", False), ("A-A-rogue", "A-A rogue", True),
]

PATH_2 = [(a.path_2_changed, SAFE), (a.path_2_forged, SAFE), (a.path_2_cut, SAFE),
          (a.path_2_copied, SAFE)]
KEYLESS = [(a.stripped, SAFE), (a.downgraded, SAFE), (a.record_changed, SAFE), (a.answer_cut, SAFE),
           (a.carried_over, SAFE)]


def tcp():
    """Nothing protects it; certificates play no part."""
    both = [(a.tcp_altered_everywhere, BOTH)]
    return {"P-P": [(a.listen, READ)], "P-A": [(a.listen, READ)], "A-P": [(a.tcp_altered, BOTH)],
            "A-P-rogue": "A-P", "A/A": both, "A/A-rogue": "A/A", "A/A-pre": "A/A", "A-A": both,
            "A-A-rogue": "A-A"}


def tls():
    """One path: what is done on path 2 does not matter."""
    return {"P-P": [(a.listen, SAFE)], "P-A": "P-P",
            "A-P": [(a.interception, SAFE), (a.downgraded, SAFE), (a.record_changed, SAFE),
                    (a.answer_cut, SAFE)],
            "A-P-rogue": [(a.interception, BOTH)], "A/A": "A-P", "A/A-rogue": "A-P-rogue",
            "A/A-pre": "A-P-rogue", "A-A": "A-P", "A-A-rogue": "A-P-rogue"}


def multipath(**other):
    """What `require` promises; a row names what is otherwise with it."""
    promised = {
        "P-P": [(a.listen, SAFE)], "P-A": PATH_2, "A-P": KEYLESS,
        "A-P-rogue": [(a.interception, SAFE), (a.carried_over, SAFE), (a.answered, SAFE),
                      (a.with_tls_1_2, SAFE)],
        "A/A": [(a.strip_and_cut, SAFE), (a.carry_and_forge, SAFE)],
        "A/A-rogue": [(a.strip_and_cut, SAFE), (a.strip_and_not_here, SAFE), (a.carry_and_cut, SAFE),
                      (a.carry_and_forge, SAFE)],
        "A/A-pre": [(a.prepared, SAFE)],
        "A-A": [(a.synchronised_everywhere, SAFE)],
        "A-A-rogue": [(a.synchronised_everywhere, BOTH)],
    }
    promised.update(other)
    return promised


PROMISED = {
    **confirm_rows.PROMISED,
    **mptcp_rows.PROMISED,
    **smkex_rows.promised(PATH_2),
    "tcp": tcp(),
    "tls": tls(),
    "require": multipath(),
    "remembered": multipath(),
    "k-of-n": multipath(**{"P-A": [*PATH_2, (a.one_proof_missing, SAFE)],
                           "A-A-rogue": [(a.synchronised, SAFE), (a.synchronised_everywhere, BOTH)]}),
    "prefer": multipath(**{
        "A-P-rogue": [(a.interception, SAFE), (a.carried_over, SAFE), (a.answered, SAFE),
                      (a.with_tls_1_2, SAFE), (a.slow_ready, BOTH)],
        "A/A-rogue": [(a.strip_and_cut, BOTH), (a.strip_and_not_here, BOTH), (a.carry_and_cut, SAFE),
                      (a.carry_and_forge, SAFE)],
        "A/A-pre": [(a.prepared, SAFE), (a.strip_and_cut, BOTH)]}),
    # By [RES-10] it matters which path answers first: the order is made certain.
    "resumed": multipath(**{"P-A": [(a.path_2_changed_first, SAFE), (a.path_2_forged_first, SAFE),
                                    (a.path_2_changed_late, SAFE), (a.path_2_cut, SAFE), (a.path_2_copied, SAFE)]}),
}
