/* Concept: what libssl takes for a hook with nothing in it: the call-backs that any hook of its
 * kind registers (an extension's, messages, security), a filter in front of the socket until the
 * client's Finished, an object for each SSL, and data in the ticket. */
#include <stdlib.h>

#include "bench.h"

enum { EXT_TYPE = 0xfe42, OFFER = 43, ANSWER = 8, TICKET_DATA = 48, OBJECT = 1024, FINISHED = 20 };

struct object {
    BIO *filter; /* a reference: it is unlinked inside its own calls */
    uint8_t state[OBJECT];
};

static int ssl_index;
static BIO_METHOD *filter;
static void (*before_flight)(SSL *);

static int filter_read(BIO *b, char *out, size_t len, size_t *got)
{
    int rc = BIO_read_ex(BIO_next(b), out, len, got);

    BIO_clear_retry_flags(b);
    BIO_copy_next_retry(b);
    return rc;
}

static void unlink_filter(SSL *ssl)
{
    BIO *sock = BIO_next(SSL_get_rbio(ssl));

    if (sock != NULL && BIO_up_ref(sock) == 1)
        SSL_set_bio(ssl, sock, sock);
}

/* A client's gate goes away with the second flight. */
static int filter_write(BIO *b, const char *in, size_t len, size_t *sent)
{
    SSL *ssl = BIO_get_data(b);
    BIO *next = BIO_next(b);
    uint8_t peer[1];
    int rc;

    if (!SSL_is_server(ssl) && SSL_get_peer_finished(ssl, peer, sizeof(peer)) > 0) {
        if (before_flight != NULL)
            before_flight(ssl);
        unlink_filter(ssl);
    }
    rc = BIO_write_ex(next, in, len, sent);
    BIO_clear_retry_flags(b);
    BIO_copy_next_retry(b);
    return rc;
}

static long filter_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    return BIO_next(b) != NULL ? BIO_ctrl(BIO_next(b), cmd, num, ptr) : 0;
}

static void object_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
    struct object *object = ptr;

    if (object != NULL)
        BIO_free_all(object->filter);
    free(object);
}

/* With the ClientHello, as a gate would be. */
static void link_filter(SSL *ssl)
{
    BIO *sock = SSL_get_rbio(ssl), *b = BIO_new(filter);
    struct object *object = calloc(1, sizeof(*object));

    bench_check(b != NULL && object != NULL && BIO_up_ref(sock) == 1 && BIO_up_ref(b) == 1 &&
                    BIO_push(b, sock) == b && SSL_set_ex_data(ssl, ssl_index, object) == 1,
                "filter");
    object->filter = b;
    BIO_set_init(b, 1);
    BIO_set_data(b, ssl);
    SSL_set_bio(ssl, b, b);
}

static void ticket_data(SSL *ssl)
{
    static const uint8_t kept[TICKET_DATA];
    SSL_SESSION *session = SSL_get_session(ssl);
    void *data;
    size_t len;

    if (SSL_session_reused(ssl))
        bench_check(SSL_SESSION_get0_ticket_appdata(session, &data, &len) == 1, "ticket's data");
    else
        bench_check(SSL_SESSION_set1_ticket_appdata(session, kept, sizeof(kept)) == 1,
                    "ticket's data");
}

static void message(int write_p, int version, int type, const void *buf, size_t len, SSL *ssl,
                    void *arg)
{
    if (type != SSL3_RT_HANDSHAKE || len == 0 || *(const uint8_t *)buf != FINISHED ||
        write_p == SSL_is_server(ssl))
        return;
    ticket_data(ssl);
    if (!write_p)
        unlink_filter(ssl);
}

static int security(const SSL *ssl, const SSL_CTX *ctx, int op, int bits, int nid, void *other,
                    void *ex)
{
    return 1;
}

static int add(SSL *ssl, unsigned int type, unsigned int context, const unsigned char **out,
               size_t *outlen, X509 *x, size_t chainidx, int *al, void *arg)
{
    static const uint8_t offer[OFFER];

    if (context == SSL_EXT_CLIENT_HELLO)
        link_filter(ssl);
    *out = offer;
    *outlen = context == SSL_EXT_CLIENT_HELLO ? OFFER : ANSWER;
    return 1;
}

static int parse(SSL *ssl, unsigned int type, unsigned int context, const unsigned char *in,
                 size_t inlen, X509 *x, size_t chainidx, int *al, void *arg)
{
    if (context == SSL_EXT_CLIENT_HELLO)
        link_filter(ssl);
    return 1;
}

void bench_hollow_flight(void (*cb)(SSL *ssl))
{
    before_flight = cb;
}

void bench_hollow(SSL_CTX *ctx)
{
    unsigned int context = SSL_EXT_TLS_ONLY | SSL_EXT_TLS1_3_ONLY | SSL_EXT_CLIENT_HELLO |
                           SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS;

    ssl_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, object_free);
    filter = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_FILTER, "hollow");
    bench_check(
        ssl_index >= 0 && filter != NULL && BIO_meth_set_read_ex(filter, filter_read) == 1 &&
            BIO_meth_set_write_ex(filter, filter_write) == 1 &&
            BIO_meth_set_ctrl(filter, filter_ctrl) == 1 &&
            SSL_CTX_add_custom_ext(ctx, EXT_TYPE, context, add, NULL, NULL, parse, NULL) == 1,
        "hook");
    SSL_CTX_set_security_callback(ctx, security);
    SSL_CTX_set_msg_callback(ctx, message);
}
