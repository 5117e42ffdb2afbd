/* mtls-client check: the list of servers, the threads, the table. */
#include "client_check.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "complain.h"
#include "json.h"
#include "options.h"

enum { TARGETS_MAX = 100000, TARGET_MAX = 280, REASONS_MAX = 64 };

struct row {
    char *target;
    bool done;
    struct check_result result;
};

struct check {
    const struct client *client;
    struct row *rows;
    size_t count, next, shown, done; /* next: not begun; shown: printed, in the order given */
    int width;
    bool progress;
    pthread_mutex_t lock;
    const char *meanings[REASONS_MAX][2]; /* reason, meaning: of what was shown */
    size_t meaning_count;
};

static int add(struct check *k, const char *target)
{
    struct row *rows;

    if (k->count == TARGETS_MAX || strlen(target) > TARGET_MAX)
        return -1;
    if ((k->count & (k->count - 1)) == 0) { /* doubles */
        rows = realloc(k->rows, (k->count == 0 ? 1 : 2 * k->count) * sizeof *rows);
        if (rows == NULL)
            return -1;
        k->rows = rows;
    }
    memset(&k->rows[k->count], 0, sizeof k->rows[k->count]);
    k->rows[k->count].target = strdup(target);
    if (k->rows[k->count].target == NULL)
        return -1;
    if ((int)strlen(target) > k->width)
        k->width = (int)strlen(target);
    k->count++;
    return 0;
}

/* One server a line; what follows # is a remark. "-": standard input. */
static int add_file(struct check *k, const char *name)
{
    FILE *f = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
    char line[TARGET_MAX + 64], *word, *rest;
    int rv = 0;

    if (f == NULL) {
        complain(client_prog, "--file %s: %s", name, strerror(errno));
        return -1;
    }
    while (rv == 0 && fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "#\r\n")] = '\0';
        for (rest = line; rv == 0 && (word = strsep(&rest, " \t,")) != NULL;)
            rv = *word != '\0' ? add(k, word) : 0;
    }
    if (f != stdin)
        fclose(f);
    if (rv < 0)
        complain(client_prog, "--file %s: too many servers, or too long a name", name);
    return rv;
}

/* ---- what is shown; lock held ---- */

static void remember_meaning(struct check *k, const struct check_result *r)
{
    for (size_t i = 0; i < k->meaning_count; i++)
        if (strcmp(k->meanings[i][0], r->reason) == 0)
            return;
    if (k->meaning_count == REASONS_MAX || r->verdict == MTLS_VERDICT_NONE)
        return;
    k->meanings[k->meaning_count][0] = r->reason;
    k->meanings[k->meaning_count++][1] = r->meaning;
}

static void show_json(const struct row *row)
{
    const struct check_result *r = &row->result;
    struct json j;
    char *line;

    json_begin(&j);
    json_string(&j, "event", "check");
    json_string(&j, "target", row->target);
    json_string(&j, "tls", r->tls);
    json_number(&j, "connect_us", r->connect_us);
    json_number(&j, "handshake_us", r->handshake_us);
    json_number(&j, "confirm_us", r->confirm_us);
    if (r->json != NULL) {
        json_splice(&j, r->json);
    } else {
        json_string(&j, "outcome", "failed");
        json_string(&j, "verdict", mtls_verdict_name(MTLS_VERDICT_NONE));
        json_string(&j, "reason", r->reason);
        json_string(&j, "message", r->error);
    }
    line = json_end(&j);
    if (line != NULL)
        puts(line);
    free(line);
}

static void show_row(struct check *k, const struct row *row)
{
    const struct check_result *r = &row->result;
    bool none = r->verdict == MTLS_VERDICT_NONE;

    printf("%-*s  %-10s  %-20s  %-8s", k->width, row->target,
           none ? "-" : mtls_verdict_name(r->verdict), r->reason, r->tls);
    if (none)
        printf("  %s\n", r->error);
    else
        printf("%8.1f %8.1f %8.1f\n", (double)r->connect_us / 1000.,
               (double)r->handshake_us / 1000., (double)r->confirm_us / 1000.);
    remember_meaning(k, r);
}

static void show_done(struct check *k)
{
    k->done++;
    if (k->progress)
        fprintf(stderr, "\r\033[K");
    for (; k->shown < k->count && k->rows[k->shown].done; k->shown++) {
        if (k->client->out.json)
            show_json(&k->rows[k->shown]);
        else
            show_row(k, &k->rows[k->shown]);
    }
    fflush(stdout);
    if (k->progress && k->done < k->count)
        fprintf(stderr, "%zu of %zu", k->done, k->count);
}

/* ---- the threads ---- */

static void *work(void *arg)
{
    struct check *k = arg;
    struct row *row;

    for (;;) {
        pthread_mutex_lock(&k->lock);
        row = k->next < k->count ? &k->rows[k->next++] : NULL;
        pthread_mutex_unlock(&k->lock);
        if (row == NULL)
            return NULL;
        client_probe(k->client, row->target, &row->result);
        pthread_mutex_lock(&k->lock);
        row->done = true;
        show_done(k);
        pthread_mutex_unlock(&k->lock);
    }
}

static void run(struct check *k, size_t jobs)
{
    pthread_t threads[CLIENT_JOBS_MAX];
    size_t n = 0;

    while (n < jobs && n < k->count && pthread_create(&threads[n], NULL, work, k) == 0)
        n++;
    if (n == 0)
        work(k);
    while (n > 0)
        pthread_join(threads[--n], NULL);
}

/* The worst: alarm, a server that could not be reached, unproven, consistent, verified. */
static int exit_of(const struct check *k)
{
    static const int codes[] = {[MTLS_VERDICT_NONE] = EXIT_NETWORK,
                                [MTLS_VERDICT_VERIFIED] = EXIT_FINE,
                                [MTLS_VERDICT_CONSISTENT] = EXIT_CONSISTENT,
                                [MTLS_VERDICT_UNPROVEN] = EXIT_UNPROVEN,
                                [MTLS_VERDICT_ALARM] = EXIT_VERIFY};
    static const int rank[] = {[EXIT_FINE] = 0,
                               [EXIT_CONSISTENT] = 1,
                               [EXIT_UNPROVEN] = 2,
                               [EXIT_NETWORK] = 3,
                               [EXIT_VERIFY] = 4};
    int worst = EXIT_FINE;

    for (size_t i = 0; i < k->count; i++) {
        int code = codes[k->rows[i].result.verdict];

        worst = rank[code] > rank[worst] ? code : worst;
    }
    return worst;
}

static void summarize(const struct check *k)
{
    size_t counts[MTLS_VERDICT_ALARM + 1] = {0};

    for (size_t i = 0; i < k->count; i++)
        counts[k->rows[i].result.verdict]++;
    printf("\n%zu verified, %zu consistent, %zu unproven, %zu alarm, %zu not reached\n",
           counts[MTLS_VERDICT_VERIFIED], counts[MTLS_VERDICT_CONSISTENT],
           counts[MTLS_VERDICT_UNPROVEN], counts[MTLS_VERDICT_ALARM], counts[MTLS_VERDICT_NONE]);
    for (size_t i = 0; i < k->meaning_count; i++)
        printf("%s: %s\n", k->meanings[i][0], k->meanings[i][1]);
}

int client_check(struct client *c)
{
    struct check k = {.client = c, .lock = PTHREAD_MUTEX_INITIALIZER, .width = 4};
    int rv = 0;

    k.progress = !c->out.json && isatty(STDERR_FILENO);
    for (size_t i = 0; rv == 0 && i < c->config.target_count; i++)
        if ((rv = add(&k, c->config.targets[i])) < 0)
            complain(client_prog, "%s: too long", c->config.targets[i]);
    if (rv == 0 && c->config.check_file != NULL)
        rv = add_file(&k, c->config.check_file);
    if (rv == 0 && k.count == 0)
        rv = usage_error(client_prog, "check: no servers");
    if (rv == 0) {
        if (!c->out.json)
            printf("%-*s  %-10s  %-20s  %-8s%8s %8s %8s\n", k.width, "host", "verdict", "reason",
                   "tls", "tcp ms", "tls ms", "confirm");
        run(&k, c->config.jobs);
        if (!c->out.json)
            summarize(&k);
        rv = exit_of(&k);
    } else {
        rv = EXIT_USAGE;
    }
    for (size_t i = 0; i < k.count; i++) {
        free(k.rows[i].target);
        OPENSSL_free(k.rows[i].result.json);
    }
    free(k.rows);
    return rv;
}
