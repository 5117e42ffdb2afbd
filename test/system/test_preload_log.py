"""The preload library's log: one JSON object a line, whatever the program does to its descriptors."""

import os

from conftest import SECRET
from mtlslab import tools
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


def test_what_is_refused_before_a_byte_is_sent(lab, pki, server, tmp_path):
    """An SSL_CTX that cannot be hooked, and a client without TLS 1.3: in the log, and in the exit
    status of mtlsize run where the program keeps silent."""
    words = client_words(lab, server)
    taken = lab.port()
    lab.spawn(lab.client, [PYTHON, "-m", "http.server", "-b", "127.0.0.1", taken]).wait_listening(taken)
    curl = curl_argv(pki, server.host, server.port)
    for name, config, argv, event, text in (
            ("port", f"{words} listen=127.0.0.1:{taken}", curl, "refused", "could not be opened"),
            ("old", words, [*curl, "--tls-max", "1.2"], "session", "TLS below 1.3"),
            ("fine", words, curl, None, "")):
        wrap = Wrap(tmp_path, config, name=name)
        proc = lab.run(lab.client, wrap.argv(argv))
        assert (proc.wait() == 0) == (event is None), proc.log()
        if event:
            (line,) = wrap.lines()
            assert line["event"] == event and text in line.get("why", line.get("message")), line
        silent = "'" + "' '".join(argv) + "' >/dev/null 2>&1; exit 0"
        run = lab.run(lab.client, [tools.tool("mtlsize"), "run", "--config", config, "sh", "-c", silent])
        assert run.wait() == (2 if event else 0) and text.encode() in run.stderr, run.log()


def test_the_log_does_not_come_back(lab, pki, server, tmp_path):
    """Once it was taken away nothing is written, and the program goes on."""
    wrap = Wrap(tmp_path, client_words(lab, server))
    script = "import os, sys; os.unlink(os.environ['MTLSIZE_LOG'])\n" + PROGRAM
    proc = lab.run(lab.client, wrap.argv([PYTHON, "-c", script, pki.cafile, pki.name, server.host,
                                          server.port, "nothing", tmp_path / "none"]))
    assert proc.wait() == 0 and SECRET in proc.stdout, proc.log()
    assert not os.path.exists(wrap.log)
    proc = lab.run(lab.client, wrap.argv(["true"]))
    assert proc.wait() == 0 and len(wrap.lines("loaded")) == 1  # a start makes one
