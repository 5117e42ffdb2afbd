"""Fixtures of the system tests, and both sides' logs beside every failure."""

import hashlib
import os
import resource
import signal
import subprocess
import sys
import tempfile

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import programs  # noqa: E402
import programs_lab  # noqa: E402
from mtlslab import netns, tools  # noqa: E402
from mtlslab.lab import Lab  # noqa: E402
from mtlslab.pki import Pki  # noqa: E402
from mtlslab.proc import LIVE  # noqa: E402

os.environ.setdefault("MTLS_BUILD", tools.BUILD)  # for tests that read it themselves


def pytest_sessionstart(session):
    """Needs root; a run that lacks it fails at once instead of skipping in silence."""
    if os.geteuid() != 0:
        pytest.exit("the system tests lay network namespaces: run them as root", returncode=3)
    # Ignored signals are inherited: a run in the background of a script has no SIGINT, one under nohup no SIGHUP.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    netns.remove_stale()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for proc in LIVE:
            report.sections.append((f"process {proc.name}", proc.log()))


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"),
               Lab.all_server_addresses_of(4) + ["127.0.0.1", "127.0.1.1", "::1"])


@pytest.fixture
def lab():
    """Two paths."""
    with Lab() as built:
        yield built


@pytest.fixture
def lab3():
    """Three paths."""
    with Lab(paths=3) as built:
        yield built


SECRET = b"the text that nobody on path 1 may read: "


@pytest.fixture(scope="session")
def www(tmp_path_factory):
    """A folder to serve: /file (small), /big (8 MiB of noise)."""
    folder = tmp_path_factory.mktemp("www")
    (folder / "file").write_bytes(SECRET + b"0123456789abcdef" * 64 + b"\n")
    (folder / "big").write_bytes(noise(8 << 20))
    return folder


def noise(size):
    """Bytes that are the same in each run and repeat nowhere."""
    return hashlib.shake_256(b"mtls").digest(size)


def attacker_in_c(tmp_path_factory, name):
    """An attacker of one C file, built with libssl."""
    out = str(tmp_path_factory.mktemp("attackers") / name)
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libssl", "libcrypto"],
                           capture_output=True, text=True, check=True).stdout.split()
    subprocess.run([os.environ.get("CC", "cc"), "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra",
                    "-Wno-unused-parameter",
                    "-o", out, os.path.join(HERE, "attackers", name + ".c"), *flags, "-lpthread"],
                   check=True)
    return out


@pytest.fixture(scope="session")
def mitm_ext(tmp_path_factory):
    """The interceptor that carries our extension over."""
    return attacker_in_c(tmp_path_factory, "mitm_ext")


@pytest.fixture(scope="session")
def mitm_ticket(tmp_path_factory):
    """The interceptor that passes the server's own ticket on."""
    return attacker_in_c(tmp_path_factory, "mitm_ticket")


@pytest.fixture(scope="session")
def ticket_server(tmp_path_factory):
    """A server whose ticket key is given."""
    return attacker_in_c(tmp_path_factory, "ticket_server")


@pytest.fixture
def server(lab, pki, www):
    """mtls-server on the service address, policy=require, serving www."""
    started = tools.Server(lab, pki, www=www)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def kit():
    """mtlsize and its libraries where every user can read them."""
    with tempfile.TemporaryDirectory(prefix="mtlsize-") as folder:
        yield programs.Kit(folder)


@pytest.fixture(scope="session")
def postgres(pki):
    """PostgreSQL's data folder, made once."""
    with tempfile.TemporaryDirectory(prefix="mtls-postgres-") as folder:
        os.chmod(folder, 0o755)
        yield programs_lab.Postgres(folder, pki)


@pytest.fixture(scope="session")
def open_www(www):
    """The same files where every user can read them."""
    with tempfile.TemporaryDirectory(prefix="mtls-www-") as folder:
        os.chmod(folder, 0o755)
        with open(os.path.join(folder, "file"), "wb") as file:
            file.write((www / "file").read_bytes())
        yield folder
