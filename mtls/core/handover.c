/* Concept: messages between the processes of a service (see handover.h). */
#include "handover.h"

#include <string.h>

enum { VERSION = 1, CLAIM_LEN = 4 + 4 + MTLS_JOIN_LEN + MTLS_SHA256_LEN, ADDR_LEN = 1 + 16 + 2 };

/* Both directions go through the same walk over the fields. */
struct walk {
    uint8_t *out;
    const uint8_t *in;
    size_t pos, len;
    int err;
};

static void bytes(struct walk *w, void *field, size_t n)
{
    if (w->err == 0 && n > w->len - w->pos)
        w->err = MTLS_ERR_FRAME_LENGTH;
    if (w->err != 0)
        return;
    if (w->out != NULL)
        memcpy(w->out + w->pos, field, n);
    else
        memcpy(field, w->in + w->pos, n);
    w->pos += n;
}

static void number(struct walk *w, uint64_t *field, unsigned n)
{
    uint8_t b[8];
    unsigned i;

    for (i = 0; w->out != NULL && i < n; i++)
        b[i] = (uint8_t)(*field >> 8 * (n - 1 - i));
    bytes(w, b, n);
    if (w->out != NULL || w->err != 0)
        return;
    *field = 0;
    for (i = 0; i < n; i++)
        *field = *field << 8 | b[i];
}

static void small(struct walk *w, uint8_t *field, uint8_t max)
{
    bytes(w, field, 1);
    if (w->err == 0 && *field > max)
        w->err = MTLS_ERR_FRAME_VALUE;
}

static void flag(struct walk *w, bool *field)
{
    uint8_t b = *field;

    small(w, &b, 1);
    if (w->out == NULL)
        *field = b == 1;
}

static void word(struct walk *w, uint32_t *field)
{
    uint64_t n = *field;

    number(w, &n, 4);
    if (w->out == NULL)
        *field = (uint32_t)n;
}

static void address(struct walk *w, struct mtls_addr *a)
{
    uint64_t port = a->port;

    small(w, &a->family, 6);
    bytes(w, a->ip, sizeof(a->ip));
    number(w, &port, 2);
    if (w->out == NULL)
        a->port = (uint16_t)port;
    if (w->err == 0 && a->family != 0 && a->family != 4 && a->family != 6)
        w->err = MTLS_ERR_FRAME_VALUE;
}

static void claim(struct walk *w, struct mtls_claim_state *c)
{
    word(w, &c->id);
    small(w, &c->path, MTLS_PATHS_MAX - 1);
    small(w, &c->proofs, UINT8_MAX);
    flag(w, &c->confirmed);
    small(w, &c->confirmed_slot, MTLS_SLOTS_MAX - 1);
    bytes(w, c->join, sizeof(c->join));
    bytes(w, c->p2, sizeof(c->p2));
    if (w->err == 0 && c->id == 0)
        w->err = MTLS_ERR_FRAME_VALUE;
}

static void connection(struct walk *w, struct mtls_conn_state *c)
{
    uint32_t last = 0;
    unsigned i;

    word(w, &c->last_id);
    flag(w, &c->preface_done);
    flag(w, &c->preface_sent);
    small(w, &c->have, MTLS_FRAME_MAX - 1);
    bytes(w, c->buf, w->err == 0 ? c->have : 0);
    small(w, &c->nclaims, MTLS_HANDOVER_CLAIMS_MAX);
    for (i = 0; w->err == 0 && i < c->nclaims; i++) {
        claim(w, &c->claims[i]);
        if (w->err == 0 && (c->claims[i].id <= last || c->claims[i].id > c->last_id)) /* [P2-3] */
            w->err = MTLS_ERR_FRAME_VALUE;
        last = c->claims[i].id;
    }
}

static void frames(struct walk *w, struct mtls_handover *m)
{
    if (w->out == NULL) {
        m->bytes = w->in + w->pos;
        m->len = w->len - w->pos;
    }
    if (w->err == 0 && (m->len == 0 || m->len > MTLS_HANDOVER_BYTES_MAX))
        w->err = MTLS_ERR_FRAME_LENGTH;
    if (w->out != NULL)
        bytes(w, (void *)(uintptr_t)m->bytes, m->len);
    else if (w->err == 0)
        w->pos = w->len;
}

static void body(struct walk *w, struct mtls_handover *m)
{
    if (m->type == MTLS_HANDOVER_WANT)
        bytes(w, m->join, sizeof(m->join));
    else if (m->type == MTLS_HANDOVER_CONN)
        connection(w, &m->conn);
    else if (m->type >= MTLS_HANDOVER_CLAIM && m->type <= MTLS_HANDOVER_DONE)
        number(w, &m->serial, 8);
    else if (w->err == 0)
        w->err = MTLS_ERR_FRAME_TYPE;
    if (m->type == MTLS_HANDOVER_CLAIM) {
        claim(w, &m->claim);
        address(w, &m->local);
        address(w, &m->peer);
    } else if (m->type >= MTLS_HANDOVER_TO_OWNER && m->type <= MTLS_HANDOVER_DONE) {
        word(w, &m->id);
    }
    if (m->type == MTLS_HANDOVER_DONE)
        flag(w, &m->close);
    if (m->type == MTLS_HANDOVER_TO_OWNER || m->type == MTLS_HANDOVER_TO_HOLDER)
        frames(w, m);
}

int mtls_handover_encode(const struct mtls_handover *m, uint8_t *out, size_t cap)
{
    struct walk w = {.out = out, .len = cap};
    uint8_t version = VERSION, type = (uint8_t)m->type;

    bytes(&w, &version, 1);
    bytes(&w, &type, 1);
    body(&w, (struct mtls_handover *)(uintptr_t)m);
    return w.err != 0 ? MTLS_ERR_ARG : (int)w.pos;
}

int mtls_handover_decode(struct mtls_handover *m, const uint8_t *data, size_t len)
{
    struct walk w = {.in = data, .len = len};
    uint8_t version = 0, type = 0;

    memset(m, 0, sizeof(*m));
    bytes(&w, &version, 1);
    bytes(&w, &type, 1);
    if (w.err == 0 && version != VERSION)
        w.err = MTLS_ERR_FRAME_VERSION;
    m->type = type;
    if (w.err == 0)
        body(&w, m);
    if (w.err == 0 && w.pos != len)
        w.err = MTLS_ERR_FRAME_LENGTH;
    return w.err;
}
