/* Concept: the verdict of a confirmation by resumption (see resume_verdict.h). */
#include "resume_verdict.h"

static const struct {
    enum mtls_rsm_verdict verdict;
    const char *word, *text;
} reasons[MTLS_RSM_WHY_COUNT] = {
#define ROW(sym, v, w, t) [MTLS_RSM_WHY_##sym] = {.verdict = MTLS_RSM_##v, .word = w, .text = t},
    MTLS_RSM_REASONS(ROW)
#undef ROW
};

enum { ILLEGAL_PARAMETER = 47, DECRYPT_ERROR = 51, PROTOCOL_VERSION = 70 };

static enum mtls_rsm_reason known(enum mtls_rsm_reason reason)
{
    return (unsigned)reason < MTLS_RSM_WHY_COUNT ? reason : MTLS_RSM_WHY_LOCAL;
}

enum mtls_rsm_verdict mtls_rsm_verdict_of(enum mtls_rsm_reason reason)
{
    return reasons[known(reason)].verdict;
}

const char *mtls_rsm_word(enum mtls_rsm_reason reason)
{
    return reasons[known(reason)].word;
}

const char *mtls_rsm_meaning(enum mtls_rsm_reason reason)
{
    return reasons[known(reason)].text;
}

const char *mtls_rsm_end_word(enum mtls_rsm_end end)
{
    static const char *const words[] = {"not-made", "completed", "alert",   "closed",
                                        "silent",   "below-13",  "foreign", "local-error"};

    return words[(unsigned)end <= MTLS_RSM_BROKEN ? end : MTLS_RSM_BROKEN];
}

/* A full handshake on path 2: the certificates speak. Another key contradicts path 1 whoever
 * vouches for it; so does an invalid certificate where path 1 showed a valid one. */
static enum mtls_rsm_reason full_handshake(const struct mtls_rsm_facts *f)
{
    if (f->key == MTLS_RSM_KEY_UNKNOWN)
        return MTLS_RSM_WHY_LOCAL;
    if (f->checked && !f->chain_valid)
        return MTLS_RSM_WHY_PATH2_CERTIFICATE;
    if (f->key == MTLS_RSM_KEY_ALTERNATE)
        return MTLS_RSM_WHY_ALTERNATE_KEY;
    if (f->key != MTLS_RSM_KEY_SAME)
        return MTLS_RSM_WHY_OTHER_KEY;
    if (!f->checked || !f->chain_valid)
        return MTLS_RSM_WHY_UNCHECKED;
    if (!f->distinct)
        return MTLS_RSM_WHY_NOT_DISTINCT;
    return f->ticket ? MTLS_RSM_WHY_NOT_RESUMED : MTLS_RSM_WHY_NO_TICKET;
}

static enum mtls_rsm_reason alerted(const struct mtls_rsm_facts *f)
{
    if (f->ticket && (f->alert == ILLEGAL_PARAMETER || f->alert == DECRYPT_ERROR))
        return MTLS_RSM_WHY_TICKET_REFUSED;
    return f->alert == PROTOCOL_VERSION ? MTLS_RSM_WHY_PATH2_TLS_VERSION : MTLS_RSM_WHY_PATH2_ALERT;
}

static enum mtls_rsm_reason completed(const struct mtls_rsm_facts *f)
{
    if (!f->psk)
        return full_handshake(f);
    if (!f->ticket) /* selected, and never offered */
        return MTLS_RSM_WHY_PATH2_FOREIGN;
    return f->distinct ? MTLS_RSM_WHY_RESUMED : MTLS_RSM_WHY_NOT_DISTINCT;
}

static enum mtls_rsm_reason path2(const struct mtls_rsm_facts *f)
{
    switch (f->end) {
    case MTLS_RSM_COMPLETED:
        return completed(f);
    case MTLS_RSM_ALERTED:
        return alerted(f);
    case MTLS_RSM_NOT_MADE:
        return MTLS_RSM_WHY_PATH2_FAILED;
    case MTLS_RSM_CLOSED:
        return MTLS_RSM_WHY_PATH2_CLOSED;
    case MTLS_RSM_SILENT:
        return MTLS_RSM_WHY_PATH2_SILENT;
    case MTLS_RSM_BELOW_13:
        return MTLS_RSM_WHY_PATH2_TLS_VERSION;
    case MTLS_RSM_FOREIGN:
        return MTLS_RSM_WHY_PATH2_FOREIGN;
    default:
        return MTLS_RSM_WHY_LOCAL;
    }
}

/* [RSM-10] What an endpoint showed, not what somebody on the way can bring about by cutting. */
static bool shows_less(enum mtls_rsm_reason reason)
{
    return mtls_rsm_verdict_of(reason) == MTLS_RSM_CONSISTENT ||
           reason == MTLS_RSM_WHY_TLS_VERSION || reason == MTLS_RSM_WHY_PATH2_TLS_VERSION ||
           reason == MTLS_RSM_WHY_ALTERNATE_KEY;
}

enum mtls_rsm_reason mtls_rsm_judge(const struct mtls_rsm_facts *f)
{
    enum mtls_rsm_reason reason;

    if (f->broken)
        reason = MTLS_RSM_WHY_LOCAL;
    else if (!f->tls13)
        reason = MTLS_RSM_WHY_TLS_VERSION;
    else if (f->record)
        reason = MTLS_RSM_WHY_SPARE_TICKET;
    else if (!f->path1_open)
        reason = MTLS_RSM_WHY_PATH1_CLOSED;
    else
        reason = path2(f);
    return f->remembered && shows_less(reason) ? MTLS_RSM_WHY_SHOWS_LESS : reason;
}

bool mtls_rsm_allows(enum mtls_policy policy, bool accept_consistent, bool remembered,
                     enum mtls_rsm_verdict verdict)
{
    if (policy == MTLS_POLICY_OFF)
        return true;
    switch (verdict) {
    case MTLS_RSM_VERIFIED:
        return true;
    case MTLS_RSM_CONSISTENT:
        return policy == MTLS_POLICY_PREFER || accept_consistent;
    case MTLS_RSM_UNPROVEN:
        return policy == MTLS_POLICY_PREFER && !remembered;
    default:
        return false;
    }
}
