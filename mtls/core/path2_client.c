/* Concept: see path2_client.h. */
#include "path2_client.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "confirm.h"
#include "outbuf.h"
#include "pending.h"

enum { OUT_MAX = 32768 /* unsent bytes [P2-8]: every open claim's HELLO and CONFIRM fit */ };

struct claim {
    struct mtls_p2c_claim pub; /* first: the caller's view */
    struct mtls_link in_conn;
    bool refused;                  /* READY was not ok */
    bool failed;                   /* FAIL came after PROOF */
    uint8_t hello[MTLS_HELLO_LEN]; /* until READY */
};

struct mtls_p2c {
    struct mtls_crypto *crypto;
    mtls_p2c_changed_fn *changed;
    void *arg;
    struct mtls_link claims;
    struct mtls_outbuf out;
    struct mtls_frame_reader reader;
    uint32_t last_id;
    size_t nopen;
    bool preface_sent;
    int err; /* sticky; no claim is open then */
};

int mtls_p2c_new(struct mtls_p2c **out, struct mtls_crypto *c, mtls_p2c_changed_fn *changed,
                 void *arg)
{
    struct mtls_p2c *p = calloc(1, sizeof(*p));

    if (p == NULL)
        return MTLS_ERR_NOMEM;
    p->crypto = c;
    p->changed = changed;
    p->arg = arg;
    mtls_list_init(&p->claims);
    mtls_frame_reader_init(&p->reader, MTLS_ROLE_SERVER);
    *out = p;
    return 0;
}

static void free_claim(struct claim *c)
{
    mtls_list_remove(&c->in_conn);
    OPENSSL_cleanse(c->hello, sizeof(c->hello));
    free(c);
}

void mtls_p2c_free(struct mtls_p2c *p)
{
    if (p == NULL)
        return;
    while (!mtls_list_empty(&p->claims))
        free_claim(MTLS_OWNER(p->claims.next, struct claim, in_conn));
    mtls_outbuf_clear(&p->out);
    OPENSSL_cleanse(&p->reader, sizeof(p->reader));
    free(p);
}

static void tell(struct mtls_p2c *p, struct claim *c)
{
    if (p->changed != NULL)
        p->changed(p->arg, &c->pub);
}

static void end_claim(struct mtls_p2c *p, struct claim *c, int error)
{
    if (c->pub.state == MTLS_CLAIM_ENDED)
        return;
    c->pub.state = MTLS_CLAIM_ENDED;
    c->pub.error = error;
    p->nopen--;
    OPENSSL_cleanse(c->hello, sizeof(c->hello));
}

/* ---- What the caller asks for ---- */

/* The preface before the first frame. */
static int queue(struct mtls_p2c *p, const uint8_t *frame, size_t len)
{
    uint8_t both[MTLS_PREFACE_LEN + MTLS_FRAME_MAX];
    int rc;

    if (p->preface_sent)
        return mtls_outbuf_add(&p->out, frame, len, OUT_MAX);
    memcpy(both, mtls_preface, MTLS_PREFACE_LEN);
    memcpy(both + MTLS_PREFACE_LEN, frame, len);
    rc = mtls_outbuf_add(&p->out, both, MTLS_PREFACE_LEN + len, OUT_MAX);
    OPENSSL_cleanse(both, sizeof(both));
    if (rc == 0)
        p->preface_sent = true;
    return rc;
}

int mtls_p2c_hello(struct mtls_p2c *p, uint8_t path, uint16_t port1,
                   const uint8_t secret[MTLS_SECRET_LEN], void *user, struct mtls_p2c_claim **out,
                   mtls_tstamp now)
{
    uint8_t nonce[MTLS_NONCE_LEN];
    struct claim *c;
    int rc;

    if (path >= MTLS_PATHS_MAX)
        return MTLS_ERR_ARG;
    if (p->err < 0)
        return MTLS_ERR_PATH_CLOSED;
    if (p->nopen == MTLS_P2C_CLAIMS_MAX || p->last_id == UINT32_MAX)
        return MTLS_ERR_LIMIT;
    if ((rc = mtls_crypto_random(p->crypto, nonce, sizeof(nonce))) < 0)
        return rc;
    c = calloc(1, sizeof(*c));
    if (c == NULL)
        return MTLS_ERR_NOMEM;
    mtls_frame_hello(c->hello, p->last_id + 1, port1, path, secret, nonce);
    if ((rc = queue(p, c->hello, sizeof(c->hello))) < 0) {
        free_claim(c);
        return rc == MTLS_ERR_FRAME_OVERFLOW ? MTLS_ERR_LIMIT : rc;
    }
    c->pub.id = ++p->last_id;
    c->pub.path = path;
    c->pub.state = MTLS_CLAIM_HELLO;
    c->pub.hello_at = now;
    c->pub.user = user;
    mtls_list_append(&p->claims, &c->in_conn);
    p->nopen++;
    *out = &c->pub;
    return 0;
}

int mtls_p2c_confirm(struct mtls_p2c *p, struct mtls_p2c_claim *claim, uint8_t slot, uint8_t k,
                     uint8_t n, const uint8_t tag[MTLS_TAG_LEN])
{
    uint8_t frame[MTLS_CONFIRM_LEN];
    int rc;

    if (p->err < 0)
        return MTLS_ERR_PATH_CLOSED;
    if (claim->state != MTLS_CLAIM_PROOF || slot >= MTLS_SLOTS_MAX || k == 0 || k > n ||
        n > MTLS_PATHS_MAX)
        return MTLS_ERR_ARG;
    mtls_frame_confirm(frame, claim->id, slot, k, n, tag);
    if ((rc = queue(p, frame, sizeof(frame))) < 0)
        return rc;
    end_claim(p, (struct claim *)claim, 0);
    return 0;
}

void mtls_p2c_fail(struct mtls_p2c *p, struct mtls_p2c_claim *claim, uint8_t reason)
{
    uint8_t frame[MTLS_FAIL_LEN];

    if (claim->state == MTLS_CLAIM_ENDED)
        return;
    mtls_frame_fail(frame, claim->id, reason);
    (void)!queue(p, frame, sizeof(frame)); /* advisory */
    end_claim(p, (struct claim *)claim, MTLS_ERR_ABANDONED);
}

void mtls_p2c_release(struct mtls_p2c *p, struct mtls_p2c_claim *claim)
{
    struct claim *c = (struct claim *)claim;

    if (c == NULL)
        return;
    end_claim(p, c, MTLS_ERR_ABANDONED);
    free_claim(c);
}

/* ---- What the peer says ---- */

static int take_ready(struct mtls_p2c *p, struct claim *c, const struct mtls_frame *f,
                      mtls_tstamp now)
{
    const struct mtls_bytes hello = {c->hello, sizeof(c->hello)};
    uint8_t echo[MTLS_SHA256_LEN];
    int rc;

    if (c->pub.state != MTLS_CLAIM_HELLO)
        return MTLS_ERR_FRAME_REPEATED;
    if ((rc = mtls_crypto_sha256(p->crypto, &hello, 1, echo)) < 0)
        return rc;
    if (CRYPTO_memcmp(echo, f->u.ready.hello_hash, sizeof(echo)) != 0) /* [RDY-6] */
        return MTLS_ERR_READY_MISMATCH;
    if ((rc = mtls_confirm_p2(p->crypto, c->hello, f->raw, c->pub.p2)) < 0)
        return rc;
    OPENSSL_cleanse(c->hello, sizeof(c->hello));
    c->pub.ready_seen = true; /* [DWN-1] */
    c->pub.ready_at = now;
    c->pub.state = MTLS_CLAIM_READY;
    c->refused = f->u.ready.status != MTLS_READY_OK;
    if (f->u.ready.status == MTLS_READY_BUSY)
        end_claim(p, c, MTLS_ERR_PATH_BUSY);
    else if (f->u.ready.status == MTLS_READY_NOT_HERE)
        end_claim(p, c, MTLS_ERR_PATH_NOT_HERE);
    tell(p, c);
    return 0;
}

static int take_proof(struct mtls_p2c *p, struct claim *c, const struct mtls_frame *f,
                      mtls_tstamp now)
{
    struct mtls_p2c_proof *proof;

    if (c->pub.state == MTLS_CLAIM_HELLO)
        return MTLS_ERR_FRAME_CLAIM;
    if (c->failed) /* ended by the server a moment ago */
        return 0;
    for (size_t i = 0; i < c->pub.nproof; i++)
        if (c->pub.proofs[i].slot == f->u.proof.slot)
            return MTLS_ERR_FRAME_REPEATED;
    proof = &c->pub.proofs[c->pub.nproof++]; /* the reader bounds slots: there is room */
    proof->slot = f->u.proof.slot;
    proof->more = f->u.proof.more;
    memcpy(proof->tag, f->u.proof.tag, sizeof(proof->tag));
    if (c->pub.state == MTLS_CLAIM_READY)
        c->pub.proof_at = now;
    c->pub.state = MTLS_CLAIM_PROOF;
    tell(p, c);
    return 0;
}

/* FAIL takes back nothing: a PROOF that is here may be right, whoever wrote the FAIL. */
static void take_fail(struct mtls_p2c *p, struct claim *c, const struct mtls_frame *f)
{
    if (c->failed)
        return;
    if (f->u.fail.reason <= MTLS_FAIL_NOT_COUNTED) /* [FAIL-2] */
        c->pub.fail_reason = f->u.fail.reason;
    if (c->pub.state == MTLS_CLAIM_PROOF)
        c->failed = true;
    else
        end_claim(p, c, MTLS_ERR_PROOF_MISSING);
    tell(p, c);
}

/* A frame for a claim that has ended crossed what ended it [P2-6], unless it could never be legal
 * [P2-5]. */
static int judge_late(const struct claim *c, const struct mtls_frame *f)
{
    if (!c->pub.ready_seen)
        return 0;
    if (f->type == MTLS_FRAME_READY)
        return MTLS_ERR_FRAME_REPEATED;
    if (f->type == MTLS_FRAME_PROOF && c->refused)
        return MTLS_ERR_FRAME_CLAIM;
    return 0;
}

static struct claim *find_claim(struct mtls_p2c *p, uint32_t id)
{
    struct mtls_link *l;

    for (l = p->claims.next; l != &p->claims; l = l->next) {
        struct claim *c = MTLS_OWNER(l, struct claim, in_conn);

        if (c->pub.id == id)
            return c;
    }
    return NULL;
}

static int take_frame(struct mtls_p2c *p, const struct mtls_frame *f, mtls_tstamp now)
{
    struct claim *c;

    if (f->claim == 0 || f->claim > p->last_id)
        return MTLS_ERR_FRAME_CLAIM;
    c = find_claim(p, f->claim);
    if (c == NULL) /* released */
        return 0;
    if (c->pub.state == MTLS_CLAIM_ENDED)
        return judge_late(c, f);
    if (f->type == MTLS_FRAME_READY)
        return take_ready(p, c, f, now);
    if (f->type == MTLS_FRAME_PROOF)
        return take_proof(p, c, f, now);
    take_fail(p, c, f); /* the reader lets no other type through */
    return 0;
}

/* Ends what is open. Before READY, anything but the protocol is a foreign answer, not ours [DWN-4].
 */
static void end_all(struct mtls_p2c *p, int err, int before_ready)
{
    struct mtls_link *l, *next;

    p->err = err;
    for (l = p->claims.next; l != &p->claims; l = next) {
        struct claim *c = MTLS_OWNER(l, struct claim, in_conn);

        next = l->next;
        if (c->pub.state != MTLS_CLAIM_ENDED)
            end_claim(p, c, c->pub.state == MTLS_CLAIM_HELLO ? before_ready : err);
        tell(p, c); /* one that ended by our own CONFIRM or FAIL too: its owner must let go of it.
                       May release c, and no other */
    }
}

int mtls_p2c_input(struct mtls_p2c *p, const uint8_t *data, size_t len, mtls_tstamp now)
{
    struct mtls_frame f;
    size_t pos = 0;
    int rc;

    if (p->err < 0)
        return p->err;
    while ((rc = mtls_frame_reader_next(&p->reader, data, len, &pos, &f)) > 0)
        if ((rc = take_frame(p, &f, now)) < 0)
            break;
    if (rc < 0)
        end_all(p, rc, rc == MTLS_ERR_CRYPTO ? rc : MTLS_ERR_PATH_FOREIGN);
    return rc;
}

void mtls_p2c_closed(struct mtls_p2c *p, int error, mtls_tstamp now)
{
    (void)now;
    if (p->err < 0)
        return;
    end_all(p, error, error);
}

/* ---- The rest ---- */

const uint8_t *mtls_p2c_out(const struct mtls_p2c *p, size_t *len)
{
    return mtls_outbuf_get(&p->out, len);
}

void mtls_p2c_sent(struct mtls_p2c *p, size_t n)
{
    mtls_outbuf_sent(&p->out, n);
}

bool mtls_p2c_preface_seen(const struct mtls_p2c *p)
{
    return p->reader.preface_done;
}

size_t mtls_p2c_open_claims(const struct mtls_p2c *p)
{
    return p->nopen;
}
