"""doc/evaluation.md, written from doc/evaluation/results.json: python3 test/bench/page.py [--check].

Nothing in the page is typed by hand but the sentences below; --check says whether the page in doc/ is the one that its
results give.
"""

import csv
import json
import os
import re
import sys

from common import cdf_name

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = os.path.join(TOP, "doc", "evaluation.md")
FOLDER = os.path.join(TOP, "doc", "evaluation")
NEAR, FAR = 0.2, 10

INTRO = """# Evaluation

What Multipath TLS and SMKEX cost, beside what a user would pick instead. Every number below was written into this page by
`test/bench/page.py` from `evaluation/results.json` (and `evaluation/setup.csv`, one line a sample), which one run made:

```sh
{command}      # as root; {minutes} minutes
```

How each part measures is in [benchmark.md](benchmark.md). Ratios are formed within a round, then the median taken; in parentheses the
quartiles, in brackets the median's 95 % confidence interval. Latencies are wall-clock times.
"""


def num(value, digits):
    return f"{value:,.{digits}f}"


def quart(s, digits):
    return f"{num(s['median'], digits)} ({num(s['low'], digits)} .. {num(s['high'], digits)})"


def with_ci(s, digits=3):
    return f"{quart(s, digits)} [{num(s['ci'][0], digits)} .. {num(s['ci'][1], digits)}]"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(v) for v in row) + " |" for row in rows])


def environment(e):
    return (f"{e['processors']} processors ({e['processor']}), {e['memory']} of memory, Linux {e['kernel']}, {e['openssl']}, "
            f"{e['compiler']}; commit {e['commit']}, {e['day']}; load average before the run {e['load_before']}.")


# ---- targets --------------------------------------------------------------------------------------

def _worst(cells, name, keep):
    """The greatest median ratio of a way over the points that count."""
    found = [(c["rows"][name]["ratio"]["median"], c) for c in cells if c["loss_percent"] == 0 and keep(c)]
    return max(found, key=lambda pair: pair[0]) if found else None


def _cheaper(cells):
    """A point counts against it when the confidence intervals of the medians do not meet; with loss, where a sample may hold
    several retransmissions, the medians alone say little, and are told."""
    against, within = 0, []
    for c in cells:
        smkex, tls = (c["rows"][name]["first_ms"] for name in ("SMKEX", "TLS 1.3"))
        if c["rtt2_ms"] > c["rtt1_ms"] or smkex["median"] <= tls["median"]:
            continue
        if smkex["ci"][0] > tls["ci"][1] or not c["loss_percent"]:
            against += 1
        else:
            within.append(f"{c['rtt1_ms']:g} and {c['rtt2_ms']:g} ms with {c['loss_percent']:g} % loss, {smkex['n']} samples: "
                          f"{num(smkex['median'], 0)} ms [{num(smkex['ci'][0], 0)} .. {num(smkex['ci'][1], 0)}] beside "
                          f"{num(tls['median'], 0)} [{num(tls['ci'][0], 0)} .. {num(tls['ci'][1], 0)}]")
    got = f"not at {against} points" if against else "everywhere" + (f" but, within its interval, {'; '.join(within)}" if within else "")
    return "set-up: SMKEX cheaper than TLS 1.3 wherever RTT2 <= RTT1", "everywhere", got, not against


def _setup_targets(setup):
    cells = setup["cells"]
    far_equal = lambda c: c["rtt1_ms"] >= FAR and c["rtt2_ms"] <= c["rtt1_ms"]  # noqa: E731
    far_double = lambda c: c["rtt1_ms"] >= FAR and c["rtt2_ms"] <= 2 * c["rtt1_ms"]  # noqa: E731
    near = lambda c: c["rtt1_ms"] == NEAR  # noqa: E731
    wanted = (("announced / TLS 1.3, RTT1 >= 10 ms, RTT2 <= RTT1", "announced", far_equal, 1.01),
              ("announced with Fast Open / TLS 1.3, RTT1 >= 10 ms, RTT2 <= 2 RTT1", "announced, Fast Open", far_double, 1.01),
              ("announced / TLS 1.3, RTT 0.2 ms", "announced", near, 1.10),
              ("SMKEX / single-path DH, RTT1 >= 10 ms, RTT2 <= RTT1", "SMKEX", far_equal, 1.01),
              ("SMKEX / single-path DH, RTT 0.2 ms", "SMKEX", near, 1.10))
    for text, name, keep, most in wanted:
        worst = _worst(cells, name, keep)
        if worst:
            where = f", at {worst[1]['rtt1_ms']:g} and {worst[1]['rtt2_ms']:g} ms"
            yield f"set-up: {text}: worst median", f"<= {most}", f"{worst[0]:.3f}{where}", worst[0] <= most
    yield _cheaper(cells)
    wrong = [name for name, row in setup["round_trips"].items() if row["counted"] != row["specified"]]
    yield ("round trips by capture equal the specification's", "all", "all" if not wrong else "not " + ", ".join(wrong),
           not wrong)


def _cost_targets(result):
    rows = result.get("handshakes") or {}
    for text, name, most in (("server CPU, fresh path 2", "fresh path 2", 1.15),
                             ("server CPU, path 2 kept", "kept path 2", 1 / 0.97),
                             ("server CPU, resumed from verified", "resumed-verified", 1 / 0.97)):
        if name in rows:
            got = rows[name]["server_ratio"]["median"]
            yield f"{text}, to plain", f"<= {most:.2f}", f"{got:.2f}", got <= most
    for driver, rows in (result.get("servers") or {}).items():
        for workers in ("", ", 2 workers"):
            name = f"nginx under mtlsize{workers}"
            if name in rows:
                got = rows[name]["ratio"]["median"]
                yield f"server CPU, {name}, fresh path 2, driven by {driver}, to nginx", "<= 1.15", f"{got:.2f}", got <= 1.15
    if result.get("threads"):
        one, two = (result["threads"][f"{n}, both processors"]["fresh path 2"]["ratio"]["median"] for n in ("1 thread", "2 threads"))
        yield "a second thread: ratio to plain, against one thread's", "no greater", f"{two:.2f} to {one:.2f}", two <= one * 1.02
    if result.get("data"):
        got = result["data"]["cpu"]["ratio"]["median"]
        yield "application data: bytes a second of server CPU, to plain", "0.99 .. 1.01", f"{got:.2f}", 0.99 <= got <= 1.01
    if result.get("memory"):
        got = result["memory"]["pending"]
        yield "memory of ours, pending session", "<= 4,096 bytes", f"{got:,.0f}", got <= 4096


def targets(result):
    rows = list(_setup_targets(result["setup"])) if result.get("setup") else []
    rows += list(_cost_targets(result))
    return table(("target", "wanted", "measured", ""), [(*row[:3], "met" if row[3] else "**not met**") for row in rows])


def _share(whole, least):
    """Which part of what stands above 1 is there without any code of ours, in percent."""
    return f"{100 * max(0, min(1, (least - 1) / (whole - 1))):.0f} %" if whole > 1.005 else "all"


# way, the same messages without any code of ours, what that row does beside them
_MOST = {NEAR: 1.10, FAR: 1.01}
_FLOORS = (("announced", "TLS 1.3, the same, empty hook, waits", "what the protocol needs of libcrypto and of the kernel's tables, a hook with "
            "nothing in it, and ends that wait for path 2 where they must"),
           ("SMKEX", "DH, the same, look-ups", "what the protocol needs of the kernel's tables"))


def _setup_remarks(cells):
    points = {(c["rtt1_ms"], c["rtt2_ms"], c["loss_percent"]): c["rows"] for c in cells}
    for rtt in (NEAR, FAR):
        rows = points.get((rtt, rtt, 0))
        for name, bare, what in _FLOORS if rows else ():
            whole, least = rows[name]["ratio"], rows[bare]["ratio"]
            ours = max(0, whole["median"] - least["median"]) * rows[rows[name]["to"]]["first_ms"]["median"] * 1000
            if whole["median"] <= _MOST[rtt]:
                continue
            yield (f"- {name} at {rtt:g} ms, {num(whole['median'], 3)}: a second TCP connection with as many messages, {what}, take "
                   f"{num(least['median'], 3)} [{num(least['ci'][0], 3)} .. {num(least['ci'][1], 3)}] without anything of ours "
                   f"({_share(whole['median'], least['median'])} of what stands above 1); {num(ours, 0)} us are ours. Two processors carry both "
                   "ends, both links and both paths.")
    double = next((c for c in cells if c["rtt2_ms"] == 2 * c["rtt1_ms"] and not c["loss_percent"]), None)
    if double:
        yield (f"- Fast Open with RTT2 = 2 RTT1, {num(double['rows']['announced, Fast Open']['ratio']['median'], 2)}: four round trips of path 1 "
               "instead of three, 1.33, is the least that any order of messages can reach. PROOF answers the ClientHello, so it is at "
               "the client half an RTT1 after the server's flight, and CONFIRM answers PROOF.")


def _cost_remarks(rows):
    for name, bare in (("fresh path 2", "the same and an empty hook"), ("kept path 2", "the same and an empty hook, kept connection")):
        whole, least = (rows[one]["server_ratio"] for one in (name, bare))
        ours = (whole["median"] - least["median"]) * rows["plain"]["server_us"]["median"]
        yield (f"- server CPU, {name}, {num(whole['median'], 2)}: {num(least['median'], 2)} [{num(least['ci'][0], 2)} .. {num(least['ci'][1], 2)}] for "
               f"what is not ours to spare (row \"{bare}\"; {_share(whole['median'], least['median'])} of what stands above 1); {num(ours, 0)} us "
               "are ours.")


def _nginx_remark(servers, rows):
    """The bare exchange beside nginx's own handshake."""
    extra = rows["the same and an empty hook"]["server_us"]["median"] - rows["plain"]["server_us"]["median"]
    plain = servers["bench_client"]["nginx"]["server_us"]["median"]
    yield (f"- server CPU, nginx under mtlsize: the same work as with a fresh path 2. The {num(extra, 0)} us that are not ours to spare there are "
           f"{num(1 + extra / plain, 2)} of nginx's {num(plain, 0)} us. Under mtlsize the calls that nginx makes on its sockets pass the preloaded "
           "library as well.")


def _data_remark(rows):
    idle, hooked = rows["cpu"]["idle_ratio"], rows["cpu"]["ratio"]
    if 0.99 <= hooked["median"] <= 1.01:
        return
    yield (f"- application data, {num(hooked['median'], 3)} by the server's CPU ({num(rows['up']['ratio']['median'], 3)} up and "
           f"{num(rows['down']['ratio']['median'], 3)} down by the wall): a plain server with a second thread that only sleeps has "
           f"{num(idle['median'], 3)} [{num(idle['ci'][0], 3)} .. {num(idle['ci'][1], 3)}]. With two threads in a process the kernel counts the "
           "users of a descriptor in every call; the second thread serves path 2. No code of ours is in the way of the data. "
           "reactor=app does without that thread.")


def remarks(result):
    """What the machine takes for itself, beside each target that this bears on."""
    out = list(_setup_remarks(result["setup"]["cells"])) if result.get("setup") else []
    rows = result.get("handshakes")
    if rows:
        out += list(_cost_remarks(rows)) + list(_cold(result, rows))
    if rows and result.get("servers"):
        out += list(_nginx_remark(result["servers"], rows))
    if result.get("data"):
        out += list(_data_remark(result["data"]))
    return "\n".join(out)


def _cold(result, rows):
    """Why a resumed session costs more time than instructions."""
    counts = result.get("instructions") or {}
    if "resumed-verified" not in counts:
        return
    time_, hollow = (rows[name]["server_ratio"] for name in ("resumed-verified", "plain, resumed, empty hook"))
    ours, plain = counts["resumed-verified"], counts["plain, resumed"]
    more = {what: num(ours[f"server_{what}"] / plain[f"server_{what}"], 3) for what in ("all", "i1", "branches")}
    yield (f"- server CPU, resumed from verified, {num(time_['median'], 2)}: {more['all']} in instructions, but {more['i1']} in misses of the first-level "
           f"instruction cache and {more['branches']} in branches predicted wrongly (a simulated 32 KiB cache). A handshake walks through far more "
           f"code than that cache holds: plain TLS misses it {num(plain['server_i1'], 0)} times, and what runs once a handshake, as ours does, "
           f"misses nearly with every line. A hook with nothing in it takes {num(hollow['median'], 2)} [{num(hollow['ci'][0], 2)} .. "
           f"{num(hollow['ci'][1], 2)}]. The rest is the join's registration ([SRV-8]), the gate until the flight is out, the check of the record, "
           "and the outcome's record; no part of it stands out.")


# ---- parts ----------------------------------------------------------------------------------------

def setup_part(setup):
    out = ["## Connection set-up\n",
           "Round trips of path 1 from the first SYN to the first byte of the answer, RTT2 = RTT1, counted from a packet capture:\n",
           table(("way", "counted", "specified"),
                 [(name, f"{row['counted']:g}", row["specified"]) for name, row in setup["round_trips"].items()]), ""]
    for c in setup["cells"]:
        given = " and ".join(num(ms, 2) for ms in c["given_ms"])
        out.append(f"### RTT1 {c['rtt1_ms']:g} ms, RTT2 {c['rtt2_ms']:g} ms, loss {c['loss_percent']:g} %\n")
        out.append(f"TCP's own connect took {given} ms. {c['rounds']} rounds; ms to the first byte of the answer.\n")
        rows = [(name, quart(row["first_ms"], 2), f"{with_ci(row['ratio'])} of {row['to']}" if "ratio" in row else "1")
                for name, row in c["rows"].items()]
        out.append(table(("way", "ms", "ratio"), rows) + "\n")
        failed = [f"{name} {row['failed']}" for name, row in c["rows"].items() if row["failed"]]
        if failed:
            out.append(f"Sessions that failed, of {c['rounds']} each, and are not in the table: {', '.join(failed)}.\n")
        if c["rtt1_ms"] == c["rtt2_ms"]:
            out.append(f"![distribution](evaluation/{cdf_name(c)})\n")
    out.append("The ways with a bare second connection exchange as many messages over path 2 beside path 1, with no protocol, and nothing "
               "waits for them; \"cryptography, look-ups\": both ends call what the protocol needs of libcrypto, and the client asks "
               "the kernel where both paths go; \"empty hook, waits\": the call-backs of a hook with nothing in them as well, and the ends wait as "
               "[CLI-1] and [SRV-1] want it: the client's second flight leaves after PROOF, the server serves after CONFIRM.\n")
    out.append("Ratios over the grid, without loss:\n\n![grid](evaluation/setup-grid.svg)\n")
    return "\n".join(out)


LIMITS = """The rows "bare" show what is not ours to spare: the same number of messages over a second TCP connection by a
thread that does nothing else, beside plain handshakes; then with one call of libssl's exporter, which the proofs' keys come from; then
with all that the protocol asks of libcrypto as well (two proofs, four hashes, a nonce); then with an empty hook: the
call-backs that any hook registers, a filter in front of the socket, an object for each SSL, data in the ticket, and no code in
them. What a hooked handshake costs above them is ours: the gate, the table of sessions, wake-ups of the thread that serves path 2.
"""


def handshake_part(rows):
    lines = [(name, quart(row["server_us"], 0), with_ci(row["server_ratio"], 2) if "server_ratio" in row else "1",
              quart(row["client_ratio"], 2) if "client_ratio" in row else "1") for name, row in rows.items()]
    return ("## Server CPU for each handshake\n\n" +
            table(("server", "CPU, us", "ratio to plain", "client's ratio"), lines) + "\n\n" + LIMITS +
            "\n![server cost](evaluation/server-cost.svg)\n")


def thread_part(scenes):
    lines = [(scene, case, quart(row["us"], 0), num(row["rate"]["median"], 0),
              with_ci(row["ratio"], 2) if "ratio" in row else "1") for scene, rows in scenes.items() for case, row in rows.items()]
    return ("## Threads, and a server that never rests\n\nSixteen client threads, client and server on two processors together, so the "
            "rate is that of both. Saturated: the server has one processor, which it shares with the client.\n\n" +
            table(("server", "handshake", "CPU, us", "handshakes a second", "ratio to plain"), lines) + "\n")


def server_part(drivers):
    lines = [(driver, name, quart(row["server_us"], 0), num(row["rate"]["median"], 0),
              f"{with_ci(row['ratio'], 2)} of {row['to']}" if "ratio" in row else "1")
             for driver, rows in drivers.items() for name, row in rows.items()]
    return ("## Servers that people run\n\nCPU of the whole server for each full handshake, P-256, X25519, by bench_client as above and by wrk, "
            "with a connection for each request (under mtlsize itself where the server is). With one "
            "worker the server has a processor of its own; the client, not the server, limits the rate. HAProxy and stunnel are "
            "as Debian packages them, with plain TLS; stunnel connects to a backend for each session.\n\n" +
            table(("driven by", "server", "CPU, us", "handshakes a second", "ratio"), lines) + "\n")


def growth_part(rows):
    lines = [(num(int(held), 0), quart(row["plain"], 0), quart(row["fresh path 2"], 0), with_ci(row["ratio"], 2))
             for held, row in rows.items()]
    return ("## As sessions grow\n\nServer CPU for each further full handshake, us, while so many sessions stay open on the server.\n\n" +
            table(("open", "plain", "fresh path 2", "ratio"), lines) + "\n\n![growth](evaluation/growth.svg)\n")


def instruction_part(rows):
    lines = []
    for name, row in rows.items():
        cells = ([num(row[f"{end}_own"], 0), num(row[f"{end}_all"], 0), f"{row[f'{end}_to_plain']:.3f}" if f"{end}_to_plain" in row else ""]
                 for end in ("server", "client"))
        lines.append([name, *(cell for end in cells for cell in end)])
    return ("## Instructions for each handshake\n\nIn user mode, by callgrind: repeatable within 0.5 %; CI holds a budget against "
            "them.\n\n" + table(
                ("handshake", "server, ours", "server, all", "to plain", "client, ours", "client, all", "to plain"), lines) +
            "\n\nMisses of a simulated first-level instruction cache (32 KiB, 8 ways) and branches predicted wrongly:\n\n" + table(
                ("handshake", "server, misses", "server, branches", "client, misses", "client, branches"),
                [(name, *(num(row[f"{end}_{what}"], 0) for end in ("server", "client") for what in ("i1", "branches")))
                 for name, row in rows.items()]) + "\n")


def data_part(rows):
    lines = [(name, quart(row["plain_mib_s"], 0), quart(row["hooked_mib_s"], 0), with_ci(row["ratio"]), with_ci(row["idle_ratio"]))
             for name, row in rows.items()]
    return ("## Application data\n\nMiB/s over loopback; cpu: MiB for each second of the server's CPU time; idle: a plain server with a second "
            "thread that sleeps, to plain.\n\n" + table(("way", "plain", "hooked", "ratio", "idle"), lines) + "\n")


def memory_part(m):
    lines = [("pending on a server", num(m["pending"], 0), num(m["pending_plain"], 0)),
             (f"in the pending table alone ({m['core']['count']:,} held)", num(m["core"]["session_bytes"], 0), ""),
             ("a waiting claim on a connection of its own", num(m["core"]["claim_bytes"], 0), ""),
             ("decided and kept, server", num(m["established_server"], 0), num(m["established_server_plain"], 0)),
             ("decided and kept, client", num(m["established_client"], 0), num(m["established_client_plain"], 0))]
    return "## Memory\n\nBytes a session.\n\n" + table(("what", "ours", "libssl's beside it"), lines) + "\n"


PARTS = (("setup", setup_part), ("handshakes", handshake_part), ("threads", thread_part), ("servers", server_part), ("growth", growth_part),
         ("instructions", instruction_part), ("data", data_part), ("memory", memory_part))


QUOTED = """## Quoted, not run

| what | number | source |
| --- | --- | --- |
| tcpcrypt, a key exchange over one path in the kernel | a server with plain TCP 60,156 connections a second, tcpcrypt at worst a third of that, SSL at worst 737 | A. Bittau and others, The case for ubiquitous transport-level encryption, USENIX Security 2010, slides |
| SMKEX over one MPTCP connection as it was first built, the client's data behind the server's Finished | 7 round trips, 2.40 times single-path DH at RTT1 = RTT2 = 20 ms; in turns with it, as it is now, 6 and 2.06 | this repository at 1ce2414, `scripts/bench --part setup` |

tcpcrypt needs a kernel of its own, and no Debian release has it; `single-path DH` above (SMKEX with `mode=single`) stands for its class:
a key exchange in one round trip over the one path, without certificates. The SMKEX paper's prototype (CCS 2018) ran on a
patched kernel as well; its figure 10 is the first picture above, drawn from our own runs.
"""


def page(result):
    """The whole page."""
    text = [INTRO.format(command=result["command"], minutes=max(1, round(result["seconds"] / 60))), environment(result["environment"]) + "\n",
            "## Targets\n", targets(result) + "\n", "What the machine takes for itself, beside what is not met:\n\n" + remarks(result) + "\n"]
    text += [write(result[name]) for name, write in PARTS if result.get(name)]
    return "\n".join([*text, QUOTED])


def write_folder(result, folder):
    """JSON, CSV, Markdown and pictures into a folder."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "results.json"), "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    if result.get("setup"):
        with open(os.path.join(folder, "setup.csv"), "w", encoding="utf-8", newline="") as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow(("rtt1_ms", "rtt2_ms", "loss_percent", "way", "ms"))
            for c in result["setup"]["cells"]:
                for name, row in c["rows"].items():
                    out.writerows((c["rtt1_ms"], c["rtt2_ms"], c["loss_percent"], name, ms) for ms in row["samples"])
    if folder != FOLDER:  # whose page stands beside it
        with open(os.path.join(folder, "results.md"), "w", encoding="utf-8") as file:
            file.write(page(result).replace("](evaluation/", "]("))
    import plots  # pylint: disable=import-outside-toplevel

    plots.draw(result, folder)


def text_of_results():
    with open(os.path.join(FOLDER, "results.json"), encoding="utf-8") as file:
        return page(json.load(file))


def main_write():
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(text_of_results())


def main():
    if sys.argv[1:] != ["--check"]:
        main_write()
        return
    with open(PAGE, encoding="utf-8") as file:
        if file.read() != text_of_results():
            sys.exit("doc/evaluation.md is not what test/bench/page.py writes from doc/evaluation/results.json")
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text_of_results()):
        if not os.path.exists(os.path.join(TOP, "doc", picture)):
            sys.exit(f"doc/{picture}: no such picture")


if __name__ == "__main__":
    main()
