"""Runs somebody else's TLS tests against a plain and a hooked server and compares the outcomes, test by test.

    run.py tlsfuzzer --folder FOLDER [--path TLSLITE-NG --path PYTHON-ECDSA/src] [--only 'scripts/test-tls13-*']
    run.py testssl | sslscan | nmap              installed programs
    run.py programs --folder FOLDER              any executables that take HOST PORT
    run.py tap --folder FOLDER                   scripts that bring their own servers, hooked by the preload library
    run.py unittest                              Python's own

The tests are not part of this repository. Server: tls_subject of the build folder (MTLS_BUILD), with --hook's words or
without; --server-word adds options to both (--server-word=--early --server-word=1000). --plain and --hooked name other commands,
in which {port} is replaced, e.g. the same program without and under mtlsize run.

A difference is looked at again, twice on each side: where the outcomes of the two sides overlap, the test varies in itself and is
listed as such. A difference that the file "known" explains is listed with its reason; any other fails the run."""

import argparse
import atexit
import contextlib
import fnmatch
import json
import os
import pathlib
import shlex
import socket
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

from mtlslab import recorder  # noqa: E402
from suites import SUITES  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
BUILD = os.environ.get("MTLS_BUILD", str(HERE.parents[1] / "build"))
SUBJECT = os.path.join(BUILD, "test", "differential", "tls_subject")
HOOK = "policy=prefer listen=127.0.0.1:0"
AGAIN = 2


def known(file, suite):
    """[(test pattern, conversation pattern, reason)] of the suite."""
    found = []
    for line in pathlib.Path(file).read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, test, conversation, reason = [word.strip() for word in line.split("|")]
            assert reason, line
            if name in (suite, "*"):
                found.append((test, conversation, reason))
    return found


def certificate(folder):
    key, cert = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "30",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert], check=True,
                   capture_output=True)
    return cert, key


def listening(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def server(command, log):
    """Starts it on a port that nobody uses; gives the port."""
    port = free_port()
    argv = [word.replace("{port}", str(port)) for word in command]
    proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)
    pause = threading.Event()
    try:
        for _ in range(200):
            if listening(port):
                break
            if proc.poll() is not None:
                sys.exit(f"{argv} ended: {log.name}")
            pause.wait(0.05)
        yield port
        if proc.poll() is not None:
            sys.exit(f"{argv} ended with {proc.returncode}: {log.name}")
    finally:
        proc.terminate()
        proc.wait()


def commands(given, folder):
    """Of the plain and of the hooked server."""
    cert, key = certificate(folder)
    # An option's port of its own: the subject takes it behind the word "server".
    subject = [SUBJECT, "server", "{port}", "--cert", cert, "--key", key, *given.server_word]
    plain = shlex.split(given.plain) if given.plain else subject
    hooked = shlex.split(given.hooked) if given.hooked else subject + ["--hook", given.hook]
    return [[word.replace("{cert}", cert).replace("{key}", key) for word in command] for command in (plain, hooked)]


def free_port():
    return recorder.unused_port()


def servers(given, stack):
    """The ports of the plain and of the hooked server."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    logs = [stack.enter_context(open(os.path.join(folder, name), "wb")) for name in ("plain", "hooked")]
    return [stack.enter_context(server(command, log)) for command, log in zip(commands(given, folder), logs)]


def forget(path):
    """Nobody else takes away the memory of processes with share=NAME."""
    if os.path.exists(path):
        os.unlink(path)


def environments(given):
    """Without and with the preload library; all contexts and processes of a test share one listener."""
    preload = os.path.join(BUILD, "preload", "libmtls-preload.so")
    if not os.path.exists(preload):
        sys.exit(f"{preload} is missing: build first")
    port = free_port()
    words = given.hook.replace("127.0.0.1:0", f"127.0.0.1:{port}") + f" share=differential-{port}"
    atexit.register(forget, f"/dev/shm/mtls3-{os.geteuid()}-differential-{port}")
    return [{}, {"LD_PRELOAD": preload, "MTLSIZE_LIBRARY": os.path.join(BUILD, "mtls", "libmtls.so"),
                 "MTLS_CONFIG": words}]


class Tally:
    def __init__(self, reasons):
        self.reasons, self.tests, self.alike, self.conversations = reasons, 0, 0, 0
        self.unsteady, self.explained, self.different = [], [], []

    def reason(self, test, conversation):
        return next((reason for pattern, part, reason in self.reasons
                     if fnmatch.fnmatch(test, pattern) and fnmatch.fnmatch(conversation, part)), None)

    def compare(self, suite, test, sides):
        runs = [[suite.run(test, side)] for side in sides]
        if runs[0] != runs[1]:
            for _ in range(AGAIN):
                for run, side in zip(runs, sides):
                    run.append(suite.run(test, side))
        names = sorted(set().union(*(run for side in runs for run in side)))
        self.tests += 1
        self.conversations += len(names)
        before = len(self.different)
        for name in names:
            plain, hooked = ([run.get(name) for run in side] for side in runs)
            if plain == hooked and len(set(plain)) == 1:
                continue
            line = {"test": test, "conversation": name, "plain": plain, "hooked": hooked}
            if set(plain) & set(hooked):
                self.unsteady.append(line)
            elif self.reason(test, name):
                self.explained.append({**line, "reason": self.reason(test, name)})
            else:
                self.different.append(line)
        self.alike += len(self.different) == before
        return runs[0][0].get("exit"), len(self.different) == before


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=sorted(SUITES))
    parser.add_argument("--folder", help="where the suite is; not needed for installed programs")
    parser.add_argument("--path", action="append", default=[], help="a folder for PYTHONPATH")
    parser.add_argument("--only", default="*", help="a pattern of test names")
    parser.add_argument("--word", action="append", default=[], help="an option for each test")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one test")
    parser.add_argument("--hook", default=HOOK)
    parser.add_argument("--server-word", action="append", default=[], help="an option for tls_subject, on both sides")
    parser.add_argument("--known", default=str(HERE / "known"), help="differences that are meant, with reasons")
    parser.add_argument("--plain", help="another server's command; {port}, {cert}, {key}")
    parser.add_argument("--hooked")
    return parser.parse_args()


def main():
    given = options()
    if bool(given.plain) != bool(given.hooked):
        sys.exit("--plain and --hooked go together")
    suite = SUITES[given.suite](given.folder, given.path, given.word, given.timeout, given.only)
    tests = suite.tests()
    if not tests:
        sys.exit("there are no such tests")
    tally = Tally(known(given.known, given.suite))
    with contextlib.ExitStack() as stack:
        sides = environments(given) if suite.brings_servers else servers(given, stack)
        for test in tests:
            status, fine = tally.compare(suite, test, sides)
            print(f"{'alike ' if fine else 'DIFFER'}  exit {status}  {test}", flush=True)
    for title, lines in (("varies in itself", tally.unsteady), ("known", tally.explained),
                         ("DIFFERENT", tally.different)):
        for line in lines:
            print(title, json.dumps(line))
    print(f"{tally.conversations} outcomes compared in {tally.tests} tests; {len(tally.unsteady)} vary in themselves, "
          f"{len(tally.explained)} known differences")
    print(f"differential: {tally.alike} passed, {tally.tests - tally.alike} failed")
    return tally.alike != tally.tests


if __name__ == "__main__":
    sys.exit(main())
