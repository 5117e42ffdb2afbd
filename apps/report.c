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
    static const char *const names[] = {"multipath", "certificate", "tls",
                                        "network",   "timeout",     "local"};

    return why->code != 0 ? mtls_error_name(why->code) : names[why->kind];
}

static enum mtls_outcome library_outcome(const struct report *r)
{
    return r->ssl != NULL && r->hooked ? mtls_get_outcome(r->ssl) : MTLS_OUTCOME_NONE;
}

/* The outcome as the tool sees it: TLS can fail although Multipath TLS had no objection. */
static enum mtls_outcome outcome_of(const struct report *r)
{
    enum mtls_outcome outcome = library_outcome(r);

    if (outcome == MTLS_OUTCOME_FAILED || !r->ready || r->late_json != NULL)
        return MTLS_OUTCOME_FAILED;
    return outcome == MTLS_OUTCOME_NONE ? MTLS_OUTCOME_PLAIN : outcome;
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
    enum mtls_outcome library = library_outcome(r);
    bool own = library == MTLS_OUTCOME_NONE || library != outcome_of(r);
    char *text = !own && r->late_json == NULL ? mtls_report_json(r->ssl) : NULL;
    struct json j;

    json_begin(&j);
    json_string(&j, "event", r->event);
    json_string(&j, "peer", r->peer);
    if (r->ssl != NULL && r->ready)
        json_string(&j, "tls", SSL_get_version(r->ssl));
    if (r->late_json != NULL)
        json_splice(&j, r->late_json);
    else if (text != NULL)
        json_splice(&j, text);
    else
        json_own(&j, r);
    if (r->ready && r->message != NULL && outcome_of(r) != MTLS_OUTCOME_FAILED) {
        json_string(&j, "error", r->message);
        json_string(&j, "error_reason", r->reason);
    }
    OPENSSL_free(text);
    return json_end(&j);
}

enum exit_code report_exit(const struct report *r)
{
    if (r->late_json != NULL || library_outcome(r) == MTLS_OUTCOME_FAILED || r->code != 0)
        return EXIT_VERIFY;
    return r->reason != NULL ? EXIT_NETWORK : EXIT_FINE;
}

static const char *message_of(const struct report *r)
{
    if (library_outcome(r) != MTLS_OUTCOME_NONE && mtls_get_reason(r->ssl) != 0 &&
        r->reason == NULL)
        return mtls_error_string(mtls_get_reason(r->ssl));
    return r->message;
}

/* Which paths it was that failed. */
static void print_failed_paths(const struct report *r)
{
    struct mtls_path_info p;

    if (library_outcome(r) != MTLS_OUTCOME_FAILED)
        return;
    for (size_t i = 1; mtls_get_path(r->ssl, i, &p) == 1; i++) {
        if (*p.spec != '\0' && strcmp(p.state, "confirmed") != 0)
            fprintf(stderr, " (path2=%s%s%s)", p.spec, *p.remote != '\0' ? " to " : "", p.remote);
    }
}

void report_line(const struct output *o, const struct report *r)
{
    const char *message = message_of(r);

    fprintf(stderr, "%s: %s: %s%s%s", o->prog, r->peer, mtls_outcome_name(outcome_of(r)),
            message != NULL ? ": " : "", message != NULL ? message : "");
    print_failed_paths(r);
    fputc('\n', stderr);
}

void report_memory(const struct output *o, const struct report *r, const char *file)
{
    int error = library_outcome(r) != MTLS_OUTCOME_NONE ? mtls_get_memory_error(r->ssl) : 0;

    if (error != 0 && !o->json)
        fprintf(stderr, "%s: %s: not remembered in %s: %s\n", o->prog, r->peer, file,
                mtls_error_string(error));
}

void report_plain(const struct output *o, const struct report *r)
{
    if (library_outcome(r) == MTLS_OUTCOME_PLAIN)
        fprintf(stderr, "%s: %s: plain TLS: %s\n", o->prog, r->peer,
                mtls_error_string(mtls_get_reason(r->ssl)));
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

static void print_times(const SSL *ssl, uint64_t start_us)
{
    static const char *const names[MTLS_STEP_COUNT] = {
        "ClientHello", "path 2 connected", "HELLO", "READY", "PROOF", "Finished", "decided"};
    const char *between = "  times   ";

    for (int step = 0; step < MTLS_STEP_COUNT; step++) {
        uint64_t at = mtls_get_time_us(ssl, (enum mtls_step)step);

        if (at == 0)
            continue;
        fprintf(stderr, "%s%s %.1f", between, names[step],
                at > start_us ? (double)(at - start_us) / 1000.0 : 0.0);
        between = ", ";
    }
    if (*between == ',')
        fputs(" ms\n", stderr);
}

void report_picture(const struct report *r, uint64_t start_us)
{
    enum mtls_outcome outcome = outcome_of(r);
    const char *message = message_of(r);
    struct mtls_path_info path;
    unsigned scope, confirmed;

    fprintf(stderr, "%s  %s", r->peer, mtls_outcome_name(outcome));
    if (r->ssl != NULL && r->ready)
        fprintf(stderr, "  %s", SSL_get_version(r->ssl));
    if (library_outcome(r) == MTLS_OUTCOME_VERIFIED) {
        scope = mtls_get_scope(r->ssl);
        confirmed = mtls_get_confirmed(r->ssl);
        fprintf(stderr, "  by %u path%s besides path 1, distinct at the %s%s%s", confirmed,
                confirmed == 1 ? "" : "s", (scope & MTLS_SCOPE_CLIENT) != 0 ? "client" : "",
                scope == (MTLS_SCOPE_CLIENT | MTLS_SCOPE_SERVER) ? " and the " : "",
                (scope & MTLS_SCOPE_SERVER) != 0 ? "server" : "");
    }
    fprintf(stderr, "%s%s\n", message != NULL ? ": " : "", message != NULL ? message : "");
    if (library_outcome(r) == MTLS_OUTCOME_NONE)
        return;
    for (size_t i = 0; mtls_get_path(r->ssl, i, &path) == 1; i++)
        print_path(i, &path);
    print_times(r->ssl, start_us);
}
