/* Concept: see preamble.h. */
#include "preamble.h"

#include <string.h>
#include <strings.h>

enum { LINE_LIMIT = 512, BINARY_LIMIT = 262 };

static bool is(const uint8_t *line, size_t len, const char *word)
{
    return len == strlen(word) && strncasecmp((const char *)line, word, len) == 0;
}

/* The command alone, or with one word behind it where one belongs there. */
static bool begins(const uint8_t *line, size_t len, const char *word)
{
    size_t n = strlen(word);

    return len > n && line[n] == ' ' && strncasecmp((const char *)line, word, n) == 0 &&
           memchr(line + n + 1, ' ', len - n - 1) == NULL;
}

static bool any_of(const uint8_t *line, size_t len, const char *const *words)
{
    for (; *words != NULL; words++)
        if (is(line, len, *words))
            return true;
    return false;
}

/* SMTP, LMTP, POP3, FTP, NNTP, ManageSieve, and with a tag before it IMAP. */
static bool command(const uint8_t *line, size_t len)
{
    static const char *const plain[] = {
        "STARTTLS",     "STLS",        "CAPA", "CAPABILITY", "FEAT",
        "AUTH TLS",     "AUTH SSL",    "QUIT", "NOOP",       "LOGOUT",
        "CAPABILITIES", "MODE READER", "RSET", "AUTH TLS-C", NULL};
    static const char *const tagged[] = {"STARTTLS", "CAPABILITY", "NOOP", "LOGOUT", NULL};
    const uint8_t *space;

    if (any_of(line, len, plain) || begins(line, len, "EHLO") || begins(line, len, "HELO") ||
        begins(line, len, "LHLO"))
        return true;
    space = memchr(line, ' ', len);
    return space != NULL && space != line &&
           any_of(space + 1, len - (size_t)(space + 1 - line), tagged);
}

static bool lines(const uint8_t *data, size_t len)
{
    const uint8_t *end;
    size_t line;

    if (len == 0 || len > LINE_LIMIT || data[len - 1] != '\n')
        return false;
    for (; len > 0; data += line + 1, len -= line + 1) {
        end = memchr(data, '\n', len);
        if (end == NULL)
            return false;
        line = (size_t)(end - data);
        if (!command(data, line > 0 && data[line - 1] == '\r' ? line - 1 : line))
            return false;
    }
    return true;
}

/* A request for a tunnel, with its header lines and nothing behind them. */
static bool http_connect(const uint8_t *data, size_t len)
{
    return len > 16 && len <= 16384 && memcmp(data, "CONNECT ", 8) == 0 &&
           memmem(data, len, "\r\n\r\n", 4) == data + len - 4;
}

static bool socks(const uint8_t *data, size_t len)
{
    if (len < 3 || len > BINARY_LIMIT)
        return false;
    if (data[0] == 5 && len == 2u + data[1])
        return true; /* methods */
    if (data[0] == 5 && data[1] == 1 && data[2] == 0 && len >= 8)
        return len == (data[3] == 1 ? 10u : data[3] == 4 ? 22u : data[3] == 3 ? 7u + data[4] : 0u);
    return data[0] == 4 && data[1] == 1 && len >= 9 && data[len - 1] == 0;
}

/* SSLRequest and GSSENCRequest. */
static bool postgresql(const uint8_t *data, size_t len)
{
    static const uint8_t head[7] = {0, 0, 0, 8, 4, 0xd2, 0x16};

    return len == 8 && memcmp(data, head, sizeof(head)) == 0 &&
           (data[7] == 0x2f || data[7] == 0x30);
}

/* The short form of the handshake response: capabilities with CLIENT_SSL, no user name. */
static bool mysql(const uint8_t *data, size_t len)
{
    return len == 4 + 32 && data[0] == 32 && data[1] == 0 && data[2] == 0 && data[3] == 1 &&
           (data[5] & 0x08) != 0;
}

/* The StartTLS extended operation, and unbind. */
static bool ldap(const uint8_t *data, size_t len)
{
    static const char oid[] = "1.3.6.1.4.1.1466.20037";

    if (len < 7 || len > 64 || data[0] != 0x30 || data[1] != len - 2 || data[2] != 2)
        return false;
    return (len == 7 && data[3] == 1 && data[5] == 0x42) ||
           (data[3] <= 4 && data[4u + data[3]] == 0x77 &&
            memmem(data, len, oid, sizeof(oid) - 1) == data + len - (sizeof(oid) - 1));
}

/* Every tag is one that opens or ends the stream or asks for TLS. */
static bool xmpp(const uint8_t *data, size_t len)
{
    static const char *const tags[] = {"<?xml ", "<stream:stream ", "<starttls ", "<starttls/>",
                                       "</stream:stream>"};
    size_t i, at = 0;
    const uint8_t *end;

    if (len == 0 || data[0] != '<' || len > 2048)
        return false;
    while (at < len) {
        bool known = false;

        if (data[at] == '\n' || data[at] == ' ' || data[at] == '\r') {
            at++;
            continue;
        }
        for (i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
            known = known || (len - at >= strlen(tags[i]) &&
                              memcmp(data + at, tags[i], strlen(tags[i])) == 0);
        end = known ? memchr(data + at, '>', len - at) : NULL;
        if (end == NULL)
            return false;
        at = (size_t)(end + 1 - data);
    }
    return true;
}

static bool alert(const uint8_t *data, size_t len)
{
    return len == 7 && data[0] == 21 && data[1] == 3 && data[3] == 0 && data[4] == 2;
}

bool preload_preamble(const uint8_t *data, size_t len)
{
    return lines(data, len) || http_connect(data, len) || socks(data, len) ||
           postgresql(data, len) || mysql(data, len) || ldap(data, len) || xmpp(data, len) ||
           alert(data, len);
}
