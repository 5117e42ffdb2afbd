"""Holds README.md against the tree: its C block compiles, the flags it uses exist, its files are
there, and the example marked <!-- run --> is run as it stands. `readme_check.py BUILD`."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(sys.argv[1]).resolve()
TEXT = (TOP / "README.md").read_text(encoding="utf-8")
sys.path.insert(0, str(TOP / "test" / "system"))

from mtlslab import netns  # noqa: E402
from mtlslab.proc import Proc  # noqa: E402


def blocks(language):
    """(marked for running, text) of each fenced block."""
    return [(bool(mark), text) for mark, text in
            re.findall(rf"(<!-- run -->\n)?```{language}\n(.*?)```", TEXT, re.S)]


def check_c():
    with tempfile.TemporaryDirectory() as folder:
        for number, (_, text) in enumerate(blocks("c")):
            source = Path(folder) / f"readme{number}.c"
            source.write_text(text, encoding="utf-8")
            subprocess.run(["cc", "-Wall", "-Wextra", "-Wno-unused", "-Werror", "-fsyntax-only",
                            f"-I{TOP / 'include'}", str(source)], check=True)
    print("the C example compiles")


def check_flags():
    for name in ("mtls-client", "mtls-server"):
        help_text = subprocess.run([BUILD / "apps" / name, "--help"], capture_output=True, text=True,
                                   check=True).stdout
        used = set()
        for _, text in blocks("sh"):
            for command in text.replace("\\\n", " ").splitlines():
                if name in command:
                    used.update(re.findall(r"--[a-z0-9-]+", command.split(name, 1)[1]))
        unknown = [flag for flag in sorted(used) if not re.search(rf"{flag}\b", help_text)]
        assert not unknown, f"{name} has no {unknown}"
        print(name, *sorted(used))


def check_files():
    linked = set(re.findall(r"\]\(([^)#:]+)\)", TEXT)) | set(re.findall(r"\bscripts/\w+", TEXT))
    missing = [name for name in sorted(linked) if not (TOP / name).exists()]
    assert not missing, f"not there: {missing}"
    print(*sorted(linked))


def run_example():
    """The first marked block prepares and ends with the server, the second is the client."""
    prepare, client = [text for mark, text in blocks("sh") if mark]
    name = f"{netns.new_prefix()}-doc"  # its ports are nobody else's there
    netns.create(name, {})
    env = {"PATH": f"{BUILD / 'apps'}:{os.environ['PATH']}"}
    try:
        with tempfile.TemporaryDirectory() as folder:
            server = Proc(["bash", "-euc", prepare], ns=name, cwd=folder, env=env)
            port = int(re.search(r"--listen \S+:(\d+)", prepare).group(1))
            server.wait_listening(port)
            done = Proc(["bash", "-euc", client], ns=name, cwd=folder, env=env)
            code = done.wait()
            server.stop()
            print(server.log(), done.log(), sep="\n")
            assert code == 0 and done.stdout, "the example failed"
    finally:
        netns.delete(name)


check_c()
check_flags()
check_files()
run_example()
