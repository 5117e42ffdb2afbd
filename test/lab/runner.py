"""Runs attacks, two at a time, each in a laboratory of its own; what came of each is a Result."""

import concurrent.futures
import dataclasses
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mtlslab import attack, tools
from mtlslab.lab import Lab
from mtlslab.pki import Pki

import attacks
from scene import NotServed, Scene
from table import COLUMNS

JOBS = 2
FOR_ALL = [key for key, _, _ in COLUMNS]  # a column says by itself whether the certificate is trusted


@dataclasses.dataclass
class Run:
    """One attack on one row in one column, and what is promised."""

    row: object
    column: str
    attack: object
    rogue: bool
    promised: str

    @property
    def key(self):
        rogue = "" if self.column in FOR_ALL else "/rogue" if self.rogue else "/auth"
        return f"{self.row.key}/{self.column}/{attacks.name_of(self.attack)}{rogue}"


@dataclasses.dataclass
class Result:
    run: Run
    verdict: str  # "error" if the attack could not be carried out
    read: list
    altered: list
    outcome: dict
    events: list
    log: str
    seconds: float

    @property
    def as_promised(self):
        return self.verdict == self.run.promised

    def json(self):
        return {"row": self.run.row.key, "column": self.run.column,
                "attack": attacks.name_of(self.run.attack), "does": attacks.says(self.run.attack),
                "promised": self.run.promised, "verdict": self.verdict, "read": self.read,
                "altered": self.altered, "client": self.outcome, "attackers": self.events,
                "seconds": round(self.seconds, 1)}


class Runner:
    def __init__(self, keep=None, capture=False):
        self.keep, self.capture = keep, capture
        self.stopping = threading.Event()
        self._labs, self._lock = set(), threading.Lock()

    def __enter__(self):
        self._temp = tempfile.mkdtemp(prefix="mtls-lab-")
        folder = pathlib.Path(self._temp)
        (folder / "pki").mkdir()
        self.pki = Pki(folder / "pki", Lab.all_server_addresses_of(4))
        self.pki.rogue_ca_key = str(folder / "rogue-ca.key")
        (folder / "rogue-ca.key").write_bytes(self.pki.rogue.key.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        self.programs = {name: build_attacker(name, folder) for name in ("mitm_ext", "mitm_ticket")}
        return self

    def __exit__(self, *_):
        shutil.rmtree(self._temp, ignore_errors=True)

    def stop(self):
        """From another thread: what is running ends soon, its namespaces go away."""
        self.stopping.set()
        with self._lock:
            for lab in self._labs:
                lab.stop_all()

    def results(self, runs):
        """Yields a Result for each run, as they end."""
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            waiting = [pool.submit(self.one, run) for run in runs]
            try:
                for done in concurrent.futures.as_completed(waiting):
                    if not done.cancelled() and done.result() is not None:
                        yield done.result()
            except BaseException:
                for future in waiting:
                    future.cancel()
                self.stop()
                raise

    def one(self, run):
        """One attack; None if it was interrupted."""
        if self.stopping.is_set():
            return None
        began = time.monotonic()
        folder = pathlib.Path(tempfile.mkdtemp(dir=self._temp))
        scene, log, captures = None, "", []
        try:
            with Lab(paths=run.row.paths) as lab:
                with self._lock:
                    self._labs.add(lab)
                try:
                    run.row.lay(lab)
                    captures = start_captures(lab, folder) if self.capture else []
                    scene = Scene(lab, self.pki, folder, self.programs, run.row, run.rogue)
                    scene.serve()
                    run.attack(scene)
                    verdict, read, altered = scene.verdict()
                except NotServed as error:
                    verdict, read, altered, log = "not served", [], [], f"{error}\n"
                except Exception as error:  # pylint: disable=broad-except
                    verdict, read, altered, log = "error", [], [], f"{type(error).__name__}: {error}\n"
                finally:
                    with self._lock:
                        self._labs.discard(lab)
                    for proc in captures:
                        proc.stop()
                    for proc in lab.procs:  # all is told: nobody need end in good order
                        proc.stop(signal.SIGKILL)
                log += "\n".join(proc.log() for proc in lab.procs)
                events = scene.seen_by_attackers() if scene else []
        finally:
            self._file(run, folder, log)
        if self.stopping.is_set():
            return None
        return Result(run, verdict, read, altered, (scene and scene.outcome) or {}, events, log,
                      time.monotonic() - began)

    def _file(self, run, folder, log):
        """The evidence of a run: every process's log, what the attackers wrote."""
        if self.keep:
            to = pathlib.Path(self.keep) / run.key.replace("/", "_")
            shutil.copytree(folder, to, dirs_exist_ok=True)
            (to / "log").write_text(log, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)


def start_captures(lab, folder):
    """What passes each router, both its sides."""
    found = []
    for path, router in lab.routers.items():
        proc = lab.spawn(router, [tools.which("tcpdump"), "-i", "any", "--immediate-mode", "-U", "-Z", "root", "-s", "0", "-w",
                                  str(folder / f"path-{path}.pcap"), "tcp or udp or icmp or icmp6"], name="tcpdump")
        proc.wait_text("listening on", stream="stderr")
        found.append(proc)
    return found


def build_attacker(name, folder):
    """An attacker that is one C file; returns the program."""
    source, out = pathlib.Path(attack.ATTACKERS) / f"{name}.c", str(folder / name)
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libssl", "libcrypto"],
                           capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["cc", "-std=gnu11", "-O1", "-o", out, str(source), *flags, "-lpthread"],
                   check=True)
    return out


