/* Concept: the server's side of a session: ClientHello, EncryptedExtensions, keys to path 2
 * (protocol.md, SRV). */
#include <string.h>

#include <sys/socket.h>

#include "../net/route.h"
#include "gate.h"
#include "glue.h"

static void confirmed(void *arg, uint8_t k, uint8_t n, const struct mtls_addr *local,
                      const struct mtls_addr *peer, mtls_tstamp now)
{
    struct mtls_session *s = arg;

    if (s->hs == NULL || s->hs->confirmed)
        return;
    s->hs->confirmed = true;
    s->hs->confirmed_k = k;
    s->hs->confirmed_n = n;
    s->hs->path2_local = *local;
    s->hs->path2_peer = *peer;
    s->hs->confirmed_at = now;
    mtls_session_wake(s, now);
}

/* The deadline: of a session that is gated, or waits for the client's Finished, or is resumed and
 * only answers claims. */
static void timer(void *arg, mtls_tstamp now)
{
    struct mtls_session *s = arg;

    if (s->hs == NULL)
        mtls_session_leave_engine(s, MTLS_FAIL_ABANDONED);
    else if (s->hs->confirmed)
        mtls_gate_release(s, true);
    else
        mtls_session_wake(s, now);
}

static int enter_engine(struct mtls_session *s, mtls_tstamp now)
{
    struct mtls_reactor *r;
    int err;

    mtls_engine_lock();
    r = mtls_reactor_get();
    err = r == NULL ? MTLS_ERR_STOPPED : mtls_reactor_start(r, s->hook->config.reactor_app);
    if (err == 0)
        err = mtls_timer_new(&s->timer, r, timer, s);
    if (err == 0)
        mtls_timer_set(s->timer, s->hs->deadline_at);
    if (err == 0)
        err = mtls_service_session_new(&s->service, s->hs->join, confirmed, s, now);
    mtls_engine_unlock();
    return err;
}

static int register_hello(struct mtls_session *s, const struct mtls_ext_ch *ch, int *alert)
{
    mtls_tstamp now = mtls_now();
    int err;

    s->offered = true;
    s->times[MTLS_STEP_CLIENT_HELLO] = now;
    s->hs->deadline_at = now + s->hook->config.deadline_ms * 1000ull;
    s->hs->record_held = (ch->flags & MTLS_CH_RECORD_HELD) != 0;
    memcpy(s->hs->join, ch->join, sizeof(s->hs->join));
    err = enter_engine(s, now);
    if (err == MTLS_ERR_JOIN_REUSED)
        *alert = SSL_AD_ILLEGAL_PARAMETER;
    if (err == 0)
        err = mtls_gate_install(s);
    if (err == 0)
        s->phase = MTLS_PHASE_HELLO;
    return err;
}

int mtls_server_hello(struct mtls_session *s, const uint8_t *data, size_t len, int *alert)
{
    struct mtls_ext_ch ch;
    int err = mtls_ext_ch_parse(data, len, &ch);

    *alert = SSL_AD_INTERNAL_ERROR;
    if (err == MTLS_ERR_EXT_MALFORMED) {
        *alert = SSL_AD_DECODE_ERROR;
        return err;
    }
    if (err == MTLS_ERR_EXT_NOT_OURS || (err == 0 && !mtls_ext_ch_offers(&ch, MTLS_VERSION_1))) {
        if (s->phase == MTLS_PHASE_HELLO && s->hs->hellos > 1) { /* the first had ours [EXT-3] */
            *alert = SSL_AD_ILLEGAL_PARAMETER;
            return MTLS_ERR_EXT_CHANGED;
        }
        /* As if it were absent; the security call-back only saw that there is one. [POL] */
        *alert = SSL_AD_HANDSHAKE_FAILURE;
        return s->hook->config.policy == MTLS_POLICY_REQUIRE ? MTLS_ERR_NOT_OFFERED : 0;
    }
    /* A new handshake that the message call-back did not show us, because the application took it.
     */
    if (s->phase > MTLS_PHASE_HELLO && mtls_session_reset(s) != 0)
        return MTLS_ERR_NOMEM;
    s->hs->hellos_parsed++;
    SSL_set_max_early_data(s->ssl,
                           0); /* the application may have set its own since the hook [EXT-12] */
    SSL_set_recv_max_early_data(s->ssl, 0);
    if (s->phase != MTLS_PHASE_START ||
        s->hs->hellos > 1) { /* [EXT-3] the first may have had none */
        *alert = SSL_AD_ILLEGAL_PARAMETER;
        if (len != s->hs->hello_ext_len || memcmp(data, s->hs->hello_ext, len) != 0)
            return MTLS_ERR_EXT_CHANGED;
        return mtls_gate_stands(s) ? 0 : MTLS_ERR_GATE_DISPLACED;
    }
    if (len > sizeof(s->hs->hello_ext))
        return MTLS_ERR_EXT_MALFORMED;
    memcpy(s->hs->hello_ext, data, len);
    s->hs->hello_ext_len = len;
    return register_hello(s, &ch, alert);
}

static void name_and_port(struct mtls_session *s)
{
    const char *sni = SSL_get_servername(s->ssl, TLSEXT_NAMETYPE_host_name);
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    struct mtls_addr *local = &s->hs->path1_local;

    if (sni == NULL || mtls_name_canonical(sni, s->hs->name) != 0)
        s->hs->name[0] = '\0';
    if (getsockname(mtls_session_fd(s), (struct sockaddr *)&ss, &len) == 0 &&
        mtls_addr_from_sockaddr(local, (struct sockaddr *)&ss, len) == 0)
        s->hs->port = local->port;
}

int mtls_server_answer(struct mtls_session *s, uint8_t *out, size_t cap)
{
    struct mtls_handshake *hs = s->hs;
    struct mtls_ext_ee ee = {.version = MTLS_VERSION_1};
    const struct mtls_config *c;
    int n;

    mtls_session_rebind(s);
    c = &s->hook->config;
    name_and_port(s);
    mtls_resume_server_answer(s);
    ee.flags = hs->resumed_ok ? 0 : MTLS_EE_CONFIRM_NEEDED;
    if (c->ntls_ports > 1)
        ee.flags |= MTLS_EE_OTHER_PORTS;
    ee.port = (uint16_t)(c->advertise >= 0 ? c->advertise
                         : c->nlisten > 0  ? s->hook->bound[0].port
                         : c->single_port  ? hs->port
                                           : 0);
    ee.max_age = c->memory_s;
    ee.naddr = c->naddress;
    memcpy(ee.addrs, c->address, c->naddress * sizeof(c->address[0]));
    n = mtls_ext_ee_encode(&ee, out, cap);
    if (n > 0)
        s->phase = MTLS_PHASE_ANSWERED;
    return n;
}

/* Resumed on both sides' records: nobody asks for a proof of it. [RES-11] */
static bool keyless(const struct mtls_handshake *hs)
{
    struct mtls_transcript_facts facts;

    mtls_transcript_facts(hs->transcript, &facts);
    return hs->resumed_ok && hs->record_held && facts.complete;
}

static int keys_to_path2(struct mtls_session *s)
{
    struct mtls_keys keys;
    int err = mtls_keys_compute(s, &keys);

    if (err == 0) {
        mtls_engine_lock();
        err = s->service != NULL ? mtls_service_session_keys(s->service, &keys, mtls_now())
                                 : MTLS_ERR_DEADLINE;
        mtls_engine_unlock();
    }
    mtls_keys_wipe(&keys);
    return err;
}

int mtls_server_arm(struct mtls_session *s)
{
    int err = keyless(s->hs) ? 0 : keys_to_path2(s);

    if (err != 0)
        return err;
    s->phase = MTLS_PHASE_ARMED;
    if (s->hs->resumed_ok)
        mtls_session_decide(s, MTLS_OUTCOME_RESUMED_VERIFIED, 0);
    return 0;
}
