/* Concept: the server's end of path 2, first half: connections, their frames, and expiry. Room for
 * connections is path2_room.c's; claims and sessions are in path2_session.c. */
#include "path2_server.h"

#include <stdlib.h>
#include <string.h>

#include "path2_internal.h"

enum { OUT_MAX = 16384 /* unsent bytes of a connection [P2-8] */ };

int mtls_p2s_new(struct mtls_p2s **out, struct mtls_crypto *c, const struct mtls_p2s_config *config,
                 const struct mtls_p2s_events *events, void *arg)
{
    struct mtls_p2s *s = calloc(1, sizeof(*s));
    int rc;

    if (s == NULL)
        return MTLS_ERR_NOMEM;
    rc = mtls_pending_init(&s->pending, c, MTLS_P2S_ENDED_MAX);
    if (rc < 0) {
        free(s);
        return rc;
    }
    s->crypto = c;
    s->config = *config;
    s->events = *events;
    s->arg = arg;
    mtls_list_init(&s->conns);
    mtls_list_init(&s->fresh);
    mtls_list_init(&s->idle);
    mtls_list_init(&s->busy);
    mtls_list_init(&s->wait);
    mtls_list_init(&s->told);
    mtls_list_init(&s->held);
    *out = s;
    return 0;
}

static void free_sessions(struct mtls_join *join)
{
    while (!mtls_list_empty(&join->sessions)) {
        struct mtls_link *l = join->sessions.next;

        mtls_list_remove(l);
        mtls_p2s_session_wipe(MTLS_OWNER(l, struct mtls_p2s_session, in_join));
    }
}

void mtls_p2s_free(struct mtls_p2s *s)
{
    if (s == NULL)
        return;
    while (!mtls_list_empty(&s->conns))
        mtls_p2s_conn_free(MTLS_OWNER(s->conns.next, struct mtls_p2s_conn, all));
    mtls_pending_clear(&s->pending, free_sessions);
    free(s);
}

void mtls_p2s_set_config(struct mtls_p2s *s, const struct mtls_p2s_config *config)
{
    s->config = *config;
}

/* ---- Connections ---- */

int mtls_p2s_conn_new(struct mtls_p2s_conn **out, struct mtls_p2s *s, const struct mtls_addr *peer,
                      void *user, mtls_tstamp now)
{
    struct mtls_p2s_conn *c = calloc(1, sizeof(*c));
    int rc;

    if (c == NULL)
        return MTLS_ERR_NOMEM;
    c->server = s;
    c->user = user;
    mtls_list_init(&c->claims);
    mtls_frame_reader_init(&c->reader, MTLS_ROLE_CLIENT);
    if ((rc = mtls_p2s_room_enter(c, peer, now)) < 0) {
        free(c);
        return rc;
    }
    mtls_list_append(&s->conns, &c->all);
    s->stats.conns++;
    *out = c;
    return 0;
}

void mtls_p2s_conn_free(struct mtls_p2s_conn *c)
{
    if (c == NULL)
        return;
    mtls_p2s_conn_end(c, MTLS_ERR_PATH_CLOSED, 0);
    mtls_list_remove(&c->all);
    mtls_outbuf_clear(&c->out);
    if (c->guest)
        c->server->stats.guests--;
    else
        c->server->stats.conns--;
    free(c);
}

void mtls_p2s_conn_end(struct mtls_p2s_conn *c, int error, mtls_tstamp now)
{
    if (c->err < 0)
        return;
    c->err = error;
    mtls_due_stop(&c->timer);
    mtls_due_stop(&c->hold);
    while (!mtls_list_empty(&c->claims))
        mtls_p2s_claim_end(MTLS_OWNER(c->claims.next, struct mtls_p2s_claim, in_conn), now);
    mtls_p2s_room_leave(c);
    if (error != MTLS_ERR_PATH_CLOSED && error != MTLS_ERR_PATH_TIMEOUT && error != MTLS_ERR_LIMIT)
        c->server->stats.conn_errors++;
}

void mtls_p2s_conn_close(struct mtls_p2s_conn *c, int error, mtls_tstamp now)
{
    struct mtls_p2s *s = c->server;

    if (c->err < 0)
        return;
    mtls_p2s_conn_end(c, error, now);
    if (s->events.close != NULL)
        s->events.close(s->arg, c->user, error);
}

void mtls_p2s_conn_rest(struct mtls_p2s_conn *c, mtls_tstamp now)
{
    if (c->busy || c->guest)
        return;
    mtls_p2s_room_rest(c, c->nclaims == 0 && c->err == 0);
    if (c->nclaims > 0 || c->err < 0)
        mtls_due_stop(&c->timer);
    else
        mtls_due_start(&c->server->idle, &c->timer, now, c->server->config.idle_ttl);
}

int mtls_p2s_conn_send(struct mtls_p2s_conn *c, const uint8_t *data, size_t len)
{
    mtls_due_stop(&c->hold);
    c->prompt = true;
    return mtls_outbuf_add(&c->out, data, len, OUT_MAX);
}

static bool is_held(const struct mtls_p2s_conn *c)
{
    return c->hold.link.next != NULL;
}

/* As mtls_p2s_conn_send(), but it may wait for what will follow it, unless it would keep back
 * something else. */
static int send_with_next(struct mtls_p2s_conn *c, const uint8_t *data, size_t len, mtls_tstamp now)
{
    struct mtls_p2s *s = c->server;

    if (c->prompt)
        return mtls_p2s_conn_send(c, data, len);
    if (!is_held(c))
        mtls_due_start(&s->held, &c->hold, now, s->config.ready_ttl);
    return mtls_outbuf_add(&c->out, data, len, OUT_MAX);
}

void mtls_p2s_conn_tell(struct mtls_p2s_conn *c)
{
    struct mtls_p2s *s = c->server;

    if (s->events.output != NULL)
        s->events.output(s->arg, c->user);
}

void mtls_p2s_conn_fail(struct mtls_p2s_conn *c, uint32_t id, uint8_t reason, mtls_tstamp now)
{
    uint8_t frame[MTLS_FAIL_LEN];
    int rc;

    if (c->err < 0)
        return;
    mtls_frame_fail(frame, id, reason);
    rc = mtls_p2s_conn_send(c, frame, sizeof(frame));
    if (rc < 0)
        mtls_p2s_conn_close(c, rc, now);
    else
        mtls_p2s_conn_tell(c);
}

const uint8_t *mtls_p2s_conn_out(const struct mtls_p2s_conn *c, size_t *len)
{
    if (!is_held(c))
        return mtls_outbuf_get(&c->out, len);
    *len = 0;
    return NULL;
}

void mtls_p2s_conn_speak(struct mtls_p2s_conn *c)
{
    mtls_due_stop(&c->hold);
}

void mtls_p2s_conn_sent(struct mtls_p2s_conn *c, size_t n)
{
    size_t left;

    mtls_outbuf_sent(&c->out, n);
    mtls_outbuf_get(&c->out, &left);
    c->prompt = c->prompt && left > 0;
}

/* ---- Frames ---- */

static struct mtls_p2s_claim *find_claim(struct mtls_p2s_conn *c, uint32_t id)
{
    struct mtls_link *l;

    for (l = c->claims.next; l != &c->claims; l = l->next) {
        struct mtls_p2s_claim *claim = MTLS_OWNER(l, struct mtls_p2s_claim, in_conn);

        if (claim->id == id)
            return claim;
    }
    return NULL;
}

static bool port_is_here(const struct mtls_p2s_config *config, uint16_t port)
{
    for (size_t i = 0; i < config->ntls_ports; i++)
        if (config->tls_ports[i] == port)
            return true;
    return config->ntls_ports == 0;
}

static void count_ready(struct mtls_p2s_stats *stats, enum mtls_ready_status status)
{
    if (status == MTLS_READY_OK)
        stats->ready_ok++;
    else if (status == MTLS_READY_BUSY)
        stats->ready_busy++;
    else
        stats->ready_not_here++;
}

/* READY, whatever the status [RDY-2] [RDY-4]. wait: PROOF is about to follow. */
static int send_ready(struct mtls_p2s_conn *c, const struct mtls_frame *hello,
                      enum mtls_ready_status status, bool wait, uint8_t ready[MTLS_READY_LEN],
                      mtls_tstamp now)
{
    const struct mtls_bytes whole = {hello->raw, hello->raw_len};
    uint8_t nonce[MTLS_NONCE_LEN], echo[MTLS_SHA256_LEN];
    int rc;

    if ((rc = mtls_crypto_random(c->server->crypto, nonce, sizeof(nonce))) < 0)
        return rc;
    if ((rc = mtls_crypto_sha256(c->server->crypto, &whole, 1, echo)) < 0)
        return rc;
    mtls_frame_ready(ready, hello->claim, (uint8_t)status, nonce, echo);
    rc = wait ? send_with_next(c, ready, MTLS_READY_LEN, now)
              : mtls_p2s_conn_send(c, ready, MTLS_READY_LEN);
    if (rc < 0)
        return rc;
    count_ready(&c->server->stats, status);
    return 0;
}

static int take_hello(struct mtls_p2s_conn *c, const struct mtls_frame *f, mtls_tstamp now)
{
    struct mtls_p2s *s = c->server;
    struct mtls_p2s_claim *claim = NULL;
    enum mtls_ready_status status = MTLS_READY_NOT_HERE;
    uint8_t join[MTLS_JOIN_LEN], ready[MTLS_READY_LEN], fail = MTLS_FAIL_UNSPECIFIED;
    bool wait;
    int rc;

    if (f->claim <= c->last_id) /* [P2-3] */
        return MTLS_ERR_FRAME_CLAIM;
    c->last_id = f->claim;
    if ((rc = mtls_crypto_join(s->crypto, f->u.hello.secret, join)) < 0)
        return rc;
    if (port_is_here(&s->config, f->u.hello.port1))
        status = c->busy ? MTLS_READY_BUSY : mtls_p2s_claim_admit(c, f, join, now, &claim, &fail);
    mtls_p2s_conn_rest(c, now);
    wait = claim != NULL && s->config.ready_ttl > 0 &&
           mtls_due_first(&s->held, now) == NULL /* else there is more to do than time */ &&
           mtls_p2s_claim_awaits_keys(claim);
    if ((rc = send_ready(c, f, status, wait, ready, now)) < 0)
        return rc;
    if (c->busy)
        return MTLS_ERR_LIMIT;
    if (claim != NULL) {
        if ((rc = mtls_confirm_p2(s->crypto, f->raw, ready, claim->p2)) < 0)
            return rc;
        return mtls_p2s_claim_prove(claim, now);
    }
    if (status == MTLS_READY_OK) {
        uint8_t frame[MTLS_FAIL_LEN];

        mtls_frame_fail(frame, f->claim, fail);
        return mtls_p2s_conn_send(c, frame, sizeof(frame));
    }
    return 0;
}

static int take_frame(struct mtls_p2s_conn *c, const struct mtls_frame *f, mtls_tstamp now)
{
    struct mtls_p2s_claim *claim;

    if (f->type == MTLS_FRAME_HELLO) /* a guest is one claim, whatever its holder sends */
        return c->guest ? MTLS_ERR_FRAME_TYPE : take_hello(c, f, now);
    claim = find_claim(c, f->claim);
    if (claim == NULL) /* [P2-5]; but one that has ended may have crossed our FAIL [P2-6] */
        return f->claim <= c->last_id ? 0 : MTLS_ERR_FRAME_CLAIM;
    if (f->type == MTLS_FRAME_CONFIRM)
        return mtls_p2s_claim_confirm(claim, f);
    mtls_p2s_claim_end(claim, now); /* FAIL: the reader lets no other type through */
    return 0;
}

static int take_input(struct mtls_p2s_conn *c, const uint8_t *data, size_t len, mtls_tstamp now)
{
    struct mtls_frame f;
    size_t pos = 0;
    int more, rc;

    for (;;) {
        more = mtls_frame_reader_next(&c->reader, data, len, &pos, &f);
        if (c->reader.preface_done && !c->preface_sent) { /* [P2-1] */
            c->preface_sent = true;
            if ((rc = mtls_outbuf_add(&c->out, mtls_preface, MTLS_PREFACE_LEN, OUT_MAX)) < 0)
                return rc;
        }
        if (more <= 0)
            return more;
        if ((rc = take_frame(c, &f, now)) < 0)
            return rc;
        if (c->err < 0) /* a session that ended in the call-back took the connection with it */
            return c->err;
    }
}

int mtls_p2s_conn_input(struct mtls_p2s_conn *c, const uint8_t *data, size_t len, mtls_tstamp now)
{
    size_t before, after;
    int rc;

    if (c->err < 0)
        return c->err;
    mtls_outbuf_get(&c->out, &before);
    rc = take_input(c, data, len, now);
    if (rc < 0) {
        mtls_p2s_conn_end(c, rc, now);
        return rc;
    }
    mtls_outbuf_get(&c->out, &after);
    if (after > before && !is_held(c))
        mtls_p2s_conn_tell(c);
    return 0;
}

/* ---- Time ---- */

mtls_tstamp mtls_p2s_deadline(const struct mtls_p2s *s)
{
    const struct mtls_link *queues[] = {&s->fresh, &s->idle, &s->busy,         &s->wait,
                                        &s->told,  &s->held, &s->pending.ended};
    mtls_tstamp first = MTLS_TSTAMP_NEVER;

    for (size_t i = 0; i < sizeof(queues) / sizeof(queues[0]); i++) {
        mtls_tstamp at = mtls_due_next(queues[i]);

        if (at < first)
            first = at;
    }
    return first;
}

static void close_due(struct mtls_link *queue, mtls_tstamp now)
{
    struct mtls_due *t;

    while ((t = mtls_due_first(queue, now)) != NULL)
        mtls_p2s_conn_close(MTLS_OWNER(t, struct mtls_p2s_conn, timer), MTLS_ERR_PATH_TIMEOUT, now);
}

static void end_due(struct mtls_link *queue, mtls_tstamp now)
{
    struct mtls_due *t;

    while ((t = mtls_due_first(queue, now)) != NULL) {
        struct mtls_p2s_claim *claim = MTLS_OWNER(t, struct mtls_p2s_claim, wait);
        struct mtls_p2s_conn *c = claim->conn;
        uint32_t id = claim->id;

        mtls_p2s_claim_end(claim, now);
        mtls_p2s_conn_fail(c, id, MTLS_FAIL_NO_SESSION, now);
    }
}

static void speak_due(struct mtls_p2s *s, mtls_tstamp now)
{
    struct mtls_due *t;

    while ((t = mtls_due_first(&s->held, now)) != NULL) {
        struct mtls_p2s_conn *c = MTLS_OWNER(t, struct mtls_p2s_conn, hold);

        mtls_p2s_conn_speak(c);
        mtls_p2s_conn_tell(c);
    }
}

void mtls_p2s_expire(struct mtls_p2s *s, mtls_tstamp now)
{
    speak_due(s, now);
    end_due(&s->wait, now);
    end_due(&s->told, now);
    close_due(&s->fresh, now);
    close_due(&s->idle, now);
    close_due(&s->busy, now);
    mtls_pending_expire(&s->pending, now);
}

void mtls_p2s_stats(const struct mtls_p2s *s, struct mtls_p2s_stats *out)
{
    *out = s->stats;
    out->waiting_claims = s->pending.waiting;
    out->ended_joins = s->pending.nended;
}
