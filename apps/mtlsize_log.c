/* What the preloaded library wrote down about a run. */
#include "mtlsize_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *skip_space(const char *at)
{
    return at + strspn(at, " \t\r");
}

/* Copies a quoted string without its quotes; returns what follows it, NULL: not one. */
static const char *take_string(const char *at, char *out, size_t cap)
{
    size_t n = 0;

    if (*at++ != '"')
        return NULL;
    for (; *at != '"'; at++) {
        char c = *at;

        if (c == '\0')
            return NULL;
        if (c == '\\') {
            at++;
            if (*at == '\0')
                return NULL;
            c = *at == 'n' || *at == 't' || *at == 'r' ? ' ' : *at == 'u' ? '?' : *at;
            if (*at == 'u')
                for (int i = 0; i < 4; i++)
                    if (*++at == '\0')
                        return NULL;
        }
        if (n + 1 < cap)
            out[n++] = c;
    }
    if (cap > 0)
        out[n] = '\0';
    return at + 1;
}

/* Passes over one value of any kind and copies it: a string without its quotes, anything else as it
 * stands. */
static const char *take_value(const char *at, char *out, size_t cap)
{
    const char *from = at;
    int deep = 0;

    if (*at == '"')
        return take_string(at, out, cap);
    if (*at != '{' && *at != '[') {
        size_t len = strcspn(at, ",}] \t\r");

        if (len > 0 && cap > 0)
            snprintf(out, cap, "%.*s", (int)len, at);
        return len > 0 ? at + len : NULL;
    }
    do {
        if (*at == '\0')
            return NULL;
        deep += *at == '{' || *at == '[';
        deep -= *at == '}' || *at == ']';
        at = *at == '"' ? take_string(at, NULL, 0) : at + 1;
    } while (at != NULL && deep > 0);
    if (at != NULL && cap > 0)
        snprintf(out, cap, "%.*s", (int)(at - from), from);
    return at;
}

bool log_member(const char *object, const char *key, char *out, size_t cap)
{
    const char *at = skip_space(object);
    char name[64];

    if (*at != '{')
        return false;
    at = skip_space(at + 1);
    while (at != NULL && *at == '"') {
        bool wanted;

        at = take_string(at, name, sizeof name);
        if (at == NULL || *(at = skip_space(at)) != ':')
            return false;
        wanted = strcmp(name, key) == 0;
        at = take_value(skip_space(at + 1), wanted ? out : NULL, wanted ? cap : 0);
        if (at != NULL && wanted)
            return true;
        if (at == NULL || *(at = skip_space(at)) != ',')
            return false;
        at = skip_space(at + 1);
    }
    return false;
}

static void member(const char *line, const char *key, char *out, size_t cap)
{
    if (!log_member(line, key, out, cap))
        out[0] = '\0';
}

/* Who the other side was: the server's name, or path 1's address where it has none; and the port.
 */
static void peer_of(const char *line, char *out, size_t cap)
{
    char name[256], paths[1024], remote[300];
    const char *port;

    member(line, "name", name, sizeof name);
    member(line, "peer", remote, sizeof remote);
    member(line, "paths", paths, sizeof paths);
    if (remote[0] == '\0' && paths[0] == '[')
        member(paths + 1, "remote", remote, sizeof remote);
    port = strrchr(remote, ':');
    snprintf(out, cap, "%s%s", name, name[0] == '\0' ? remote : port != NULL ? port : "");
}

/* "dev=wwan0 to 192.0.2.1:914: path2-timeout" of each second path that failed, and what may help.
 */
static void paths_of(const char *line, char *out, size_t cap)
{
    char paths[2048], number[8], spec[256], remote[80], error[40];
    size_t used = 0;
    bool to;

    out[0] = '\0';
    member(line, "paths", paths, sizeof paths);
    for (const char *at = strchr(paths, '{'); at != NULL && used < cap; at = strchr(at + 1, '{')) {
        member(at, "path", number, sizeof number);
        member(at, "error", error, sizeof error);
        if (strcmp(number, "1") == 0 || error[0] == '\0')
            continue;
        member(at, "spec", spec, sizeof spec);
        member(at, "remote", remote, sizeof remote);
        to = remote[0] != '\0' && strstr(spec, remote) == NULL;
        used += (size_t)snprintf(out + used, cap - used, "%s%s%s%s: %s", used > 0 ? "; " : "",
                                 spec[0] != '\0' ? spec : "path 2", to ? " to " : "",
                                 to ? remote : "", error);
        if (used < cap && strstr(spec, "resolver=") == NULL &&
            (strcmp(error, "path2-resolve") == 0 || strcmp(error, "path2-inadmissible") == 0))
            used += (size_t)snprintf(out + used, cap - used,
                                     ", no resolver of its network is known: resolver=ADDR or "
                                     "remote=ADDR names one");
    }
}

const char *const log_verdicts[LOG_VERDICTS] = {"verified", "consistent", "unproven", "alarm"};

/* LOG_VERDICTS: none. */
static int verdict_of(const char *line)
{
    char verdict[16];
    int i = 0;

    member(line, "verdict", verdict, sizeof verdict);
    while (i < LOG_VERDICTS && strcmp(verdict, log_verdicts[i]) != 0)
        i++;
    return i;
}

static void add_problem(struct log_summary *s, const char *line, const char *what, const char *why)
{
    struct log_problem p = {.count = 1};

    snprintf(p.what, sizeof p.what, "%s", what);
    member(line, "program", p.program, sizeof p.program);
    peer_of(line, p.peer, sizeof p.peer);
    member(line, why, p.why, sizeof p.why);
    member(line, "message", p.text, sizeof p.text);
    if (p.text[0] == '\0')
        member(line, "meaning", p.text, sizeof p.text);
    paths_of(line, p.path, sizeof p.path);
    p.alarm = verdict_of(line) == LOG_ALARM;
    if (strcmp(what, "session") != 0) /* a script may do the same a thousand times */
        for (size_t i = 0; i < s->problem_count; i++)
            if (strcmp(s->problems[i].what, what) == 0 &&
                strcmp(s->problems[i].program, p.program) == 0 &&
                strcmp(s->problems[i].peer, p.peer) == 0 &&
                strcmp(s->problems[i].why, p.why) == 0) {
                s->problems[i].count++;
                return;
            }
    if (s->problem_count < LOG_PROBLEMS_MAX)
        s->problems[s->problem_count++] = p;
    else
        s->more++;
}

/* A program that failed, tried again and was verified has protected what it sent. */
static void heal(struct log_summary *s, const char *line)
{
    char program[sizeof s->problems[0].program], peer[sizeof s->problems[0].peer];

    member(line, "program", program, sizeof program);
    peer_of(line, peer, sizeof peer);
    for (size_t i = 0; i < s->problem_count; i++) {
        struct log_problem *p = &s->problems[i];

        if (strcmp(p->what, "session") == 0 && peer[0] != '\0' && strcmp(p->peer, peer) == 0 &&
            strcmp(p->program, program) == 0 && !p->alarm && strcmp(p->why, "downgrade-late") != 0)
            p->healed = true;
    }
}

static void plain_peer(struct log_summary *s, const char *line)
{
    struct log_plain p = {.count = 1};
    int verdict = verdict_of(line);
    char reason[40];

    member(line, "program", p.program, sizeof p.program);
    peer_of(line, p.peer, sizeof p.peer);
    member(line, "reason", reason, sizeof reason);
    if (verdict < LOG_VERDICTS)
        snprintf(p.why, sizeof p.why, "%s: %s", log_verdicts[verdict], reason);
    for (size_t i = 0; i < s->plain_count; i++)
        if (strcmp(s->plain_peers[i].peer, p.peer) == 0 &&
            strcmp(s->plain_peers[i].program, p.program) == 0 &&
            strcmp(s->plain_peers[i].why, p.why) == 0) {
            s->plain_peers[i].count++;
            return;
        }
    if (s->plain_count < LOG_PLAIN_MAX)
        s->plain_peers[s->plain_count++] = p;
    else
        s->plain_more++;
}

static void session_line(struct log_summary *s, const char *line)
{
    char outcome[32], role[16];

    int verdict = verdict_of(line);

    member(line, "outcome", outcome, sizeof outcome);
    member(line, "role", role, sizeof role);
    if (verdict < LOG_VERDICTS)
        s->verdicts[verdict]++;
    if (strcmp(outcome, "verified") == 0 || strcmp(outcome, "resumed-verified") == 0) {
        s->verified += outcome[0] == 'v';
        s->resumed += outcome[0] == 'r';
        heal(s, line);
    } else if (strcmp(outcome, "plain") == 0) {
        s->plain++;
        plain_peer(s, line);
    } else if (strcmp(outcome, "failed") == 0) {
        s->failed++;
        if (strcmp(role, "server") == 0)
            s->refused_peers++;
        else
            add_problem(s, line, "session", "reason");
    } else {
        s->damaged++;
    }
}

void log_line(struct log_summary *s, const char *line)
{
    char event[32];

    if (!log_member(line, "event", event, sizeof event)) {
        s->damaged++;
    } else if (strcmp(event, "session") == 0) {
        session_line(s, line);
    } else if (strcmp(event, "loaded") == 0) {
        member(line, "pid", event, sizeof event);
        s->loaded = s->loaded || (s->pid != 0 && strtoul(event, NULL, 10) == s->pid);
    } else if (strcmp(event, "notice") == 0) {
        s->notices++;
        add_problem(s, line, event, "why");
    } else if (strcmp(event, "unhooked") == 0) {
        s->unhooked++;
        add_problem(s, line, event, "why");
    } else if (strcmp(event, "refused") == 0) {
        s->refused++;
        add_problem(s, line, event, "why");
    }
}

size_t log_text(struct log_summary *s, char *text, size_t len)
{
    size_t used = 0;

    for (char *end; (end = memchr(text + used, '\n', len - used)) != NULL;
         used = (size_t)(end - text) + 1) {
        *end = '\0';
        log_line(s, text + used);
    }
    return used;
}

bool log_is_bad(const struct log_summary *s, bool unhooked_allowed)
{
    if (s->damaged > 0 || s->lost > 0 || s->more > 0 || (s->pid != 0 && !s->loaded))
        return true;
    for (size_t i = 0; i < s->problem_count; i++)
        if (!s->problems[i].healed && strcmp(s->problems[i].what, "notice") != 0 &&
            !(unhooked_allowed && strcmp(s->problems[i].what, "unhooked") == 0))
            return true;
    return false;
}
