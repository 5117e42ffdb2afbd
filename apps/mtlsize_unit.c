/* What a systemd unit says, as far as it matters for a preloaded library. */
#include "mtlsize_unit.h"

#include <ctype.h>
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mtlsize_file.h"

static const char *const unit_dirs[] = {
    "/etc/systemd/system",     "/run/systemd/system", "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system", "/lib/systemd/system",
};

static bool is_unit_name(const char *name)
{
    for (const char *c = name; *c != '\0'; c++)
        if (!isalnum((unsigned char)*c) && strchr(":_.\\@-", *c) == NULL)
            return false;
    return name[0] != '\0' && name[0] != '.' && strlen(name) < 240;
}

int unit_name(struct unit *u, const char *root, const char *name, char *why, size_t why_len)
{
    static const char *const types[] = {".socket", ".timer",  ".target", ".mount", ".path",
                                        ".slice",  ".device", ".scope",  ".swap",  ".automount"};
    size_t len = strlen(name);

    memset(u, 0, sizeof *u);
    u->root = root;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (len > strlen(types[i]) && strcmp(name + len - strlen(types[i]), types[i]) == 0) {
            snprintf(why, why_len, "%s is no service", name);
            return -1;
        }
    if (!is_unit_name(name)) {
        snprintf(why, why_len, "\"%s\" is no name of a unit", name);
        return -1;
    }
    snprintf(u->name, sizeof u->name, "%s%s", name,
             len > 8 && strcmp(name + len - 8, ".service") == 0 ? "" : ".service");
    if (snprintf(u->folder, sizeof u->folder, "%s%s/%s.d", root, unit_dirs[0], u->name) >=
            (int)sizeof u->folder - 32 ||
        snprintf(u->drop_in, sizeof u->drop_in, "%s/" UNIT_DROP_IN, u->folder) >=
            (int)sizeof u->drop_in) {
        snprintf(why, why_len, "%s: the name is too long", name);
        return -1;
    }
    return 0;
}

/* The next word of a value, its quotes and escapes undone. */
static bool next_word(const char **at, char *out, size_t cap)
{
    char quote = '\0';
    size_t n = 0;

    *at += strspn(*at, " \t");
    if (**at == '\0')
        return false;
    for (; **at != '\0' && (quote != '\0' || (**at != ' ' && **at != '\t')); (*at)++) {
        char c = **at;

        if (c == '\\' && (*at)[1] != '\0')
            c = *++*at;
        else if (quote == '\0' && (c == '"' || c == '\'')) {
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

static void apply_exec(struct unit *u, const char *value)
{
    char word[PATH_MAX];

    if (*value == '\0') {
        u->program_count = 0;
        return;
    }
    value += strspn(value, "@-:+!|");
    if (u->program_count < UNIT_PROGRAMS_MAX && next_word(&value, word, sizeof word))
        snprintf(u->programs[u->program_count++], PATH_MAX, "%s", word);
}

static void apply_environment(struct unit *u, const char *value)
{
    char word[PATH_MAX];

    if (*value == '\0')
        u->preload[0] = '\0';
    while (next_word(&value, word, sizeof word))
        if (strncmp(word, "LD_PRELOAD=", 11) == 0)
            snprintf(u->preload, sizeof u->preload, "%s", word + 11);
}

void unit_apply(struct unit *u, const char *key, const char *value)
{
    if (strcmp(key, "ExecStart") == 0)
        apply_exec(u, value);
    else if (strcmp(key, "Environment") == 0)
        apply_environment(u, value);
    else if (strcmp(key, "EnvironmentFile") == 0 && *value == '\0')
        u->environment_file_count = 0;
    else if (strcmp(key, "EnvironmentFile") == 0 && u->environment_file_count < UNIT_FILES_MAX)
        snprintf(u->environment_files[u->environment_file_count++], PATH_MAX, "%s",
                 value + (*value == '-'));
    else if (strcmp(key, "RestrictAddressFamilies") == 0)
        u->lacks_netlink = *value != '\0' && *value != '~' && strstr(value, "AF_NETLINK") == NULL;
}

/* Cuts the line that begins at *at out of text, continuation lines included. */
static char *next_line(char **at)
{
    char *line = *at, *from = *at, *to = *at;

    if (*from == '\0')
        return NULL;
    while (*from != '\0' && *from != '\n') {
        if (from[0] == '\\' && from[1] == '\n') {
            *to++ = ' ';
            from += 2;
        } else {
            *to++ = *from++;
        }
    }
    *at = *from == '\n' ? from + 1 : from;
    while (to > line && strchr(" \t\r", to[-1]) != NULL)
        to--;
    *to = '\0';
    return line;
}

static void apply_text(struct unit *u, char *text)
{
    bool service = false;

    for (char *line; (line = next_line(&text)) != NULL;) {
        char *equals;

        line += strspn(line, " \t");
        if (*line == '[')
            service = strcmp(line, "[Service]") == 0;
        if (!service || *line == '#' || *line == ';' || (equals = strchr(line, '=')) == NULL)
            continue;
        for (char *end = equals; end > line && strchr(" \t", end[-1]) != NULL;)
            *--end = '\0';
        *equals++ = '\0';
        unit_apply(u, line, equals + strspn(equals, " \t"));
    }
}

static int apply_file(struct unit *u, const char *path, char *why, size_t why_len)
{
    uint8_t *data;
    size_t len;

    if (file_load(path, &data, &len) < 0 || len > UNIT_SIZE_MAX) {
        snprintf(why, why_len, "%s: %s", path, data == NULL ? strerror(errno) : "too long");
        free(data);
        return -1;
    }
    data[len] = '\0';
    apply_text(u, (char *)data);
    free(data);
    return 0;
}

/* "name@instance.service" comes from "name@.service". */
static const char *template_of(const char *name, char out[256])
{
    const char *at = strchr(name, '@'), *dot = strrchr(name, '.');

    if (at == NULL || dot == NULL || at + 1 == dot)
        return NULL;
    snprintf(out, 256, "%.*s%s", (int)(at + 1 - name), name, dot);
    return out;
}

static bool find_file(struct unit *u, const char *name)
{
    for (size_t i = 0; name != NULL && i < sizeof unit_dirs / sizeof unit_dirs[0]; i++)
        if (snprintf(u->file, sizeof u->file, "%s%s/%s", u->root, unit_dirs[i], name) <
                (int)sizeof u->file &&
            access(u->file, R_OK) == 0)
            return true;
    return false;
}

/* A drop-in hides those of the same name in later folders; that none is read twice suffices here.
 */
static int apply_drop_ins(struct unit *u, const char *name, char *why, size_t why_len)
{
    char pattern[PATH_MAX];
    glob_t found = {.gl_pathc = 0};
    int flags = 0, rv = 0;

    for (size_t i = sizeof unit_dirs / sizeof unit_dirs[0]; i-- > 0;)
        if (snprintf(pattern, sizeof pattern, "%s%s/%s.d/*.conf", u->root, unit_dirs[i], name) <
                (int)sizeof pattern &&
            glob(pattern, flags, NULL, &found) == 0)
            flags = GLOB_APPEND;
    for (size_t i = 0; flags != 0 && rv == 0 && i < found.gl_pathc; i++)
        if (strcmp(base_name(found.gl_pathv[i]), UNIT_DROP_IN) != 0)
            rv = apply_file(u, found.gl_pathv[i], why, why_len);
    if (flags != 0)
        globfree(&found);
    return rv;
}

int unit_read(struct unit *u, char *why, size_t why_len)
{
    char template[256];
    const char *base = template_of(u->name, template);

    if (!find_file(u, u->name) && !find_file(u, base)) {
        snprintf(why, why_len, "there is no unit %s", u->name);
        return -1;
    }
    if (apply_file(u, u->file, why, why_len) < 0 ||
        (base != NULL && apply_drop_ins(u, base, why, why_len) < 0))
        return -1;
    return apply_drop_ins(u, u->name, why, why_len);
}

/* One assignment; % and what ends a quoted string are escaped. */
static void put_variable(FILE *out, const char *name, const char *value)
{
    fprintf(out, "Environment=\"%s=", name);
    for (; *value != '\0'; value++) {
        if (*value == '"' || *value == '\\')
            putc('\\', out);
        if (*value == '%')
            putc('%', out);
        putc(*value, out);
    }
    fputs("\"\n", out);
}

char *unit_drop_in(const char *preload, const char *config, bool allow_unhooked)
{
    char *text = NULL;
    size_t len;
    FILE *out;

    if (strpbrk(preload, "\r\n") != NULL || strpbrk(config, "\r\n") != NULL)
        return NULL;
    out = open_memstream(&text, &len);
    if (out == NULL)
        return NULL;
    fputs(UNIT_MARK "[Service]\n", out);
    put_variable(out, "LD_PRELOAD", preload);
    put_variable(out, "MTLS_CONFIG", config);
    put_variable(out, "MTLSIZE_UNHOOKED", allow_unhooked ? "allow" : "refuse");
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
