/* Concept: what remains of a session after its decision: the paths, frozen as text. */
#ifndef MTLS_OSSL_REPORT_H
#define MTLS_OSSL_REPORT_H

#include "session.h"

struct mtls_report_path {
    char *local, *remote, *device, *via, *spec, *shares, *why; /* owned; NULL = "" */
    const char *state;
    int error;
    uint32_t rtt_us;
};

struct mtls_report {
    size_t npaths; /* path 1 and the secondary ones */
    struct mtls_report_path paths[];
};

#endif
