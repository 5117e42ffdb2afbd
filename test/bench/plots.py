"""The pictures of doc/evaluation.md, drawn from the results alone: the same numbers give the same files."""

import os

import matplotlib

from common import cdf_name

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402  (the back end is chosen above)

matplotlib.rcParams.update({"svg.hashsalt": "mtls", "svg.fonttype": "none", "font.size": 9, "axes.grid": True,
                            "grid.alpha": 0.3, "figure.constrained_layout.use": True})
SHOWN = ("TCP", "single-path DH", "SMKEX", "SMKEX, one MPTCP connection", "TLS 1.3", "TLS 1.3, bare 2nd connection", "TLS 1.3, resumed", "announced", "announced, Fast Open", "bare hook",
         "bare hook, path 2 kept", "late", "confirm=resume")
GRID_OF = (("announced", "TLS 1.3"), ("announced, Fast Open", "TLS 1.3"), ("bare hook, path 2 kept", "TLS 1.3"),
           ("SMKEX", "single-path DH"))


def _save(figure, folder, name):
    figure.savefig(os.path.join(folder, name), metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    return name


def cdf(c, folder):
    """The distribution of one point of the grid: time to the first byte of the answer."""
    figure, axes = pyplot.subplots(figsize=(7, 3.6))
    for number, name in enumerate(SHOWN):
        samples = sorted(c["rows"][name]["samples"])
        heights = [(i + 1) / len(samples) for i in range(len(samples))]
        axes.step(samples, heights, where="post", label=name, color=f"C{number % 10}",
                  linestyle="-" if number < 10 else "--")
    axes.set_xlabel("ms from the first connect() to the first byte of the answer")
    axes.set_ylabel("share of the samples")
    axes.set_title(f"RTT1 {c['rtt1_ms']:g} ms, RTT2 {c['rtt2_ms']:g} ms, loss {c['loss_percent']:g} %, {c['rounds']} rounds")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return _save(figure, folder, cdf_name(c))


def grid(cells, folder):
    """Ratios over RTT1 and RTT2, without loss."""
    found = {(c["rtt1_ms"], c["rtt2_ms"]): c for c in cells if c["loss_percent"] == 0 and c["rtt1_ms"] >= 1}
    first, second = sorted({k[0] for k in found}), sorted({k[1] for k in found})
    figure, panels = pyplot.subplots(1, len(GRID_OF), figsize=(3 * len(GRID_OF), 3), squeeze=False)
    for axes, (name, base) in zip(panels[0], GRID_OF):
        values = [[found[a, b]["rows"][name]["ratio"]["median"] if (a, b) in found else float("nan") for a in first]
                  for b in second]
        axes.imshow(values, origin="lower", vmin=1, vmax=2, cmap="YlOrRd")
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=8)
        axes.set_xticks(range(len(first)), [f"{v:g}" for v in first])
        axes.set_yticks(range(len(second)), [f"{v:g}" for v in second])
        axes.grid(False)
        axes.set_xlabel("RTT1, ms")
        axes.set_ylabel("RTT2, ms")
        axes.set_title(f"{name}\nto {base}", fontsize=8)
    return _save(figure, folder, "setup-grid.svg")


def server_cost(rows, folder):
    """Ratios of server CPU with their quartiles."""
    named = [(name, row["server_ratio"]) for name, row in rows.items() if "server_ratio" in row]
    figure, axes = pyplot.subplots(figsize=(7, 2.8))
    places = range(len(named))
    axes.barh(places, [r["median"] for _, r in named],
              xerr=[[r["median"] - r["low"] for _, r in named], [r["high"] - r["median"] for _, r in named]], color="C0")
    axes.set_yticks(places, [name for name, _ in named])
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("server CPU for each handshake, to the plain one of the same round (bars: quartiles)")
    return _save(figure, folder, "server-cost.svg")


def growth(rows, folder):
    """Server CPU a handshake while sessions are open."""
    figure, axes = pyplot.subplots(figsize=(7, 2.8))
    held = [int(n) for n in rows]
    for name in ("plain", "fresh path 2"):
        values = [rows[str(n)][name] for n in held]
        axes.errorbar(range(len(held)), [v["median"] for v in values], label=name, marker="o", capsize=3,
                      yerr=[[v["median"] - v["low"] for v in values], [v["high"] - v["median"] for v in values]])
    axes.set_xticks(range(len(held)), [f"{n:,}" for n in held])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("sessions open on the server")
    axes.set_ylabel("CPU a handshake, us")
    axes.legend(fontsize=8)
    return _save(figure, folder, "growth.svg")


def draw(result, folder):
    """Every picture that the results allow; their names."""
    names = []
    if result.get("setup"):
        names += [cdf(c, folder) for c in result["setup"]["cells"] if c["rtt1_ms"] == c["rtt2_ms"]]
        names.append(grid(result["setup"]["cells"], folder))
    if result.get("handshakes"):
        names.append(server_cost(result["handshakes"], folder))
    if result.get("growth"):
        names.append(growth(result["growth"], folder))
    return names
