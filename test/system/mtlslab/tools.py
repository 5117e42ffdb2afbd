"""mtls-server and mtls-client inside a laboratory, and what they said about a session."""

import functools
import os
import shutil

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.environ.get("MTLS_BUILD", os.path.join(REPO, "build"))

VERIFIED, RESUMED, PLAIN, FAILED = "verified", "resumed-verified", "plain", "failed"
EXIT_OK, EXIT_USAGE, EXIT_UNVERIFIED, EXIT_NETWORK = 0, 1, 2, 3

# Sanitizer findings must never pass for a refusal: their exit code is none of the tools'.
_SANITIZER = {
    "ASAN_OPTIONS": "exitcode=99:detect_leaks=1:abort_on_error=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
    "TSAN_OPTIONS": "exitcode=99:halt_on_error=0:second_deadlock_stack=1",
    "LSAN_OPTIONS": "exitcode=99",
}


def tool(name):
    """The path of a built tool."""
    path = os.path.join(BUILD, "apps", name)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: build first (meson compile -C build), or set MTLS_BUILD")
    return path


@functools.lru_cache(maxsize=None)
def sanitizer():
    """Which sanitizer the tools were built with: "asan", "tsan" or None."""
    with open(tool("mtls-server"), "rb") as file:
        binary = file.read()
    return next((name for name in ("asan", "tsan") if f"__{name}_".encode() in binary), None)


def split(address):
    """("10.0.0.1", 443) of "10.0.0.1:443" or "[::1]:443"."""
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


def join(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_sanitizer(proc):
    """A sanitizer's report in a log is a failure whatever else happened."""
    for mark in (b"AddressSanitizer", b"LeakSanitizer", b"ThreadSanitizer", b"runtime error:"):
        assert mark not in proc.stderr, proc.log(20000)


class Server:
    """A running mtls-server."""

    def __init__(self, lab, pki, *options, address=None, path2=True, policy=None, www=None,
                 cert=None, key=None, ns=None, listen=None, path2_listen=None, env=None):
        address = address or lab.addr
        argv = [tool("mtls-server"), "--json", "--listen", listen or join(address, 0),
                "--cert", cert or pki.cert, "--key", key or pki.key]
        if path2_listen:
            for word in path2_listen:
                argv += ["--path2-listen", word]
        elif path2:
            argv += ["--path2-listen", join(address, 0)]
        if policy:
            argv += ["--policy", policy]
        if www:
            argv += ["--www", str(www)]
        self.proc = lab.spawn(ns or lab.server, argv + [str(word) for word in options],
                              name="mtls-server", env={**_SANITIZER, **(env or {})})
        line = self.proc.wait_json(event="listening")
        self.listen = line["listen"][0]
        self.path2 = line.get("path2") or []
        self.host, self.port = split(self.listen)
        self.path2_port = split(self.path2[0])[1] if self.path2 else None
        lab.hosts(lab.client, **{pki.name.replace(".", "_"): self.host})

    def session(self, number=0, timeout=None):
        """The number-th session's line."""
        return self.proc.wait_json(event="session", skip=number, timeout=timeout)

    def sessions(self):
        return [line for line in self.proc.jsons() if line.get("event") == "session"]

    def stop(self):
        """A graceful stop, with what a sanitizer says at the end."""
        code = self.proc.stop()
        check_sanitizer(self.proc)
        return code


class Result:
    """What one mtls-client run came to."""

    def __init__(self, proc):
        self.proc = proc
        self.code = proc.wait()
        check_sanitizer(proc)
        lines = [line for line in proc.jsons() if "outcome" in line]
        self.line = lines[-1] if lines else {}
        self.outcome = self.line.get("outcome")
        self.reason = self.line.get("reason")
        self.paths = self.line.get("paths", [])
        self.body = proc.stdout

    def __repr__(self):
        return f"exit {self.code}, {self.line}\n{self.proc.log()}"


def spec(lab, server, path=2, address=None, **words):
    """A path specification: the device of the path, and the server's path-2 listener. A word that
    is None is left out."""
    given = {"dev": f"p{path}",
             "remote": join(address or server.host, server.path2_port), **words}
    return ",".join(f"{key}={value}" for key, value in given.items() if value is not None)


def client_argv(lab, pki, server, *options, path2=None, policy=None, cafile=None, get="/file",
                port=None, host=None, connect=None):
    """The command line; path2: None = one path over p2, [] = none, or a list of specifications."""
    argv = [tool("mtls-client"), join(host or pki.name, port or server.port), "--json",
            *([] if "--unsafe-no-verify" in options else ["--cafile", cafile or pki.cafile])]
    if connect is None and sanitizer() == "tsan":
        connect = server.host  # TSan crashes in the threads of glibc's getaddrinfo_a()
    if connect:
        argv += ["--connect", connect]
    if path2 is None:
        path2 = [spec(lab, server)]
    for words in path2:
        argv += ["--path2", words]
    if policy:
        argv += ["--policy", policy]
    if get:
        argv += ["--get", get]
    return argv + [str(word) for word in options]


def start_client(lab, pki, server, *options, stdin=None, env=None, **words):
    """Starts mtls-client without waiting for it."""
    return lab.spawn(lab.client, client_argv(lab, pki, server, *options, **words),
                     name="mtls-client", stdin=stdin, env={**_SANITIZER, **(env or {})})


def client(lab, pki, server, *options, **words):
    """Runs mtls-client to its end."""
    return Result(start_client(lab, pki, server, *options, **words))


def curl(lab, pki, host, port, path="/file", *, cafile=None, options=()):
    """Fetches over plain TLS from the client's namespace; returns the process."""
    return lab.run(lab.client, ["curl", "-sS", "--noproxy", "*", "--max-time", "20", "--cacert",
                                cafile or pki.cafile, "--resolve", f"{pki.name}:{port}:{host}",
                                *options, f"https://{pki.name}:{port}{path}"], name="curl")


def which(name):
    """A stock program; those in /usr/sbin are not on every PATH."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert found, f"{name} is missing: scripts/setup installs it"
    return found
