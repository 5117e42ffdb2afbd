/* Concept: the insides of a connection, shared by its exchange (machine.c) and its records
 * (machine_data.c). Nobody else includes it. */
#ifndef SMKEX_CORE_MACHINE_INTERNAL_H
#define SMKEX_CORE_MACHINE_INTERNAL_H

#include "machine.h"

enum { SMKEX_IN_LEN = 2 * SMKEX_RECORD_MAX, SMKEX_EMPTY_MAX = 32 /* [REC-6] */ };

struct smkex_machine {
    const struct smkex_crypto *crypto;
    struct smkex_params params;
    enum smkex_state state;
    int error;
    struct mtls_outbuf out;

    /* the exchange */
    uint8_t sent[SMKEX_MESSAGE_MAX], received[SMKEX_MESSAGE_MAX]; /* OFFER and ANSWER */
    size_t sent_len, received_len;
    struct smkex_offer offer; /* client: ours */
    struct smkex_answer answer;
    EVP_PKEY *dh[SMKEX_GROUPS_MAX]; /* client: of each share; server: [0] */
    uint8_t es[32];
    uint8_t th[MTLS_SHA256_LEN]; /* of both messages, for reports */
    size_t th_len;               /* 0: not yet */
    struct mtls_keys keys;

    /* records */
    struct smkex_direction sending, receiving;
    uint8_t *scratch, *in;       /* SMKEX_RECORD_MAX; SMKEX_IN_LEN */
    size_t in_start, in_end;     /* unopened bytes */
    size_t data_start, data_end; /* content of the opened record that is not yet taken */
    unsigned empty;              /* records without data in a row */
    bool peer_finished, peer_closed, closed, update_owed;
};

/* Sticky. Returns the error that stands. */
int smkex_machine_fail(struct smkex_machine *m, int error);

/* machine.c, state WAIT */
uint8_t *smkex_exchange_room(struct smkex_machine *m, size_t *len);
MTLS_NODISCARD int smkex_exchange_filled(struct smkex_machine *m, size_t len);

/* machine_data.c: buffers, and Finished into out. */
MTLS_NODISCARD int smkex_data_begin(struct smkex_machine *m);

#endif
