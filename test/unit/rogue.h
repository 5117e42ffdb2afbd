/* Test helper: a rogue TLS server in a thread of its own, with the certificate that the clients of
 * tls_pair.h trust. It shapes its first flight (ServerHello alone, one record for all of it, late)
 * and keeps every byte that clients send. Beside it a false path-2 server, and a client driven to
 * its end. Every wait has a deadline. */
#ifndef TEST_ROGUE_H
#define TEST_ROGUE_H

#include "gate_relay.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>

#include "mtls/core/crypto.h"
#include "mtls/core/wire_ext.h"
#include "mtls/core/wire_frame.h"

enum rogue_shape {
    ROGUE_AS_IS,
    ROGUE_CUT,        /* the first connection gets ServerHello and no more */
    ROGUE_ONE_RECORD, /* TLS 1.2: all messages of the flight in one record */
    ROGUE_PACKED,     /* TLS 1.3: the encrypted messages of the flight in one record */
};

struct rogue {
    SSL_CTX *ctx; /* owned */
    int listener;
    uint16_t port;
    enum rogue_shape shape;
    unsigned connections, delay_ms;  /* before its flight */
    uint8_t answer[MTLS_EXT_EE_MAX]; /* rogue_answer_ext(): what it says in EncryptedExtensions */
    size_t answer_len;
    pthread_t thread;
    uint8_t secret[32]; /* ROGUE_PACKED: of its handshake keys */
    /* results */
    uint8_t raw[1 << 16];
    size_t raw_len, hello_len;  /* all bytes of the last connection; those before its flight */
    uint64_t hello_at, next_at; /* ms: the first bytes, and the first behind its flight */
    unsigned seen[256];         /* handshake messages read, by type */
    int accepted, got;          /* of the last connection; bytes of application data over all */
    char text[64];
    enum mtls_outcome outcome;
    int reason;
};

/* ---- one record out of several ---- */

static inline void rogue_keylog(const SSL *ssl, const char *line)
{
    static const char label[] = "SERVER_HANDSHAKE_TRAFFIC_SECRET ";
    struct rogue *r = SSL_get_app_data(ssl);
    const char *hex = strrchr(line, ' ');
    unsigned byte;
    size_t i;

    if (r == NULL || strncmp(line, label, sizeof(label) - 1) != 0)
        return;
    for (i = 0; i < sizeof(r->secret) && sscanf(hex + 1 + 2 * i, "%2x", &byte) == 1; i++)
        r->secret[i] = (uint8_t)byte;
}

static inline void rogue_expand(const uint8_t secret[32], const char *label, uint8_t *out,
                                size_t len)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", NULL);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t) "SHA256", 0),
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret, 32),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, (void *)(uintptr_t) "tls13 ", 6),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (void *)(uintptr_t)label,
                                          strlen(label)),
        OSSL_PARAM_construct_end()};

    if (EVP_KDF_derive(ctx, out, len, params) != 1)
        abort();
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
}

/* AES-128-GCM of a record's body; the tag lies behind it. Returns whether it fits (decrypting). */
static inline bool rogue_seal(const uint8_t secret[32], uint8_t seq, const uint8_t head[5],
                              const uint8_t *in, size_t len, uint8_t *out, bool encrypt)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    uint8_t key[16], iv[12];
    int n, ok;

    rogue_expand(secret, "key", key, sizeof(key));
    rogue_expand(secret, "iv", iv, sizeof(iv));
    iv[11] ^= seq;
    ok = EVP_CipherInit_ex(c, EVP_aes_128_gcm(), NULL, key, iv, encrypt);
    ok &= EVP_CipherUpdate(c, NULL, &n, head, 5) & EVP_CipherUpdate(c, out, &n, in, (int)len);
    if (!encrypt)
        ok &= EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, 16, (void *)(uintptr_t)(in + len));
    ok &= EVP_CipherFinal_ex(c, out + n, &n);
    if (encrypt)
        ok &= EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, out + len);
    EVP_CIPHER_CTX_free(c);
    return ok == 1;
}

static inline size_t rogue_record_len(const uint8_t *head)
{
    return (size_t)head[3] << 8 | head[4];
}

static inline void rogue_head(uint8_t *head, uint8_t type, size_t len)
{
    const uint8_t bytes[5] = {type, 3, 3, (uint8_t)(len >> 8), (uint8_t)len};

    memcpy(head, bytes, sizeof(bytes));
}

/* Joins the records of one type; the others stay before them. Returns the new length. */
static inline size_t rogue_join(const struct rogue *r, uint8_t type, uint8_t *flight, size_t len)
{
    static __thread uint8_t joined[1 << 15], plain[1 << 15];
    size_t pos, out = 0, n = 0;
    uint8_t seq = 0;

    for (pos = 0; pos + 5 <= len; pos += 5 + rogue_record_len(flight + pos)) {
        size_t body = rogue_record_len(flight + pos);

        if (flight[pos] != type) {
            memmove(flight + out, flight + pos, 5 + body);
            out += 5 + body;
        } else if (type == SSL3_RT_HANDSHAKE) {
            memcpy(joined + n, flight + pos + 5, body);
            n += body;
        } else if (!rogue_seal(r->secret, seq++, flight + pos, flight + pos + 5, body - 16,
                               joined + n, false)) {
            abort();
        } else {
            n += body - 17; /* its type goes */
        }
    }
    rogue_head(flight + out, type, type == SSL3_RT_HANDSHAKE ? n : n + 17);
    if (type == SSL3_RT_HANDSHAKE) {
        memcpy(flight + out + 5, joined, n);
        return out + 5 + n;
    }
    memcpy(plain, joined, n);
    plain[n] = SSL3_RT_HANDSHAKE;
    if (!rogue_seal(r->secret, 0, flight + out, plain, n + 1, flight + out + 5, true))
        abort();
    return out + 5 + n + 17;
}

/* ---- one connection ---- */

static inline void rogue_message(int write_p, int version, int type, const void *buf, size_t len,
                                 SSL *ssl, void *arg)
{
    struct rogue *r = arg;

    if (!write_p && type == SSL3_RT_HANDSHAKE && len > 0)
        r->seen[*(const uint8_t *)buf]++;
}

static inline bool rogue_send(int fd, const uint8_t *data, size_t len)
{
    return len == 0 || send(fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static inline bool rogue_feed(struct rogue *r, SSL *ssl, int fd)
{
    uint8_t *at = r->raw + r->raw_len;
    ssize_t n = recv(fd, at, sizeof(r->raw) - r->raw_len, 0);

    if (n <= 0)
        return false;
    if (r->raw_len == 0)
        r->hello_at = lab_ms();
    else if (r->hello_len != 0 && r->next_at == 0)
        r->next_at = lab_ms();
    r->raw_len += (size_t)n;
    return BIO_write(SSL_get_rbio(ssl), at, (int)n) == n;
}

/* What libssl has written goes out; false: no more is to follow. */
static inline bool rogue_flush(struct rogue *r, SSL *ssl, int fd, bool first)
{
    static __thread uint8_t out[1 << 15];
    int n = BIO_read(SSL_get_wbio(ssl), out, sizeof(out));
    size_t len = n > 0 ? (size_t)n : 0;
    struct timespec delay = {r->delay_ms / 1000, (r->delay_ms % 1000) * 1000000L};

    if (len == 0)
        return true;
    if (r->hello_len == 0) {
        r->hello_len = r->raw_len;
        nanosleep(&delay, NULL);
        if (r->shape == ROGUE_CUT && first) {
            (void)rogue_send(fd, out, 5 + rogue_record_len(out));
            return false;
        }
        if (r->shape == ROGUE_ONE_RECORD)
            len = rogue_join(r, SSL3_RT_HANDSHAKE, out, len);
        if (r->shape == ROGUE_PACKED)
            len = rogue_join(r, SSL3_RT_APPLICATION_DATA, out, len);
    }
    return rogue_send(fd, out, len);
}

static inline int rogue_read(struct rogue *r, SSL *ssl, int fd)
{
    char buf[sizeof(r->text)];
    int n;

    while ((n = SSL_read(ssl, buf, sizeof(buf))) <= 0) {
        if (SSL_get_error(ssl, n) != SSL_ERROR_WANT_READ || !rogue_feed(r, ssl, fd))
            return 0;
    }
    memcpy(r->text, buf, (size_t)n);
    SSL_write(ssl, buf, n);
    return n;
}

static inline void rogue_serve(struct rogue *r, int fd, bool first)
{
    struct timeval limit = {.tv_sec = LAB_LIMIT_MS / 1000};
    SSL *ssl = SSL_new(r->ctx);
    bool more = true;

    r->raw_len = r->hello_len = 0;
    r->hello_at = r->next_at = 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    SSL_set_app_data(ssl, r);
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    if (mtls_ssl_ctx_is_hooked(r->ctx))
        mtls_set_fd(ssl, fd);
    do {
        r->accepted = SSL_accept(ssl);
        more = rogue_flush(r, ssl, fd, first);
    } while (r->accepted != 1 && more && SSL_get_error(ssl, r->accepted) == SSL_ERROR_WANT_READ &&
             rogue_feed(r, ssl, fd));
    if (r->accepted == 1) {
        r->got += rogue_read(r, ssl, fd);
        SSL_shutdown(ssl);
        (void)rogue_flush(r, ssl, fd, false);
    }
    r->outcome = mtls_get_outcome(ssl);
    r->reason = mtls_get_reason(ssl);
    SSL_free(ssl);
    close(fd);
    ERR_clear_error();
}

static inline void *rogue_main(void *arg)
{
    struct rogue *r = arg;
    unsigned i;

    for (i = 0; i < r->connections; i++) {
        int fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0)
            break;
        rogue_serve(r, fd, i == 0);
    }
    return NULL;
}

/* ---- its extension ---- */

static inline int rogue_ext_add(SSL *ssl, unsigned type, unsigned context,
                                const unsigned char **out, size_t *len, X509 *x, size_t chainidx,
                                int *al, void *arg)
{
    struct rogue *r = arg;

    *out = r->answer;
    *len = r->answer_len;
    return 1;
}

static inline int rogue_ext_parse(SSL *ssl, unsigned type, unsigned context,
                                  const unsigned char *data, size_t len, X509 *x, size_t chainidx,
                                  int *al, void *arg)
{
    return 1;
}

/* It claims to speak Multipath TLS. */
static inline void rogue_answer_ext(struct rogue *r, uint8_t flags)
{
    struct mtls_ext_ee ee = {.version = MTLS_VERSION_1, .flags = flags};
    int n = mtls_ext_ee_encode(&ee, r->answer, sizeof(r->answer));

    assert_true(n > 0);
    r->answer_len = (size_t)n;
    assert_int_equal(SSL_CTX_add_custom_ext(r->ctx, MTLS_EXT_TYPE,
                                            SSL_EXT_TLS_ONLY | SSL_EXT_TLS1_3_ONLY |
                                                SSL_EXT_CLIENT_HELLO |
                                                SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS,
                                            rogue_ext_add, NULL, r, rogue_ext_parse, r),
                     1);
}

/* ---- life ---- */

static inline void rogue_make(struct rogue *r, SSL_CTX *ctx)
{
    memset(r, 0, sizeof(*r));
    r->ctx = ctx;
    r->connections = 1;
    r->listener = pair_listen("127.0.0.1", &r->port);
    SSL_CTX_set_ciphersuites(r->ctx, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_set_keylog_callback(r->ctx, rogue_keylog);
    if (!mtls_ssl_ctx_is_hooked(r->ctx)) {
        SSL_CTX_set_msg_callback(r->ctx, rogue_message);
        SSL_CTX_set_msg_callback_arg(r->ctx, r);
    }
}

static inline void rogue_start(struct rogue *r)
{
    assert_int_equal(pthread_create(&r->thread, NULL, rogue_main, r), 0);
}

static inline void rogue_join_thread(struct rogue *r)
{
    pthread_join(r->thread, NULL);
}

static inline void rogue_free(struct rogue *r)
{
    SSL_CTX_free(r->ctx);
    close(r->listener);
}

/* Behind its ClientHello the client wrote at most change_cipher_spec and one alert. */
static inline bool rogue_got_nothing(const struct rogue *r)
{
    unsigned alerts = 0;
    size_t pos;

    for (pos = r->hello_len; pos + 5 <= r->raw_len; pos += 5 + rogue_record_len(r->raw + pos)) {
        size_t len = rogue_record_len(r->raw + pos);
        bool alert = (r->raw[pos] == SSL3_RT_ALERT && len == 2) ||
                     (r->raw[pos] == SSL3_RT_APPLICATION_DATA && len == 2 + 1 + 16);

        if (!alert && r->raw[pos] != SSL3_RT_CHANGE_CIPHER_SPEC)
            return false;
        alerts += alert;
    }
    return r->got == 0 && r->accepted != 1 && pos == r->raw_len && alerts <= 1;
}

/* ---- a false path 2 ---- */

struct false2 {
    int listener;
    uint16_t port;
    bool silent, proof;
    uint8_t more;
    int fds[8];
    unsigned n;
    pthread_t thread;
};

static inline bool false2_answer(struct false2 *f, int fd)
{
    uint8_t in[MTLS_PREFACE_LEN + MTLS_HELLO_LEN],
        out[MTLS_PREFACE_LEN + MTLS_READY_LEN + MTLS_PROOF_LEN];
    uint8_t any[32], hash[32], *hello = in + MTLS_PREFACE_LEN;
    size_t len = MTLS_PREFACE_LEN + MTLS_READY_LEN;
    uint32_t claim;

    if (recv(fd, in, sizeof(in), MSG_WAITALL) != sizeof(in))
        return false;
    if (f->silent)
        return true;
    memset(any, 9, sizeof(any));
    EVP_Digest(hello, MTLS_HELLO_LEN, hash, NULL, EVP_sha256(), NULL);
    claim =
        (uint32_t)hello[4] << 24 | (uint32_t)hello[5] << 16 | (uint32_t)hello[6] << 8 | hello[7];
    memcpy(out, mtls_preface, MTLS_PREFACE_LEN);
    mtls_frame_ready(out + MTLS_PREFACE_LEN, claim, MTLS_READY_OK, any, hash);
    mtls_frame_proof(out + len, claim, 0, f->more, any);
    return rogue_send(fd, out, f->proof ? sizeof(out) : len);
}

static inline void *false2_main(void *arg)
{
    struct false2 *f = arg;
    int fd;

    while (f->n < 8 && (fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        if (false2_answer(f, fd))
            f->fds[f->n++] = fd; /* stays open */
        else
            close(fd);
    }
    return NULL;
}

static inline void false2_start(struct false2 *f)
{
    f->n = 0;
    f->listener = pair_listen("127.0.1.1", &f->port);
    assert_int_equal(pthread_create(&f->thread, NULL, false2_main, f), 0);
}

static inline void false2_stop(struct false2 *f)
{
    unsigned i;

    shutdown(f->listener, SHUT_RDWR);
    pthread_join(f->thread, NULL);
    for (i = 0; i < f->n; i++)
        close(f->fds[i]);
    close(f->listener);
}

/* A port of 127.0.1.1 that refuses: bound, not listening. */
static inline int refusing_port(uint16_t *port)
{
    struct sockaddr_in sin = {.sin_family = AF_INET};
    socklen_t len = sizeof(sin);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    inet_pton(AF_INET, "127.0.1.1", &sin.sin_addr);
    assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
    *port = ntohs(sin.sin_port);
    return fd;
}

/* ---- the client ---- */

/* Listeners live as long as the process: one honest path 2 for all tests. */
static SSL_CTX *honest_keeper;

static inline uint16_t honest_port2(void)
{
    if (honest_keeper == NULL) {
        honest_keeper = pair_server_ctx();
        assert_int_equal(mtls_ssl_ctx_hook(honest_keeper, "policy=prefer listen=127.0.1.1:0"), 1);
    }
    return pair_port2(honest_keeper);
}

static inline SSL_CTX *visitor_ctx(const char *policy, uint16_t port2, const char *more)
{
    SSL_CTX *ctx = pair_client_ctx();
    char words[512];

    pair_words(words, sizeof(words), policy, port2, more);
    if (mtls_ssl_ctx_hook(ctx, words) != 1)
        ERR_print_errors_fp(stderr);
    assert_int_equal(mtls_ssl_ctx_is_hooked(ctx), 1);
    return ctx;
}

static inline void visitor_dial(SSL *ssl, uint16_t port, bool nonblocking)
{
    struct timeval limit = {.tv_sec = LAB_LIMIT_MS / 1000};
    int fd = pair_connect("127.0.0.1", port);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (nonblocking)
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    assert_int_equal(SSL_set_fd(ssl, fd), 1);
}

static inline SSL *visitor_new(SSL_CTX *ctx)
{
    SSL *ssl = SSL_new(ctx);

    SSL_set_connect_state(ssl);
    SSL_set_tlsext_host_name(ssl, "server.example");
    X509_VERIFY_PARAM_set1_host(SSL_get0_param(ssl), "server.example", 0);
    return ssl;
}

static inline bool wants(const SSL *ssl, int rc)
{
    int err = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl, rc);

    return err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE;
}

/* To the end of the handshake; the longest call in ms, if it is asked for. */
static inline int visitor_drive(SSL *ssl, uint64_t *longest_ms)
{
    uint64_t end = lab_ms() + LAB_LIMIT_MS, began;
    struct pollfd p;
    int rc;

    for (;;) {
        ERR_clear_error();
        began = lab_ms();
        rc = SSL_do_handshake(ssl);
        if (longest_ms != NULL && lab_ms() - began > *longest_ms)
            *longest_ms = lab_ms() - began;
        if (!wants(ssl, rc) || lab_ms() > end)
            return rc;
        p = (struct pollfd){.fd = SSL_get_fd(ssl), .events = POLLIN};
        if (SSL_get_error(ssl, rc) == SSL_ERROR_WANT_WRITE)
            p.events = POLLOUT;
        poll(&p, 1, LAB_LIMIT_MS);
    }
}

/* A secret, if the handshake lets it go; the length of what comes back, or 0. */
static inline int visitor_talk(SSL *ssl)
{
    char buf[16];
    int n;

    if (SSL_write(ssl, "SECRET", 6) != 6)
        return 0;
    while ((n = SSL_read(ssl, buf, sizeof(buf))) <= 0) {
        struct pollfd p = {.fd = SSL_get_fd(ssl), .events = POLLIN};

        if (!wants(ssl, n) || poll(&p, 1, LAB_LIMIT_MS) != 1)
            return 0;
    }
    return n;
}

static inline void visitor_hang_up(SSL *ssl)
{
    int fd = SSL_get_fd(ssl);

    if (SSL_is_init_finished(ssl))
        SSL_shutdown(ssl);
    close(fd);
}

static inline void visitor_free(SSL *ssl)
{
    visitor_hang_up(ssl);
    SSL_free(ssl);
    ERR_clear_error();
}

static inline void assert_outcome(const SSL *ssl, enum mtls_outcome outcome, int reason)
{
    if (mtls_get_outcome(ssl) != outcome || mtls_get_reason(ssl) != reason)
        print_error("%s, %s; expected %s, %s\n", mtls_outcome_name(mtls_get_outcome(ssl)),
                    mtls_error_name(mtls_get_reason(ssl)), mtls_outcome_name(outcome),
                    mtls_error_name(reason));
    assert_int_equal(mtls_get_outcome(ssl), outcome);
    assert_int_equal(mtls_get_reason(ssl), reason);
}

#endif
