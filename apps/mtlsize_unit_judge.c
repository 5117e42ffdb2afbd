/* Whether our drop-in holds: what else the unit says that takes the library away again, or keeps
 * the loader from heeding it. */
#include <errno.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "mtlsize_check.h"
#include "mtlsize_file.h"
#include "mtlsize_unit.h"

struct judge {
    const struct unit *u;
    const char *library;
    unit_report *report;
    void *arg;
};

static void say(const struct judge *j, enum unit_finding finding, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void say(const struct judge *j, enum unit_finding finding, const char *fmt, ...)
{
    char text[PATH_MAX + 512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    j->report(j->arg, finding, text);
}

/* ---- the environment ---- */

static void judge_variables(const struct judge *j)
{
    const struct unit *u = j->u;

    for (int i = 0; i < UNIT_VARIABLES; i++) {
        const struct unit_assigned *v = &u->variables[i];

        if (u->hidden_by[0] != '\0') {
            say(j, UNIT_UNDONE, "%s hides the drop-in", u->hidden_by);
            return;
        }
        if (v->from != u->ours || !v->set)
            say(j, UNIT_UNDONE, "%s %s %s after the drop-in has set it",
                v->from < 0 ? u->file : u->sources[v->from], v->set ? "sets" : "removes",
                unit_variables[i]);
        if (v->unset >= 0)
            say(j, UNIT_UNDONE, "%s has UnsetEnvironment=%s, which takes it away from the programs",
                u->sources[v->unset], unit_variables[i]);
    }
    if (u->passes_preload && u->preload[0] == '\0')
        say(j, UNIT_WARNING,
            "PassEnvironment=LD_PRELOAD is without effect from now on: the drop-in sets it");
}

static bool sets(const char *line, const char *name)
{
    size_t len = strlen(name);

    line += strspn(line, " \t");
    if (strncmp(line, name, len) != 0)
        return false;
    return line[len + strspn(line + len, " \t")] == '=';
}

static void judge_file(const struct judge *j, const char *path)
{
    char *line = NULL;
    size_t size = 0;
    FILE *f = fopen(path, "re");

    if (f == NULL && errno != ENOENT && errno != ENOTDIR)
        say(j, UNIT_UNDONE, "%s cannot be read (%s): what it sets is not known", path,
            strerror(errno));
    while (f != NULL && getline(&line, &size, f) > 0)
        for (int i = 0; i < UNIT_VARIABLES; i++)
            if (sets(line, unit_variables[i]))
                say(j, UNIT_UNDONE, "%s sets %s, which undoes the drop-in", path,
                    unit_variables[i]);
    free(line);
    if (f != NULL)
        fclose(f);
}

/* EnvironmentFile= wins over Environment=, and PAM over both. */
static void judge_files(const struct judge *j)
{
    char path[PATH_MAX];
    glob_t found;

    for (size_t i = 0; i < j->u->environment_file_count; i++) {
        const char *file = j->u->environment_files[i];

        if (!unit_expand(j->u, file, path, sizeof path))
            say(j, UNIT_WARNING, "EnvironmentFile=%s: which file that is cannot be told here",
                file);
        else if (strpbrk(path, "*?[") == NULL)
            judge_file(j, path);
        else if (glob(path, 0, NULL, &found) == 0) {
            for (size_t k = 0; k < found.gl_pathc; k++)
                judge_file(j, found.gl_pathv[k]);
            globfree(&found);
        }
    }
    if (j->u->pam)
        judge_file(j, "/etc/environment");
}

/* ---- the place ---- */

/* Whether path is dir or beneath it: how long dir is, 0: it is not. */
static size_t is_beneath(const char *path, const char *dir)
{
    size_t len = strlen(dir);

    while (len > 1 && dir[len - 1] == '/')
        len--;
    if (len == 1 && dir[0] == '/')
        return 1;
    return len > 0 && strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0') ? len
                                                                                              : 0;
}

/* Whether a deeper path brings back what this one hides. What is inaccessible stays so. */
static bool is_undone(const struct unit_hidden *h, size_t len, size_t allowed, size_t shown)
{
    static const char *const below[] = {"TemporaryFileSystem", "PrivateTmp", "BindPaths",
                                        "BindReadOnlyPaths"};

    if (strcmp(h->key, "NoExecPaths") == 0)
        return len <= allowed;
    for (size_t i = 0; i < sizeof below / sizeof below[0]; i++)
        if (strcmp(h->key, below[i]) == 0)
            return len < shown;
    return false;
}

static void judge_assert(const struct judge *j)
{
    char path[2 * PATH_MAX];

    if (j->u->ours >= 0 &&
        (!unit_expand(j->u, j->u->asserted, path, sizeof path) || strcmp(path, j->library) != 0))
        say(j, UNIT_UNDONE,
            "without the library it would start unprotected: its AssertPathExists=%s is missing or "
            "taken away (mtlsize enable writes it again)",
            j->library);
}

static void judge_place(const struct judge *j)
{
    const struct unit *u = j->u;
    size_t allowed = 0, shown = 0;

    if (u->root_directory[0] != '\0')
        say(j, UNIT_UNDONE, "its root directory is %s, in which %s is not", u->root_directory,
            j->library);
    for (size_t i = 0; i < u->exec_path_count; i++)
        if (is_beneath(j->library, u->exec_paths[i]) > allowed)
            allowed = is_beneath(j->library, u->exec_paths[i]);
    for (size_t i = 0; i < u->shown_count; i++)
        if (is_beneath(j->library, u->shown[i]) > shown)
            shown = is_beneath(j->library, u->shown[i]);
    for (size_t i = 0; i < u->hidden_count; i++) {
        const struct unit_hidden *h = &u->hidden[i];
        size_t len = is_beneath(j->library, h->path);

        if (len > 0 && !is_undone(h, len, allowed, shown))
            say(j, UNIT_UNDONE, "%s=%s keeps the library from it (%s)", h->key, h->path,
                j->library);
    }
    if (u->families_set && u->families_netlink != u->families_allow)
        say(j, UNIT_WARNING,
            "RestrictAddressFamilies= keeps AF_NETLINK out, which judging the paths needs: add it "
            "with systemctl edit %s",
            u->name);
    if (u->private_network)
        say(j, UNIT_WARNING, "PrivateNetwork=yes: it has no network, so no second path either");
}

/* ---- the programs ---- */

/* The loader ignores LD_PRELOAD in a program that gains privileges as it starts. Neither
 * DynamicUser=, NoNewPrivileges=, SecureBits= nor AmbientCapabilities= make it one; its file does,
 * for another user than root. */
static bool gains_privileges(const struct unit *u, const char *path)
{
    struct stat st;

    if (u->user[0] == '\0' && !u->dynamic_user)
        return false;
    if (getxattr(path, "security.capability", NULL, 0) > 0)
        return true;
    return !u->no_new_privileges && stat(path, &st) == 0 &&
           ((st.st_mode & S_ISUID) != 0 ||
            (st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP));
}

static void judge_program(const struct judge *j, const char *command)
{
    char program[PATH_MAX], path[PATH_MAX], why[512];
    struct check c;
    int failed, way = unit_command(command, program, why, sizeof why);

    if (way < 0) {
        say(j, UNIT_UNPROTECTED, "%s", why);
        return;
    }
    if (way > 0 && j->u->our_allow)
        say(j, UNIT_UNPROTECTED, "its command line changes our variables (env)");
    else if (way > 0)
        say(j, UNIT_NOTE,
            "its command line changes our variables (env); the library puts them back");
    if (!unit_expand(j->u, program, path, sizeof path)) {
        say(j, UNIT_WARNING, "ExecStart=%s: which program that is cannot be told here", program);
        return;
    }
    failed = check_program(&c, path);
    if (failed < 0 || c.verdict == VERDICT_NO)
        say(j, UNIT_UNPROTECTED, "%s", c.message);
    else if (gains_privileges(j->u, c.path))
        say(j, UNIT_UNPROTECTED,
            "%s gains privileges from its file, and the service's user is not root: the loader "
            "ignores LD_PRELOAD in it",
            c.path);
    else if (c.verdict != VERDICT_WORKS)
        say(j, UNIT_WARNING, "%s", c.message);
    for (unsigned i = 0; i < c.note_count; i++)
        say(j, UNIT_NOTE, "%s", c.notes[i]);
}

void unit_judge(const struct unit *u, const char *library, unit_report *report, void *arg)
{
    const struct judge j = {u, library, report, arg};

    if (u->masked) {
        say(&j, UNIT_UNDONE, "%s is masked (%s): it cannot be started", u->name, u->file);
        return;
    }
    if (u->too_much)
        say(&j, UNIT_UNDONE, "%s says more than can be looked at", u->name);
    judge_variables(&j);
    judge_files(&j);
    judge_assert(&j);
    judge_place(&j);
    if (u->command_count == 0)
        say(&j, UNIT_UNDONE, "%s starts no program (no ExecStart=)", u->name);
    for (size_t i = 0; i < u->command_count; i++)
        judge_program(&j, u->commands[i]);
}
