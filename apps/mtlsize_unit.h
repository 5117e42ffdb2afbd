/* What a systemd unit says, as far as it matters for a preloaded library: its programs and the
 * environment they get, from the unit file and all its drop-ins but ours. And our drop-in's text.
 */
#ifndef APPS_MTLSIZE_UNIT_H
#define APPS_MTLSIZE_UNIT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#define UNIT_PROGRAMS_MAX 16
#define UNIT_FILES_MAX    16
#define UNIT_SIZE_MAX     ((size_t)1 << 20) /* of a unit file */
#define UNIT_DROP_IN      "50-mtls.conf"
#define UNIT_MARK         "# Written by mtlsize enable; mtlsize disable removes it.\n"

struct unit {
    const char *root; /* beneath which the unit files are; "" = the system's own */
    char name[256];   /* with .service */
    char file[PATH_MAX];
    char folder[PATH_MAX], drop_in[PATH_MAX];   /* where ours goes */
    char programs[UNIT_PROGRAMS_MAX][PATH_MAX]; /* of ExecStart= */
    size_t program_count;
    char preload[PATH_MAX]; /* LD_PRELOAD that it sets itself; "" = none */
    char environment_files[UNIT_FILES_MAX][PATH_MAX];
    size_t environment_file_count;
    bool lacks_netlink; /* RestrictAddressFamilies= keeps netlink sockets out */
};

/* Fills name, folder and drop_in. -1: no name of a service; why says so. */
int unit_name(struct unit *u, const char *root, const char *name, char *why, size_t why_len);
/* Finds and reads the unit. -1: why. */
int unit_read(struct unit *u, char *why, size_t why_len);
/* The drop-in: these variables, quoted as systemd wants it. The caller frees; NULL: no memory, or a
 * value that holds a line break. */
char *unit_drop_in(const char *preload, const char *config, bool allow_unhooked);

/* One line "KEY=VALUE..." of a unit's [Service] section; for tests. */
void unit_apply(struct unit *u, const char *key, const char *value);

#endif
