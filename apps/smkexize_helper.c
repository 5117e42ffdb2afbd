/* smkexize's helpers. */
#include "smkexize_helper.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "complain.h"

#define PROG     "smkexize"
#define START_MS 20000
#define STOP_MS  5000

static void run(char **argv, const char *beside, int log, pid_t parent)
{
    char path[PATH_MAX];

    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
    setpgid(0, 0); /* a signal of the terminal is the program's first */
    dup2(log, STDERR_FILENO);
    snprintf(path, sizeof path, "%s/%s", beside, argv[0]);
    execv(path, argv);
    execvp(argv[0], argv);
    complain(PROG, "%s: %s", argv[0], strerror(errno));
    _exit(127);
}

/* Whether it said that it listens, before it ended or was too slow. */
static int await_listening(struct helper *h)
{
    struct pollfd p = {.fd = h->log, .events = POLLIN};
    char text[4096];
    size_t len = 0;

    while (len + 1 < sizeof text && poll(&p, 1, START_MS) > 0) {
        ssize_t n = read(h->log, text + len, sizeof text - 1 - len);

        if (n <= 0)
            break;
        len += (size_t)n;
        text[len] = '\0';
        if (strstr(text, "listening") != NULL && text[len - 1] == '\n')
            return 0;
    }
    fwrite(text, 1, len, stderr);
    return -1;
}

int helper_start(struct helper *h, char **argv, const char *beside)
{
    pid_t parent = getpid();
    int fd[2];

    if (pipe(fd) < 0)
        return -1;
    h->log = fd[0];
    h->pid = fork();
    if (h->pid == 0) {
        close(fd[0]);
        run(argv, beside, fd[1], parent);
    }
    close(fd[1]);
    if (h->pid > 0 && await_listening(h) == 0)
        return 0;
    helper_stop(h);
    return -1;
}

int helper_pass_on(struct helper *h)
{
    char text[4096];
    ssize_t n = read(h->log, text, sizeof text);

    if (n <= 0)
        return -1;
    fwrite(text, 1, (size_t)n, stderr);
    return 0;
}

void helper_stop(struct helper *h)
{
    struct timespec pause = {.tv_nsec = 10000000};
    int left = STOP_MS / 10;

    if (h->pid > 0) {
        kill(h->pid, SIGTERM);
        while (waitpid(h->pid, NULL, WNOHANG) == 0 && left-- > 0)
            nanosleep(&pause, NULL);
        if (left < 0) {
            kill(h->pid, SIGKILL);
            waitpid(h->pid, NULL, 0);
        }
    }
    h->pid = 0;
}
