/* Concept: where evidence bundles lie: a folder of small files, one a session, which only their
 * owner may read. What is in a bundle is its writer's. */
#ifndef MTLS_NET_EVIDENCE_FILE_H
#define MTLS_NET_EVIDENCE_FILE_H

#include "../core/common.h"

enum {
    MTLS_EVIDENCE_FILES = 64,        /* bundles in a folder; a further one is not written */
    MTLS_EVIDENCE_FILE_MAX = 1 << 18 /* bytes of a bundle */
};

/* A bundle's text as a new file in folder; *file: its name, to be freed, or NULL without memory.
 * Errors: MTLS_ERR_IO, _LIMIT, _CRYPTO. */
MTLS_NODISCARD int mtls_evidence_file(const char *folder, const char *role, const char *data,
                                      size_t len, char **file);

#endif
