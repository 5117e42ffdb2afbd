/* Concept: the client's decision, as a function of what is known and the time: wait, go on as
 * verified, resumed-verified or plain, or fail and with which reason (protocol.md, "Policies" and
 * "Downgrade"). A pure function; the gate calls it whenever something changed. */
#ifndef MTLS_CORE_DECISION_H
#define MTLS_CORE_DECISION_H

#include "common.h"
#include "config.h"

enum mtls_path_state {
    MTLS_PATH_IDLE,     /* not started (late mode, resumed) */
    MTLS_PATH_STARTING, /* look-up, connect, HELLO under way */
    MTLS_PATH_READY,    /* READY{ok}, no PROOF yet */
    MTLS_PATH_PROOF,    /* PROOF(s) here, not checked (keys not there yet), or right */
    MTLS_PATH_WRONG,    /* keys are there and no PROOF of this path fits */
    MTLS_PATH_FAILED,   /* ended; error says how */
};

struct mtls_path_status {
    enum mtls_path_state state;
    int error;         /* FAILED: MTLS_ERR_PATH_* ... */
    bool ready_seen;   /* any READY (busy and not-here too) with the right echo */
    bool not_here;     /* READY{not-here} */
    bool ready_before; /* READY{ok} or READY{busy} on an announced claim that had ended before */
    bool proof_right;  /* a PROOF was checked and fits */
    bool only_session; /* WRONG: every PROOF had more == 0 (fatal at once) */
    uint32_t rtt_us;   /* 0 = unknown */
};

enum mtls_offer {
    MTLS_OFFER_UNKNOWN,
    MTLS_OFFER_YES,
    MTLS_OFFER_NO
}; /* the extension in EncryptedExtensions */

struct mtls_decision_input {
    enum mtls_policy policy;
    uint8_t need;
    bool offered; /* we sent the extension */
    enum mtls_offer answered;
    bool tls_below_13;
    bool
        resumed_ok; /* record valid, PSK accepted with key exchange, CONFIRM_NEEDED clear [RES-2] */
    bool remembered; /* host memory or the 10-minute downgrade memory */
    bool
        at_write; /* keys are there; false: before, at a held read (then PROCEED means "read on") */
    uint8_t npaths;
    struct mtls_path_status paths[MTLS_PATHS_MAX];
    uint8_t selected;       /* at_write: number of pairwise distinct right proofs (distinct.h) */
    mtls_tstamp started_at; /* path 2: the ClientHello, or later where it was begun later */
    mtls_tstamp deadline_at,
        grace_end_at; /* grace_end_at >= started_at + grace, never shortened by path 1 */
};

enum mtls_verdict { MTLS_WAIT, MTLS_READ_ON, MTLS_VERIFIED, MTLS_RESUMED, MTLS_PLAIN, MTLS_FAILED };

struct mtls_decision {
    enum mtls_verdict verdict;
    int reason;       /* FAILED: MTLS_ERR_*; PLAIN: why (MTLS_ERR_NOT_OFFERED, _TLS_VERSION, ...) */
    mtls_tstamp next; /* WAIT: ask again at this time at the latest */
};

/* Never WAITs past deadline_at. */
struct mtls_decision mtls_decide(const struct mtls_decision_input *in, mtls_tstamp now);

/* Whether this state of a path is a definite negative in the sense of [DWN-4]. */
bool mtls_path_definitely_negative(const struct mtls_path_status *p);

#endif
