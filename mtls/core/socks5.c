/* Concept: the client's side of a SOCKS5 CONNECT (RFC 1928): greeting, method, request, reply, byte
 * by byte. Owns no socket: the caller moves the bytes. No authentication is offered. */
#include <string.h>

#include "socks5.h"

enum { SOCKS_VERSION = 5, METHOD_NONE = 0, METHOD_REFUSED = 0xff, COMMAND_CONNECT = 1 };
enum { ATYP_IPV4 = 1, ATYP_NAME = 3, ATYP_IPV6 = 4 };
enum { REPLY_OK = 0, REPLY_REFUSED = 5 };
enum { METHOD_LEN = 2, REPLY_HEAD_LEN = 5 /* up to the length of a name */ };
enum state { STATE_METHOD, STATE_REPLY, STATE_CONNECTED };

int mtls_socks5_init(struct mtls_socks5 *s, const struct mtls_host *host, uint16_t port)
{
    static const uint8_t greeting[] = {SOCKS_VERSION, 1, METHOD_NONE};

    memset(s, 0, sizeof(*s));
    s->err = MTLS_ERR_ARG;
    if (port == 0 || memchr(host->name, '\0', sizeof(host->name)) == NULL ||
        (host->addr.family == 0 && host->name[0] == '\0') ||
        (host->addr.family != 0 && host->addr.family != 4 && host->addr.family != 6))
        return s->err;
    s->err = 0;
    s->port = port;
    s->addr = host->addr;
    memcpy(s->host, host->name, sizeof(s->host));
    memcpy(s->out, greeting, sizeof(greeting));
    s->out_len = sizeof(greeting);
    s->in_need = METHOD_LEN;
    return 0;
}

const uint8_t *mtls_socks5_out(const struct mtls_socks5 *s, size_t *len)
{
    *len = s->err == 0 ? s->out_len : 0;
    return s->out;
}

void mtls_socks5_sent(struct mtls_socks5 *s, size_t n)
{
    if (n > s->out_len)
        n = s->out_len;
    memmove(s->out, s->out + n, s->out_len - n);
    s->out_len = (uint16_t)(s->out_len - n);
}

static void put(struct mtls_socks5 *s, const void *data, size_t len)
{
    memcpy(s->out + s->out_len, data, len);
    s->out_len = (uint16_t)(s->out_len + len);
}

static void put_request(struct mtls_socks5 *s)
{
    const uint8_t head[] = {SOCKS_VERSION, COMMAND_CONNECT, 0};
    const uint8_t port[] = {(uint8_t)(s->port >> 8), (uint8_t)s->port};
    const uint8_t name_len = (uint8_t)strlen(s->host);

    put(s, head, sizeof(head));
    if (s->addr.family == 4) {
        put(s, (const uint8_t[]){ATYP_IPV4}, 1);
        put(s, s->addr.ip, 4);
    } else if (s->addr.family == 6) {
        put(s, (const uint8_t[]){ATYP_IPV6}, 1);
        put(s, s->addr.ip, 16);
    } else {
        put(s, (const uint8_t[]){ATYP_NAME, name_len}, 2);
        put(s, s->host, name_len);
    }
    put(s, port, sizeof(port));
}

/* Judges the byte just taken in. A failure is told at its second byte: proxies cut the rest short.
 */
static int method_byte(struct mtls_socks5 *s)
{
    if (s->in_len == 1)
        return s->in[0] == SOCKS_VERSION ? 0 : MTLS_ERR_SOCKS_REPLY;
    if (s->in[1] == METHOD_REFUSED)
        return MTLS_ERR_SOCKS_AUTH;
    if (s->in[1] != METHOD_NONE)
        return MTLS_ERR_SOCKS_REPLY;
    put_request(s);
    s->state = STATE_REPLY;
    s->in_len = 0;
    s->in_need = REPLY_HEAD_LEN;
    return 0;
}

static int reply_byte(struct mtls_socks5 *s)
{
    switch (s->in_len) {
    case 1:
        return s->in[0] == SOCKS_VERSION ? 0 : MTLS_ERR_SOCKS_REPLY;
    case 2:
        if (s->in[1] == REPLY_REFUSED)
            return MTLS_ERR_SOCKS_REFUSED;
        return s->in[1] == REPLY_OK ? 0 : MTLS_ERR_SOCKS_FAILED;
    case 3:
        return s->in[2] == 0 ? 0 : MTLS_ERR_SOCKS_REPLY;
    case 4:
        return s->in[3] == ATYP_IPV4 || s->in[3] == ATYP_NAME || s->in[3] == ATYP_IPV6
                   ? 0
                   : MTLS_ERR_SOCKS_REPLY;
    case REPLY_HEAD_LEN:
        if (s->in[3] == ATYP_IPV4)
            s->in_need = 4 + 4 + 2;
        else if (s->in[3] == ATYP_IPV6)
            s->in_need = 4 + 16 + 2;
        else
            s->in_need = (uint16_t)(REPLY_HEAD_LEN + s->in[4] + 2);
        return 0;
    default:
        if (s->in_len == s->in_need)
            s->state = STATE_CONNECTED;
        return 0;
    }
}

int mtls_socks5_input(struct mtls_socks5 *s, const uint8_t *data, size_t len, size_t *pos)
{
    while (s->err == 0 && s->state != STATE_CONNECTED && *pos < len) {
        if (s->out_len > 0) { /* it answers what we have not said */
            s->err = MTLS_ERR_SOCKS_REPLY;
            break;
        }
        s->in[s->in_len++] = data[(*pos)++];
        s->err = s->state == STATE_METHOD ? method_byte(s) : reply_byte(s);
    }
    return s->err != 0 ? s->err : s->state == STATE_CONNECTED;
}
