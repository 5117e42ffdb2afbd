/* Concept: equality of subflows and of their bytes (subflows.h). */
#include "subflows.h"

#include <string.h>

int mtls_subflows_pair(const struct mtls_subflows *now)
{
    if (now->n > 2)
        return MTLS_ERR_SUBFLOW_CHANGED;
    for (uint8_t i = 0; i < now->n; i++)
        if (!now->at[i].established || (now->at[i].flags_known && !now->at[i].full))
            return MTLS_ERR_SUBFLOW_MISSING;
    return now->n == 2 ? 0 : MTLS_ERR_SUBFLOW_MISSING;
}

static bool same_address(const struct mtls_addr *a, const struct mtls_addr *b)
{
    return a->family == b->family && a->port == b->port && memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

int mtls_subflows_check(const struct mtls_subflows *then, const struct mtls_subflows *now,
                        const struct mtls_subflow_bytes expected[2])
{
    if (then->n != 2 || now->n != 2)
        return MTLS_ERR_SUBFLOW_CHANGED;
    for (int i = 0; i < 2; i++) {
        const struct mtls_subflow *a = &then->at[i], *b = &now->at[i];

        if (a->id != b->id || !b->established || !same_address(&a->local, &b->local) ||
            !same_address(&a->remote, &b->remote))
            return MTLS_ERR_SUBFLOW_CHANGED;
    }
    for (int i = 0; i < 2; i++) {
        uint64_t received = now->at[i].received;

        if (expected[i].more && received > expected[i].received)
            received = expected[i].received;
        if (received != expected[i].received || now->at[i].sent != expected[i].sent)
            return MTLS_ERR_SUBFLOW_BYTES;
    }
    return 0;
}
