/* mtlsize: what its subcommands share. Each takes the arguments from its own name on and returns
 * the exit code. */
#ifndef APPS_MTLSIZE_H
#define APPS_MTLSIZE_H

#include <stdbool.h>

#include "json.h"
#include "mtlsize_check.h"

#define PROG "mtlsize"

enum exit_code {
    EXIT_FINE = 0,
    EXIT_USAGE = 1,            /* or configuration, or a program that cannot be protected */
    EXIT_VERIFY = 2,           /* something was not protected */
    EXIT_SYSTEM = 3,           /* the system refused: a file, a process */
    EXIT_NOT_EXECUTABLE = 126, /* of run, as a shell has it */
    EXIT_NOT_FOUND = 127
};

int mtlsize_run(int argc, char **argv);
int mtlsize_check(int argc, char **argv);
int mtlsize_enable(int argc, char **argv);
int mtlsize_disable(int argc, char **argv);
int mtlsize_status(int argc, char **argv);

/* An error, warning or news on standard error: "mtlsize: TEXT", or with json
 * {"event": KIND, "message": TEXT}. */
void message(bool json, const char *kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Prints and frees what json_end() returned. */
void print_json(char *line);

/* The preloaded library: beside this program in a build folder, else where it was installed. 0 and
 * its absolute path, or -1 and why not. */
int preload_find(char out[PATH_MAX], char *why, size_t why_len);
/* Whether every user can read it: for others the loader leaves it out, and says so to nobody. */
bool preload_is_public(const char *path);
/* The version that the library was built as, read from the file; "" = none found. */
void preload_version(const char *path, char *out, size_t cap);
/* LD_PRELOAD with ours at the end of what is there (NULL: nothing). The caller frees; NULL: no
 * memory. */
char *preload_append(const char *existing, const char *ours);

#endif
