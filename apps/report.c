/* What the tools say on standard error. */
#include "report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/crypto.h>

#include <mtls/mtls.h>

uint64_t clock_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

void output_json(char *line)
{
    if (line != NULL)
        fprintf(stderr, "%s\n", line);
    free(line);
}

void output_message(const struct output *o, const char *kind, const char *fmt, ...)
{
    char text[512];
    struct json j;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!o->json) {
        fprintf(stderr, "%s: %s\n", o->prog, text);
        return;
    }
    json_begin(&j);
    json_string(&j, "event", kind);
    json_string(&j, "message", text);
    output_json(json_end(&j));
}

const char *report_reason(const struct tls_failure *why)
{
    static const char *const names[] = {"multipath", "certificate", "tls",      "network",
                                        "timeout",   "local",       "reconnect"};

    return why->code != 0 ? mtls_error_name(why->code) : names[why->kind];
}

static enum report_outcome library_outcome(const struct report *r)
{
    return r->link != NULL && r->hooked ? report_link_outcome(r->link) : REPORT_NONE;
}

/* The outcome as the tool sees it: the connection can fail although the library had no objection.
 */
static enum report_outcome outcome_of(const struct report *r)
{
    enum report_outcome outcome = library_outcome(r);

    if (outcome == REPORT_FAILED || !r->ready || r->late_json != NULL)
        return REPORT_FAILED;
    return outcome == REPORT_NONE ? REPORT_PLAIN : outcome;
}

static void json_own(struct json *j, const struct report *r)
{
    json_string(j, "outcome", r->ready ? "plain" : "failed");
    json_string(j, "reason", r->ready ? "" : r->reason);
    json_string(j, "message", r->ready ? "" : r->message);
    json_string(j, "scope", "");
    json_open(j, "paths", '[');
    json_close(j, ']');
    json_open(j, "times_us", '{');
    json_close(j, '}');
}

char *report_json(const struct report *r)
{
    enum report_outcome library = library_outcome(r);
    bool own = library == REPORT_NONE || library != outcome_of(r);
    char *text = !own && r->late_json == NULL ? report_link_json(r->link) : NULL;
    const char *version = r->link != NULL && r->ready ? report_link_version(r->link) : NULL;
    struct json j;

    json_begin(&j);
    json_string(&j, "event", r->event);
    json_string(&j, "peer", r->peer);
    if (version != NULL)
        json_string(&j, "tls", version);
    if (r->late_json != NULL)
        json_splice(&j, r->late_json);
    else if (text != NULL)
        json_splice(&j, text);
    else
        json_own(&j, r);
    if (r->ready && r->message != NULL && outcome_of(r) != REPORT_FAILED) {
        json_string(&j, "error", r->message);
        json_string(&j, "error_reason", r->reason);
    }
    OPENSSL_free(text);
    return json_end(&j);
}

enum exit_code report_exit(const struct report *r)
{
    if (r->late_json != NULL || library_outcome(r) == REPORT_FAILED || r->code != 0)
        return EXIT_VERIFY;
    return r->reason != NULL ? EXIT_NETWORK : EXIT_FINE;
}

static const char *message_of(const struct report *r)
{
    if (library_outcome(r) != REPORT_NONE && (r->reason == NULL || r->code != 0) &&
        report_link_meaning(r->link) != NULL)
        return report_link_meaning(r->link);
    if (library_outcome(r) != REPORT_NONE && report_link_reason(r->link) != 0 && r->reason == NULL)
        return mtls_error_string(report_link_reason(r->link));
    return r->message;
}

/* Which paths it was that failed. */
/* The path's own error, unless it is the session's. */
static bool tells_more(const struct report *r, const struct mtls_path_info *p)
{
    return p->error != 0 && p->error != report_link_reason(r->link);
}

static void print_failed_paths(const struct report *r)
{
    struct mtls_path_info p;

    if (library_outcome(r) != REPORT_FAILED)
        return;
    for (size_t i = 1; report_link_path(r->link, i, &p); i++) {
        if (*p.spec != '\0' && strcmp(p.state, "confirmed") != 0)
            fprintf(stderr, " (path2=%s%s%s%s%s)", p.spec, *p.remote != '\0' ? " to " : "",
                    p.remote, tells_more(r, &p) ? ": " : "",
                    tells_more(r, &p) ? mtls_error_string(p.error) : "");
    }
}

void report_line(const struct output *o, const struct report *r)
{
    const char *message = message_of(r);

    fprintf(stderr, "%s: %s: %s%s%s", o->prog, r->peer, report_outcome_name(outcome_of(r)),
            message != NULL ? ": " : "", message != NULL ? message : "");
    print_failed_paths(r);
    fputc('\n', stderr);
}

void report_memory(const struct output *o, const struct report *r, const char *file)
{
    int error = library_outcome(r) != REPORT_NONE ? report_link_memory_error(r->link) : 0;

    if (error != 0 && !o->json)
        fprintf(stderr, "%s: %s: not remembered in %s: %s\n", o->prog, r->peer, file,
                mtls_error_string(error));
}

void report_plain(const struct output *o, const struct report *r)
{
    if (library_outcome(r) == REPORT_PLAIN)
        fprintf(stderr, "%s: %s: %s: %s\n", o->prog, r->peer, report_plain_word,
                report_link_meaning(r->link) != NULL
                    ? report_link_meaning(r->link)
                    : mtls_error_string(report_link_reason(r->link)));
}

static void print_path(size_t index, const struct mtls_path_info *p)
{
    fprintf(stderr, "  path %zu  %s -> %s", index + 1, *p->local != '\0' ? p->local : "?",
            *p->remote != '\0' ? p->remote : "?");
    if (*p->device != '\0')
        fprintf(stderr, "  dev %s", p->device);
    if (*p->via != '\0')
        fprintf(stderr, "  via %s", p->via);
    if (*p->state != '\0')
        fprintf(stderr, "  %s", p->state);
    if (p->rtt_us != 0)
        fprintf(stderr, "  rtt %.1f ms", p->rtt_us / 1000.0);
    if (index > 0 && *p->shares != '\0')
        fprintf(stderr, "\n          shares with path 1: %s", p->shares);
    if (p->error != 0)
        fprintf(stderr, "\n          %s", mtls_error_string(p->error));
    fputc('\n', stderr);
}

static void print_times(const struct link *link, uint64_t start_us)
{
    const char *between = "  times   ", *name;
    uint64_t at;

    for (size_t i = 0; report_link_step(link, i, &name, &at); i++) {
        if (at == 0)
            continue;
        fprintf(stderr, "%s%s %.1f", between, name,
                at > start_us ? (double)(at - start_us) / 1000.0 : 0.0);
        between = ", ";
    }
    if (*between == ',')
        fputs(" ms\n", stderr);
}

static void print_verified(const struct link *link)
{
    unsigned scope = report_link_scope(link), confirmed = report_link_confirmed(link);

    fprintf(stderr, "  by %u path%s besides path 1, distinct at the %s%s%s", confirmed,
            confirmed == 1 ? "" : "s", (scope & MTLS_SCOPE_CLIENT) != 0 ? "client" : "",
            scope == (MTLS_SCOPE_CLIENT | MTLS_SCOPE_SERVER) ? " and the " : "",
            (scope & MTLS_SCOPE_SERVER) != 0 ? "server" : "");
}

void report_picture(const struct report *r, uint64_t start_us)
{
    enum report_outcome outcome = outcome_of(r);
    const char *message = message_of(r), *version;
    struct mtls_path_info path;

    fprintf(stderr, "%s  %s", r->peer, report_outcome_name(outcome));
    if (r->link != NULL && r->ready && (version = report_link_version(r->link)) != NULL)
        fprintf(stderr, "  %s", version);
    if (library_outcome(r) == REPORT_VERIFIED)
        print_verified(r->link);
    fprintf(stderr, "%s%s\n", message != NULL ? ": " : "", message != NULL ? message : "");
    if (library_outcome(r) == REPORT_NONE)
        return;
    if (report_link_key(r->link) != NULL)
        fprintf(stderr, "  server's key: %s\n", report_link_key(r->link));
    for (size_t i = 0; report_link_path(r->link, i, &path); i++)
        print_path(i, &path);
    print_times(r->link, start_us);
}
