/* An HTTP/1.x request head, parsed from memory. */
#include "http_request.h"

#include <string.h>
#include <strings.h>

struct text {
    const char *at;
    size_t len;
};

struct fields {
    unsigned hosts;
    bool body, close, keep_alive;
};

static bool is_token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(struct text t)
{
    for (size_t i = 0; i < t.len; i++)
        if (!is_token_char(t.at[i]))
            return false;
    return t.len > 0;
}

static bool text_is(struct text t, const char *word)
{
    return t.len == strlen(word) && strncasecmp(t.at, word, t.len) == 0;
}

static struct text trim(struct text t)
{
    while (t.len > 0 && (t.at[0] == ' ' || t.at[0] == '\t')) {
        t.at++;
        t.len--;
    }
    while (t.len > 0 && (t.at[t.len - 1] == ' ' || t.at[t.len - 1] == '\t'))
        t.len--;
    return t;
}

/* What stands before the separator; *rest becomes what stands after it. */
static struct text cut(struct text *rest, char separator)
{
    const char *at = rest->len > 0 ? memchr(rest->at, separator, rest->len) : NULL;
    struct text head = *rest;

    if (at == NULL) {
        rest->at += rest->len;
        rest->len = 0;
        return head;
    }
    head.len = (size_t)(at - head.at);
    rest->at = at + 1;
    rest->len -= head.len + 1;
    return head;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int decode_path(struct text target, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < target.len; i++) {
        char c = target.at[i];

        if (c <= ' ' || c == 0x7f || c == '#')
            return 400;
        if (c == '%') {
            int high = i + 2 < target.len ? hex_value(target.at[i + 1]) : -1;
            int low = high >= 0 ? hex_value(target.at[i + 2]) : -1;

            if (low < 0 || high * 16 + low == 0)
                return 400;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (n + 1 >= HTTP_PATH_MAX)
            return 414;
        out[n++] = c;
    }
    out[n] = '\0';
    return 200;
}

/* origin-form, or absolute-form, whose host is not looked at (one site is served). */
static int parse_target(struct text target, char *out)
{
    struct text path = target, rest;

    for (const char *scheme = "https://";; scheme = "http://") {
        size_t len = strlen(scheme);

        if (target.len > len && strncasecmp(target.at, scheme, len) == 0) {
            rest = (struct text){target.at + len, target.len - len};
            path = rest;
            cut(&rest, '/');
            path = rest.at > path.at && rest.at[-1] == '/'
                       ? (struct text){rest.at - 1, rest.len + 1}
                       : (struct text){"/", 1};
            break;
        }
        if (len == 7)
            break;
    }
    if (path.len == 0 || path.at[0] != '/')
        return 400;
    return decode_path(cut(&path, '?'), out);
}

static int parse_request_line(struct text line, struct http_request *out, bool *http11)
{
    struct text method = cut(&line, ' '), target = cut(&line, ' ');
    int status;

    if (!is_token(method) || target.len == 0)
        return 400;
    if (line.len != 8 || memcmp(line.at, "HTTP/", 5) != 0 || line.at[6] != '.')
        return 400;
    if (line.at[5] != '1' || (line.at[7] != '0' && line.at[7] != '1'))
        return 505;
    *http11 = line.at[7] == '1';
    out->head = method.len == 4 && memcmp(method.at, "HEAD", 4) == 0;
    status = parse_target(target, out->path);
    if (status == 200 && !out->head && !(method.len == 3 && memcmp(method.at, "GET", 3) == 0))
        return 405;
    return status;
}

static int parse_field(struct text line, struct fields *f)
{
    struct text value = line, name = cut(&value, ':'), word;

    if (!is_token(name) || name.len == line.len)
        return 400;
    for (size_t i = 0; i < value.len; i++)
        if (value.at[i] != '\t' && ((unsigned char)value.at[i] < ' ' || value.at[i] == 0x7f))
            return 400;
    value = trim(value);
    if (text_is(name, "Host")) {
        f->hosts++;
    } else if (text_is(name, "Transfer-Encoding")) {
        f->body = true;
    } else if (text_is(name, "Content-Length")) {
        f->body = f->body || !text_is(value, "0");
    } else if (text_is(name, "Connection")) {
        while (value.len > 0) {
            word = trim(cut(&value, ','));
            f->close = f->close || text_is(word, "close");
            f->keep_alive = f->keep_alive || text_is(word, "keep-alive");
        }
    }
    return 200;
}

static int parse_head(struct text head, struct http_request *out)
{
    struct fields f = {0};
    struct text line;
    bool first = true, http11 = false;
    int status = 200;

    while (status == 200 && head.len > 0) {
        line = cut(&head, '\n');
        if (line.len == 0 || line.at[line.len - 1] != '\r')
            return 400;
        line.len--;
        status = first ? parse_request_line(line, out, &http11) : parse_field(line, &f);
        first = false;
    }
    if (status != 200)
        return status;
    if (f.hosts > 1 || (http11 && f.hosts == 0))
        return 400;
    /* A body is not read: the answer is given, then the connection ends. */
    out->keep_alive = !f.close && !f.body && (http11 || f.keep_alive);
    return 200;
}

int http_request_parse(const uint8_t *data, size_t len, struct http_request *out, size_t *used)
{
    const char *text = (const char *)data, *line_end, *head_end;
    size_t blank = 0;

    memset(out, 0, sizeof *out);
    *used = 0;
    while (blank + 2 <= len && blank < 8 && memcmp(text + blank, "\r\n", 2) == 0)
        blank += 2; /* RFC 9112 section 2.2 */
    text += blank;
    len -= blank;
    if (len == 0)
        return 0;
    line_end = memchr(text, '\n', len);
    if ((line_end == NULL ? len : (size_t)(line_end - text)) > HTTP_LINE_MAX)
        return 414;
    head_end = memmem(text, len, "\r\n\r\n", 4);
    if ((head_end == NULL ? len : (size_t)(head_end - text)) > HTTP_HEAD_MAX)
        return 431;
    if (head_end == NULL)
        return 0;
    *used = blank + (size_t)(head_end - text) + 4;
    return parse_head((struct text){text, (size_t)(head_end - text) + 2}, out);
}
