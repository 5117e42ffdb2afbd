/* The client's decision: [POL-3] [POL-4] [POL-6], [DWN-1] to [DWN-5], [PRF-5], [MUL-3], [CLI-3]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "mtls/core/decision.h"

enum { START = 1000000, GRACE = 2000000, DEADLINE = 11000000 };

/* ---- Paths by name ---- */

enum path_name {
    IDLE,
    STARTING,
    READY,
    PROOF,
    RIGHT,
    WRONG_ALONE,
    WRONG_OTHERS,
    REFUSED,
    CLOSED_EARLY,
    CLOSED_LATE,
    FOREIGN,
    UNREACHABLE,
    TIMEOUT,
    BUSY,
    NOT_HERE,
    MISSING,
    NPATHS,
};

static struct mtls_path_status path(enum path_name name)
{
    static const struct mtls_path_status all[NPATHS] = {
        [IDLE] = {.state = MTLS_PATH_IDLE},
        [STARTING] = {.state = MTLS_PATH_STARTING},
        [READY] = {.state = MTLS_PATH_READY, .ready_seen = true},
        [PROOF] = {.state = MTLS_PATH_PROOF, .ready_seen = true},
        [RIGHT] = {.state = MTLS_PATH_PROOF, .ready_seen = true, .proof_right = true},
        [WRONG_ALONE] = {.state = MTLS_PATH_WRONG, .ready_seen = true, .only_session = true},
        [WRONG_OTHERS] = {.state = MTLS_PATH_WRONG, .ready_seen = true},
        [REFUSED] = {.state = MTLS_PATH_FAILED, .error = MTLS_ERR_PATH_REFUSED},
        [CLOSED_EARLY] = {.state = MTLS_PATH_FAILED, .error = MTLS_ERR_PATH_CLOSED},
        [CLOSED_LATE] = {.state = MTLS_PATH_FAILED,
                         .error = MTLS_ERR_PATH_CLOSED,
                         .ready_seen = true},
        [FOREIGN] = {.state = MTLS_PATH_FAILED, .error = MTLS_ERR_PATH_FOREIGN},
        [UNREACHABLE] = {.state = MTLS_PATH_FAILED, .error = MTLS_ERR_PATH_UNREACHABLE},
        [TIMEOUT] = {.state = MTLS_PATH_FAILED, .error = MTLS_ERR_PATH_TIMEOUT},
        [BUSY] = {.state = MTLS_PATH_FAILED, .error = MTLS_ERR_PATH_BUSY, .ready_seen = true},
        [NOT_HERE] = {.state = MTLS_PATH_FAILED,
                      .error = MTLS_ERR_PATH_NOT_HERE,
                      .ready_seen = true,
                      .not_here = true},
        [MISSING] = {.state = MTLS_PATH_FAILED,
                     .error = MTLS_ERR_PROOF_MISSING,
                     .ready_seen = true},
    };

    return all[name];
}

static bool says_speaks(enum path_name name) /* READY{ok} or READY{busy} came */
{
    return path(name).ready_seen && name != NOT_HERE;
}

static bool says_no(enum path_name name) /* [DWN-4] */
{
    return name == REFUSED || name == CLOSED_EARLY || name == FOREIGN || name == NOT_HERE;
}

static bool can_still(enum path_name name) /* a right proof may come yet */
{
    return name <= PROOF || name == WRONG_OTHERS;
}

/* ---- One by one ---- */

struct given {
    enum mtls_policy policy;
    enum mtls_offer answered;
    bool at_write;
    int paths[3]; /* enum path_name + 1; 0 ends */
    uint8_t need, selected;
    mtls_tstamp now;
    unsigned flags;
};
enum { UNOFFERED = 1, OLD_TLS = 2, RESUMED = 4, REMEMBERED = 8 };

static struct mtls_decision_input input_of(const struct given *g)
{
    struct mtls_decision_input in = {
        .policy = g->policy,
        .need = g->need,
        .offered = (g->flags & UNOFFERED) == 0,
        .answered = g->answered,
        .tls_below_13 = (g->flags & OLD_TLS) != 0,
        .resumed_ok = (g->flags & RESUMED) != 0,
        .remembered = (g->flags & REMEMBERED) != 0,
        .at_write = g->at_write,
        .selected = g->selected,
        .started_at = START,
        .deadline_at = DEADLINE,
        .grace_end_at = GRACE,
    };

    while (in.npaths < 3 && g->paths[in.npaths] != 0) {
        in.paths[in.npaths] = path((enum path_name)(g->paths[in.npaths] - 1));
        in.npaths++;
    }
    return in;
}

#define P(name) ((name) + 1)
#define REQ     MTLS_POLICY_REQUIRE
#define PREF    MTLS_POLICY_PREFER
#define YES     MTLS_OFFER_YES
#define NO      MTLS_OFFER_NO
#define UNKNOWN MTLS_OFFER_UNKNOWN

static const struct row {
    struct given g;
    enum mtls_verdict verdict;
    int reason;
    mtls_tstamp next;
} rows[] = {
    /* negotiated, held read: enough proofs, whatever they are worth */
    {{REQ, YES, false, {P(PROOF)}, 1, 0, START, 0}, MTLS_READ_ON, 0, 0},
    {{REQ, YES, false, {P(PROOF), P(READY)}, 2, 0, START, 0}, MTLS_WAIT, 0, DEADLINE},
    {{REQ, YES, false, {P(READY)}, 1, 0, DEADLINE - 1, 0}, MTLS_WAIT, 0, DEADLINE},
    {{REQ, YES, false, {P(IDLE)}, 1, 0, START, RESUMED}, MTLS_READ_ON, 0, 0},
    {{REQ, YES, false, {P(READY)}, 1, 0, DEADLINE, 0}, MTLS_FAILED, MTLS_ERR_PROOF_MISSING, 0},
    {{REQ, YES, false, {P(STARTING)}, 1, 0, DEADLINE, 0}, MTLS_FAILED, MTLS_ERR_PATH_TIMEOUT, 0},
    {{REQ, YES, false, {P(PROOF)}, 1, 0, DEADLINE, 0}, MTLS_FAILED, MTLS_ERR_DEADLINE, 0},
    {{REQ, YES, false, {P(REFUSED)}, 1, 0, START, 0}, MTLS_FAILED, MTLS_ERR_PATH_REFUSED, 0},
    {{PREF, YES, false, {P(REFUSED)}, 1, 0, START, 0}, MTLS_FAILED, MTLS_ERR_PATH_REFUSED, 0},
    {{REQ, YES, false, {P(TIMEOUT), P(BUSY)}, 1, 0, START, 0}, MTLS_FAILED, MTLS_ERR_PATH_BUSY, 0},
    {{REQ, YES, false, {P(MISSING), P(BUSY)}, 1, 0, START, 0},
     MTLS_FAILED,
     MTLS_ERR_PROOF_MISSING,
     0},
    {{REQ, YES, false, {P(NOT_HERE)}, 1, 0, START, 0}, MTLS_FAILED, MTLS_ERR_PATH_NOT_HERE, 0},
    {{REQ, YES, false, {P(REFUSED), P(STARTING)}, 1, 0, START, 0}, MTLS_WAIT, 0, DEADLINE},
    {{REQ, YES, false, {P(REFUSED), P(STARTING)}, 2, 0, START, 0},
     MTLS_FAILED,
     MTLS_ERR_PATH_REFUSED,
     0},
    {{REQ, YES, false, {0}, 1, 0, START, 0}, MTLS_FAILED, MTLS_ERR_PATH_NONE, 0},
    {{REQ, YES, false, {P(STARTING)}, 2, 0, START, 0}, MTLS_FAILED, MTLS_ERR_PROOF_TOO_FEW, 0},
    {{REQ, YES, false, {P(PROOF), P(REFUSED)}, 2, 0, START, 0},
     MTLS_FAILED,
     MTLS_ERR_PATH_REFUSED,
     0},
    {{REQ, YES, false, {P(BUSY), P(STARTING)}, 1, 0, DEADLINE, 0},
     MTLS_FAILED,
     MTLS_ERR_PATH_TIMEOUT,
     0},
    /* negotiated, the keys are there */
    {{REQ, YES, true, {P(RIGHT)}, 1, 1, START, 0}, MTLS_VERIFIED, 0, 0},
    {{REQ, YES, true, {P(RIGHT)}, 0, 1, START, 0}, MTLS_VERIFIED, 0, 0},
    {{REQ, YES, true, {P(RIGHT), P(RIGHT)}, 2, 2, START, 0}, MTLS_VERIFIED, 0, 0},
    {{REQ, YES, true, {P(RIGHT)}, 1, 1, START, RESUMED}, MTLS_VERIFIED, 0, 0},
    {{REQ, YES, true, {P(IDLE)}, 1, 0, START, RESUMED}, MTLS_RESUMED, 0, 0},
    {{REQ, YES, true, {P(REFUSED)}, 1, 0, START, RESUMED}, MTLS_RESUMED, 0, 0},
    {{REQ, YES, true, {P(IDLE)}, 1, 0, DEADLINE, RESUMED}, MTLS_FAILED, MTLS_ERR_DEADLINE, 0},
    {{REQ, YES, true, {P(RIGHT)}, 1, 1, DEADLINE, 0}, MTLS_FAILED, MTLS_ERR_DEADLINE, 0},
    {{REQ, YES, true, {P(RIGHT)}, 1, 1, DEADLINE - 1, 0}, MTLS_VERIFIED, 0, 0},
    {{REQ, YES, true, {P(READY)}, 1, 0, START, 0}, MTLS_WAIT, 0, DEADLINE},
    {{REQ, YES, true, {P(READY)}, 1, 0, DEADLINE, 0}, MTLS_FAILED, MTLS_ERR_PROOF_MISSING, 0},
    {{REQ, YES, true, {P(CLOSED_LATE), P(STARTING)}, 1, 0, DEADLINE, 0},
     MTLS_FAILED,
     MTLS_ERR_PROOF_MISSING,
     0},
    {{REQ, YES, true, {P(WRONG_ALONE)}, 1, 0, START, 0}, MTLS_FAILED, MTLS_ERR_PROOF_WRONG, 0},
    {{PREF, YES, true, {P(WRONG_ALONE), P(STARTING)}, 1, 0, START, 0},
     MTLS_FAILED,
     MTLS_ERR_PROOF_WRONG,
     0},
    {{REQ, YES, true, {P(WRONG_ALONE)}, 1, 0, START, RESUMED},
     MTLS_FAILED,
     MTLS_ERR_PROOF_WRONG,
     0},
    {{REQ, YES, true, {P(STARTING)}, 1, 0, START, RESUMED}, MTLS_RESUMED, 0, 0},
    {{REQ, YES, true, {P(WRONG_ALONE), P(RIGHT)}, 1, 1, START, 0}, MTLS_VERIFIED, 0, 0},
    {{REQ, YES, true, {P(WRONG_OTHERS)}, 1, 0, START, 0}, MTLS_WAIT, 0, DEADLINE},
    {{REQ, YES, true, {P(WRONG_OTHERS)}, 1, 0, DEADLINE, 0}, MTLS_FAILED, MTLS_ERR_PROOF_WRONG, 0},
    {{REQ, YES, true, {P(WRONG_OTHERS), P(REFUSED)}, 2, 0, START, 0},
     MTLS_FAILED,
     MTLS_ERR_PROOF_WRONG,
     0},
    {{REQ, YES, true, {P(RIGHT)}, 1, 0, START, 0}, MTLS_FAILED, MTLS_ERR_PATH_NOT_DISTINCT, 0},
    {{REQ, YES, true, {P(RIGHT), P(STARTING)}, 1, 0, START, 0}, MTLS_WAIT, 0, DEADLINE},
    {{REQ, YES, true, {P(RIGHT), P(STARTING)}, 1, 0, DEADLINE, 0},
     MTLS_FAILED,
     MTLS_ERR_PATH_NOT_DISTINCT,
     0},
    {{REQ, YES, true, {P(RIGHT), P(RIGHT)}, 2, 1, START, 0},
     MTLS_FAILED,
     MTLS_ERR_PROOF_TOO_FEW,
     0},
    {{REQ, YES, true, {P(RIGHT), P(REFUSED)}, 2, 1, START, 0},
     MTLS_FAILED,
     MTLS_ERR_PATH_REFUSED,
     0},
    {{REQ, YES, true, {P(PROOF)}, 1, 1, START, 0},
     MTLS_WAIT,
     0,
     DEADLINE}, /* unchecked counts for nothing */
    /* not answered: [DWN-1] [POL-3] */
    {{REQ, NO, false, {P(STARTING)}, 1, 0, START, 0}, MTLS_FAILED, MTLS_ERR_NOT_OFFERED, 0},
    {{REQ, NO, false, {P(STARTING)}, 1, 0, START, REMEMBERED}, MTLS_FAILED, MTLS_ERR_REMEMBERED, 0},
    {{REQ, NO, false, {P(READY)}, 1, 0, START, REMEMBERED}, MTLS_FAILED, MTLS_ERR_DOWNGRADE, 0},
    {{PREF, NO, false, {P(READY)}, 1, 0, START, 0}, MTLS_FAILED, MTLS_ERR_DOWNGRADE, 0},
    {{PREF, NO, false, {P(PROOF)}, 1, 0, START, 0}, MTLS_FAILED, MTLS_ERR_DOWNGRADE, 0},
    {{PREF, NO, false, {P(BUSY)}, 1, 0, START, 0}, MTLS_FAILED, MTLS_ERR_DOWNGRADE, 0},
    {{PREF, NO, false, {P(CLOSED_LATE)}, 1, 0, DEADLINE, 0}, MTLS_FAILED, MTLS_ERR_DOWNGRADE, 0},
    {{PREF, NO, false, {P(NOT_HERE), P(READY)}, 1, 0, START, 0},
     MTLS_FAILED,
     MTLS_ERR_DOWNGRADE,
     0},
    {{PREF, NO, false, {P(STARTING)}, 1, 0, START, REMEMBERED},
     MTLS_FAILED,
     MTLS_ERR_REMEMBERED,
     0},
    {{PREF, NO, false, {P(REFUSED)}, 1, 0, START, REMEMBERED}, MTLS_FAILED, MTLS_ERR_REMEMBERED, 0},
    {{PREF, NO, false, {P(STARTING)}, 1, 0, START, 0}, MTLS_WAIT, 0, GRACE},
    {{PREF, NO, true, {P(STARTING)}, 1, 0, GRACE - 1, 0}, MTLS_WAIT, 0, GRACE},
    {{PREF, NO, true, {P(STARTING)}, 1, 0, GRACE, 0}, MTLS_PLAIN, MTLS_ERR_NOT_OFFERED, 0},
    {{PREF, NO, true, {P(STARTING)}, 1, 0, DEADLINE - 1, 0}, MTLS_PLAIN, MTLS_ERR_NOT_OFFERED, 0},
    {{PREF, NO, true, {P(STARTING)}, 1, 0, DEADLINE, 0}, MTLS_FAILED, MTLS_ERR_DEADLINE, 0},
    {{PREF, NO, false, {P(REFUSED)}, 1, 0, START, 0}, MTLS_PLAIN, MTLS_ERR_NOT_OFFERED, 0},
    {{PREF, NO, false, {P(CLOSED_EARLY)}, 1, 0, START, 0}, MTLS_PLAIN, MTLS_ERR_NOT_OFFERED, 0},
    {{PREF, NO, false, {P(FOREIGN)}, 1, 0, START, 0}, MTLS_PLAIN, MTLS_ERR_NOT_OFFERED, 0},
    {{PREF, NO, false, {P(NOT_HERE)}, 1, 0, START, 0}, MTLS_PLAIN, MTLS_ERR_NOT_OFFERED, 0},
    {{PREF, NO, false, {P(NOT_HERE), P(STARTING)}, 1, 0, START, 0}, MTLS_WAIT, 0, GRACE},
    {{PREF, NO, false, {P(UNREACHABLE)}, 1, 0, START, 0}, MTLS_WAIT, 0, GRACE},
    {{PREF, NO, false, {P(TIMEOUT), P(REFUSED)}, 1, 0, START, 0}, MTLS_WAIT, 0, GRACE},
    {{PREF, NO, false, {0}, 1, 0, START, 0}, MTLS_PLAIN, MTLS_ERR_PATH_NONE, 0},
    {{PREF, NO, false, {0}, 1, 0, START, REMEMBERED}, MTLS_FAILED, MTLS_ERR_REMEMBERED, 0},
    /* TLS below 1.3: [DWN-8] */
    {{REQ, UNKNOWN, false, {P(STARTING)}, 1, 0, START, OLD_TLS},
     MTLS_FAILED,
     MTLS_ERR_TLS_VERSION,
     0},
    {{PREF, UNKNOWN, false, {P(STARTING)}, 1, 0, START, OLD_TLS}, MTLS_WAIT, 0, GRACE},
    {{PREF, UNKNOWN, false, {P(REFUSED)}, 1, 0, START, OLD_TLS},
     MTLS_PLAIN,
     MTLS_ERR_TLS_VERSION,
     0},
    {{PREF, UNKNOWN, false, {P(READY)}, 1, 0, START, OLD_TLS}, MTLS_FAILED, MTLS_ERR_DOWNGRADE, 0},
    {{PREF, UNKNOWN, false, {P(REFUSED)}, 1, 0, START, OLD_TLS | REMEMBERED},
     MTLS_FAILED,
     MTLS_ERR_REMEMBERED,
     0},
    /* nothing known yet */
    {{REQ, UNKNOWN, false, {P(READY)}, 1, 0, START, 0}, MTLS_READ_ON, 0, 0},
    {{REQ, UNKNOWN, false, {P(REFUSED)}, 1, 0, DEADLINE - 1, REMEMBERED}, MTLS_READ_ON, 0, 0},
    {{REQ, UNKNOWN, false, {P(READY)}, 1, 0, DEADLINE, 0}, MTLS_FAILED, MTLS_ERR_DEADLINE, 0},
    {{PREF, UNKNOWN, false, {P(READY)}, 1, 0, DEADLINE, 0}, MTLS_READ_ON, 0, 0},
    {{REQ, UNKNOWN, true, {P(STARTING)}, 1, 0, START, 0}, MTLS_FAILED, MTLS_ERR_NOT_OFFERED, 0},
    {{PREF, UNKNOWN, true, {P(READY)}, 1, 0, START, 0}, MTLS_FAILED, MTLS_ERR_DOWNGRADE, 0},
    /* no path to offer: [POL-6] */
    {{REQ, UNKNOWN, false, {0}, 1, 0, START, UNOFFERED}, MTLS_FAILED, MTLS_ERR_PATH_NONE, 0},
    {{PREF, UNKNOWN, false, {0}, 1, 0, START, UNOFFERED}, MTLS_PLAIN, MTLS_ERR_PATH_NONE, 0},
    {{PREF, UNKNOWN, true, {0}, 1, 0, DEADLINE, UNOFFERED}, MTLS_PLAIN, MTLS_ERR_PATH_NONE, 0},
    {{PREF, UNKNOWN, false, {0}, 1, 0, START, UNOFFERED | REMEMBERED},
     MTLS_FAILED,
     MTLS_ERR_REMEMBERED,
     0},
    {{REQ, UNKNOWN, true, {0}, 1, 0, START, UNOFFERED | RESUMED},
     MTLS_FAILED,
     MTLS_ERR_PATH_NONE,
     0},
    /* other policies: off is nobody's business; one that was never set is not laxer than require */
    {{MTLS_POLICY_OFF, NO, true, {P(READY)}, 1, 0, START, 0}, MTLS_PLAIN, MTLS_ERR_PATH_NONE, 0},
    {{MTLS_POLICY_UNSET, NO, true, {P(REFUSED)}, 1, 0, START, 0},
     MTLS_FAILED,
     MTLS_ERR_NOT_OFFERED,
     0},
};

static void one_by_one(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct mtls_decision_input in = input_of(&rows[i].g);
        struct mtls_decision d = mtls_decide(&in, rows[i].g.now);

        if (d.verdict != rows[i].verdict || d.reason != rows[i].reason ||
            (d.verdict == MTLS_WAIT && d.next != rows[i].next))
            fail_msg("row %zu: verdict %d, reason %s, next %llu", i, (int)d.verdict,
                     mtls_error_name(d.reason), (unsigned long long)d.next);
    }
}

/* ---- All together ---- */

static unsigned long long decided;

static void must(bool ok, const struct given *g, const struct mtls_decision *d, const char *rule)
{
    if (!ok)
        fail_msg(
            "%s: policy %d answered %d write %d paths %d %d need %d selected %d now %llu flags %x: "
            "verdict %d reason %s",
            rule, (int)g->policy, (int)g->answered, (int)g->at_write, g->paths[0] - 1,
            g->paths[1] - 1, g->need, g->selected, (unsigned long long)g->now, g->flags,
            (int)d->verdict, mtls_error_name(d->reason));
}

struct summary {
    unsigned speaks, no, can, right, proof, paths;
    bool wrong_alone, answered, old;
};

static struct summary summarize(const struct given *g)
{
    struct summary s = {.old = (g->flags & OLD_TLS) != 0};

    for (size_t i = 0; i < 3 && g->paths[i] != 0; i++) {
        enum path_name name = (enum path_name)(g->paths[i] - 1);

        s.paths++;
        s.speaks += says_speaks(name);
        s.no += says_no(name);
        s.can += can_still(name);
        s.right += name == RIGHT;
        s.proof += name == PROOF || name == RIGHT;
        s.wrong_alone |= name == WRONG_ALONE;
    }
    s.answered = g->answered == YES && !s.old && (g->flags & UNOFFERED) == 0;
    return s;
}

static void check_verified(const struct given *g, const struct summary *s,
                           const struct mtls_decision *d)
{
    must(g->at_write && s->answered, g, d, "decided before the keys");
    must(g->now < DEADLINE, g, d, "decided after the deadline");
    if (d->verdict == MTLS_VERIFIED)
        must(g->selected >= g->need && s->right >= g->need, g, d, "verified by too few");
    else
        must((g->flags & RESUMED) != 0 && !(g->selected >= g->need && s->right >= g->need), g, d,
             "resumed");
}

static void check_plain(const struct given *g, const struct summary *s,
                        const struct mtls_decision *d)
{
    must(g->policy == PREF, g, d, "plain under another policy than prefer");
    must((g->flags & REMEMBERED) == 0, g, d, "plain for a remembered host");
    must(d->reason < 0, g, d, "plain without a reason");
    if (g->flags & UNOFFERED)
        return;
    must(!s->answered, g, d, "plain though negotiated");
    must(s->speaks == 0, g, d, "plain though READY came");
    must(s->no == s->paths || g->now >= GRACE, g, d, "plain before path 2 or the grace said so");
}

static void check_failed(const struct given *g, const struct summary *s,
                         const struct mtls_decision *d)
{
    bool offered = (g->flags & UNOFFERED) == 0;

    must(d->reason < 0, g, d, "failed without a reason");
    must(d->reason != MTLS_ERR_INTERNAL, g, d, "internal error");
    if (d->reason == MTLS_ERR_PROOF_WRONG)
        must(s->answered, g, d, "a wrong proof without keys");
    if (d->reason == MTLS_ERR_DOWNGRADE)
        must(offered && !s->answered && s->speaks > 0, g, d, "downgrade");
    if (d->reason == MTLS_ERR_NOT_OFFERED || d->reason == MTLS_ERR_TLS_VERSION)
        must(g->policy != PREF && !s->answered && s->speaks == 0, g, d, "not offered");
    if (d->reason == MTLS_ERR_REMEMBERED)
        must((g->flags & REMEMBERED) != 0 && !s->answered, g, d, "remembered");
    /* [MUL-3] no failure while there is time and enough may still come */
    if (s->answered && g->now < DEADLINE && !s->wrong_alone)
        must((g->at_write ? g->selected : s->right) + s->can < g->need, g, d, "failed too early");
}

static void check_wait(const struct given *g, const struct summary *s,
                       const struct mtls_decision *d)
{
    must(g->now < DEADLINE, g, d, "waits at or after the deadline");
    must(d->next > g->now && d->next <= DEADLINE, g, d, "waits for no time");
    must(d->reason == 0, g, d, "a reason to wait");
    if (s->answered)
        must((g->at_write ? g->selected : s->right) + s->can >= g->need && s->can > 0 &&
                 !s->wrong_alone,
             g, d, "waits for nothing");
    else
        must(g->policy == PREF && s->no < s->paths && g->now < GRACE, g, d, "waits without need");
}

static void check(const struct given *g)
{
    struct mtls_decision_input in = input_of(g);
    struct mtls_decision d = mtls_decide(&in, g->now);
    struct summary s = summarize(g);

    decided++;
    switch (d.verdict) {
    case MTLS_VERIFIED:
    case MTLS_RESUMED:
        check_verified(g, &s, &d);
        break;
    case MTLS_PLAIN:
        check_plain(g, &s, &d);
        break;
    case MTLS_FAILED:
        check_failed(g, &s, &d);
        break;
    case MTLS_WAIT:
        check_wait(g, &s, &d);
        break;
    default:
        must(!g->at_write, g, &d, "reads on at a write");
        must(g->answered == UNKNOWN || s.proof >= g->need || (g->flags & RESUMED) != 0, g, &d,
             "reads on for nothing");
        must(d.reason == 0, g, &d, "a reason to read on");
    }
}

/* selected never exceeds what is right, as distinct.h gives it. */
static void check_numbers(struct given g)
{
    static const mtls_tstamp times[] = {START,        GRACE - 1, GRACE,
                                        DEADLINE - 1, DEADLINE,  DEADLINE + 5};
    unsigned right = summarize(&g).right;

    for (g.need = 1; g.need <= 2; g.need++)
        for (g.selected = 0; g.selected <= right; g.selected++)
            for (size_t t = 0; t < sizeof(times) / sizeof(times[0]); t++) {
                g.now = times[t];
                check(&g);
            }
}

static void check_all_paths(struct given g)
{
    for (int a = 0; a <= NPATHS; a++)
        for (int b = 0; b <= (a == 0 ? 0 : NPATHS); b++) {
            g.paths[0] = a;
            g.paths[1] = b;
            check_numbers(g);
        }
}

static void the_whole_cross_product(void **state)
{
    struct given g = {0};

    for (int policy = MTLS_POLICY_UNSET; policy <= MTLS_POLICY_REQUIRE; policy++) {
        if (policy == MTLS_POLICY_OFF)
            continue;
        for (int answered = UNKNOWN; answered <= NO; answered++)
            for (int at_write = 0; at_write < 2; at_write++)
                for (g.flags = 0; g.flags < 16; g.flags++) {
                    g.policy = (enum mtls_policy)policy;
                    g.answered = (enum mtls_offer)answered;
                    g.at_write = at_write != 0;
                    check_all_paths(g);
                }
    }
    assert_true(decided > 1000000);
}

/* ---- Grace and deadline ---- */

/* [DWN-5]: at least four round trips of a path that may still answer. */
static void the_grace_covers_four_round_trips(void **state)
{
    struct given g = {PREF, NO, false, {P(STARTING), P(REFUSED)}, 1, 0, START, 0};
    struct mtls_decision_input in = input_of(&g);

    in.paths[0].rtt_us = 250000;
    in.paths[1].rtt_us = 2000000; /* has answered */
    assert_int_equal(mtls_decide(&in, START).next, GRACE);
    in.paths[0].rtt_us = 250001;
    assert_int_equal(mtls_decide(&in, START).next, GRACE + 4);
    assert_int_equal(mtls_decide(&in, GRACE + 3).verdict, MTLS_WAIT);
    assert_int_equal(mtls_decide(&in, GRACE + 4).verdict, MTLS_PLAIN);
    in.paths[0].rtt_us = UINT32_MAX;
    assert_int_equal(mtls_decide(&in, START).next, DEADLINE);
    assert_int_equal(mtls_decide(&in, DEADLINE).verdict, MTLS_FAILED);
    assert_int_equal(mtls_decide(&in, DEADLINE).reason, MTLS_ERR_DEADLINE);
}

/* A deadline that is over before the grace is no way around it. */
static void a_deadline_before_the_grace(void **state)
{
    struct given g = {PREF, NO, false, {P(STARTING)}, 1, 0, START, 0};
    struct mtls_decision_input in = input_of(&g);

    in.deadline_at = GRACE - 500000;
    assert_int_equal(mtls_decide(&in, START).next, GRACE - 500000);
    assert_int_equal(mtls_decide(&in, GRACE - 500000).reason, MTLS_ERR_DEADLINE);
    assert_int_equal(mtls_decide(&in, GRACE).verdict, MTLS_FAILED);
    in.deadline_at = GRACE + 1;
    assert_int_equal(mtls_decide(&in, GRACE).verdict, MTLS_PLAIN);
}

static void too_many_paths_are_an_internal_error(void **state)
{
    struct given g = {PREF, NO, false, {0}, 1, 0, START, 0};
    struct mtls_decision_input in = input_of(&g);

    in.npaths = MTLS_PATHS_MAX + 1;
    assert_int_equal(mtls_decide(&in, START).reason, MTLS_ERR_INTERNAL);
    in.npaths = MTLS_PATHS_MAX;
    assert_int_equal(mtls_decide(&in, START).verdict, MTLS_WAIT);
}

/* [DWN-4] */
static void definite_negatives(void **state)
{
    static const struct {
        int error;
        bool definite;
    } errors[] = {{MTLS_ERR_PATH_REFUSED, true},       {MTLS_ERR_PATH_CLOSED, true},
                  {MTLS_ERR_PATH_FOREIGN, true},       {MTLS_ERR_READY_MISMATCH, true},
                  {MTLS_ERR_FRAME_PREFACE, true},      {MTLS_ERR_SOCKS_REFUSED, true},
                  {MTLS_ERR_SOCKS_FAILED, false},      {MTLS_ERR_SOCKS_REPLY, false},
                  {MTLS_ERR_PATH_TIMEOUT, false},      {MTLS_ERR_PATH_UNREACHABLE, false},
                  {MTLS_ERR_PATH_RESOLVE, false},      {MTLS_ERR_PATH_BIND, false},
                  {MTLS_ERR_PATH_INADMISSIBLE, false}, {MTLS_ERR_PATH_PROXY, false},
                  {MTLS_ERR_PROOF_MISSING, false},     {MTLS_ERR_NOMEM, false},
                  {MTLS_ERR_PATH_BUSY, false}};

    for (int name = 0; name < NPATHS; name++) {
        struct mtls_path_status p = path((enum path_name)name);

        assert_int_equal(mtls_path_definitely_negative(&p), says_no((enum path_name)name));
    }
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        struct mtls_path_status p = {.state = MTLS_PATH_FAILED, .error = errors[i].error};

        assert_int_equal(mtls_path_definitely_negative(&p), errors[i].definite);
        p.ready_seen = true;
        assert_false(mtls_path_definitely_negative(&p));
        p.not_here = true; /* [DWN-2] */
        assert_true(mtls_path_definitely_negative(&p));
    }
}

/* READY came to an announcement that ended before its session began: what the session's own claim
 * meets says nothing against it. [DWN-1] */
static void ready_before(void **state)
{
    static const enum path_name now_[] = {IDLE, STARTING, REFUSED, FOREIGN, TIMEOUT, NOT_HERE};

    for (size_t i = 0; i < sizeof(now_) / sizeof(now_[0]); i++) {
        struct given g = {.policy = MTLS_POLICY_PREFER,
                          .answered = MTLS_OFFER_NO,
                          .paths = {P(now_[i])},
                          .need = 1,
                          .now = GRACE};
        struct mtls_decision_input in = input_of(&g);

        assert_int_equal(mtls_decide(&in, GRACE).verdict, MTLS_PLAIN);
        in.paths[0].ready_before = true;
        assert_int_equal(mtls_decide(&in, GRACE).verdict, MTLS_FAILED);
        assert_int_equal(mtls_decide(&in, GRACE).reason, MTLS_ERR_DOWNGRADE);
        assert_int_equal(mtls_decide(&in, START).reason, MTLS_ERR_DOWNGRADE); /* at once */
        in.answered = MTLS_OFFER_YES;
        assert_int_not_equal(mtls_decide(&in, START).reason, MTLS_ERR_DOWNGRADE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ready_before),
        cmocka_unit_test(one_by_one),
        cmocka_unit_test(the_whole_cross_product),
        cmocka_unit_test(the_grace_covers_four_round_trips),
        cmocka_unit_test(a_deadline_before_the_grace),
        cmocka_unit_test(too_many_paths_are_an_internal_error),
        cmocka_unit_test(definite_negatives),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
