/* What became of a forwarded connection, in the memory that smkexize shares with its library. */
#include "client_outcome.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "complain.h"
#include "smkex/preload/rules.h"

int client_outcome_setup(struct client *c)
{
    int fd;

    if (c->config.peers == NULL)
        return 0;
    fd = open(c->config.peers, O_RDWR | O_CLOEXEC);
    c->peers = fd >= 0 ? mmap(NULL, sizeof *c->peers, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                       : MAP_FAILED;
    if (fd >= 0)
        close(fd);
    if (c->peers != MAP_FAILED)
        return 0;
    complain(client_prog, "--peers %s: %s", c->config.peers, strerror(errno));
    c->peers = NULL;
    return -1;
}

void client_outcome_free(struct client *c)
{
    if (c->peers != NULL)
        munmap(c->peers, sizeof *c->peers);
    c->peers = NULL;
}

/* What connect() would have said; a connection that was made and refused by us is EACCES. */
static uint32_t errno_of(const char *reason, const char *text)
{
    static const int errors[] = {ETIMEDOUT, ENETUNREACH, EHOSTUNREACH};

    if (strcmp(reason, "connect") != 0)
        return EACCES;
    for (size_t i = 0; text != NULL && i < sizeof errors / sizeof errors[0]; i++)
        if (strstr(text, strerror(errors[i])) != NULL)
            return (uint32_t)errors[i];
    return ECONNREFUSED;
}

void client_outcome_note(struct client *c, int fd, const char *reason, const char *text)
{
    struct sockaddr_in peer;
    socklen_t len = sizeof peer;
    uint32_t *cell;

    if (c->peers == NULL || fd < 0 || getpeername(fd, (struct sockaddr *)&peer, &len) < 0 ||
        peer.sin_family != AF_INET)
        return;
    cell = &c->peers->outcome[ntohs(peer.sin_port)];
    __atomic_store_n(cell, reason == NULL ? SMKEXIZE_MADE : errno_of(reason, text),
                     __ATOMIC_RELEASE);
    (void)syscall(SYS_futex, cell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}
