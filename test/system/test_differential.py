"""The driver of test/differential: it sees a difference, test by test and conversation by conversation, and lets only what
is explained pass. The suites that it is for are not part of the repository; those here are made up."""

import os
import re
import subprocess
import sys

import pytest

from mtlslab import tools

RUN = os.path.join(tools.REPO, "test", "differential", "run.py")
SUBJECT = os.path.join(tools.BUILD, "test", "differential", "tls_subject") + " server {port} --cert {cert} --key {key}"
OLD = ["--plain", SUBJECT, "--hooked", SUBJECT + " --max 1.2"]  # a difference to be found: no TLS 1.3

SHELL = "#!/bin/sh\nexec openssl s_client -connect $1:$2 {options} </dev/null >/dev/null 2>&1\n"

# What the scripts of tlsfuzzer print; the conversations run over Python's TLS.
FUZZER = """
import socket, ssl, sys
host, port = sys.argv[sys.argv.index("-h") + 1], int(sys.argv[sys.argv.index("-p") + 1])
bad = 0
for name, version in (("sanity", ssl.TLSVersion.TLSv1_2), ("newer", ssl.TLSVersion.TLSv1_{newer}), ("sanity", ssl.TLSVersion.TLSv1_2)):
    print(name, "...")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode, context.maximum_version = False, ssl.CERT_NONE, version
    context.minimum_version = version
    try:
        context.wrap_socket(socket.create_connection((host, port))).close()
        print("OK\\n")
    except ssl.SSLError as error:
        print("Error while processing\\nTraceback\\n" + error.reason)
        bad += 1
print("Test end\\nsuccessful:", 3 - bad)
sys.exit(bad > 0)
"""


@pytest.fixture
def scripts(tmp_path):
    (tmp_path / "scripts").mkdir()
    for name, newer in (("same", 2), ("newer", 3)):
        (tmp_path / "scripts" / f"test-{name}.py").write_text(FUZZER.format(newer=newer))
    return tmp_path


@pytest.fixture
def programs(tmp_path):
    for name, options in (("any", ""), ("new", "-tls1_3")):
        file = tmp_path / name
        file.write_text(SHELL.format(options=options))
        file.chmod(0o755)
    return tmp_path


def run(*words):
    done = subprocess.run([sys.executable, "-B", RUN, *map(str, words)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "MTLS_BUILD": tools.BUILD}, check=False)
    passed, failed = re.search(r"^differential: (\d+) passed, (\d+) failed$", done.stdout, re.M).groups()
    assert (done.returncode == 0) == (failed == "0"), done.stdout + done.stderr
    return int(passed), int(failed), done.stdout


def test_exit_status_of_programs(programs):
    assert run("programs", "--folder", programs)[:2] == (2, 0)
    passed, failed, text = run("programs", "--folder", programs, *OLD)
    assert (passed, failed) == (1, 1) and 'DIFFERENT {"test": "new", "conversation": "exit"' in text


def test_conversations_of_scripts(scripts):
    assert run("tlsfuzzer", "--folder", scripts)[:2] == (2, 0)
    passed, failed, text = run("tlsfuzzer", "--folder", scripts, *OLD)
    assert (passed, failed) == (1, 1), text
    different = [line for line in text.splitlines() if line.startswith("DIFFERENT")]
    assert [re.search(r'"conversation": "(\w+)"', line).group(1) for line in different] == ["exit", "newer"]
    assert '"plain": ["OK", "OK", "OK"]' in different[1] and '"hooked": ["TLSV1_ALERT_PROTOCOL_VERSION"' in different[1]


def test_what_is_known_needs_a_reason(scripts, tmp_path):
    known = tmp_path / "known"
    known.write_text("tlsfuzzer | scripts/test-newer.py | * | TLS 1.3 is off there\n")
    passed, failed, text = run("tlsfuzzer", "--folder", scripts, *OLD, "--known", known)
    assert (passed, failed) == (2, 0) and text.count('"reason": "TLS 1.3 is off there"') == 2
    known.write_text("tlsfuzzer | scripts/test-newer.py | newer | TLS 1.3 is off there\n")
    assert run("tlsfuzzer", "--folder", scripts, *OLD, "--known", known)[:2] == (1, 1)


def test_what_varies_in_itself_is_told_apart(tmp_path):
    file = tmp_path / "folder" / "flips"
    file.parent.mkdir()
    file.write_text(f"#!/bin/sh\necho >>{tmp_path}/runs\nexit $(($(wc -l <{tmp_path}/runs) % 3 == 1))\n")
    file.chmod(0o755)
    passed, failed, text = run("programs", "--folder", file.parent)
    assert (passed, failed) == (1, 0) and 'varies in itself {"test": "flips"' in text
