/* Serves the regular files beneath one directory over HTTP/1.1. */
#include "www.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "http_request.h"

#define HEAD_ROOM 512 /* every response head fits in it */

struct www {
    struct tls_conn *conn;
    int root;
    int file; /* being sent, or -1 */
    off_t at, left;
    bool ending; /* no further request on this connection */
    bool draining, closed;
};

static const struct {
    const char *suffix, *type;
} types[] = {
    {".html", "text/html; charset=utf-8"},
    {".htm", "text/html; charset=utf-8"},
    {".txt", "text/plain; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".json", "application/json"},
    {".svg", "image/svg+xml"},
    {".png", "image/png"},
    {".jpg", "image/jpeg"},
    {".gif", "image/gif"},
    {".ico", "image/vnd.microsoft.icon"},
    {".pdf", "application/pdf"},
    {".wasm", "application/wasm"},
    {".xml", "application/xml"},
};

static const char *type_of(const char *path)
{
    const char *dot = strrchr(path, '.');

    for (size_t i = 0; dot != NULL && i < sizeof types / sizeof types[0]; i++)
        if (strcmp(dot, types[i].suffix) == 0)
            return types[i].type;
    return "application/octet-stream";
}

static int open_beneath(int root, const char *path, unsigned flags)
{
    struct open_how how = {
        .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | flags,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };

    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

int www_open_root(const char *dir)
{
    int root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), probe;

    if (root < 0)
        return -1;
    probe = open_beneath(root, ".", O_DIRECTORY);
    if (probe < 0) {
        int saved = errno;

        close(root);
        errno = saved;
        return -1;
    }
    close(probe);
    return root;
}

/* The file for a request's path, with a directory's index.html. -1: there is none for us. */
static int open_file(int root, const char *path, struct stat *st, const char **type)
{
    char index[HTTP_PATH_MAX + 16];
    int fd;

    while (*path == '/')
        path++;
    *type = type_of(path);
    fd = open_beneath(root, *path != '\0' ? path : ".", 0);
    if (fd >= 0 && fstat(fd, st) == 0 && S_ISDIR(st->st_mode)) {
        close(fd);
        snprintf(index, sizeof index, "%s/index.html", *path != '\0' ? path : ".");
        *type = type_of(index);
        fd = open_beneath(root, index, 0);
    }
    if (fd >= 0 && (fstat(fd, st) < 0 || !S_ISREG(st->st_mode))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static const char *status_text(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 414:
        return "URI Too Long";
    case 431:
        return "Request Header Fields Too Large";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Bad Request";
    }
}

static void put_head(struct www *w, int status, const char *type, uint64_t length)
{
    char head[HEAD_ROOM], date[64];
    time_t now = time(NULL);
    struct tm tm;
    int len;

    gmtime_r(&now, &tm);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    len = snprintf(
        head, sizeof head,
        "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %" PRIu64 "\r\n%s%s\r\n",
        status, status_text(status), date, type, length,
        status == 405 ? "Allow: GET, HEAD\r\n" : "", w->ending ? "Connection: close\r\n" : "");
    if (buf_put(tls_conn_out(w->conn), head, (size_t)len) < 0)
        w->ending = true;
}

static void answer_error(struct www *w, int status, bool head)
{
    char body[64];
    int len = snprintf(body, sizeof body, "%d %s\n", status, status_text(status));

    put_head(w, status, "text/plain; charset=utf-8", (uint64_t)len);
    if (!head && buf_put(tls_conn_out(w->conn), body, (size_t)len) < 0)
        w->ending = true;
}

static void answer(struct www *w, const struct http_request *req)
{
    struct stat st;
    const char *type;
    int fd = open_file(w->root, req->path, &st, &type);

    w->ending = w->ending || !req->keep_alive || w->draining;
    if (fd < 0) {
        answer_error(w, 404, req->head);
        return;
    }
    put_head(w, 200, type, (uint64_t)st.st_size);
    if (req->head || st.st_size == 0) {
        close(fd);
        return;
    }
    w->file = fd;
    w->at = 0;
    w->left = st.st_size;
}

/* Queues more of the file. Whether anything moved; a file that shrank cuts the connection. */
static bool send_file(struct www *w)
{
    struct buf *out = tls_conn_out(w->conn);
    bool moved = false;
    size_t room;
    uint8_t *at;

    while (w->left > 0 && buf_space(out) >= BUF_SIZE / 4 &&
           (at = buf_reserve(out, &room)) != NULL) {
        size_t want = (off_t)room < w->left ? room : (size_t)w->left;
        ssize_t got = pread(w->file, at, want, w->at);

        if (got <= 0) {
            w->closed = true;
            tls_conn_abort(w->conn, "file changed while it was sent");
            return false;
        }
        buf_commit(out, (size_t)got);
        w->at += got;
        w->left -= got;
        moved = true;
    }
    if (w->left == 0) {
        close(w->file);
        w->file = -1;
    }
    return moved;
}

/* Takes the next request off the queue. Whether there was one. */
static bool next_request(struct www *w)
{
    struct buf *in = tls_conn_in(w->conn);
    struct http_request req;
    size_t used;
    int status;

    if (buf_len(in) == 0 || buf_space(tls_conn_out(w->conn)) < 2 * HEAD_ROOM)
        return false;
    status = http_request_parse(buf_head(in), buf_len(in), &req, &used);
    if (status == 0)
        return false;
    if (status == 200) {
        buf_consume(in, used);
        answer(w, &req);
    } else {
        w->ending = true;
        answer_error(w, status, req.head);
    }
    return true;
}

static void end(struct www *w)
{
    w->closed = true;
    tls_conn_close(w->conn);
}

void www_progress(struct www *w)
{
    bool moved = false;

    while (!w->closed) {
        if (w->file >= 0) {
            moved |= send_file(w);
            if (w->file >= 0)
                break;
        }
        if (w->ending || w->closed)
            break;
        if (!next_request(w)) {
            w->ending = w->draining || (tls_conn_eof(w->conn) &&
                                        buf_space(tls_conn_out(w->conn)) >= 2 * HEAD_ROOM);
            break;
        }
        moved = true;
    }
    if (w->closed)
        return;
    if (w->ending && w->file < 0)
        end(w);
    else if (moved)
        tls_conn_kick(w->conn);
}

void www_drain(struct www *w)
{
    w->draining = true;
    www_progress(w);
}

struct www *www_new(struct tls_conn *c, int root)
{
    struct www *w = calloc(1, sizeof *w);

    if (w == NULL)
        return NULL;
    w->conn = c;
    w->root = root;
    w->file = -1;
    return w;
}

void www_free(struct www *w)
{
    if (w == NULL)
        return;
    if (w->file >= 0)
        close(w->file);
    free(w);
}
