/* Concept: what a program's connect() is good for (see interpose.h): path 1 is bound to the device
 * that it leaves by, and path 2 is opened at the same time for hosts that are known to need it. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <net/if.h>

#include <openssl/err.h>

#include "../net/engine.h"
#include "../net/hostfile.h"
#include "../net/announced.h"
#include "../net/route.h"
#include "glue.h"
#include "interpose.h"

/* The words of the environment alone: openssl.cnf is the program's to load, and it may not have
 * begun to use libcrypto yet. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct mtls_config *words;

static void words_load(void)
{
    struct mtls_config *c = malloc(sizeof(*c));

    if (c == NULL)
        return;
    mtls_config_init(c);
    if (mtls_config_apply(c, mtls_interpose_config(), NULL, 0) != 0 ||
        mtls_config_finish(c, NULL, 0) != 0 || c->policy == MTLS_POLICY_OFF || c->npath2 == 0) {
        free(c);
        return;
    }
    words = c;
}

static bool bound(int fd)
{
    char dev[IF_NAMESIZE] = "";
    socklen_t len = sizeof(dev);

    return getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, dev, &len) == 0 && len > 1 && dev[0] != '\0';
}

/* A host that will surely be asked for path 2: anything else would tell strangers of it. */
static bool known(const char *name, const struct mtls_addr *to)
{
    struct mtls_host_record record;
    uint8_t i;

    if (strcmp(words->name, name) == 0)
        return true;
    for (i = 0; i < words->npath2; i++) {
        const struct mtls_host *remote = &words->path2[i].remote;

        if (strcmp(remote->name, name) == 0 ||
            (remote->addr.family == to->family && to->family != 0 &&
             memcmp(remote->addr.ip, to->ip, sizeof(to->ip)) == 0))
            return true;
    }
    return words->hosts[0] != '\0' &&
           mtls_hostfile_get(words->hosts, name, to->port, mtls_wallclock(), &record) == 1;
}

static void announce(const char *name, const struct mtls_addr *to)
{
    char canonical[MTLS_HOST_MAX + 1];

    if (!words->early || words->confirm == MTLS_WAY_RESUME ||
        mtls_name_canonical(name, canonical) != 0 || !known(canonical, to))
        return;
    mtls_engine_lock();
    if (mtls_reactor_get() != NULL &&
        mtls_reactor_start(mtls_reactor_get(), words->reactor_app) == 0)
        (void)!mtls_announced_add(words, canonical, to->port, to, mtls_now());
    mtls_engine_unlock();
}

void mtls_interpose_connect(int fd, const struct sockaddr *to, socklen_t len, const char *name)
{
    struct mtls_addr addr;
    int saved = errno;

    pthread_once(&once, words_load);
    if (words != NULL && !bound(fd) && mtls_addr_from_sockaddr(&addr, to, len) == 0) {
        ERR_set_mark();
        (void)mtls_pin_socket_to(fd, to, len);
        if (name != NULL)
            announce(name, &addr);
        ERR_pop_to_mark();
    }
    errno = saved;
}
