/* Which shared libraries a program would load. */
#include "mtlsize_libs.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mtlsize_file.h"

#if defined(__x86_64__)
#define MULTIARCH "x86_64-linux-gnu"
#elif defined(__aarch64__)
#define MULTIARCH "aarch64-linux-gnu"
#elif defined(__i386__)
#define MULTIARCH "i386-linux-gnu"
#else
#define MULTIARCH "."
#endif

static const char *const standard_dirs[] = {
    "/lib/" MULTIARCH, "/usr/lib/" MULTIARCH, "/lib64", "/usr/lib64", "/lib", "/usr/lib",
};

static void add_dir(struct libs *l, const char *dir)
{
    if (l->dir_count == LIBS_DIRS_MAX || (l->dirs[l->dir_count] = strdup(dir)) == NULL)
        l->failed = true;
    else
        l->dir_count++;
}

static void read_conf(struct libs *l, const char *file, int deep);

static void read_included(struct libs *l, const char *file, const char *pattern, int deep)
{
    char path[PATH_MAX];
    glob_t found;
    int len = *pattern == '/' ? snprintf(path, sizeof path, "%s", pattern)
                              : snprintf(path, sizeof path, "%.*s%s", (int)(base_name(file) - file),
                                         file, pattern);

    if (len >= (int)sizeof path || deep == LIBS_CONF_DEEP || glob(path, 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++)
        read_conf(l, found.gl_pathv[i], deep + 1);
    globfree(&found);
}

static void read_conf(struct libs *l, const char *file, int deep)
{
    char *line = NULL, *rest;
    size_t size = 0;
    FILE *f = fopen(file, "re");

    if (f == NULL)
        return;
    while (getline(&line, &size, f) > 0 && !l->failed) {
        char *first;

        line[strcspn(line, "#\n")] = '\0';
        first = strtok_r(line, " \t", &rest);
        if (first != NULL && strcmp(first, "include") == 0) {
            for (char *p; (p = strtok_r(NULL, " \t", &rest)) != NULL;)
                read_included(l, file, p, deep);
        } else if (first != NULL && *first == '/') {
            add_dir(l, first);
        }
    }
    free(line);
    fclose(f);
}

void libs_begin(struct libs *l, const char *conf)
{
    memset(l, 0, sizeof *l);
    read_conf(l, conf != NULL ? conf : "/etc/ld.so.conf", 0);
}

/* What a library is looked for. */
struct search {
    struct libs *libs;
    const struct elf_file *like; /* class and machine that it must have */
    const char *name;
    struct lib *found;
};

static bool try_path(struct search *s, const char *path)
{
    struct lib *lib = &s->libs->list[s->libs->count];
    size_t len;

    if (file_load(path, &lib->data, &len) < 0)
        return false;
    if (elf_read(lib->data, len, &lib->elf) != ELF_FINE || lib->elf.is64 != s->like->is64 ||
        lib->elf.machine != s->like->machine) {
        free(lib->data);
        return false; /* the loader goes on to the next folder too */
    }
    lib->name = strdup(s->name);
    lib->path = strdup(path);
    s->libs->failed = s->libs->failed || lib->name == NULL || lib->path == NULL;
    s->libs->count++;
    s->found = lib;
    return true;
}

/* Replaces $ORIGIN and $LIB, with and without braces. False: too long, or an unknown one. */
static bool expand(const char *dir, size_t len, const char *origin, char out[PATH_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < len;) {
        const char *value = NULL;
        size_t used = 1, size = 1;

        if (dir[i] == '$') {
            static const char *const names[] = {"$ORIGIN", "${ORIGIN}", "$LIB", "${LIB}"};
            const char *values[] = {origin, origin, "lib/" MULTIARCH, "lib/" MULTIARCH};

            for (size_t k = 0; k < 4 && value == NULL; k++)
                if (len - i >= strlen(names[k]) &&
                    strncmp(dir + i, names[k], strlen(names[k])) == 0) {
                    value = values[k];
                    used = strlen(names[k]);
                }
            if (value == NULL)
                return false;
            size = strlen(value);
        }
        if (n + size >= PATH_MAX)
            return false;
        memcpy(out + n, value != NULL ? value : dir + i, size);
        n += size;
        i += used;
    }
    out[n] = '\0';
    return n > 0;
}

static bool try_list(struct search *s, const char *list, const char *of)
{
    char origin[PATH_MAX], dir[PATH_MAX], path[PATH_MAX];

    if (list == NULL)
        return false;
    if (snprintf(origin, sizeof origin, "%.*s.", (int)(base_name(of) - of), of) >=
        (int)sizeof origin)
        return false;
    for (const char *end;; list = end + 1) {
        size_t len = strcspn(list, ":;");

        end = list + len;
        if (expand(list, len, origin, dir) &&
            snprintf(path, sizeof path, "%s/%s", dir, s->name) < (int)sizeof path &&
            try_path(s, path))
            return true;
        if (*end == '\0')
            return false;
    }
}

static bool try_dirs(struct search *s)
{
    char path[PATH_MAX];

    for (size_t i = 0; i < s->libs->dir_count; i++)
        if (snprintf(path, sizeof path, "%s/%s", s->libs->dirs[i], s->name) < (int)sizeof path &&
            try_path(s, path))
            return true;
    for (size_t i = 0; i < sizeof standard_dirs / sizeof standard_dirs[0]; i++)
        if (snprintf(path, sizeof path, "%s/%s", standard_dirs[i], s->name) < (int)sizeof path &&
            try_path(s, path))
            return true;
    return false;
}

static bool have(const struct libs *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->list[i].name, name) == 0)
            return true;
    return false;
}

/* What one file needs; those of main come first where the loader looks into main's RPATH too. */
static void add_direct(struct libs *l, const struct elf_file *elf, const char *path,
                       const struct elf_file *main, const char *main_path)
{
    for (size_t i = 0; i < elf->needed_count && !l->failed; i++) {
        struct search s = {.libs = l, .like = elf, .name = elf->needed[i]};

        if (have(l, s.name))
            continue;
        if (l->count == LIBS_MAX) {
            l->failed = true;
        } else if (strchr(s.name, '/') != NULL) {
            try_path(&s, s.name);
        } else {
            (void)((elf->runpath == NULL && try_list(&s, elf->rpath, path)) ||
                   (elf->runpath == NULL && main->runpath == NULL &&
                    try_list(&s, main->rpath, main_path)) ||
                   try_list(&s, getenv("LD_LIBRARY_PATH"), main_path) ||
                   try_list(&s, elf->runpath, path) || try_dirs(&s));
        }
        if (s.found == NULL && l->missing[0] == '\0' && !l->failed)
            snprintf(l->missing, sizeof l->missing, "%s", s.name);
    }
}

void libs_add_needed(struct libs *l, const struct elf_file *elf, const char *path)
{
    size_t from = l->count;

    add_direct(l, elf, path, elf, path);
    for (size_t i = from; i < l->count && !l->failed; i++)
        add_direct(l, &l->list[i].elf, l->list[i].path, elf, path);
}

const struct lib *libs_find(const struct libs *l, const char *prefix)
{
    for (size_t i = 0; i < l->count; i++)
        if (strncmp(base_name(l->list[i].name), prefix, strlen(prefix)) == 0)
            return &l->list[i];
    return NULL;
}

void libs_end(struct libs *l)
{
    for (size_t i = 0; i < l->count; i++) {
        free(l->list[i].name);
        free(l->list[i].path);
        free(l->list[i].data);
    }
    for (size_t i = 0; i < l->dir_count; i++)
        free(l->dirs[i]);
    memset(l, 0, sizeof *l);
}
