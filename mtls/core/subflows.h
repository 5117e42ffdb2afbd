/* Concept: which bytes of one MPTCP connection travelled on which of its subflows, judged by the
 * kernel's counters [MPC]. Pure: net/mptcp.h reads the counters. */
#ifndef MTLS_CORE_SUBFLOWS_H
#define MTLS_CORE_SUBFLOWS_H

#include "common.h"

enum { MTLS_SUBFLOWS_MAX = 8 };

struct mtls_subflow {
    uint32_t id; /* never used twice in a connection; the first subflow's is the lowest */
    struct mtls_addr local, remote;
    bool established;        /* TCP's handshake is done */
    bool full;               /* and MPTCP's: data may travel */
    bool backup, by_peer;    /* we asked the peer not to use it; the peer asked us */
    bool flags_known;        /* whether full, backup and by_peer could be read */
    uint64_t received, sent; /* bytes in order; bytes without what was sent again */
};

/* All subflows at one moment, the first one first. */
struct mtls_subflows {
    uint8_t n;
    struct mtls_subflow at[MTLS_SUBFLOWS_MAX];
};

struct mtls_subflow_bytes {
    uint64_t received, sent;
    bool more; /* the peer may have sent more behind them by now */
};

/* Exactly two subflows that carry data [MPC-2]. Errors: MTLS_ERR_SUBFLOW_MISSING (the second is not
 * up yet), MTLS_ERR_SUBFLOW_CHANGED (more than two). */
MTLS_NODISCARD int mtls_subflows_pair(const struct mtls_subflows *now);

/* now: the same two as then, and each of them has carried exactly its path's bytes [MPC-5]:
 * equality, since a data-sequence mapping that was forged on path 1 is delivered as path 2's data,
 * and only the counters show it. more is for the second one, after an earlier check of equality:
 * the first one's counter shows that nothing came by it since. Errors: MTLS_ERR_SUBFLOW_CHANGED,
 * MTLS_ERR_SUBFLOW_BYTES. */
MTLS_NODISCARD int mtls_subflows_check(const struct mtls_subflows *then,
                                       const struct mtls_subflows *now,
                                       const struct mtls_subflow_bytes expected[2]);

#endif
