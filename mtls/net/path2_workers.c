/* Concept: path 2 of several processes (see path2_workers.h). */
#include "path2_workers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"
#include "path2_stand.h"
#include "peers.h"
#include "share.h"
#include "share_ends.h"

enum { UNREACHABLE_MAX = 64, HEIRS_MAX = 64 };

static struct {
    struct mtls_reactor *reactor; /* under which this process is a member, or cannot be one */
    mtls_tstamp ended_ttl;
    struct mtls_hash known; /* connections that others know, and guests */
    uint64_t last_serial;
    bool news; /* a claim has come for whose session somebody else is */
    struct mtls_timer *later;
    mtls_member unreachable[UNREACHABLE_MAX];
    unsigned nunreachable;
    struct mtls_workers_stats stats;
} workers;

/* ---- Who knows what ---- */

static void put(uint8_t *at, uint64_t n, unsigned bytes)
{
    while (bytes-- > 0) {
        at[bytes] = (uint8_t)n;
        n >>= 8;
    }
}

/* holder 0: a connection of this process. */
static void key_of(uint8_t key[MTLS_HASH_KEY_LEN], mtls_member holder, uint64_t serial, uint32_t id)
{
    put(key, holder, 6);
    put(key + 6, serial, 6);
    put(key + 12, holder != 0 ? id : 0, 4);
}

static struct conn *find(mtls_member holder, uint64_t serial, uint32_t id)
{
    uint8_t key[MTLS_HASH_KEY_LEN];
    struct mtls_hash_node *node;

    key_of(key, holder, serial, id);
    node = mtls_hash_find(&workers.known, key);
    return node != NULL ? MTLS_OWNER(node, struct conn, node) : NULL;
}

static int make_known(struct conn *c)
{
    int err = 0;

    if (c->hashed)
        return 0;
    if (c->holder == 0)
        c->serial = ++workers.last_serial;
    key_of(c->node.key, c->holder, c->serial, c->id);
    err = mtls_hash_insert(&workers.known, &c->node);
    c->hashed = err == 0;
    return err;
}

static void note_unreachable(mtls_member m);

void mtls_workers_conn_freed(struct conn *c)
{
    struct mtls_handover m = {.type = MTLS_HANDOVER_DONE};
    struct mtls_dir_proc p;
    struct mtls_dir *d;

    if (c->hashed)
        mtls_hash_remove(&workers.known, &c->node);
    c->hashed = false;
    if (c->holder == 0 || c->unasked || (d = mtls_share_lock()) == NULL)
        return;
    m.serial = c->serial;
    m.id = c->id;
    m.close = c->fault;
    if (!mtls_dir_proc(d, c->holder, &p))
        p.self = 0;
    mtls_share_unlock();
    if (p.self != 0 && mtls_peers_send(&p, &m, -1) == MTLS_ERR_IO)
        note_unreachable(p.self); /* the link has gone, and with it the word of its end */
}

/* ---- Sending ---- */

static void on_later(void *arg, mtls_tstamp now);

/* Not now: whoever sends may be in the middle of something. */
static void note_unreachable(mtls_member m)
{
    if (workers.later == NULL || workers.nunreachable == UNREACHABLE_MAX)
        return;
    workers.unreachable[workers.nunreachable++] = m;
    mtls_timer_set(workers.later, mtls_now());
}

static int tell(mtls_member to, const struct mtls_handover *m)
{
    struct mtls_dir *d = mtls_share_lock();
    struct mtls_dir_proc p;
    bool there;
    int err;

    if (d == NULL)
        return MTLS_ERR_IO;
    there = mtls_dir_proc(d, to, &p);
    mtls_share_unlock();
    err = there ? mtls_peers_send(&p, m, -1) : MTLS_ERR_IO;
    if (err == MTLS_ERR_IO)
        note_unreachable(to);
    return err;
}

/* The others in list, each once. */
static unsigned others_in(const mtls_member list[MTLS_SLOTS_MAX], mtls_member out[MTLS_SLOTS_MAX])
{
    unsigned i, j, n = 0;

    for (i = 0; i < MTLS_SLOTS_MAX; i++) {
        for (j = 0; j < n && out[j] != list[i]; j++)
            ;
        if (j == n && list[i] != 0 && list[i] != mtls_share_self())
            out[n++] = list[i];
    }
    return n;
}

/* ---- What core/path2_shared asks ---- */

static int session_add(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now, uint8_t *slot)
{
    struct mtls_handover m = {.type = MTLS_HANDOVER_WANT};
    struct mtls_dir *d = mtls_share_lock();
    mtls_member holders[MTLS_SLOTS_MAX];
    struct mtls_dir_view view;
    unsigned i, n;
    int err;

    if (d == NULL)
        return MTLS_ERR_IO;
    err = mtls_dir_session_add(d, mtls_share_self(), join, now, slot, &view);
    mtls_stand_serves(d, now);
    mtls_share_unlock();
    if (err != 0)
        return err;
    mtls_ends_begun(now);
    memcpy(m.join, join, MTLS_JOIN_LEN);
    n = others_in(view.holders, holders);
    for (i = 0; i < n; i++)
        workers.stats.wanted += tell(holders[i], &m) == 0;
    return 0;
}

static void session_end(void *arg, const uint8_t join[MTLS_JOIN_LEN], uint8_t slot, mtls_tstamp now)
{
    mtls_ends_session(join, slot, now);
}

static int claim_add(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now)
{
    struct mtls_dir *d = mtls_share_lock();
    mtls_member owners[MTLS_SLOTS_MAX];
    struct mtls_dir_view view;
    int err;

    if (d == NULL)
        return MTLS_ERR_NOMEM; /* busy */
    err = mtls_dir_claim_add(d, mtls_share_self(), join, now, &view);
    mtls_share_unlock();
    if (err != 0)
        return err;
    mtls_ends_begun(now);
    workers.news = workers.news || others_in(view.owners, owners) > 0;
    return 0;
}

static void claim_end(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now)
{
    mtls_ends_claim(join, now);
}

static void has(void *arg, const uint8_t join[MTLS_JOIN_LEN], uint8_t *slots, uint8_t *nclaims)
{
    mtls_p2s_has(mtls_conns_p2s(), join, slots, nclaims);
}

static void look(const uint8_t join[MTLS_JOIN_LEN], struct mtls_dir_view *view)
{
    struct mtls_dir *d = mtls_share_lock();

    memset(view, 0, sizeof(*view));
    if (d == NULL)
        return;
    mtls_dir_look(d, join, view);
    mtls_share_unlock();
}

static unsigned sessions(void *arg, const uint8_t join[MTLS_JOIN_LEN], mtls_member besides)
{
    struct mtls_dir_view view;
    unsigned i, n = 0;

    look(join, &view);
    for (i = 0; i < MTLS_SLOTS_MAX; i++)
        n += view.owners[i] != 0 && view.owners[i] != besides;
    return n;
}

static void to_owner(void *arg, void *conn_user, mtls_member owner, uint32_t id,
                     const uint8_t *frame, size_t len)
{
    const struct conn *c = conn_user;
    struct mtls_handover m = {
        .type = MTLS_HANDOVER_TO_OWNER, .serial = c->serial, .id = id, .bytes = frame, .len = len};

    (void)!tell(owner, &m);
}

static void gone(void *arg, void *conn_user, mtls_member owner, uint32_t id)
{
    const struct conn *c = conn_user;
    struct mtls_handover m = {.type = MTLS_HANDOVER_GONE, .serial = c->serial, .id = id};

    (void)!tell(owner, &m);
}

static void done(void *arg, void *guest_user)
{
    mtls_conn_close(guest_user);
}

static const struct mtls_p2s_shared shared = {session_add, session_end, claim_add, claim_end,
                                              sessions,    to_owner,    gone,      done};

/* ---- The holder ---- */

/* With the lock held until it is on its way: whoever leaves has said so before it looks for the
 * last time. */
static bool move(struct conn *c, mtls_member to)
{
    static struct mtls_handover m; /* large; engine lock */
    struct mtls_dir_proc p;
    struct mtls_dir *d;
    int err = MTLS_ERR_IO;
    unsigned i;

    memset(&m, 0, sizeof(m));
    m.type = MTLS_HANDOVER_CONN;
    if (c->fd < 0 || !mtls_p2s_conn_export(c->p2s, &m.conn) || (d = mtls_share_lock()) == NULL)
        return false;
    if (mtls_dir_proc(d, to, &p) && p.leaving == 0 &&
        (err = mtls_peers_send(&p, &m, c->fd)) == MTLS_ERR_IO)
        note_unreachable(to);
    for (i = 0; err == 0 && i < m.conn.nclaims; i++)
        mtls_dir_claim_move(d, mtls_share_self(), to, m.conn.claims[i].join, mtls_now());
    mtls_share_unlock();
    if (err != 0)
        return false;
    workers.stats.moved_out++;
    mtls_p2s_conn_moved(c->p2s);
    c->p2s = NULL;
    mtls_conn_free(c);
    return true;
}

static void tell_owner(struct conn *c, const struct mtls_claim_state *claim, mtls_member owner,
                       const struct mtls_dir_view *view, mtls_tstamp now)
{
    struct mtls_handover m = {
        .type = MTLS_HANDOVER_CLAIM, .claim = *claim, .local = c->local, .peer = c->peer};
    uint8_t slots = 0;
    unsigned i;

    for (i = 0; i < MTLS_SLOTS_MAX; i++)
        slots |= (uint8_t)((view->owners[i] == owner) << i);
    if (make_known(c) != 0 || !mtls_p2s_claim_tell(c->p2s, claim->id, owner, slots, now))
        return;
    m.serial = c->serial;
    if (tell(owner, &m) == 0)
        workers.stats.told++;
    else
        mtls_p2s_claim_done(c->p2s, claim->id, owner, false, now);
}

static bool has_one_claim(const struct conn *c)
{
    struct mtls_claim_state claim;
    uint32_t id = 0;

    return mtls_p2s_conn_next_claim(c->p2s, &id, &claim) &&
           !mtls_p2s_conn_next_claim(c->p2s, &id, &claim);
}

static void settle(void *arg, void *conn_user)
{
    mtls_tstamp now = *(const mtls_tstamp *)arg;
    struct mtls_claim_state claim;
    struct conn *c = conn_user;
    bool one = has_one_claim(c);
    uint32_t id = 0;

    while (!c->closing && mtls_p2s_conn_next_claim(c->p2s, &id, &claim)) {
        mtls_member owners[MTLS_SLOTS_MAX];
        struct mtls_dir_view view;
        unsigned i, n;

        look(claim.join, &view);
        n = others_in(view.owners, owners);
        if (one && n == 1 && sessions(NULL, claim.join, owners[0]) == 0 && move(c, owners[0]))
            return;
        for (i = 0; i < n; i++)
            tell_owner(c, &claim, owners[i], &view, now);
    }
}

void mtls_workers_settle(struct conn *c, mtls_tstamp now)
{
    if (!workers.news)
        return;
    workers.news = false;
    settle(&now, c);
}

/* ---- The owner ---- */

static void guest_new(mtls_member from, const struct mtls_handover *m, mtls_tstamp now)
{
    struct mtls_handover no = {.type = MTLS_HANDOVER_DONE, .serial = m->serial, .id = m->claim.id};
    struct conn *c = calloc(1, sizeof(*c));
    int err = c == NULL ? MTLS_ERR_NOMEM : 0;

    if (err == 0) {
        c->fd = -1;
        c->holder = from;
        c->serial = m->serial;
        c->id = m->claim.id;
        c->local = m->local;
        c->peer = m->peer;
        err = find(from, c->serial, c->id) != NULL ? MTLS_ERR_FRAME_REPEATED : make_known(c);
    }
    if (err == 0) {
        c->in_event = true;
        err = mtls_p2s_guest_new(&c->p2s, mtls_conns_p2s(), &m->claim, c, now);
    }
    if (err != 0) {
        if (c != NULL && c->hashed)
            mtls_hash_remove(&workers.known, &c->node);
        free(c);
        (void)!tell(from, &no);
        return;
    }
    workers.stats.guests++;
    mtls_conn_add(c);
    mtls_conn_flush(c);
    c->in_event = false;
    if (c->closing)
        mtls_conn_free(c);
}

static void guest_input(struct conn *c, const uint8_t *data, size_t len, mtls_tstamp now)
{
    c->in_event = true;
    if (mtls_p2s_conn_input(c->p2s, data, len, now) != 0)
        c->fault = c->closing = true;
    mtls_conn_flush(c);
    c->in_event = false;
    if (c->closing)
        mtls_conn_free(c);
}

void mtls_workers_guest_flush(struct conn *c)
{
    struct mtls_handover m = {.type = MTLS_HANDOVER_TO_HOLDER, .serial = c->serial, .id = c->id};

    while ((m.bytes = mtls_p2s_conn_out(c->p2s, &m.len)) != NULL && m.len > 0) {
        if (m.len > MTLS_HANDOVER_BYTES_MAX)
            m.len = MTLS_HANDOVER_BYTES_MAX;
        if (!c->unasked)
            (void)!tell(c->holder, &m);
        mtls_p2s_conn_sent(c->p2s, m.len);
    }
}

/* ---- Messages ---- */

static void conn_taken(const struct mtls_handover *m, int fd, mtls_tstamp now)
{
    struct conn *c;
    unsigned i;

    if (fd < 0 || mtls_conn_adopt(fd, &m->conn, &c, now) != 0) { /* no descriptor left for it */
        for (i = 0; i < m->conn.nclaims; i++)
            claim_end(NULL, m->conn.claims[i].join, now);
        return;
    }
    workers.stats.moved_in++;
    mtls_ends_begun(now);
    settle(&now, c);
}

static void message(mtls_member from, const struct mtls_handover *m, int fd, mtls_tstamp now)
{
    struct conn *c;

    if (m->type == MTLS_HANDOVER_CONN) {
        conn_taken(m, fd, now);
        fd = -1;
    } else if (m->type == MTLS_HANDOVER_CLAIM) {
        guest_new(from, m, now);
    } else if (m->type == MTLS_HANDOVER_WANT) {
        mtls_p2s_each_holder(mtls_conns_p2s(), m->join, now, settle, &now);
    } else if (m->type == MTLS_HANDOVER_TO_OWNER || m->type == MTLS_HANDOVER_GONE) {
        c = find(from, m->serial, m->id);
        if (c != NULL && m->type == MTLS_HANDOVER_TO_OWNER) {
            guest_input(c, m->bytes, m->len, now);
        } else if (c != NULL) {
            c->unasked = true;
            mtls_conn_free(c);
        }
    } else if ((c = find(0, m->serial, 0)) != NULL && c->p2s != NULL) {
        if (m->type == MTLS_HANDOVER_DONE)
            mtls_p2s_claim_done(c->p2s, m->id, from, m->close, now);
        else if (m->type == MTLS_HANDOVER_TO_HOLDER)
            (void)!mtls_p2s_deliver(c->p2s, m->id, from, m->bytes, m->len, now);
    }
    if (fd >= 0)
        close(fd);
    mtls_conns_arm();
}

static struct conn *guest_of(mtls_member holder)
{
    struct conn *c = mtls_conns_first();

    while (c != NULL && c->holder != holder)
        c = c->next;
    return c;
}

static void lost(mtls_member peer, mtls_tstamp now)
{
    struct mtls_dir_proc p;
    struct mtls_dir *d;
    struct conn *c;
    bool there = false;

    while ((c = guest_of(peer)) != NULL) {
        c->unasked = true;
        mtls_conn_free(c);
    }
    mtls_p2s_owner_lost(mtls_conns_p2s(), peer, now);
    if ((d = mtls_share_lock()) != NULL) {
        there = mtls_dir_proc(d, peer, &p);
        mtls_share_unlock();
    }
    if (there && !mtls_peers_probe(&p) && (d = mtls_share_lock()) != NULL) {
        mtls_dir_remove(d, peer, now, workers.ended_ttl);
        mtls_share_unlock();
        workers.stats.lost++;
    }
    mtls_stand_lost(peer, now);
    mtls_conns_accept(now);
    mtls_conns_arm();
}

static void on_later(void *arg, mtls_tstamp now)
{
    while (workers.nunreachable > 0) {
        mtls_member m = workers.unreachable[--workers.nunreachable];

        if (!mtls_peers_hear(m, now))
            lost(m, now);
    }
}

/* ---- Life ---- */

int mtls_workers_open(const struct mtls_config *config)
{
    struct mtls_crypto *crypto;
    int err = mtls_engine_crypto(&crypto);

    mtls_stand_open(config);
    return err == 0 ? mtls_share_open(config->share, config->max_pending, crypto) : err;
}

void mtls_workers_enter(struct mtls_reactor *r, struct mtls_p2s *p2s, mtls_tstamp ended_ttl)
{
    uint8_t name[MTLS_DIR_NAME_LEN];
    struct mtls_crypto *crypto;

    if (!mtls_share_is_open() || workers.reactor == r)
        return;
    mtls_timer_free(workers.later);
    workers.later = NULL;
    mtls_stand_reset();
    workers.reactor = r;
    workers.ended_ttl = ended_ttl;
    if (mtls_engine_crypto(&crypto) != 0 || mtls_timer_new(&workers.later, r, on_later, NULL) != 0)
        return;
    if (workers.known.slots == NULL &&
        mtls_crypto_random(crypto, (uint8_t *)workers.known.seed, sizeof(workers.known.seed)) != 0)
        return;
    if (mtls_ends_open(r, ended_ttl, has, lost) != 0 ||
        mtls_peers_open(r, crypto, name, message, lost) != 0)
        return;
    if (mtls_share_enter(name, mtls_peers_probe, mtls_now(), ended_ttl) != 0)
        mtls_peers_close();
    else
        mtls_p2s_set_shared(p2s, &shared, NULL);
}

static mtls_member heir_now(void)
{
    struct mtls_dir *d = mtls_share_lock();
    mtls_member heir = d != NULL ? mtls_dir_heir(d, mtls_share_self()) : 0;

    if (d != NULL)
        mtls_share_unlock();
    return heir;
}

/* To whom it is of most use: the owner of its claim, else whoever came last; an heir may leave as
 * well. */
static void bequeath(struct conn *c)
{
    struct mtls_claim_state claim;
    mtls_member owners[MTLS_SLOTS_MAX], heir;
    struct mtls_dir_view view;
    uint32_t id = 0;
    int tries;

    mtls_conn_flush(c);
    if (mtls_p2s_conn_next_claim(c->p2s, &id, &claim)) {
        look(claim.join, &view);
        if (others_in(view.owners, owners) > 0 && move(c, owners[0]))
            return;
    }
    for (tries = 0; tries < HEIRS_MAX && (heir = heir_now()) != 0; tries++) {
        if (move(c, heir))
            return;
    }
}

void mtls_workers_exit(mtls_tstamp now)
{
    struct mtls_dir *d = mtls_share_self() != 0 ? mtls_share_lock() : NULL;
    struct conn *c, *next;

    if (d == NULL)
        return;
    mtls_dir_set_leaving(d, mtls_share_self());
    mtls_share_unlock();
    mtls_peers_drain(now);
    if (heir_now() != 0)
        mtls_conns_accept(now);
    for (c = mtls_conns_first(); c != NULL; c = next) {
        next = c->next;
        if (c->fd >= 0)
            bequeath(c);
    }
    mtls_peers_drain(now);
    mtls_share_leave(now, workers.ended_ttl);
    mtls_ends_close();
    mtls_peers_close();
}

void mtls_workers_stats(struct mtls_workers_stats *out)
{
    *out = workers.stats;
}

void mtls_workers_fork_child(void)
{
    mtls_timer_free(workers.later);
    free(workers.known.slots);
    free(workers.known.old);
    memset(&workers, 0, sizeof(workers));
    mtls_stand_reset();
    mtls_peers_fork_child();
    mtls_ends_fork_child();
    mtls_share_fork_child();
}
