/* mtlsize run: starts a program with Multipath TLS, stands aside while it runs, and says afterwards
 * what was not protected. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mtlsize.h"
#include "mtlsize_machine.h"
#include "mtlsize_record.h"
#include "mtlsize_unit.h"
#include "mtlsize_words.h"

enum { O_EXEC = O_OWN, O_JSON, O_VERBOSE, O_HELP };

/* clang-format off: a table */
static const struct option_def defs[] = {
    WORDS_DEFS,
    {O_EXEC, 0, "exec", NULL, "become the program: no summary, no exit code of ours", 0},
    {O_JSON, 0, "json", NULL, "our lines on standard error are JSON, one object a line", 0},
    {O_VERBOSE, 'v', "verbose", NULL, "sum up also when all was well", 0},
    {O_HELP, 'h', "help", NULL, "this text", 0},
    {0, 0, NULL, NULL, NULL, 0},
};
/* clang-format on */

static const char usage[] =
    "usage: mtlsize run [flags] PROGRAM [ARGUMENT...]\n"
    "Runs an unmodified program with Multipath TLS. The exit code is the program's (128 and the\n"
    "number of a signal that ended it); 2 where that is 0 and something was not protected; 1 if "
    "the\n"
    "program was not started; 126 and 127 if it cannot be executed or found.\n\n";

struct run {
    struct settings settings;
    bool allow_unhooked, json, exec, verbose, help;
    const char *unhooked; /* for MTLSIZE_UNHOOKED */
    char **argv;          /* the program and its arguments */
    struct check check;
    char preload[PATH_MAX];
    struct record record;
    struct log_summary found;
    int unread; /* an errno: the record cannot be read */
};

static int handle(void *arg, int id, const char *value)
{
    struct run *r = arg;

    if (id <= O_CONFIG)
        return words_flag(&r->settings, PROG " run", id, value);
    r->allow_unhooked = r->allow_unhooked || id == O_ALLOW_UNHOOKED;
    r->json = r->json || id == O_JSON;
    r->exec = r->exec || id == O_EXEC;
    r->verbose = r->verbose || id == O_VERBOSE;
    r->help = r->help || id == O_HELP;
    return 0;
}

/* The exit code where the system itself would not start the program, as a shell has it; 0: it
 * would. */
static int unstartable(const char *reason)
{
    static const struct {
        const char *reason;
        int code;
    } codes[] = {
        {"not-found", EXIT_NOT_FOUND},       {"not-executable", EXIT_NOT_EXECUTABLE},
        {"no-interpreter", EXIT_NOT_FOUND},  {"no-loader", EXIT_NOT_FOUND},
        {"bad-script", EXIT_NOT_EXECUTABLE}, {"not-elf", EXIT_NOT_EXECUTABLE},
        {"broken-elf", EXIT_NOT_EXECUTABLE}, {"not-a-program", EXIT_NOT_EXECUTABLE},
    };

    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (strcmp(reason, codes[i].reason) == 0)
            return codes[i].code;
    return 0;
}

/* Whether the program may be started: EXIT_FINE or the exit code. */
static int check_first(struct run *r)
{
    bool looked = check_program(&r->check, r->argv[0]) == 0;
    int code = unstartable(r->check.reason);
    char why[512];
    bool leaves;

    if (code != 0 && (!looked || !r->allow_unhooked)) { /* else the system has the last word */
        message(r->json, "error", "%s", r->check.message);
        return code;
    }
    if (r->check.verdict == VERDICT_NO && !r->allow_unhooked) {
        message(r->json, "refused", "%s; not started (--allow-unhooked starts it unprotected)",
                r->check.message);
        return EXIT_USAGE;
    }
    if (r->check.verdict == VERDICT_NO)
        message(r->json, "warning", "%s; it is NOT protected", r->check.message);
    leaves = command_leaves(r->argv, preload_is_public(r->preload), why, sizeof why);
    if (leaves && !r->allow_unhooked) {
        message(r->json, "refused", "%s; not started (--allow-unhooked starts it unprotected)",
                why);
        return EXIT_USAGE;
    }
    if (leaves)
        message(r->json, "warning", "%s; what it starts is NOT protected", why);
    return EXIT_FINE;
}

/* Whoever asked for more than we would is not asked for less, and whoever opted out has. -1: after
 * a message. */
static int read_unhooked(struct run *r)
{
    const char *said = getenv("MTLSIZE_UNHOOKED");

    r->unhooked = r->allow_unhooked ? "allow" : "refuse";
    if (said == NULL || *said == '\0' || strcmp(said, "refuse") == 0)
        return 0;
    if (strcmp(said, "allow") == 0)
        r->allow_unhooked = true;
    else if (strcmp(said, "refuse-exec") != 0) {
        message(r->json, "error", "MTLSIZE_UNHOOKED=%s is not refuse, allow or refuse-exec", said);
        return -1;
    }
    if (!r->allow_unhooked || strcmp(said, "allow") == 0)
        r->unhooked = said;
    return 0;
}

static int set_environment(struct run *r)
{
    char *preload = preload_append(getenv("LD_PRELOAD"), r->preload);
    int failed = preload == NULL || setenv("LD_PRELOAD", preload, 1) < 0 ||
                 setenv("MTLSIZE_UNHOOKED", r->unhooked, 1) < 0 ||
                 (r->record.fd >= 0 && setenv("MTLSIZE_LOG", r->record.name, 1) < 0);

    free(preload);
    if (failed || setenv("MTLS_CONFIG", r->settings.text, 1) < 0) {
        message(r->json, "error", "out of memory");
        return -1;
    }
    return 0;
}

static int exec_failed(const struct run *r, int error)
{
    message(r->json, "error", "%s: %s", r->argv[0], strerror(error));
    return error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

/* What is sent to us is meant for the program. The terminal's own signals reach it by themselves.
 */
static const int forwarded[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};

static void read_record(struct run *r, bool last)
{
    if (record_read(&r->record, &r->found, last) < 0 && r->unread == 0)
        r->unread = errno;
}

static void wait_for_child(struct run *r, pid_t child, const sigset_t *set, int *status)
{
    static const struct timespec now_and_then = {.tv_sec = 5}; /* the record stays small */
    siginfo_t info;

    for (;;) {
        pid_t got = waitpid(child, status, WNOHANG | WUNTRACED);
        int sig;

        if (got == child && WIFSTOPPED(*status)) {
            raise(SIGSTOP); /* whoever waits for us sees what became of the program */
            kill(child, SIGCONT);
            continue;
        }
        if (got == child || (got < 0 && errno != EINTR))
            return;
        sig = sigtimedwait(set, &info, &now_and_then);
        if (sig > 0 && sig != SIGCHLD && info.si_code <= 0)
            kill(child, sig);
        else if (sig < 0 && errno == EAGAIN)
            read_record(r, false);
    }
}

/* The child's end of the fork. */
static void become(const struct run *r, int report, const sigset_t *mask,
                   const struct sigaction *on_child)
{
    sigaction(SIGCHLD, on_child, NULL);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execv(r->check.path, r->argv); /* what was checked */
    int error = errno;

    while (write(report, &error, sizeof error) < 0 && errno == EINTR) {
    }
    _exit(EXIT_NOT_EXECUTABLE);
}

/* The program's exit code, or ours when it could not be started; *started: its process, or 0. */
static int start_and_wait(struct run *r, pid_t *started)
{
    struct sigaction standard = {.sa_handler = SIG_DFL}, on_child;
    sigset_t set, mask;
    int pipes[2], error, status = 0;
    pid_t child;

    if (pipe2(pipes, O_CLOEXEC) < 0) {
        message(r->json, "error", "pipe: %s", strerror(errno));
        return EXIT_SYSTEM;
    }
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    for (size_t i = 0; i < sizeof forwarded / sizeof forwarded[0]; i++)
        sigaddset(&set, forwarded[i]);
    sigprocmask(SIG_BLOCK, &set, &mask);
    sigaction(SIGCHLD, &standard, &on_child); /* ignored, it would lose the exit code */
    child = fork();
    if (child == 0)
        become(r, pipes[1], &mask, &on_child);
    close(pipes[1]);
    signal(SIGPIPE, SIG_IGN); /* nobody reads what we say: the exit code still counts */
    if (child < 0) {
        message(r->json, "error", "fork: %s", strerror(errno));
        close(pipes[0]);
        return EXIT_SYSTEM;
    }
    *started = read(pipes[0], &error, sizeof error) == (ssize_t)sizeof error ? 0 : child;
    close(pipes[0]);
    if (r->check.verdict != VERDICT_NO) /* else it was said that it cannot */
        r->found.pid = (unsigned long)*started;
    wait_for_child(r, child, &set, &status);
    if (*started == 0)
        return exec_failed(r, error);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static const char *problem_words(const struct log_problem *p)
{
    if (p->alarm)
        return "ALARM, refused";
    if (strcmp(p->what, "session") == 0)
        return p->healed ? "not verified at first, refused" : "not verified, refused";
    if (strcmp(p->what, "refused") == 0)
        return "refused";
    if (strcmp(p->what, "notice") == 0)
        return strncmp(p->why, "DTLS", 4) == 0 ? "other protocols" : "started what is not watched";
    return "TLS that is NOT protected"; /* "unhooked": allowed in that program, if not by us */
}

static void times_words(unsigned long count, char *out, size_t cap)
{
    out[0] = '\0';
    if (count > 1)
        snprintf(out, cap, " (%lu times)", count);
}

static void print_problem(const struct run *r, const struct log_problem *p)
{
    const struct {
        const char *before, *text, *after;
    } parts[] = {
        {": ", p->peer, ""}, {": ", p->why, ""}, {" (", p->text, ")"}, {" [", p->path, "]"}};
    char times[40], text[1600];
    struct json j;
    size_t n;

    times_words(p->count, times, sizeof times);
    n = (size_t)snprintf(text, sizeof text, "%s: %s", p->program, problem_words(p));
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i].text[0] != '\0' && n < sizeof text)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%s%s", parts[i].before,
                                  parts[i].text, parts[i].after);
    if (!r->json) {
        message(false, "problem", "%s%s", text, times);
        return;
    }
    json_begin(&j);
    json_string(&j, "event", "problem");
    json_string(&j, "message", text);
    json_string(&j, "program", p->program);
    json_string(&j, "peer", p->peer);
    json_string(&j, "reason", p->why);
    json_string(&j, "outcome", strcmp(p->what, "session") == 0 ? "failed" : p->what);
    json_string(&j, "path", p->path);
    json_number(&j, "count", p->count);
    print_json(json_end(&j));
}

static void print_problems(const struct run *r, const struct log_summary *s)
{
    for (size_t i = 0; i < s->problem_count; i++)
        print_problem(r, &s->problems[i]);
    if (s->more > 0)
        message(r->json, "problem", "and %lu more", s->more);
    if (s->damaged > 0 || s->lost > 0)
        message(r->json, "problem", "the record of this run is damaged (%lu lines)",
                s->damaged + s->lost);
    if (s->pid != 0 && !s->loaded)
        message(r->json, "problem", "%s did not load %s: it was NOT protected", r->argv[0],
                r->preload);
}

static void print_plain(const struct run *r, const struct log_summary *s)
{
    for (size_t i = 0; i < s->plain_count; i++) {
        const struct log_plain *p = &s->plain_peers[i];
        char times[40];

        times_words(p->count, times, sizeof times);
        message(r->json, "plain", "%s: ordinary TLS, not confirmed: %s%s%s%s%s", p->program,
                p->peer[0] != '\0' ? p->peer : "a peer without a name", times,
                p->why[0] != '\0' ? " (" : "", p->why, p->why[0] != '\0' ? ")" : "");
    }
    if (s->plain_more > 0)
        message(r->json, "plain", "and %lu sessions of ordinary TLS with other peers",
                s->plain_more);
}

/* "; by resumption: 1 verified, 1 alarm"; "" where nothing was confirmed that way. */
static void verdict_words(const struct log_summary *s, char *out, size_t cap)
{
    size_t n = 0;

    out[0] = '\0';
    for (int i = 0; i < LOG_VERDICTS; i++)
        if (s->verdicts[i] > 0 && n < cap)
            n += (size_t)snprintf(out + n, cap - n, "%s %lu %s", n == 0 ? "; by resumption:" : ",",
                                  s->verdicts[i], log_verdicts[i]);
}

static void print_summary(const struct run *r, const struct log_summary *s, int program_code,
                          int code)
{
    char verdicts[120], unhooked[40] = "";
    struct json j;

    if (!r->json) {
        verdict_words(s, verdicts, sizeof verdicts);
        if (r->allow_unhooked || s->unhooked > 0)
            snprintf(unhooked, sizeof unhooked, ", %lu unprotected", s->unhooked);
        message(false, "", "%lu verified, %lu resumed, %lu plain TLS, %lu failed, %lu refused%s%s",
                s->verified, s->resumed, s->plain, s->failed, s->refused, unhooked, verdicts);
        return;
    }
    json_begin(&j);
    json_string(&j, "event", "run");
    json_string(&j, "program", r->argv[0]);
    json_string(&j, "verdict", verdict_name(r->check.verdict));
    json_number(&j, "verified", s->verified);
    json_number(&j, "resumed-verified", s->resumed);
    json_number(&j, "plain", s->plain);
    json_open(&j, "plain_peers", '[');
    for (size_t i = 0; i < s->plain_count; i++)
        json_string(&j, NULL, s->plain_peers[i].peer);
    json_close(&j, ']');
    json_number(&j, "failed", s->failed);
    json_open(&j, "by_resumption", '{');
    for (int i = 0; i < LOG_VERDICTS; i++)
        json_number(&j, log_verdicts[i], s->verdicts[i]);
    json_close(&j, '}');
    json_number(&j, "unhooked", s->unhooked);
    json_number(&j, "refused", s->refused);
    json_number(&j, "notices", s->notices);
    json_number(&j, "program_exit", (uint64_t)program_code);
    json_number(&j, "exit", (uint64_t)code);
    print_json(json_end(&j));
}

/* What the record says about the run: its exit code. */
static int sum_up(struct run *r, int program_code)
{
    const struct log_summary *s = &r->found;
    int code = program_code;
    bool bad;

    read_record(r, true);
    bad = r->unread != 0 || log_is_bad(s, r->allow_unhooked);
    if (r->unread != 0)
        message(r->json, "error", "the record of this run cannot be read: %s", strerror(r->unread));
    if (bad && program_code == 0)
        code = EXIT_VERIFY;
    print_problems(r, s);
    print_plain(r, s);
    if (r->json || r->verbose || bad || s->plain > 0)
        print_summary(r, s, program_code, code);
    return code;
}

static int merge_layers(struct settings *s, char *why, size_t why_len)
{
    if (settings_merge(s, getenv("MTLS_CONFIG")) == 0)
        return settings_merge_cnf(s, why, why_len);
    snprintf(why, why_len, "the configuration is too long");
    return -1;
}

static int run(struct run *r)
{
    pid_t started = 0;
    int code;

    if (set_environment(r) < 0)
        return EXIT_SYSTEM;
    fflush(NULL);
    if (r->exec) {
        execv(r->check.path, r->argv);
        return exec_failed(r, errno);
    }
    code = start_and_wait(r, &started);
    return started != 0 ? sum_up(r, code) : code;
}

int mtlsize_run(int argc, char **argv)
{
    static struct run r = {.record = {.fd = -1}};
    struct options o = {.prog = PROG " run", .defs = defs, .stop_at_word = true};
    static struct mtls_config config;
    char why[PATH_MAX + 256] = "";
    int rv;

    if (options_parse(&o, argc, argv, handle, &r) < 0)
        return EXIT_USAGE;
    if (r.help) {
        options_help(&o, stdout, usage);
        return EXIT_FINE;
    }
    r.argv = argv + o.rest;
    if (r.argv[0] == NULL) {
        usage_error(o.prog, "no program is named");
        return EXIT_USAGE;
    }
    if (settings_check(&r.settings, false, &config, why, sizeof why) < 0 ||
        merge_layers(&r.settings, why, sizeof why) < 0 ||
        preload_find(r.preload, why, sizeof why) < 0) {
        message(r.json, "error", "%s", why);
        return EXIT_USAGE;
    }
    for (unsigned i = 0; machine_lacks(&config, i, why, sizeof why); i++)
        if (why[0] != '\0')
            message(r.json, "warning", "%s", why);
    if (read_unhooked(&r) < 0)
        return EXIT_USAGE;
    if ((rv = check_first(&r)) != EXIT_FINE)
        return rv;
    if (!r.exec && record_make(&r.record) < 0) {
        message(r.json, "error", "no record of the run can be made (is /proc there?): %s",
                strerror(errno));
        return EXIT_SYSTEM;
    }
    rv = run(&r);
    record_close(&r.record);
    return rv;
}
