/* The files of a systemd unit, and our drop-in's text. */
#include "mtlsize_unit.h"

#include <ctype.h>
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mtlsize_file.h"

/* systemd.unit(5), the first wins. */
static const char *const unit_dirs[] = {
    "/etc/systemd/system.control",   "/run/systemd/system.control",  "/run/systemd/transient",
    "/run/systemd/generator.early",  "/etc/systemd/system",          "/etc/systemd/system.attached",
    "/run/systemd/system",           "/run/systemd/system.attached", "/run/systemd/generator",
    "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",      "/lib/systemd/system",
    "/run/systemd/generator.late",
};
#define UNIT_DIRS  (sizeof unit_dirs / sizeof unit_dirs[0])
#define OUR_FOLDER "/etc/systemd/system"
#define SUFFIX     ".service"

static bool is_unit_name(const char *name)
{
    for (const char *c = name; *c != '\0'; c++)
        if (!isalnum((unsigned char)*c) && strchr(":_.\\@-", *c) == NULL)
            return false;
    return name[0] != '\0' && name[0] != '.' && strlen(name) < 240;
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);

    return len > end_len && strcmp(text + len - end_len, end) == 0;
}

static int set_name(struct unit *u, const char *name)
{
    char full[sizeof u->name];

    if (snprintf(full, sizeof full, "%s", name) >= (int)sizeof full ||
        snprintf(u->folder, sizeof u->folder, "%s" OUR_FOLDER "/%s.d", u->root, full) >=
            (int)sizeof u->folder - 32 ||
        snprintf(u->drop_in, sizeof u->drop_in, "%s/" UNIT_DROP_IN, u->folder) >=
            (int)sizeof u->drop_in)
        return -1;
    memcpy(u->name, full, sizeof full);
    return 0;
}

int unit_name(struct unit *u, const char *root, const char *name, char *why, size_t why_len)
{
    static const char *const types[] = {".socket", ".timer",  ".target", ".mount", ".path",
                                        ".slice",  ".device", ".scope",  ".swap",  ".automount"};

    memset(u, 0, sizeof *u);
    u->root = root;
    u->ours = -1;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (ends_with(name, types[i])) {
            snprintf(why, why_len, "%s is no service", name);
            return -1;
        }
    if (!is_unit_name(name)) {
        snprintf(why, why_len, "\"%s\" is no name of a unit", name);
        return -1;
    }
    snprintf(u->asked, sizeof u->asked, "%s%s", name, ends_with(name, SUFFIX) ? "" : SUFFIX);
    if (set_name(u, u->asked) < 0) {
        snprintf(why, why_len, "%s: the name is too long", name);
        return -1;
    }
    return 0;
}

/* ---- the unit file ---- */

/* "name@instance.service" comes from "name@.service". */
static const char *template_of(const char *name, char out[256])
{
    const char *at = strchr(name, '@'), *dot = strrchr(name, '.');

    if (at == NULL || dot == NULL || at + 1 == dot)
        return NULL;
    snprintf(out, 256, "%.*s%s", (int)(at + 1 - name), name, dot);
    return out;
}

static bool find_file(const struct unit *u, const char *name, char out[PATH_MAX])
{
    struct stat st;

    for (size_t i = 0; name != NULL && i < UNIT_DIRS; i++)
        if (snprintf(out, PATH_MAX, "%s%s/%s", u->root, unit_dirs[i], name) < PATH_MAX &&
            lstat(out, &st) == 0)
            return true;
    return false;
}

static bool is_unit_dir(const struct unit *u, const char *path, size_t len)
{
    char dir[PATH_MAX];

    for (size_t i = 0; i < UNIT_DIRS; i++) {
        int n = snprintf(dir, sizeof dir, "%s%s", u->root, unit_dirs[i]);

        if ((strlen(unit_dirs[i]) == len && strncmp(path, unit_dirs[i], len) == 0) ||
            ((size_t)n == len && strncmp(path, dir, len) == 0))
            return true;
    }
    return false;
}

/* The other unit's name that a link stands for; NULL: it is none. */
static const char *alias_of(const struct unit *u, const char *path, char target[PATH_MAX])
{
    ssize_t len = readlink(path, target, PATH_MAX - 1);
    const char *base;

    if (len <= 0)
        return NULL;
    target[len] = '\0';
    base = base_name(target);
    if (!ends_with(base, SUFFIX) || strlen(base) >= 256 || strcmp(base, base_name(path)) == 0 ||
        (target[0] == '/' && !is_unit_dir(u, target, (size_t)(base - target - 1))))
        return NULL;
    return base;
}

/* An empty file, or a link to /dev/null. */
static bool is_masked(const char *path)
{
    struct stat st;
    char real[PATH_MAX];

    if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
        return st.st_size == 0;
    return realpath(path, real) != NULL && strcmp(real, "/dev/null") == 0;
}

/* The same instance of another template. */
static void with_instance(const char *name, const char *other, char out[256])
{
    const char *at = strchr(other, '@'), *instance = strchr(name, '@');

    if (at == NULL || at[1] != '.' || instance == NULL)
        snprintf(out, 256, "%s", other);
    else
        snprintf(out, 256, "%.*s%s", (int)(at - other), other, instance);
}

static bool exists_as(const char *format, const char *root, const char *name)
{
    char path[PATH_MAX];

    return snprintf(path, sizeof path, "%s%s/%s", root, format, name) < (int)sizeof path &&
           access(path, F_OK) == 0;
}

static void not_found(const struct unit *u, char *why, size_t why_len)
{
    static const char *const user_dirs[] = {"/etc/systemd/user", "/usr/local/lib/systemd/user",
                                            "/usr/lib/systemd/user"};
    const char *home = getenv("HOME");
    char script[256];
    bool user =
        home != NULL && u->root[0] == '\0' && exists_as("/.config/systemd/user", home, u->asked);

    for (size_t i = 0; i < sizeof user_dirs / sizeof user_dirs[0]; i++)
        user = user || exists_as(user_dirs[i], u->root, u->asked);
    snprintf(script, sizeof script, "%.*s", (int)(strlen(u->asked) - strlen(SUFFIX)), u->asked);
    if (user)
        snprintf(why, why_len,
                 "%s is a unit of users' own service managers (systemctl --user), which mtlsize "
                 "does not change; put mtlsize run before its program instead",
                 u->asked);
    else if (exists_as("/etc/init.d", u->root, script))
        snprintf(why, why_len, "there is no unit %s, only /etc/init.d/%s", u->asked, script);
    else
        snprintf(why, why_len, "there is no unit %s", u->asked);
}

/* The file, behind any aliases. */
static int find_unit(struct unit *u, char *why, size_t why_len)
{
    char template[256], target[PATH_MAX], name[256];
    const char *other;

    for (int deep = 0; deep < 8; deep++) {
        if (!find_file(u, u->name, u->file) &&
            !find_file(u, template_of(u->name, template), u->file)) {
            u->file[0] = '\0';
            not_found(u, why, why_len);
            return -1;
        }
        if ((other = alias_of(u, u->file, target)) == NULL) {
            u->masked = is_masked(u->file);
            return 0;
        }
        with_instance(u->name, other, name);
        if (set_name(u, name) < 0)
            break;
    }
    snprintf(why, why_len, "%s: links without end", u->asked);
    return -1;
}

void unit_resolve(struct unit *u)
{
    char why[512];

    (void)find_unit(u, why, sizeof why);
}

/* ---- its drop-ins ---- */

struct names {
    char list[UNIT_NAMES_MAX][256];
    size_t count;
    bool too_many;
};

static void add_name(struct names *n, const char *name)
{
    for (size_t i = 0; i < n->count; i++)
        if (strcmp(n->list[i], name) == 0)
            return;
    if (n->count == UNIT_NAMES_MAX)
        n->too_many = true;
    else
        snprintf(n->list[n->count++], 256, "%s", name);
}

/* The folders of all names that a unit has count. */
static void find_names(const struct unit *u, struct names *n)
{
    char pattern[PATH_MAX], target[PATH_MAX];
    glob_t found;

    add_name(n, u->name);
    for (size_t i = 0; i < UNIT_DIRS; i++) {
        if (snprintf(pattern, sizeof pattern, "%s%s/*" SUFFIX, u->root, unit_dirs[i]) >=
                (int)sizeof pattern ||
            glob(pattern, 0, NULL, &found) != 0)
            continue;
        for (size_t k = 0; k < found.gl_pathc; k++) {
            const char *other = alias_of(u, found.gl_pathv[k], target);

            if (other != NULL && strcmp(other, u->name) == 0)
                add_name(n, base_name(found.gl_pathv[k]));
        }
        globfree(&found);
    }
}

struct drop_ins {
    char paths[UNIT_SOURCES_MAX][PATH_MAX];
    size_t count;
    bool too_many;
};

static void add_drop_in(struct unit *u, struct drop_ins *d, const char *path)
{
    for (size_t i = 0; i < d->count; i++)
        if (strcmp(base_name(d->paths[i]), base_name(path)) == 0) {
            if (strcmp(path, u->drop_in) == 0 && strcmp(d->paths[i], path) != 0)
                snprintf(u->hidden_by, sizeof u->hidden_by, "%s", d->paths[i]);
            return; /* an earlier folder's hides it */
        }
    if (d->count == UNIT_SOURCES_MAX - 2)
        d->too_many = true;
    else
        snprintf(d->paths[d->count++], PATH_MAX, "%s", path);
}

static void add_folder(struct unit *u, struct drop_ins *d, const char *name, bool with_ours)
{
    char pattern[PATH_MAX];
    glob_t found;

    for (size_t i = 0; i < UNIT_DIRS; i++) {
        if (strcmp(unit_dirs[i], OUR_FOLDER) == 0 && with_ours && strcmp(name, u->name) == 0)
            add_drop_in(u, d, u->drop_in);
        if (snprintf(pattern, sizeof pattern, "%s%s/%s.d/*.conf", u->root, unit_dirs[i], name) >=
                (int)sizeof pattern ||
            glob(pattern, 0, NULL, &found) != 0)
            continue;
        for (size_t k = 0; k < found.gl_pathc; k++)
            if (with_ours || strcmp(found.gl_pathv[k], u->drop_in) != 0)
                add_drop_in(u, d, found.gl_pathv[k]);
        globfree(&found);
    }
}

/* a-b-c.service has the folders of a-b-.service and a-.service too. */
static void add_prefixes(struct unit *u, struct drop_ins *d, const char *name, bool with_ours)
{
    size_t len = strcspn(name, "@");
    bool instance = name[len] == '@';
    char shorter[256];

    if (!instance)
        len = strlen(name) - strlen(SUFFIX);
    while (len > 1) {
        len--;
        if (name[len - 1] != '-')
            continue;
        snprintf(shorter, sizeof shorter, "%.*s%s" SUFFIX, (int)len, name, instance ? "@" : "");
        add_folder(u, d, shorter, with_ours);
    }
}

static int by_base_name(const void *a, const void *b)
{
    return strcmp(base_name(a), base_name(b));
}

static void find_drop_ins(struct unit *u, struct drop_ins *d, bool with_ours)
{
    static struct names names;
    char template[256];

    memset(&names, 0, sizeof names);
    find_names(u, &names);
    u->too_much = u->too_much || names.too_many;
    for (size_t i = 0; i < names.count; i++)
        add_folder(u, d, names.list[i], with_ours);
    for (size_t i = 0; i < names.count; i++)
        if (template_of(names.list[i], template) != NULL)
            add_folder(u, d, template, with_ours);
    for (size_t i = 0; i < names.count; i++)
        add_prefixes(u, d, names.list[i], with_ours);
    add_folder(u, d, "service", with_ours);
    u->too_much = u->too_much || d->too_many;
    qsort(d->paths, d->count, sizeof d->paths[0], by_base_name);
}

/* ---- reading ---- */

static void add_source(struct unit *u, const char *path)
{
    snprintf(u->sources[u->source_count++], PATH_MAX, "%s", path);
    if (strcmp(path, u->drop_in) == 0)
        u->ours = u->source_count - 1;
}

static int apply_file(struct unit *u, const char *path, char *why, size_t why_len)
{
    uint8_t *data;
    size_t len;

    if (is_masked(path))
        return 0;
    if (file_load(path, &data, &len) < 0 || len > UNIT_SIZE_MAX) {
        snprintf(why, why_len, "%s: %s", path, data == NULL ? strerror(errno) : "too long");
        free(data);
        return -1;
    }
    data[len] = '\0';
    add_source(u, path);
    unit_apply_text(u, (char *)data);
    free(data);
    return 0;
}

static int apply_string(struct unit *u, const char *text)
{
    char *copy = strdup(text);

    if (copy == NULL)
        return -1;
    add_source(u, u->drop_in);
    unit_apply_text(u, copy);
    free(copy);
    return 0;
}

int unit_read(struct unit *u, const char *ours, char *why, size_t why_len)
{
    struct drop_ins *d = calloc(1, sizeof *d);
    bool with_ours = true;
    int rv = -1;

    if (d == NULL)
        snprintf(why, why_len, "out of memory");
    if (d == NULL || find_unit(u, why, why_len) < 0)
        goto out;
    if (ours == NULL) /* an alias has another folder */
        with_ours = access(u->drop_in, F_OK) == 0;
    for (int i = 0; i < UNIT_VARIABLES; i++)
        u->variables[i] = (struct unit_assigned){.from = -1, .unset = -1};
    if (u->masked)
        rv = 0;
    else if (apply_file(u, u->file, why, why_len) == 0) {
        find_drop_ins(u, d, with_ours);
        rv = 0;
    }
    for (size_t i = 0; i < d->count && rv == 0; i++)
        rv = ours != NULL && strcmp(d->paths[i], u->drop_in) == 0
                 ? apply_string(u, ours)
                 : apply_file(u, d->paths[i], why, why_len);
out:
    free(d);
    return rv;
}

/* ---- our drop-in ---- */

bool unit_escape(const char *in, char *out, size_t cap)
{
    size_t n = 0;

    for (; *in != '\0'; in++) {
        if (n + 3 > cap)
            return false;
        if (*in == '%')
            out[n++] = '%';
        out[n++] = *in;
    }
    out[n] = '\0';
    return true;
}

/* One assignment; what ends a quoted string is escaped. */
static void put_variable(FILE *out, const char *name, const char *value)
{
    fprintf(out, "Environment=\"%s=", name);
    for (; *value != '\0'; value++) {
        if (*value == '"' || *value == '\\')
            putc('\\', out);
        putc(*value, out);
    }
    fputs("\"\n", out);
}

char *unit_drop_in(const char *library, const char *preload, const char *config,
                   bool allow_unhooked, const char *log)
{
    char *text = NULL, words[UNIT_COMMAND_MAX * 2], file[2 * PATH_MAX] = "";
    size_t len;
    FILE *out;

    if (strpbrk(library, "\r\n") != NULL || strpbrk(preload, "\r\n") != NULL ||
        strpbrk(config, "\r\n") != NULL || !unit_escape(config, words, sizeof words) ||
        (log != NULL && (strpbrk(log, "\r\n") != NULL || !unit_escape(log, file, sizeof file))))
        return NULL;
    out = open_memstream(&text, &len);
    if (out == NULL)
        return NULL;
    fprintf(out, UNIT_MARK "[Unit]\nAssertPathExists=%s\n[Service]\n", library);
    put_variable(out, unit_variables[UNIT_PRELOAD], preload);
    put_variable(out, unit_variables[UNIT_CONFIG], words);
    put_variable(out, unit_variables[UNIT_UNHOOKED], allow_unhooked ? "allow" : "refuse");
    if (log != NULL)
        put_variable(out, "MTLSIZE_LOG", file);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

int unit_drop_in_is_ours(const char *path)
{
    uint8_t *data;
    size_t len;
    int rv;

    if (file_load(path, &data, &len) < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
    rv = len >= sizeof UNIT_MARK - 1 && memcmp(data, UNIT_MARK, sizeof UNIT_MARK - 1) == 0 ? 1 : -1;
    free(data);
    return rv;
}
