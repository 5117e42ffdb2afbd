/* Concept: the file of the memory of verified hosts: mode 0600, read whole, replaced by rename
 * under an exclusive lock on FILE.lock, fsync'ed; safe against concurrent writers and crashes.
 * Blocks on the local disk only. */
#ifndef MTLS_NET_HOSTFILE_H
#define MTLS_NET_HOSTFILE_H

#include "../core/hostmem.h"

/* 1 and *out: remembered. 0: not, or the file does not exist yet. Errors: MTLS_ERR_HOSTS_FILE
 * (cannot be read, not a regular file, readable or writable by others, owned by someone else),
 * MTLS_ERR_HOSTS_CORRUPT, MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_hostfile_get(const char *path, const char *name, uint16_t port,
                                     int64_t now_at, struct mtls_host_record *out);
/* Makes the file (and its last folder, 0700) when missing. Errors as above, and MTLS_ERR_ARG,
 * MTLS_ERR_CRYPTO (mtls_hostmem_put()), MTLS_ERR_IO (cannot be written or locked: the file is as it
 * was). A corrupt file is not overwritten. */
MTLS_NODISCARD int mtls_hostfile_put(const char *path, const char *name, uint16_t port,
                                     const struct mtls_host_record *rec, int64_t now_at);
/* 1 forgotten, 0 not there (nothing is made or written then). Errors as above. */
MTLS_NODISCARD int mtls_hostfile_forget(const char *path, const char *name, uint16_t port);

#endif
