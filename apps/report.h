/* What the tools say on standard error: JSON objects, one a line, or lines for people; the outcome
 * of a session in both forms, and the exit code that belongs to it. */
#ifndef APPS_REPORT_H
#define APPS_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "json.h"
#include "tls_conn.h"

enum exit_code {
    EXIT_FINE = 0,
    EXIT_USAGE = 1,  /* or configuration */
    EXIT_VERIFY = 2, /* Multipath TLS refused the connection */
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
    const SSL *ssl;               /* NULL: there never was one */
    bool hooked;                  /* its SSL_CTX is */
    bool ready;                   /* the TLS handshake was done */
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
/* Says in one line that a hooked session is ordinary TLS, and why; of any other it says nothing. */
void report_plain(const struct output *o, const struct report *r);
/* Both paths, what they share, the outcome, the time each step took, counted from start_us. */
void report_picture(const struct report *r, uint64_t start_us);
enum exit_code report_exit(const struct report *r);
/* "certificate", "tls", "network", "timeout", "local", or the name of the MTLS_ERR_* code. */
const char *report_reason(const struct tls_failure *why);
uint64_t clock_us(void);

#endif
