"""Memory of ours: the allocator's count, hooked less plain."""

import json
import subprocess
import sys

from common import PATH2, SERVER_WORDS, program, progress


def memory_run(*argv):
    done = subprocess.run([program("bench_memory"), *[str(a) for a in argv]], capture_output=True, text=True, check=False,
                          timeout=300)
    if done.returncode != 0:
        sys.exit(f"{' '.join(done.args)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def run(pki, size):
    """Bytes a session."""
    files = (pki.cert, pki.key, pki.cafile)
    words = SERVER_WORDS + " deadline=120000"
    client_words = PATH2.replace("{path2}", "%s")
    progress("memory: the table alone")
    core = memory_run("core", size["core"])
    progress("memory: pending sessions")
    pending = [memory_run("pending", size["held"], w, "plain", *files)["server_bytes"] for w in ("plain", words)]
    progress("memory: established sessions")
    kept = [memory_run("established", size["held"], w, c, *files)
            for w, c in (("plain", "plain"), (words, client_words))]
    return {"core": core, "pending_plain": pending[0], "pending": pending[1] - pending[0],
            "established_server_plain": kept[0]["server_bytes"],
            "established_server": kept[1]["server_bytes"] - kept[0]["server_bytes"],
            "established_client_plain": kept[0]["client_bytes"],
            "established_client": kept[1]["client_bytes"] - kept[0]["client_bytes"], "sessions": size["held"]}


def print_rows(m):
    print("\nMemory, bytes of ours for each session")
    print(f"  the table alone, {m['core']['count']} sessions: {m['core']['session_bytes']:.0f}; a claim on a connection "
          f"of its own: {m['core']['claim_bytes']:.0f} more")
    print(f"  pending on a server: {m['pending']:.0f} (beside {m['pending_plain']:.0f} of libssl's)")
    print(f"  decided and kept: server {m['established_server']:.0f} (beside {m['established_server_plain']:.0f}), "
          f"client {m['established_client']:.0f} (beside {m['established_client_plain']:.0f})")
