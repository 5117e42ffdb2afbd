/* What client and server set up alike on an SSL_CTX. */
#include "tls_setup.h"

#include "complain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>

#include <mtls/mtls.h>

static int keylog_fd = -1; /* one per process, as SSLKEYLOGFILE is */

int tls_setup_error(const char *prog, const char *what)
{
    unsigned long first = ERR_peek_error();
    int code = mtls_last_error();
    const char *reason = code != 0    ? mtls_error_string(code)
                         : first != 0 ? ERR_reason_error_string(first)
                                      : NULL;
    const char *data = NULL;
    int flags = 0;

    ERR_peek_error_all(NULL, NULL, NULL, &data, &flags);
    if (reason == NULL)
        reason = ERR_SYSTEM_ERROR(first) ? strerror(ERR_GET_REASON(first)) : "failed";
    if (data != NULL && (flags & ERR_TXT_STRING) != 0 && *data != '\0' && strcmp(data, reason) != 0)
        complain(prog, "%s: %s (%s)", what, reason, data);
    else
        complain(prog, "%s: %s", what, reason);
    ERR_clear_error();
    return -1;
}

int tls_setup_certificate(SSL_CTX *ctx, const char *prog, const char *chain, const char *key)
{
    SSL_CTX *scratch = SSL_CTX_new(TLS_method());
    STACK_OF(X509) *rest = NULL;
    int rv = -1;

    ERR_clear_error();
    if (scratch == NULL)
        tls_setup_error(prog, "SSL_CTX_new");
    else if (SSL_CTX_use_certificate_chain_file(scratch, chain) != 1)
        tls_setup_error(prog, chain);
    else if (SSL_CTX_use_PrivateKey_file(scratch, key, SSL_FILETYPE_PEM) != 1 ||
             SSL_CTX_check_private_key(scratch) != 1)
        tls_setup_error(prog, key);
    else if (SSL_CTX_get0_chain_certs(scratch, &rest) != 1 ||
             SSL_CTX_use_cert_and_key(ctx, SSL_CTX_get0_certificate(scratch),
                                      SSL_CTX_get0_privatekey(scratch), rest, 1) != 1)
        tls_setup_error(prog, chain);
    else
        rv = 0;
    SSL_CTX_free(scratch);
    return rv;
}

static void on_keylog(const SSL *ssl, const char *line)
{
    char text[1024];
    int len = snprintf(text, sizeof text, "%s\n", line);

    /* One write per line: other processes may append to the same file. A line that cannot be
     * written is lost, the connection is not. */
    if (len > 0 && (size_t)len < sizeof text && write(keylog_fd, text, (size_t)len) != len)
        return;
}

int tls_setup_keylog(SSL_CTX *ctx, const char *prog)
{
    const char *file = secure_getenv("SSLKEYLOGFILE");

    if (file == NULL || *file == '\0')
        return 0;
    if (keylog_fd < 0)
        keylog_fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
    if (keylog_fd < 0) {
        fprintf(stderr, "%s: SSLKEYLOGFILE %s: %s\n", prog, file, strerror(errno));
        return -1;
    }
    fprintf(stderr, "%s: warning: session keys are written to %s (SSLKEYLOGFILE)\n", prog, file);
    SSL_CTX_set_keylog_callback(ctx, on_keylog);
    return 0;
}

int tls_setup_alpn_wire(const char *list, uint8_t out[ALPN_WIRE_MAX])
{
    size_t n = 0;

    for (;;) {
        size_t len = strcspn(list, ",");

        if (len == 0 || len > 255 || n + 1 + len > ALPN_WIRE_MAX)
            return -1;
        out[n++] = (uint8_t)len;
        memcpy(out + n, list, len);
        n += len;
        if (list[len] == '\0')
            return (int)n;
        list += len + 1;
    }
}

int words_add(struct words *w, const char *key, const char *value)
{
    int len;

    if (key != NULL && strpbrk(value, " \t\r\n\v\f") != NULL)
        return -1;
    len = snprintf(w->text + w->len, sizeof w->text - w->len, "%s%s%s%s", w->len > 0 ? " " : "",
                   key != NULL ? key : "", key != NULL ? "=" : "", value);
    if (len < 0 || (size_t)len >= sizeof w->text - w->len) {
        w->text[w->len] = '\0';
        return -1;
    }
    w->len += (size_t)len;
    return 0;
}
