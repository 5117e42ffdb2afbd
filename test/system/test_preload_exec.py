"""What goes with the programs that a wrapped program starts, whatever was done to the environment."""

import os
import shutil
import subprocess
import tempfile

import pytest

from conftest import SECRET
from mtlslab import stock
from preload_tools import LIBRARY, Wrap, client_words, curl_argv

WORDS = "policy=require path2=dev=p2"
OTHER = "libm.so.6"  # what a start script might want to have loaded

SOURCE = r"""
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wordexp.h>

#define ENV "/usr/bin/env"
static char *argv_env[] = {"env", NULL};
static char path[] = "PATH=/usr/bin:/bin", again[] = "LD_PRELOAD=libm.so.6";

static void change(const char *how)
{
    static char *both[] = {path, again, NULL};
    static char config[512], off[] = "MTLS_CONFIG=policy=off";
    static char *given[] = {path, config, NULL};

    snprintf(config, sizeof(config), "MTLS_CONFIG=%s", getenv("MTLS_CONFIG"));
    if (strcmp(how, "replace") == 0)
        setenv("LD_PRELOAD", "libm.so.6", 1);
    else if (strcmp(how, "put") == 0)
        putenv(again);
    else if (strcmp(how, "drop") == 0)
        unsetenv("MTLS_CONFIG");
    else if (strcmp(how, "void") == 0)
        setenv("MTLS_CONFIG", "", 1);
    else if (strcmp(how, "clear") == 0)
        clearenv();
    else if (strcmp(how, "assign") == 0)
        environ = both;
    else if (strcmp(how, "config") == 0)
        environ = given;
    else if (strcmp(how, "unset") == 0)
        unsetenv("LD_PRELOAD");
    else if (strcmp(how, "off") == 0)
        putenv(off);
    else if (strcmp(how, "allow") == 0)
        setenv("MTLSIZE_UNHOOKED", "allow", 1);
}

static void shell(FILE *in)
{
    int c;

    while (in != NULL && (c = getc(in)) != EOF)
        putchar(c);
}

static int start(const char *by)
{
    wordexp_t words;
    pid_t pid = 0;
    int rc = -1, fd;

    if (strcmp(by, "execve") == 0)
        return execve(ENV, argv_env, environ);
    if (strcmp(by, "execv") == 0)
        return execv(ENV, argv_env);
    if (strcmp(by, "execvp") == 0)
        return execvp("env", argv_env);
    if (strcmp(by, "execvpe") == 0)
        return execvpe("env", argv_env, environ);
    if (strcmp(by, "execl") == 0)
        return execl(ENV, "env", (char *)NULL);
    if (strcmp(by, "execlp") == 0)
        return execlp("env", "env", (char *)NULL);
    if (strcmp(by, "execle") == 0)
        return execle(ENV, "env", (char *)NULL, environ);
    if (strcmp(by, "fexecve") == 0)
        return fexecve(open(ENV, O_RDONLY | O_CLOEXEC), argv_env, environ);
    if (strcmp(by, "execveat") == 0)
        return execveat(open("/usr", O_PATH | O_CLOEXEC), "bin/env", argv_env, environ, 0);
    if (strcmp(by, "execveat-fd") == 0)
        return execveat(open(ENV, O_PATH | O_CLOEXEC), "", argv_env, environ, AT_EMPTY_PATH);
    if (strcmp(by, "vfork") == 0) {
        pid = vfork();
        if (pid == 0) {
            execve(ENV, argv_env, environ);
            _exit(errno == EACCES ? 126 : 127);
        }
        rc = pid > 0 && waitpid(pid, &fd, 0) == pid && fd == 0 ? 0 : -1;
        errno = WEXITSTATUS(fd) == 126 ? EACCES : 0;
        return rc;
    }
    if (strcmp(by, "system") == 0)
        return system("env") == 0 ? 0 : -1;
    if (strcmp(by, "popen") == 0) {
        FILE *in = popen("env", "r");

        shell(in);
        return in != NULL ? pclose(in) : -1;
    }
    if (strcmp(by, "wordexp") == 0) {
        if (wordexp("\"$(env)\"", &words, 0) != 0)
            return -1;
        for (size_t i = 0; i < words.we_wordc; i++)
            puts(words.we_wordv[i]);
        return 0;
    }
    if (strcmp(by, "posix_spawn") == 0)
        rc = posix_spawn(&pid, ENV, NULL, NULL, argv_env, environ);
    else if (strcmp(by, "posix_spawnp") == 0)
        rc = posix_spawnp(&pid, "env", NULL, NULL, argv_env, environ);
    errno = rc;
    return rc == 0 && waitpid(pid, &rc, 0) == pid && rc == 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    change(argv[1]);
    if (start(argv[2]) == 0)
        return 0;
    printf("error=%s\n", strerrorname_np(errno));
    return 1;
}
"""

WAYS = ["execve", "execv", "execvp", "execvpe", "execl", "execlp", "execle", "fexecve", "execveat",
        "execveat-fd", "vfork", "posix_spawn", "posix_spawnp", "system", "popen", "wordexp"]
SHELLS = ("system", "popen", "wordexp")


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("starter")
    (folder / "starter.c").write_text(SOURCE)
    subprocess.run(["cc", "-D_GNU_SOURCE", "-o", str(folder / "starter"), str(folder / "starter.c")],
                   check=True)
    return str(folder / "starter")


def started(lab, wrap, starter, change, way):
    """The environment of the program that was started: {name: value}."""
    proc = lab.run(lab.client, wrap.argv([starter, change, way]))
    return dict(line.split("=", 1) for line in proc.stdout.decode().splitlines() if "=" in line)


@pytest.mark.parametrize("way", WAYS)
def test_goes_with_it(lab, tmp_path, starter, way):
    """Replaced, dropped, emptied or made anew: the library and its words are there again, and what
    the program wanted to have loaded is too; in silence, whatever the policy."""
    for unhooked in ("refuse", "refuse-exec"):
        wrap = Wrap(tmp_path, WORDS, name=unhooked, MTLSIZE_UNHOOKED=unhooked)
        for change in ("nothing", "replace", "put", "drop", "void", "clear", "assign"):
            env = started(lab, wrap, starter, change, way)
            preload = env["LD_PRELOAD"].split(":")
            assert LIBRARY in preload and env["MTLS_CONFIG"] == WORDS, (change, env)
            assert (OTHER in preload) == (change in ("replace", "put", "assign")), (change, env)
            assert env["MTLSIZE_LOG"] == wrap.log, (change, env)
            if unhooked == "refuse-exec":
                assert env["MTLSIZE_UNHOOKED"] == unhooked, (change, env)
        assert not wrap.lines(), wrap.lines()


@pytest.mark.parametrize("way", WAYS)
def test_taken_away_on_purpose(lab, tmp_path, starter, way):
    """It is left so, and said; with refuse-exec nothing is started."""
    for change in ("unset", "config", "off", "allow"):
        noted = Wrap(tmp_path, WORDS, name=f"noted-{change}")
        env = started(lab, noted, starter, change, way)
        assert (LIBRARY in env.get("LD_PRELOAD", "")) == (change in ("off", "allow")), (change, env)
        lines = noted.lines("notice")
        assert lines and all(" is started with" in line["why"] for line in lines), (change, lines)
        refused = Wrap(tmp_path, WORDS, name=f"refused-{change}", MTLSIZE_UNHOOKED="refuse-exec")
        env = started(lab, refused, starter, change, way)
        assert list(env) == ["error"], (change, env)
        assert env["error"] == "EACCES" or way in SHELLS, (change, env)
        assert refused.lines("refused"), (change, refused.lines())


def test_allowed(lab, tmp_path, starter):
    """Whoever lets unhooked TLS pass is told of it, and nothing is put back."""
    for change in ("replace", "drop", "clear", "unset"):
        wrap = Wrap(tmp_path, WORDS, name=change, MTLSIZE_UNHOOKED="allow")
        env = started(lab, wrap, starter, change, "execve")
        assert not (LIBRARY in env.get("LD_PRELOAD", "") and "MTLS_CONFIG" in env), env
        assert len(wrap.lines("notice")) == 1, wrap.lines()
    wrap = Wrap(tmp_path, WORDS, MTLSIZE_UNHOOKED="allow")
    env = started(lab, wrap, starter, "nothing", "execve")
    assert LIBRARY in env["LD_PRELOAD"] and not wrap.lines(), env


def test_names_in_the_list(lab, tmp_path):
    """A longer name than ours is not ours; ours in another folder, after a space or twice, is."""
    script = ("import os, sys; os.execve('/usr/bin/env', ['env'], {**os.environ, 'LD_PRELOAD': "
              "sys.argv[1]})")
    folder, name = os.path.split(LIBRARY)
    linked = tmp_path / "elsewhere"
    os.symlink(folder, linked)
    wrap = Wrap(tmp_path, WORDS)
    for given, changed in ((f"{OTHER} {LIBRARY}", False), (f"{linked}/{name}", False), ("", True),
                           (f"{LIBRARY}:{LIBRARY}", False), (f"/no{name}", True),
                           (f"/nonexistent/{name}", True), (os.path.relpath(LIBRARY), True), (name, True),
                           (f"{OTHER}:{name}.1", True)):
        proc = lab.run(lab.client, wrap.argv(["/usr/bin/python3", "-c", script, given]))
        (line,) = [line for line in proc.stdout.decode().splitlines()
                   if line.startswith("LD_PRELOAD=")]
        assert line == (f"LD_PRELOAD={given}:{LIBRARY}" if changed and given
                        else f"LD_PRELOAD={given}"), line
    assert len(wrap.lines("notice")) == 1  # the empty one


def test_log_that_is_changed(lab, tmp_path):
    """Another log would keep a refusal from the run that waits; a run inside of a run has its own."""
    script = ("import os, sys; fd = os.memfd_create('r'); st = os.stat(fd); os.set_inheritable(fd, True); "
              "own = f'/proc/{os.getpid()}/fd/{fd}#{st.st_dev}.{st.st_ino}'; print('own=' + own, flush=True); "
              "log = {'own': own, 'other': own + '1', 'none': ''}.get(sys.argv[1], sys.argv[1]); "
              "os.execve('/usr/bin/env', ['env'], {**os.environ, 'MTLSIZE_LOG': log})")
    wrap = Wrap(tmp_path, WORDS)
    for given in ("own", "other", "none", "/dev/null", f"{tmp_path}/else", "/proc/self/fd/1", wrap.log):
        proc = lab.run(lab.client, wrap.argv(["/usr/bin/python3", "-c", script, given]))
        env = dict(line.split("=", 1) for line in proc.stdout.decode().splitlines())
        assert env["MTLSIZE_LOG"] == (env["own"] if given == "own" else wrap.log), (given, env)
    assert not wrap.lines(), wrap.lines()


def test_library_that_is_gone(lab, tmp_path):
    """Named, but no longer there: the loader would leave it out in silence."""
    script = ("import os, sys; os.unlink(sys.argv[1]); "
              "os.execve('/bin/echo', ['echo', 'ran'], os.environ)")
    for unhooked, event in (("refuse", "refused"), ("refuse-exec", "refused"), ("allow", "notice")):
        copy = tmp_path / f"{unhooked}.so"
        shutil.copy(LIBRARY, copy)
        wrap = Wrap(tmp_path, WORDS, name=unhooked, MTLSIZE_UNHOOKED=unhooked)
        wrap.env["LD_PRELOAD"] = str(copy)
        proc = lab.run(lab.client, wrap.argv(["/usr/bin/python3", "-c", script, copy]))
        assert (b"ran" in proc.stdout) == (unhooked == "allow"), proc.log()
        (line,) = wrap.lines(event)
        assert "cannot be opened" in line["why"], line


@pytest.fixture
def copied():
    """A copy of the library in a folder of its own, which every user can read."""
    with tempfile.TemporaryDirectory(prefix="preload-") as folder:
        os.chmod(folder, 0o755)
        os.mkdir(f"{folder}/lib", 0o755)
        yield shutil.copy(LIBRARY, f"{folder}/lib/libmtls-preload.so")


ELSEWHERE = {
    "another user": "chmod 700 {lib}; exec setpriv --reuid 65534 --clear-groups {say}",
    "a file of root's": "chmod 600 {lib}/*; exec setpriv --reuid 65534 --clear-groups {say}",
    "a folder over it": "mount -t tmpfs none {lib}; exec {say}",
    "another file over it": "mount --bind /dev/null {lib}/libmtls-preload.so; exec {say}",
    "no programs there": "mount --bind {lib} {lib}; mount -o remount,bind,noexec {lib}; exec {say}",
    "a borrowed user": "exec setpriv --euid 65534 {say}",
    "a borrowed group": "exec setpriv --egid 65534 --keep-groups {say}",
    "another root": "mkdir {lib}/../root; mount --bind / {lib}/../root; mount -t tmpfs none {lib}/../root/tmp; "
                    "exec chroot {lib}/../root {say}",
}
THERE = ["exec {say}", "exec setpriv --reuid 65534 --clear-groups {say}", "exec chroot / {say}",
         "mount -t tmpfs none /mnt; exec {say}"]


@pytest.mark.parametrize("case", ELSEWHERE)
def test_library_that_cannot_be_opened_there(lab, tmp_path, copied, case):
    """By another user, in another root folder or mount namespace: the loader would go on without it."""
    for unhooked, code in (("refuse", 126), ("allow", 0)):
        os.chmod(os.path.dirname(copied), 0o755)
        os.chmod(copied, 0o644)
        wrap = Wrap(tmp_path, WORDS, name=unhooked, MTLSIZE_UNHOOKED=unhooked)
        wrap.env["LD_PRELOAD"] = copied
        script = ELSEWHERE[case].format(lib=os.path.dirname(copied), say="/bin/echo ran")
        if os.path.isdir(root := os.path.join(os.path.dirname(copied), "..", "root")):
            os.rmdir(root)
        proc = lab.run(lab.client, ["unshare", "-m", *wrap.argv(["sh", "-c", script])])
        assert proc.wait() == code and (b"ran" in proc.stdout) == (code == 0), proc.log()


@pytest.mark.parametrize("script", THERE)
def test_library_that_can_be_opened_there(lab, tmp_path, copied, script):
    wrap = Wrap(tmp_path, WORDS)
    wrap.env["LD_PRELOAD"] = copied
    proc = lab.run(lab.client, ["unshare", "-m", *wrap.argv(["sh", "-c", script.format(say="/usr/bin/env")])])
    assert f"LD_PRELOAD={copied}\n".encode() in proc.stdout and not wrap.lines(), proc.log()


SMALL = r"""
#include <pthread.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STACK = 16384, MANY = 700 };
static char *argv_env[] = {"env", NULL}, words[MANY][16], *many[MANY + 1], *none[] = {NULL};
static const char *how;
static size_t used;

static void *start(void *arg)
{
    pid_t pid = 0;

    (void)arg;
    if (strcmp(how, "spawn") == 0) {
        posix_spawn(&pid, "/usr/bin/env", NULL, NULL, argv_env, many);
    } else if ((pid = vfork()) == 0) {
        if (strcmp(how, "execve") == 0)
            execve("/usr/bin/env", argv_env, many);
        else if (strcmp(how, "execle") == 0)
            execle("/usr/bin/env", "env", (char *)NULL, none);
        else if (strcmp(how, "execvpe") == 0)
            execvpe("env", argv_env, none);
        _exit(9);
    }
    return (void *)(long)pid;
}

int main(int argc, char **argv)
{
    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_t attr;
    pthread_t thread;
    void *pid;
    int status;

    how = argv[1];
    for (int i = 0; i < MANY; i++) {
        snprintf(words[i], sizeof words[i], "V%d=1", i);
        many[i] = words[i];
    }
    for (int i = 0; i < 3; i++) {
        memset(stack, 0x5a, STACK);
        pthread_attr_init(&attr);
        if (pthread_attr_setstack(&attr, stack, STACK) != 0 || pthread_create(&thread, &attr, start, NULL) != 0)
            return 1;
        pthread_join(thread, &pid);
        if (waitpid((pid_t)(long)pid, &status, 0) < 0 || status != 0)
            return 2;
        for (used = 0; used < STACK && stack[used] == 0x5a; used++)
            ;
        fprintf(stderr, "used=%zu\n", STACK - used);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.c").write_text(SMALL)
    subprocess.run(["cc", "-D_GNU_SOURCE", "-pthread", "-o", str(folder / "small"), str(folder / "small.c")],
                   check=True)
    return str(folder / "small")


@pytest.mark.parametrize("way", ["execve", "execle", "execvpe", "spawn"])
def test_small_stack(lab, tmp_path, small, way):
    """A thread with the least stack there is starts a program, whatever is in the environment."""
    wrap = Wrap(tmp_path, WORDS)
    plain = lab.run(lab.client, [small, way])
    proc = lab.run(lab.client, wrap.argv([small, way]))
    assert proc.wait() == 0 and f"LD_PRELOAD={LIBRARY}\n".encode() in proc.stdout, proc.log()
    assert (b"V699=1" in proc.stdout) == (way in ("execve", "spawn"))
    least, ours = (min(int(line[5:]) for line in run.stderr.decode().splitlines() if line.startswith("used="))
                   for run in (plain, proc))
    assert ours - least < 3072, (least, ours)


def test_script_with_another_allocator(lab, pki, server, tmp_path):
    """TLS in the program behind such a start script is verified, another library's is refused."""
    curl = " ".join(f"'{word}'" for word in curl_argv(pki, server.host, server.port))
    wrap = Wrap(tmp_path, client_words(lab, server))
    for script in (f"LD_PRELOAD={OTHER} exec {curl}", f"unset MTLS_CONFIG; {curl}",
                   f"export LD_PRELOAD={OTHER}; env -u MTLS_CONFIG {curl}"):
        proc = lab.run(lab.client, wrap.argv(["sh", "-c", script]))
        assert proc.wait() == 0 and SECRET in proc.stdout, proc.log()
    assert len(wrap.wait(3, outcome="verified")) == 3
    other = " ".join(["gnutls-cli", "--x509cafile", pki.cafile, "--sni-hostname", pki.name,
                      "--verify-hostname", pki.name, "--port", str(server.port), server.host])
    proc = lab.run(lab.client, wrap.argv(["sh", "-c", f"LD_PRELOAD={OTHER} exec {other}"]),
                   stdin=stock.GET)
    assert proc.wait() != 0 and wrap.lines("refused"), proc.log()
