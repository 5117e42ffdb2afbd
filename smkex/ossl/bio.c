/* Concept: SMKEX as a filter BIO over a socket's BIO, as BIO_f_ssl() is for TLS; and the two
 * constructors that take the place of BIO_new_connect() and BIO_new_accept() (mtls/smkex.h). */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>

#include "mtls/ossl/glue.h"
#include "mtls/smkex.h"

struct filter {
    struct smkex_ctx *ctx; /* the application's */
    bool server;
    char *name; /* client */
    struct smkex *s;
    bool again; /* the second connection, for plain TCP, is being made */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int type;
static BIO_METHOD *method;

static int filter_free(BIO *bio)
{
    struct filter *f = BIO_get_data(bio);

    if (f == NULL)
        return 1;
    if (f->s != NULL && smkex_get_outcome(f->s) != SMKEX_OUTCOME_NONE)
        (void)!smkex_shutdown(f->s);
    smkex_free(f->s);
    OPENSSL_free(f->name);
    OPENSSL_free(f);
    BIO_set_data(bio, NULL);
    return 1;
}

/* What the BIO beneath wants is what we want. */
static int below_failed(BIO *bio)
{
    BIO_copy_next_retry(bio);
    return -1;
}

/* Not wrapped: 1, or -1 with retry flags. */
static int attach(BIO *bio, struct filter *f)
{
    BIO *next = BIO_next(bio);
    int fd = -1, rc;

    if (next == NULL || f == NULL)
        return -1;
    if (f->s != NULL)
        return 1;
    /* Path 2 connects while path 1 does; what is wrong with it shows in the handshake. */
    if (!f->server && f->name != NULL && BIO_get_conn_port(next) != NULL)
        (void)!smkex_announce(f->ctx, f->name, (uint16_t)atoi(BIO_get_conn_port(next)));
    if (BIO_method_type(next) == BIO_TYPE_CONNECT && BIO_do_connect(next) <= 0)
        return below_failed(bio);
    if (BIO_get_fd(next, &fd) < 0 || fd < 0)
        return -1;
    rc = f->server ? smkex_server_new(&f->s, f->ctx, fd)
                   : smkex_client_new(&f->s, f->ctx, fd, f->name);
    if (rc != 0)
        mtls_raise(rc, NULL);
    return rc == 0 ? 1 : -1;
}

/* [SPO-3] Plain is a new connection. */
static int reconnect(BIO *bio, struct filter *f)
{
    BIO *next = BIO_next(bio);
    int fd;

    if (BIO_method_type(next) != BIO_TYPE_CONNECT || (!f->again && BIO_reset(next) < 0))
        return MTLS_ERR_SMKEX_FOREIGN;
    f->again = true;
    if (BIO_do_connect(next) <= 0)
        return BIO_should_retry(next) ? SMKEX_WANT_WRITE : MTLS_ERR_PEER_CLOSED;
    return BIO_get_fd(next, &fd) < 0 ? MTLS_ERR_IO : smkex_set_plain_fd(f->s, fd);
}

/* The result of a smkex_ call as a BIO's: > 0, 0 (the end), or -1 with a retry flag or an error. */
static int result(BIO *bio, int rc)
{
    if (rc == SMKEX_WANT_READ)
        BIO_set_retry_read(bio);
    else if (rc == SMKEX_WANT_WRITE)
        BIO_set_retry_write(bio);
    else if (rc < 0)
        mtls_raise(rc, NULL);
    return rc < 0 ? -1 : rc;
}

/* 1: decided; else as result(). */
static int ready(BIO *bio)
{
    struct filter *f = BIO_get_data(bio);
    int rc;

    BIO_clear_retry_flags(bio);
    if (attach(bio, f) != 1)
        return -1;
    rc = smkex_handshake(f->s);
    if (rc == SMKEX_RECONNECT)
        rc = reconnect(bio, f);
    return rc == 0 ? 1 : result(bio, rc);
}

static int filter_read(BIO *bio, char *buf, int len)
{
    struct filter *f = BIO_get_data(bio);
    int rc;

    if (buf == NULL || len <= 0)
        return 0;
    rc = ready(bio);
    if (rc != 1)
        return rc;
    rc = smkex_read(f->s, buf, (size_t)len);
    if (rc == 0)
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    return result(bio, rc);
}

static int filter_write(BIO *bio, const char *buf, int len)
{
    struct filter *f = BIO_get_data(bio);
    int rc;

    if (buf == NULL || len <= 0)
        return 0;
    rc = ready(bio);
    return rc != 1 ? rc : result(bio, smkex_write(f->s, buf, (size_t)len));
}

static long flush(BIO *bio, struct filter *f, bool end)
{
    int rc = ready(bio);

    if (rc == 1)
        rc = end ? smkex_shutdown(f->s) : smkex_flush(f->s);
    else
        return rc;
    return rc == 0 ? 1 : result(bio, rc);
}

static long duplicate(BIO *to, const struct filter *from)
{
    struct filter *f = BIO_get_data(to);

    f->ctx = from->ctx;
    f->server = from->server;
    f->name = from->name != NULL ? OPENSSL_strdup(from->name) : NULL;
    return from->name == NULL || f->name != NULL;
}

static long below(BIO *bio, int cmd, long num, void *ptr)
{
    return BIO_next(bio) != NULL ? BIO_ctrl(BIO_next(bio), cmd, num, ptr) : 0;
}

static long filter_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    struct filter *f = BIO_get_data(bio);

    switch (cmd) {
    case BIO_C_DO_STATE_MACHINE:
        return ready(bio);
    case BIO_CTRL_PENDING:
        return f->s != NULL ? (long)smkex_pending(f->s) : 0;
    case BIO_CTRL_WPENDING:
        return f->s != NULL && smkex_flush(f->s) == SMKEX_WANT_WRITE;
    case BIO_CTRL_EOF:
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    case BIO_CTRL_FLUSH:
        return flush(bio, f, false);
    case BIO_C_SHUTDOWN_WR:
        return flush(bio, f, true);
    case BIO_CTRL_RESET:
        smkex_free(f->s);
        f->s = NULL;
        f->again = false;
        BIO_clear_flags(bio, BIO_FLAGS_IN_EOF);
        return below(bio, cmd, num, ptr);
    case BIO_CTRL_DUP:
        return duplicate(ptr, f);
    case BIO_CTRL_PUSH:
    case BIO_CTRL_POP:
        return 1;
    default:
        return below(bio, cmd, num, ptr);
    }
}

static int filter_create(BIO *bio)
{
    struct filter *f = OPENSSL_zalloc(sizeof(*f));

    BIO_set_data(bio, f);
    BIO_set_init(bio, f != NULL);
    return f != NULL;
}

static void load(void)
{
    BIO_METHOD *m;

    type = BIO_get_new_index();
    m = type != -1 ? BIO_meth_new(type | BIO_TYPE_FILTER, "smkex") : NULL;
    if (m == NULL || BIO_meth_set_create(m, filter_create) != 1 ||
        BIO_meth_set_destroy(m, filter_free) != 1 || BIO_meth_set_read(m, filter_read) != 1 ||
        BIO_meth_set_write(m, filter_write) != 1 || BIO_meth_set_ctrl(m, filter_ctrl) != 1)
        BIO_meth_free(m);
    else
        method = m;
}

static BIO *filter_new(struct smkex_ctx *ctx, bool server, const char *name)
{
    BIO *bio;
    struct filter *f;

    pthread_once(&once, load);
    bio = method != NULL ? BIO_new(method) : NULL;
    if (bio == NULL)
        return NULL;
    f = BIO_get_data(bio);
    f->ctx = ctx;
    f->server = server;
    f->name = name != NULL ? OPENSSL_strdup(name) : NULL;
    if (name == NULL || f->name != NULL)
        return bio;
    BIO_free(bio);
    return NULL;
}

BIO *smkex_bio_new_connect(struct smkex_ctx *ctx, const char *host_port)
{
    BIO *tcp = BIO_new_connect(host_port);
    BIO *bio = tcp != NULL ? filter_new(ctx, false, BIO_get_conn_hostname(tcp)) : NULL;

    if (bio != NULL)
        return BIO_push(bio, tcp);
    BIO_free(tcp);
    return NULL;
}

BIO *smkex_bio_new_accept(struct smkex_ctx *ctx, const char *host_port)
{
    BIO *tcp = BIO_new_accept(host_port);
    BIO *bio = tcp != NULL ? filter_new(ctx, true, NULL) : NULL;

    if (bio != NULL && BIO_set_accept_bios(tcp, bio) == 1)
        return tcp;
    BIO_free(bio);
    BIO_free(tcp);
    return NULL;
}

struct smkex *smkex_bio_get0(BIO *bio)
{
    BIO *found;
    struct filter *f;

    pthread_once(&once, load);
    found = BIO_find_type(bio, type | BIO_TYPE_FILTER);
    f = found != NULL ? BIO_get_data(found) : NULL;
    return f != NULL ? f->s : NULL;
}
