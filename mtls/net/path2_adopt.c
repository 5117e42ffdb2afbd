/* Concept: path-2 connections that somebody else has accepted: another process of the service, or
 * the program on its TLS port. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "path2_conns.h"
#include "path2_service.h"
#include "route.h"

static int addresses(struct conn *c)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);

    if (getpeername(c->fd, (struct sockaddr *)&ss, &len) != 0 ||
        mtls_addr_from_sockaddr(&c->peer, (struct sockaddr *)&ss, len) != 0)
        return MTLS_ERR_IO;
    len = sizeof(ss);
    return getsockname(c->fd, (struct sockaddr *)&ss, &len) == 0 &&
                   mtls_addr_from_sockaddr(&c->local, (struct sockaddr *)&ss, len) == 0
               ? 0
               : MTLS_ERR_IO;
}

int mtls_conn_adopt(int fd, const struct mtls_conn_state *state, struct conn **out, mtls_tstamp now)
{
    struct conn *c = calloc(1, sizeof(*c));
    int err = c == NULL ? MTLS_ERR_NOMEM : 0;

    if (err == 0) {
        c->fd = fd;
        c->in_event = true;
        err = addresses(c);
    }
    if (err == 0)
        err = mtls_p2s_conn_import(&c->p2s, mtls_conns_p2s(), &c->peer, state, c, now);
    if (err == 0 && (err = mtls_conn_watch(c)) != 0)
        mtls_p2s_conn_moved(c->p2s);
    if (err != 0) {
        free(c);
        close(fd);
        return err;
    }
    mtls_conn_add(c);
    mtls_conn_flush(c);
    c->in_event = false;
    if (c->closing) {
        c->closing = false;
        mtls_conn_close(c);
    }
    *out = c;
    return 0;
}

int mtls_service_accept(int fd, mtls_tstamp now)
{
    static const struct mtls_conn_state nothing_yet;
    struct conn *c;
    int err, flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        close(fd);
        return MTLS_ERR_IO;
    }
    err = mtls_conn_adopt(fd, &nothing_yet, &c, now);
    if (err == 0)
        mtls_conn_read(c, now);
    return err;
}

static void read_holder(void *arg, void *conn_user)
{
    struct conn *c = conn_user;

    if (!c->in_event && !c->closing && !mtls_watch_lost(c->watch))
        mtls_conn_read(c, *(const mtls_tstamp *)arg);
}

void mtls_service_read(const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now)
{
    if (mtls_conns_p2s() != NULL)
        mtls_p2s_each_holder(mtls_conns_p2s(), join, now, read_holder, &now);
}
