/* Concept: the pool of secondary connections and the claims over them (see path2_pool.h). */
#include "path2_pool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "engine.h"
#include "path2_conn.h"
#include "route.h"

enum { LIFETIME_US = 600 * 1000000 /* [TIM] of a kept connection */ };

struct mtls_path2_claim {
    struct mtls_path2_claim *prev, *next; /* on conn */
    struct mtls_path2_conn *conn;         /* NULL: it ended, error stands */
    struct mtls_p2c_claim *wire;          /* NULL: not open on conn */
    struct mtls_path2_request req;        /* spec, name and stored point into the members below */
    struct mtls_path_spec spec;
    char name[MTLS_HOST_MAX + 1];
    struct mtls_addr *stored;
    uint8_t secret[MTLS_SECRET_LEN];
    mtls_path2_claim_fn *fn;
    void *arg;
    bool on_kept; /* began on a kept connection: may be moved once */
    int error;
    bool ended;
    struct mtls_path_status final; /* once ended */
    struct mtls_path2_times times;
};

static struct mtls_path2_conn *conns; /* newest first */
static size_t nconns;

static void unlink_conn(struct mtls_path2_conn *c)
{
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        conns = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    nconns--;
}

static void claim_orphan(struct mtls_path2_claim *claim);

/* Claims whose exchange had ended before (CONFIRM was sent) are not told by the connection's end.
 */
void mtls_pool_conn_gone(struct mtls_path2_conn *c)
{
    while (c->claims != NULL)
        claim_orphan(c->claims);
    unlink_conn(c);
    mtls_path2_conn_free(c);
}

static bool matches(const struct mtls_path2_conn *c, const struct mtls_path2_request *req)
{
    return c->port1 == req->port1 && strcmp(c->name, req->name) == 0 &&
           strcmp(c->spec.text, req->spec->text) == 0;
}

/* Rules 5 and 6 run again for each session; a connection whose route or address changed since is
 * not used. */
static bool route_unchanged(struct mtls_path2_conn *c)
{
    struct mtls_path_facts then;
    int err;

    if (!c->noted) {
        mtls_path2_conn_note(c);
        return c->facts_then.known;
    }
    then = c->facts_then;
    /* One that was announced for this very session has just told all but the route. */
    err = c->used ? mtls_route_of_socket(c->fd, &c->facts_then)
                  : mtls_route_again(c->fd, &c->facts_then);
    return err == 0 && then.known && c->facts_then.ifindex == then.ifindex &&
           memcmp(&c->facts_then.gateway, &then.gateway, sizeof(then.gateway)) == 0;
}

static struct mtls_path2_conn *find_kept(const struct mtls_path2_request *req, mtls_tstamp now)
{
    struct mtls_path2_conn *c;

    for (c = conns; c != NULL; c = c->next) {
        /* One that was only announced serves its first session even where reuse=off. */
        if (((!req->reuse || !c->reuse) && c->used) || c->state > CONN_OPEN || !matches(c, req) ||
            now - c->made_at > LIFETIME_US ||
            mtls_p2c_open_claims(c->p2c) >= MTLS_P2C_CLAIMS_MAX / 8)
            continue;
        if (c->state != CONN_OPEN || route_unchanged(c))
            return c;
    }
    return NULL;
}

bool mtls_pool_conn_announced(const struct mtls_path2_conn *c)
{
    const struct mtls_path2_claim *claim = c->claims;

    while (claim != NULL && claim->fn != NULL)
        claim = claim->next;
    return claim != NULL;
}

void mtls_path2_claim_note(struct mtls_path2_claim *claim)
{
    if (claim->conn != NULL && claim->conn->state == CONN_OPEN && !claim->conn->noted)
        mtls_path2_conn_note(claim->conn);
}

static struct mtls_path2_claim *claim_of(struct mtls_p2c_claim *wire)
{
    return wire->user;
}

static void note_times(struct mtls_path2_claim *claim)
{
    if (claim->conn != NULL) {
        claim->times.connected_at = claim->conn->connected_at;
        if (claim->wire != NULL && claim->conn->flushed_at != 0)
            claim->times.hello_at = claim->wire->hello_at > claim->conn->flushed_at
                                        ? claim->wire->hello_at
                                        : claim->conn->flushed_at;
    }
    if (claim->wire != NULL) {
        claim->times.ready_at = claim->wire->ready_at;
        claim->times.proof_at = claim->wire->proof_at;
    }
}

static int attach(struct mtls_path2_claim *claim, struct mtls_path2_conn *conn, mtls_tstamp now)
{
    int err = mtls_p2c_hello(conn->p2c, claim->req.path, claim->req.port1, claim->secret, claim,
                             &claim->wire, now);

    if (err == 0) {
        claim->prev = NULL;
        claim->next = conn->claims;
        if (claim->next != NULL)
            claim->next->prev = claim;
        conn->claims = claim;
        claim->conn = conn;
        conn->used = true;
    }
    return err;
}

static void changed(void *arg, struct mtls_p2c_claim *wire);

static size_t conns_max(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur / 4 >= MTLS_POOL_CONNS_MAX)
        return MTLS_POOL_CONNS_MAX;
    return files.rlim_cur >= 4 ? (size_t)files.rlim_cur / 4 : 1;
}

/* Closes the oldest connection that nobody waits for. */
static bool make_room(mtls_tstamp now)
{
    struct mtls_path2_conn *c, *oldest = NULL;
    size_t pending;

    for (c = conns; c != NULL; c = c->next) {
        (void)mtls_p2c_out(c->p2c, &pending);
        if (c->state != CONN_CLOSED && !c->in_input && !c->starting &&
            mtls_p2c_open_claims(c->p2c) == 0 && (pending == 0 || c->claims == NULL))
            oldest = c;
    }
    if (oldest == NULL)
        return false;
    mtls_path2_conn_close(oldest, MTLS_ERR_PATH_CLOSED, now);
    mtls_pool_conn_gone(oldest);
    return true;
}

static int conn_new(struct mtls_path2_conn **out, const struct mtls_path2_request *req)
{
    struct mtls_crypto *crypto;
    struct mtls_path2_conn *c;
    int err = mtls_engine_crypto(&crypto);

    if (err != 0)
        return err;
    if (nconns > 0 && nconns >= conns_max() && !make_room(mtls_now()))
        return MTLS_ERR_LIMIT;
    c = calloc(1, sizeof(*c));
    if (c == NULL)
        return MTLS_ERR_NOMEM;
    c->fd = -1;
    c->spec = *req->spec;
    memcpy(c->name, req->name, strlen(req->name) + 1);
    c->port1 = req->port1;
    c->tfo = req->tfo;
    c->reuse = req->reuse;
    err = mtls_p2c_new(&c->p2c, crypto, changed, c);
    if (err != 0) {
        free(c);
        return err;
    }
    c->next = conns;
    if (conns != NULL)
        conns->prev = c;
    conns = c;
    nconns++;
    *out = c;
    return 0;
}

static void detach(struct mtls_path2_claim *claim)
{
    note_times(claim);
    if (claim->wire != NULL)
        mtls_p2c_release(claim->conn->p2c, claim->wire);
    if (claim->prev != NULL)
        claim->prev->next = claim->next;
    else
        claim->conn->claims = claim->next;
    if (claim->next != NULL)
        claim->next->prev = claim->prev;
    claim->wire = NULL;
    claim->conn = NULL;
}

/* HELLO is queued before the connect, so that it can travel in the SYN. */
static int begin_fresh(struct mtls_path2_claim *claim, mtls_tstamp now)
{
    struct mtls_path2_conn *c;
    int err = conn_new(&c, &claim->req);

    if (err != 0)
        return err;
    err = attach(claim, c, now);
    if (err != 0) {
        mtls_pool_conn_gone(c);
        return err;
    }
    mtls_path2_conn_start(c, &claim->req, now);
    if (c->state == CONN_CLOSED) {
        claim->error = c->error;
        detach(claim);
        mtls_pool_conn_gone(c);
    }
    return 0;
}

/* A kept connection may have died unnoticed: before READY that says nothing about the server. */
static bool move_to_fresh(struct mtls_path2_claim *claim, mtls_tstamp now)
{
    int error = claim->wire->error;

    if (!claim->on_kept || claim->wire->ready_seen ||
        (error != MTLS_ERR_PATH_CLOSED && error != MTLS_ERR_PATH_TIMEOUT &&
         error != MTLS_ERR_PATH_UNREACHABLE))
        return false;
    claim->on_kept = false;
    detach(claim);
    claim->error = begin_fresh(claim, now);
    return claim->error == 0 && claim->conn != NULL;
}

static void live_status(const struct mtls_path2_claim *claim, struct mtls_path_status *out);

static void claim_orphan(struct mtls_path2_claim *claim)
{
    live_status(claim, &claim->final);
    claim->ended = true;
    detach(claim);
}

static void changed(void *arg, struct mtls_p2c_claim *wire)
{
    struct mtls_path2_conn *conn = arg;
    struct mtls_path2_claim *claim = claim_of(wire);
    mtls_tstamp now = mtls_now();

    if (conn->starting || claim == NULL || claim->wire != wire)
        return;
    note_times(claim);
    if (wire->state == MTLS_CLAIM_ENDED) {
        if (move_to_fresh(claim, now))
            return;
        if (claim->wire != NULL) /* its connection may go at any time now */
            claim_orphan(claim);
    }
    if (claim->fn != NULL)
        claim->fn(claim->arg, claim, now);
}

static int claim_begin(struct mtls_path2_claim *claim, mtls_tstamp now)
{
    struct mtls_path2_conn *kept = find_kept(&claim->req, now);

    if (kept != NULL && attach(claim, kept, now) == 0) {
        claim->on_kept = kept->state == CONN_OPEN && kept->proven;
        mtls_path2_conn_flush(kept, now);
        mtls_path2_conn_idle(kept, now);
        return 0;
    }
    return begin_fresh(claim, now);
}

static int request_copy(struct mtls_path2_claim *claim, const struct mtls_path2_request *req)
{
    size_t n = req->nstored > MTLS_POOL_ADDRS_MAX ? MTLS_POOL_ADDRS_MAX : req->nstored;

    claim->req = *req;
    claim->spec = *req->spec;
    claim->req.spec = &claim->spec;
    if (strlen(req->name) > MTLS_HOST_MAX)
        return MTLS_ERR_ARG;
    memcpy(claim->name, req->name, strlen(req->name) + 1);
    claim->req.name = claim->name;
    memcpy(claim->secret, req->secret, sizeof(claim->secret));
    claim->req.secret = claim->secret;
    claim->req.nstored = n;
    if (n > 0) {
        claim->stored = malloc(n * sizeof(*claim->stored));
        if (claim->stored == NULL)
            return MTLS_ERR_NOMEM;
        memcpy(claim->stored, req->stored, n * sizeof(*claim->stored));
    }
    claim->req.stored = claim->stored;
    return 0;
}

int mtls_path2_claim_new(struct mtls_path2_claim **out, const struct mtls_path2_request *req,
                         mtls_path2_claim_fn *fn, void *arg, mtls_tstamp now)
{
    struct mtls_path2_claim *claim = calloc(1, sizeof(*claim));
    int err = claim == NULL ? MTLS_ERR_NOMEM : request_copy(claim, req);

    if (err == 0) {
        claim->fn = fn;
        claim->arg = arg;
        err = claim_begin(claim, now);
    }
    if (err != 0) {
        mtls_path2_claim_free(claim);
        return err;
    }
    *out = claim;
    return 0;
}

void mtls_path2_claim_set_fn(struct mtls_path2_claim *claim, mtls_path2_claim_fn *fn, void *arg)
{
    claim->fn = fn;
    claim->arg = arg;
}

/* An unshared connection goes with its claim, once what it has to say is out. */
static void conn_unused(struct mtls_path2_conn *c)
{
    size_t pending;

    mtls_path2_conn_idle(c, mtls_now());
    if (c->in_input || mtls_p2c_open_claims(c->p2c) > 0)
        return;
    (void)mtls_p2c_out(c->p2c, &pending);
    if (c->state == CONN_OPEN && !c->reuse && pending == 0)
        mtls_path2_conn_linger(c, mtls_now());
    if (c->state < CONN_OPEN || c->state == CONN_CLOSED) {
        mtls_path2_conn_close(c, MTLS_ERR_PATH_CLOSED, mtls_now());
        mtls_pool_conn_gone(c);
    }
}

void mtls_path2_claim_free(struct mtls_path2_claim *claim)
{
    struct mtls_path2_conn *conn;

    if (claim == NULL)
        return;
    conn = claim->conn;
    if (conn != NULL) {
        detach(claim);
        conn_unused(conn);
    }
    OPENSSL_cleanse(claim->secret, sizeof(claim->secret));
    free(claim->stored);
    free(claim);
}

static void live_status(const struct mtls_path2_claim *claim, struct mtls_path_status *out)
{
    static const enum mtls_path_state state_of[] = {
        [MTLS_CLAIM_HELLO] = MTLS_PATH_STARTING,
        [MTLS_CLAIM_READY] = MTLS_PATH_READY,
        [MTLS_CLAIM_PROOF] = MTLS_PATH_PROOF,
        [MTLS_CLAIM_ENDED] = MTLS_PATH_FAILED,
    };
    const struct mtls_p2c_claim *w = claim->wire;

    memset(out, 0, sizeof(*out));
    out->state = state_of[w->state];
    out->ready_seen = w->ready_seen;
    out->not_here = w->state == MTLS_CLAIM_ENDED && w->error == MTLS_ERR_PATH_NOT_HERE;
    out->error = w->error;
    if (claim->conn->connected_at > claim->conn->made_at)
        out->rtt_us = (uint32_t)(claim->conn->connected_at - claim->conn->made_at);
}

void mtls_path2_claim_status(const struct mtls_path2_claim *claim, struct mtls_path_status *out)
{
    if (claim->wire != NULL) {
        live_status(claim, out);
    } else if (claim->ended) {
        *out = claim->final;
    } else {
        memset(out, 0, sizeof(*out));
        out->state = MTLS_PATH_FAILED;
        out->error = claim->error != 0 ? claim->error : MTLS_ERR_PATH_CLOSED;
    }
}

const struct mtls_p2c_claim *mtls_path2_claim_wire(const struct mtls_path2_claim *claim)
{
    const struct mtls_p2c_claim *w = claim->wire;

    return w != NULL && (w->state == MTLS_CLAIM_READY || w->state == MTLS_CLAIM_PROOF) ? w : NULL;
}

void mtls_path2_claim_facts(const struct mtls_path2_claim *claim, struct mtls_path_facts *facts)
{
    memset(facts, 0, sizeof(*facts));
    if (claim->conn != NULL)
        mtls_path2_conn_facts(claim->conn, facts);
}

const struct mtls_path_spec *mtls_path2_claim_spec(const struct mtls_path2_claim *claim)
{
    return &claim->spec;
}

void mtls_path2_claim_times(const struct mtls_path2_claim *claim, struct mtls_path2_times *out)
{
    *out = claim->times;
}

int mtls_path2_claim_confirm(struct mtls_path2_claim *claim, uint8_t slot, uint8_t k, uint8_t n,
                             const uint8_t tag[MTLS_TAG_LEN])
{
    int err;

    if (claim->wire == NULL)
        return MTLS_ERR_PATH_CLOSED;
    err = mtls_p2c_confirm(claim->conn->p2c, claim->wire, slot, k, n, tag);
    if (err == 0)
        mtls_path2_conn_last_word(claim->conn, mtls_now());
    return err;
}

void mtls_path2_claim_fail(struct mtls_path2_claim *claim, uint8_t reason)
{
    if (claim->wire == NULL)
        return;
    mtls_p2c_fail(claim->conn->p2c, claim->wire, reason);
    mtls_path2_conn_flush(claim->conn, mtls_now());
}

int mtls_path2_warm(const struct mtls_path2_request *req, mtls_tstamp now)
{
    struct mtls_path2_conn *c;
    int err;

    if (find_kept(req, now) != NULL)
        return 0;
    err = conn_new(&c, req);
    if (err != 0)
        return err;
    mtls_path2_conn_start(c, req, now);
    if (c->state != CONN_CLOSED)
        return 0;
    err = c->error;
    mtls_pool_conn_gone(c);
    return err;
}

bool mtls_path2_is_warm(const struct mtls_path2_request *req, mtls_tstamp now)
{
    const struct mtls_path2_conn *c = find_kept(req, now);

    return c != NULL && c->state == CONN_OPEN;
}

void mtls_pool_fork_child(void)
{
    struct mtls_path2_conn *c;

    for (c = conns; c != NULL; c = c->next) {
        if (c->fd >= 0)
            close(c->fd);
        if (c->resolve != NULL)
            mtls_resolve_forget(c->resolve);
    }
    conns = NULL; /* the claims' owners belong to the parent and are never used here */
    nconns = 0;
}
