/* Concept: what the tests of path 2's state machines share: the primitives, keys, and a peer that
 * speaks frames by hand and checks every answer. Include it after cmocka.h. */
#ifndef MTLS_TEST_PATH2_LAB_H
#define MTLS_TEST_PATH2_LAB_H

#include <stdlib.h>
#include <string.h>

#include "mtls/core/confirm.h"
#include "mtls/core/crypto.h"
#include "mtls/core/path2_server.h"
#include "mtls/core/wire_frame.h"
#include "provider_lib.h"

enum { SEC = 1000000, LAB_FRAMES = 2048 };

/* ---- Primitives, once per program ---- */

static struct lib lab_lib;
static struct mtls_crypto *lab_crypto;

static inline int lab_open(void **state)
{
    (void)state;
    lib_open(&lab_lib);
    return mtls_crypto_new(&lab_crypto, lab_lib.ctx, NULL);
}

static inline int lab_close(void **state)
{
    (void)state;
    mtls_crypto_free(lab_crypto);
    lab_crypto = NULL;
    lib_close(&lab_lib);
    return 0;
}

static inline void lab_keys(struct mtls_keys *keys, uint8_t seed)
{
    uint8_t ek[MTLS_EK_LEN], th[48];

    for (size_t i = 0; i < sizeof(ek); i++)
        ek[i] = (uint8_t)(seed + i);
    memset(th, seed ^ 0x55, sizeof(th));
    assert_int_equal(mtls_keys_init(keys, ek, th, seed % 2 ? 48 : 32), 0);
}

static inline struct mtls_addr lab_v4(uint8_t c, uint8_t d)
{
    return (struct mtls_addr){.family = 4, .ip = {192, 0, c, d}, .port = 1};
}

/* A secret of one's own per number, and its join. */
static inline void lab_secret(uint32_t number, uint8_t secret[MTLS_SECRET_LEN])
{
    memset(secret, 0x5e, MTLS_SECRET_LEN);
    memcpy(secret, &number, sizeof(number));
}

static inline void lab_join(uint32_t number, uint8_t join[MTLS_JOIN_LEN])
{
    uint8_t secret[MTLS_SECRET_LEN];

    lab_secret(number, secret);
    assert_int_equal(mtls_crypto_join(lab_crypto, secret, join), 0);
}

/* ---- Server under test ---- */

struct lab {
    struct mtls_p2s *server;
    struct mtls_p2s_config config;
    mtls_tstamp now;
    /* what the events said */
    unsigned confirmed, outputs, closes;
    void *confirmed_session, *confirmed_conn, *closed_conn;
    uint8_t k, n;
    int close_error;
    struct mtls_p2s_session *free_when_confirmed;
};

static inline void lab_on_confirmed(void *arg, void *session_user, void *conn_user, uint8_t k,
                                    uint8_t n)
{
    struct lab *lab = arg;

    lab->confirmed++;
    lab->confirmed_session = session_user;
    lab->confirmed_conn = conn_user;
    lab->k = k;
    lab->n = n;
    mtls_p2s_session_free(lab->free_when_confirmed, MTLS_FAIL_ABANDONED, lab->now);
    lab->free_when_confirmed = NULL;
}

static inline void lab_on_output(void *arg, void *conn_user)
{
    (void)conn_user;
    ((struct lab *)arg)->outputs++;
}

static inline void lab_on_close(void *arg, void *conn_user, int error)
{
    struct lab *lab = arg;

    lab->closes++;
    lab->closed_conn = conn_user;
    lab->close_error = error;
}

static inline struct mtls_p2s_config lab_config(void)
{
    return (struct mtls_p2s_config){.max_pending = 1024,
                                    .per_source = 64,
                                    .claim_ttl = 10 * SEC,
                                    .hello_ttl = 11 * SEC,
                                    .idle_ttl = 150 * SEC,
                                    .ended_ttl = 60 * SEC};
}

static const struct mtls_p2s_events lab_events = {lab_on_confirmed, lab_on_output, lab_on_close};

static inline void lab_start(struct lab *lab)
{
    struct mtls_p2s_config config = lab->config.max_pending ? lab->config : lab_config();

    memset(lab, 0, sizeof(*lab));
    lab->config = config;
    lab->now = 1000 * (mtls_tstamp)SEC;
    assert_int_equal(mtls_p2s_new(&lab->server, lab_crypto, &config, &lab_events, lab), 0);
}

static inline void lab_stop(struct lab *lab)
{
    mtls_p2s_free(lab->server);
    lab->server = NULL;
}

static inline struct mtls_p2s_stats lab_stats(const struct lab *lab)
{
    struct mtls_p2s_stats s;

    mtls_p2s_stats(lab->server, &s);
    return s;
}

/* ---- A peer that speaks frames by hand ---- */

struct peer {
    struct lab *lab;
    struct mtls_p2s_conn *conn;
    struct mtls_frame_reader reader;
    size_t nframes, taken;
    struct {
        uint8_t bytes[MTLS_FRAME_MAX];
        size_t len;
    } frames[LAB_FRAMES];
    uint8_t hello[MTLS_HELLO_LEN]; /* of the last peer_hello() */
};

static inline struct peer *peer_new(struct lab *lab, struct mtls_addr addr)
{
    struct peer *p = calloc(1, sizeof(*p));

    assert_non_null(p);
    p->lab = lab;
    mtls_frame_reader_init(&p->reader, MTLS_ROLE_SERVER);
    assert_int_equal(mtls_p2s_conn_new(&p->conn, lab->server, &addr, p, lab->now), 0);
    return p;
}

static inline void peer_free(struct peer *p)
{
    mtls_p2s_conn_free(p->conn);
    free(p);
}

static inline int peer_send(struct peer *p, const uint8_t *data, size_t len)
{
    return mtls_p2s_conn_input(p->conn, data, len, p->lab->now);
}

static inline void peer_greet(struct peer *p)
{
    assert_int_equal(peer_send(p, mtls_preface, MTLS_PREFACE_LEN), 0);
}

/* Reads what the server has written. */
static inline void peer_pull(struct peer *p)
{
    size_t len, pos = 0;
    const uint8_t *out = mtls_p2s_conn_out(p->conn, &len);
    struct mtls_frame f;
    int rc;

    while ((rc = mtls_frame_reader_next(&p->reader, out, len, &pos, &f)) > 0) {
        assert_true(p->nframes < LAB_FRAMES);
        memcpy(p->frames[p->nframes].bytes, f.raw, f.raw_len);
        p->frames[p->nframes++].len = f.raw_len;
    }
    assert_int_equal(rc, 0);
    mtls_p2s_conn_sent(p->conn, len);
}

/* The next frame must be of this type and claim; returns its body. */
static inline const uint8_t *peer_expect(struct peer *p, uint8_t type, uint32_t claim)
{
    const uint8_t *b;

    peer_pull(p);
    assert_true(p->taken < p->nframes);
    b = p->frames[p->taken++].bytes;
    assert_int_equal(b[0], type);
    assert_int_equal((uint32_t)b[4] << 24 | (uint32_t)b[5] << 16 | (uint32_t)b[6] << 8 | b[7],
                     claim);
    return b + MTLS_FRAME_HEADER_LEN;
}

static inline void peer_expect_nothing(struct peer *p)
{
    peer_pull(p);
    assert_int_equal(p->nframes - p->taken, 0);
}

static inline void peer_expect_fail(struct peer *p, uint32_t claim, uint8_t reason)
{
    assert_int_equal(peer_expect(p, MTLS_FRAME_FAIL, claim)[0], reason);
}

static inline int peer_hello_to(struct peer *p, uint32_t claim, uint32_t secret_number,
                                uint8_t path, uint16_t port)
{
    uint8_t secret[MTLS_SECRET_LEN], nonce[MTLS_NONCE_LEN];

    lab_secret(secret_number, secret);
    memset(nonce, (int)(claim * 7 + path), sizeof(nonce));
    mtls_frame_hello(p->hello, claim, port, path, secret, nonce);
    return peer_send(p, p->hello, sizeof(p->hello));
}

static inline int peer_hello(struct peer *p, uint32_t claim, uint32_t secret_number, uint8_t path)
{
    return peer_hello_to(p, claim, secret_number, path, 443);
}

/* READY with this status and the right echo of the last HELLO; p2 (NULL: not wanted) is computed.
 */
static inline void peer_expect_ready(struct peer *p, uint32_t claim, uint8_t status,
                                     uint8_t p2[MTLS_SHA256_LEN])
{
    const uint8_t *body = peer_expect(p, MTLS_FRAME_READY, claim);
    const struct mtls_bytes hello = {p->hello, sizeof(p->hello)};
    uint8_t echo[MTLS_SHA256_LEN];

    assert_int_equal(body[0], status);
    assert_int_equal(mtls_crypto_sha256(lab_crypto, &hello, 1, echo), 0);
    assert_memory_equal(body + 1 + MTLS_NONCE_LEN, echo, sizeof(echo));
    if (p2 != NULL)
        assert_int_equal(mtls_confirm_p2(lab_crypto, p->hello, body - MTLS_FRAME_HEADER_LEN, p2),
                         0);
}

/* One claim of the peer, as its own side knows it. */
struct side {
    struct peer *p;
    uint32_t id;
    struct mtls_counted counted; /* path, P2, tag_s */
    uint8_t slot, more;
};

/* HELLO answered with READY{ok}. */
static inline struct side side_open(struct peer *p, uint32_t id, uint32_t secret_number,
                                    uint8_t path)
{
    struct side s = {.p = p, .id = id, .counted.path = path};

    assert_int_equal(peer_hello(p, id, secret_number, path), 0);
    peer_expect_ready(p, id, MTLS_READY_OK, s.counted.p2);
    return s;
}

/* PROOF with the tag that these keys give. */
static inline void side_expect_proof(struct side *s, const struct mtls_keys *keys)
{
    const uint8_t *body = peer_expect(s->p, MTLS_FRAME_PROOF, s->id);

    s->slot = body[0];
    s->more = body[1];
    assert_int_equal(mtls_confirm_server_tag(lab_crypto, keys, s->counted.p2, s->counted.tag_s), 0);
    assert_memory_equal(body + 2, s->counted.tag_s, MTLS_TAG_LEN);
}

/* CONFIRM on s over the n counted sides, which are in path order. */
static inline void side_confirm_frame(const struct side *s, const struct mtls_keys *keys, uint8_t k,
                                      const struct side *const counted[], uint8_t n,
                                      uint8_t frame[MTLS_CONFIRM_LEN])
{
    struct mtls_counted list[MTLS_PATHS_MAX];
    uint8_t d[MTLS_SHA256_LEN], tag[MTLS_TAG_LEN];

    for (size_t i = 0; i < n; i++)
        list[i] = counted[i]->counted;
    assert_int_equal(mtls_confirm_d(lab_crypto, list, n, d), 0);
    assert_int_equal(
        mtls_confirm_client_tag(lab_crypto, keys, s->counted.p2, s->counted.tag_s, k, n, d, tag),
        0);
    mtls_frame_confirm(frame, s->id, s->slot, k, n, tag);
}

static inline int side_confirm(const struct side *s, const struct mtls_keys *keys, uint8_t k,
                               const struct side *const counted[], uint8_t n)
{
    uint8_t frame[MTLS_CONFIRM_LEN];

    side_confirm_frame(s, keys, k, counted, n, frame);
    return peer_send(s->p, frame, sizeof(frame));
}

static inline struct mtls_p2s_session *lab_session(struct lab *lab, uint32_t secret_number,
                                                   void *user)
{
    struct mtls_p2s_session *x = NULL;
    uint8_t join[MTLS_JOIN_LEN];

    lab_join(secret_number, join);
    assert_int_equal(mtls_p2s_session_new(&x, lab->server, join, user, lab->now), 0);
    return x;
}

static inline int lab_session_rc(struct lab *lab, uint32_t secret_number)
{
    struct mtls_p2s_session *x = NULL;
    uint8_t join[MTLS_JOIN_LEN];

    lab_join(secret_number, join);
    return mtls_p2s_session_new(&x, lab->server, join, NULL, lab->now);
}

#endif
