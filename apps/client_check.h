/* mtls-client check: which of many servers can be confirmed by resumption, and from where. */
#ifndef APPS_CLIENT_CHECK_H
#define APPS_CLIENT_CHECK_H

#include <mtls/confirmation.h>

#include "client.h"

/* The exit codes of its own, beside those of report.h: the worst verdict. */
enum { EXIT_CONSISTENT = 4, EXIT_UNPROVEN = 5 };

/* What came of one server. */
struct check_result {
    enum mtls_confirm_verdict verdict; /* NONE: path 1 did not come about */
    const char *reason, *meaning; /* static; reason of NONE: "look-up", "connect", "tls", ... */
    char error[200];              /* of NONE: what libssl or the system said */
    char tls[16];                 /* "TLSv1.3"; "" = none */
    char *json;                   /* mtls_confirmation_json(), or NULL: OPENSSL_free() */
    uint64_t connect_us, handshake_us, confirm_us; /* each step's own time; 0: not reached */
};

/* Connects, shakes hands and confirms; blocks, each step within its time limit. c: the SSL_CTX and
 * the flags; target: "HOST", "HOST:PORT" (443 if not given). Any thread. */
void client_probe(const struct client *c, const char *target, struct check_result *out);

/* Runs the whole command. The exit code. */
int client_check(struct client *c);

#endif
