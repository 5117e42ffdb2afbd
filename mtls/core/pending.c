/* Concept: see pending.h. */
#include "pending.h"

#include <stdlib.h>
#include <string.h>

enum {
    SLOTS_FIRST = 64, /* power of two */
    MOVES_PER_STEP = 4,
};

/* ---- Queues of deadlines ---- */

void mtls_due_start(struct mtls_link *queue, struct mtls_due *t, mtls_tstamp now, mtls_tstamp ttl)
{
    mtls_due_stop(t);
    t->at = ttl < MTLS_TSTAMP_NEVER - now ? now + ttl : MTLS_TSTAMP_NEVER;
    if (!mtls_list_empty(queue)) {
        mtls_tstamp last = MTLS_OWNER(queue->prev, struct mtls_due, link)->at;

        if (t->at < last)
            t->at = last;
    }
    mtls_list_append(queue, &t->link);
}

void mtls_due_stop(struct mtls_due *t)
{
    mtls_list_remove(&t->link);
}

struct mtls_due *mtls_due_first(const struct mtls_link *queue, mtls_tstamp now)
{
    struct mtls_due *t;

    if (mtls_list_empty(queue))
        return NULL;
    t = MTLS_OWNER(queue->next, struct mtls_due, link);
    return t->at <= now ? t : NULL;
}

mtls_tstamp mtls_due_next(const struct mtls_link *queue)
{
    if (mtls_list_empty(queue))
        return MTLS_TSTAMP_NEVER;
    return MTLS_OWNER(queue->next, struct mtls_due, link)->at;
}

/* ---- Hash table ---- */

static uint64_t rotl(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static void sip_rounds(uint64_t v[4], int n)
{
    while (n-- > 0) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = rotl(v[1], 13) ^ v[0];
        v[3] = rotl(v[3], 16) ^ v[2];
        v[0] = rotl(v[0], 32) + v[3];
        v[2] += v[1];
        v[3] = rotl(v[3], 21) ^ v[0];
        v[1] = rotl(v[1], 17) ^ v[2];
        v[2] = rotl(v[2], 32);
    }
}

static uint64_t load_le64(const uint8_t *p)
{
    uint64_t x = 0;

    for (int i = 7; i >= 0; i--)
        x = x << 8 | p[i];
    return x;
}

uint64_t mtls_hash_of(const uint64_t seed[2], const uint8_t key[MTLS_HASH_KEY_LEN])
{
    uint64_t v[4] = {seed[0] ^ 0x736f6d6570736575, seed[1] ^ 0x646f72616e646f6d,
                     seed[0] ^ 0x6c7967656e657261, seed[1] ^ 0x7465646279746573};
    const uint64_t words[3] = {load_le64(key), load_le64(key + 8),
                               (uint64_t)MTLS_HASH_KEY_LEN << 56};

    for (size_t i = 0; i < 3; i++) {
        v[3] ^= words[i];
        sip_rounds(v, 2);
        v[0] ^= words[i];
    }
    v[2] ^= 0xff;
    sip_rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static struct mtls_hash_node **slot_of(struct mtls_hash *h, uint64_t hash)
{
    if (h->old != NULL && (hash & (h->nold - 1)) >= h->moved)
        return &h->old[hash & (h->nold - 1)];
    return &h->slots[hash & (h->nslots - 1)];
}

struct mtls_hash_node *mtls_hash_find(struct mtls_hash *h, const uint8_t key[MTLS_HASH_KEY_LEN])
{
    struct mtls_hash_node *n;
    uint64_t hash;

    h->finds++;
    if (h->nslots == 0)
        return NULL;
    hash = mtls_hash_of(h->seed, key);
    for (n = *slot_of(h, hash); n != NULL; n = n->next) {
        h->probes++;
        if (n->hash == hash && memcmp(n->key, key, MTLS_HASH_KEY_LEN) == 0) /* not secret */
            return n;
    }
    return NULL;
}

/* Moves a few slots of the old array; every insertion and removal does so. */
static void move_some(struct mtls_hash *h)
{
    for (int i = 0; h->old != NULL && i < MOVES_PER_STEP; i++) {
        struct mtls_hash_node *n = h->old[h->moved], *next;

        for (; n != NULL; n = next) {
            struct mtls_hash_node **slot = &h->slots[n->hash & (h->nslots - 1)];

            next = n->next;
            n->next = *slot;
            *slot = n;
        }
        h->old[h->moved++] = NULL;
        if (h->moved == h->nold) {
            free(h->old);
            h->old = NULL;
        }
    }
}

static void grow(struct mtls_hash *h)
{
    size_t n = h->nslots > 0 ? 2 * h->nslots : SLOTS_FIRST;
    struct mtls_hash_node **slots = calloc(n, sizeof(struct mtls_hash_node *));

    if (slots == NULL)
        return;
    h->old = h->slots;
    h->nold = h->nslots;
    h->moved = 0;
    h->slots = slots;
    h->nslots = n;
}

int mtls_hash_insert(struct mtls_hash *h, struct mtls_hash_node *node)
{
    struct mtls_hash_node **slot;

    move_some(h);
    if (h->old == NULL && h->used >= h->nslots)
        grow(h);
    if (h->nslots == 0)
        return MTLS_ERR_NOMEM;
    node->hash = mtls_hash_of(h->seed, node->key);
    slot = slot_of(h, node->hash);
    node->next = *slot;
    *slot = node;
    h->used++;
    return 0;
}

void mtls_hash_remove(struct mtls_hash *h, struct mtls_hash_node *node)
{
    struct mtls_hash_node **p = slot_of(h, node->hash);

    while (*p != node)
        p = &(*p)->next;
    *p = node->next;
    h->used--;
    move_some(h);
}

/* Any node, NULL when the table is empty. */
static struct mtls_hash_node *take_any(struct mtls_hash *h, size_t *from)
{
    while (h->old != NULL)
        move_some(h);
    for (; *from < h->nslots; ++*from) {
        struct mtls_hash_node *n = h->slots[*from];

        if (n != NULL) {
            h->slots[*from] = n->next;
            return n;
        }
    }
    return NULL;
}

/* ---- Joins ---- */

int mtls_pending_init(struct mtls_pending *t, struct mtls_crypto *c, size_t ended_max)
{
    int rc;

    *t = (struct mtls_pending){.ended_max = ended_max};
    mtls_list_init(&t->ended);
    rc = mtls_crypto_random(c, (uint8_t *)t->joins.seed, sizeof(t->joins.seed));
    if (rc == 0)
        rc = mtls_crypto_random(c, (uint8_t *)t->sources.seed, sizeof(t->sources.seed));
    return rc;
}

void mtls_pending_clear(struct mtls_pending *t, void (*each)(struct mtls_join *join))
{
    struct mtls_hash_node *n;
    size_t from = 0;

    while ((n = take_any(&t->joins, &from)) != NULL) {
        if (each != NULL)
            each((struct mtls_join *)n);
        free(n);
    }
    from = 0;
    while ((n = take_any(&t->sources, &from)) != NULL)
        free(n);
    free(t->joins.slots);
    free(t->sources.slots);
    *t = (struct mtls_pending){0};
}

static void forget(struct mtls_pending *t, struct mtls_join *join)
{
    join->is_ended = false;
    mtls_due_stop(&join->ended);
    t->nended--;
    mtls_pending_drop(t, join);
}

struct mtls_join *mtls_pending_find(struct mtls_pending *t, const uint8_t join[MTLS_JOIN_LEN],
                                    mtls_tstamp now)
{
    struct mtls_join *j = (struct mtls_join *)mtls_hash_find(&t->joins, join);

    if (j != NULL && j->is_ended && j->ended.at <= now) {
        forget(t, j);
        j = NULL;
    }
    return j;
}

int mtls_pending_add(struct mtls_pending *t, const uint8_t join[MTLS_JOIN_LEN],
                     struct mtls_join **out)
{
    struct mtls_join *j = calloc(1, sizeof(*j));

    if (j == NULL)
        return MTLS_ERR_NOMEM;
    memcpy(j->node.key, join, MTLS_JOIN_LEN);
    mtls_list_init(&j->sessions);
    mtls_list_init(&j->claims);
    if (mtls_hash_insert(&t->joins, &j->node) < 0) {
        free(j);
        return MTLS_ERR_NOMEM;
    }
    *out = j;
    return 0;
}

void mtls_pending_drop(struct mtls_pending *t, struct mtls_join *join)
{
    if (join->nsessions > 0 || join->nclaims > 0 || join->is_ended)
        return;
    mtls_hash_remove(&t->joins, &join->node);
    free(join);
}

void mtls_pending_end(struct mtls_pending *t, struct mtls_join *join, mtls_tstamp now,
                      mtls_tstamp ttl)
{
    if (t->ended_max == 0 || ttl == 0) {
        mtls_pending_drop(t, join);
        return;
    }
    if (t->nended == t->ended_max)
        forget(t, MTLS_OWNER(t->ended.next, struct mtls_join, ended.link));
    join->is_ended = true;
    t->nended++;
    mtls_due_start(&t->ended, &join->ended, now, ttl);
}

void mtls_pending_expire(struct mtls_pending *t, mtls_tstamp now)
{
    struct mtls_due *due;

    while ((due = mtls_due_first(&t->ended, now)) != NULL)
        forget(t, MTLS_OWNER(due, struct mtls_join, ended));
}

/* ---- Sources ---- */

void mtls_pending_source_key(const struct mtls_addr *peer, uint8_t key[MTLS_HASH_KEY_LEN])
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    const uint8_t *ip = peer->ip;
    uint8_t family = peer->family;

    if (family == 6 && memcmp(ip, mapped, sizeof(mapped)) == 0) {
        family = 4;
        ip += sizeof(mapped);
    }
    memset(key, 0, MTLS_HASH_KEY_LEN);
    key[0] = family;
    memcpy(key + 1, ip, family == 4 ? 4 : 7);
}

static bool has_share(const struct mtls_pending *t, size_t count, size_t max, size_t per_source)
{
    size_t room = max > t->waiting ? max - t->waiting : 0;
    size_t share = room / 8 > 1 ? room / 8 : 1;

    if (share > per_source)
        share = per_source;
    return room > 0 && count < share;
}

int mtls_pending_source(struct mtls_pending *t, const uint8_t key[MTLS_HASH_KEY_LEN],
                        struct mtls_source **out)
{
    struct mtls_source *s = (struct mtls_source *)mtls_hash_find(&t->sources, key);

    if (s == NULL) {
        s = calloc(1, sizeof(*s));
        if (s == NULL)
            return MTLS_ERR_NOMEM;
        memcpy(s->node.key, key, MTLS_HASH_KEY_LEN);
        mtls_list_init(&s->fresh);
        mtls_list_init(&s->idle);
        if (mtls_hash_insert(&t->sources, &s->node) < 0) {
            free(s);
            return MTLS_ERR_NOMEM;
        }
    }
    *out = s;
    return 0;
}

void mtls_pending_source_drop(struct mtls_pending *t, struct mtls_source *source)
{
    if (source->waiting > 0 || source->conns > 0)
        return;
    mtls_hash_remove(&t->sources, &source->node);
    free(source);
}

int mtls_pending_wait(struct mtls_pending *t, const uint8_t key[MTLS_HASH_KEY_LEN], size_t max,
                      size_t per_source, struct mtls_source **out)
{
    struct mtls_source *s = (struct mtls_source *)mtls_hash_find(&t->sources, key);

    if (!has_share(t, s != NULL ? s->waiting : 0, max, per_source))
        return MTLS_ERR_LIMIT;
    if (s == NULL && mtls_pending_source(t, key, &s) < 0)
        return MTLS_ERR_NOMEM;
    s->waiting++;
    t->waiting++;
    *out = s;
    return 0;
}

void mtls_pending_unwait(struct mtls_pending *t, struct mtls_source *source)
{
    t->waiting--;
    source->waiting--;
    mtls_pending_source_drop(t, source);
}
