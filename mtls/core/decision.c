/* Concept: see decision.h. */
#include "decision.h"

/* ---- Paths ---- */

/* [DWN-1] The server has shown that it speaks Multipath TLS, and has not said that it does not on
 * this port. */
static bool showed_ready(const struct mtls_path_status *p)
{
    if (p->not_here)
        return false;
    return p->ready_seen || p->state == MTLS_PATH_READY || p->state == MTLS_PATH_PROOF ||
           p->state == MTLS_PATH_WRONG;
}

bool mtls_path_definitely_negative(const struct mtls_path_status *p)
{
    if (p->not_here)
        return true;
    if (p->state != MTLS_PATH_FAILED || p->ready_seen)
        return false;
    switch (p->error) {
    case MTLS_ERR_PATH_REFUSED:
    case MTLS_ERR_PATH_CLOSED:
    case MTLS_ERR_PATH_FOREIGN:
    case MTLS_ERR_READY_MISMATCH:
    case MTLS_ERR_FRAME_PREFACE:
    case MTLS_ERR_SOCKS_REFUSED:
        return true;
    default: /* silence, and what we or a proxy could not do, say nothing about the server */
        return false;
    }
}

/* A right proof may still come of it: before the deadline a further PROOF may put a wrong one
 * right, if the server has other sessions of this join. */
static bool may_deliver(const struct mtls_path_status *p)
{
    switch (p->state) {
    case MTLS_PATH_IDLE:
    case MTLS_PATH_STARTING:
    case MTLS_PATH_READY:
        return true;
    case MTLS_PATH_PROOF:
        return !p->proof_right;
    case MTLS_PATH_WRONG:
        return !p->only_session;
    default:
        return false;
    }
}

struct counts {
    unsigned proof;      /* in state PROOF */
    unsigned right;      /* of these, checked and right */
    unsigned hopeful;    /* not right yet, but may_deliver() */
    unsigned pending;    /* no answer yet */
    bool wrong;          /* a path in state WRONG */
    bool wrong_for_good; /* and no other session can explain it */
    bool no_proof;       /* READY{ok} came, and then no PROOF */
    bool ready;          /* showed_ready(), on this claim or the one before */
    bool all_negative;
};

static struct counts count_paths(const struct mtls_decision_input *in)
{
    struct counts n = {.all_negative = true};

    for (size_t i = 0; i < in->npaths; i++) {
        const struct mtls_path_status *p = &in->paths[i];

        n.proof += p->state == MTLS_PATH_PROOF;
        n.right += p->state == MTLS_PATH_PROOF && p->proof_right;
        n.hopeful += may_deliver(p);
        n.pending += p->state == MTLS_PATH_IDLE || p->state == MTLS_PATH_STARTING;
        n.wrong |= p->state == MTLS_PATH_WRONG;
        n.wrong_for_good |= p->state == MTLS_PATH_WRONG && p->only_session;
        n.no_proof |=
            p->state == MTLS_PATH_READY ||
            (p->state == MTLS_PATH_FAILED && showed_ready(p) && p->error != MTLS_ERR_PATH_BUSY);
        n.ready |= showed_ready(p) || p->ready_before;
        n.all_negative &= mtls_path_definitely_negative(p) && !p->ready_before;
    }
    return n;
}

/* ---- Reasons ---- */

/* Errors of paths, the most telling first: what the server said, what its address did, what we
 * could not do. */
static const int telling[] = {
    MTLS_ERR_PROOF_WRONG,       MTLS_ERR_PROOF_MISSING,     MTLS_ERR_READY_MISMATCH,
    MTLS_ERR_PATH_BUSY,         MTLS_ERR_PATH_NOT_HERE,     MTLS_ERR_PATH_FOREIGN,
    MTLS_ERR_PATH_NOT_DISTINCT, MTLS_ERR_PATH_INADMISSIBLE, MTLS_ERR_PATH_CLOSED,
    MTLS_ERR_PATH_REFUSED,      MTLS_ERR_SOCKS_REFUSED,     MTLS_ERR_PATH_PROXY,
    MTLS_ERR_PATH_TIMEOUT,      MTLS_ERR_PATH_UNREACHABLE,  MTLS_ERR_PATH_RESOLVE,
    MTLS_ERR_PATH_BIND,
};

static int most_telling(const struct mtls_decision_input *in)
{
    int any = 0;

    for (size_t t = 0; t < sizeof(telling) / sizeof(telling[0]); t++)
        for (size_t i = 0; i < in->npaths; i++)
            if (in->paths[i].state == MTLS_PATH_FAILED && in->paths[i].error == telling[t])
                return telling[t];
    for (size_t i = 0; i < in->npaths && any == 0; i++)
        if (in->paths[i].state == MTLS_PATH_FAILED)
            any = in->paths[i].error;
    if (any < 0)
        return any;
    return in->npaths == 0 ? MTLS_ERR_PATH_NONE : MTLS_ERR_PROOF_TOO_FEW;
}

/* So many paths have failed that need cannot be met any more. */
static int shortage_reason(const struct mtls_decision_input *in, const struct counts *n,
                           unsigned need)
{
    if (n->wrong)
        return MTLS_ERR_PROOF_WRONG;
    if (n->right < need)
        return most_telling(in);
    return in->selected == 0 ? MTLS_ERR_PATH_NOT_DISTINCT : MTLS_ERR_PROOF_TOO_FEW;
}

static int deadline_reason(const struct mtls_decision_input *in, const struct counts *n,
                           unsigned need, bool enough)
{
    if (n->wrong)
        return MTLS_ERR_PROOF_WRONG;
    if (enough) /* path 2 was in time, the rest was not */
        return MTLS_ERR_DEADLINE;
    if (n->no_proof)
        return MTLS_ERR_PROOF_MISSING;
    if (n->pending > 0 && n->right < need)
        return MTLS_ERR_PATH_TIMEOUT;
    return shortage_reason(in, n, need);
}

/* ---- The decision ---- */

static struct mtls_decision verdict(enum mtls_verdict v, int reason)
{
    return (struct mtls_decision){.verdict = v, .reason = reason, .next = MTLS_TSTAMP_NEVER};
}

static struct mtls_decision wait_until(mtls_tstamp at)
{
    return (struct mtls_decision){.verdict = MTLS_WAIT, .next = at};
}

/* [DWN-5] The grace is at least four round trips of every path that has not answered definitely. */
static mtls_tstamp grace_end(const struct mtls_decision_input *in)
{
    mtls_tstamp end = in->grace_end_at;

    for (size_t i = 0; i < in->npaths; i++) {
        mtls_tstamp least = in->started_at + 4 * (mtls_tstamp)in->paths[i].rtt_us;

        if (!mtls_path_definitely_negative(&in->paths[i]) && least > end)
            end = least;
    }
    return end;
}

/* No extension in EncryptedExtensions, or a TLS without that message [POL-3] [POL-4] [DWN-3]. */
static struct mtls_decision decide_plain(const struct mtls_decision_input *in,
                                         const struct counts *n, mtls_tstamp now)
{
    int why = in->tls_below_13 ? MTLS_ERR_TLS_VERSION : MTLS_ERR_NOT_OFFERED;
    mtls_tstamp end = grace_end(in);

    if (n->ready)
        return verdict(MTLS_FAILED, MTLS_ERR_DOWNGRADE);
    if (in->remembered)
        return verdict(MTLS_FAILED, MTLS_ERR_REMEMBERED);
    if (in->policy != MTLS_POLICY_PREFER)
        return verdict(MTLS_FAILED, why);
    if (in->npaths == 0)
        return verdict(MTLS_PLAIN, MTLS_ERR_PATH_NONE);
    if (now >= in->deadline_at) /* [CLI-3] */
        return verdict(MTLS_FAILED, MTLS_ERR_DEADLINE);
    if (n->all_negative || now >= end)
        return verdict(MTLS_PLAIN, why);
    return wait_until(end < in->deadline_at ? end : in->deadline_at);
}

/* We had no path to offer. */
static struct mtls_decision decide_unoffered(const struct mtls_decision_input *in)
{
    if (in->remembered)
        return verdict(MTLS_FAILED, MTLS_ERR_REMEMBERED);
    return verdict(in->policy == MTLS_POLICY_PREFER ? MTLS_PLAIN : MTLS_FAILED, MTLS_ERR_PATH_NONE);
}

/* Negotiated, the keys are not there: whether to let path 1 read on. */
static struct mtls_decision decide_read(const struct mtls_decision_input *in,
                                        const struct counts *n, unsigned need, mtls_tstamp now)
{
    bool enough = n->proof >= need || in->resumed_ok;

    if (now >= in->deadline_at)
        return verdict(MTLS_FAILED, deadline_reason(in, n, need, enough));
    if (enough)
        return verdict(MTLS_READ_ON, 0);
    if (n->wrong_for_good)
        return verdict(MTLS_FAILED, MTLS_ERR_PROOF_WRONG);
    if (n->right + n->hopeful < need)
        return verdict(MTLS_FAILED, shortage_reason(in, n, need));
    return wait_until(in->deadline_at);
}

/* Negotiated, the keys are there: the second flight goes out, or it does not [CLI-1]. */
static struct mtls_decision decide_write(const struct mtls_decision_input *in,
                                         const struct counts *n, unsigned need, mtls_tstamp now)
{
    unsigned selected = in->selected < n->right ? in->selected : n->right;
    bool verified = selected >= need;

    if (now >= in->deadline_at)
        return verdict(MTLS_FAILED, deadline_reason(in, n, need, verified || in->resumed_ok));
    if (verified)
        return verdict(MTLS_VERIFIED, 0);
    if (n->wrong_for_good) /* [RES-10] a ticket does not outweigh it */
        return verdict(MTLS_FAILED, MTLS_ERR_PROOF_WRONG);
    if (in->resumed_ok)
        return verdict(MTLS_RESUMED, 0);
    if (selected + n->hopeful < need)
        return verdict(MTLS_FAILED, shortage_reason(in, n, need));
    return wait_until(in->deadline_at);
}

struct mtls_decision mtls_decide(const struct mtls_decision_input *in, mtls_tstamp now)
{
    unsigned need = in->need > 0 ? in->need : 1;
    struct counts n;

    if (in->policy == MTLS_POLICY_OFF)
        return verdict(MTLS_PLAIN, MTLS_ERR_PATH_NONE);
    if (in->npaths > MTLS_PATHS_MAX)
        return verdict(MTLS_FAILED, MTLS_ERR_INTERNAL);
    if (!in->offered)
        return decide_unoffered(in);
    n = count_paths(in);
    if (in->tls_below_13 || in->answered == MTLS_OFFER_NO ||
        (in->answered == MTLS_OFFER_UNKNOWN && in->at_write))
        return decide_plain(in, &n, now);
    if (in->answered == MTLS_OFFER_UNKNOWN) {
        if (now >= in->deadline_at && in->policy != MTLS_POLICY_PREFER)
            return verdict(MTLS_FAILED, MTLS_ERR_DEADLINE);
        return verdict(MTLS_READ_ON, 0);
    }
    return in->at_write ? decide_write(in, &n, need, now) : decide_read(in, &n, need, now);
}
