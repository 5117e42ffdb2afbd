/* Concept: cutting path 1's two streams into TLS records (see gate.h): what is read, so that a
 * record may be held although libssl asks for more; what is written, so that exactly the
 * ClientHello, change_cipher_spec and plaintext alerts pass before the decision. */
#include <string.h>

#include "gate.h"

static size_t record_len(const uint8_t *head)
{
    return (size_t)head[3] << 8 | head[4];
}

/* How many bytes of a read belong to the record under way: never more than one record at a time
 * (read-ahead). */
int mtls_gate_record_part(const struct mtls_gate *g, int len)
{
    size_t part = g->rbody > 0 ? g->rbody : sizeof(g->rhead) - g->rhave;

    return (size_t)len < part ? len : (int)part;
}

void mtls_gate_record_got(struct mtls_gate *g, const char *data, int n)
{
    if (g->rbody > 0) {
        g->rbody -= (size_t)n;
        if (g->rbody == 0 && g->rhead[0] == TYPE_DATA)
            g->saw_encrypted = true;
        return;
    }
    memcpy(g->rhead + g->rhave, data, (size_t)n);
    g->rhave = (uint8_t)(g->rhave + n);
    if (g->rhave == sizeof(g->rhead)) {
        g->rhave = 0;
        g->rbody = record_len(g->rhead);
        g->saw_handshake |= g->rhead[0] == TYPE_HANDSHAKE;
    }
}

enum mtls_peek mtls_gate_peek(const uint8_t *head, size_t len)
{
    if ((len > 0 && head[0] != TYPE_HANDSHAKE) || (len > 5 && head[5] != SSL3_MT_SERVER_HELLO))
        return MTLS_PEEK_OTHER;
    if (len < MTLS_HELLO_PEEK)
        return MTLS_PEEK_MORE;
    return mtls_random_is_retry(head + MTLS_HELLO_PEEK - 32) ? MTLS_PEEK_OTHER
                                                             : MTLS_PEEK_SERVER_HELLO;
}

static int scan_body(struct mtls_record_scan *scan, size_t len)
{
    scan->body = len;
    scan->have = len > 0 ? scan->have : 0;
    return scan->message > 0 && len > scan->message; /* something behind the ClientHello */
}

/* A record header is complete. */
static int scan_header(struct mtls_record_scan *scan)
{
    size_t len = record_len(scan->head);

    if (scan->head[0] == TYPE_CCS || scan->head[0] == TYPE_ALERT) {
        scan->body = len;
        scan->have = len > 0 ? scan->have : 0;
        return 0;
    }
    if (scan->head[0] != TYPE_HANDSHAKE || len < 4)
        return 1;
    return scan->message > 0 ? scan_body(scan, len) : 0;
}

/* Walks what is about to be written: 0 all of it may pass, 1 it needs the decision, negative: an
 * error. A ClientHello passes as often as we were asked for one, change_cipher_spec and plaintext
 * alerts pass. */
static int scan_one(struct mtls_record_scan *scan, unsigned *hellos, const uint8_t *in, size_t len,
                    size_t *pos)
{
    size_t take;

    if (scan->body > 0) {
        take = len - *pos < scan->body ? len - *pos : scan->body;
        *pos += take;
        scan->body -= take;
        scan->have = scan->body == 0 ? 0 : scan->have;
        if (scan->head[0] == TYPE_HANDSHAKE)
            scan->message -= take < scan->message ? take : scan->message;
        return 0;
    }
    scan->head[scan->have++] = in[(*pos)++];
    if (scan->have < 5)
        return 0;
    if (scan->have == 5)
        return scan_header(scan);
    if (scan->head[5] != SSL3_MT_CLIENT_HELLO || *hellos == 0)
        return 1;
    if (scan->have < sizeof(scan->head))
        return 0;
    (*hellos)--;
    scan->message = (size_t)scan->head[6] << 16 | (size_t)scan->head[7] << 8 | scan->head[8];
    return scan_body(scan, record_len(scan->head) - 4);
}

int mtls_gate_scan_write(struct mtls_record_scan *scan, unsigned *hellos, const uint8_t *in,
                         size_t len)
{
    size_t pos = 0;
    int rc = 0;

    while (rc == 0 && pos < len)
        rc = scan_one(scan, hellos, in, len, &pos);
    return rc;
}
