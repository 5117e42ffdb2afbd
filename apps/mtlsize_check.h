/* Will Multipath TLS work for a program without changing it, and if not, why. Reads files, runs
 * nothing. */
#ifndef APPS_MTLSIZE_CHECK_H
#define APPS_MTLSIZE_CHECK_H

#include <limits.h>

#include "json.h"

enum verdict {
    VERDICT_WORKS,    /* it uses the libssl that is hooked */
    VERDICT_PROBABLY, /* it loads libssl by name while it runs */
    VERDICT_NO_TLS,   /* no TLS library is seen; one that is loaded later is hooked or refused */
    VERDICT_NO        /* its TLS cannot be hooked */
};

#define CHECK_NOTES    8
#define CHECK_NOTE_MAX 320

struct check {
    enum verdict verdict;
    const char *reason;    /* one word for programs: "static", "go", "gnutls" ...; "" with works */
    char message[640];     /* the same for people */
    char path[PATH_MAX];   /* what was asked for, found */
    char judged[PATH_MAX]; /* the file that decides: an interpreter, plug-in or helper, or path */
    char notes[CHECK_NOTES][CHECK_NOTE_MAX];
    unsigned note_count;
};

/* 0, or -1 when the program cannot be looked at: verdict NO, and reason and message say why
 * ("not-found", "not-executable", "unreadable"). */
int check_program(struct check *c, const char *name);
const char *verdict_name(enum verdict verdict);
/* The members of a JSON object: "program", "path", "judged", "verdict", "reason", "message",
 * "notes". */
void check_json(const struct check *c, const char *name, struct json *j);

#endif
