"""Adapters: how the tests of somebody else's suite are found, run against a server, and read.

A suite gives tests(), names of what it can run, and run(test, port), {conversation: outcome}. What varies from run to run
(times, ports, addresses) must not be in an outcome. "exit" is the status of the whole test. A suite that brings both sides
of its connections (brings_servers) gets, instead of a port, the environment in which they are hooked, or are not."""

import csv
import fnmatch
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile


class Suite:
    """What they share: a folder, further folders for PYTHONPATH, words for each test, a time limit."""

    brings_servers = False

    def __init__(self, folder, path=(), words=(), timeout=300, only="*"):
        self.folder = pathlib.Path(folder).resolve() if folder else None
        self.path, self.words, self.timeout, self.only = list(path), list(words), timeout, only

    def tests(self):
        return [test for test in self.all() if fnmatch.fnmatch(test, self.only)]

    def execute(self, argv, env=None, cwd=None):
        """(exit status or "too late", text)."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                done = subprocess.run(argv, cwd=cwd or folder, env={**os.environ, **(env or {})}, timeout=self.timeout,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      check=False)
            except subprocess.TimeoutExpired as late:
                return "too late", (late.stdout or b"").decode(errors="replace")
        return str(done.returncode), done.stdout.decode(errors="replace")


class Tlsfuzzer(Suite):
    """tlsfuzzer: FOLDER is its checkout; tlslite-ng and python-ecdsa are installed, or given by --path."""

    def all(self):
        return sorted(str(file.relative_to(self.folder)) for file in self.folder.glob("scripts/test-*.py"))

    def run(self, test, port):
        status, text = self.execute([sys.executable, str(self.folder / test), "-h", "127.0.0.1", "-p", str(port),
                                     *self.words], {"PYTHONPATH": os.pathsep.join([str(self.folder), *self.path])})
        outcomes = {"exit": status}
        outcomes.update(conversations(text))
        return outcomes


def conversations(text):
    """A line "NAME ..." begins each; OK, or a traceback whose last line says why."""
    found, name = {}, None
    for line in text.splitlines():
        if line.endswith(" ..."):
            name = line[:-4]
            while name in found:
                name += "'"
            found[name] = "?"
        elif name and line == "OK":
            found[name], name = "OK", None
        elif name and line.startswith("Test end"):
            name = None
        elif name and line.strip():
            found[name] = line.strip()
    return found


class Programs(Suite):
    """Any executables in FOLDER, given HOST and PORT in the environment and as the last two words; their exit status, and
    the points where they speak TAP."""

    def all(self):
        return sorted(file.name for file in self.folder.iterdir() if file.is_file() and os.access(file, os.X_OK))

    def run(self, test, port):
        status, text = self.execute([str(self.folder / test), *self.words, "127.0.0.1", str(port)],
                                    {"HOST": "127.0.0.1", "PORT": str(port)})
        return {"exit": status, **tap(text)}


def tap(text):
    """The points of TAP output, subtests included."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"\s*(not ok|ok)\s+\d+\s*(?:-\s*)?(.*)$", line)
        if match:
            name = re.sub(r":\d{4,5}\b", ":PORT", match.group(2)).strip() or "point"
            while name in found:
                name += "'"
            found[name] = match.group(1)
    return found


class Tap(Suite):
    """Scripts that speak TAP and bring their own servers: FOLDER has t/*.t, --word=perl --word=-Ilib the interpreter."""

    brings_servers = True

    def all(self):
        return sorted(str(file.relative_to(self.folder)) for file in self.folder.glob("t/**/*.t"))

    def run(self, test, env):
        status, text = self.execute([*(self.words or ["perl"]), test], env, self.folder)
        return {"exit": status, **tap(text)}


class Unittest(Suite):
    """Python's own tests of its ssl module and what stands on it (Debian: libpython3-testsuite), as one program each."""

    brings_servers = True
    modules = ["test.test_ssl", "test.test_asyncio.test_ssl", "test.test_asyncio.test_sslproto", "test.test_httplib",
               "test.test_urllib2_localnet", "test.test_ftplib", "test.test_poplib", "test.test_imaplib"]

    def all(self):
        return self.modules

    def run(self, test, env):
        status, text = self.execute(["/usr/bin/python3", "-m", "unittest", "-v", *self.words, test], env)
        found, name = {"exit": status}, None
        for line in text.splitlines():
            begin = re.match(r"(test\w+) \((\S+)\)", line)
            name = begin.group(2) if begin else name
            end = re.search(r"\.\.\. .*?(ok|FAIL|ERROR|skipped|expected failure)\b", line) or \
                re.match(r"(ok|FAIL|ERROR)$", line)
            if name and end:
                found[unique(name, found)], name = end.group(1), None
        return found


class Testssl(Suite):
    """testssl.sh, installed or in FOLDER: a group of its checks each."""

    groups = ["--protocols", "--grease", "--std", "--fs", "--server-preference", "--server-defaults", "--headers",
              "--vulnerable", "--each-cipher", "--cipher-per-proto", "--client-simulation"]
    varies = {"scanTime", "engine_problem", "TLS_timestamp", "clock_skew", "HTTP_clock_skew", "cert_notBefore",
              "TLS_session_ticket"}

    def all(self):
        return [group.lstrip("-") for group in self.groups]

    def run(self, test, port):
        program = str(self.folder / "testssl.sh") if self.folder else shutil.which("testssl")
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "findings.csv")
            status, _ = self.execute([program, "--quiet", "--color", "0", "--warnings", "off", "--ip", "one", "--csvfile",
                                      out, "--openssl-timeout", "10", *self.words, f"--{test}", f"127.0.0.1:{port}"])
            outcomes = {"exit": status}
            if os.path.exists(out):
                with open(out, encoding="utf-8", errors="replace") as file:
                    rows = list(csv.DictReader(file))
                for row in rows:
                    if row["id"] not in self.varies:
                        outcomes[unique(row["id"], outcomes)] = row["severity"] + " " + row["finding"]
        return outcomes


def unique(name, taken):
    while name in taken:
        name += "'"
    return name


class Lines(Suite):
    """A scanner whose every line of output counts."""

    programs = {}

    def all(self):
        return sorted(self.programs)

    def run(self, test, port):
        argv = [word.replace("PORT", str(port)) for word in self.programs[test]] + self.words
        status, text = self.execute([str(self.folder / argv[0]) if self.folder else argv[0], *argv[1:]])
        outcomes = {"exit": status}
        for line in text.splitlines():
            line = re.sub(r"\b\d+(\.\d+)?\s?(ms|s|seconds)\b", "TIME", line.replace(str(port), "PORT")).strip()
            if line and not re.match(r"(# )?(Starting )?Nmap|.*\d\d:\d\d:\d\d|Not valid|Host is up", line):
                outcomes[unique(line, outcomes)] = "said"
        return outcomes


class Sslscan(Lines):
    programs = {"all": ["sslscan", "--no-colour", "--show-cipher-ids", "127.0.0.1:PORT"],
                "resumption": ["sslscan", "--no-colour", "--no-ciphersuites", "--show-client-cas", "127.0.0.1:PORT"]}


class Nmap(Lines):
    scripts = ["ssl-enum-ciphers", "ssl-cert", "ssl-ccs-injection", "ssl-dh-params", "ssl-heartbleed", "ssl-poodle",
               "sslv2", "sslv2-drown", "tls-alpn", "tls-nextprotoneg", "tls-ticketbleed"]
    programs = {script: ["nmap", "-Pn", "-n", "-p", "PORT", "--script", f"+{script}", "127.0.0.1"]
                for script in scripts}


SUITES = {"tlsfuzzer": Tlsfuzzer, "tap": Tap, "unittest": Unittest, "programs": Programs, "testssl": Testssl, "sslscan": Sslscan, "nmap": Nmap}
