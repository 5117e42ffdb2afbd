/* Concept: waiting for the helper's word on a connection, in memory that both map. */
#include "outcome.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "rules.h"

enum {
    SLICE_MS = 200
}; /* a helper that has ended writes nothing: its socket is looked at so often */

void smkexize_outcome_reset(uint32_t *cell)
{
    __atomic_store_n(cell, SMKEXIZE_OPEN, __ATOMIC_RELEASE);
}

static uint32_t read_cell(const uint32_t *cell)
{
    return __atomic_load_n(cell, __ATOMIC_ACQUIRE);
}

int smkexize_outcome_error(const uint32_t *cell)
{
    uint32_t got = read_cell(cell);

    return got == SMKEXIZE_OPEN || got == SMKEXIZE_MADE ? 0 : (int)got;
}

int smkexize_outcome_wait(uint32_t *cell, int fd)
{
    const struct timespec slice = {.tv_nsec = SLICE_MS * 1000000L};
    struct pollfd p = {.fd = fd};

    while (read_cell(cell) == SMKEXIZE_OPEN) {
        if (syscall(SYS_futex, cell, FUTEX_WAIT, SMKEXIZE_OPEN, &slice, NULL, 0) != 0 &&
            errno == EINTR)
            return -1;
        if (poll(&p, 1, 0) > 0 && read_cell(cell) == SMKEXIZE_OPEN) { /* POLLERR, POLLHUP */
            errno = ECONNREFUSED;
            return -1;
        }
    }
    if (smkexize_outcome_error(cell) == 0)
        return 0;
    errno = smkexize_outcome_error(cell);
    return -1;
}
