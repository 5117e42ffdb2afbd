/* Moves bytes between a TLS connection and plain descriptors. */
#include "relay.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_MIN (BUF_SIZE / 4) /* no reads in tiny pieces */

struct relay {
    struct tls_conn *conn;
    struct ev_loop *loop;
    int rfd, wfd;
    bool socket;
    bool read_ended, write_ended;
    ev_io r, w;
};

ssize_t relay_write_some(int fd, const void *data, size_t len)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    struct stat st;
    ssize_t put = send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (put >= 0 || errno != ENOTSOCK)
        return put;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return write(fd, data, len);
    /* A pipe that polls writable takes PIPE_BUF bytes at once. */
    if (poll(&p, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    return write(fd, data, len < PIPE_BUF ? len : PIPE_BUF);
}

static void watch(struct relay *r, ev_io *w, bool on)
{
    if (on)
        ev_io_start(r->loop, w);
    else
        ev_io_stop(r->loop, w);
}

static void watch_read(struct relay *r)
{
    watch(r, &r->r, !r->read_ended && buf_space(tls_conn_out(r->conn)) >= READ_MIN);
}

static void end_write(struct relay *r)
{
    if (r->write_ended)
        return;
    r->write_ended = true;
    if (r->socket)
        shutdown(r->wfd, SHUT_WR);
    else
        close(r->wfd);
}

/* From TLS to the plain side. Whether anything moved; *ok becomes false when the plain side failed.
 */
static bool push(struct relay *r, bool *ok)
{
    struct buf *in = tls_conn_in(r->conn);
    bool moved = false;
    ssize_t put;

    while (buf_len(in) > 0) {
        put = relay_write_some(r->wfd, buf_head(in), buf_len(in));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0) {
            *ok = errno == EAGAIN;
            break;
        }
        buf_consume(in, (size_t)put);
        moved = true;
    }
    watch(r, &r->w, *ok && buf_len(in) > 0);
    if (buf_len(in) == 0 && tls_conn_eof(r->conn)) {
        end_write(r);
        if (!r->socket && isatty(r->rfd)) { /* nobody to talk to: do not wait for the person */
            r->read_ended = true;
            tls_conn_shutdown_write(r->conn);
        }
    }
    return moved;
}

void relay_progress(struct relay *r)
{
    bool ok = true, moved = push(r, &ok);

    watch_read(r);
    if (!ok)
        tls_conn_abort(r->conn, "plain side was closed");
    else if (moved)
        tls_conn_kick(r->conn);
}

static void on_writable(struct ev_loop *loop, ev_io *w, int events)
{
    struct relay *r = w->data;
    bool ok = true;

    push(r, &ok);
    if (ok)
        tls_conn_kick(r->conn);
    else
        tls_conn_abort(r->conn, "plain side was closed");
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
    struct relay *r = w->data;
    size_t room;
    uint8_t *at = buf_reserve(tls_conn_out(r->conn), &room);
    ssize_t got;

    if (at == NULL) {
        watch(r, &r->r, false);
        return;
    }
    got = r->socket ? recv(r->rfd, at, room, MSG_DONTWAIT) : read(r->rfd, at, room);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got < 0) {
        watch(r, &r->r, false);
        tls_conn_abort(r->conn, "plain side was cut off");
        return;
    }
    if (got > 0) {
        buf_commit(tls_conn_out(r->conn), (size_t)got);
        watch_read(r);
        tls_conn_kick(r->conn);
        return;
    }
    r->read_ended = true;
    watch(r, &r->r, false);
    tls_conn_shutdown_write(r->conn);
}

struct relay *relay_new(struct tls_conn *c, int rfd, int wfd)
{
    struct relay *r = calloc(1, sizeof *r);

    if (r == NULL)
        return NULL;
    r->conn = c;
    r->loop = tls_conn_loop(c);
    r->rfd = rfd;
    r->wfd = wfd;
    r->socket = rfd == wfd;
    ev_io_init(&r->r, on_readable, rfd, EV_READ);
    ev_io_init(&r->w, on_writable, wfd, EV_WRITE);
    r->r.data = r->w.data = r;
    watch_read(r);
    return r;
}

void relay_free(struct relay *r, bool clean)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};

    if (r == NULL)
        return;
    watch(r, &r->r, false);
    watch(r, &r->w, false);
    if (r->socket) {
        if (!clean)
            setsockopt(r->rfd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(r->rfd);
    }
    free(r);
}
