/* Concept: a connection's life and the parts of its handshake that both sides share (mtls/smkex.h).
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/crypto.h>

bool smkex_is_blocking(const struct smkex *s)
{
    int flags = fcntl(s->fd, F_GETFL);

    return flags >= 0 && (flags & O_NONBLOCK) == 0;
}

int smkex_await(struct smkex *s, short events, mtls_tstamp until)
{
    struct pollfd p = {.fd = s->fd, .events = events};
    mtls_tstamp now = mtls_now();
    int timeout = -1;

    if (!smkex_is_blocking(s))
        return events == POLLOUT ? SMKEX_WANT_WRITE : SMKEX_WANT_READ;
    if (until != MTLS_TSTAMP_NEVER)
        timeout = now >= until ? 0 : (int)((until - now + 999) / 1000);
    if (poll(&p, 1, timeout) < 0 && errno != EINTR)
        return MTLS_ERR_IO;
    return 0;
}

/* ---- Out of the engine ---- */

static void leave_engine(struct smkex *s, uint8_t fail_reason)
{
    if (s->generation != mtls_engine_generation())
        return; /* what was the parent's is not ours to touch */
    mtls_engine_lock();
    smkex_unhold(s, s->phase == SMKEX_PHASE_FAILED);
    smkex_paths_leave(s, fail_reason);
    mtls_service_session_free(s->service, fail_reason, mtls_now());
    s->service = NULL;
    mtls_timer_free(s->timer);
    s->timer = NULL;
    mtls_engine_unlock();
    OPENSSL_cleanse(s->secret, sizeof(s->secret));
}

int smkex_fail(struct smkex *s, int reason)
{
    if (s->phase == SMKEX_PHASE_FAILED)
        return s->reason;
    s->phase = SMKEX_PHASE_FAILED;
    s->reason = reason;
    if (s->outcome == SMKEX_OUTCOME_NONE) {
        s->outcome = SMKEX_OUTCOME_FAILED;
        s->times[SMKEX_STEP_DECIDED] = mtls_now();
        leave_engine(s,
                     reason == MTLS_ERR_PROOF_WRONG ? MTLS_FAIL_PROOF_WRONG : MTLS_FAIL_ABANDONED);
        smkex_evidence_write(s);
    }
    return reason;
}

void smkex_decided(struct smkex *s, enum smkex_outcome outcome, int reason)
{
    s->outcome = outcome;
    s->reason = reason;
    s->times[SMKEX_STEP_DECIDED] = mtls_now();
    leave_engine(s, MTLS_FAIL_ABANDONED);
    smkex_evidence_write(s);
}

/* ---- Bytes of the handshake ---- */

int smkex_flush_out(struct smkex *s)
{
    const uint8_t *out;
    size_t len;
    ssize_t n;
    int rc;

    while ((out = smkex_machine_out(s->m, &len)) != NULL && len > 0) {
        n = send(s->fd, out, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            smkex_machine_sent(s->m, (size_t)n);
        } else if (errno == EAGAIN) {
            rc = smkex_await(s, POLLOUT,
                             s->outcome == SMKEX_OUTCOME_NONE ? s->deadline_at : MTLS_TSTAMP_NEVER);
            if (rc != 0)
                return rc;
            if (s->outcome == SMKEX_OUTCOME_NONE && mtls_now() >= s->deadline_at)
                return MTLS_ERR_DEADLINE;
        } else if (errno != EINTR) {
            return MTLS_ERR_PEER_CLOSED;
        }
    }
    return 0;
}

int smkex_fill(struct smkex *s, size_t leave)
{
    size_t len, missing;
    uint8_t *room;
    ssize_t n;
    int rc = 0;

    while (rc == 0 && (missing = smkex_machine_missing(s->m)) > leave) {
        room = smkex_machine_room(s->m, &len);
        n = recv(s->fd, room, len == missing ? len - leave : len, MSG_DONTWAIT);
        if (n > 0) {
            rc = smkex_machine_filled(s->m, (size_t)n);
        } else if (n == 0) {
            rc = mtls_now() >= s->deadline_at ? MTLS_ERR_DEADLINE : smkex_machine_eof(s->m);
        } else if (errno == EAGAIN) {
            rc = mtls_now() >= s->deadline_at ? MTLS_ERR_DEADLINE : SMKEX_WANT_READ;
        } else if (errno != EINTR) {
            rc = MTLS_ERR_PEER_CLOSED;
        }
    }
    return rc;
}

/* ---- Handshake ---- */

static int plain_at_once(struct smkex *s)
{
    s->phase = SMKEX_PHASE_PLAIN;
    s->outcome = SMKEX_OUTCOME_PLAIN;
    return 0;
}

int smkex_handshake(struct smkex *s)
{
    int rc;

    if (s->phase == SMKEX_PHASE_FAILED)
        return s->reason;
    if (s->phase == SMKEX_PHASE_RECONNECT)
        return SMKEX_RECONNECT;
    if (s->phase == SMKEX_PHASE_OPEN || s->phase == SMKEX_PHASE_PLAIN)
        return 0;
    if (s->generation != mtls_engine_generation())
        return smkex_fail(s, MTLS_ERR_FORKED);
    rc = s->server ? smkex_server_step(s) : smkex_client_step(s);
    if (rc == SMKEX_WANT_READ || rc == SMKEX_WANT_WRITE || rc == SMKEX_RECONNECT)
        return rc;
    if (rc < 0) {
        if (s->server)
            (void)!smkex_flush_out(s); /* a refusal, as far as it goes */
        return smkex_fail(s, rc);
    }
    return 0;
}

/* ---- Life ---- */

static void on_timer(void *arg, mtls_tstamp now)
{
    smkex_wake(arg, now);
}

static int enter_engine(struct smkex *s)
{
    struct mtls_reactor *r;
    int rc;

    mtls_engine_lock();
    r = mtls_reactor_get();
    rc = r == NULL ? MTLS_ERR_STOPPED : mtls_reactor_start(r, s->ctx->config.reactor_app);
    if (rc == 0)
        rc = mtls_timer_new(&s->timer, r, on_timer, s);
    if (rc == 0)
        mtls_timer_set(s->timer, s->deadline_at);
    if (rc == 0 && !s->server)
        smkex_client_claim(s);
    mtls_engine_unlock();
    return rc;
}

static int conn_new(struct smkex **out, struct smkex_ctx *ctx, int fd, bool server)
{
    struct smkex *s = calloc(1, sizeof(*s));
    const struct mtls_config *c = &ctx->config;
    mtls_tstamp now = mtls_now();

    *out = NULL;
    if (s == NULL)
        return MTLS_ERR_NOMEM;
    if (mtls_cond_init(&s->changed) != 0) {
        free(s);
        return MTLS_ERR_NOMEM;
    }
    __atomic_add_fetch(&ctx->refs, 1, __ATOMIC_RELAXED);
    s->ctx = ctx;
    s->fd = fd;
    s->server = server;
    s->generation = mtls_engine_generation();
    s->times[SMKEX_STEP_OFFER] = now;
    s->deadline_at = now + c->deadline_ms * 1000ull;
    s->grace_from = now;
    s->grace_end_at = now + c->grace_ms * 1000ull;
    *out = s;
    return 0;
}

static int start(struct smkex *s, const char *name)
{
    int rc;

    if (s->ctx->config.policy == MTLS_POLICY_OFF)
        return plain_at_once(s);
    rc = s->server ? smkex_server_begin(s) : smkex_client_begin(s, name);
    return rc == 0 ? enter_engine(s) : rc;
}

static int conn_start(struct smkex **out, struct smkex_ctx *ctx, int fd, bool server,
                      const char *name)
{
    int rc = conn_new(out, ctx, fd, server);

    if (rc == 0)
        rc = start(*out, name);
    if (rc != 0) {
        smkex_free(*out);
        *out = NULL;
    }
    return rc;
}

int smkex_client_new(struct smkex **out, struct smkex_ctx *ctx, int fd, const char *name)
{
    return conn_start(out, ctx, fd, false, name);
}

int smkex_server_new(struct smkex **out, struct smkex_ctx *ctx, int fd)
{
    return conn_start(out, ctx, fd, true, NULL);
}

void smkex_free(struct smkex *s)
{
    if (s == NULL)
        return;
    if (s->outcome == SMKEX_OUTCOME_NONE)
        (void)!smkex_fail(s, MTLS_ERR_ABANDONED);
    smkex_machine_free(s->m);
    smkex_over_free(s);
    mtls_secondary_free(s->paths, s->npaths);
    free(s->evidence);
    pthread_cond_destroy(&s->changed);
    smkex_ctx_unref(s->ctx);
    OPENSSL_cleanse(s, sizeof(*s));
    free(s);
}

int smkex_set_plain_fd(struct smkex *s, int fd)
{
    if (s->phase != SMKEX_PHASE_RECONNECT)
        return MTLS_ERR_ARG;
    s->fd = fd;
    s->phase = SMKEX_PHASE_PLAIN;
    return 0;
}
