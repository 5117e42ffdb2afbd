/* Concept: see copy.h. close() must stay async-signal-safe, so it only counts: every number has a
 * counter, and a copy remembers what the counters said when it was made. */
#include "copy.h"

#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

#include "../net/engine.h"
#include "../net/reactor.h"
#include "glue.h"

enum { NUMBERS = 65536, FD_HIGH = 100 };

/* By descriptor; of higher ones nothing is known. */
static uint32_t closes[NUMBERS]; /* atomic */
static uint16_t users[NUMBERS];  /* atomic: copies that this number is the original of, or is */
static struct mtls_copy *copies;

static uint32_t closes_of(int fd)
{
    return fd < NUMBERS ? __atomic_load_n(&closes[fd], __ATOMIC_ACQUIRE) : 0;
}

static void use(int fd, int more)
{
    if (fd < NUMBERS)
        __atomic_add_fetch(&users[fd], (uint16_t)more, __ATOMIC_ACQ_REL);
}

void mtls_copies_closed(int fd)
{
    if (fd < 0 || fd >= NUMBERS || __atomic_load_n(&users[fd], __ATOMIC_ACQUIRE) == 0)
        return;
    __atomic_add_fetch(&closes[fd], 1, __ATOMIC_ACQ_REL);
    mtls_reactor_poke();
}

/* ours: the copy's number is still the copy's. */
static void drop(struct mtls_copy *c, bool ours)
{
    if (ours)
        close(c->fd);
    use(c->of, -1);
    use(c->fd, -1);
    c->fd = -1;
    *c->link = c->next;
    if (c->next != NULL)
        c->next->link = c->link;
    mtls_interpose_copies(-1);
}

static void look(struct mtls_copy *c)
{
    bool ours = closes_of(c->fd) == c->fd_closes, of_open = closes_of(c->of) == c->of_closes;

    if (ours && of_open)
        return;
    drop(c, ours);
    if (c->lost != NULL)
        c->lost(c, of_open);
}

static void look_at_all(void)
{
    struct mtls_copy *c, *next;

    for (c = copies; c != NULL; c = next) {
        next = c->next;
        look(c);
    }
}

/* The child's copies would keep path 1 open when the parent closes it. */
static void fork_child(void)
{
    struct mtls_copy *c, *next;

    for (c = copies; c != NULL; c = next) {
        next = c->next;
        drop(c, closes_of(c->fd) == c->fd_closes);
        if (c->lost != NULL)
            c->lost(c, false);
    }
    mtls_late_fork_child();
}

void mtls_copies_on_fork(void)
{
    mtls_engine_on_fork_child(fork_child);
}

bool mtls_copy_make(struct mtls_copy *c, int of, void (*lost)(struct mtls_copy *c, bool of_open))
{
    uint32_t before;

    mtls_copies_on_fork();
    mtls_reactor_on_poke(look_at_all);
    mtls_interpose_copies(1); /* from here on close() counts */
    use(of, 1);
    before = closes_of(of);
    c->fd = fcntl(of, F_DUPFD_CLOEXEC, FD_HIGH);
    if (c->fd < 0)
        c->fd = fcntl(of, F_DUPFD_CLOEXEC, 0); /* few descriptors are allowed */
    if (c->fd < 0) {
        use(of, -1);
        mtls_interpose_copies(-1);
        return false;
    }
    use(c->fd, 1);
    c->of = of;
    c->of_closes = before;
    c->fd_closes = closes_of(c->fd);
    c->lost = lost;
    c->next = copies;
    c->link = &copies;
    if (copies != NULL)
        copies->link = &c->next;
    copies = c;
    return true;
}

int mtls_copy_get(struct mtls_copy *c)
{
    if (c->fd >= 0)
        look(c);
    return c->fd;
}

void mtls_copy_close(struct mtls_copy *c)
{
    if (c->fd >= 0)
        drop(c, closes_of(c->fd) == c->fd_closes);
}
