"""Small stacks and strict sandboxes: an interposed call needs no more of either than the real one
nearly does."""

import subprocess

import pytest

from preload_tools import Wrap

WORDS = "policy=require path2=dev=p2"
COMMON = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
static int fd;
static char text[20000]; /* full of what may begin a record, in two parts */
static int dial(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(to);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    memset(text, 22, sizeof(text));
    text[0] = 1;
    fd = socket(AF_INET, SOCK_STREAM, 0);
    return bind(listener, (void *)&to, len) || listen(listener, 9) ||
           getsockname(listener, (void *)&to, &len) || connect(fd, (void *)&to, len);
}
"""
PROGRAMS = {
    "thread": r"""
static void *run(void *arg)
{
    struct iovec parts[2] = {{text, 10}, {text, sizeof(text)}};
    return (void *)(send(fd, text, 100, 0) + writev(fd, parts, 2));
}
int main(void)
{
    pthread_attr_t small;
    pthread_t t;
    void *n;
    pthread_attr_init(&small);
    if (dial() || pthread_attr_setstacksize(&small, PTHREAD_STACK_MIN) ||
        pthread_create(&t, &small, run, NULL))
        return 2;
    pthread_join(t, &n);
    return n == (void *)20110 ? 0 : 1;
}
""",
    "handler": r"""
static void run(int sig)
{
    (void)!write(fd, text, 40);
}
int main(void)
{
    char *memory = aligned_alloc(4096, 65536);
    stack_t st = {.ss_sp = memory + 32768, .ss_size = 8192};
    struct sigaction a = {.sa_handler = run, .sa_flags = SA_ONSTACK};
    memset(memory, 0x5a, 65536);
    if (dial() || sigaltstack(&st, NULL) || sigaction(SIGUSR1, &a, NULL) || raise(SIGUSR1))
        return 2;
    for (int i = 0; i < 32768; i++)
        if (memory[i] != 0x5a)
            return 1;
    return 0;
}
""",
    "sandbox": r"""
int main(void)
{
    char word[] = "stack\n";
    int p[2], status;
    char got[64];
    if (pipe(p))
        return 2;
    if (fork() == 0) {
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
        (void)!write(p[1], "const\n", 6);
        (void)!write(p[1], word, 1);
        syscall(SYS_exit, 0);
    }
    wait(&status);
    return WIFEXITED(status) == 0 || read(p[0], got, 64) != 7;
}
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_little_room(lab, tmp_path, name):
    """Each beside the same program alone."""
    source, program = tmp_path / f"{name}.c", tmp_path / name
    source.write_text(COMMON + PROGRAMS[name])
    subprocess.run(["cc", "-O1", "-w", "-o", program, source, "-lpthread"], check=True)
    for argv in ([program], Wrap(tmp_path, WORDS).argv([program])):
        proc = lab.run(lab.client, argv)
        assert proc.wait() == 0, proc.log()


SITES = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <openssl/ssl.h>
#include <stdio.h>
static int asked;
int dladdr(const void *at, Dl_info *info)
{
    int (*real)(const void *, Dl_info *) = dlsym(RTLD_NEXT, "dladdr");
    asked++;
    return real(at, info);
}
int main(void)
{
    SSL *ssl = SSL_new(SSL_CTX_new(TLS_client_method()));
    int i, before = 0;
    char c[1];
    if (ssl == NULL)
        return 1;
    for (i = 0; i < 2; i++) {
        before = asked;
#define ONE SSL_read(ssl, c, 1);
#define TEN ONE ONE ONE ONE ONE ONE ONE ONE ONE ONE
        TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN
        printf("%d\n", asked - before);
    }
    return 0;
}
"""


def test_many_places_that_read(lab, tmp_path):
    """Which function the program means is looked up once for each place that calls."""
    source, program = tmp_path / "sites.c", tmp_path / "sites"
    source.write_text(SITES)
    subprocess.run(["cc", "-w", "-rdynamic", "-o", program, source, "-lssl", "-lcrypto"], check=True)
    proc = lab.run(lab.client, Wrap(tmp_path, WORDS).argv([program]))
    first, second = (int(line) for line in proc.stdout.split())
    assert first >= 100 and second == 0, proc.log()
