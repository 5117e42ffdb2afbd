/* What the preloaded library wrote down about a run, one JSON object a line, and what it comes to:
 * was everything protected that the program did by itself? Bounded; a line that cannot be read
 * counts against the run. Pure. */
#ifndef APPS_MTLSIZE_LOG_H
#define APPS_MTLSIZE_LOG_H

#include <stdbool.h>
#include <stddef.h>

#define LOG_PROBLEMS_MAX 64    /* that can still be healed; further ones stay */
#define LOG_PLAIN_MAX    16    /* peers of plain TLS that are named */
#define LOG_LINE_MAX     65536 /* longer lines are damage */

enum { LOG_VERIFIED, LOG_CONSISTENT, LOG_UNPROVEN, LOG_ALARM, LOG_VERDICTS };
extern const char *const log_verdicts[LOG_VERDICTS];

/* Something that did not end well. */
struct log_problem {
    char what[16]; /* "session", "unhooked", "refused", "notice" (may be harmless) */
    char program[128], peer[300], why[128];
    char text[320];      /* why, for people; "" = as why */
    char path[420];      /* which second path failed, and how; "" = not said */
    bool alarm;          /* path 2 contradicted path 1; nothing heals that */
    unsigned long count; /* the same again; sessions stand alone */
    bool healed;         /* a later session with the same peer was verified */
};

/* Peers that spoke ordinary TLS. */
struct log_plain {
    char program[128], peer[300];
    char why[64]; /* what came of confirm=resume; "" = it was not tried */
    unsigned long count;
};

struct log_summary {
    unsigned long pid; /* set before: the process that must have loaded the library; 0: none */
    bool loaded;       /* it has */
    unsigned long verified, resumed, plain, failed; /* sessions by outcome, both roles */
    unsigned long verdicts[LOG_VERDICTS];           /* of the sessions that confirm=resume judged */
    unsigned long refused_peers; /* failed sessions of a server: somebody else's doing */
    unsigned long unhooked;      /* TLS that could not be hooked */
    unsigned long notices;       /* programs that are not watched */
    unsigned long refused;       /* connections or programs that were refused for it */
    struct log_problem problems[LOG_PROBLEMS_MAX];
    size_t problem_count;
    unsigned long more;    /* problems beyond the table */
    unsigned long damaged; /* lines that are no event */
    unsigned long lost;    /* lines that could not be written */
    struct log_plain plain_peers[LOG_PLAIN_MAX];
    size_t plain_count;
    unsigned long plain_more; /* sessions of peers beyond the table */
};

/* What belongs to a key of this object (not of one inside it): a string without its quotes,
 * anything else as it stands. False: there is none, or the text is no object. Truncates. */
bool log_member(const char *object, const char *key, char *out, size_t cap);

/* Each adds to what is in *s. */
void log_line(struct log_summary *s, const char *line);
/* All whole lines in a text, which is cut up: how many bytes they are. */
size_t log_text(struct log_summary *s, char *text, size_t len);
/* Whether something was left unprotected, or cannot be known. */
bool log_is_bad(const struct log_summary *s, bool unhooked_allowed);

#endif
