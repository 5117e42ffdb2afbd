/* mtls-server's protocol: TLS by libssl, hooked. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include <mtls/mtls.h>

#include "complain.h"
#include "link_ssl.h"
#include "options.h"
#include "server.h"
#include "tls_setup.h"

#define PROG             "mtls-server"
#define TICKET_KEY_BYTES 80 /* name, AES-256 key, HMAC key of OpenSSL's tickets */

const char server_prog[] = PROG;

static int load_ticket_key(SSL_CTX *ctx, const char *file)
{
    uint8_t key[TICKET_KEY_BYTES + 1];
    struct stat st;
    FILE *f = fopen(file, "re");
    size_t len;
    int rv = -1;

    if (f == NULL) {
        complain(PROG, "%s: %s", file, strerror(errno));
        return -1;
    }
    setvbuf(f, NULL, _IONBF, 0);
    len = fread(key, 1, sizeof key, f);
    if (fstat(fileno(f), &st) == 0 && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        complain_warning(PROG, "%s can be read by others; whoever reads it reads resumed sessions",
                         file);
    fclose(f);
    if (len != TICKET_KEY_BYTES)
        complain(PROG, "%s: not %d bytes", file, TICKET_KEY_BYTES);
    else if (SSL_CTX_set_tlsext_ticket_keys(ctx, key, TICKET_KEY_BYTES) != 1)
        tls_setup_error(PROG, file);
    else
        rv = 0;
    OPENSSL_cleanse(key, sizeof key);
    return rv;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                   const unsigned char *in, unsigned in_len, void *arg)
{
    const struct server_config *c = arg;
    unsigned char *chosen = NULL;

    if (SSL_select_next_proto(&chosen, out_len, c->alpn, (unsigned)c->alpn_len, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int set_client_ca(SSL_CTX *ctx, const char *file)
{
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(file);

    if (names == NULL || SSL_CTX_load_verify_file(ctx, file) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return tls_setup_error(PROG, file);
    }
    SSL_CTX_set_client_CA_list(ctx, names);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return 0;
}

static int load_files(struct server *s)
{
    const struct server_config *c = &s->config;

    if (tls_setup_certificate(s->ctx, PROG, c->cert, c->key) < 0)
        return -1;
    return c->ticket_key != NULL ? load_ticket_key(s->ctx, c->ticket_key) : 0;
}

/* single-port=on, in whatever layer: the library then looks at a connection on which nothing has
 * come yet once more. */
static bool is_single_port(SSL_CTX *ctx)
{
    int ends[2];
    bool rv;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return false;
    rv = mtls_accept_path2(ctx, ends[0]) < 0;
    close(ends[0]);
    close(ends[1]);
    return rv;
}

static int check_listener(const struct server *s)
{
    if (mtls_ssl_ctx_get0_listener(s->ctx, 0) != NULL || is_single_port(s->ctx))
        return 0;
    if (strstr(s->config.words.text, "policy=require") != NULL)
        return usage_error(PROG, "--policy require needs --path2-listen: no client could confirm");
    complain_warning(PROG, "no --path2-listen: no session can be verified here");
    return 0;
}

static int setup_tls(struct server *s)
{
    struct server_config *c = &s->config;

    s->ctx = SSL_CTX_new(TLS_server_method());
    if (s->ctx == NULL)
        return tls_setup_error(PROG, "SSL_CTX_new");
    SSL_CTX_set_min_proto_version(s->ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(s->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                    SSL_OP_PRIORITIZE_CHACHA | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(s->ctx, SSL_SESS_CACHE_OFF); /* tickets hold the sessions */
    SSL_CTX_set_session_id_context(s->ctx, (const unsigned char *)PROG, sizeof PROG - 1);
    if (load_files(s) < 0 || tls_setup_keylog(s->ctx, PROG) < 0)
        return -1;
    if (c->client_ca != NULL && set_client_ca(s->ctx, c->client_ca) < 0)
        return -1;
    if (c->alpn_len == 0 && c->service == SERVICE_WWW)
        c->alpn_len = tls_setup_alpn_wire("http/1.1,http/1.0", c->alpn);
    if (c->alpn_len > 0)
        SSL_CTX_set_alpn_select_cb(s->ctx, on_alpn, c);
    if (mtls_ssl_ctx_hook(s->ctx, c->words.text) != 1)
        return tls_setup_error(PROG, "Multipath TLS");
    s->hooked = mtls_ssl_ctx_is_hooked(s->ctx) == 1;
    return s->hooked ? check_listener(s) : 0;
}

int server_protocol_setup(struct server *s)
{
    return setup_tls(s);
}

int server_protocol_reload(struct server *s)
{
    return load_files(s);
}

void server_protocol_free(struct server *s)
{
    SSL_CTX_free(s->ctx);
}

const char *server_protocol_listener(const struct server *s, size_t index)
{
    return s->hooked ? mtls_ssl_ctx_get0_listener(s->ctx, index) : NULL;
}

int server_protocol_path2(struct server *s, int fd)
{
    return mtls_accept_path2(s->ctx, fd);
}

struct link *server_protocol_accept(struct server *s, int fd)
{
    SSL *ssl = SSL_new(s->ctx);

    if (ssl == NULL)
        return NULL;
    SSL_set_accept_state(ssl);
    return link_ssl_new(ssl, fd);
}
