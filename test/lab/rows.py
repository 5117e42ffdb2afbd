"""The rows of the table, in its order."""

import confirm_rows
import mptcp_rows
import smkex_rows
from victims import Multipath, PlainTcp, Tls

ROWS = [
    PlainTcp("tcp", "plain TCP"),
    smkex_rows.ROWS["dh"],
    smkex_rows.ROWS["dh-known"],
    Tls("tls", "TLS"),
    smkex_rows.ROWS["smkex"],
    smkex_rows.ROWS["smkex-known"],
    smkex_rows.ROWS["smkex-prefer"],
    mptcp_rows.ROW,
    Multipath("require", "Multipath TLS, `require`"),
    Multipath("remembered", "Multipath TLS, `prefer`, host remembered", policy="prefer",
              before=("--hosts", "--hosts")),
    Multipath("k-of-n", "Multipath TLS, 2 of 2 paths, `require`", options=["--need", "2"], paths=3),
    Multipath("prefer", "Multipath TLS, `prefer`, first contact", policy="prefer"),
    Multipath("resumed", "Multipath TLS, `require`, resumed from verified",
              before=("--sess-out", "--sess-in"), ticket_key=True),
    confirm_rows.VERIFIED_ONLY,
    confirm_rows.UNPROVEN,
]
