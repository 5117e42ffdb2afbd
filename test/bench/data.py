"""Application data after the decision, up and down. "idle": a plain server with a second thread that sleeps: in a process
with two threads the kernel counts the users of a descriptor in every call, and a hooked server has two."""

from common import PATH2, SERVER_WORDS, Server, client, progress, show, spread


def run(pki, size):
    """Rates and ratios each way, and bytes for each second of CPU."""
    servers = {"plain": Server(pki), "idle": Server(pki, options=["--idle"]), "hooked": Server(pki, SERVER_WORDS)}
    words = {"plain": None, "idle": None, "hooked": PATH2}
    rates = {name: {"up": [], "down": [], "cpu": []} for name in servers}
    for number in range(size["data_rounds"] + 1):
        for name in list(servers)[::1 if number % 2 else -1]:
            before = servers[name].settle()
            result = client(servers[name], pki.cafile, "throughput", "--bytes", size["mib"] << 20, words=words[name])
            spent = servers[name].settle()["cpu_ns"] - before["cpu_ns"]
            if number == 0:
                continue
            rates[name]["cpu"].append(size["mib"] * 2 / (spent / 1e9))
            for way in ("up", "down"):
                rates[name][way].append(size["mib"] / (result[f"{way}_ns"] / 1e9))
        progress(f"application data: round {number} of {size['data_rounds']}")
    for server in servers.values():
        server.stop()
    return {way: {**{f"{name}_mib_s": spread(rates[name][way]) for name in rates},
                  "ratio": spread([h / p for h, p in zip(rates["hooked"][way], rates["plain"][way])]),
                  "idle_ratio": spread([i / p for i, p in zip(rates["idle"][way], rates["plain"][way])])}
            for way in ("up", "down", "cpu")}


def print_rows(rows, size):
    print(f"\nApplication data, {size['mib']} MiB over loopback, MiB/s (cpu: MiB a second of the server's CPU time)")
    for way, row in rows.items():
        print(f"  {way:5} plain {show(row['plain_mib_s'], 0)}, hooked {show(row['hooked_mib_s'], 0)}"
              f"  x {show(row['ratio'])}; plain with an idle second thread x {show(row['idle_ratio'])}")
