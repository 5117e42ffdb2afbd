/* Concept: connect() ends as it would if no helper were between: when the helper has made the
 * protected connection, or with the reason why it could not. */
#ifndef SMKEX_PRELOAD_OUTCOME_H
#define SMKEX_PRELOAD_OUTCOME_H

#include <stdbool.h>
#include <stdint.h>

/* Where the helper writes it. cell: of the socket's local port, which is its own from bind() on. */
void smkexize_outcome_reset(uint32_t *cell);
/* Blocks until the helper has written it or given up. 0, or -1 with errno (EINTR: a signal's
 * handler ran). */
int smkexize_outcome_wait(uint32_t *cell, int fd);
/* An errno, or 0: made, or still open. */
int smkexize_outcome_error(const uint32_t *cell);

#endif
