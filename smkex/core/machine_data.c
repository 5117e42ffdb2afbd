/* Concept: a connection's records after the decision (machine.h, [REC]). */
#include "machine_internal.h"

#include <string.h>

#include <openssl/crypto.h>

enum { ALERT_UNEXPECTED = 10, ALERT_BAD_RECORD = 20, ALERT_INTERNAL = 80, LEVEL_FATAL = 2 };

static const uint8_t finished[] = {0x14, 0, 0, 0};
static const uint8_t close_notify[] = {1, 0};

static int seal(struct smkex_machine *m, uint8_t type, const uint8_t *data, size_t len)
{
    int n = smkex_seal(&m->sending, type, data, len, m->params.pad, m->scratch);

    return n < 0 ? n : mtls_outbuf_add(&m->out, m->scratch, (size_t)n, SMKEX_OUT_MAX);
}

/* [SER-1] */
static int fail(struct smkex_machine *m, int error)
{
    uint8_t alert[] = {LEVEL_FATAL, error == MTLS_ERR_SMKEX_RECORD       ? ALERT_BAD_RECORD
                                    : error == MTLS_ERR_SMKEX_UNEXPECTED ? ALERT_UNEXPECTED
                                                                         : ALERT_INTERNAL};

    if (m->state == SMKEX_STATE_OPEN && !m->closed && error != MTLS_ERR_SMKEX_ALERT)
        (void)!seal(m, SMKEX_CONTENT_ALERT, alert, sizeof(alert));
    OPENSSL_cleanse(m->in, SMKEX_IN_LEN);
    m->data_start = m->data_end = 0;
    return smkex_machine_fail(m, error);
}

int smkex_data_begin(struct smkex_machine *m)
{
    m->in = OPENSSL_malloc(SMKEX_IN_LEN);
    m->scratch = OPENSSL_malloc(SMKEX_RECORD_MAX);
    if (m->in == NULL || m->scratch == NULL)
        return MTLS_ERR_NOMEM;
    return seal(m, SMKEX_CONTENT_HANDSHAKE, finished, sizeof(finished)); /* [REC-3] */
}

int smkex_machine_update(struct smkex_machine *m, bool request)
{
    const uint8_t message[] = {0x18, 0, 0, 1, request};
    int rc;

    if (m->state != SMKEX_STATE_OPEN || m->closed)
        return MTLS_ERR_ARG;
    rc = seal(m, SMKEX_CONTENT_HANDSHAKE, message, sizeof(message));
    if (rc == 0)
        rc = smkex_direction_update(&m->sending, true);
    if (rc == 0)
        m->update_owed = false;
    return rc == 0 ? 0 : fail(m, rc);
}

/* ---- Receiving ---- */

static int handshake_message(struct smkex_machine *m, const uint8_t *at, size_t len)
{
    int rc;

    if (!m->peer_finished) {
        if (len != sizeof(finished) || memcmp(at, finished, len) != 0)
            return MTLS_ERR_SMKEX_UNEXPECTED;
        m->peer_finished = true;
        return 0;
    }
    if (len != 5 || memcmp(at, "\x18\0\0\1", 4) != 0 || at[4] > 1)
        return MTLS_ERR_SMKEX_UNEXPECTED;
    rc = smkex_direction_update(&m->receiving, false);
    if (rc == 0 && at[4] == 1)
        m->update_owed = true; /* [REC-4] before the next data */
    return rc;
}

static int alert(struct smkex_machine *m, const uint8_t *at, size_t len)
{
    if (len != 2)
        return MTLS_ERR_SMKEX_UNEXPECTED;
    if (memcmp(at, close_notify, 2) != 0)
        return MTLS_ERR_SMKEX_ALERT;
    m->peer_closed = true;
    m->in_start = m->in_end = 0; /* [REC-5] */
    return 0;
}

static int content(struct smkex_machine *m, uint8_t type, size_t at, size_t len)
{
    if (type == SMKEX_CONTENT_DATA && len > 0)
        m->empty = 0;
    else if (++m->empty > SMKEX_EMPTY_MAX)
        return MTLS_ERR_SMKEX_UNEXPECTED;
    if (type == SMKEX_CONTENT_HANDSHAKE)
        return handshake_message(m, m->in + at, len);
    if (!m->peer_finished)
        return MTLS_ERR_SMKEX_UNEXPECTED;
    if (type == SMKEX_CONTENT_ALERT)
        return alert(m, m->in + at, len);
    if (type != SMKEX_CONTENT_DATA)
        return MTLS_ERR_SMKEX_UNEXPECTED;
    m->data_start = at;
    m->data_end = at + len;
    return 0;
}

/* Opens records until one has data or the bytes are used up. */
static int open_records(struct smkex_machine *m)
{
    while (m->data_start == m->data_end && !m->peer_closed &&
           m->in_end - m->in_start >= SMKEX_RECORD_HEAD) {
        uint8_t *record = m->in + m->in_start, type = 0;
        int whole = smkex_record_length(record), rc;
        size_t len = 0;

        if (whole < 0)
            return fail(m, whole);
        if (m->in_end - m->in_start < (size_t)whole)
            return 0;
        rc = smkex_open(&m->receiving, record, (size_t)whole, &type, &len);
        if (rc == 0) {
            size_t at = m->in_start + SMKEX_RECORD_HEAD;

            m->in_start += (size_t)whole;
            rc = content(m, type, at, len);
        }
        if (rc != 0)
            return fail(m, rc);
    }
    return 0;
}

uint8_t *smkex_machine_room(struct smkex_machine *m, size_t *len)
{
    *len = 0;
    if (m->state == SMKEX_STATE_WAIT)
        return smkex_exchange_room(m, len);
    if (m->state != SMKEX_STATE_OPEN || m->data_start != m->data_end)
        return NULL;
    if (m->peer_closed) { /* read and forgotten */
        *len = SMKEX_RECORD_MAX;
        return m->in;
    }
    if (m->in_start > 0) {
        memmove(m->in, m->in + m->in_start, m->in_end - m->in_start);
        m->in_end -= m->in_start;
        m->in_start = 0;
    }
    *len = SMKEX_IN_LEN - m->in_end; /* an unopened rest is shorter than a record */
    return m->in + m->in_end;
}

int smkex_machine_filled(struct smkex_machine *m, size_t len)
{
    if (m->state == SMKEX_STATE_FAILED)
        return m->error;
    if (m->state == SMKEX_STATE_WAIT)
        return smkex_exchange_filled(m, len);
    if (m->state != SMKEX_STATE_OPEN)
        return smkex_machine_fail(m, MTLS_ERR_GATE_FLOOD);
    if (m->peer_closed)
        return 0;
    m->in_end += len;
    return open_records(m);
}

int smkex_machine_eof(struct smkex_machine *m)
{
    if (m->state == SMKEX_STATE_FAILED)
        return m->error;
    if (m->state != SMKEX_STATE_OPEN)
        return smkex_machine_fail(m, MTLS_ERR_PEER_CLOSED);
    if (m->peer_closed || m->data_start != m->data_end)
        return 0; /* what is here comes first */
    return smkex_machine_fail(m, MTLS_ERR_SMKEX_TRUNCATED);
}

const uint8_t *smkex_machine_data(const struct smkex_machine *m, size_t *len)
{
    *len = m->data_end - m->data_start;
    return *len > 0 ? m->in + m->data_start : NULL;
}

int smkex_machine_take(struct smkex_machine *m, size_t n)
{
    if (n > m->data_end - m->data_start)
        return MTLS_ERR_ARG;
    m->data_start += n;
    if (m->state == SMKEX_STATE_FAILED)
        return m->error;
    return m->data_start == m->data_end ? open_records(m) : 0;
}

bool smkex_machine_peer_closed(const struct smkex_machine *m)
{
    return m->peer_closed && m->data_start == m->data_end;
}

bool smkex_machine_peer_finished(const struct smkex_machine *m)
{
    return m->peer_finished;
}

size_t smkex_machine_record_missing(const struct smkex_machine *m)
{
    size_t have = m->in_end - m->in_start;
    int whole =
        have >= SMKEX_RECORD_HEAD ? smkex_record_length(m->in + m->in_start) : SMKEX_RECORD_HEAD;

    return whole > 0 && (size_t)whole > have ? (size_t)whole - have : 0;
}

/* ---- Sending ---- */

static bool has_room(const struct smkex_machine *m)
{
    size_t len;

    (void)mtls_outbuf_get(&m->out, &len);
    return len + 3 * SMKEX_RECORD_MAX <= SMKEX_OUT_MAX; /* data, KeyUpdate, an alert */
}

int smkex_machine_write(struct smkex_machine *m, const uint8_t *data, size_t len)
{
    size_t done = 0;
    int rc;

    if (m->state == SMKEX_STATE_FAILED)
        return m->error;
    if (m->state != SMKEX_STATE_OPEN || m->closed)
        return MTLS_ERR_ARG;
    while (done < len && has_room(m)) {
        size_t n = len - done < SMKEX_RECORD_DATA_MAX ? len - done : SMKEX_RECORD_DATA_MAX;

        if ((m->update_owed || m->sending.number >= SMKEX_UPDATE_AFTER - 2) &&
            (rc = smkex_machine_update(m, false)) != 0)
            return rc;
        rc = seal(m, SMKEX_CONTENT_DATA, data + done, n);
        if (rc != 0)
            return fail(m, rc);
        done += n;
    }
    return (int)done;
}

int smkex_machine_close(struct smkex_machine *m)
{
    int rc;

    if (m->state == SMKEX_STATE_FAILED)
        return m->error;
    if (m->state != SMKEX_STATE_OPEN)
        return MTLS_ERR_ARG;
    if (m->closed)
        return 0;
    rc = seal(m, SMKEX_CONTENT_ALERT, close_notify, sizeof(close_notify));
    if (rc != 0)
        return fail(m, rc);
    m->closed = true;
    return 0;
}
