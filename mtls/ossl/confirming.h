/* Concept: an SSL_CTX of a program that knows nothing of confirmation by resumption, see
 * confirming.c. For hook.c, ext.c and interpose.c. */
#ifndef MTLS_OSSL_CONFIRMING_H
#define MTLS_OSSL_CONFIRMING_H

#include <openssl/ssl.h>

#include "../core/config.h"
#include "mtls/mtls.h"

/* Clients of ctx are confirmed as config (confirm=resume or auto) says. With auto the caller hooks
 * ctx as well. Errors: MTLS_ERR_CONFIRM_MODE (nobody catches the program's calls), _CONFIG_CONFLICT
 * (listeners), _NOMEM. */
MTLS_NODISCARD int mtls_confirming_attach(SSL_CTX *ctx, const struct mtls_config *config);
bool mtls_confirming_is(const SSL_CTX *ctx);

/* The ClientHello of an SSL of such an SSL_CTX is being made, and nobody would follow its
 * handshake: it must not leave; an error is raised. */
bool mtls_confirming_bars(const SSL *ssl);

void mtls_confirming_message(int write_p, int version, int content_type, const void *buf,
                             size_t len, SSL *ssl, void *arg);
/* Path 1's descriptor for what was announced as a tagged who; false: who is not ours. */
bool mtls_confirming_learned(void *who, int fd);
/* Where the program's own message call-back is kept; NULL: not such an SSL_CTX. Atomic. */
mtls_msg_cb **mtls_confirming_chained(const SSL_CTX *ctx);

#endif
