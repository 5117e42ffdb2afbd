/* Which shared libraries a program would load, found as the dynamic loader finds them (RPATH,
 * LD_LIBRARY_PATH, RUNPATH, ld.so.conf, the standard folders), without running anything. */
#ifndef APPS_MTLSIZE_LIBS_H
#define APPS_MTLSIZE_LIBS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "mtlsize_elf.h"

#define LIBS_MAX       512 /* libraries of one program */
#define LIBS_DIRS_MAX  128 /* folders of ld.so.conf */
#define LIBS_CONF_DEEP 4   /* how deep its includes go */

struct lib {
    char *name, *path; /* as it is asked for; where it is */
    uint8_t *data;
    struct elf_file elf;
};

struct libs {
    struct lib list[LIBS_MAX];
    size_t count;
    char missing[256]; /* the first library that is not there; "" = all are */
    char *dirs[LIBS_DIRS_MAX];
    size_t dir_count;
    bool failed; /* out of memory, or over a bound */
};

/* Reads ld.so.conf (NULL: the system's). */
void libs_begin(struct libs *l, const char *conf);
/* Adds what this file (at path) needs, and what that needs in turn. */
void libs_add_needed(struct libs *l, const struct elf_file *elf, const char *path);
/* The first library whose name begins so; NULL: none. */
const struct lib *libs_find(const struct libs *l, const char *prefix);
void libs_end(struct libs *l);

#endif
