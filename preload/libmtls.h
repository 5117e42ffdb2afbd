/* Concept: what the preload library takes from libmtls and libssl, once they are there. */
#ifndef MTLS_PRELOAD_LIBMTLS_H
#define MTLS_PRELOAD_LIBMTLS_H

#include <openssl/ssl.h>

#include "../mtls/ossl/interpose.h"
#include "preload.h"

struct preload_libmtls {
    __typeof__(&mtls_interpose_attach) attach;
    __typeof__(&mtls_interpose_learned) learned;
    __typeof__(&mtls_interpose_closed) closed;
    __typeof__(&mtls_interpose_ctx_msg_callback) ctx_msg_callback;
    __typeof__(&mtls_interpose_ssl_msg_callback) ssl_msg_callback;
    __typeof__(&mtls_interpose_connect) connect;
    __typeof__(&mtls_interpose_accepted) accepted;
    __typeof__(&mtls_ssl_ctx_hook) hook;
    __typeof__(&mtls_ssl_ctx_is_hooked) is_hooked;
    __typeof__(&mtls_ssl_ctx_set_outcome_callback) set_outcome_callback;
    __typeof__(&mtls_interpose_descriptor) descriptor;
    __typeof__(&mtls_interpose_confirm) confirm;
    __typeof__(&mtls_interpose_has_fd) has_fd;
    __typeof__(&mtls_interpose_session_callback) session_callback;
};
extern struct preload_libmtls preload_libmtls; /* all set once preload_library_ready() */

/* hook.c: interpose.h */
mtls_outcome_cb preload_outcome;
bool preload_counts(enum mtls_outcome outcome);

/* libssl, as the code at this address sees it; NULL: name is not there. */
void *preload_libssl_symbol(const char *name, const void *code);
/* Whether libmtls works on the libssl that this SSL_CTX_new() belongs to. */
bool preload_library_fits(void *real_new);
/* libmtls's own view of a function of libssl. */
void *preload_library_symbol(const char *name);
/* Why it is not ready. */
const char *preload_library_error(void);

#endif
