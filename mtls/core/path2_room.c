/* Concept: room for connections at the server's end of path 2: how many there may be, in all and
 * of one source, who goes for a newcomer, and what becomes of one for whom nobody goes. O(1). */
#include "path2_internal.h"

static size_t room_of_all(const struct mtls_p2s *s)
{
    return s->config.conns_max != 0 ? s->config.conns_max : MTLS_P2S_CONNS_MAX;
}

/* Never all the room: another source finds some. */
static size_t room_of_source(const struct mtls_p2s *s)
{
    size_t half = room_of_all(s) / 2 > 1 ? room_of_all(s) / 2 : 1;

    return s->config.per_source < half ? s->config.per_source : half;
}

static size_t room_of_busy(const struct mtls_p2s *s)
{
    size_t quarter = room_of_all(s) / 4 + 1;

    return quarter < MTLS_P2S_BUSY_MAX ? quarter : MTLS_P2S_BUSY_MAX;
}

static bool evict(struct mtls_p2s_conn *c, mtls_tstamp now)
{
    if (c == NULL)
        return false;
    c->server->stats.evicted++;
    mtls_p2s_conn_close(c, MTLS_ERR_LIMIT, now);
    return true;
}

static struct mtls_p2s_conn *oldest_in(const struct mtls_link *queue)
{
    return mtls_list_empty(queue) ? NULL
                                  : MTLS_OWNER(queue->next, struct mtls_p2s_conn, timer.link);
}

static bool evict_of_all(struct mtls_p2s *s, mtls_tstamp now)
{
    return evict(oldest_in(&s->fresh), now) || evict(oldest_in(&s->idle), now);
}

static bool evict_of_source(struct mtls_source *source, mtls_tstamp now)
{
    struct mtls_link *from = mtls_list_empty(&source->fresh) ? &source->idle : &source->fresh;

    return !mtls_list_empty(from) &&
           evict(MTLS_OWNER(from->next, struct mtls_p2s_conn, in_source), now);
}

bool mtls_p2s_evict(struct mtls_p2s *s, mtls_tstamp now)
{
    return evict(oldest_in(&s->busy), now) || evict_of_all(s, now);
}

/* source->conns counts the newcomer already: the source is not freed under it. */
static bool find_room(struct mtls_p2s *s, struct mtls_source *source, mtls_tstamp now)
{
    if (source->conns > room_of_source(s) && !evict_of_source(source, now))
        return false;
    return s->nroom < room_of_all(s) || evict_of_all(s, now);
}

int mtls_p2s_room_enter(struct mtls_p2s_conn *c, const struct mtls_addr *peer, mtls_tstamp now)
{
    struct mtls_p2s *s = c->server;
    uint8_t key[MTLS_HASH_KEY_LEN];
    struct mtls_source *source;
    int rc;

    mtls_pending_source_key(peer, key);
    if ((rc = mtls_pending_source(&s->pending, key, &source)) < 0)
        return rc;
    source->conns++;
    if (find_room(s, source, now)) {
        c->source = source;
        s->nroom++;
        mtls_list_append(&source->fresh, &c->in_source);
        mtls_due_start(&s->fresh, &c->timer, now, s->config.hello_ttl);
        return 0;
    }
    source->conns--;
    mtls_pending_source_drop(&s->pending, source);
    if (s->nbusy >= room_of_busy(s))
        (void)!evict(oldest_in(&s->busy), now);
    c->busy = true;
    s->nbusy++;
    mtls_due_start(&s->busy, &c->timer, now, s->config.hello_ttl);
    return 0;
}

void mtls_p2s_room_rest(struct mtls_p2s_conn *c, bool idle)
{
    mtls_list_remove(&c->in_source);
    if (idle)
        mtls_list_append(&c->source->idle, &c->in_source);
}

void mtls_p2s_room_leave(struct mtls_p2s_conn *c)
{
    struct mtls_p2s *s = c->server;

    mtls_list_remove(&c->in_source);
    if (c->guest)
        return;
    if (c->busy) {
        s->nbusy--;
        return;
    }
    s->nroom--;
    c->source->conns--;
    mtls_pending_source_drop(&s->pending, c->source);
    c->source = NULL;
}
