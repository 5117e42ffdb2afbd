/* Concept: the watch after a plain outcome (rule 7): READY that comes within 60 seconds shows that
 * path 1 hid the extension; the connection is torn down, the host remembered for ten minutes, the
 * application told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "../net/engine.h"
#include "../net/route.h"
#include "copy.h"
#include "glue.h"

enum { WATCH_US = 60 * 1000000, WATCHES_MAX = 4096 };

struct mtls_late {
    struct mtls_late *prev, *next;
    struct mtls_session *session; /* NULL: the SSL is gone */
    struct mtls_hook *hook;
    struct mtls_timer *timer;
    struct mtls_path2_claim *claims[MTLS_PATHS_MAX];
    unsigned nclaims;
    bool failed, telling;  /* telling: the lock is given up for the call-back, do not free */
    struct mtls_copy copy; /* of path 1's descriptor */
    char name[MTLS_HOST_MAX + 1];
    uint16_t port;
    struct mtls_addr remote; /* of path 1; family 0: unknown */
};

static unsigned watches;
static struct mtls_late *lates; /* all of them */

static void late_free(struct mtls_late *l)
{
    unsigned i;

    for (i = 0; i < l->nclaims; i++)
        mtls_path2_claim_free(l->claims[i]);
    mtls_timer_free(l->timer);
    mtls_copy_close(&l->copy);
    if (l->prev != NULL)
        l->prev->next = l->next;
    else
        lates = l->next;
    if (l->next != NULL)
        l->next->prev = l->prev;
    if (l->session != NULL)
        l->session->late = NULL;
    mtls_hook_unref(l->hook);
    free(l);
    watches--;
}

static void tell(struct mtls_late *l)
{
    char json[256], remote[64] = "";

    if (l->remote.family != 0)
        mtls_addr_format(&l->remote, remote, sizeof(remote));
    snprintf(json, sizeof(json),
             "{\"outcome\": \"failed\", \"reason\": \"downgrade-late\", \"exposed\": true, "
             "\"role\": \"client\", \"remote\": \"%s\"}",
             remote);
    l->telling = true;
    mtls_engine_unlock();
    l->hook->outcome_cb(NULL, MTLS_OUTCOME_FAILED, MTLS_ERR_DOWNGRADE_LATE, json,
                        l->hook->outcome_arg);
    mtls_engine_lock();
    l->telling = false;
}

/* The end of the watch, or the tearing down that late_changed() asked for. */
static void late_timer(void *arg, mtls_tstamp now)
{
    struct mtls_late *l = arg;
    unsigned i;

    if (!l->failed) {
        late_free(l);
        return;
    }
    for (i = 0; i < l->nclaims; i++)
        mtls_path2_claim_free(l->claims[i]);
    l->nclaims = 0;
    if (l->hook->outcome_cb != NULL)
        tell(l);
    if (l->session == NULL)
        late_free(l); /* else it says "failed" until the SSL goes */
}

static void late_changed(void *arg, struct mtls_path2_claim *claim, mtls_tstamp now)
{
    struct mtls_late *l = arg;
    struct mtls_path_status st;

    mtls_path2_claim_status(claim, &st);
    if (l->failed || !st.ready_seen || st.not_here)
        return;
    l->failed = true;
    if (mtls_copy_get(&l->copy) >= 0)
        shutdown(l->copy.fd, SHUT_RDWR);
    mtls_downgrade_note(l->name, l->port, now);
    mtls_timer_set(l->timer, now);
}

static bool still_open(const struct mtls_path2_claim *claim)
{
    struct mtls_path_status st;

    mtls_path2_claim_status(claim, &st);
    return st.state == MTLS_PATH_STARTING;
}

static void claims_take(struct mtls_session *s, struct mtls_late *l)
{
    uint8_t i;

    for (i = 0; i < s->hs->npaths; i++) {
        struct mtls_path2_claim *claim = s->hs->paths[i].claim;

        if (claim == NULL || !still_open(claim))
            continue;
        mtls_path2_claim_set_fn(claim, late_changed, l);
        l->claims[l->nclaims++] = claim;
        s->hs->paths[i].claim = NULL;
    }
}

/* What they belong to is the parent's, and an SSL of the child does not look at it any more. */
void mtls_late_fork_child(void)
{
    lates = NULL;
    watches = 0;
}

void mtls_late_watch(struct mtls_session *s, mtls_tstamp now)
{
    struct mtls_reactor *r = mtls_reactor_get();
    struct mtls_late *l;
    int fd = mtls_session_fd(s);
    struct sockaddr_storage ss;
    struct mtls_addr remote = {.family = 0};
    socklen_t len = sizeof(ss);

    if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
        (void)!mtls_addr_from_sockaddr(&remote, (struct sockaddr *)&ss, len);
    if (r == NULL || s->hs->npaths == 0 || watches >= WATCHES_MAX)
        return;
    l = calloc(1, sizeof(*l));
    if (l == NULL)
        return;
    l->copy.fd = -1;
    if (fd >= 0)
        (void)mtls_copy_make(&l->copy, fd, NULL);
    if (mtls_timer_new(&l->timer, r, late_timer, l) != 0) {
        mtls_copy_close(&l->copy);
        free(l);
        return;
    }
    l->next = lates;
    if (lates != NULL)
        lates->prev = l;
    lates = l;
    mtls_copies_on_fork();
    watches++;
    l->remote = remote;
    l->hook = s->hook;
    __atomic_add_fetch(&l->hook->refs, 1, __ATOMIC_ACQ_REL);
    memcpy(l->name, s->hs->name, sizeof(l->name));
    l->port = s->hs->port;
    l->session = s;
    s->late = l;
    claims_take(s, l);
    if (l->nclaims == 0)
        late_free(l);
    else
        mtls_timer_set(l->timer, now + WATCH_US);
}

bool mtls_late_failed(struct mtls_session *s)
{
    return s->late != NULL && s->late->failed;
}

void mtls_late_forget(struct mtls_session *s)
{
    struct mtls_late *l = s->late;

    s->late = NULL;
    if (l == NULL || s->generation != mtls_engine_generation())
        return;
    l->session = NULL;
    mtls_copy_close(&l->copy); /* the application is done with path 1: it must not stay open */
    if (l->failed && l->nclaims == 0 && !l->telling)
        late_free(l);
}
