/* Concept: the bytes of SMKEX's path 1 before its records: OFFER and ANSWER (doc/smkex.md). Encodes
 * and parses whole messages; knows layouts and ranges, neither keys nor states. */
#ifndef SMKEX_CORE_WIRE_H
#define SMKEX_CORE_WIRE_H

#include "mtls/core/common.h"

enum smkex_mode { SMKEX_MODE_MULTIPATH, SMKEX_MODE_SINGLE };
enum smkex_group { SMKEX_GROUP_X25519 = 1, SMKEX_GROUP_P256 = 2 };
enum smkex_suite { SMKEX_SUITE_AES128 = 1, SMKEX_SUITE_CHACHA20 = 2 };
enum smkex_refusal {
    SMKEX_REFUSE_VERSION = 1,
    SMKEX_REFUSE_SUITE = 2,
    SMKEX_REFUSE_GROUP = 3,
    SMKEX_REFUSE_MALFORMED = 4,
    SMKEX_REFUSE_ROOM = 5,
};

enum {
    SMKEX_MAGIC_LEN = 8,
    SMKEX_HEAD_LEN = 10, /* magic and length */
    SMKEX_MESSAGE_MIN = SMKEX_HEAD_LEN + 1,
    SMKEX_BODY_MAX = 1024,
    SMKEX_MESSAGE_MAX = SMKEX_HEAD_LEN + SMKEX_BODY_MAX,
    SMKEX_SHARE_MAX = 65,
    SMKEX_LIST_MAX = 16,
    SMKEX_GROUPS_MAX = 8,
    SMKEX_KEY_LEN = 32, /* Ed25519 public key */
    SMKEX_SIG_LEN = 64,
    SMKEX_FLAG_SIGNED = 0x01, /* ANSWER's */
    SMKEX_FLAG_OVER = 0x02,   /* both: path 2 is this MPTCP connection's second subflow [MPC-1] */
};

/* 32 or 65; 0 for a group that is not known. */
size_t smkex_share_len(uint8_t group);

struct smkex_share {
    uint8_t group, len;
    uint8_t bytes[SMKEX_SHARE_MAX];
};

struct smkex_offer {
    enum smkex_mode mode;
    uint8_t nver, versions[SMKEX_LIST_MAX];
    uint8_t flags;
    uint8_t join[MTLS_JOIN_LEN];
    uint8_t nsuites, suites[SMKEX_LIST_MAX];
    uint8_t ngroups; /* parsed: of the known ones alone, others are skipped [OFR-2] */
    struct smkex_share shares[SMKEX_GROUPS_MAX];
};

struct smkex_answer {
    enum smkex_mode mode;
    uint8_t version; /* 0: a refusal */
    uint8_t refusal;
    uint8_t flags;
    uint32_t max_age;
    uint8_t suite;
    struct smkex_share share;
    bool is_signed;
    uint8_t key[SMKEX_KEY_LEN], signature[SMKEX_SIG_LEN];
};

/* What the first len bytes of a message say: > 0: its whole length; 0: not known yet. Errors:
 * MTLS_ERR_SMKEX_FOREIGN (no magic, at the first byte that shows it), MTLS_ERR_SMKEX_MALFORMED
 * (length out of range). */
MTLS_NODISCARD int smkex_message_length(const uint8_t *data, size_t len);
/* The mode that the magic of a message with at least SMKEX_MAGIC_LEN right bytes stands for. */
enum smkex_mode smkex_message_mode(const uint8_t *data);

/* Encoders return the length; out has SMKEX_MESSAGE_MAX bytes. Errors: MTLS_ERR_ARG (a count out of
 * range). */
int smkex_offer_encode(const struct smkex_offer *o, uint8_t out[SMKEX_MESSAGE_MAX]);
int smkex_answer_encode(const struct smkex_answer *a, uint8_t out[SMKEX_MESSAGE_MAX]);

/* Parse one whole message. Errors: MTLS_ERR_SMKEX_FOREIGN, MTLS_ERR_SMKEX_MALFORMED. An ANSWER of
 * another version than 1 is refused as MTLS_ERR_SMKEX_CHOICE before what follows is looked at. */
MTLS_NODISCARD int smkex_offer_parse(const uint8_t *data, size_t len, struct smkex_offer *o);
MTLS_NODISCARD int smkex_answer_parse(const uint8_t *data, size_t len, struct smkex_answer *a);

#endif
