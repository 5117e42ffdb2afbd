"""systemctl reload of an enabled unit: systemd starts the commands of its ExecReload= with the environment of the
drop-in, beside the running server. The commands are those of Debian's units, with the paths of the test."""

import os
import pathlib
import secrets
import shlex

import pytest

from mtlsize_tools import home, mtlsize  # noqa: F401
from mtlslab import tools
import preload_tools
from test_preload_nginx import verified

UNITS = pathlib.Path("/lib/systemd/system")


def drop_in(home, root, unit, name, *words):
    """The variables that enable gives the unit under that name, but for the library."""
    folder = root / "lib/systemd/system"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.service").write_text((UNITS / f"{unit}.service").read_text())
    text = mtlsize(home, "enable", "--dry-run", "--root", root, name, *words).stdout
    return dict(shlex.split(line.partition("=")[2])[0].split("=", 1) for line in text.splitlines()
                if line.startswith("Environment="))


def commands(unit, key, **variables):
    """The words of ExecReload= and the like, but those that send a signal."""
    lines = [line.partition("=")[2] for line in (UNITS / f"{unit}.service").read_text().splitlines()
             if line.startswith(f"{key}=")]
    for name, value in variables.items():
        lines = [line.replace(f"${name}", str(value)) for line in lines]
    found = [shlex.split(line) for line in lines if "/bin/kill" not in line]
    assert found
    return found


def start_nginx(lab, pki, folder, www, port, wrap):
    argv = preload_tools.nginx_argv(lab, pki, folder, www, port, wrap, workers=2)
    conf = pathlib.Path(argv[argv.index("-c") + 1])
    conf.write_text(conf.read_text().replace("daemon off;", ""))
    return conf, lab.spawn(lab.server, [*argv, "-g", "daemon off;"], name="nginx")


def start_haproxy(lab, pki, folder, www, port, wrap):
    bundle, conf = folder / "bundle.pem", folder / "haproxy.cfg"
    bundle.write_text(pathlib.Path(pki.cert).read_text() + pathlib.Path(pki.key).read_text())
    conf.write_text(f"""
defaults
  mode http
  timeout connect 10s
  timeout client 10s
  timeout server 10s
frontend f
  bind {lab.addr}:{port} ssl crt {bundle}
  http-request return status 200 content-type text/plain file {www}/file
""")
    return conf, lab.spawn(lab.server, wrap.argv([tools.which("haproxy"), "-W", "-f", conf]), name="haproxy")


def reload_lines(unit, folder, conf):
    if unit == "nginx":
        return [[*line, "-c", conf, "-e", "stderr"]
                for line in commands(unit, "ExecStartPre") + commands(unit, "ExecReload")]
    return commands(unit, "ExecReload", CONFIG=conf, EXTRAOPTS=f"-S {folder}/master.sock")


@pytest.fixture
def name():
    """Of a unit of the test's own; what its programs share is gone afterwards."""
    own = f"test-{secrets.token_hex(4)}"
    yield own
    shared = f"/dev/shm/mtls3-{os.geteuid()}-{own}"
    if os.path.exists(shared):
        os.unlink(shared)


@pytest.mark.parametrize("unit, start", [("nginx", start_nginx), ("haproxy", start_haproxy)])
@pytest.mark.parametrize("more", [[], ["--config", "share=none"]])
def test_reload(home, lab, pki, www, tmp_path, name, unit, start, more):
    """As enable has it the listeners are shared; without, a second process finds them taken, and says where."""
    port, path2 = lab.port(), lab.port()
    where = tools.join(lab.addr, path2)
    env = drop_in(home, tmp_path / "root", unit, name, "--policy", "prefer", "--listen", where, "--tls-port", port, *more)
    wrap = preload_tools.Wrap(tmp_path, env["MTLS_CONFIG"], name="server")
    conf, proc = start(lab, pki, tmp_path, www, port, wrap)
    proc.wait_listening(port)
    service = preload_tools.Service(lab, pki, proc, port, path2, wrap)
    verified(lab, pki, service)
    shared = f"share={name}" in env["MTLS_CONFIG"].split()
    assert shared == (not more)
    for line in reload_lines(unit, tmp_path, conf):
        done = lab.run(lab.server, wrap.argv(line))
        assert (done.wait() == 0) == shared, done.log()
    refused = wrap.lines("refused")
    assert bool(refused) != shared and all(
        f"could not be opened: {where}: Address already in use" in line["why"] for line in refused), refused
    verified(lab, pki, service)
    verified(lab, pki, service)
