"""mtlsize enable, disable and status: what is written for systemd, and whether it holds. The unit files are beneath a
folder of the test's; the preloaded library is a stand-in."""

import json
import os
import pathlib
import shutil
import stat

import pytest

from mtlsize_tools import PATH2, home, mtlsize, version  # noqa: F401
from mtlslab import tools

UNIT = """[Unit]
Description=A service
[Service]
Environment=A=1 "LD_PRELOAD=/x/other.so"
ExecStart=-{program} --flag \\
  --more
[Install]
ExecStart=/not/in/this/section
"""


@pytest.fixture
def root(tmp_path, home):
    """A folder of unit files."""
    units = tmp_path / "lib" / "systemd" / "system"
    units.mkdir(parents=True)
    (units / "good.service").write_text(UNIT.format(program=home / "bin" / "with-ssl"))
    (units / "static.service").write_text(UNIT.format(program=home / "bin" / "static"))
    (units / "pool@.service").write_text(UNIT.format(program=home / "bin" / "with-ssl"))
    (units / "empty.service").write_text("[Service]\nType=oneshot\n")
    (units / "file.service").write_text(f"[Service]\nEnvironmentFile=-{tmp_path}/environment\n"
                                        f"ExecStart={home}/bin/with-ssl\n")
    (units / "narrow.service").write_text("[Service]\nRestrictAddressFamilies=AF_INET AF_INET6\n"
                                          f"ExecStart={home}/bin/with-ssl\n")
    return tmp_path


def drop_in(root, unit):
    return root / "etc" / "systemd" / "system" / f"{unit}.d" / "zz-mtls.conf"


def test_enable_and_disable(home, root):
    before = (root / "lib/systemd/system/good.service").read_text()
    run = mtlsize(home, "enable", "--root", root, "good", *PATH2, "--policy", "prefer")
    file = drop_in(root, "good.service")
    assert str(file) in run.stderr and "restart" in run.stderr
    assert file.read_text().splitlines()[1:] == [
        "[Unit]", f"AssertPathExists={home}/preload/libmtls-preload.so",
        "[Service]", f'Environment="LD_PRELOAD=/x/other.so:{home}/preload/libmtls-preload.so"',
        'Environment="MTLS_CONFIG=path2=dev=lo,remote=192.0.2.1 policy=prefer"',
        'Environment="MTLSIZE_UNHOOKED=refuse"']
    assert stat.S_IMODE(file.stat().st_mode) == 0o644 and os.listdir(file.parent) == [file.name]
    other = file.parent / "other.conf"
    other.write_text("[Service]\nEnvironment=LD_PRELOAD=/y.so\n")
    mtlsize(home, "enable", "--root", root, "good.service", "--listen", "192.0.2.1:914")  # again: replaced
    assert "MTLS_CONFIG=listen=192.0.2.1:914" in file.read_text() and "LD_PRELOAD=/y.so:" in file.read_text()
    assert json.loads(mtlsize(home, "status", "--json", "--root", root).stdout)["units"] == [
        {"unit": "good.service", "policy": "require", "words": "listen=192.0.2.1:914 share=good",
         "lacks": ["this machine has no address 192.0.2.1 now (listen=)"]}]
    text = mtlsize(home, "status", "--root", root).stdout
    assert text.index("by hand:") < text.index("Policy") < text.index("Enabled unit") < text.index(" share=good")
    mtlsize(home, "disable", "--root", root, "good")
    assert not file.exists() and other.exists()
    mtlsize(home, "disable", "--root", root, "good", code=1)
    assert (root / "lib/systemd/system/good.service").read_text() == before
    assert json.loads(mtlsize(home, "status", "--json", "--root", root).stdout)["units"] == []


def test_disable_leaves_nothing(home, root):
    mtlsize(home, "enable", "--root", root, "pool@one", *PATH2)
    assert drop_in(root, "pool@one.service").exists()
    mtlsize(home, "disable", "--root", root, "pool@one")
    assert os.listdir(root / "etc/systemd/system") == []


def test_dry_runs(home, root):
    run = mtlsize(home, "enable", "--dry-run", "--root", root, "good", *PATH2)
    assert "LD_PRELOAD" in run.stdout and str(drop_in(root, "good.service")) in run.stdout
    assert not (root / "etc").exists()
    mtlsize(home, "enable", "--root", root, "good", *PATH2)
    mtlsize(home, "disable", "--dry-run", "--root", root, "good")
    assert drop_in(root, "good.service").exists()


def test_enable_ignores_the_callers_words(home, root):
    """The unit will not have the environment of whoever enables it."""
    run = mtlsize(home, "enable", "--root", root, "good", env={"MTLS_CONFIG": " ".join(["policy=require", "path2=dev=lo"])},
                  code=1)
    assert "nothing would be confirmed" in run.stderr and "MTLS_CONFIG" not in run.stderr


def words_of(root, unit):
    """What the drop-in says in MTLS_CONFIG."""
    [line] = [line for line in drop_in(root, unit).read_text().splitlines() if "MTLS_CONFIG" in line]
    return line.split("MTLS_CONFIG=")[1].rstrip('"').split()


def test_enable_shares_the_listeners(home, root):
    """What systemctl reload starts beside the running server finds its listeners open to it."""
    mtlsize(home, "enable", "--root", root, "good", "--listen", "192.0.2.1:914")
    assert words_of(root, "good.service") == ["listen=192.0.2.1:914", "share=good"]
    mtlsize(home, "enable", "--root", root, "good", "--listen", "192.0.2.1:914", "--config", "share=mine")
    assert words_of(root, "good.service") == ["listen=192.0.2.1:914", "share=mine"]
    mtlsize(home, "enable", "--root", root, "good", *PATH2)
    assert words_of(root, "good.service") == [f"path2={PATH2[1]}"]


def test_enable_log(home, root):
    mtlsize(home, "enable", "--root", root, "good", *PATH2, "--log", "/var/log/100%.jsonl")
    assert drop_in(root, "good.service").read_text().splitlines()[-1] == 'Environment="MTLSIZE_LOG=/var/log/100%%.jsonl"'
    assert wrong(home, root) == ""
    mtlsize(home, "enable", "--root", root, "good", *PATH2)
    assert "MTLSIZE_LOG" not in drop_in(root, "good.service").read_text()
    assert "no absolute path" in mtlsize(home, "enable", "--root", root, "good", *PATH2, "--log", "x", code=1).stderr


def test_enable_notes_the_words(home, root):
    """A listener for every TLS port of the host, an address and a device that are not there."""
    run = mtlsize(home, "enable", "--root", root, "good", "--listen", "203.0.113.9:914",
                  "--path2", "dev=no-such-dev0,remote=192.0.2.1")
    assert "without --tls-port" in run.stderr and "no address 203.0.113.9" in run.stderr
    assert "no network device no-such-dev0" in run.stderr
    run = mtlsize(home, "enable", "--root", root, "good", "--listen", "127.0.0.1:914", "--tls-port", "443", *PATH2)
    assert "tls-port=443" in words_of(root, "good.service") and run.stderr.count("\n") == 1, run.stderr


@pytest.mark.parametrize("unit, words, says", [
    ("nowhere", PATH2, "no unit nowhere.service"), ("a/b", PATH2, "no name"), ("x.socket", PATH2, "no service"),
    ("static", PATH2, "statically"), ("empty", PATH2, "no program"), ("good", [], "nothing would be confirmed"),
    ("good", ["--path2", "x=y"], "x"), ("file", PATH2, "undo"),
])
def test_enable_refuses(home, root, unit, words, says):
    (root / "environment").write_text("A=1\nLD_PRELOAD=/z.so\n")
    run = mtlsize(home, "enable", "--root", root, unit, *words, code=1)
    assert says in run.stderr, run.stderr
    assert not (root / "etc").exists()


def test_enable_notes(home, root):
    (root / "environment").write_text("A=1\n")
    mtlsize(home, "enable", "--root", root, "file", *PATH2)
    assert "AF_NETLINK" in mtlsize(home, "enable", "--root", root, "narrow", *PATH2).stderr
    assert "statically" in mtlsize(home, "enable", "--root", root, "static", "--allow-unhooked", *PATH2).stderr
    assert "UNHOOKED=allow" in drop_in(root, "static.service").read_text()


def test_enable_needs_a_library_for_everybody(home, root):
    """The loader leaves out what the service's user cannot read."""
    folder = home / "preload"
    for closed, mode, opened in ((folder, 0o700, 0o755), (folder / "libmtls-preload.so", 0o600, 0o644)):
        closed.chmod(mode)
        try:
            assert "every user" in mtlsize(home, "enable", "--root", root, "good", *PATH2, code=1).stderr
        finally:
            closed.chmod(opened)
    assert not (root / "etc").exists()
    mtlsize(home, "enable", "--root", root, "good", *PATH2)


def test_foreign_drop_in_is_left_alone(home, root):
    file = drop_in(root, "good.service")
    file.parent.mkdir(parents=True)
    file.write_text("[Service]\nNice=5\n")
    for command in (["enable", *PATH2], ["disable"]):
        run = mtlsize(home, command[0], "--root", root, "good", *command[1:], code=1)
        assert "stays as it is" in run.stderr
    assert file.read_text() == "[Service]\nNice=5\n"


def test_enable_where_nothing_can_be_written(home, root):
    (root / "etc").write_text("a file")
    run = mtlsize(home, "enable", "--root", root, "good", *PATH2, code=3)
    assert "zz-mtls.conf" in run.stderr


def test_status(home, tmp_path):
    hosts = tmp_path / "hosts"
    cnf = tmp_path / "openssl.cnf"
    cnf.write_text("openssl_conf = i\n[i]\nproviders = p\n[p]\ndefault = d\nmtls = m\n[d]\nactivate = 1\n"
                   "[m]\nactivate = 1\npolicy = prefer\npath2 = dev=lo\n")
    env = {"OPENSSL_CONF": str(cnf), "OPENSSL_MODULES": str(pathlib.Path(tools.BUILD) / "provider"),
           "MTLS_CONFIG": f"need=1 hosts={hosts}"}
    line = json.loads(mtlsize(home, "status", "--json", "--root", tmp_path, env=env).stdout)
    assert line["openssl_cnf"] == str(cnf) and line["openssl_cnf_words"] == "policy=prefer path2=dev=lo"
    assert (line["policy"], line["paths"], line["listeners"]) == ("prefer", 1, 0)
    assert line["preload"] == f"{home}/preload/libmtls-preload.so, version {version()}"
    if tools.sanitizer() is None:
        assert line["module"].endswith(f"mtls.so, version {version()}")
    assert line["hosts"] == str(hosts) and "hosts_error" not in line
    hosts.write_text("damage")
    hosts.chmod(0o600)
    assert "hosts_error" in json.loads(mtlsize(home, "status", "--json", "--root", tmp_path, env=env, code=1).stdout)
    run = mtlsize(home, "status", "--root", tmp_path, env={**env, "MTLS_CONFIG": "nonsense"}, code=1)
    assert "! " in run.stdout and "nonsense" in run.stdout


@pytest.mark.parametrize("before, after", [("OURS", "OURS"), ("OURS:x.so", "OURS:x.so"), ("x.so OURS", "x.so OURS"),
                                           ("OURS.old", "OURS.old:OURS"), ("x.so", "x.so:OURS"), ("", "OURS")])
def test_library_is_listed_once(home, root, before, after):
    """A name that only looks like ours is not ours."""
    ours = f"{home}/preload/libmtls-preload.so"
    unit = root / "lib/systemd/system/good.service"
    unit.write_text(f'[Service]\nEnvironment="LD_PRELOAD={before.replace("OURS", ours)}"\nExecStart={home}/bin/with-ssl\n')
    mtlsize(home, "enable", "--root", root, "good", *PATH2)
    assert f'"LD_PRELOAD={after.replace("OURS", ours)}"' in drop_in(root, "good.service").read_text()


def test_words_of_openssl_cnf(home, root, tmp_path):
    """They are written into MTLS_CONFIG, beneath the others: the preloaded library looks there alone."""
    cnf = tmp_path / "openssl.cnf"
    cnf.write_text("openssl_conf = i\n[i]\nproviders = p\n[p]\ndefault = d\nmtls = m\n[d]\nactivate = 1\n"
                   "[m]\npolicy = prefer\npath2 = dev=lo,remote=192.0.2.3\ndeadline = 3000\n")
    run = mtlsize(home, "run", "--policy", "require", "sh", "-c", "echo $MTLS_CONFIG",
                  env={"OPENSSL_CONF": str(cnf), "MTLS_CONFIG": "need=1"})
    assert run.stdout == "path2=dev=lo,remote=192.0.2.3 deadline=3000 need=1 policy=require\n"
    mtlsize(home, "enable", "--root", root, "good", env={"OPENSSL_CONF": str(cnf)})
    assert "MTLS_CONFIG=policy=prefer path2=dev=lo,remote=192.0.2.3 deadline=3000" in drop_in(root, "good.service").read_text()


# ---- what undoes a drop-in

def put(root, name, *lines):
    """A drop-in of somebody else, NAME of good.service or DIR/NAME."""
    folder = "etc/systemd/system/good.service.d" if "/" not in name else ""
    file = root / folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(["[Service]", *lines, ""]))
    return file


def wrong(home, root):
    line = json.loads(mtlsize(home, "status", "--json", "--root", root, code=None).stdout)
    return " ".join(line["units_wrong"])


SYSTEM = "etc/systemd/system"
UNDOES = [
    ("zzz.conf", "Environment=LD_PRELOAD=", "sets LD_PRELOAD"),
    ("zzz.conf", "Environment=", "removes MTLS_CONFIG"),
    ("zzz.conf", 'Environment=A=1 "MTLS_CONFIG=policy=off"', "sets MTLS_CONFIG"),
    ("zzz.conf", "# a comment \\\nEnvironment=MTLSIZE_UNHOOKED=allow", "sets MTLSIZE_UNHOOKED"),
    ("override.conf", "UnsetEnvironment=A LD_PRELOAD", "UnsetEnvironment=LD_PRELOAD"),
    ("override.conf", "RootDirectory=/srv/other", "root directory"),
    ("override.conf", "RootImage=/srv/image", "root directory"),
    ("override.conf", "EnvironmentFile=/HERE/environment", "environment sets LD_PRELOAD"),
    ("override.conf", "EnvironmentFile=-/HERE/%p-*.env", "good-1.env sets MTLS_CONFIG"),
    ("override.conf", "InaccessiblePaths=-/LIBRARY", "InaccessiblePaths="),
    ("override.conf", "TemporaryFileSystem=/LIBRARY:ro", "TemporaryFileSystem="),
    ("override.conf", "NoExecPaths=/\nExecPaths=/LIBRARYS /usr", "NoExecPaths=/"),
    ("override.conf", "BindPaths=/var/empty:/LIBRARY", "BindPaths=/"),
    ("override.conf", "BindReadOnlyPaths=/usr -/dev/null:/LIBRARY/libmtls-preload.so:norbind", "BindReadOnlyPaths=/"),
    ("override.conf", "TemporaryFileSystem=/tmp\nBindReadOnlyPaths=/LIBRARYS", "TemporaryFileSystem=/tmp"),
    ("override.conf", "InaccessiblePaths=/tmp\nBindPaths=/LIBRARY", "InaccessiblePaths=/tmp"),
    ("zzz.conf", "[Unit]\nAssertPathExists=", "AssertPathExists=/"),
    ("zzz.conf", "[Unit]\nAssertACPower=", "AssertPathExists=/"),
    ("override.conf", "ExecStart=\nExecStart=/usr/bin/systemd-run --pipe x", "systemd-run"),
    ("override.conf", "PrivateTmp=yes", "PrivateTmp=/tmp"),
    ("override.conf", "ExecStart=\nExecStart=/usr/bin/env -u LD_PRELOAD x", "removes LD_PRELOAD"),
    ("override.conf", "ExecStart=\nExecStart=-/usr/bin/env LD_PRELOAD= x", "replaces LD_PRELOAD"),
    ("override.conf", "ExecStart=\nExecStart=/bin/sh -c 'unset LD_PRELOAD; x'", "shell command"),
    ("override.conf", "ExecStart=\nExecStart=/usr/bin/sudo -u nobody x", "sudo"),
    ("override.conf", "ExecStart=\nExecStart=/usr/bin/env /BIN/static", "statically"),
    ("override.conf", "User=nobody\nExecStart=\nExecStart=/BIN/privileged", "gains privileges"),
    ("override.conf", "DynamicUser=yes\nExecStart=\nExecStart=/BIN/capable-too", "gains privileges"),
    ("override.conf", "ExecStart=", "starts no program"),
    (f"{SYSTEM}/service.d/zzz.conf", "Environment=LD_PRELOAD=", "service.d/zzz.conf sets"),
    (f"{SYSTEM}/alias.service.d/zzz.conf", "Environment=LD_PRELOAD=", "alias.service.d/zzz.conf sets"),
    ("run/systemd/system/good.service.d/zzz.conf", "Environment=LD_PRELOAD=", "zzz.conf sets"),
    ("etc/systemd/system.control/good.service.d/zz-mtls.conf", "Nice=1", "hides"),
]
HOLDS = [
    ("override.conf", "Environment=LD_PRELOAD="),
    ("override.conf", "Environment="),
    ("zzz.conf", "Environment=A=1 LD_PRELOADS=x"),
    ("zzz.conf", "; a comment \\\nNice=1\n#Environment=LD_PRELOAD="),
    ("override.conf", "UnsetEnvironment=LD_PRELOAD\nUnsetEnvironment="),
    ("override.conf", "RootDirectory=/srv\nRootDirectory="),
    ("override.conf", "EnvironmentFile=/HERE/environment\nEnvironmentFile="),
    ("override.conf", "EnvironmentFile=-/HERE/other"),
    ("override.conf", "NoExecPaths=/\nExecPaths=/usr /LIBRARY /BIN"),
    ("override.conf", "InaccessiblePaths=/LIBRARYS"),
    ("override.conf", "BindPaths=/var/empty:/LIBRARYS /LIBRARY:/LIBRARY:rbind"),
    ("override.conf", "BindPaths=/var/empty:/LIBRARY\nBindReadOnlyPaths="),
    ("override.conf", "TemporaryFileSystem=/tmp:ro\nBindReadOnlyPaths=/LIBRARY"),
    ("override.conf", "[Unit]\nAssertPathExists="),
    ("zzz.conf", "[Unit]\nAssertPathExists=/usr\nAfter=\n[Service]\nAssertPathExists="),
    ("override.conf", "PassEnvironment=LD_PRELOAD"),
    ("override.conf", "ExecStart=\nExecStart=/usr/bin/env A=1 /BIN/with-ssl"),
    ("override.conf", "ExecStart=\nExecStart=/usr/bin/env -i /BIN/with-ssl"),
    ("override.conf", "ExecStart=\nExecStart=/usr/bin/env LD_PRELOAD=/x.so /BIN/with-ssl"),
    ("override.conf", "ExecStart=\nExecStart=/BIN/privileged"),
    ("override.conf", "User=nobody\nNoNewPrivileges=yes\nExecStart=\nExecStart=/BIN/privileged"),
    ("override.conf", "User=nobody\nSecureBits=keep-caps noroot\nAmbientCapabilities=CAP_NET_BIND_SERVICE\nDynamicUser=yes"),
    ("lib/systemd/system/good.service.d/zz-mtls.conf", "Environment=LD_PRELOAD="),
]


@pytest.fixture
def ready(home, root):
    """Links, programs and files that the cases name; the function that fills them in."""
    (root / "environment").write_text("A=1\n  LD_PRELOAD = /z.so\n")
    (root / "other").write_text("#LD_PRELOAD=x\nLD_PRELOADS=x\n")
    (root / "good-1.env").write_text("MTLS_CONFIG=x\n")
    units = root / "etc/systemd/system"
    units.mkdir(parents=True)
    (units / "alias.service").symlink_to("../../../lib/systemd/system/good.service")
    (units / "masked.service").symlink_to("/dev/null")
    (units / "hollow.service").write_text("")
    bins = home / "bin"
    for name, mode in (("privileged", 0o4755), ("capable-too", 0o755)):
        shutil.copy(bins / "with-ssl", bins / name)
        (bins / name).chmod(mode)
    os.setxattr(bins / "capable-too", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    return lambda text: text.replace("/HERE", str(root)).replace("/BIN", str(bins)).replace(
        "/LIBRARY", str(home / "preload"))


@pytest.mark.parametrize("name, text, says", UNDOES, ids=[f"{n}-{s}" for n, _, s in UNDOES])
def test_undone(home, root, ready, name, text, says):
    """Refused with its reason; and where it came later, status says so."""
    mtlsize(home, "enable", "--root", root, "good", *PATH2)
    assert wrong(home, root) == ""
    before = drop_in(root, "good.service").read_text()
    put(root, name, ready(text))
    run = mtlsize(home, "enable", "--root", root, "good", "--listen", "192.0.2.1:1", code=1)
    assert says in run.stderr and drop_in(root, "good.service").read_text() == before, run.stderr
    mtlsize(home, "status", "--root", root, code=1)
    assert says in wrong(home, root)
    drop_in(root, "good.service").unlink()
    mtlsize(home, "enable", "--root", root, "good", *PATH2, code=1)
    assert not drop_in(root, "good.service").exists()


@pytest.mark.parametrize("name, text", HOLDS, ids=[f"{n}-{t[:20]!r}" for n, t in HOLDS])
def test_holds(home, root, ready, name, text):
    put(root, name, ready(text))
    mtlsize(home, "enable", "--root", root, "good", *PATH2)
    assert wrong(home, root) == "" and "good.service" in mtlsize(home, "status", "--root", root).stdout


def test_nothing_lets_an_undone_drop_in_pass(home, root, ready):
    """--allow-unhooked is for programs, not for a drop-in without effect."""
    put(root, "override.conf", "UnsetEnvironment=LD_PRELOAD")
    mtlsize(home, "enable", "--allow-unhooked", "--root", root, "good", *PATH2, code=1)
    for command in ("/usr/bin/sudo x", f"/usr/bin/env -i {home}/bin/with-ssl"):
        put(root, "override.conf", "ExecStart=", f"ExecStart={command}")
        run = mtlsize(home, "enable", "--allow-unhooked", "--root", root, "good", *PATH2)
        assert "environment of its own" in run.stderr or "changes our variables" in run.stderr
    assert wrong(home, root) == ""


def test_library_that_is_gone(home, root):
    """The unit does not start then; status says so. A drop-in of old that lacks this is to be written again."""
    mtlsize(home, "enable", "--root", root, "good", *PATH2)
    library, file = home / "preload" / "libmtls-preload.so", drop_in(root, "good.service")
    library.rename(home / "away")
    try:
        assert "is not there: it does not start" in wrong(home, root)
    finally:
        (home / "away").rename(library)
    assert wrong(home, root) == ""
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "Assert" not in line))
    assert "AssertPathExists=" in wrong(home, root)
    mtlsize(home, "enable", "--root", root, "good", *PATH2)
    assert wrong(home, root) == ""


@pytest.mark.parametrize("unit, says", [("masked", "is masked"), ("hollow", "is masked"), ("nowhere", "no unit"),
                                        ("mine", "systemctl --user"), ("old", "/etc/init.d/old")])
def test_no_such_unit(home, root, ready, unit, says):
    (root / "usr/lib/systemd/user").mkdir(parents=True)
    (root / "usr/lib/systemd/user/mine.service").write_text("[Service]\n")
    (root / "etc/init.d").mkdir()
    (root / "etc/init.d/old").write_text("#!/bin/sh\n")
    assert says in mtlsize(home, "enable", "--root", root, unit, *PATH2, code=1).stderr


def test_alias(home, root, ready):
    """The drop-in goes where the unit's own name is, and is found again there."""
    mtlsize(home, "enable", "--root", root, "alias", *PATH2)
    assert drop_in(root, "good.service").exists() and not drop_in(root, "alias.service").exists()
    mtlsize(home, "disable", "--root", root, "alias")
    assert not drop_in(root, "good.service").exists()


def test_templates(home, root, ready):
    """One instance, or all of them; the drop-ins of the template count for each."""
    (root / "one.env").write_text("LD_PRELOAD=/x.so\n")
    put(root, f"{SYSTEM}/pool@.service.d/a.conf", ready("EnvironmentFile=-/HERE/%i.env"))
    mtlsize(home, "enable", "--root", root, "pool@one", *PATH2, code=1)
    mtlsize(home, "enable", "--root", root, "pool@two", *PATH2)
    assert wrong(home, root) == ""
    run = mtlsize(home, "enable", "--root", root, "pool@", *PATH2)
    assert "cannot be told" in run.stderr and drop_in(root, "pool@.service").exists()
    put(root, f"{SYSTEM}/pool@.service.d/zzz.conf", "Environment=LD_PRELOAD=")
    assert wrong(home, root).count("sets LD_PRELOAD") == 2


def test_specifiers_of_the_unit_stay(home, root, ready):
    put(root, "override.conf", 'Environment="LD_PRELOAD=/x/%i.so"')
    mtlsize(home, "enable", "--root", root, "good", *PATH2)
    assert f'"LD_PRELOAD=/x/%i.so:{home}/preload/libmtls-preload.so"' in drop_in(root, "good.service").read_text()


def test_status_of_what_has_changed(home, root, ready):
    """The unit is gone, its own LD_PRELOAD is another, the library is elsewhere now."""
    mtlsize(home, "enable", "--root", root, "good", *PATH2)
    put(root, "override.conf", "Environment=LD_PRELOAD=/new.so")
    assert "LD_PRELOAD has changed" in wrong(home, root)
    mtlsize(home, "enable", "--root", root, "good", *PATH2)
    assert wrong(home, root) == ""
    file = drop_in(root, "good.service")
    file.write_text(file.read_text().replace("/preload/", "/lost/"))
    assert "which is not there" in wrong(home, root)
    mtlsize(home, "enable", "--root", root, "good", *PATH2)
    (root / "lib/systemd/system/good.service").unlink()
    assert "there is no unit good.service" in wrong(home, root)
