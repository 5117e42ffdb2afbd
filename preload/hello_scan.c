/* Concept: see hello_scan.h. */
#include "hello_scan.h"

#include <string.h>

enum {
    TYPE_CCS = 20,
    TYPE_ALERT = 21,
    TYPE_HANDSHAKE = 22,
    CLIENT_HELLO = 1,
    SERVER_HELLO = 2,
    RECORD_MAX = 16384 + 256,
    MESSAGE_MIN = 2 + 32,
    MESSAGE_MAX = 1 << 17
};

/* Whether a record may begin so. */
static bool header_fits(const uint8_t *h, size_t have)
{
    size_t len = have == 5 ? (size_t)h[3] << 8 | h[4] : 0;

    if (h[0] < TYPE_CCS || h[0] > TYPE_HANDSHAKE || (have > 1 && h[1] != 3) ||
        (have > 2 && h[2] > 4))
        return false;
    if (have < 5)
        return true;
    if (h[0] == TYPE_HANDSHAKE)
        return len > 0 && len <= RECORD_MAX;
    return len == (h[0] == TYPE_ALERT ? 2 : 1);
}

/* Whether a hello may begin so. */
static bool head_fits(const uint8_t *m, size_t got)
{
    size_t len = got >= 4 ? (size_t)m[1] << 16 | (size_t)m[2] << 8 | m[3] : MESSAGE_MIN;

    return (m[0] == CLIENT_HELLO || m[0] == SERVER_HELLO) && len >= MESSAGE_MIN &&
           len <= MESSAGE_MAX && (got < 5 || m[4] == 3) && (got < 6 || m[5] <= 4);
}

static size_t body(struct preload_hello_scan *s, const uint8_t *data, size_t len)
{
    size_t take = len < s->left ? len : s->left;

    if (s->header[0] == TYPE_HANDSHAKE) {
        if (take > sizeof(s->head) - s->got)
            take = sizeof(s->head) - s->got;
        memcpy(s->head + s->got, data, take);
        s->got = (uint8_t)(s->got + take);
    }
    s->left = (uint16_t)(s->left - take);
    if (s->left == 0)
        s->have = 0;
    return take;
}

enum preload_scan preload_hello_scan(struct preload_hello_scan *s, const uint8_t *data, size_t len)
{
    size_t used;

    for (; len > 0; data += used, len -= used) {
        if (s->have == sizeof(s->header)) {
            used = body(s, data, len);
            if (s->got > 0 && !head_fits(s->head, s->got))
                return PRELOAD_SCAN_OTHER;
            if (s->got == sizeof(s->head))
                return PRELOAD_SCAN_HELLO;
            continue;
        }
        used = 1;
        s->header[s->have++] = *data;
        if (!header_fits(s->header, s->have))
            return PRELOAD_SCAN_OTHER;
        if (s->have == sizeof(s->header))
            s->left = (uint16_t)(s->header[3] << 8 | s->header[4]);
    }
    return PRELOAD_SCAN_MORE;
}

bool preload_hello_fits(const struct preload_hello_scan *s)
{
    size_t record = (size_t)s->header[3] << 8 | s->header[4];
    size_t message = (size_t)s->head[1] << 16 | (size_t)s->head[2] << 8 | s->head[3];

    return s->head[0] == CLIENT_HELLO ? record == 4 + message : record >= 4 + message;
}

bool preload_hello_may_begin(const uint8_t *at, size_t len)
{
    size_t header = sizeof(((struct preload_hello_scan *)NULL)->header);

    if (!header_fits(at, len < header ? len : header))
        return false;
    if (len <= header || at[0] != TYPE_HANDSHAKE)
        return true;
    return at[header] == CLIENT_HELLO || at[header] == SERVER_HELLO;
}
