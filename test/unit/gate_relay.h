/* Test helper: a TCP relay in a thread of its own that the test controls: it holds what passes,
 * flips a bit, drops a frame, closes, resets, or adds bytes, and counts what it saw. It cuts either
 * path into units: frames behind the preface (path 2) or TLS records (path 1). Every wait has a
 * deadline. Beside it a BIO that does not tell its socket. */
#ifndef TEST_GATE_RELAY_H
#define TEST_GATE_RELAY_H

#include "tls_pair.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <time.h>

enum { C2S = 0, S2C = 1 };
enum { RELAY_CONNS = 8, RELAY_OUT_MAX = 4 << 20 };
enum relay_kind { RELAY_PATH1, RELAY_PATH2 };
enum { LAB_LIMIT_MS = 20000 };

struct relay_stream {
    uint8_t head[8];
    size_t have, body, preface, out_len, out_cap;
    uint8_t *out;
    bool flipping, dropping, eof;
};

struct relay_conn {
    int fd[2]; /* [C2S]: the client's socket, read for C2S; [S2C]: the server's */
    struct relay_stream s[2];
};

struct relay {
    enum relay_kind kind;
    int listener, wake;
    uint16_t port, to_port;
    char to[16];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under the lock */
    bool stop, hold[2], garbage;
    uint64_t release_at_ms;   /* 0: when told */
    int flip_type, drop_type; /* 0: none */
    unsigned flip_nth, flip_at;
    int close_type; /* both sides are closed instead of passing it */
    int close_dir;
    unsigned seen[2][256], accepted;
    size_t bytes[2];
    bool do_fin, do_reset, do_upload; /* towards the server of the newest connection */
    struct relay_conn conns[RELAY_CONNS];
    unsigned nconns;
};

static inline uint64_t lab_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* The application's own BIO, like curl's: it answers no BIO_C_GET_FD. */
static inline int custom_read(BIO *b, char *out, int len)
{
    ssize_t n = recv((int)(intptr_t)BIO_get_data(b), out, (size_t)len, 0);

    BIO_clear_retry_flags(b);
    if (n < 0 && errno == EAGAIN)
        BIO_set_retry_read(b);
    return (int)n;
}

static inline int custom_write(BIO *b, const char *in, int len)
{
    ssize_t n = send((int)(intptr_t)BIO_get_data(b), in, (size_t)len, MSG_NOSIGNAL);

    BIO_clear_retry_flags(b);
    if (n < 0 && errno == EAGAIN)
        BIO_set_retry_write(b);
    return (int)n;
}

static inline long custom_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    return cmd == BIO_CTRL_FLUSH || cmd == BIO_CTRL_DUP;
}

static inline int custom_create(BIO *b)
{
    BIO_set_init(b, 1);
    return 1;
}

static BIO_METHOD *custom_method;

static inline void custom_make(void)
{
    custom_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "application's own");
    BIO_meth_set_read(custom_method, custom_read);
    BIO_meth_set_write(custom_method, custom_write);
    BIO_meth_set_ctrl(custom_method, custom_ctrl);
    BIO_meth_set_create(custom_method, custom_create);
}

static inline BIO *custom_bio(int fd)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    BIO *b;

    pthread_once(&once, custom_make);
    b = BIO_new(custom_method);
    BIO_set_data(b, (void *)(intptr_t)fd);
    return b;
}

static inline void relay_poke(struct relay *r)
{
    uint64_t one = 1;

    assert_int_equal(write(r->wake, &one, sizeof(one)), sizeof(one));
}

static inline void relay_put(struct relay_stream *s, const uint8_t *data, size_t len)
{
    if (s->out_len + len > s->out_cap) {
        s->out_cap = s->out_len + len + 4096;
        s->out = realloc(s->out, s->out_cap);
    }
    memcpy(s->out + s->out_len, data, len);
    s->out_len += len;
}

static inline void relay_conn_close(struct relay_conn *c)
{
    int d;

    for (d = 0; d < 2; d++) {
        if (c->fd[d] >= 0)
            close(c->fd[d]);
        c->fd[d] = -1;
        free(c->s[d].out);
        memset(&c->s[d], 0, sizeof(c->s[d]));
    }
}

static inline size_t relay_unit_len(const struct relay *r, const uint8_t *head)
{
    return r->kind == RELAY_PATH2 ? (size_t)head[2] << 8 | head[3] : (size_t)head[3] << 8 | head[4];
}

/* The head of a unit is complete. false: the connection was closed for it. */
static inline bool relay_head(struct relay *r, struct relay_conn *c, int dir)
{
    struct relay_stream *s = &c->s[dir];
    uint8_t type = s->head[0];

    r->seen[dir][type]++;
    if (type == r->close_type && dir == r->close_dir) {
        relay_conn_close(c);
        return false;
    }
    s->flipping = type == r->flip_type && r->seen[dir][type] == r->flip_nth;
    s->dropping = type == r->drop_type;
    return true;
}

static inline void relay_byte(struct relay *r, struct relay_conn *c, int dir, uint8_t b)
{
    struct relay_stream *s = &c->s[dir];
    size_t head_len = r->kind == RELAY_PATH2 ? 8 : 5;

    if (s->preface > 0) {
        s->preface--;
        relay_put(s, &b, 1);
        return;
    }
    if (s->body == 0) {
        s->head[s->have++] = b;
        if (s->have < head_len)
            return;
        s->body = relay_unit_len(r, s->head);
        if (!relay_head(r, c, dir))
            return;
        if (!s->dropping)
            relay_put(s, s->head, head_len);
        s->have = s->body > 0 ? head_len : 0;
        return;
    }
    if (s->flipping && relay_unit_len(r, s->head) - s->body == r->flip_at)
        b ^= 1;
    if (!s->dropping)
        relay_put(s, &b, 1);
    if (--s->body == 0)
        s->have = 0;
}

static inline void relay_take(struct relay *r, struct relay_conn *c, int dir)
{
    uint8_t buf[16384];
    ssize_t n = recv(c->fd[dir], buf, sizeof(buf), MSG_DONTWAIT), i;

    if (n <= 0 && (n == 0 || errno != EAGAIN)) {
        c->s[dir].eof = true;
        return;
    }
    for (i = 0; i < n && c->fd[dir] >= 0; i++)
        relay_byte(r, c, dir, buf[i]);
    r->bytes[dir] += n > 0 ? (size_t)n : 0;
}

static inline void relay_flush(struct relay *r, struct relay_conn *c, int dir)
{
    struct relay_stream *s = &c->s[dir];
    ssize_t n;

    if (c->fd[0] < 0 || r->hold[dir])
        return;
    if (s->out_len > 0) {
        n = send(c->fd[!dir], s->out, s->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            s->out_len -= (size_t)n;
            memmove(s->out, s->out + n, s->out_len);
        } else if (errno != EAGAIN) {
            relay_conn_close(c);
            return;
        }
    }
    if (s->eof && s->out_len == 0)
        shutdown(c->fd[!dir], SHUT_WR);
    if (c->s[0].eof && c->s[1].eof && c->s[0].out_len + c->s[1].out_len == 0)
        relay_conn_close(c);
}

static inline void relay_accept(struct relay *r)
{
    static const char garbage[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(r->to_port)};
    struct relay_conn *c = &r->conns[r->nconns % RELAY_CONNS];
    int fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    r->accepted++;
    relay_conn_close(c);
    r->nconns++;
    c->fd[C2S] = fd;
    inet_pton(AF_INET, r->to, &sin.sin_addr);
    c->fd[S2C] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    c->s[0].preface = c->s[1].preface = r->kind == RELAY_PATH2 ? 8 : 0;
    if (r->garbage)
        (void)!send(fd, garbage, sizeof(garbage) - 1, MSG_NOSIGNAL);
    if (r->garbage || connect(c->fd[S2C], (struct sockaddr *)&sin, sizeof(sin)) != 0)
        relay_conn_close(c);
}

static inline void relay_attack(struct relay *r)
{
    struct linger reset = {.l_onoff = 1};
    struct relay_conn *c;
    static const uint8_t junk[1 << 20] = {23, 3, 3, 64, 0};

    if (r->nconns == 0)
        return;
    c = &r->conns[(r->nconns - 1) % RELAY_CONNS];
    if (c->fd[S2C] < 0)
        return;
    if (r->do_upload)
        relay_put(&c->s[C2S], junk, sizeof(junk));
    if (r->do_fin)
        c->s[C2S].eof = true;
    if (r->do_reset) {
        setsockopt(c->fd[S2C], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        relay_conn_close(c);
    }
    r->do_upload = r->do_fin = r->do_reset = false;
}

static inline size_t relay_polls(struct relay *r, struct pollfd *p)
{
    size_t n = 2, i;
    int d;

    p[0] = (struct pollfd){.fd = r->wake, .events = POLLIN};
    p[1] = (struct pollfd){.fd = r->listener, .events = POLLIN};
    for (i = 0; i < RELAY_CONNS; i++) {
        struct relay_conn *c = &r->conns[i];

        for (d = 0; d < 2; d++) {
            bool out = c->fd[d] >= 0 && c->s[!d].out_len > 0 && !r->hold[!d];

            p[n].fd = c->fd[d] >= 0 && (!c->s[d].eof || out) ? c->fd[d] : -1;
            p[n].events = (short)((c->s[d].eof ? 0 : POLLIN) | (out ? POLLOUT : 0));
            p[n++].revents = 0;
        }
    }
    return n;
}

static inline void relay_round(struct relay *r, const struct pollfd *p)
{
    uint64_t drain;
    size_t i;
    int d;

    if (p[0].revents != 0)
        (void)!read(r->wake, &drain, sizeof(drain));
    for (i = 0; i < RELAY_CONNS; i++) {
        struct relay_conn *c = &r->conns[i];

        for (d = 0; d < 2; d++) {
            if (p[2 + 2 * i + (size_t)d].revents != 0 && c->fd[d] >= 0 && !c->s[d].eof)
                relay_take(r, c, d);
        }
    }
    if (p[1].revents != 0)
        relay_accept(r);
    relay_attack(r);
    if (r->release_at_ms != 0 && lab_ms() >= r->release_at_ms) {
        r->hold[0] = r->hold[1] = false;
        r->release_at_ms = 0;
    }
    for (i = 0; i < RELAY_CONNS; i++) {
        relay_flush(r, &r->conns[i], C2S);
        relay_flush(r, &r->conns[i], S2C);
    }
    pthread_cond_broadcast(&r->changed);
}

static inline void *relay_main(void *arg)
{
    struct relay *r = arg;
    struct pollfd p[2 + 2 * RELAY_CONNS];

    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        size_t n = relay_polls(r, p);
        uint64_t now = lab_ms();
        int timeout = r->release_at_ms == 0    ? -1
                      : r->release_at_ms > now ? (int)(r->release_at_ms - now)
                                               : 0;

        pthread_mutex_unlock(&r->lock);
        (void)poll(p, n, timeout);
        pthread_mutex_lock(&r->lock);
        relay_round(r, p);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* Listens on FROM, any port, and leads to TO:PORT. */
static inline void relay_start(struct relay *r, enum relay_kind kind, const char *from,
                               const char *to, uint16_t port)
{
    pthread_condattr_t attr;
    int i;

    memset(r, 0, sizeof(*r));
    r->kind = kind;
    for (i = 0; i < RELAY_CONNS; i++)
        r->conns[i].fd[0] = r->conns[i].fd[1] = -1;
    strcpy(r->to, to);
    r->to_port = port;
    r->listener = pair_listen(from, &r->port);
    r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->changed, &attr);
    pthread_condattr_destroy(&attr);
    assert_int_equal(pthread_create(&r->thread, NULL, relay_main, r), 0);
}

static inline void relay_stop(struct relay *r)
{
    int i;

    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_mutex_unlock(&r->lock);
    relay_poke(r);
    pthread_join(r->thread, NULL);
    for (i = 0; i < RELAY_CONNS; i++)
        relay_conn_close(&r->conns[i]);
    close(r->listener);
    close(r->wake);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
}

static inline void relay_hold(struct relay *r, bool c2s, bool s2c)
{
    pthread_mutex_lock(&r->lock);
    r->hold[C2S] = c2s;
    r->hold[S2C] = s2c;
    pthread_mutex_unlock(&r->lock);
    relay_poke(r);
}

/* Lets go of everything after so many milliseconds from now. */
static inline void relay_release_after(struct relay *r, unsigned ms)
{
    pthread_mutex_lock(&r->lock);
    r->release_at_ms = lab_ms() + ms;
    pthread_mutex_unlock(&r->lock);
    relay_poke(r);
}

static inline void relay_flip(struct relay *r, int type, unsigned nth, unsigned at)
{
    pthread_mutex_lock(&r->lock);
    r->flip_type = type;
    r->flip_nth = nth;
    r->flip_at = at;
    pthread_mutex_unlock(&r->lock);
}

static inline void relay_set(struct relay *r, int *field, int value)
{
    pthread_mutex_lock(&r->lock);
    *field = value;
    pthread_mutex_unlock(&r->lock);
}

static inline void relay_flag(struct relay *r, bool *flag)
{
    pthread_mutex_lock(&r->lock);
    *flag = true;
    pthread_mutex_unlock(&r->lock);
    relay_poke(r);
}

static inline unsigned relay_seen(struct relay *r, int dir, uint8_t type)
{
    unsigned n;

    pthread_mutex_lock(&r->lock);
    n = r->seen[dir][type];
    pthread_mutex_unlock(&r->lock);
    return n;
}

/* Waits until so many units of this type were seen in this direction. */
static inline void relay_wait(struct relay *r, int dir, uint8_t type, unsigned n)
{
    uint64_t end = lab_ms() + LAB_LIMIT_MS;
    struct timespec ts = {.tv_sec = (time_t)(end / 1000), .tv_nsec = (long)(end % 1000) * 1000000};
    int rc = 0;

    pthread_mutex_lock(&r->lock);
    while (r->seen[dir][type] < n && rc == 0)
        rc = pthread_cond_timedwait(&r->changed, &r->lock, &ts);
    pthread_mutex_unlock(&r->lock);
    assert_int_equal(rc, 0);
}

#endif
