/* mtlsize enable, mtlsize disable: a drop-in file of our own beside a systemd unit. The unit
 * itself, its other drop-ins and its environment stay as they are. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mtlsize.h"
#include "mtlsize_file.h"
#include "mtlsize_machine.h"
#include "mtlsize_unit.h"
#include "mtlsize_words.h"

enum { O_DRY_RUN = O_OWN, O_ROOT, O_JSON, O_LOG, O_HELP };

/* clang-format off: a table */
#define COMMON_DEFS                                                                                \
    {O_DRY_RUN, 0, "dry-run", NULL, "say what would be done, and do nothing", 0},                  \
        {O_ROOT, 0, "root", "DIR", "unit files are beneath DIR; systemd is not told", 0},          \
        {O_JSON, 0, "json", NULL, "messages are JSON, one object a line", 0},                      \
        {O_HELP, 'h', "help", NULL, "this text", 0},                                               \
    {                                                                                              \
        0, 0, NULL, NULL, NULL, 0                                                                  \
    }

static const struct option_def enable_defs[] = {
    WORDS_DEFS,
    {O_LOG, 0, "log", "FILE", "one JSON object a line of each session goes there", 0},
    COMMON_DEFS};
static const struct option_def disable_defs[] = {COMMON_DEFS};
/* clang-format on */

static const char enable_usage[] =
    "usage: mtlsize enable [flags] UNIT\n"
    "Writes a drop-in file that starts the programs of a systemd service with Multipath TLS.\n"
    "Everything else about the unit stays as it is. Restart the unit afterwards.\n\n";
static const char disable_usage[] = "usage: mtlsize disable [flags] UNIT\n"
                                    "Removes the drop-in file that mtlsize enable wrote.\n\n";

struct job {
    const char *prog;
    struct settings settings;
    bool allow_unhooked, dry_run, json, help;
    const char *root, *log;
    struct unit unit;
};

static int handle(void *arg, int id, const char *value)
{
    struct job *job = arg;

    if (id <= O_CONFIG)
        return words_flag(&job->settings, job->prog, id, value);
    switch (id) {
    case O_LOG:
        job->log = value;
        return value[0] == '/' ? 0 : usage_error(job->prog, "--log: %s is no absolute path", value);
    case O_ROOT:
        job->root = value;
        return 0;
    default:
        job->allow_unhooked = job->allow_unhooked || id == O_ALLOW_UNHOOKED;
        job->dry_run = job->dry_run || id == O_DRY_RUN;
        job->json = job->json || id == O_JSON;
        job->help = job->help || id == O_HELP;
        return 0;
    }
}

/* The command line: 0 go on, 1 help was printed, -1 said why not. */
static int begin(struct job *job, int argc, char **argv, const struct option_def *defs,
                 const char *usage)
{
    struct options o = {.prog = job->prog, .defs = defs, .max_words = 1};
    char why[512];

    job->root = "";
    if (options_parse(&o, argc, argv, handle, job) < 0)
        return -1;
    if (job->help) {
        options_help(&o, stdout, usage);
        return 1;
    }
    if (o.word_count == 0)
        return usage_error(job->prog, "no unit is named");
    if (unit_name(&job->unit, job->root, o.words[0], why, sizeof why) < 0) {
        message(job->json, "error", "%s", why);
        return -1;
    }
    unit_resolve(&job->unit);
    return 0;
}

static int run_daemon_reload(const struct job *job)
{
    char *argv[] = {"systemctl", "daemon-reload", NULL};
    int status = 0, error;
    pid_t pid;

    if (job->root[0] != '\0' || access("/run/systemd/system", F_OK) < 0)
        return EXIT_FINE;
    error = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
    if (error == 0 && waitpid(pid, &status, 0) == pid && status == 0)
        return EXIT_FINE;
    message(job->json, "error", "systemctl daemon-reload failed%s%s", error != 0 ? ": " : "",
            error != 0 ? strerror(error) : "");
    return EXIT_SYSTEM;
}

struct findings {
    const struct job *job;
    bool refused;
};

static void report(void *arg, enum unit_finding finding, const char *text)
{
    struct findings *f = arg;
    bool refused =
        finding == UNIT_UNDONE || (finding == UNIT_UNPROTECTED && !f->job->allow_unhooked);

    f->refused = f->refused || refused;
    message(f->job->json,
            refused                ? "refused"
            : finding == UNIT_NOTE ? "note"
                                   : "warning",
            "%s: %s%s", f->job->unit.name, text,
            !refused || finding == UNIT_UNDONE ? ""
                                               : "; not enabled (--allow-unhooked enables it "
                                                 "unprotected)");
}

/* The drop-in's text, NULL after a message: the unit undoes it, or memory is out. */
static char *make_text(struct job *job, const char *ours)
{
    struct unit *u = &job->unit;
    struct findings found = {.job = job};
    char library[2 * PATH_MAX], asked[sizeof u->asked], why[PATH_MAX + 256] = "", *preload,
                                                                       *text = NULL;

    preload =
        unit_escape(ours, library, sizeof library) ? preload_append(u->preload, library) : NULL;
    if (preload != NULL)
        text = unit_drop_in(library, preload, job->settings.text, job->allow_unhooked, job->log);
    free(preload);
    if (text == NULL) {
        message(job->json, "error", "a value holds a line break, or memory is out");
        return NULL;
    }
    memcpy(asked, u->asked, sizeof asked);
    if (unit_name(u, job->root, asked, why, sizeof why) == 0 &&
        unit_read(u, text, why, sizeof why) == 0)
        unit_judge(u, ours, report, &found);
    else
        message(job->json, "error", "%s", why);
    if (why[0] == '\0' && !found.refused)
        return text;
    free(text);
    return NULL;
}

static int make_folder(const char *path)
{
    char part[PATH_MAX];

    snprintf(part, sizeof part, "%s", path);
    for (char *slash = part + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return -1;
        *slash = '/';
    }
    return mkdir(part, 0755) < 0 && errno != EEXIST ? -1 : 0;
}

/* Whole or not at all. */
static int write_file(const char *path, const char *text)
{
    char temporary[PATH_MAX];
    size_t len = strlen(text);
    int fd, error = 0;

    if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= (int)sizeof temporary) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (write(fd, text, len) != (ssize_t)len || fchmod(fd, 0644) < 0 || fsync(fd) < 0)
        error = errno != 0 ? errno : EIO;
    if (close(fd) < 0 && error == 0)
        error = errno;
    if (error == 0 && rename(temporary, path) < 0)
        error = errno;
    if (error != 0)
        unlink(temporary);
    errno = error;
    return error == 0 ? 0 : -1;
}

static int not_ours(const struct job *job)
{
    message(job->json, "error", "%s is not a file that mtlsize wrote; it stays as it is",
            job->unit.drop_in);
    return EXIT_USAGE;
}

static int install(const struct job *job, const char *text)
{
    const struct unit *u = &job->unit;

    if (job->dry_run) {
        printf("# %s\n%s", u->drop_in, text);
        return EXIT_FINE;
    }
    if (unit_drop_in_is_ours(u->drop_in) < 0)
        return not_ours(job);
    if (make_folder(u->folder) < 0 || write_file(u->drop_in, text) < 0) {
        message(job->json, "error", "%s: %s", u->drop_in, strerror(errno));
        return EXIT_SYSTEM;
    }
    message(job->json, "enabled", "wrote %s; it takes effect with systemctl restart %s", u->drop_in,
            u->name);
    return run_daemon_reload(job);
}

static int add_share(struct job *job, const struct mtls_config *config, char *why, size_t why_len)
{
    if (config->nlisten == 0 || settings_share(&job->settings, job->unit.name) == 0)
        return 0;
    snprintf(why, why_len, "the configuration is too long");
    return -1;
}

static void note_words(const struct job *job, const struct mtls_config *config)
{
    char text[512];

    if (config->nlisten > 0 && config->ntls_ports == 0)
        message(job->json, "note",
                "%s: without --tls-port, path 2 answers for every TLS port of this host: its other "
                "TLS services are then refused by clients that know Multipath TLS",
                job->unit.name);
    for (unsigned i = 0; machine_lacks(config, i, text, sizeof text); i++)
        if (text[0] != '\0')
            message(job->json, "note", "%s: %s", job->unit.name, text);
}

int mtlsize_enable(int argc, char **argv)
{
    static struct job job = {.prog = PROG " enable"};
    static struct mtls_config config;
    char why[PATH_MAX + 256] = "", ours[PATH_MAX], *text;
    int rv = begin(&job, argc, argv, enable_defs, enable_usage);

    if (rv != 0)
        return rv > 0 ? EXIT_FINE : EXIT_USAGE;
    unsetenv("MTLS_CONFIG"); /* the caller's; the unit will not have it */
    if (unit_read(&job.unit, "[Service]\n", why, sizeof why) < 0 ||
        settings_check(&job.settings, true, &config, why, sizeof why) < 0 ||
        settings_merge_cnf(&job.settings, why, sizeof why) < 0 ||
        add_share(&job, &config, why, sizeof why) < 0 || preload_find(ours, why, sizeof why) < 0) {
        message(job.json, "error", "%s", why);
        return EXIT_USAGE;
    }
    if (!preload_is_public(ours)) {
        message(job.json, "error",
                "%s cannot be read by every user: a service that changes its user would run "
                "unprotected",
                ours);
        return EXIT_USAGE;
    }
    note_words(&job, &config);
    text = make_text(&job, ours);
    rv = text != NULL ? install(&job, text) : EXIT_USAGE;
    free(text);
    return rv;
}

int mtlsize_disable(int argc, char **argv)
{
    static struct job job = {.prog = PROG " disable"};
    const struct unit *u = &job.unit;
    int rv = begin(&job, argc, argv, disable_defs, disable_usage);

    if (rv != 0)
        return rv > 0 ? EXIT_FINE : EXIT_USAGE;
    rv = unit_drop_in_is_ours(u->drop_in);
    if (rv < 0)
        return not_ours(&job);
    if (rv == 0) {
        message(job.json, "error", "%s is not enabled (there is no %s)", u->name, u->drop_in);
        return EXIT_USAGE;
    }
    if (job.dry_run) {
        printf("# would remove %s\n", u->drop_in);
        return EXIT_FINE;
    }
    if (unlink(u->drop_in) < 0) {
        message(job.json, "error", "%s: %s", u->drop_in, strerror(errno));
        return EXIT_SYSTEM;
    }
    rmdir(u->folder); /* unless it holds others */
    message(job.json, "disabled", "removed %s; it takes effect with systemctl restart %s",
            u->drop_in, u->name);
    return run_daemon_reload(&job);
}
