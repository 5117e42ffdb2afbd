"""mtlsize on its own: what it says of programs and how it runs them. The preloaded library is a stand-in here."""

import json
import os
import shutil
import signal
import subprocess

import pytest

from mtlsize_tools import PATH2, home, jsons, mtlsize  # noqa: F401
from mtlslab import tools
from mtlslab.proc import Proc

# ---- check

@pytest.mark.parametrize("name, verdict, reason", [
    ("with-ssl", "works", ""), ("script", "works", ""), ("dlopens", "probably", "dlopen"),
    ("no-tls", "no-tls", "no-tls"), ("static", "no", "static"), ("static-pie", "no", "static"),
    ("env-script", "no", "static"), ("bundled", "no", "bundled-openssl"), ("boring", "no", "boringssl"),
    ("private", "no", "bundled-openssl"), ("linked", "no", "bundled-openssl"), ("lost", "no", "library-missing"), ("musl", "no", "other-libc"),
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


def test_check_notes_scripts(home):
    for name, named in (("preload-script", True), ("script", False)):
        [line] = jsons(mtlsize(home, "check", "--json", name).stdout)
        assert any("LD_PRELOAD" in note for note in line["notes"]) == named, line


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
    ([{"event": "unhooked", "program": "x", "why": "gnutls"}], "true", 2, "x: TLS that is NOT protected"),
    ([{"event": "notice", "program": "x", "why": "y is linked statically"}], "true", 0, "x: started what is not watched: y"),
    ([{"event": "notice", "program": "x", "why": "DTLS is left alone"}], "true", 0, "x: other protocols: DTLS is left"),
    ([{"event": "refused", "program": "x", "why": "static"}] * 2, "true", 2, "x: refused: static (2 times)\n"),
    (["no json\n"], "true", 2, "damaged"),
])
def test_run_exit_code(home, lines, program, code, says):
    run = run_it(home, program, lines=lines, code=code)
    assert says in run.stderr and run.stdout == "", run
    if not says:
        assert run.stderr == ""


PATHS = [{"path": 1, "remote": "192.0.2.1:443"},
         {"path": 2, "remote": "", "spec": "dev=wwan0", "state": "failed", "error": "path2-resolve"},
         {"path": 3, "remote": "192.0.2.1:914", "spec": "dev=p3", "state": "failed", "error": "path2-timeout"},
         {"path": 4, "remote": "192.0.2.2:914", "spec": "dev=p4,remote=192.0.2.2:914", "error": "path2-refused"},
         {"path": 5, "remote": "", "spec": "dev=p5,resolver=192.0.2.53:53", "error": "path2-resolve"},
         {"path": 6, "remote": "192.0.2.1:914", "spec": "dev=p6", "state": "confirmed", "error": ""}]


def test_run_names_the_paths_that_failed(home):
    """Which second path, to where, and what would help; in JSON as members of their own."""
    failed = session("failed", reason="path2-timeout", message="path 2 did not answer", paths=PATHS)
    run = run_it(home, "true", lines=[failed], code=2)
    assert ("refused: 192.0.2.1:443: path2-timeout (path 2 did not answer) [dev=wwan0: path2-resolve, no resolver of its "
            "network is known: resolver=ADDR or remote=ADDR names one; dev=p3 to 192.0.2.1:914: path2-timeout; "
            "dev=p4,remote=192.0.2.2:914: path2-refused; dev=p5,resolver=192.0.2.53:53: path2-resolve]\n") in run.stderr
    line = jsons(run_it(home, "true", lines=[failed], flags=["--json"], code=2).stderr)[0]
    assert (line["event"], line["program"], line["peer"], line["reason"], line["outcome"], line["count"]) == (
        "problem", "true", "192.0.2.1:443", "path2-timeout", "failed", 1)
    assert line["path"].startswith("dev=wwan0: path2-resolve") and "p6" not in line["path"]
    line = jsons(run_it(home, "true", lines=[{"event": "unhooked", "program": "x", "why": "gnutls"}] * 2,
                        flags=["--json"], code=2).stderr)[0]
    assert (line["outcome"], line["reason"], line["path"], line["count"]) == ("unhooked", "gnutls", "", 2)


def test_run_counts_notices(home):
    notice = {"event": "notice", "program": "x", "why": "y is linked statically"}
    *_, summary = jsons(run_it(home, "true", flags=["--json"], lines=[notice, notice]).stderr)
    assert (summary["notices"], summary["unhooked"], summary["refused"], summary["exit"]) == (2, 0, 0, 0)


def test_run_allow_unhooked(home):
    """Opted out: said, but no failure."""
    run = run_it(home, "true", lines=[{"event": "unhooked", "program": "x", "why": "gnutls"}], flags=["--allow-unhooked"])
    assert "NOT protected: gnutls" in run.stderr


@pytest.mark.parametrize("said, flags, given", [
    (None, [], "refuse"), ("", [], "refuse"), ("refuse", [], "refuse"), ("allow", [], "allow"),
    ("refuse-exec", [], "refuse-exec"), ("refuse-exec", ["--allow-unhooked"], "allow"),
    ("refuse", ["--allow-unhooked"], "allow"), ("allow", ["--allow-unhooked"], "allow"),
])
def test_run_unhooked_variable(home, said, flags, given):
    """MTLSIZE_UNHOOKED=allow is the flag in the environment."""
    env = {} if said is None else {"MTLSIZE_UNHOOKED": said}
    assert run_it(home, "printenv", "MTLSIZE_UNHOOKED", env=env, flags=flags).stdout == f"{given}\n"
    unhooked = [{"event": "unhooked", "program": "x", "why": "gnutls"}]
    run = run_it(home, "true", env=env, flags=flags, lines=unhooked, code=0 if given == "allow" else 2)
    assert "TLS that is NOT protected: gnutls" in run.stderr
    assert "refused, 1 unprotected" in run.stderr or given == "allow"
    run_it(home, "static", env=env, flags=flags, code=0 if given == "allow" else 1)


def test_run_unhooked_variable_must_be_known(home):
    run = run_it(home, "echo", "ran", env={"MTLSIZE_UNHOOKED": "Allow"}, code=1)
    assert "MTLSIZE_UNHOOKED=Allow" in run.stderr and run.stdout == ""


def test_run_names_plain_peers_and_counts_refusals(home):
    plain = [session("plain", "192.0.2.1:443"), session("plain", "192.0.2.1:443"), session("plain", "192.0.2.2:443")]
    run = run_it(home, "true", lines=plain, flags=["--policy", "prefer"])
    assert "true: ordinary TLS, not confirmed: 192.0.2.1:443 (2 times)\n" in run.stderr
    assert "not confirmed: 192.0.2.2:443\n" in run.stderr
    assert "0 verified, 0 resumed, 3 plain TLS, 0 failed, 0 refused" in run.stderr
    *_, summary = jsons(run_it(home, "true", lines=plain, flags=["--json"]).stderr)
    assert summary["plain_peers"] == ["192.0.2.1:443", "192.0.2.2:443"]
    refused = [{"event": "refused", "program": "x", "peer": f"192.0.2.{n}:443", "why": "y"} for n in (1, 2)]
    run = run_it(home, "true", lines=[session("verified"), *refused], code=2)
    assert "1 verified, 0 resumed, 0 plain TLS, 0 failed, 2 refused" in run.stderr
    assert "ordinary" not in run.stderr


def test_run_leaves_nothing_behind(home, tmp_path):
    """Killed while the program runs, or without anybody who reads what it says."""
    argv = [home / "apps" / "mtlsize", "run", *PATH2]
    env = {**os.environ, "TMPDIR": str(tmp_path), "STAND_IN_LINES": json.dumps(session("failed")) + "\n"}
    proc = Proc([*argv, "sh", "-c", "echo ready; read -r line"], env=env, stdin=True)
    proc.wait_text("ready")
    proc.send(signal.SIGKILL)
    assert proc.wait() == -signal.SIGKILL
    proc.stop()
    reader, writer = os.pipe()
    os.close(reader)
    try:
        run = subprocess.run([*argv, "true"], env=env, stderr=writer, timeout=60, check=False)
    finally:
        os.close(writer)
    assert run.returncode == 2
    assert os.listdir(tmp_path) == []


def test_run_environment(home, tmp_path):
    """What the program gets: the library at the end of LD_PRELOAD, the words over those of the caller."""
    other = "libc.so.6" if tools.sanitizer() is None else ""  # a sanitizer wants to be the first
    script = 'echo "$LD_PRELOAD|$MTLS_CONFIG|$MTLSIZE_UNHOOKED"; stat -Lc "%a %h" "${MTLSIZE_LOG%#*}"; ls "$TMPDIR"'
    run = run_it(home, "sh", "-c", script, flags=["--policy", "prefer", "--config", "need=1"],
                 env={"LD_PRELOAD": other, "MTLS_CONFIG": "policy=require deadline=3000", "TMPDIR": str(tmp_path)})
    first, log = run.stdout.splitlines()
    assert first == (f"{other}{other and chr(58)}{home}/preload/libmtls-preload.so|"
                     "deadline=3000 path2=dev=lo,remote=192.0.2.1 policy=prefer need=1|refuse")
    assert log == "600 0"  # without a name


def test_run_config_file(home, tmp_path):
    words = tmp_path / "words"
    words.write_text("# mine\npath2=dev=lo,remote=192.0.2.7\npolicy=prefer\n")
    run = mtlsize(home, "run", "--config", words, "sh", "-c", "echo $MTLS_CONFIG")
    assert run.stdout == "path2=dev=lo,remote=192.0.2.7 policy=prefer\n"


@pytest.mark.parametrize("text, says", [
    ("policy=prefer\n\npolicy = require\n", ':3: "policy" is not of the form word=value (no blanks around "=")'),
    ("# a\ndeadline=5\n", ":2: deadline=5: must be a number from 100 to 120000 (milliseconds)"),
    ("polisy=prefer\n", ":1: polisy: unknown word"), ("memory=x", ":1: memory=x: must be a number from 0 to 315360000 (seconds)"),
])
def test_run_config_file_errors(home, tmp_path, text, says):
    words = tmp_path / "words"
    words.write_text(text)
    run = mtlsize(home, "run", "--config", words, *PATH2, "true", code=1)
    assert f"{words}{says}" in run.stderr, run.stderr


def test_run_json(home):
    run = run_it(home, "true", flags=["--json"], lines=[session("verified"), session("failed", peer="h:1", reason="r")],
                 code=2)
    *problems, summary = jsons(run.stderr)
    assert [line["event"] for line in problems] == ["problem"]
    assert summary["event"] == "run" and summary["verified"] == summary["failed"] == 1 and summary["notices"] == 0
    assert (summary["program_exit"], summary["exit"]) == (0, 2)


@pytest.mark.parametrize("name, code", [("nowhere", 127), ("/nowhere/x", 127), ("not-executable", 126),
                                        ("static", 1), ("go-section", 1), ("wget", 1), ("set-user-id", 1), ("text", 126),
                                        ("empty", 126), ("odd-script", 126), ("lost-script", 127), ("no-loader", 127),
                                        ("/tmp", 126)])
def test_run_refuses(home, name, code):
    run = run_it(home, name, code=code)
    assert run.stdout == "" and run.stderr.count("\n") == 1 and run.stderr.startswith("mtlsize: "), run


def test_run_says_what_happened_to_other_tls(home):
    """A program that allowed itself what the run does not: it passed, and is not called refused."""
    lines = [{"event": "unhooked", "program": "x", "peer": "192.0.2.1:443", "why": "gnutls"}]
    run = run_it(home, "true", lines=lines, code=2)
    assert "x: TLS that is NOT protected: 192.0.2.1:443: gnutls\n" in run.stderr
    assert "0 failed, 0 refused, 1 unprotected\n" in run.stderr
    *_, summary = jsons(run_it(home, "true", lines=lines, flags=["--json"], code=2).stderr)
    assert (summary["unhooked"], summary["refused"], summary["exit"]) == (1, 0, 2)
    run = run_it(home, "true", lines=[{**lines[0], "event": "refused"}], code=2)
    assert "x: refused: 192.0.2.1:443: gnutls\n" in run.stderr and "unprotected" not in run.stderr


@pytest.mark.parametrize("words", [["chroot", "/", "true"], ["systemd-run", "--pipe", "true"], ["nsenter", "-m", "true"],
                                   ["unshare", "--root=/", "true"], ["sudo", "true"], ["su", "-", "-c", "true"]])
def test_run_refuses_what_leaves_the_library_behind(home, words):
    program = home / "bin" / words[0]
    if not program.exists():
        program.write_text("#!/bin/sh\necho ran\n")
        program.chmod(0o755)
    try:
        run = run_it(home, *words, code=1)
        assert f"through {words[0]}" in run.stderr and "allow-unhooked" in run.stderr and run.stdout == ""
        run = run_it(home, *words, flags=["--allow-unhooked"])
        assert "what it starts is NOT protected" in run.stderr and run.stdout == "ran\n"
    finally:
        program.unlink()


def test_run_another_user_needs_a_library_for_everybody(home):
    argv = ["setpriv", "--reuid=65534", "--clear-groups", "true"]
    run_it(home, *argv)
    library = home / "preload" / "libmtls-preload.so"
    library.chmod(0o600)
    try:
        assert "not every user can read" in run_it(home, *argv, code=1).stderr
        run_it(home, "true")
    finally:
        library.chmod(0o755)


def test_run_unprotected_if_asked(home):
    assert "NOT protected" in run_it(home, "static", flags=["--allow-unhooked"]).stderr
    run = run_it(home, "text", flags=["--allow-unhooked"], code=126)
    assert "Exec format error" in run.stderr


@pytest.mark.parametrize("name, says", [
    ("lost-script", "lost-script: its interpreter /nowhere/sh is not there"),
    ("no-loader", "needs the loader /nowhere/ld-linux-x86-64.so.2"),
    ("odd-script", "names no program"), ("text", "neither a script nor an ELF file"),
    ("nowhere", "nowhere: no such program"), ("not-executable", "not-executable: Permission denied"),
])
def test_run_says_why_it_cannot_start(home, name, says):
    """As a shell has it; the opt-out is no help there, and is not offered."""
    run = run_it(home, name, code=None)
    assert says in run.stderr and "allow-unhooked" not in run.stderr, run.stderr
    assert "allow-unhooked" in run_it(home, "static", code=1).stderr


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
    script = (f"import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}]); print('ready', flush=True); "
              f"signal.sigwait([{int(number)}]); print('caught', flush=True); raise SystemExit(5)")
    proc = Proc([home / "apps" / "mtlsize", "run", *PATH2, "/usr/bin/python3", "-c", script], stdin=True)
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
    ([], "no program"), (["true"], "give --path2"), (["--policy", "perhaps", *PATH2, "true"], "policy"),
    (["--path2", "", "true"], "empty"), (["--path2", "nonsense", "true"], "nonsense"),
    (["--path2", "a b", "true"], "white space"), (["--unknown", "true"], "unknown flag"), (["--policy"], "needs"),
    (["--config", "/nowhere/file", "true"], "/nowhere/file"), (["--config", "x=y", *PATH2, "true"], "x"),
    (["--policy", "off", *PATH2, "true"], "policy=off switches Multipath TLS off"), (["--listen", "nowhere", "true"], "listen"),
    (["--policy", "prefer", "true"], "neither a second path"), (["--policy", "prefer", "true"], "single-port=on"),
    (["--config", "single-port=on", "true"], "needs tls-port=PORT"),
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


@pytest.mark.parametrize("words", [[], ["nothing"], ["check"], ["check", "--what"], ["enable"], ["enable", "a", "b"],
                                   ["disable"], ["status", "x"], ["status", "--json=1"]])
def test_bad_usage(home, words):
    run = mtlsize(home, *words, code=1)
    assert run.stderr and "help" in run.stderr


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help_of_all(home, words):
    text = mtlsize(home, *words).stdout
    assert "mtlsize run --path2" in text and "mtlsize --version" in text and len(max(text.splitlines(), key=len)) <= 100


@pytest.mark.parametrize("command", ["run", "check", "enable", "disable", "status"])
def test_help(home, command):
    run = mtlsize(home, command, "--help")
    assert run.stdout.startswith(f"usage: mtlsize {command}")
    assert command in mtlsize(home, "--help").stdout


@pytest.mark.parametrize("words", [["--config", "single-port=on tls-port=443"],
                                   ["--config", "single-port=on", "--tls-port", "443"],
                                   ["--listen", "127.0.0.1:914", "--tls-port", "443"]])
def test_run_accepts_listeners(home, words):
    run = mtlsize(home, "run", *words, "sh", "-c", "echo $MTLS_CONFIG")
    assert "tls-port=443" in run.stdout.split() and run.stderr == ""


def test_run_names_what_the_machine_lacks(home):
    run = mtlsize(home, "run", "--path2", "dev=no-such-dev0,remote=192.0.2.1", "--listen", "203.0.113.9:1", "true")
    assert "no network device no-such-dev0" in run.stderr and "no address 203.0.113.9" in run.stderr
    assert mtlsize(home, "run", *PATH2, "--listen", "127.0.0.1:1", "true").stderr == ""
