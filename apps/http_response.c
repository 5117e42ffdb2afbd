/* An HTTP/1.x response, parsed as it comes. */
#include "http_response.h"

#include <string.h>
#include <strings.h>

void http_response_init(struct http_response *r, bool head)
{
    memset(r, 0, offsetof(struct http_response, line));
    r->head = head;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static enum http_response_state read_status_line(struct http_response *r)
{
    const char *l = r->line;

    if (strncmp(l, "HTTP/1.", 7) != 0 || !is_digit(l[7]) || l[8] != ' ')
        return HTTP_BROKEN;
    if (!is_digit(l[9]) || !is_digit(l[10]) || !is_digit(l[11]) || (l[12] != ' ' && l[12] != '\0'))
        return HTTP_BROKEN;
    r->status = (l[9] - '0') * 100 + (l[10] - '0') * 10 + (l[11] - '0');
    r->chunked = r->has_length = false;
    return r->status >= 100 && r->status != 101 ? HTTP_FIELD : HTTP_BROKEN;
}

static enum http_response_state body_state(struct http_response *r)
{
    if (r->status < 200) /* 100, 103: the real one follows */
        return HTTP_STATUS_LINE;
    if (r->head || r->status == 204 || r->status == 304)
        return HTTP_DONE;
    if (r->chunked)
        return HTTP_CHUNK_SIZE;
    if (!r->has_length)
        return HTTP_BODY_CLOSE;
    return r->left > 0 ? HTTP_BODY_LENGTH : HTTP_DONE;
}

static bool read_length(struct http_response *r, const char *value)
{
    uint64_t n = 0;
    size_t digits = strspn(value, "0123456789");

    if (digits == 0 || digits > 18 || value[digits + strspn(value + digits, " \t")] != '\0')
        return false;
    for (size_t i = 0; i < digits; i++)
        n = n * 10 + (uint64_t)(value[i] - '0');
    if (r->has_length && r->left != n)
        return false;
    r->has_length = true;
    r->left = n;
    return true;
}

static enum http_response_state read_field(struct http_response *r)
{
    char *colon = strchr(r->line, ':'), *value;

    if (r->line_len == 0)
        return body_state(r);
    if (colon == NULL || colon == r->line)
        return HTTP_BROKEN;
    value = colon + 1 + strspn(colon + 1, " \t");
    *colon = '\0';
    if (strcasecmp(r->line, "Content-Length") == 0 && !read_length(r, value))
        return HTTP_BROKEN;
    if (strcasecmp(r->line, "Transfer-Encoding") == 0) {
        if (strcasecmp(value, "chunked") != 0 || r->chunked)
            return HTTP_BROKEN;
        r->chunked = true;
    }
    return HTTP_FIELD;
}

static enum http_response_state read_chunk_size(struct http_response *r)
{
    size_t digits = strspn(r->line, "0123456789abcdefABCDEF");
    char after = r->line[digits];

    if (digits == 0 || digits > 15 ||
        (after != '\0' && after != ';' && after != ' ' && after != '\t'))
        return HTTP_BROKEN;
    r->left = 0;
    for (size_t i = 0; i < digits; i++) {
        char c = r->line[i];

        r->left = r->left * 16 + (uint64_t)(is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    r->head_len = 0;
    return r->left > 0 ? HTTP_CHUNK_DATA : HTTP_TRAILER;
}

static enum http_response_state read_line(struct http_response *r)
{
    switch (r->state) {
    case HTTP_STATUS_LINE:
        return read_status_line(r);
    case HTTP_FIELD:
        return read_field(r);
    case HTTP_CHUNK_SIZE:
        return read_chunk_size(r);
    case HTTP_CHUNK_END:
        return r->line_len == 0 ? HTTP_CHUNK_SIZE : HTTP_BROKEN;
    case HTTP_TRAILER:
        return r->line_len == 0 ? HTTP_DONE : HTTP_TRAILER;
    default:
        return HTTP_BROKEN;
    }
}

/* Collects one line; how much was taken. */
static size_t feed_line(struct http_response *r, const uint8_t *data, size_t len)
{
    const uint8_t *end = memchr(data, '\n', len);
    size_t take = end != NULL ? (size_t)(end - data) : len;

    if (take >= sizeof r->line - r->line_len || take + r->head_len > HTTP_RESPONSE_HEAD_MAX ||
        memchr(data, '\0', take) != NULL) {
        r->state = HTTP_BROKEN;
        return len;
    }
    memcpy(r->line + r->line_len, data, take);
    r->line_len += take;
    r->head_len += take;
    if (end == NULL)
        return take;
    if (r->line_len > 0 && r->line[r->line_len - 1] == '\r')
        r->line_len--;
    r->line[r->line_len] = '\0';
    r->state = read_line(r);
    r->line_len = 0;
    return take + 1;
}

static size_t feed_counted(struct http_response *r, size_t len)
{
    size_t take = len < r->left ? len : (size_t)r->left;

    r->left -= take;
    if (r->left == 0)
        r->state = r->state == HTTP_CHUNK_DATA ? HTTP_CHUNK_END : HTTP_DONE;
    return take;
}

size_t http_response_feed(struct http_response *r, const uint8_t *data, size_t len,
                          size_t *body_len)
{
    size_t used = 0;

    *body_len = 0;
    while (used < len && r->state < HTTP_DONE) {
        if (r->state == HTTP_BODY_LENGTH || r->state == HTTP_CHUNK_DATA) {
            *body_len = feed_counted(r, len - used);
            return used + *body_len;
        }
        if (r->state == HTTP_BODY_CLOSE) {
            *body_len = len - used;
            return len;
        }
        used += feed_line(r, data + used, len - used);
    }
    return used;
}

bool http_response_end(struct http_response *r)
{
    if (r->state == HTTP_BODY_CLOSE)
        r->state = HTTP_DONE;
    return r->state == HTTP_DONE;
}
