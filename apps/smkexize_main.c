/* smkexize: runs an unmodified program whose TCP connections go by SMKEX. A helper process for each
 * server (smkex-client) and each port (smkex-server) does SMKEX; a preloaded library leads the
 * program's sockets to them over loopback addresses of this run alone. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "addr.h"
#include "complain.h"
#include "mtlsize_elf.h"
#include "options.h"
#include "smkex/preload/rules.h"
#include "smkexize_helper.h"

#define PROG       "smkexize"
#define ARGS_MAX   64
#define LOOKUP_MS  10000
#define RULES_TEXT 4096

static const char usage[] =
    "usage: smkexize run [--to HOST:PORT FLAGS...]... [--on ADDR:PORT FLAGS...]... [--others "
    "plain]\n"
    "                    -- PROGRAM [ARGUMENTS...]\n"
    "Runs an unmodified program whose TCP connections go by SMKEX.\n"
    "  --to HOST:PORT FLAGS   connections to this server, with smkex-client's flags\n"
    "  --on ADDR:PORT FLAGS   listening on this port, with smkex-server's flags\n"
    "  --others plain         other TCP connections pass in clear (default: they are refused)\n";

struct run {
    struct helper helpers[HELPERS_MAX];
    unsigned count;
    char rules[RULES_TEXT];
    char peers[64]; /* file; "" = none */
    char beside[PATH_MAX];
    char **program;
};

static int add_text(struct run *r, const char *rule)
{
    if (strlen(r->rules) + strlen(rule) >= sizeof r->rules)
        return usage_error(PROG, "too many addresses");
    strcat(r->rules, rule);
    return 0;
}

static int add_rule(struct run *r, const char *kind, const struct addr *a, const char *loop)
{
    const struct sockaddr_in *in = (const void *)&a->sa;
    const struct sockaddr_in6 *in6 = (const void *)&a->sa;
    bool v4 = a->sa.ss_family == AF_INET;
    char text[INET6_ADDRSTRLEN], one[128];
    int n;

    if (inet_ntop(a->sa.ss_family, v4 ? (const void *)&in->sin_addr : &in6->sin6_addr, text,
                  sizeof text) == NULL)
        return -1;
    n = snprintf(one, sizeof one, "%s %s %u %s;", kind, text,
                 ntohs(v4 ? in->sin_port : in6->sin6_port), loop);
    return n < 0 || (size_t)n >= sizeof one ? -1 : add_text(r, one);
}

/* An address of this run's own in 127.64.0.0/10: nobody else's listener is there. */
static int draw_loop(char out[INET_ADDRSTRLEN])
{
    uint8_t b[3];

    if (getrandom(b, sizeof b, 0) != sizeof b)
        return -1;
    snprintf(out, INET_ADDRSTRLEN, "127.%u.%u.%u", 64u + b[0] % 64u, b[1], 1u + b[2] % 254u);
    return 0;
}

static int make_peers(struct run *r)
{
    int fd;

    if (r->peers[0] != '\0')
        return 0;
    strcpy(r->peers, "/tmp/smkexize-XXXXXX");
    fd = mkstemp(r->peers);
    if (fd < 0 || ftruncate(fd, sizeof(struct smkexize_shared)) != 0) {
        complain(PROG, "%s: %s", r->peers, strerror(errno));
        r->peers[0] = '\0';
        return -1;
    }
    close(fd);
    return 0;
}

static int start_helper(struct run *r, char **argv)
{
    if (r->count == HELPERS_MAX)
        return usage_error(PROG, "more than %d of --to and --on", HELPERS_MAX);
    if (helper_start(&r->helpers[r->count], argv, r->beside) < 0)
        return -1;
    r->count++;
    return 0;
}

/* --to HOST:PORT: every address that the name has now. */
static int add_to(struct run *r, char *target, char **flags, int nflags)
{
    char loop[INET_ADDRSTRLEN], forward[64], *argv[ARGS_MAX];
    struct addr_list list;
    struct host_port hp;
    const char *why;
    int n = 0;

    if (host_port_parse(target, 1, &hp) < 0)
        return usage_error(PROG, "--to: %s is not HOST:PORT", target);
    if (addr_lookup(hp.host, hp.port, hp.family, LOOKUP_MS, &list, &why) < 0) {
        complain(PROG, "%s: %s", hp.host, why);
        return -1;
    }
    if (make_peers(r) < 0 || draw_loop(loop) < 0)
        return -1;
    for (size_t i = 0; i < list.count; i++)
        if (add_rule(r, "OUT", &list.at[i], loop) < 0)
            return -1;
    snprintf(forward, sizeof forward, "%s:%u", loop, hp.port);
    argv[n++] = (char *)"smkex-client";
    for (int i = 0; i < nflags; i++)
        argv[n++] = flags[i];
    argv[n++] = (char *)"--forward";
    argv[n++] = forward;
    argv[n++] = (char *)"--peers";
    argv[n++] = r->peers;
    argv[n++] = target;
    argv[n] = NULL;
    return start_helper(r, argv);
}

static int add_on(struct run *r, char *target, char **flags, int nflags)
{
    char loop[INET_ADDRSTRLEN], forward[64], *argv[ARGS_MAX];
    struct host_port hp;
    struct addr at;
    int n = 0;

    if (host_port_parse(target, 1, &hp) < 0 || addr_parse(hp.host, hp.port, &at) < 0)
        return usage_error(PROG, "--on: %s is not ADDR:PORT", target);
    if (make_peers(r) < 0 || draw_loop(loop) < 0 || add_rule(r, "IN", &at, loop) < 0)
        return -1;
    snprintf(forward, sizeof forward, "%s:%u", loop, hp.port);
    argv[n++] = (char *)"smkex-server";
    for (int i = 0; i < nflags; i++)
        argv[n++] = flags[i];
    argv[n++] = (char *)"--listen";
    argv[n++] = target;
    argv[n++] = (char *)"--forward";
    argv[n++] = forward;
    argv[n++] = (char *)"--peers";
    argv[n++] = r->peers;
    argv[n] = NULL;
    return start_helper(r, argv);
}

static bool ends_group(const char *word)
{
    return strcmp(word, "--to") == 0 || strcmp(word, "--on") == 0 || strcmp(word, "--") == 0 ||
           strcmp(word, "--others") == 0;
}

static int one_group(struct run *r, int argc, char **argv, int *at)
{
    bool to = strcmp(argv[*at], "--to") == 0;
    char *target = *at + 1 < argc ? argv[*at + 1] : NULL;
    int first = *at + 2, last = first;

    if (target == NULL || ends_group(target))
        return usage_error(PROG, "%s needs an address", argv[*at]);
    while (last < argc && !ends_group(argv[last]))
        last++;
    *at = last;
    if (last - first > ARGS_MAX - 10)
        return usage_error(PROG, "too many flags");
    return to ? add_to(r, target, argv + first, last - first)
              : add_on(r, target, argv + first, last - first);
}

static int take_arguments(struct run *r, int argc, char **argv)
{
    int i = 2, end = 2;

    if (argc < 2 || strcmp(argv[1], "run") != 0)
        return usage_error(PROG, "the first word is run");
    while (end < argc && strcmp(argv[end], "--") != 0)
        end++;
    if (end + 1 >= argc)
        return usage_error(PROG, "-- PROGRAM is missing");
    while (i < argc && strcmp(argv[i], "--") != 0) {
        if (strcmp(argv[i], "--others") == 0) {
            if (i + 1 >= argc || strcmp(argv[i + 1], "plain") != 0)
                return usage_error(PROG, "--others: only plain can be said");
            if (add_text(r, "PLAIN;") < 0)
                return -1;
            i += 2;
        } else if (strcmp(argv[i], "--to") != 0 && strcmp(argv[i], "--on") != 0) {
            return usage_error(PROG, "%s: --to, --on or -- is expected", argv[i]);
        } else if (one_group(r, argc, argv, &i) < 0) {
            return -1;
        }
    }
    if (r->count == 0)
        return usage_error(PROG, "neither --to nor --on");
    r->program = argv + end + 1;
    return 0;
}

/* ---- The program ---- */

/* Why a preloaded library would not be loaded into it, NULL if nothing is known against it. */
static const char *unprotectable(const char *path)
{
    const char *why = NULL;
    struct elf_file elf;
    struct stat st;
    void *data;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0) {
        if (fd >= 0)
            close(fd);
        return fd < 0 ? strerror(errno) : "empty";
    }
    data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (data == MAP_FAILED)
        return strerror(errno);
    if ((st.st_mode & (S_ISUID | S_ISGID)) != 0)
        why = "set-user-ID programs load no such library";
    else if (elf_read(data, (size_t)st.st_size, &elf) == ELF_FINE && elf.is_go)
        why = "Go programs do not call libc";
    else if (elf_read(data, (size_t)st.st_size, &elf) == ELF_FINE && elf.interp == NULL)
        why = "it is linked statically";
    munmap(data, (size_t)st.st_size);
    return why;
}

/* The file that execvp() would take. */
static const char *find_program(const char *name, char out[PATH_MAX])
{
    const char *path = getenv("PATH");

    if (strchr(name, '/') != NULL || path == NULL)
        return name;
    while (*path != '\0') {
        size_t len = strcspn(path, ":");

        snprintf(out, PATH_MAX, "%.*s/%s", (int)len, path, name);
        if (access(out, X_OK) == 0)
            return out;
        path += len + (path[len] == ':');
    }
    return name;
}

static int find_library(const char *beside, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/" PRELOAD_RELATIVE "/libsmkexize.so", beside);
    if (access(out, R_OK) == 0)
        return 0;
    snprintf(out, PATH_MAX, "%s/libsmkexize.so", PRELOAD_DIR);
    return access(out, R_OK);
}

static int set_environment(const struct run *r)
{
    char library[PATH_MAX], preload[2 * PATH_MAX];
    const char *before = getenv("LD_PRELOAD");

    if (find_library(r->beside, library) < 0 || strpbrk(library, " :") != NULL) {
        complain(PROG, "libsmkexize.so is not there, or in a folder with a space or colon");
        return -1;
    }
    snprintf(preload, sizeof preload, "%s%s%s", before != NULL ? before : "",
             before != NULL ? ":" : "", library);
    return setenv("LD_PRELOAD", preload, 1) < 0 || setenv(SMKEXIZE_RULES_ENV, r->rules, 1) < 0 ||
                   (r->peers[0] != '\0' && setenv(SMKEXIZE_PEERS_ENV, r->peers, 1) < 0)
               ? -1
               : 0;
}

static pid_t start_program(const struct run *r, const sigset_t *signals)
{
    char found[PATH_MAX];
    const char *why = unprotectable(find_program(r->program[0], found));
    pid_t pid;

    if (why != NULL) {
        complain(PROG, "%s: %s", r->program[0], why);
        return -1;
    }
    pid = fork();
    if (pid != 0)
        return pid;
    sigprocmask(SIG_UNBLOCK, signals, NULL);
    if (set_environment(r) == 0) {
        execvp(r->program[0], r->program);
        complain(PROG, "%s: %s", r->program[0], strerror(errno));
    }
    _exit(errno == ENOENT ? 127 : 126);
}

/* Until the program ends; signals to us are signals to it. Returns what waitpid() said. */
static int supervise(struct run *r, pid_t pid, int signals)
{
    struct pollfd p[HELPERS_MAX + 1];
    struct signalfd_siginfo info;
    int status = 0;

    for (unsigned i = 0; i < r->count; i++)
        p[i] = (struct pollfd){.fd = r->helpers[i].log, .events = POLLIN};
    p[r->count] = (struct pollfd){.fd = signals, .events = POLLIN};
    for (;;) {
        if (poll(p, r->count + 1, -1) < 0 && errno != EINTR)
            return -1;
        for (unsigned i = 0; i < r->count; i++)
            if (p[i].revents != 0 && helper_pass_on(&r->helpers[i]) < 0)
                p[i].fd = -1;
        if (p[r->count].revents == 0 || read(signals, &info, sizeof info) != sizeof info)
            continue;
        if (info.ssi_signo != SIGCHLD)
            kill(pid, (int)info.ssi_signo);
        if (waitpid(pid, &status, WNOHANG) == pid)
            return status;
    }
}

static int run_program(struct run *r)
{
    sigset_t signals;
    int fd, status;
    pid_t pid;

    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    fd = signalfd(-1, &signals, SFD_CLOEXEC);
    pid = fd >= 0 ? start_program(r, &signals) : -1;
    if (pid < 0)
        return 1;
    status = supervise(r, pid, fd);
    close(fd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
    static struct run run;
    ssize_t n = readlink("/proc/self/exe", run.beside, sizeof run.beside - 1);
    int rv = 1;

    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(usage, stdout);
        return 0;
    }
    if (n > 0 && strrchr(run.beside, '/') != NULL)
        *strrchr(run.beside, '/') = '\0';
    if (take_arguments(&run, argc, argv) == 0)
        rv = run_program(&run);
    while (run.count > 0)
        helper_stop(&run.helpers[--run.count]);
    if (run.peers[0] != '\0')
        unlink(run.peers);
    return rv;
}
