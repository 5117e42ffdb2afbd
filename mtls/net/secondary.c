/* Concept: the secondary paths of one client session (secondary.h). */
#include "secondary.h"

#include <stdlib.h>
#include <string.h>

#include "netlink.h"
#include "path2_socket.h"
#include "route.h"

/* ---- The plan ---- */

/* One device of `auto`: taken over by p. */
static int auto_one(struct mtls_secondary *p, const struct mtls_path_spec *words,
                    const struct mtls_auto_choice *choice, const struct mtls_addr *server)
{
    p->own = malloc(sizeof(*p->own));
    p->why = strdup(choice->why);
    if (p->own == NULL || p->why == NULL)
        return MTLS_ERR_NOMEM;
    p->spec = p->own;
    *p->own = choice->spec;
    p->own->port = words->port;
    p->own->resolver = words->resolver;
    p->own->distinct = words->distinct;
    if (server != NULL) {
        p->own->remote.addr = *server;
        p->own->remote.addr.port = 0; /* path 1's port is not path 2's */
        mtls_addr_format(&p->own->remote.addr, p->own->remote.name, sizeof(p->own->remote.name));
    }
    return mtls_path_spec_format(p->own);
}

static int auto_add(struct mtls_secondary *paths, uint8_t *n, int room, const struct mtls_config *c,
                    const struct mtls_path_spec *words, const struct mtls_path_facts *path1,
                    const struct mtls_addr *server)
{
    struct mtls_auto_choice choices[MTLS_PATHS_MAX];
    int found = mtls_path2_auto(path1, choices, MTLS_PATHS_MAX), err = 0;

    for (int i = 0; err == 0 && i < found && *n < room && i < c->need; i++)
        err = auto_one(&paths[(*n)++], words, &choices[i], server);
    return err;
}

static int wanted(const struct mtls_config *c)
{
    int n = 0;

    for (int i = 0; i < c->npath2; i++)
        n += c->path2[i].is_auto ? c->need : 1;
    return n < MTLS_PATHS_MAX ? n : MTLS_PATHS_MAX;
}

int mtls_secondary_plan(struct mtls_secondary **out, uint8_t *n, const struct mtls_config *c,
                        const struct mtls_path_facts *path1, const struct mtls_addr *server)
{
    int room = wanted(c), err = 0;
    struct mtls_secondary *paths;

    *out = NULL;
    *n = 0;
    if (room == 0)
        return 0;
    paths = calloc((size_t)room, sizeof(*paths));
    if (paths == NULL)
        return MTLS_ERR_NOMEM;
    for (int i = 0; err == 0 && i < c->npath2 && *n < room; i++) {
        if (c->path2[i].is_auto)
            err = auto_add(paths, n, room, c, &c->path2[i], path1, server);
        else
            paths[(*n)++].spec = &c->path2[i];
    }
    *out = paths;
    return err;
}

void mtls_secondary_free(struct mtls_secondary *paths, uint8_t n)
{
    for (uint8_t i = 0; i < n; i++) {
        free(paths[i].own);
        free(paths[i].why);
    }
    free(paths);
}

/* ---- Proofs ---- */

static int check_proofs(struct mtls_secondary *p, struct mtls_crypto *c,
                        const struct mtls_keys *keys)
{
    const struct mtls_p2c_claim *w = mtls_path2_claim_wire(p->claim);
    uint8_t tag[MTLS_TAG_LEN];
    int err = 0;

    p->right = false;
    p->wrong_only = w != NULL && w->nproof > 0;
    for (uint8_t i = 0; w != NULL && err == 0 && i < w->nproof && !p->right; i++) {
        p->wrong_only = p->wrong_only && w->proofs[i].more == 0;
        err = mtls_confirm_server_tag(c, keys, w->p2, tag);
        if (err == 0 && mtls_tag_equal(tag, w->proofs[i].tag)) { /* [PRF-4] */
            p->right = true;
            p->slot = w->proofs[i].slot;
            memcpy(p->tag, tag, sizeof(p->tag));
            memcpy(p->p2, w->p2, sizeof(p->p2));
        }
    }
    return err;
}

void mtls_secondary_status(struct mtls_secondary *p, struct mtls_crypto *c,
                           const struct mtls_keys *keys, struct mtls_path_status *st)
{
    memset(st, 0, sizeof(*st));
    st->ready_before = p->ready_before;
    if (p->claim == NULL) {
        st->state = p->error != 0 ? MTLS_PATH_FAILED : MTLS_PATH_IDLE;
        st->error = p->error;
        return;
    }
    mtls_path2_claim_status(p->claim, st);
    st->ready_before = p->ready_before;
    if (keys == NULL || st->state != MTLS_PATH_PROOF)
        return;
    if (check_proofs(p, c, keys) != 0) {
        st->state = MTLS_PATH_FAILED;
        st->error = MTLS_ERR_CRYPTO;
        return;
    }
    st->proof_right = p->right;
    st->only_session = p->wrong_only;
    if (!p->right)
        st->state = MTLS_PATH_WRONG;
}

/* ---- The decision ---- */

unsigned mtls_secondary_select(struct mtls_secondary *paths, uint8_t n,
                               const struct mtls_path_facts *path1, unsigned *scope)
{
    struct mtls_path_facts facts[MTLS_PATHS_MAX] = {0};
    uint8_t distinct[MTLS_PATHS_MAX] = {0}, index[MTLS_PATHS_MAX] = {0};
    unsigned mask, selected = 0;
    size_t provable = 0;

    for (uint8_t i = 0; i < n; i++) {
        struct mtls_secondary *p = &paths[i];

        if (!p->right || p->claim == NULL)
            continue;
        mtls_path2_claim_facts(p->claim, &p->facts);
        facts[provable] = p->facts;
        distinct[provable] = p->spec->distinct;
        index[provable++] = i;
    }
    mask = mtls_paths_select(path1, facts, distinct, provable, scope);
    for (size_t i = 0; i < provable; i++)
        if ((mask & 1u << i) != 0)
            selected |= 1u << index[i];
    return selected;
}

unsigned mtls_secondary_judge(struct mtls_secondary *paths, uint8_t n, int fd,
                              struct mtls_path_facts *path1, unsigned *scope)
{
    struct mtls_path_facts now = *path1;
    unsigned selected;
    bool moved;

    mtls_nl_begin();
    if (fd < 0 || mtls_route_again(fd, &now) != 0)
        now.known = false;
    moved = now.known && path1->known && now.ifindex != path1->ifindex;
    now.known = now.known && !moved; /* [PATH-9] */
    selected = mtls_secondary_select(paths, n, &now, scope);
    mtls_nl_end();
    if (!moved) /* else what was known stays, and it is moved at the next look too */
        *path1 = now;
    return selected;
}

int mtls_secondary_confirm(struct mtls_secondary *paths, uint8_t npaths, unsigned mask, uint8_t k,
                           struct mtls_crypto *c, const struct mtls_keys *keys,
                           uint8_t d[MTLS_SHA256_LEN], uint8_t *n)
{
    struct mtls_counted counted[MTLS_PATHS_MAX] = {0};
    uint8_t tag[MTLS_TAG_LEN];
    int err, sent = 0;

    *n = 0;
    for (uint8_t i = 0; i < npaths; i++) {
        if ((mask & 1u << i) == 0)
            continue;
        counted[*n].path = i;
        memcpy(counted[*n].p2, paths[i].p2, sizeof(counted[*n].p2));
        memcpy(counted[*n].tag_s, paths[i].tag, sizeof(counted[*n].tag_s));
        (*n)++;
    }
    if (*n < k)
        return MTLS_ERR_PATH_NOT_DISTINCT;
    err = mtls_confirm_d(c, counted, *n, d);
    for (uint8_t i = 0; err == 0 && i < npaths; i++) {
        struct mtls_secondary *p = &paths[i];

        if ((mask & 1u << i) == 0) {
            if (p->claim != NULL)
                mtls_path2_claim_fail(p->claim, MTLS_FAIL_NOT_COUNTED);
            continue;
        }
        err = mtls_confirm_client_tag(c, keys, p->p2, p->tag, k, *n, d, tag);
        if (err == 0 && mtls_path2_claim_confirm(p->claim, p->slot, k, *n, tag) == 0)
            sent++;
    }
    return err != 0 ? err : sent > 0 ? 0 : MTLS_ERR_PATH_CLOSED;
}
