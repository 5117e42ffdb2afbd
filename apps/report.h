/* What the tools say on standard error: JSON objects, one a line, or lines for people; the outcome
 * of a session in both forms, and the exit code that belongs to it. */
#ifndef APPS_REPORT_H
#define APPS_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include <mtls/mtls.h>

#include "json.h"
#include "link.h"

enum exit_code {
    EXIT_FINE = 0,
    EXIT_USAGE = 1,  /* or configuration */
    EXIT_VERIFY = 2, /* Multipath TLS, or SMKEX, refused the connection */
    EXIT_NETWORK = 3 /* network or TLS error, a refused certificate included */
};

struct output {
    const char *prog;
    bool json;
    bool picture; /* for people: the few lines about both paths */
};

/* What is known about one session when it is reported. */
struct report {
    const char *event;            /* "session", "result" */
    const char *peer;             /* "ADDR:PORT" or "" */
    const struct link *link;      /* NULL: there never was one */
    bool hooked;                  /* TLS: its SSL_CTX is; else the link is never asked */
    bool ready;                   /* the handshake was done */
    const char *reason, *message; /* why it failed or ended early; NULL: it did not */
    int code;                     /* MTLS_ERR_* that ended it, or 0 */
    const char *late_json;        /* downgrade found out after the fact; else NULL */
};

/* A warning, an error or news: {"event": KIND, "message": ...} or "PROG: TEXT". */
void output_message(const struct output *o, const char *kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Prints and frees what json_end() returned. */
void output_json(char *line);

/* The session's line; NULL when memory is out. */
char *report_json(const struct report *r);
/* The session in one line for people ("" is never returned). */
void report_line(const struct output *o, const struct report *r);
/* Says in one line, unless in JSON, that the server could not be written to the memory. */
void report_memory(const struct output *o, const struct report *r, const char *file);
/* Says in one line that a hooked session is ordinary TLS, or plain TCP, and why; of any other it
 * says nothing. */
void report_plain(const struct output *o, const struct report *r);
/* Both paths, what they share, the outcome, the time each step took, counted from start_us. */
void report_picture(const struct report *r, uint64_t start_us);
enum exit_code report_exit(const struct report *r);
/* "certificate", "tls", "network", "timeout", "local", or the name of the MTLS_ERR_* code. */
const char *report_reason(const struct tls_failure *why);
uint64_t clock_us(void);

/* ---- What the library knows of a link: report_tls.c, report_smkex.c ---- */

enum report_outcome {
    REPORT_NONE,
    REPORT_VERIFIED,
    REPORT_RESUMED,
    REPORT_SINGLE,
    REPORT_PLAIN,
    REPORT_FAILED
};
extern const char report_plain_word[]; /* "plain TLS", "plain TCP" */
const char *report_outcome_name(enum report_outcome outcome);
enum report_outcome report_link_outcome(const struct link *l);
int report_link_reason(const struct link *l);
/* A sentence that says more than the reason, or NULL. */
const char *report_link_meaning(const struct link *l);
/* "TLSv1.3"; NULL: nothing to say. */
const char *report_link_version(const struct link *l);
char *report_link_json(const struct link *l); /* OPENSSL_free() */
unsigned report_link_scope(const struct link *l);
unsigned report_link_confirmed(const struct link *l);
/* Why the server could not be written to the memory; 0: it could, or was not meant to. */
int report_link_memory_error(const struct link *l);
/* A clause about the server's key, or NULL. */
const char *report_link_key(const struct link *l);
bool report_link_path(const struct link *l, size_t index, struct mtls_path_info *path);
/* The index-th step's name and time; false beyond the last. at_us 0: it was not reached. */
bool report_link_step(const struct link *l, size_t index, const char **name, uint64_t *at_us);

#endif
