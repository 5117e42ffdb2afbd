/* The text of a systemd unit: lines, words, and what each key does to what was said before. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mtlsize_unit.h"

#define WHITE " \t\r"

const char *const unit_variables[UNIT_VARIABLES] = {"LD_PRELOAD", "MTLS_CONFIG",
                                                    "MTLSIZE_UNHOOKED"};

bool unit_word(const char **at, char *out, size_t cap)
{
    char quote = '\0';
    size_t n = 0;

    *at += strspn(*at, WHITE);
    if (**at == '\0')
        return false;
    for (; **at != '\0' && (quote != '\0' || strchr(WHITE, **at) == NULL); (*at)++) {
        char c = **at;

        if (c == '\\' && (*at)[1] != '\0') {
            c = *++*at;
        } else if (quote == '\0' && (c == '"' || c == '\'')) {
            quote = c;
            continue;
        } else if (c == quote) {
            quote = '\0';
            continue;
        }
        if (n + 1 < cap)
            out[n++] = c;
    }
    out[n] = '\0';
    return true;
}

static int current(const struct unit *u)
{
    return u->source_count - 1;
}

static bool is_true(const char *value)
{
    static const char *const words[] = {"1", "yes", "y", "true", "t", "on"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcasecmp(value, words[i]) == 0)
            return true;
    return false;
}

/* ---- what the programs get ---- */

/* Which of ours "NAME=..." or "NAME" is; UNIT_VARIABLES: none. */
static int variable_of(const char *word)
{
    for (int i = 0; i < UNIT_VARIABLES; i++) {
        size_t len = strlen(unit_variables[i]);

        if (strncmp(word, unit_variables[i], len) == 0 && (word[len] == '=' || word[len] == '\0'))
            return i;
    }
    return UNIT_VARIABLES;
}

static void assign(struct unit *u, int variable, const char *value)
{
    bool ours = current(u) == u->ours;

    u->variables[variable].from = current(u);
    u->variables[variable].set = true;
    if (variable == UNIT_PRELOAD)
        snprintf(ours ? u->our_preload : u->preload,
                 ours ? sizeof u->our_preload : sizeof u->preload, "%s", value);
    if (variable == UNIT_CONFIG && ours)
        snprintf(u->our_config, sizeof u->our_config, "%s", value);
    if (variable == UNIT_UNHOOKED && ours)
        u->our_allow = strcmp(value, "allow") == 0;
}

static void apply_environment(struct unit *u, const char *value)
{
    char word[2 * UNIT_COMMAND_MAX];

    if (*value == '\0') {
        u->preload[0] = '\0';
        for (int i = 0; i < UNIT_VARIABLES; i++) {
            u->variables[i].from = current(u);
            u->variables[i].set = false;
        }
    }
    while (unit_word(&value, word, sizeof word)) {
        int i = variable_of(word);

        if (i < UNIT_VARIABLES && word[strlen(unit_variables[i])] == '=')
            assign(u, i, word + strlen(unit_variables[i]) + 1);
    }
}

static void apply_unset(struct unit *u, const char *value)
{
    char word[UNIT_COMMAND_MAX];

    if (*value == '\0')
        for (int i = 0; i < UNIT_VARIABLES; i++)
            u->variables[i].unset = -1;
    while (unit_word(&value, word, sizeof word)) {
        int i = variable_of(word);

        if (i < UNIT_VARIABLES)
            u->variables[i].unset = current(u);
    }
}

static void apply_pass(struct unit *u, const char *value)
{
    char word[UNIT_COMMAND_MAX];

    if (*value == '\0')
        u->passes_preload = false;
    while (unit_word(&value, word, sizeof word))
        u->passes_preload = u->passes_preload || variable_of(word) == UNIT_PRELOAD;
}

static void apply_environment_file(struct unit *u, const char *value)
{
    if (*value == '\0')
        u->environment_file_count = 0;
    else if (u->environment_file_count == UNIT_FILES_MAX)
        u->too_much = true;
    else
        snprintf(u->environment_files[u->environment_file_count++], PATH_MAX, "%s",
                 value + (*value == '-'));
}

static void apply_exec(struct unit *u, const char *value)
{
    if (*value == '\0')
        u->command_count = 0;
    else if (u->command_count == UNIT_PROGRAMS_MAX || strlen(value) >= UNIT_COMMAND_MAX)
        u->too_much = true;
    else
        snprintf(u->commands[u->command_count++], UNIT_COMMAND_MAX, "%s", value);
}

/* ---- where and as whom they run ---- */

static void hide(struct unit *u, const char *key, const char *path)
{
    if (u->hidden_count == UNIT_FILES_MAX) {
        u->too_much = true;
        return;
    }
    u->hidden[u->hidden_count].key = key;
    snprintf(u->hidden[u->hidden_count++].path, sizeof u->hidden[0].path, "%s", path);
}

static void unhide(struct unit *u, const char *key)
{
    size_t kept = 0;

    for (size_t i = 0; i < u->hidden_count; i++)
        if (strcmp(u->hidden[i].key, key) != 0)
            u->hidden[kept++] = u->hidden[i];
    u->hidden_count = kept;
}

/* A list of paths, each with "-" or "+" before it and options behind it. */
static void apply_paths(struct unit *u, const char *key, const char *value)
{
    char word[PATH_MAX];

    if (*value == '\0')
        unhide(u, key);
    while (unit_word(&value, word, sizeof word)) {
        word[strcspn(word, ":")] = '\0';
        hide(u, key, word + strspn(word, "-+"));
    }
}

/* "SOURCE[:DESTINATION[:OPTIONS]]": what is bound to its own place is there, whatever is put over a
 * folder above it. Both settings are one list. */
static void apply_binds(struct unit *u, const char *key, const char *value)
{
    char word[PATH_MAX], *to;

    if (*value == '\0') {
        unhide(u, "BindPaths");
        unhide(u, "BindReadOnlyPaths");
        u->shown_count = 0;
    }
    while (unit_word(&value, word, sizeof word)) {
        const char *from = word + strspn(word, "-+");

        to = strchr(word, ':');
        if (to != NULL) {
            *to++ = '\0';
            to[strcspn(to, ":")] = '\0';
        }
        if (to != NULL && *to != '\0' && strcmp(from, to) != 0)
            hide(u, key, to);
        else if (u->shown_count < UNIT_FILES_MAX)
            snprintf(u->shown[u->shown_count++], sizeof u->shown[0], "%s", from);
    }
}

static void apply_exec_paths(struct unit *u, const char *value)
{
    char word[PATH_MAX];

    if (*value == '\0')
        u->exec_path_count = 0;
    while (unit_word(&value, word, sizeof word))
        if (u->exec_path_count < UNIT_FILES_MAX)
            snprintf(u->exec_paths[u->exec_path_count++], sizeof u->exec_paths[0], "%s",
                     word + strspn(word, "-+"));
}

static void apply_switched_paths(struct unit *u, const char *key, bool on,
                                 const char *const paths[])
{
    unhide(u, key);
    for (; on && *paths != NULL; paths++)
        hide(u, key, *paths);
}

static void apply_families(struct unit *u, const char *value)
{
    bool allow = *value != '~', named = false;
    char word[64];

    if (*value == '\0' || strcmp(value, "none") == 0) {
        u->families_set = u->families_allow = *value != '\0';
        u->families_netlink = false;
        return;
    }
    if (!u->families_set)
        u->families_allow = allow;
    u->families_set = true;
    value += !allow;
    while (unit_word(&value, word, sizeof word))
        named = named || strcmp(word, "AF_NETLINK") == 0;
    if (named)
        u->families_netlink = allow == u->families_allow;
}

static bool apply_place(struct unit *u, const char *key, const char *value)
{
    static const char *const homes[] = {"/home", "/root", "/run/user", NULL};
    static const char *const temporary[] = {"/tmp", "/var/tmp", NULL};
    bool other_root = strcmp(value, "/") != 0;

    if (strcmp(key, "RootDirectory") == 0 || strcmp(key, "RootImage") == 0)
        snprintf(u->root_directory, sizeof u->root_directory, "%s", other_root ? value : "");
    else if (strcmp(key, "InaccessiblePaths") == 0 || strcmp(key, "InaccessibleDirectories") == 0)
        apply_paths(u, "InaccessiblePaths", value);
    else if (strcmp(key, "TemporaryFileSystem") == 0)
        apply_paths(u, "TemporaryFileSystem", value);
    else if (strcmp(key, "BindPaths") == 0)
        apply_binds(u, "BindPaths", value);
    else if (strcmp(key, "BindReadOnlyPaths") == 0)
        apply_binds(u, "BindReadOnlyPaths", value);
    else if (strcmp(key, "NoExecPaths") == 0)
        apply_paths(u, "NoExecPaths", value);
    else if (strcmp(key, "ExecPaths") == 0)
        apply_exec_paths(u, value);
    else if (strcmp(key, "ProtectHome") == 0)
        apply_switched_paths(u, "ProtectHome", is_true(value) || strcmp(value, "tmpfs") == 0,
                             homes);
    else if (strcmp(key, "PrivateTmp") == 0)
        apply_switched_paths(u, "PrivateTmp", is_true(value) || strcmp(value, "disconnected") == 0,
                             temporary);
    else
        return false;
    return true;
}

void unit_apply(struct unit *u, const char *key, const char *value)
{
    if (strcmp(key, "ExecStart") == 0)
        apply_exec(u, value);
    else if (strcmp(key, "Environment") == 0)
        apply_environment(u, value);
    else if (strcmp(key, "EnvironmentFile") == 0)
        apply_environment_file(u, value);
    else if (strcmp(key, "UnsetEnvironment") == 0)
        apply_unset(u, value);
    else if (strcmp(key, "PassEnvironment") == 0)
        apply_pass(u, value);
    else if (strcmp(key, "RestrictAddressFamilies") == 0)
        apply_families(u, value);
    else if (strcmp(key, "User") == 0)
        snprintf(u->user, sizeof u->user, "%s",
                 strcmp(value, "root") == 0 || strcmp(value, "0") == 0 ? "" : value);
    else if (strcmp(key, "DynamicUser") == 0)
        u->dynamic_user = is_true(value);
    else if (strcmp(key, "NoNewPrivileges") == 0)
        u->no_new_privileges = is_true(value);
    else if (strcmp(key, "PrivateNetwork") == 0)
        u->private_network = is_true(value);
    else if (strcmp(key, "PAMName") == 0)
        u->pam = *value != '\0';
    else
        apply_place(u, key, value);
}

/* ---- lines ---- */

/* A backslash that is not itself escaped. */
static bool goes_on(const char *line)
{
    bool escaped = false;

    for (; *line != '\0'; line++)
        escaped = !escaped && *line == '\\';
    return escaped;
}

/* Cuts the line that begins at *at out of text. Comments are no part of a line that goes on, and
 * do not go on themselves. */
static char *next_line(char **at)
{
    char *line = NULL, *to = NULL;

    while (**at != '\0') {
        char *from = *at, *end = strchrnul(from, '\n');
        size_t len = (size_t)(end - from);
        bool more;

        *at = *end == '\n' ? end + 1 : end;
        *end = '\0';
        if (strchr("#;", from[strspn(from, WHITE)]) != NULL && from[strspn(from, WHITE)] != '\0')
            continue;
        more = goes_on(from);
        if (line == NULL)
            line = to = from;
        memmove(to, from, len + 1);
        to += len;
        if (!more)
            break;
        to[-1] = ' ';
    }
    if (line == NULL)
        return NULL;
    *to = '\0';
    while (to > line && strchr(WHITE, to[-1]) != NULL)
        *--to = '\0';
    return line + strspn(line, WHITE);
}

/* An empty one of them takes all away. */
static void apply_assert(struct unit *u, const char *key, const char *value)
{
    if (strncmp(key, "Assert", 6) == 0 && *value == '\0')
        u->asserted[0] = '\0';
    else if (strcmp(key, "AssertPathExists") == 0 && current(u) == u->ours)
        snprintf(u->asserted, sizeof u->asserted, "%s", value);
}

void unit_apply_text(struct unit *u, char *text)
{
    bool service = false, unit = false;

    if (strncmp(text, "\xef\xbb\xbf", 3) == 0)
        text += 3;
    for (char *line; (line = next_line(&text)) != NULL;) {
        char *equals;

        if (*line == '[')
            service = strcmp(line, "[Service]") == 0;
        if (*line == '[')
            unit = strcmp(line, "[Unit]") == 0;
        if (!(service || unit) || *line == '[' || (equals = strchr(line, '=')) == NULL)
            continue;
        for (char *end = equals; end > line && strchr(WHITE, end[-1]) != NULL;)
            *--end = '\0';
        *equals++ = '\0';
        (service ? unit_apply : apply_assert)(u, line, equals + strspn(equals, WHITE));
    }
}

/* ---- specifiers ---- */

static bool specifier(const struct unit *u, char c, char out[256])
{
    size_t len = strlen(u->name) - strlen(".service"), prefix = strcspn(u->name, "@");
    const char *dash;

    if (prefix > len)
        prefix = len;
    switch (c) {
    case '%':
        snprintf(out, 256, "%%");
        return true;
    case 'n':
        snprintf(out, 256, "%s", u->name);
        return true;
    case 'N':
        snprintf(out, 256, "%.*s", (int)len, u->name);
        return true;
    case 'p':
        snprintf(out, 256, "%.*s", (int)prefix, u->name);
        return true;
    case 'i':
        snprintf(out, 256, "%.*s", prefix < len ? (int)(len - prefix - 1) : 0,
                 u->name + prefix + 1);
        return prefix + 1 < len;
    case 'j':
        snprintf(out, 256, "%.*s", (int)prefix, u->name);
        dash = strrchr(out, '-');
        if (dash != NULL)
            memmove(out, dash + 1, strlen(dash));
        return true;
    case 'E':
        snprintf(out, 256, "/etc");
        return true;
    case 't':
        snprintf(out, 256, "/run");
        return true;
    case 'S':
        snprintf(out, 256, "/var/lib");
        return true;
    default:
        return false;
    }
}

bool unit_expand(const struct unit *u, const char *in, char *out, size_t cap)
{
    char value[256];
    size_t n = 0;

    for (; *in != '\0'; in++) {
        if (*in != '%')
            snprintf(value, sizeof value, "%c", *in);
        else if (!specifier(u, in[1], value))
            return false;
        else
            in++;
        if (n + strlen(value) + 1 > cap)
            return false;
        memcpy(out + n, value, strlen(value) + 1);
        n += strlen(value);
    }
    out[n] = '\0';
    return true;
}
