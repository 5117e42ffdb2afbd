/* Concept: one SMKEX connection, sans I/O: path 1's bytes in and out, what path 2 needs of it, the
 * decision told to it, then data. Owns its keys and buffers. It knows no path 2, no time and no
 * policy: the driver runs those (smkex/net), and calls smkex_machine_decide() when all is proven.
 *
 *     client: new (OFFER waits in out) -> filled .. KEYED -> path 2 -> decide -> OPEN
 *     server: new -> filled .. OFFERED -> answer -> KEYED -> path 2 -> decide -> OPEN
 *
 * Errors are sticky [SER-2]. */
#ifndef SMKEX_CORE_MACHINE_H
#define SMKEX_CORE_MACHINE_H

#include "mtls/core/outbuf.h"
#include "record.h"

enum smkex_state {
    SMKEX_STATE_WAIT,    /* for the peer's OFFER or ANSWER */
    SMKEX_STATE_OFFERED, /* server: OFFER is here; smkex_machine_answer() or _refuse() */
    SMKEX_STATE_KEYED,   /* keys for path 2 are there; nothing is read until the decision */
    SMKEX_STATE_OPEN,    /* decided: data */
    SMKEX_STATE_FAILED,
};

enum { SMKEX_OUT_MAX = 4 * SMKEX_RECORD_MAX /* waiting to be written */ };

struct smkex_params {
    bool server;
    enum smkex_mode mode;
    uint8_t nsuites, suites[SMKEX_LIST_MAX]; /* the preferred first */
    uint8_t ngroups, groups[SMKEX_GROUPS_MAX];
    uint8_t join[MTLS_JOIN_LEN]; /* client */
    EVP_PKEY *key;               /* server: Ed25519 or NULL; the caller's, outlives the machine */
    uint32_t max_age;            /* server */
    uint32_t pad;                /* [REC-7] 0: none */
    bool over;                   /* [MPC-1] client: asks for it; server: grants it */
};

struct smkex_machine;

/* params are copied. Errors: MTLS_ERR_NOMEM, MTLS_ERR_CRYPTO, MTLS_ERR_ARG. */
MTLS_NODISCARD int smkex_machine_new(struct smkex_machine **out, const struct smkex_crypto *c,
                                     const struct smkex_params *params);
void smkex_machine_free(struct smkex_machine *m);
enum smkex_state smkex_machine_state(const struct smkex_machine *m);
int smkex_machine_error(const struct smkex_machine *m); /* FAILED: MTLS_ERR_* */

/* ---- Path 1 in: read at most *len bytes to here, then tell. ---- */

/* NULL: nothing must be read now (OFFERED, KEYED, FAILED, unread data). Before OPEN never beyond
 * the message that is awaited. */
uint8_t *smkex_machine_room(struct smkex_machine *m, size_t *len);
/* Of that message so many bytes are missing, at least, as far as is known (0: not in WAIT). More
 * than *len of room: the end is not known yet. */
size_t smkex_machine_missing(const struct smkex_machine *m);
/* Client: a refusal is coming in; it is no use waiting for path 2 with its last byte. */
bool smkex_machine_is_refused(const struct smkex_machine *m);
/* len of them came. Errors: what the bytes are guilty of; the machine has failed then. */
MTLS_NODISCARD int smkex_machine_filled(struct smkex_machine *m, size_t len);
/* Path 1 ended. Errors: MTLS_ERR_PEER_CLOSED (before OPEN), MTLS_ERR_SMKEX_TRUNCATED (without
 * close_notify). */
MTLS_NODISCARD int smkex_machine_eof(struct smkex_machine *m);

/* ---- The exchange ---- */

/* OFFERED: the client's join. */
const uint8_t *smkex_machine_join(const struct smkex_machine *m);
/* OFFERED: chooses and answers. A refusal waits in out when this fails with MTLS_ERR_SMKEX_CHOICE
 * or _SHARE. */
MTLS_NODISCARD int smkex_machine_answer(struct smkex_machine *m);
/* Queues a refusal; the machine has failed with error. */
void smkex_machine_refuse(struct smkex_machine *m, enum smkex_refusal why, int error);
/* KEYED: for path 2. */
const struct mtls_keys *smkex_machine_keys(const struct smkex_machine *m);
/* Client, KEYED and later: the server's proven key, NULL if it showed none; for how long it may be
 * remembered. */
const uint8_t *smkex_machine_server_key(const struct smkex_machine *m, uint32_t *max_age);
/* KEYED -> OPEN. Single-path mode: d NULL, k = n = 0. Errors: MTLS_ERR_ARG, MTLS_ERR_CRYPTO. */
MTLS_NODISCARD int smkex_machine_decide(struct smkex_machine *m, const uint8_t d[MTLS_SHA256_LEN],
                                        uint8_t k, uint8_t n);
/* For reports: OFFER and ANSWER as far as they were sent and came; the machine's. */
void smkex_machine_messages(const struct smkex_machine *m, struct mtls_bytes *sent,
                            struct mtls_bytes *received);
/* Their hash, once both are whole; NULL before. */
const uint8_t *smkex_machine_hash(const struct smkex_machine *m, size_t *len);
/* For reports: what was chosen; 0 before. */
uint8_t smkex_machine_suite(const struct smkex_machine *m);
uint8_t smkex_machine_group(const struct smkex_machine *m);

/* ---- Path 2 in the same connection [MPC] ---- */

/* Asked for by the one (server: from OFFERED on) and granted by the other (client: from KEYED on).
 */
bool smkex_machine_over(const struct smkex_machine *m);
/* Lengths of the message that was sent and of the one that came. */
void smkex_machine_lengths(const struct smkex_machine *m, size_t *sent, size_t *received);

/* ---- Path 1 out ---- */

const uint8_t *smkex_machine_out(const struct smkex_machine *m, size_t *len);
void smkex_machine_sent(struct smkex_machine *m, size_t n);

/* ---- Data, OPEN ---- */

/* What was received and not yet taken; 0 if there is nothing. */
const uint8_t *smkex_machine_data(const struct smkex_machine *m, size_t *len);
/* n bytes of it were taken. Errors: of the records behind it. */
MTLS_NODISCARD int smkex_machine_take(struct smkex_machine *m, size_t n);
bool smkex_machine_peer_closed(const struct smkex_machine *m);   /* close_notify came */
bool smkex_machine_peer_finished(const struct smkex_machine *m); /* [SID-3] */
/* OPEN: of the record that is coming in so many bytes are missing, as far as is known; 0: it is no
 * record. */
size_t smkex_machine_record_missing(const struct smkex_machine *m);
/* Seals what it has room for; returns how many bytes (0: the queue is full). Errors:
 * MTLS_ERR_ARG (not OPEN, or closed by us), MTLS_ERR_CRYPTO, MTLS_ERR_NOMEM. */
int smkex_machine_write(struct smkex_machine *m, const uint8_t *data, size_t len);
/* close_notify, once. */
MTLS_NODISCARD int smkex_machine_close(struct smkex_machine *m);
/* A new key for what we send; request: the peer is asked for one too. */
MTLS_NODISCARD int smkex_machine_update(struct smkex_machine *m, bool request);

#endif
