/* Concept: who answers path 2 (see path2_stand.h). Whoever stands back says so before (serves = 0),
 * under the directory's lock, and only beside one that serves: so there is always one left. */
#include "path2_stand.h"

#include <string.h>

#include "path2_conns.h"
#include "peers.h"
#include "share.h"

enum { LOOK_EVERY_US = 10000 }; /* at all processes */

static struct {
    bool app_driven;
    mtls_tstamp next_look;
    mtls_tstamp session_at; /* 0: there was none */
    uint64_t serves;        /* as it stands in the directory */
    mtls_member other;      /* who answers while this process does not; 0: it does */
} stand;

/* All of them, in any order; 0: nobody can tell. */
static uint64_t listeners(void)
{
    uint64_t id, all = 0;
    size_t i;

    for (i = 0; (id = mtls_conns_listener_id(i)) != MTLS_NO_LISTENER; i++) {
        if (id == 0)
            return 0;
        all += (id ^ id >> 32) * 0x9e3779b97f4a7c15u;
    }
    return all;
}

void mtls_stand_open(const struct mtls_config *config)
{
    stand.app_driven = stand.app_driven || config->reactor_app;
}

void mtls_stand_serves(struct mtls_dir *d, mtls_tstamp now)
{
    uint64_t all = stand.app_driven ? 0 : listeners();

    stand.session_at = now;
    stand.other = 0;
    if (all == stand.serves)
        return;
    mtls_dir_set_serves(d, mtls_share_self(), all);
    stand.serves = all;
}

/* Its end will be heard of: so it may be relied on, if it has not left since. */
static bool rely_on(mtls_member other, uint64_t all)
{
    struct mtls_dir *d = mtls_share_lock();
    struct mtls_dir_proc p;
    bool there;

    if (d == NULL)
        return false;
    there = mtls_dir_proc(d, other, &p) && p.leaving == 0 && p.serves == all;
    if (there) {
        mtls_dir_set_serves(d, mtls_share_self(), 0);
        stand.serves = 0;
        stand.other = other;
    }
    mtls_share_unlock();
    return there;
}

bool mtls_stand_back(mtls_tstamp now)
{
    const struct mtls_dir *d = mtls_share_peek();
    struct mtls_dir_proc p;
    mtls_member other;
    uint64_t all;

    if (d == NULL || mtls_share_self() == 0 || stand.app_driven || now < stand.next_look ||
        (stand.session_at != 0 && now - stand.session_at < MTLS_STAND_IDLE_US))
        return false;
    stand.next_look = now + LOOK_EVERY_US;
    if ((all = listeners()) == 0 || (other = mtls_dir_server(d, mtls_share_self(), all)) == 0)
        return false;
    return mtls_dir_proc(d, other, &p) && mtls_peers_follow(&p) == 0 && rely_on(other, all);
}

bool mtls_stand_is_back(void)
{
    return stand.other != 0;
}

void mtls_stand_stay(mtls_tstamp now)
{
    if (stand.other == 0)
        return;
    stand.other = 0;
    stand.next_look = now + MTLS_STAND_IDLE_US;
}

void mtls_stand_lost(mtls_member peer, mtls_tstamp now)
{
    if (stand.other != peer || peer == 0)
        return;
    stand.other = 0;
    stand.next_look = now; /* there may be a third */
    mtls_conns_return(now);
}

void mtls_stand_reset(void)
{
    bool app_driven = stand.app_driven;

    memset(&stand, 0, sizeof(stand));
    stand.app_driven = app_driven;
}
