"""Runs the programs of programs.py inside a laboratory: with and without mtlsize, and the peers that they need."""

import os
import shutil
import signal
import subprocess

from mtlslab import attack, tools

import programs

LATE_MS = 300
SECRET_TEXT = b"the text that nobody"


class Peer:
    """A TLS server that a client program talks to."""

    def __init__(self, lab, pki, port, path2_port, proc=None):
        self.host, self.port, self.path2_port, self.proc = lab.addr, port, path2_port, proc
        lab.hosts(lab.client, **{pki.name.replace(".", "_"): self.host})


def backend(lab, protocol, folder):
    """A plain server behind mtls-server on the server's side; its port."""
    port = lab.port()
    argv = {"redis": ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)],
            "mqtt": [tools.which("mosquitto"), "-p", str(port)],
            "http": [programs.PYTHON, "-m", "http.server", "--bind", "127.0.0.1", "-d", str(folder), str(port)]}
    lab.spawn(lab.server, argv[protocol], name=protocol).wait_listening(port)
    return port


class Postgres:
    """A data folder that is made once, and copies of it that run."""

    def __init__(self, folder, pki):
        self.folder, self.pki = folder, pki
        self.as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

    def make(self):
        folder, pki = self.folder, self.pki
        os.makedirs(f"{folder}/first")
        shutil.chown(f"{folder}/first", "postgres", "postgres")
        subprocess.run([*self.as_user, f"{programs.POSTGRES[-1]}/initdb", "-D", f"{folder}/first/data", "-A", "trust",
                        "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C"], check=True, capture_output=True)
        data = f"{folder}/first/data"
        with open(f"{data}/pg_hba.conf", "w", encoding="ascii") as file:
            file.write("hostssl all all 0.0.0.0/0 trust\n")
        for source, name in ((pki.cert, "server.pem"), (pki.key, "server.key")):
            shutil.copy(source, f"{data}/{name}")
            os.chmod(f"{data}/{name}", 0o600)
            shutil.chown(f"{data}/{name}", "postgres", "postgres")

    def copy(self, name):
        """A folder with a data folder of its own in it."""
        if not os.path.exists(f"{self.folder}/first"):
            self.make()
        subprocess.run(["cp", "-a", f"{self.folder}/first", f"{self.folder}/{name}"], check=True)
        return f"{self.folder}/{name}"


def start_peer(place, lab, pki, kit, program, www, postgres, plain):
    """What a client program talks to: with Multipath TLS (policy prefer: its twin without is served as well), or plain."""
    policy = ["off"] if plain else ["prefer"]
    if program.protocol == "postgres":
        port, path2 = lab.port(), lab.port()
        pg = programs.Place(postgres.copy(f"pg{port}"), lab.addr, port, pki, pki.cafile, www)
        argv = [str(word) for word in programs.postgres(pg)]
        if not plain:
            argv = kit.argv(["--policy", "prefer", "--listen", f"{lab.addr}:{path2}"], argv)
        proc = lab.spawn(lab.server, postgres.as_user + argv, name="postgres")
        proc.wait_listening(port)
        return Peer(lab, pki, port, path2, proc)
    options = {"www": www} if program.protocol == "https" else {}
    words = [] if options else ["--forward", f"127.0.0.1:{backend(lab, program.protocol, place.folder)}"]
    return tools.Server(lab, pki, *words, path2=not plain, policy=policy[0], **options)


def client_words(peer, policy, path2_port=None):
    return ["--policy", policy, "--path2", f"dev=p2,remote={peer.host}:{path2_port or peer.path2_port}"]


class Run:
    """What a client program came to: what it delivered, its exit code, mtlsize's summary."""

    def __init__(self, proc, body):
        self.proc, self.body, self.code = proc, body, proc.wait()
        lines = [line for line in proc.jsons() if line.get("event") == "run"]
        self.summary = lines[-1] if lines else {}

    def __repr__(self):
        return f"{self.body!r}, {self.summary}\n{self.proc.log()}"


def run_client(lab, program, place, wrap=None):
    """Runs a client program to its end; wrap: makes its command line one of mtlsize."""
    argv = [str(word) for word in program.start(place)]
    if wrap:
        argv = wrap(argv)
    if not program.service:
        proc = lab.run(lab.client, argv, stdin=program.stdin, name=program.name)
        return Run(proc, proc.stdout)
    proc = lab.spawn(lab.client, argv, name=program.name)
    proc.wait_listening(place.local)
    poke = lab.run(lab.client, ["curl", "-s", "--noproxy", "*", "--max-time", "20", "-H", "Host: server.example",
                                f"http://127.0.0.1:{place.local}/file"], name="poke")
    proc.send(signal.SIGTERM)
    return Run(proc, poke.stdout)


def delivered(run, program):
    return (program.expect or SECRET_TEXT) in run.body


def intercept(lab, pki, tmp_path, port, protocol):
    """The interceptor of tls_mitm.py, which for PostgreSQL answers the wish for TLS first."""
    mitm = attack.tls_mitm(lab, pki, tmp_path, port,
                           options=["--postgres"] if protocol == "postgres" else [])
    return mitm


def empty(mitm):
    """Forgets what was stolen; what follows is judged on an empty record."""
    with open(mitm.record_file, "wb"):
        pass
