/* What a systemd unit comes to, as far as it matters for a preloaded library: its programs and the
 * environment they get, from the unit file and its drop-ins in the order in which systemd applies
 * them. mtlsize_unit.c finds the files, mtlsize_unit_parse.c reads them, mtlsize_unit_judge.c says
 * whether our drop-in holds. */
#ifndef APPS_MTLSIZE_UNIT_H
#define APPS_MTLSIZE_UNIT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#define UNIT_PROGRAMS_MAX 16
#define UNIT_FILES_MAX    16
#define UNIT_SOURCES_MAX  64
#define UNIT_NAMES_MAX    8
#define UNIT_SIZE_MAX     ((size_t)1 << 20) /* of a unit file */
#define UNIT_COMMAND_MAX  8192
/* Drop-ins are applied in the order of their names, and "systemctl edit" writes override.conf. */
#define UNIT_DROP_IN "zz-mtls.conf"
#define UNIT_MARK    "# Written by mtlsize enable; mtlsize disable removes it.\n"

enum unit_variable { UNIT_PRELOAD, UNIT_CONFIG, UNIT_UNHOOKED, UNIT_VARIABLES };
extern const char *const unit_variables[UNIT_VARIABLES];

/* Indices into sources; -1: none. */
struct unit_assigned {
    int from;  /* of the Environment= that holds, or that emptied it last */
    bool set;  /* it holds a value */
    int unset; /* of the UnsetEnvironment= that takes it away */
};

struct unit_hidden {
    const char *key;
    char path[256];
};

struct unit {
    const char *root;           /* beneath which the unit files are; "" = the system's */
    char asked[256], name[256]; /* with .service; name: what an alias stands for */
    char file[PATH_MAX];        /* "" = not found */
    char folder[PATH_MAX], drop_in[PATH_MAX]; /* where ours goes */
    bool masked;

    char sources[UNIT_SOURCES_MAX][PATH_MAX]; /* the files that were read, in order */
    int source_count, ours;                   /* ours: our drop-in's index, or -1 */
    char hidden_by[PATH_MAX];                 /* another drop-in of its name; "" = none */

    char commands[UNIT_PROGRAMS_MAX][UNIT_COMMAND_MAX]; /* of ExecStart= */
    size_t command_count;
    struct unit_assigned variables[UNIT_VARIABLES];
    char preload[PATH_MAX]; /* LD_PRELOAD by files other than ours, specifiers as they stand */
    char our_preload[2 * PATH_MAX];
    char our_config[UNIT_COMMAND_MAX];                /* its MTLS_CONFIG, % still doubled */
    bool our_allow;                                   /* our drop-in says MTLSIZE_UNHOOKED=allow */
    char environment_files[UNIT_FILES_MAX][PATH_MAX]; /* optional ones too */
    size_t environment_file_count;
    bool too_much; /* more of something than there is room for */

    bool passes_preload;      /* PassEnvironment=LD_PRELOAD */
    char root_directory[256]; /* RootDirectory= or RootImage=; "" = none */
    char user[64];            /* "" = root */
    bool dynamic_user, no_new_privileges, pam, private_network;
    struct unit_hidden hidden[UNIT_FILES_MAX]; /* paths that are not there, or not executable */
    char exec_paths[UNIT_FILES_MAX][256];      /* ExecPaths= */
    char shown[UNIT_FILES_MAX][256];           /* bound where they are */
    size_t hidden_count, exec_path_count, shown_count;
    char asserted[2 * PATH_MAX]; /* our drop-in's AssertPathExists=, specifiers as they stand */
    bool families_set, families_allow, families_netlink; /* RestrictAddressFamilies= */
};

/* Fills asked, name, folder and drop_in. -1: no name of a service; why says so. */
int unit_name(struct unit *u, const char *root, const char *name, char *why, size_t why_len);
/* Puts the unit's own name for an alias, if there is such a unit. */
void unit_resolve(struct unit *u);
/* Finds and reads the unit. ours: the text of our drop-in as if it were there, NULL: as it is. -1:
 * why. */
int unit_read(struct unit *u, const char *ours, char *why, size_t why_len);
/* The drop-in: these variables, quoted as systemd wants it, and no start without the library;
 * library and preload have their % doubled already; log: MTLSIZE_LOG, NULL: none. The caller frees;
 * NULL: no memory, or a value that holds a line break. */
char *unit_drop_in(const char *library, const char *preload, const char *config,
                   bool allow_unhooked, const char *log);
/* Whether what stands at path was written by us. 1 yes, 0 there is nothing, -1 it is another's. */
int unit_drop_in_is_ours(const char *path);
/* Doubles each %. False: no room. */
bool unit_escape(const char *in, char *out, size_t cap);

/* One line "KEY=VALUE" of the unit's [Service] section, from source u->source_count - 1. */
void unit_apply(struct unit *u, const char *key, const char *value);
/* A whole file's text, which is cut up. */
void unit_apply_text(struct unit *u, char *text);
/* The next word of a value, its quotes and escapes undone. */
bool unit_word(const char **at, char *out, size_t cap);
/* Puts in what %i and the like stand for. False: one that is not known here. */
bool unit_expand(const struct unit *u, const char *in, char *out, size_t cap);
/* What an ExecStart= really starts: follows env(1). 0 and the program; 1: the same, but env changes
 * our variables, which the preloaded library mends where unhooked TLS is refused; -1: the program
 * loses what we put into its environment, and why. */
int unit_command(const char *command, char program[PATH_MAX], char *why, size_t why_len);
/* Whether argv[0] is a program that starts another where the preloaded library does not follow it
 * (chroot, sudo, systemd-run); public_library: every user can read it. */
bool command_leaves(char *const argv[], bool public_library, char *why, size_t why_len);

enum unit_finding {
    UNIT_NOTE,
    UNIT_WARNING,
    UNIT_UNPROTECTED, /* a program that cannot be protected: --allow-unhooked lets it be */
    UNIT_UNDONE       /* our drop-in does not hold */
};
typedef void unit_report(void *arg, enum unit_finding finding, const char *text);
/* Says whether our drop-in, which was read with the unit, holds. library: the one it preloads. */
void unit_judge(const struct unit *u, const char *library, unit_report *report, void *arg);

#endif
