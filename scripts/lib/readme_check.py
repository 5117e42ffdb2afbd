"""Holds README.md against the tree: its C block compiles, the flags it uses exist, its files are
there, and the examples marked <!-- run --> are run as they stand; the one of curl and nginx over two network paths,
with the addresses and names of a laboratory. `readme_check.py BUILD`."""

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

from mtlslab import attack, netns, tools  # noqa: E402
from mtlslab.lab import Lab  # noqa: E402
from mtlslab.pki import Pki  # noqa: E402
from mtlslab.proc import Proc  # noqa: E402


def blocks(language):
    """(mark, text) of each fenced block."""
    return [(mark.strip(), text) for mark, text in
            re.findall(rf"(<!-- run[ a-z]* -->\n)?```{language}\n(.*?)```", TEXT, re.S)]


def check_c():
    with tempfile.TemporaryDirectory() as folder:
        for number, (_, text) in enumerate(blocks("c")):
            source = Path(folder) / f"readme{number}.c"
            source.write_text(text, encoding="utf-8")
            subprocess.run(["cc", "-Wall", "-Wextra", "-Wno-unused", "-Werror", "-fsyntax-only",
                            f"-I{TOP / 'include'}", str(source)], check=True)
    print("the C example compiles")


def check_flags():
    commands = ["mtls-client", "mtls-client check", "mtls-server",
                *(f"mtlsize {word}" for word in ("run", "check", "enable", "status"))]
    for name in commands:
        longer = [other for other in commands if other.startswith(f"{name} ")]
        program, *words = name.split()
        help_text = subprocess.run([BUILD / "apps" / program, *words, "--help"], capture_output=True,
                                   text=True, check=True).stdout
        used = set()
        for _, text in blocks("sh"):
            for command in text.replace("\\\n", " ").splitlines():
                if name in command and not any(other in command for other in longer):
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
    prepare, client = [text for mark, text in blocks("sh") if mark == "<!-- run -->"]
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


SYSTEMCTL = r"""#!/bin/bash
# Starts nginx as systemd would: with the environment of the drop-in.
[ "$1" = restart ] || exit 0
mapfile -t words < <(sed -n 's/^Environment="\(.*\)"$/\1/p' /etc/systemd/system/nginx.service.d/zz-mtls.conf)
exec env "${words[@]}" nginx -c "$NGINX_CONF"
"""
NGINX = """
daemon on; user root; pid {0}/pid; error_log {0}/error.log; events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f;
  uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;
  server {{ listen {1}:443 ssl; ssl_certificate {2}; ssl_certificate_key {3}; ssl_protocols TLSv1.2 TLSv1.3;
           root {0}; index hello; }}
}}
"""


def run_programs():
    """The two commands that protect nginx and curl."""
    [text] = [text for mark, text in blocks("sh") if mark == "<!-- run programs -->"]
    with tempfile.TemporaryDirectory() as folder, Lab() as lab:
        os.chmod(folder, 0o755)
        pki = Pki(folder, [lab.addr])
        Path(folder, "hello").write_text("Hello from nginx\n", encoding="ascii")
        Path(folder, "nginx.conf").write_text(NGINX.format(folder, lab.addr, pki.cert, pki.key), encoding="ascii")
        systemctl = Path(folder, "systemctl")
        systemctl.write_text(SYSTEMCTL, encoding="ascii")
        systemctl.chmod(0o755)
        os.makedirs(Path(netns.ETC, lab.server, "systemd", "system"))  # over /etc/systemd in there
        lab.hosts(lab.client, server_example=lab.addr)
        attack.dns(lab, lab.routers[2], lab.router_addr(2), server_example=lab.addr)
        for written, here in (("sudo ", ""), ("192.0.2.1", lab.addr), ("wwan0", "p2"),
                              ("198.51.100.53", lab.router_addr(2)), ("www.example", pki.name)):
            assert written in text, written
            text = text.replace(written, here)
        env = {"PATH": f"{folder}:{BUILD / 'apps'}:{os.environ['PATH']}:/usr/sbin", "CURL_CA_BUNDLE": pki.cafile,
               "NGINX_CONF": f"{folder}/nginx.conf", "no_proxy": "*", "MTLSIZE_VERBOSE": "1"}
        server, client = text.strip().splitlines()
        for ns, command in ((lab.server, server), (lab.client, client)):
            done = lab.run(ns, ["bash", "-euc", command], env=env)
            assert done.wait() == 0, done.log()
            print(done.log())
        assert b"Hello from nginx" in done.stdout and b"verified " + pki.name.encode() in done.stderr
        assert tools.curl(lab, pki, lab.addr, 443, "/hello").wait() == 0  # prefer: others are served too


check_c()
check_flags()
check_files()
run_example()
run_programs()
