/* What libmtls knows of a TLS link. */
#include "link_ssl.h"
#include "report.h"

const char report_plain_word[] = "plain TLS";

static const struct {
    enum report_outcome report;
    enum mtls_outcome library;
} outcomes[] = {
    {REPORT_VERIFIED, MTLS_OUTCOME_VERIFIED},
    {REPORT_RESUMED, MTLS_OUTCOME_RESUMED_VERIFIED},
    {REPORT_PLAIN, MTLS_OUTCOME_PLAIN},
    {REPORT_FAILED, MTLS_OUTCOME_FAILED},
};
enum { OUTCOMES = sizeof outcomes / sizeof outcomes[0] };

const char *report_outcome_name(enum report_outcome outcome)
{
    for (int i = 0; i < OUTCOMES; i++)
        if (outcomes[i].report == outcome)
            return mtls_outcome_name(outcomes[i].library);
    return mtls_outcome_name(MTLS_OUTCOME_NONE);
}

/* A refusal comes with its code. */
static enum report_outcome confirmed(const struct mtls_confirmation *confirmation, int code)
{
    if (code != 0)
        return REPORT_FAILED;
    if (mtls_confirmation_resumed(confirmation))
        return REPORT_RESUMED;
    return mtls_confirmation_verdict(confirmation) == MTLS_VERDICT_VERIFIED ? REPORT_VERIFIED
                                                                            : REPORT_PLAIN;
}

enum report_outcome report_link_outcome(const struct link *l)
{
    int code;
    const struct mtls_confirmation *confirmation = link_get0_confirmation(l, &code);
    enum mtls_outcome library = mtls_get_outcome(link_get0_ssl(l));

    if (confirmation != NULL)
        return confirmed(confirmation, code);
    for (int i = 0; i < OUTCOMES; i++)
        if (outcomes[i].library == library)
            return outcomes[i].report;
    return REPORT_NONE;
}

int report_link_reason(const struct link *l)
{
    int code;

    if (link_get0_confirmation(l, &code) != NULL)
        return code;
    return mtls_get_reason(link_get0_ssl(l));
}

const char *report_link_version(const struct link *l)
{
    return SSL_get_version(link_get0_ssl(l));
}

const char *report_link_meaning(const struct link *l)
{
    const struct mtls_confirmation *confirmation = link_get0_confirmation(l, NULL);

    return confirmation != NULL ? mtls_confirmation_meaning(confirmation) : NULL;
}

char *report_link_json(const struct link *l)
{
    const struct mtls_confirmation *confirmation = link_get0_confirmation(l, NULL);

    if (confirmation != NULL)
        return mtls_confirmation_json(confirmation);
    return mtls_report_json(link_get0_ssl(l));
}

unsigned report_link_scope(const struct link *l)
{
    const struct mtls_confirmation *confirmation = link_get0_confirmation(l, NULL);

    if (confirmation != NULL)
        return mtls_confirmation_scope(confirmation);
    return mtls_get_scope(link_get0_ssl(l));
}

unsigned report_link_confirmed(const struct link *l)
{
    if (link_get0_confirmation(l, NULL) != NULL)
        return 1;
    return mtls_get_confirmed(link_get0_ssl(l));
}

int report_link_memory_error(const struct link *l)
{
    return mtls_get_memory_error(link_get0_ssl(l));
}

const char *report_link_key(const struct link *l)
{
    return NULL;
}

bool report_link_path(const struct link *l, size_t index, struct mtls_path_info *path)
{
    const struct mtls_confirmation *confirmation = link_get0_confirmation(l, NULL);

    if (confirmation != NULL)
        return mtls_confirmation_get_path(confirmation, index, path) == 1;
    return mtls_get_path(link_get0_ssl(l), index, path) == 1;
}

bool report_link_step(const struct link *l, size_t index, const char **name, uint64_t *at_us)
{
    static const char *const names[MTLS_STEP_COUNT] = {
        "ClientHello", "path 2 connected", "HELLO", "READY", "PROOF", "Finished", "decided"};

    if (index >= MTLS_STEP_COUNT || link_get0_confirmation(l, NULL) != NULL)
        return false; /* those of a handshake that came to nothing */
    *name = names[index];
    *at_us = mtls_get_time_us(link_get0_ssl(l), (enum mtls_step)index);
    return true;
}
