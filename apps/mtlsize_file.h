/* Files that the checks look at: reading one whole within a bound, finding a program as execvp()
 * would, and the interpreter that a script names. Nothing is executed. */
#ifndef APPS_MTLSIZE_FILE_H
#define APPS_MTLSIZE_FILE_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#define FILE_SIZE_MAX ((size_t)1 << 30)

/* Reads a regular file; *data is the caller's, free(). 0, or -1 with errno (EFBIG: over the bound,
 * EINVAL: not a regular file). */
int file_load(const char *path, uint8_t **data, size_t *len);

/* Where execvp() would find the program: absolute, or as given where it holds a slash. 0, or -1
 * with errno ENOENT, EACCES (there, but not executable) or ENAMETOOLONG. */
int program_find(const char *name, char out[PATH_MAX]);

/* The program that the first line of a script names; for "/usr/bin/env NAME" that is NAME. 1 found,
 * 0 not a script, -1 a first line that names nothing. */
int script_interpreter(const uint8_t *data, size_t len, char out[PATH_MAX]);

/* The last component. */
const char *base_name(const char *path);

#endif
