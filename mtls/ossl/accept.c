/* Concept: path 2 on the TLS port: accepted connections that begin with path 2's preface go to the
 * engine. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

#include "../core/wire_frame.h"
#include "../net/engine.h"
#include "glue.h"
#include "interpose.h"

/* Takes fd in any case. */
static void adopt(bool app_driven, int fd)
{
    struct mtls_reactor *r;
    int err;

    mtls_engine_lock();
    r = mtls_reactor_get();
    err = r == NULL ? MTLS_ERR_STOPPED : mtls_reactor_start(r, app_driven);
    err = err == 0 ? mtls_service_resume() : err;
    if (err == 0)
        (void)!mtls_service_accept(fd, mtls_now());
    else
        close(fd);
    mtls_engine_unlock();
}

int mtls_accept_path2(SSL_CTX *ctx, int fd)
{
    const struct mtls_hook *hook = mtls_hook_of(ctx);
    uint8_t first;
    ssize_t n;

    if (hook == NULL || !hook->config.single_port)
        return 0;
    do {
        n = recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return -1;
    /* No TLS record begins so. The end, an error, and all else are SSL_accept()'s to find. */
    if (n != 1 || first != mtls_preface[0])
        return 0;
    adopt(hook->config.reactor_app, fd);
    return 1;
}

/* The engine is that of an SSL_CTX that was hooked before. */
void mtls_interpose_accepted(int fd)
{
    int saved = errno;

    ERR_set_mark();
    adopt(false, fd);
    ERR_pop_to_mark();
    errno = saved;
}
