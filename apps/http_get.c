/* One HTTP/1.1 request over a connection. */
#include "http_get.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <mtls/mtls.h>

#include "http_response.h"
#include "relay.h"

struct http_get {
    struct tls_conn *conn;
    int fd;
    ev_io w;
    size_t body; /* so many bytes at the head of the input queue are body, not yet written */
    bool closed;
    struct http_response response;
};

static void finish(struct http_get *g)
{
    if (g->closed)
        return;
    g->closed = true;
    tls_conn_close(g->conn);
}

/* Whether all that is known to be body is written. */
static bool write_body(struct http_get *g)
{
    struct buf *in = tls_conn_in(g->conn);
    struct ev_loop *loop = tls_conn_loop(g->conn);
    ssize_t put;

    while (g->body > 0) {
        put = g->response.status / 100 == 2 ? relay_write_some(g->fd, buf_head(in), g->body)
                                            : (ssize_t)g->body; /* an error page is not the file */
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EAGAIN) {
            ev_io_start(loop, &g->w);
            return false;
        }
        if (put < 0) {
            g->closed = true;
            tls_conn_abort(g->conn, "cannot write the body");
            return false;
        }
        buf_consume(in, (size_t)put);
        g->body -= (size_t)put;
    }
    ev_io_stop(loop, &g->w);
    return true;
}

void http_get_progress(struct http_get *g)
{
    struct buf *in = tls_conn_in(g->conn);
    bool moved = false;

    while (!g->closed && write_body(g)) {
        size_t used, body;

        if (g->response.state >= HTTP_DONE || buf_len(in) == 0)
            break;
        used = http_response_feed(&g->response, buf_head(in), buf_len(in), &body);
        buf_consume(in, used - body);
        g->body = body;
        moved = true;
    }
    if (g->closed || g->body > 0)
        return;
    if (g->response.state >= HTTP_DONE || tls_conn_eof(g->conn))
        finish(g);
    else if (moved)
        tls_conn_kick(g->conn);
}

static void on_writable(struct ev_loop *loop, ev_io *w, int events)
{
    struct http_get *g = w->data;

    http_get_progress(g);
    if (!g->closed && g->body == 0)
        tls_conn_kick(g->conn);
}

struct http_get *http_get_new(struct tls_conn *c, bool head, const char *host, const char *path,
                              int fd)
{
    struct http_get *g = calloc(1, sizeof *g);
    char request[8192];
    int len = snprintf(request, sizeof request,
                       "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: mtls-client/%s\r\n"
                       "Accept: */*\r\nConnection: close\r\n\r\n",
                       head ? "HEAD" : "GET", path, host, mtls_version());

    if (g == NULL || len < 0 || (size_t)len >= sizeof request ||
        buf_put(tls_conn_out(c), request, (size_t)len) < 0) {
        free(g);
        return NULL;
    }
    g->conn = c;
    g->fd = fd;
    http_response_init(&g->response, head);
    ev_io_init(&g->w, on_writable, fd, EV_WRITE);
    g->w.data = g;
    return g;
}

int http_get_end(struct http_get *g, bool clean)
{
    if (clean && g->body == 0 && http_response_end(&g->response))
        return g->response.status;
    return g->response.state == HTTP_DONE && g->body == 0 ? g->response.status : 0;
}

void http_get_free(struct http_get *g)
{
    if (g == NULL)
        return;
    ev_io_stop(tls_conn_loop(g->conn), &g->w);
    free(g);
}
