/* Concept: a connection's data: reading, writing and ending it, encrypted or plain (mtls/smkex.h).
 */
#include "internal.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* ---- Plain TCP ---- */

static int plain_read(struct smkex *s, void *buf, size_t len)
{
    for (;;) {
        ssize_t n = recv(s->fd, buf, len, 0);

        if (n >= 0)
            return (int)n;
        if (errno == EAGAIN)
            return SMKEX_WANT_READ;
        if (errno != EINTR)
            return smkex_fail(s, MTLS_ERR_PEER_CLOSED);
    }
}

static int plain_write(struct smkex *s, const void *buf, size_t len)
{
    for (;;) {
        ssize_t n = send(s->fd, buf, len, MSG_NOSIGNAL);

        if (n >= 0)
            return (int)n;
        if (errno == EAGAIN)
            return SMKEX_WANT_WRITE;
        if (errno != EINTR)
            return smkex_fail(s, MTLS_ERR_PEER_CLOSED);
    }
}

/* ---- Encrypted ---- */

static int flush(struct smkex *s)
{
    int rc = smkex_flush_out(s);

    return rc < 0 && rc != SMKEX_WANT_WRITE ? smkex_fail(s, rc) : rc;
}

/* An error of the machine: its alert goes out as far as it goes. */
static int broken(struct smkex *s, int rc)
{
    (void)!smkex_flush_out(s);
    return smkex_fail(s, rc);
}

/* More bytes from the socket into the machine. 0, SMKEX_WANT_READ, or an error. */
static int receive(struct smkex *s)
{
    size_t len;
    uint8_t *room = smkex_machine_room(s->m, &len);
    ssize_t n;
    int rc;

    if (room == NULL)
        return smkex_machine_error(s->m) != 0 ? broken(s, smkex_machine_error(s->m)) : 0;
    n = recv(s->fd, room, len, MSG_DONTWAIT);
    if (n > 0)
        rc = smkex_machine_filled(s->m, (size_t)n);
    else if (n == 0)
        rc = smkex_machine_eof(s->m);
    else if (errno == EAGAIN)
        return smkex_await(s, POLLIN, MTLS_TSTAMP_NEVER);
    else
        rc = errno == EINTR ? 0 : MTLS_ERR_PEER_CLOSED;
    return rc < 0 ? broken(s, rc) : 0;
}

/* [MPC-7] Takes the server's Finished, which a program that only writes would not read, and not a
 * byte behind it, so that whoever polls the socket is told of those. 0 also when it has not come.
 */
static int look_for_finished(struct smkex *s)
{
    size_t room_len, len;
    uint8_t *room;
    ssize_t n;
    int rc = 0;

    while (rc >= 0 && smkex_over_steered(s)) {
        room = smkex_machine_room(s->m, &room_len);
        len = smkex_machine_record_missing(s->m);
        if (room == NULL || len == 0 || len > room_len)
            return broken(s, MTLS_ERR_SMKEX_RECORD);
        n = recv(s->fd, room, len, MSG_DONTWAIT);
        if (n > 0)
            rc = smkex_machine_filled(s->m, (size_t)n);
        else if (n == 0)
            rc = smkex_machine_eof(s->m);
        else if (errno == EAGAIN)
            return 0;
        else if (errno != EINTR)
            rc = MTLS_ERR_PEER_CLOSED;
    }
    return rc < 0 ? broken(s, rc) : 0;
}

int smkex_read(struct smkex *s, void *buf, size_t len)
{
    const uint8_t *data;
    size_t have;
    int rc = smkex_handshake(s);

    if (rc != 0 || len == 0)
        return rc;
    len = len < INT_MAX ? len : INT_MAX;
    if (s->phase == SMKEX_PHASE_PLAIN)
        return plain_read(s, buf, len);
    (void)!smkex_flush_out(s); /* what an earlier write left; an error is the next write's */
    while ((data = smkex_machine_data(s->m, &have)) == NULL) {
        if (smkex_machine_peer_closed(s->m))
            return 0;
        if (s->phase == SMKEX_PHASE_FAILED)
            return s->reason;
        rc = receive(s);
        if (rc != 0)
            return rc;
        (void)smkex_over_steered(s);
    }
    have = have < len ? have : len;
    memcpy(buf, data, have);
    (void)!smkex_machine_take(s->m, have); /* an error behind it is the next call's */
    return (int)have;
}

int smkex_write(struct smkex *s, const void *buf, size_t len)
{
    int rc = smkex_handshake(s);

    if (rc != 0 || len == 0)
        return rc;
    len = len < INT_MAX ? len : INT_MAX;
    if (s->phase == SMKEX_PHASE_PLAIN)
        return plain_write(s, buf, len);
    rc = look_for_finished(s);
    if (rc != 0)
        return rc;
    do {
        int n = smkex_machine_write(s->m, buf, len);

        rc = flush(s);
        if (n < 0)
            return smkex_fail(s, n);
        if (n > 0)
            return rc == SMKEX_WANT_WRITE || rc == 0 ? n : rc;
    } while (rc == 0);
    return rc;
}

int smkex_flush(struct smkex *s)
{
    if (s->phase == SMKEX_PHASE_FAILED)
        return s->reason;
    return s->phase == SMKEX_PHASE_OPEN ? flush(s) : 0;
}

size_t smkex_pending(const struct smkex *s)
{
    size_t len = 0;

    if (s->phase == SMKEX_PHASE_OPEN)
        (void)smkex_machine_data(s->m, &len);
    return len;
}

int smkex_shutdown(struct smkex *s)
{
    int rc = smkex_handshake(s);

    if (rc != 0)
        return rc;
    if (s->phase == SMKEX_PHASE_PLAIN)
        return shutdown(s->fd, SHUT_WR) == 0 ? 0 : smkex_fail(s, MTLS_ERR_PEER_CLOSED);
    rc = smkex_machine_close(s->m); /* [REC-5] */
    return rc != 0 ? smkex_fail(s, rc) : flush(s);
}

int smkex_update_key(struct smkex *s)
{
    int rc = smkex_handshake(s);

    if (rc != 0 || s->phase != SMKEX_PHASE_OPEN)
        return rc != 0 ? rc : MTLS_ERR_ARG;
    rc = smkex_machine_update(s->m, false);
    return rc != 0 ? smkex_fail(s, rc) : flush(s) == SMKEX_WANT_WRITE ? 0 : s->reason;
}
