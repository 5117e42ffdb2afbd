"""mtlsize on its own: what it says of programs, how it runs them, what it writes for systemd. The preloaded
library is a stand-in here, which writes into the record what a test wants; test_programs_*.py has the real one."""

import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import tempfile

import pytest

from mtlslab import tools
from mtlslab.proc import Proc

SEEDS = pathlib.Path(__file__).resolve().parent.parent / "fuzz" / "corpus" / "elf"
PATH2 = ["--path2", "dev=lo,remote=192.0.2.1"]

STAND_IN = """
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
const char mark[] = "mtls-preload version @VERSION@";
__attribute__((constructor)) static void begin(void)
{
    const char *lines = getenv("STAND_IN_LINES"), *log = getenv("MTLSIZE_LOG");
    char loaded[64];
    if (log == NULL || getenv("STAND_IN_SLEEPS") != NULL)
        return;
    int fd = open(log, O_WRONLY | O_APPEND);
    snprintf(loaded, sizeof loaded, "{\\"event\\": \\"loaded\\", \\"pid\\": %d}\\n", (int)getpid());
    if (fd >= 0 && (write(fd, loaded, strlen(loaded)) < 0 || (lines != NULL && write(fd, lines, strlen(lines)) < 0)))
        _exit(99);
    close(fd);
    unsetenv("STAND_IN_LINES");
}
"""


def compile_c(out, text, *flags):
    source = out.with_suffix(".c")
    source.write_text(text)
    subprocess.run([os.environ.get("CC", "cc"), "-o", str(out), str(source), *flags], check=True)
    return out


def version():
    return subprocess.run([tools.tool("mtlsize"), "--version"], capture_output=True, text=True,
                          check=True).stdout.split()[1]


@pytest.fixture(scope="module")
def home():
    """mtlsize as in a build folder, beside the stand-in, and programs to look at; open to every user."""
    with tempfile.TemporaryDirectory(prefix="mtlsize-") as folder:
        yield build_home(pathlib.Path(folder))


def build_home(home):
    for folder in ("apps", "preload", "bin"):
        (home / folder).mkdir()
    shutil.copy(tools.tool("mtlsize"), home / "apps" / "mtlsize")
    compile_c(home / "preload" / "libmtls-preload.so", STAND_IN.replace("@VERSION@", version()),
              "-shared", "-fPIC")
    home.chmod(0o755)
    main, ssl = "int main(void) {%s return 0;}", "int SSL_CTX_new(void); "
    bins = home / "bin"
    compile_c(bins / "with-ssl", ssl + main % "SSL_CTX_new();", "-lssl")
    compile_c(bins / "static", main % "", "-static")
    compile_c(bins / "static-pie", main % "", "-static-pie", "-fPIE")
    compile_c(bins / "no-tls", main % "")
    compile_c(bins / "dlopens", "#include <stdio.h>\n" + main % 'puts("libssl.so.3");')
    compile_c(bins / "bundled", "int SSL_CTX_new(void) {return 0;} " + main % "SSL_CTX_new();")
    compile_c(bins / "boring", "int SSL_CTX_new(void) {return 0;} int SSL_CTX_set_custom_verify(void) {return 0;} "
              + main % "")
    compile_c(bins / "libprivate.so", "int SSL_CTX_new(void) {return 0;}", "-shared", "-fPIC")
    compile_c(bins / "private", ssl + main % "SSL_CTX_new();", f"-L{bins}", "-l:libprivate.so",
              "-Wl,-rpath,$ORIGIN")
    compile_c(bins / "lost", ssl + main % "SSL_CTX_new();", f"-L{bins}", "-l:libprivate.so")
    compile_c(bins / "musl", main % "", "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1")
    compile_c(bins / "no-loader", main % "", "-Wl,--dynamic-linker=/nowhere/ld-linux-x86-64.so.2")
    for name in ("go-section", "libssl-32-bit", "big-endian"):
        shutil.copy(SEEDS / name, bins / name)
    (bins / "cut").write_bytes((SEEDS / "libssl").read_bytes()[:100])
    (bins / "text").write_text("echo no first line\n")
    (bins / "empty").write_text("")
    (bins / "script").write_text(f"#!{bins}/with-ssl\n")
    (bins / "env-script").write_text("#!/usr/bin/env static\n")
    (bins / "loop").write_text(f"#!{bins}/loop\n")
    (bins / "odd-script").write_text("#!\n")
    (bins / "lost-script").write_text("#!/nowhere/sh\n")
    for file in bins.iterdir():
        file.chmod(0o755)
    (bins / "not-executable").write_text("x")
    shutil.copy(bins / "with-ssl", bins / "set-user-id")
    os.chown(bins / "set-user-id", 12345, 12345)
    (bins / "set-user-id").chmod(0o4755)
    return home


def mtlsize(home, *words, env=None, code=0, **options):
    """Runs it with the programs on PATH."""
    given = {key: value for key, value in os.environ.items() if not key.startswith("MTLS_C")}
    given["PATH"] = f"{home}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    run = subprocess.run([str(home / "apps" / "mtlsize"), *map(str, words)], env={**given, **(env or {})},
                         capture_output=True, text=True, timeout=60, check=False, **options)
    assert run.returncode == code, f"{words}: exit {run.returncode}\n{run.stdout}\n{run.stderr}"
    return run


def jsons(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


# ---- check

@pytest.mark.parametrize("name, verdict, reason", [
    ("with-ssl", "works", ""), ("script", "works", ""), ("dlopens", "probably", "dlopen"),
    ("no-tls", "no-tls", "no-tls"), ("static", "no", "static"), ("static-pie", "no", "static"),
    ("env-script", "no", "static"), ("bundled", "no", "bundled-openssl"), ("boring", "no", "boringssl"),
    ("private", "no", "bundled-openssl"), ("lost", "no", "library-missing"), ("musl", "no", "other-libc"),
    ("no-loader", "no", "no-loader"), ("go-section", "no", "go"), ("libssl-32-bit", "no", "wrong-machine"),
    ("big-endian", "no", "wrong-machine"), ("cut", "no", "broken-elf"), ("text", "no", "not-elf"),
    ("empty", "no", "not-elf"), ("loop", "no", "bad-script"), ("odd-script", "no", "bad-script"),
    ("lost-script", "no", "no-interpreter"), ("set-user-id", "no", "set-user-id"),
])
def test_check(home, name, verdict, reason):
    run = mtlsize(home, "check", "--json", name, code=2 if verdict == "no" else 0)
    [line] = jsons(run.stdout)
    assert (line["verdict"], line["reason"]) == (verdict, reason), line
    assert line["message"] and line["program"] == name and line["path"] == f"{home}/bin/{name}"


@pytest.mark.parametrize("name, reason", [("nowhere", "not-found"), ("/nowhere/x", "not-found"), ("", "not-found"),
                                          ("not-executable", "not-executable"), ("/tmp", "not-executable")])
def test_check_of_nothing(home, name, reason):
    [line] = jsons(mtlsize(home, "check", "--json", name, code=1).stdout)
    assert (line["verdict"], line["reason"]) == ("no", reason)


def test_check_capabilities(home):
    """File capabilities: the loader ignores LD_PRELOAD for everybody but root."""
    program = home / "bin" / "capable"
    shutil.copy(home / "bin" / "with-ssl", program)
    os.setxattr(program, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    [line] = jsons(mtlsize(home, "check", "--json", "capable").stdout)
    assert line["verdict"] == "works" and "another user" in line["notes"][0]
    run = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", home / "apps" / "mtlsize", "check", "--json",
                          program], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2 and jsons(run.stdout)[0]["reason"] == "file-capabilities", run


def test_check_table(home):
    run = mtlsize(home, "check", "with-ssl", "static", code=2)
    lines = run.stdout.splitlines()
    assert lines[0].split() == ["PROGRAM", "VERDICT", "WHY"] and len(lines) == 3
    assert lines[1].split()[:2] == ["with-ssl", "works"] and lines[2].split()[:2] == ["static", "no"]


# ---- run

def run_it(home, *words, lines=(), env=None, flags=(), code=0):
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    return mtlsize(home, "run", *PATH2, *flags, *words, env={**({"STAND_IN_LINES": text} if text else {}), **(env or {})},
                   code=code)


def session(outcome, peer="192.0.2.1:443", **more):
    return {"event": "session", "program": "true", "pid": 1, "outcome": outcome, "peer": peer, **more}


@pytest.mark.parametrize("lines, program, code, says", [
    ([], "true", 0, ""),
    ([], "false", 1, ""),
    ([session("verified")], "true", 0, ""),
    ([session("plain")], "true", 0, "1 plain"),
    ([session("failed", reason="downgrade")], "true", 2, "not verified, refused: 192.0.2.1:443: downgrade"),
    ([session("failed", reason="downgrade")], "false", 1, "downgrade"),
    ([session("failed", reason="path2-timeout"), session("verified")], "true", 0, "path2-timeout"),
    ([session("failed", role="server", reason="not-offered")], "true", 0, ""),
    ([{"event": "unhooked", "program": "x", "why": "gnutls"}], "true", 2, "x: TLS that cannot be protected"),
    ([{"event": "notice", "program": "x", "why": "y is linked statically"}], "true", 0, "x: started what is not watched: y"),
    ([{"event": "refused", "program": "x", "why": "static"}], "true", 2, "x: TLS that cannot be protected"),
    (["no json\n"], "true", 2, "damaged"),
])
def test_run_exit_code(home, lines, program, code, says):
    run = run_it(home, program, lines=lines, code=code)
    assert says in run.stderr and run.stdout == "", run
    if not says:
        assert run.stderr == ""


def test_run_allow_unhooked(home):
    """Opted out: said, but no failure."""
    run = run_it(home, "true", lines=[{"event": "unhooked", "program": "x", "why": "gnutls"}], flags=["--allow-unhooked"])
    assert "NOT protected: gnutls" in run.stderr


def test_run_environment(home):
    """What the program gets: the library at the end of LD_PRELOAD, the words over those of the caller."""
    other = "libc.so.6" if tools.sanitizer() is None else ""  # a sanitizer wants to be the first
    script = 'echo "$LD_PRELOAD|$MTLS_CONFIG|$MTLSIZE_UNHOOKED"; stat -c "%a %s" "$MTLSIZE_LOG"; echo "$MTLSIZE_LOG"'
    run = run_it(home, "sh", "-c", script, flags=["--policy", "prefer", "--config", "need=1"],
                 env={"LD_PRELOAD": other, "MTLS_CONFIG": "policy=require deadline=3000", "TMPDIR": str(home)})
    first, log_stat, log = run.stdout.splitlines()
    assert first == (f"{other}{other and chr(58)}{home}/preload/libmtls-preload.so|"
                     "deadline=3000 path2=dev=lo,remote=192.0.2.1 policy=prefer need=1|refuse")
    assert log_stat.startswith("600 ") and log.startswith(str(home)) and not os.path.exists(log)
    run = run_it(home, "sh", "-c", script, flags=["--allow-unhooked"])
    assert run.stdout.split("|")[2].startswith("allow")


@pytest.mark.parametrize("before, after", [("OURS", "OURS"), ("OURS:x.so", "OURS:x.so"), ("x.so OURS", "x.so OURS"),
                                           ("OURS.old", "OURS.old:OURS"), ("x.so", "x.so:OURS"), ("", "OURS")])
def test_library_is_listed_once(home, root, before, after):
    """A name that only looks like ours is not ours."""
    ours = f"{home}/preload/libmtls-preload.so"
    unit = root / "lib/systemd/system/good.service"
    unit.write_text(f'[Service]\nEnvironment="LD_PRELOAD={before.replace("OURS", ours)}"\nExecStart={home}/bin/with-ssl\n')
    mtlsize(home, "enable", "--root", root, "good", *PATH2)
    assert f'"LD_PRELOAD={after.replace("OURS", ours)}"' in drop_in(root, "good.service").read_text()


def test_run_config_file(home, tmp_path):
    words = tmp_path / "words"
    words.write_text("# mine\npath2=dev=lo,remote=192.0.2.7\npolicy=prefer\n")
    run = mtlsize(home, "run", "--config", words, "sh", "-c", "echo $MTLS_CONFIG")
    assert run.stdout == "path2=dev=lo,remote=192.0.2.7 policy=prefer\n"


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


def test_run_json(home):
    run = run_it(home, "true", flags=["--json"], lines=[session("verified"), session("failed", peer="h:1", reason="r")],
                 code=2)
    *problems, summary = jsons(run.stderr)
    assert [line["event"] for line in problems] == ["problem"]
    assert summary["event"] == "run" and summary["verified"] == summary["failed"] == 1
    assert (summary["program_exit"], summary["exit"]) == (0, 2)


@pytest.mark.parametrize("name, code", [("nowhere", 127), ("/nowhere/x", 127), ("not-executable", 126),
                                        ("static", 1), ("go-section", 1), ("wget", 1), ("set-user-id", 1), ("text", 1)])
def test_run_refuses(home, name, code):
    run = run_it(home, name, code=code)
    assert run.stdout == "" and run.stderr.count("\n") == 1 and run.stderr.startswith("mtlsize: "), run


def test_run_unprotected_if_asked(home):
    assert "NOT protected" in run_it(home, "static", flags=["--allow-unhooked"]).stderr
    run = run_it(home, "text", flags=["--allow-unhooked"], code=126)
    assert "Exec format error" in run.stderr


def test_run_not_loaded(home):
    """The loader ignores what it cannot open: the run says so, whatever the program did."""
    run = run_it(home, "true", env={"STAND_IN_SLEEPS": "1"}, code=2)
    assert "did not load" in run.stderr and "NOT protected" in run.stderr
    run_it(home, "false", env={"STAND_IN_SLEEPS": "1"}, code=1)


def test_run_exec(home):
    """The process is replaced: no record, no summary, the program's own exit code."""
    run = run_it(home, "sh", "-c", 'echo $$ "$MTLSIZE_LOG"; exit 7', flags=["--exec"], code=7,
                 lines=[session("failed")])
    assert len(run.stdout.split()) == 1 and run.stderr == ""


def test_run_keeps_arguments(home):
    run = run_it(home, "printf", "%s,", "--path2", "-x", "", "a b", "--")
    assert run.stdout == "--path2,-x,,a b,--,"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1])
def test_run_forwards_signals(home, number):
    """To the wrapper alone; the program's answer to it is its own."""
    script = (f'trap "echo caught; exit 5" {int(number)}; echo ready; '
              "while :; do read -r line || break; done")
    proc = Proc([home / "apps" / "mtlsize", "run", *PATH2, "bash", "-c", script], stdin=True)
    proc.wait_text("ready")
    proc.send(number)
    assert proc.wait() == 5 and b"caught" in proc.stdout, proc.log()
    proc.stop()


def test_run_killed_program(home):
    run = run_it(home, "sh", "-c", "kill -9 $$", code=128 + 9)
    assert run.stderr == ""


def test_run_same_group_and_terminal(home):
    """No session or process group of its own: a shell's job control reaches the program."""
    proc = Proc([home / "apps" / "mtlsize", "run", *PATH2, "sh", "-c", "ps -o pgid=,sid= -p $$"])
    assert proc.wait() == 0, proc.log()
    assert set(proc.stdout.split()) == {str(os.getpgid(0)).encode()} or set(proc.stdout.split()) == {
        str(proc.pid).encode()}


def test_run_stop_and_continue(home):
    """A program that stops itself stops the wrapper, for the shell to see; both go on together."""
    proc = Proc([home / "apps" / "mtlsize", "run", *PATH2, "sh", "-c", "echo ready; kill -STOP $$; echo on; exit 3"])
    pid, status = os.waitpid(proc.pid, os.WUNTRACED)
    assert pid == proc.pid and os.WIFSTOPPED(status)
    assert b"on" not in proc.stdout
    proc.send(signal.SIGCONT)
    assert proc.wait() == 3 and proc.stdout == b"ready\non\n", proc.log()


def test_run_with_ignored_child_signal(home):
    """SIGCHLD ignored by whoever starts it: the exit code is not lost, and the program finds it ignored."""
    start = ["env", "--ignore-signal=CHLD", home / "apps" / "mtlsize", "run", *PATH2]
    assert subprocess.run([*start, "sh", "-c", "exit 4"], timeout=60, check=False).returncode == 4
    run = subprocess.run([*start, "grep", "SigIgn", "/proc/self/status"], capture_output=True, text=True, timeout=60,
                         check=False)
    assert run.returncode == 0 and int(run.stdout.split()[1], 16) & (1 << (signal.SIGCHLD - 1)), run


@pytest.mark.parametrize("words, says", [
    ([], "no program"), (["true"], "policy=off"), (["--policy", "perhaps", *PATH2, "true"], "policy"),
    (["--path2", "", "true"], "empty"), (["--path2", "nonsense", "true"], "nonsense"),
    (["--path2", "a b", "true"], "white space"), (["--unknown", "true"], "unknown flag"), (["--policy"], "needs"),
    (["--config", "/nowhere/file", "true"], "/nowhere/file"), (["--config", "x=y", *PATH2, "true"], "x"),
    (["--policy", "off", *PATH2, "true"], "nothing would be confirmed"), (["--listen", "nowhere", "true"], "listen"),
    (["--policy", "prefer", "true"], "neither a second path"),
])
def test_run_bad_usage(home, words, says):
    run = mtlsize(home, "run", *words, code=1)
    assert says in run.stderr and run.stdout == "", run.stderr


def test_run_without_the_library(home, tmp_path):
    """Nothing to preload: the program is not started. Nor with a name that LD_PRELOAD cannot hold."""
    (tmp_path / "apps").mkdir()
    shutil.copy(home / "apps" / "mtlsize", tmp_path / "apps" / "mtlsize")
    run = subprocess.run([tmp_path / "apps" / "mtlsize", "run", *PATH2, "echo", "ran"], capture_output=True, text=True,
                         timeout=60, check=False)
    assert run.returncode == 1 and "not there" in run.stderr and run.stdout == "", run
    odd = tmp_path / "a b"
    shutil.copytree(home / "preload", odd / "preload")
    shutil.copytree(tmp_path / "apps", odd / "apps")
    run = subprocess.run([odd / "apps" / "mtlsize", "run", *PATH2, "echo", "ran"], capture_output=True, text=True,
                         timeout=60, check=False)
    assert run.returncode == 1 and "space or a colon" in run.stderr and run.stdout == "", run


# ---- enable, disable, status

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
    return root / "etc" / "systemd" / "system" / f"{unit}.d" / "50-mtls.conf"


def test_enable_and_disable(home, root):
    before = (root / "lib/systemd/system/good.service").read_text()
    run = mtlsize(home, "enable", "--root", root, "good", *PATH2, "--policy", "prefer")
    file = drop_in(root, "good.service")
    assert str(file) in run.stderr and "restart" in run.stderr
    assert file.read_text().splitlines()[1:] == [
        "[Service]", f'Environment="LD_PRELOAD=/x/other.so:{home}/preload/libmtls-preload.so"',
        'Environment="MTLS_CONFIG=path2=dev=lo,remote=192.0.2.1 policy=prefer"',
        'Environment="MTLSIZE_UNHOOKED=refuse"']
    assert stat.S_IMODE(file.stat().st_mode) == 0o644 and os.listdir(file.parent) == [file.name]
    other = file.parent / "other.conf"
    other.write_text("[Service]\nEnvironment=LD_PRELOAD=/y.so\n")
    mtlsize(home, "enable", "--root", root, "good.service", "--listen", "192.0.2.1:914")  # again: replaced
    assert "MTLS_CONFIG=listen=192.0.2.1:914" in file.read_text() and "LD_PRELOAD=/y.so:" in file.read_text()
    assert json.loads(mtlsize(home, "status", "--json", "--root", root).stdout)["units"] == ["good.service"]
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
    assert "nothing would be confirmed" in run.stderr


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
    assert "50-mtls.conf" in run.stderr


def test_status(home, tmp_path):
    hosts = tmp_path / "hosts"
    cnf = tmp_path / "openssl.cnf"
    cnf.write_text("openssl_conf = i\n[i]\nproviders = p\n[p]\ndefault = d\nmtls = m\n[d]\nactivate = 1\n"
                   "[m]\nactivate = 1\npolicy = prefer\npath2 = dev=lo\n")
    env = {"OPENSSL_CONF": str(cnf), "OPENSSL_MODULES": str(pathlib.Path(tools.BUILD) / "provider"),
           "MTLS_CONFIG": f"need=1 hosts={hosts}"}
    line = json.loads(mtlsize(home, "status", "--json", "--root", tmp_path, env=env).stdout)
    assert line["openssl_cnf"] == str(cnf) and line["openssl_cnf_words"] == "policy=prefer path2=dev=lo"
    assert (line["policy"], line["paths"], line["listeners"]) == ("prefer", "1", "0")
    assert line["preload"] == f"{home}/preload/libmtls-preload.so, version {version()}"
    if tools.sanitizer() is None:
        assert line["module"].endswith(f"mtls.so, version {version()}")
    assert line["hosts"] == str(hosts) and "hosts_error" not in line
    hosts.write_text("damage")
    hosts.chmod(0o600)
    assert "hosts_error" in json.loads(mtlsize(home, "status", "--json", "--root", tmp_path, env=env, code=1).stdout)
    run = mtlsize(home, "status", "--root", tmp_path, env={**env, "MTLS_CONFIG": "nonsense"}, code=1)
    assert "! " in run.stdout and "nonsense" in run.stdout


@pytest.mark.parametrize("words", [[], ["nothing"], ["check"], ["check", "--what"], ["enable"], ["enable", "a", "b"],
                                   ["disable"], ["status", "x"], ["status", "--json=1"]])
def test_bad_usage(home, words):
    run = mtlsize(home, *words, code=1)
    assert run.stderr and "help" in run.stderr


@pytest.mark.parametrize("command", ["run", "check", "enable", "disable", "status"])
def test_help(home, command):
    run = mtlsize(home, command, "--help")
    assert run.stdout.startswith(f"usage: mtlsize {command}")
    assert command in mtlsize(home, "--help").stdout
