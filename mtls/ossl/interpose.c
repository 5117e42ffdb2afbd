/* Concept: see interpose.h. What is done with what the preload library sees: path 1's descriptor,
 * the program's message call-backs, reads held in the kernel for programs with memory BIOs. */
#include "interpose.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <openssl/err.h>

#include "../net/engine.h"
#include "confirming.h"
#include "gate.h"
#include "glue.h"

static const struct mtls_interpose *attached; /* atomic; never changes once set */
static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
static int msg_index = -1;

static const struct mtls_interpose *ops(void)
{
    return __atomic_load_n(&attached, __ATOMIC_ACQUIRE);
}

bool mtls_interposed(void)
{
    return ops() != NULL;
}

int mtls_interpose_attach(const struct mtls_interpose *given)
{
    const struct mtls_interpose *none = NULL;

    if (given == NULL || given->size != sizeof(*given) ||
        (!__atomic_compare_exchange_n(&attached, &none, given, false, __ATOMIC_ACQ_REL,
                                      __ATOMIC_ACQUIRE) &&
         none != given)) {
        mtls_raise(MTLS_ERR_ARG, "interposition");
        return 0;
    }
    return 1;
}

const char *mtls_interpose_config(void)
{
    return ops() != NULL ? ops()->config : secure_getenv("MTLS_CONFIG");
}

/* ---- descriptors ---- */

void mtls_interpose_begin(void)
{
    if (ops() != NULL)
        ops()->begin();
}

int mtls_interpose_end(void)
{
    return ops() != NULL ? ops()->end() : -1;
}

void mtls_interpose_confirmed(const char *json, int fd, bool failed)
{
    if (ops() != NULL)
        ops()->confirmed(json, fd, failed);
}

bool mtls_interpose_counts(mtls_outcome_cb *cb, enum mtls_outcome outcome)
{
    const struct mtls_interpose *o = ops();

    return o != NULL && cb == o->outcome && o->counts(outcome);
}

int mtls_interpose_write(struct mtls_session *s, BIO *next, const char *in, int len)
{
    const struct mtls_interpose *o = ops();
    int n, fd;

    if (o == NULL || s == NULL || s->gate == NULL)
        return BIO_write(next, in, len);
    s->gate->writing = true;
    o->begin();
    n = BIO_write(next, in, len);
    fd = o->end();
    if (fd >= 0 && mtls_session_fd(s) < 0)
        mtls_interpose_learned(s, fd);
    if (s->gate != NULL)
        s->gate->writing = false;
    return n;
}

void mtls_interpose_announce(const uint8_t *msg, size_t len, void *who)
{
    const struct mtls_interpose *o = ops();

    if (o != NULL && len >= 6 + 32) /* header, legacy_version, random */
        o->hello(msg + 6, who);
}

void mtls_interpose_hello(struct mtls_session *s, const uint8_t *msg, size_t len)
{
    bool wanted = s != NULL && s->gate != NULL && s->given_fd < 0 && mtls_session_fd(s) < 0;

    mtls_interpose_announce(msg, len, wanted ? s : NULL);
}

void mtls_interpose_forget_who(void *who)
{
    const struct mtls_interpose *o = ops();

    if (o != NULL)
        o->forget(who);
}

void mtls_interpose_forget(struct mtls_session *s)
{
    mtls_interpose_forget_who(s);
}

/* The program reads through a BIO of its own making and remembers what its recv() said: let it say
 * EAGAIN, or it believes that there is more and spins. What the BIO had all the same is kept. */
void mtls_interpose_again(struct mtls_session *s)
{
    const struct mtls_interpose *o = ops();
    BIO *next = BIO_next(s->gate->rfilter);
    char byte;

    if (o == NULL || !s->gate->direct || s->gate->stashed)
        return;
    o->again(true);
    if (BIO_read(next, &byte, 1) == 1) {
        s->gate->stash = byte;
        s->gate->stashed = true;
    }
    o->again(false);
}

void mtls_interpose_copies(int more)
{
    const struct mtls_interpose *o = ops();

    if (o != NULL)
        __atomic_add_fetch(o->copies, (unsigned)more, __ATOMIC_RELAXED);
}

int mtls_interpose_descriptor(const SSL *ssl)
{
    const struct mtls_session *s = mtls_session_find(ssl);

    return s != NULL ? mtls_session_fd(s) : -1;
}

static ino_t socket_of(int fd)
{
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) ? st.st_ino : 0;
}

void mtls_interpose_failing(struct mtls_session *s)
{
    if (ops() != NULL && s->gate != NULL && !s->server && s->reason != MTLS_ERR_ABANDONED &&
        s->reason != MTLS_ERR_FORKED && s->generation == mtls_engine_generation())
        s->gate->doomed = socket_of(mtls_session_fd(s));
}

void mtls_interpose_peer_ended(struct mtls_session *s)
{
    if (ops() != NULL && !s->server && s->phase == MTLS_PHASE_HELLO &&
        s->hook->config.policy == MTLS_POLICY_REQUIRE && s->generation == mtls_engine_generation())
        mtls_session_decide(s, MTLS_OUTCOME_FAILED, MTLS_ERR_ABANDONED);
}

/* The program may fall back to plaintext on the socket itself, or on a copy of it. */
void mtls_interpose_shut(struct mtls_session *s)
{
    int fd = mtls_session_fd(s);

    if (s->gate->doomed != 0 && s->gate->doomed == socket_of(fd))
        (void)shutdown(fd, SHUT_RDWR);
    s->gate->doomed = 0;
}

void mtls_interpose_closed(int fd)
{
    mtls_copies_closed(fd);
}

/* ---- held reads ---- */

bool mtls_interpose_hold(struct mtls_session *s, int how)
{
    const struct mtls_interpose *o = ops();
    struct mtls_gate *g = s->gate;

    if (o == NULL || g == NULL)
        return false;
    if (how == MTLS_INTERPOSE_FREE) {
        if (g->held && s->generation == mtls_engine_generation())
            (void)!o->hold(s->given_fd, MTLS_INTERPOSE_FREE);
        g->held = false;
    } else {
        g->held = o->hold(s->given_fd, how);
    }
    return g->held;
}

/* Nothing is in the kernel yet, so there is nothing to give back: a client whose server has not
 * answered. */
bool mtls_interpose_idle(const struct mtls_session *s)
{
    int n = 0;

    return s->gate != NULL && s->hs != NULL && s->gate->held && !s->server &&
           s->hs->answered == MTLS_OFFER_UNKNOWN && !s->hs->old_tls &&
           ioctl(s->gate->copy.fd, FIONREAD, &n) == 0 && n == 0;
}

/* Types of BIOs tell nothing: curl's own is of type "memory buffer". A program that sends while
 * libssl writes reads the same way; one that sends later carries the bytes itself. */
void mtls_interpose_learned(void *who, int fd)
{
    struct mtls_session *s = who;
    int err = 0;

    if (mtls_confirming_learned(who, fd))
        return;
    if (s->given_fd >= 0 || fd < 0 || s->gate == NULL || s->hs == NULL ||
        s->generation != mtls_engine_generation())
        return;
    s->given_fd = fd;
    s->gate->direct = s->gate->writing;
    ERR_set_mark();
    if (!s->server && s->hs->path1_later)
        err = mtls_client_path1(s);
    if (err == 0 && !s->gate->direct && s->phase != MTLS_PHASE_START &&
        s->phase < MTLS_PHASE_CONFIRMED)
        mtls_gate_hold_reads(s);
    ERR_pop_to_mark();
    s->hs->later_error = err;
}

int mtls_interpose_has_fd(const SSL *ssl, int fd)
{
    const struct mtls_session *s = mtls_session_find(ssl);
    BIO *r, *w;

    if (s == NULL || fd < 0 || s->generation != mtls_engine_generation() ||
        SSL_in_before(ssl) == 1 /* cleared for another connection */ || !mtls_gate_stands(s))
        return 0;
    r = BIO_next(s->gate->rfilter);
    w = BIO_next(s->gate->wfilter);
    return BIO_method_type(r) == BIO_TYPE_SOCKET && BIO_method_type(w) == BIO_TYPE_SOCKET &&
           BIO_get_close(r) == BIO_NOCLOSE && BIO_get_fd(r, NULL) == fd &&
           BIO_get_fd(w, NULL) == fd;
}

/* ---- message call-backs ---- */

static void index_make(void)
{
    msg_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static int index_get(void)
{
    return CRYPTO_THREAD_run_once(&once, index_make) == 1 ? msg_index : -1;
}

/* The program took its call-back away from this SSL; the SSL_CTX may have one. */
static void nothing(int write_p, int version, int content_type, const void *buf, size_t len,
                    SSL *ssl, void *arg)
{
}

static bool is_ours(mtls_interpose_msg_cb *cb)
{
    return cb == mtls_message || cb == mtls_confirming_message;
}

static mtls_msg_cb **chained_of(const SSL_CTX *ctx)
{
    struct mtls_hook *hook = mtls_hook_of(ctx);

    return hook != NULL ? &hook->chained_cb : mtls_confirming_chained(ctx);
}

int mtls_interpose_ctx_msg_callback(SSL_CTX *ctx, mtls_interpose_msg_cb *cb)
{
    mtls_msg_cb **chained = chained_of(ctx);

    if (chained == NULL || is_ours(cb))
        return 0;
    __atomic_store_n(chained, cb, __ATOMIC_RELEASE);
    return 1;
}

int mtls_interpose_ssl_msg_callback(SSL *ssl, mtls_interpose_msg_cb *cb)
{
    mtls_interpose_msg_cb *kept = cb != NULL ? cb : nothing;
    void *value;

    if (chained_of(SSL_get_SSL_CTX(ssl)) == NULL || is_ours(cb) || index_get() < 0)
        return 0;
    memcpy(&value, &kept, sizeof(value));
    return SSL_set_ex_data(ssl, index_get(), value);
}

void mtls_interpose_message(int write_p, int version, int content_type, const void *buf, size_t len,
                            SSL *ssl, void *arg)
{
    mtls_msg_cb **chained;
    mtls_interpose_msg_cb *cb;
    void *value;

    if (!mtls_interposed() || index_get() < 0)
        return;
    chained = chained_of(SSL_get_SSL_CTX(ssl));
    value = SSL_get_ex_data(ssl, msg_index);
    memcpy(&cb, &value, sizeof(cb));
    if (cb == NULL && chained != NULL)
        cb = __atomic_load_n(chained, __ATOMIC_ACQUIRE);
    if (cb != NULL)
        cb(write_p, version, content_type, buf, len, ssl, arg);
}
