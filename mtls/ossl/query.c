/* Concept: the public queries on an SSL, and what an application tells about one connection. */
#include <string.h>
#include <sys/socket.h>

#include "../net/hostfile.h"
#include "../net/route.h"
#include "glue.h"
#include "report.h"

const char *mtls_outcome_name(enum mtls_outcome outcome)
{
    switch (outcome) {
    case MTLS_OUTCOME_VERIFIED:
        return "verified";
    case MTLS_OUTCOME_RESUMED_VERIFIED:
        return "resumed-verified";
    case MTLS_OUTCOME_PLAIN:
        return "plain";
    case MTLS_OUTCOME_FAILED:
        return "failed";
    default:
        return "none";
    }
}

/* The session, brought up to date: a server's is verified when libssl has ended the handshake,
 * whoever asks first. */
static struct mtls_session *settled(const SSL *ssl)
{
    struct mtls_session *s = mtls_session_find(ssl);

    if (s != NULL)
        mtls_session_settle(s);
    return s;
}

static bool late_failed(const SSL *ssl)
{
    struct mtls_session *s = mtls_session_find(ssl);
    bool failed = false;

    if (s != NULL && s->outcome == MTLS_OUTCOME_PLAIN) {
        mtls_engine_lock();
        failed = mtls_late_failed(s);
        mtls_engine_unlock();
    }
    return failed;
}

enum mtls_outcome mtls_get_outcome(const SSL *ssl)
{
    const struct mtls_session *s = settled(ssl);

    if (s == NULL)
        return MTLS_OUTCOME_NONE;
    return late_failed(ssl) ? MTLS_OUTCOME_FAILED : s->outcome;
}

int mtls_get_reason(const SSL *ssl)
{
    const struct mtls_session *s = settled(ssl);

    if (s == NULL)
        return 0;
    return late_failed(ssl) ? MTLS_ERR_DOWNGRADE_LATE : s->reason;
}

unsigned mtls_get_scope(const SSL *ssl)
{
    const struct mtls_session *s = settled(ssl);

    return s != NULL && s->outcome == MTLS_OUTCOME_VERIFIED ? s->scope : 0;
}

unsigned mtls_get_confirmed(const SSL *ssl)
{
    const struct mtls_session *s = settled(ssl);

    return s != NULL && s->outcome == MTLS_OUTCOME_VERIFIED ? s->confirmed_paths : 0;
}

int mtls_get_memory_error(const SSL *ssl)
{
    const struct mtls_session *s = settled(ssl);

    return s != NULL ? s->memory_error : 0;
}

int mtls_get_path(const SSL *ssl, size_t index, struct mtls_path_info *info)
{
    struct mtls_session *s = settled(ssl);

    return s != NULL && info != NULL ? mtls_report_path(mtls_report_of(s), index, info) : 0;
}

uint64_t mtls_get_time_us(const SSL *ssl, enum mtls_step step)
{
    const struct mtls_session *s = settled(ssl);

    return s != NULL && (int)step >= 0 && step < MTLS_STEP_COUNT ? s->times[step] : 0;
}

char *mtls_report_json(const SSL *ssl)
{
    static const char none[] =
        "{\"outcome\": \"none\", \"reason\": \"\", \"message\": \"\", \"scope\": \"\", "
        "\"paths\": [], \"times_us\": {}}";
    struct mtls_session *s = settled(ssl);

    if (s == NULL)
        return OPENSSL_strdup(none);
    return mtls_report_text(s, mtls_get_outcome(ssl), mtls_get_reason(ssl));
}

static struct mtls_session *get_or_raise(SSL *ssl)
{
    struct mtls_session *s = ssl != NULL ? mtls_session_get(ssl) : NULL;

    if (s == NULL)
        mtls_raise(ssl == NULL ? MTLS_ERR_ARG : MTLS_ERR_NOT_HOOKED, NULL);
    /* After SSL_clear() the application speaks of the next handshake. */
    if (s != NULL && s->phase != MTLS_PHASE_START && SSL_in_before(ssl) == 1 &&
        mtls_session_reset(s) != 0) {
        mtls_raise(MTLS_ERR_NOMEM, NULL);
        return NULL;
    }
    return s;
}

int mtls_set_fd(SSL *ssl, int fd)
{
    struct mtls_session *s = get_or_raise(ssl);

    if (s == NULL)
        return 0;
    s->given_fd = fd >= 0 ? fd : -1;
    return 1;
}

static int pin(int fd, int err, const struct mtls_path_facts *facts)
{
    const char *dev = facts->dev;

    if (err == 0 && dev[0] == '\0')
        err = MTLS_ERR_PATH_UNKNOWN;
    if (err == 0 && !facts->loopback &&
        setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, dev, (socklen_t)strlen(dev) + 1) != 0)
        err = MTLS_ERR_PATH_BIND;
    if (err != 0)
        mtls_raise(err, NULL);
    return err == 0;
}

int mtls_pin_socket(int fd)
{
    struct mtls_path_facts facts;
    int err = mtls_route_of_socket(fd, &facts);

    return pin(fd, err, &facts);
}

int mtls_pin_socket_to(int fd, const struct sockaddr *to, socklen_t len)
{
    struct mtls_path_facts facts = {0};
    struct mtls_addr remote;
    int err = MTLS_ERR_PATH_UNKNOWN;

    if (to != NULL && mtls_addr_from_sockaddr(&remote, to, len) == 0)
        err = mtls_route_to(&remote, &facts);
    return pin(fd, err, &facts);
}

int mtls_set_name(SSL *ssl, const char *name)
{
    struct mtls_session *s = get_or_raise(ssl);
    struct mtls_host host;
    char *given;

    if (s == NULL)
        return 0;
    if (name == NULL || mtls_host_parse(&host, name) != 0 || host.addr.port != 0) {
        mtls_raise(MTLS_ERR_ARG, "name");
        return 0;
    }
    if (s->hs == NULL) /* decided: too late to matter */
        return 1;
    given = OPENSSL_strdup(host.name);
    if (given == NULL) {
        mtls_raise(MTLS_ERR_NOMEM, NULL);
        return 0;
    }
    OPENSSL_free(s->hs->given_name);
    s->hs->given_name = given;
    return 1;
}

int mtls_name_checked(SSL *ssl)
{
    struct mtls_session *s = get_or_raise(ssl);

    if (s == NULL)
        return 0;
    s->name_checked = true;
    mtls_remember_checked(s);
    return 1;
}

int mtls_forget_host(const char *file, const char *host, uint16_t port)
{
    char name[MTLS_HOST_MAX + 1];
    int rc = MTLS_ERR_ARG;

    if (file != NULL && host != NULL && port != 0 && mtls_name_canonical(host, name) == 0)
        rc = mtls_hostfile_forget(file, name, port);
    if (rc < 0)
        mtls_raise(rc, NULL);
    return rc >= 0;
}
