"""mtlsize as in a build folder, beside a stand-in for the preloaded library, which writes into the record what a test
wants; test_programs_*.py has the real one."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from mtlslab import tools

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
    char loaded[64], path[64];
    if (log == NULL || getenv("STAND_IN_SLEEPS") != NULL)
        return;
    snprintf(path, sizeof path, "%.*s", (int)strcspn(log, "#"), log);
    int fd = open(path, O_WRONLY | O_APPEND);
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
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "linked-private").symlink_to("../bin/private")
    (bins / "linked").symlink_to("../elsewhere/linked-private")
    for name in ("go-section", "libssl-32-bit", "big-endian"):
        shutil.copy(SEEDS / name, bins / name)
    (bins / "cut").write_bytes((SEEDS / "libssl").read_bytes()[:100])
    (bins / "text").write_text("echo no first line\n")
    (bins / "empty").write_text("")
    (bins / "script").write_text(f"#!{bins}/with-ssl\n")
    (bins / "preload-script").write_text(f"#!{bins}/with-ssl\nLD_PRELOAD=/x.so exec y\n")
    (bins / "env-script").write_text("#!/usr/bin/env static\n")
    (bins / "loop").write_text(f"#!{bins}/loop\n")
    (bins / "odd-script").write_text("#!\n")
    (bins / "lost-script").write_text("#!/nowhere/sh\n")
    for file in bins.iterdir():
        if not file.is_symlink():
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
    assert code is None or run.returncode == code, f"{words}: exit {run.returncode}\n{run.stdout}\n{run.stderr}"
    return run


def jsons(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
