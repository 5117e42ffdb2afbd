/* What cannot be read off a program's file: plug-ins that bring its TLS, programs behind a wrapper,
 * ways to fall back to plain text, and settings that it needs to keep the environment. Tables. */
#ifndef APPS_MTLSIZE_KNOWN_H
#define APPS_MTLSIZE_KNOWN_H

#include <limits.h>
#include <stdbool.h>

#include "mtlsize_elf.h"

/* The file that does the TLS of the program at path (resolved); *instead: it is started in place of
 * the program, not loaded by it. False: nothing is known, or it is not installed. */
bool known_helper(const char *path, char out[PATH_MAX], bool *instead);

/* Notes, one at a time by index; NULL: no more. */
/* How the program falls back to plain text when TLS fails. */
const char *known_fallback(const char *name, const struct elf_file *elf, unsigned index);
/* What to set so that its processes keep the preloaded library. */
const char *known_hint(const char *name);

#endif
