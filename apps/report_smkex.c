/* What the library knows of a SMKEX link. */
#include "link_smkex.h"
#include "report.h"

const char report_plain_word[] = "plain TCP";

static const struct {
    enum report_outcome report;
    enum smkex_outcome library;
} outcomes[] = {
    {REPORT_VERIFIED, SMKEX_OUTCOME_VERIFIED},
    {REPORT_SINGLE, SMKEX_OUTCOME_SINGLE},
    {REPORT_PLAIN, SMKEX_OUTCOME_PLAIN},
    {REPORT_FAILED, SMKEX_OUTCOME_FAILED},
};
enum { OUTCOMES = sizeof outcomes / sizeof outcomes[0] };

const char *report_outcome_name(enum report_outcome outcome)
{
    for (int i = 0; i < OUTCOMES; i++)
        if (outcomes[i].report == outcome)
            return smkex_outcome_name(outcomes[i].library);
    return smkex_outcome_name(SMKEX_OUTCOME_NONE);
}

enum report_outcome report_link_outcome(const struct link *l)
{
    enum smkex_outcome library = smkex_get_outcome(link_get0_smkex(l));

    for (int i = 0; i < OUTCOMES; i++)
        if (outcomes[i].library == library)
            return outcomes[i].report;
    return REPORT_NONE;
}

int report_link_reason(const struct link *l)
{
    return smkex_get_reason(link_get0_smkex(l));
}

const char *report_link_meaning(const struct link *l)
{
    return NULL;
}

const char *report_link_version(const struct link *l)
{
    return NULL;
}

char *report_link_json(const struct link *l)
{
    return smkex_report_json(link_get0_smkex(l));
}

unsigned report_link_scope(const struct link *l)
{
    return smkex_get_scope(link_get0_smkex(l));
}

unsigned report_link_confirmed(const struct link *l)
{
    return smkex_get_confirmed(link_get0_smkex(l));
}

int report_link_memory_error(const struct link *l)
{
    return smkex_get_memory_error(link_get0_smkex(l));
}

const char *report_link_key(const struct link *l)
{
    switch (smkex_get_key(link_get0_smkex(l))) {
    case SMKEX_KEY_NEW:
        return "new";
    case SMKEX_KEY_KNOWN:
        return "known";
    case SMKEX_KEY_CHANGED:
        return "CHANGED since it was remembered";
    default:
        return NULL;
    }
}

bool report_link_path(const struct link *l, size_t index, struct mtls_path_info *path)
{
    return smkex_get_path(link_get0_smkex(l), index, path) == 0;
}

bool report_link_step(const struct link *l, size_t index, const char **name, uint64_t *at_us)
{
    return false; /* in the JSON alone */
}
