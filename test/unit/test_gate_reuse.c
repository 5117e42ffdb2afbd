/* A server that serves one connection after the other with the same SSL (SSL_clear): what the peer
 * repeats of an earlier connection, random and extension, opens nothing; and an SNI call-back that
 * comes from an SSL_CTX that is not hooked. */
#include <stdbool.h>

#include "tls_pair.h"

#define EXT 0xff4d

static struct {
    unsigned char ext[64];
    size_t len;
    unsigned char hello[5 + 2048]; /* the whole record */
    size_t hello_len;
} seen;

/* The first connection's extension, seen on the wire by whoever owns path 1. */
static void record(int write_p, int version, int type, const void *buf, size_t len, SSL *ssl,
                   void *arg)
{
    const unsigned char *msg = buf;
    size_t i;

    if (type != SSL3_RT_HANDSHAKE || msg[0] != SSL3_MT_CLIENT_HELLO || !write_p)
        return;
    assert_true(len <= sizeof(seen.hello) - 5);
    memcpy(seen.hello,
           (const unsigned char[]){22, 3, 1, (unsigned char)(len >> 8), (unsigned char)len}, 5);
    memcpy(seen.hello + 5, msg, len);
    seen.hello_len = 5 + len;
    for (i = 38; i + 4 < len; i++) {
        size_t n = (size_t)msg[i + 2] << 8 | msg[i + 3];

        if (msg[i] == 0xff && msg[i + 1] == 0x4d && n <= sizeof(seen.ext) && i + 4 + n <= len &&
            memcmp(msg + i + 4, "MTL1", 4) == 0) {
            memcpy(seen.ext, msg + i + 4, n);
            seen.len = n;
        }
    }
}

static int replay_add(SSL *ssl, unsigned int type, unsigned int context, const unsigned char **out,
                      size_t *outlen, X509 *x, size_t chainidx, int *al, void *arg)
{
    *out = seen.ext;
    *outlen = seen.len;
    return 1;
}

static int replay_parse(SSL *ssl, unsigned int type, unsigned int context, const unsigned char *in,
                        size_t inlen, X509 *x, size_t chainidx, int *al, void *arg)
{
    return 1;
}

struct reuser {
    SSL *ssl;
    int listener, accepted[2], got[2];
    enum mtls_outcome outcome[2];
};

static void *reuser_main(void *arg)
{
    struct reuser *r = arg;
    char buf[16];
    int i;

    for (i = 0; i < 2; i++) {
        int fd = accept(r->listener, NULL, NULL);

        if (i > 0)
            SSL_clear(r->ssl);
        SSL_set_fd(r->ssl, fd);
        r->accepted[i] = SSL_accept(r->ssl);
        if (r->accepted[i] == 1)
            r->got[i] = SSL_read(r->ssl, buf, sizeof(buf));
        if (r->got[i] > 0)
            SSL_write(r->ssl, buf, r->got[i]);
        r->outcome[i] = mtls_get_outcome(r->ssl);
        SSL_shutdown(r->ssl);
        close(fd);
        ERR_clear_error();
    }
    return NULL;
}

static int talk(SSL *ssl, uint16_t port)
{
    char buf[8];
    int fd = pair_connect("127.0.0.1", port), got = 0;

    SSL_set_fd(ssl, fd);
    if (SSL_connect(ssl) == 1 && SSL_write(ssl, "hello", 5) == 5)
        got = SSL_read(ssl, buf, sizeof(buf));
    ERR_clear_error();
    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
    return got;
}

/* The first connection's ClientHello again, to the byte: random, join and all. What the server says
 * first. */
static int talk_recorded(uint16_t port)
{
    unsigned char reply[5] = {0};
    int fd = pair_connect("127.0.0.1", port);

    assert_int_equal(send(fd, seen.hello, seen.hello_len, 0), seen.hello_len);
    assert_true(recv(fd, reply, sizeof(reply), MSG_WAITALL) > 0);
    close(fd);
    return reply[0];
}

static SSL_CTX *replayer(void)
{
    SSL_CTX *ctx = pair_client_ctx();

    assert_int_equal(
        SSL_CTX_add_custom_ext(ctx, EXT, SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS,
                               replay_add, NULL, NULL, replay_parse, NULL),
        1);
    return ctx;
}

static SSL_CTX *honest(uint16_t port2)
{
    SSL_CTX *ctx = pair_client_ctx();
    char words[256];

    pair_words(words, sizeof(words), "require", port2, "reuse=off");
    assert_int_equal(mtls_ssl_ctx_hook(ctx, words), 1);
    mtls_ssl_ctx_set_msg_callback(ctx, record, NULL);
    return ctx;
}

enum second { HONEST, SAME_EXTENSION, SAME_HELLO };

/* second: the honest client again (the twin), or who repeats something of the first one. */
static void reuse(enum second who)
{
    SSL_CTX *server = pair_server_ctx(), *first, *second;
    struct reuser r = {0};
    pthread_t thread;
    uint16_t port;

    assert_int_equal(mtls_ssl_ctx_hook(server, "policy=require deadline=1000 listen=127.0.1.1:0"),
                     1);
    first = honest(pair_port2(server));
    second = who == HONEST ? honest(pair_port2(server)) : replayer();
    r.listener = pair_listen("127.0.0.1", &port);
    r.ssl = SSL_new(server);
    assert_int_equal(pthread_create(&thread, NULL, reuser_main, &r), 0);
    assert_int_equal(talk(SSL_new(first), port), 5);
    assert_true(seen.len > 0);
    if (who == SAME_HELLO)
        assert_int_equal(talk_recorded(port), 21); /* an alert, no ServerHello */
    else
        assert_int_equal(talk(SSL_new(second), port), who == HONEST ? 5 : 0);
    pthread_join(thread, NULL);
    assert_int_equal(r.outcome[0], MTLS_OUTCOME_VERIFIED);
    assert_int_equal(r.outcome[1], who == HONEST ? MTLS_OUTCOME_VERIFIED : MTLS_OUTCOME_FAILED);
    assert_int_equal(r.got[1] > 0, who == HONEST);
    SSL_free(r.ssl);
    close(r.listener);
    SSL_CTX_free(server);
    SSL_CTX_free(first);
    SSL_CTX_free(second);
}

static void reused(void **state)
{
    reuse(HONEST);
}

static void same_extension(void **state)
{
    reuse(SAME_EXTENSION);
}

static void same_hello(void **state)
{
    reuse(SAME_HELLO);
}

static int choose(SSL *ssl, int *al, void *arg)
{
    SSL_set_SSL_CTX(ssl, arg);
    return SSL_TLSEXT_ERR_OK;
}

/* From an SSL_CTX that nobody hooked to one that requires: nobody saw the ClientHello, so nothing
 * goes on. */
static void switched(const char *words)
{
    SSL_CTX *unhooked = pair_server_ctx(), *chosen = pair_server_ctx(), *plain = pair_client_ctx();
    struct pair_server server;
    uint16_t port;
    int listener = pair_listen("127.0.0.1", &port);
    SSL *ssl = SSL_new(plain);

    assert_int_equal(mtls_ssl_ctx_hook(chosen, words), 1);
    SSL_CTX_set_tlsext_servername_callback(unhooked, choose);
    SSL_CTX_set_tlsext_servername_arg(unhooked, chosen);
    SSL_set_tlsext_host_name(ssl, "server.example");
    pair_server_start(&server, unhooked, listener);
    assert_int_equal(talk(ssl, port), strstr(words, "require") != NULL ? 0 : 5);
    pair_server_join(&server);
    OPENSSL_free(server.json);
    assert_int_equal(server.accepted == 1, strstr(words, "require") == NULL);
    close(listener);
    SSL_CTX_free(unhooked);
    SSL_CTX_free(chosen);
    SSL_CTX_free(plain);
}

static void switched_to_require(void **state)
{
    switched("policy=require listen=127.0.1.1:0");
}

static void switched_to_prefer(void **state)
{
    switched("policy=prefer listen=127.0.1.1:0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reused),
        cmocka_unit_test(same_extension),
        cmocka_unit_test(same_hello),
        cmocka_unit_test(switched_to_require),
        cmocka_unit_test(switched_to_prefer),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);

    X509_free(pair_cert);
    EVP_PKEY_free(pair_key);
    return rc;
}
