/* What a command line really starts, and whether it loses the environment or the library on the
 * way.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mtlsize_file.h"
#include "mtlsize_unit.h"

#define DEEP 8 /* env(1) that starts env(1) */

struct line {
    char text[UNIT_COMMAND_MAX];
    char why[256];
    bool emptied, changed; /* in ways that the preloaded library mends */
};

static bool next(const char **at, char word[PATH_MAX])
{
    return unit_word(at, word, PATH_MAX);
}

/* Which of our variables a word names, "NAME" or "NAME=VALUE"; NULL: none. */
static const char *ours(const char *word)
{
    for (int i = 0; i < UNIT_VARIABLES; i++) {
        size_t len = strlen(unit_variables[i]);

        if (strncmp(word, unit_variables[i], len) == 0 && (word[len] == '\0' || word[len] == '='))
            return unit_variables[i];
    }
    return NULL;
}

static bool loses(struct line *l, const char *what, const char *name)
{
    snprintf(l->why, sizeof l->why, "its command line goes through env, which %s %s", what, name);
    return true;
}

/* LD_PRELOAD that is taken away alone is meant; other losses the preloaded library makes good. */
static bool unsets(struct line *l, const char *name)
{
    if (name == NULL)
        return false;
    if (strcmp(name, unit_variables[UNIT_PRELOAD]) == 0 && !l->emptied)
        return loses(l, "removes", name);
    l->changed = true;
    return false;
}

static bool assigns(struct line *l, const char *word)
{
    const char *name = ours(word);

    if (name == NULL)
        return false;
    if (strcmp(name, unit_variables[UNIT_PRELOAD]) != 0 || word[strlen(name) + 1] == '\0')
        return loses(l, "replaces", name);
    l->changed = true;
    return false;
}

/* One of env's flags that takes an argument: its value. "" and false: another flag. */
static bool flag_value(const char **at, const char *word, char letter, const char *name,
                       char out[PATH_MAX])
{
    size_t len = strlen(name);
    const char *in = word + 1 + strspn(word + 1, "i0v"); /* in a cluster of letters */

    out[0] = '\0';
    if (*in != letter)
        in = NULL;
    if (in != NULL && in[1] != '\0')
        snprintf(out, PATH_MAX, "%s", in + 1);
    else if (strncmp(word, name, len) == 0 && word[len] == '=')
        snprintf(out, PATH_MAX, "%s", word + len + 1);
    else if (in != NULL || strcmp(word, name) == 0)
        next(at, out);
    else
        return false;
    return true;
}

static bool is_cleared(const char *word)
{
    return strcmp(word, "-") == 0 || strcmp(word, "--ignore-environment") == 0 ||
           (word[0] == '-' && word[1] != '-' && word[1 + strspn(word + 1, "0v")] == 'i');
}

/* Passes over env's flags and assignments; *at is then at the program. True: why says what is lost.
 */
static bool follow_env(struct line *l, const char **at)
{
    char word[PATH_MAX], value[PATH_MAX], rest[UNIT_COMMAND_MAX];

    for (const char *before = *at; next(at, word); before = *at) {
        l->emptied = l->emptied || is_cleared(word);
        if (word[0] == '-' && flag_value(at, word, 'u', "--unset", value)) {
            if (unsets(l, ours(value)))
                return true;
        } else if (word[0] == '-' && flag_value(at, word, 'S', "--split-string", value)) {
            snprintf(rest, sizeof rest, "%s", *at);
            snprintf(l->text, sizeof l->text, "%s %.*s", value,
                     (int)(sizeof l->text - PATH_MAX - 2), rest);
            *at = l->text;
        } else if (word[0] == '-') {
            flag_value(at, word, 'C', "--chdir", value);
        } else if (strchr(word, '=') == NULL) {
            *at = before;
            return false;
        } else if (assigns(l, word)) {
            return true;
        }
    }
    return false;
}

static const struct {
    const char *name, *flags[6], *why;
} wrappers[] = {
    {"sudo", {NULL}, "gives the program an environment of its own"},
    {"doas", {NULL}, "gives the program an environment of its own"},
    {"su", {"-", "-l", "--login", NULL}, "gives the program an environment of its own"},
    {"runuser", {"-", "-l", "--login", NULL}, "gives the program an environment of its own"},
    {"setpriv", {"--reset-env", NULL}, "gives the program an environment of its own"},
    {"systemd-run", {NULL}, "lets the service manager start the program"},
    {"at", {NULL}, "lets a service start the program later"},
    {"batch", {NULL}, "lets a service start the program later"},
    {"unshare", {"-R", "--root", NULL}, "starts the program where the library is not"},
    {"nsenter",
     {"-m", "--mount", "-a", "--all", "--root", NULL},
     "starts the program where the library may not be"},
    {"chroot", {NULL}, "starts the program where the library is not"},
    {"docker", {NULL}, "starts the program where the library is not"},
    {"podman", {NULL}, "starts the program where the library is not"},
    {"systemd-nspawn", {NULL}, "starts the program where the library is not"},
    {"machinectl", {NULL}, "starts the program where the library is not"},
    {"lxc-start", {NULL}, "starts the program where the library is not"},
    {"lxc-execute", {NULL}, "starts the program where the library is not"},
    {"bwrap", {NULL}, "starts the program where the library is not"},
    {"flatpak", {NULL}, "starts the program where the library is not"},
    {"snap", {NULL}, "starts the program where the library is not"},
    {"start-stop-daemon", {"-r", "--chroot", NULL}, "starts the program where the library is not"},
};

/* own: the flags end where the program begins; what is no flag there is a number. */
static bool has_flag(const char *at, const char *const flags[], bool own)
{
    char word[PATH_MAX];

    if (flags[0] == NULL)
        return true;
    while (next(&at, word) && !(own && strchr("-0123456789", word[0]) == NULL))
        for (size_t i = 0; flags[i] != NULL; i++)
            if (strncmp(word, flags[i], strlen(flags[i])) == 0 &&
                strchr("=/", word[strlen(flags[i])]) != NULL) /* and the end */
                return true;
    return false;
}

static bool is_shell(const char *base)
{
    static const char *const shells[] = {"sh", "bash", "dash", "zsh", "ksh"};

    for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++)
        if (strcmp(base, shells[i]) == 0)
            return true;
    return false;
}

static bool loses_by_wrapper(struct line *l, const char *base, const char *at)
{
    for (size_t i = 0; i < sizeof wrappers / sizeof wrappers[0]; i++)
        if (strcmp(base, wrappers[i].name) == 0 &&
            has_flag(at, wrappers[i].flags, strstr("unshare nsenter", base) != NULL)) {
            snprintf(l->why, sizeof l->why, "it is started through %s, which %s", base,
                     wrappers[i].why);
            return true;
        }
    return false;
}

static bool loses_by_program(struct line *l, const char *base, const char *at)
{
    if (loses_by_wrapper(l, base, at))
        return true;
    for (int i = 0; is_shell(base) && i < UNIT_VARIABLES; i++)
        if (strstr(at, unit_variables[i]) != NULL) {
            snprintf(l->why, sizeof l->why,
                     "its shell command names %s: whether the library stays cannot be told",
                     unit_variables[i]);
            return true;
        }
    return false;
}

int unit_command(const char *command, char program[PATH_MAX], char *why, size_t why_len)
{
    static struct line l;
    const char *at = command + strspn(command, "@-:+!|");
    bool lost = false;

    l.emptied = l.changed = false;
    program[0] = '\0';
    for (int deep = 0; deep < DEEP && !lost && next(&at, program); deep++) {
        if (strcmp(base_name(program), "env") != 0) {
            lost = loses_by_program(&l, base_name(program), at);
            break;
        }
        lost = follow_env(&l, &at);
    }
    if (lost)
        snprintf(why, why_len, "%s", l.why);
    return lost ? -1 : l.emptied || l.changed ? 1 : 0;
}

/* One line of words that unit_word() takes apart again. NULL: no memory. */
static char *join(char *const argv[])
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    for (; out != NULL && *argv != NULL; argv++) {
        fputs(" \"", out);
        for (const char *c = *argv; *c != '\0'; c++) {
            if (*c == '"' || *c == '\\')
                putc('\\', out);
            putc(*c, out);
        }
        putc('"', out);
    }
    if (out != NULL && fclose(out) != 0) {
        free(text);
        text = NULL;
    }
    return text;
}

bool command_leaves(char *const argv[], bool public_library, char *why, size_t why_len)
{
    static const char *const changers[] = {
        "su",    "runuser", "setpriv", "setuidgid", "s6-setuidgid", "start-stop-daemon",
        "chpst", "gosu",    "su-exec", "capsh"};
    static struct line l;
    const char *base = base_name(argv[0]);
    char *rest = join(argv + 1);
    bool leaves = rest == NULL || loses_by_wrapper(&l, base, rest);

    snprintf(why, why_len, "%s", rest == NULL ? "out of memory" : leaves ? l.why : "");
    for (size_t i = 0; !leaves && !public_library && i < sizeof changers / sizeof changers[0]; i++)
        if (strcmp(base, changers[i]) == 0) {
            snprintf(why, why_len,
                     "%s changes the user, and not every user can read the library to preload",
                     base);
            leaves = true;
        }
    free(rest);
    return leaves;
}
