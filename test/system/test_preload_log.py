"""The preload library's log: one JSON object a line, whatever the program does to its descriptors."""

import os

from conftest import SECRET
from preload_tools import Wrap, client_words, curl_argv

PYTHON = "/usr/bin/python3"

# What is done between the making of the context and the handshake.
PROGRAM = """
import os, socket, ssl, sys
cafile, name, host, port, what, file = sys.argv[1:]
context = ssl.create_default_context(cafile=cafile)
if what == "close":
    os.closerange(3, 4096)
if what in ("stderr", "log"):
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    targets = [2] if what == "stderr" else [n for n in range(3, 4096) if n != fd and os.path.lexists(
        f"/proc/self/fd/{n}") and os.readlink(f"/proc/self/fd/{n}").endswith(".jsonl")]
    assert targets
    for n in targets:
        os.dup2(fd, n)
with socket.create_connection((host, int(port)), timeout=20) as plain:
    with context.wrap_socket(plain, server_hostname=name) as conn:
        conn.sendall(b"GET /file HTTP/1.0\\r\\nHost: %s\\r\\n\\r\\n" % name.encode())
        while data := conn.recv(65536):
            sys.stdout.buffer.write(data)
"""


def test_verbose_is_for_the_standard_error_of_the_start(lab, pki, server, tmp_path):
    quiet = Wrap(tmp_path, client_words(lab, server), name="quiet")
    proc = lab.run(lab.client, quiet.argv(curl_argv(pki, server.host, server.port)))
    assert proc.wait() == 0 and proc.stderr == b"", proc.log()
    loud = Wrap(tmp_path, client_words(lab, server), name="loud", MTLSIZE_VERBOSE="1")
    proc = lab.run(lab.client, loud.argv(curl_argv(pki, server.host, server.port)))
    (line,) = proc.lines()
    assert line.startswith("mtlsize: curl[") and line.endswith(f": verified {pki.name}"), proc.log()
    assert proc.stdout.startswith(SECRET)


def test_descriptors_of_the_program(lab, pki, server, tmp_path):
    """Closed, or given to another file: the log is found again, and the other file stays empty."""
    for what in ("nothing", "close", "stderr", "log"):
        wrap = Wrap(tmp_path, client_words(lab, server), name=what, MTLSIZE_VERBOSE="1")
        other = tmp_path / f"other-{what}"
        proc = lab.run(lab.client, wrap.argv([PYTHON, "-c", PROGRAM, pki.cafile, pki.name, server.host,
                                              server.port, what, other]))
        assert proc.wait() == 0 and SECRET in proc.stdout, proc.log()
        assert len(wrap.wait(1, outcome="verified")) == 1
        assert (b"mtlsize: python3" in proc.stderr) == (what != "stderr"), proc.log()
        assert not other.exists() or other.read_bytes() == b""


def test_many_processes_one_file(lab, pki, server, tmp_path):
    """Whole lines, of each process its own."""
    wrap = Wrap(tmp_path, client_words(lab, server))
    words = " ".join(f"'{word}'" for word in curl_argv(pki, server.host, server.port))
    proc = lab.run(lab.client, wrap.argv(["sh", "-c", f"for i in 1 2 3 4 5 6 7 8; do {words} & done; wait"]))
    assert proc.wait() == 0, proc.log()
    lines = wrap.wait(8, outcome="verified")
    assert len({line["pid"] for line in lines}) == 8
    assert {(line["program"], line["peer"]) for line in lines} == {
        ("curl", f"{server.host}:{server.port}")}
    assert os.path.getsize(wrap.log) < 8 * 4096
