/* Concept: the interposed calls of libssl that shake hands or move data. Where the configuration
 * confirms servers by resumption they first let libmtls drive the handshake and give its verdict;
 * nothing of the program's is sent or delivered before. Otherwise they cost a look into a table. */
#include <stdlib.h>
#include <string.h>

#include <openssl/ssl.h>

#include "libmtls.h"

/* ---- the next definition, for the code that calls ---- */

enum { SLOTS = 256 };

/* What one calling place gets. Never freed: there are as many as there are places. */
struct target {
    const void *code;
    void *fn;
    bool followed; /* libmtls works on this libssl, and does not call itself here */
};

struct site {
    const char *name;
    struct target *slots[SLOTS]; /* atomic; set once */
};

static struct target look_up(const char *name, const void *code)
{
    struct target t = {.code = code, .fn = preload_libssl_symbol(name, code)};

    t.followed = t.fn != NULL && !preload_is_library(code) && preload_library_ready(false) &&
                 preload_library_symbol(name) == t.fn;
    return t;
}

/* Beside programs' own SSLs there may be those of another libssl, for which the same name means
 * another function. Linear probing: one place of a program costs as little as many. */
static struct target target(struct site *site, const void *code)
{
    struct target **slot, t, *kept, *fresh = NULL;
    unsigned i;

    for (i = 0; i < SLOTS; i++) {
        slot = &site->slots[(((uintptr_t)code >> 2) + i) % SLOTS];
        kept = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
        if (kept == NULL && fresh == NULL) {
            t = look_up(site->name, code);
            if (t.fn == NULL || !preload_library_ready(false) ||
                (fresh = malloc(sizeof(*fresh))) == NULL)
                return t;
            *fresh = t;
        }
        if (kept == NULL && __atomic_compare_exchange_n(slot, &kept, fresh, false, __ATOMIC_ACQ_REL,
                                                        __ATOMIC_ACQUIRE))
            return *fresh;
        if (kept->code == code) {
            free(fresh);
            return *kept;
        }
    }
    free(fresh);
    return look_up(site->name, code); /* more places than there is room for */
}

static bool proceeds(const struct target *t, SSL *ssl, enum mtls_interpose_call call, int *rv)
{
    *rv = -1;
    return t->fn != NULL && (!t->followed || preload_libmtls.confirm(ssl, call, rv) == 1);
}

/* With t, rv: what the program calls by this name, from where it calls. */
#define SITE(name_)                                                                                \
    static struct site site = {.name = name_};                                                     \
    struct target t = target(&site, __builtin_return_address(0));                                  \
    int rv

/* ---- handshakes ---- */

typedef int plain_fn(SSL *);

PRELOAD_PUBLIC int SSL_connect(SSL *ssl)
{
    SITE("SSL_connect");
    plain_fn *real;

    memcpy(&real, &t.fn, sizeof(real));
    return proceeds(&t, ssl, MTLS_INTERPOSE_CONNECTS, &rv) ? real(ssl) : rv;
}

PRELOAD_PUBLIC int SSL_do_handshake(SSL *ssl)
{
    SITE("SSL_do_handshake");
    plain_fn *real;

    memcpy(&real, &t.fn, sizeof(real));
    return proceeds(&t, ssl, MTLS_INTERPOSE_OTHER, &rv) ? real(ssl) : rv;
}

/* Programs that name their descriptor before each try (wrk) change nothing by it, but for the gate:
 * libssl would put a fresh BIO in its place. */
PRELOAD_PUBLIC int SSL_set_fd(SSL *ssl, int fd)
{
    static struct site site = {.name = "SSL_set_fd"};
    struct target t = target(&site, __builtin_return_address(0));
    int (*real)(SSL *, int);

    memcpy(&real, &t.fn, sizeof(real));
    if (real == NULL)
        return 0;
    return t.followed && preload_libmtls.has_fd(ssl, fd) == 1 ? 1 : real(ssl, fd);
}

/* ---- data; each may begin a handshake ---- */

typedef int read_fn(SSL *, void *, int);
typedef int write_fn(SSL *, const void *, int);
typedef int read_ex_fn(SSL *, void *, size_t, size_t *);
typedef int write_ex_fn(SSL *, const void *, size_t, size_t *);

PRELOAD_PUBLIC int SSL_read(SSL *ssl, void *data, int len)
{
    SITE("SSL_read");
    read_fn *real;

    memcpy(&real, &t.fn, sizeof(real));
    return proceeds(&t, ssl, MTLS_INTERPOSE_OTHER, &rv) ? real(ssl, data, len) : rv;
}

PRELOAD_PUBLIC int SSL_peek(SSL *ssl, void *data, int len)
{
    SITE("SSL_peek");
    read_fn *real;

    memcpy(&real, &t.fn, sizeof(real));
    return proceeds(&t, ssl, MTLS_INTERPOSE_OTHER, &rv) ? real(ssl, data, len) : rv;
}

PRELOAD_PUBLIC int SSL_write(SSL *ssl, const void *data, int len)
{
    SITE("SSL_write");
    write_fn *real;

    memcpy(&real, &t.fn, sizeof(real));
    return proceeds(&t, ssl, MTLS_INTERPOSE_OTHER, &rv) ? real(ssl, data, len) : rv;
}

PRELOAD_PUBLIC int SSL_read_ex(SSL *ssl, void *data, size_t len, size_t *done)
{
    SITE("SSL_read_ex");
    read_ex_fn *real;

    memcpy(&real, &t.fn, sizeof(real));
    return proceeds(&t, ssl, MTLS_INTERPOSE_OTHER, &rv) ? real(ssl, data, len, done) : 0;
}

PRELOAD_PUBLIC int SSL_peek_ex(SSL *ssl, void *data, size_t len, size_t *done)
{
    SITE("SSL_peek_ex");
    read_ex_fn *real;

    memcpy(&real, &t.fn, sizeof(real));
    return proceeds(&t, ssl, MTLS_INTERPOSE_OTHER, &rv) ? real(ssl, data, len, done) : 0;
}

PRELOAD_PUBLIC int SSL_write_ex(SSL *ssl, const void *data, size_t len, size_t *done)
{
    SITE("SSL_write_ex");
    write_ex_fn *real;

    memcpy(&real, &t.fn, sizeof(real));
    return proceeds(&t, ssl, MTLS_INTERPOSE_OTHER, &rv) ? real(ssl, data, len, done) : 0;
}

/* From OpenSSL 3.3 on. */
PRELOAD_PUBLIC int SSL_write_ex2(SSL *ssl, const void *data, size_t len, uint64_t flags,
                                 size_t *done);
int SSL_write_ex2(SSL *ssl, const void *data, size_t len, uint64_t flags, size_t *done)
{
    SITE("SSL_write_ex2");
    int (*real)(SSL *, const void *, size_t, uint64_t, size_t *);

    memcpy(&real, &t.fn, sizeof(real));
    return proceeds(&t, ssl, MTLS_INTERPOSE_OTHER, &rv) ? real(ssl, data, len, flags, done) : 0;
}

PRELOAD_PUBLIC int SSL_write_early_data(SSL *ssl, const void *data, size_t len, size_t *done)
{
    SITE("SSL_write_early_data");
    write_ex_fn *real;

    memcpy(&real, &t.fn, sizeof(real));
    return proceeds(&t, ssl, MTLS_INTERPOSE_EARLY, &rv) ? real(ssl, data, len, done) : 0;
}

PRELOAD_PUBLIC ossl_ssize_t SSL_sendfile(SSL *ssl, int fd, off_t offset, size_t size, int flags)
{
    SITE("SSL_sendfile");
    ossl_ssize_t (*real)(SSL *, int, off_t, size_t, int);

    memcpy(&real, &t.fn, sizeof(real));
    return proceeds(&t, ssl, MTLS_INTERPOSE_OTHER, &rv) ? real(ssl, fd, offset, size, flags) : rv;
}

/* ---- tickets ---- */

PRELOAD_PUBLIC void SSL_CTX_sess_set_new_cb(SSL_CTX *ctx, mtls_interpose_session_cb *cb)
{
    static struct site site = {.name = "SSL_CTX_sess_set_new_cb"};
    struct target t = target(&site, __builtin_return_address(0));
    void (*real)(SSL_CTX *, mtls_interpose_session_cb *);

    memcpy(&real, &t.fn, sizeof(real));
    if (t.fn != NULL && (!t.followed || preload_libmtls.session_callback(ctx, cb) != 1))
        real(ctx, cb);
}

/* ---- the verdict ---- */

void preload_confirmed(const char *json, int fd, bool failed)
{
    char peer[64] = "";

    if (fd >= 0)
        preload_peer_text(fd, peer, sizeof(peer));
    preload_log_session(json, peer);
    if (failed)
        preload_guard_failed(peer, fd);
    else
        preload_guard_decided(fd);
}
