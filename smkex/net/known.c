/* Concept: trust on first use: the server's long-term key against the memory [TOF]. */
#include "internal.h"

#include <string.h>

#include <openssl/crypto.h>

#include "mtls/net/hostfile.h"

enum { REFRESH_S = 3600 };

static const char *memory(const struct smkex *s)
{
    return s->ctx->config.hosts[0] != '\0' && s->name[0] != '\0' ? s->ctx->config.hosts : NULL;
}

/* A memory that cannot be read is never an empty one [MEM-5]. */
int smkex_known_look(struct smkex *s)
{
    int rc = memory(s) != NULL
                 ? mtls_hostfile_get(memory(s), s->name, s->port, mtls_wallclock(), &s->record)
                 : 0;

    s->remembered = rc == 1;
    return rc < 0 ? rc : 0;
}

int smkex_known_check(struct smkex *s, bool verified)
{
    uint32_t max_age;
    const uint8_t *key = smkex_machine_server_key(s->m, &max_age);
    bool known = s->remembered && s->record.has_key;

    if (!known) {
        s->key = key != NULL ? SMKEX_KEY_NEW : SMKEX_KEY_NONE;
        return 0;
    }
    if (key != NULL && CRYPTO_memcmp(key, s->record.key, SMKEX_KEY_LEN) == 0) {
        s->key = SMKEX_KEY_KNOWN;
        return 0;
    }
    s->key = SMKEX_KEY_CHANGED; /* [TOF-4] */
    if (verified && s->ctx->words.vouch)
        return 0;
    return key != NULL ? MTLS_ERR_SMKEX_KEY_CHANGED : MTLS_ERR_SMKEX_KEY_MISSING;
}

/* [TOF-3] A memory that cannot be written does not undo the verification. */
void smkex_known_store(struct smkex *s)
{
    struct mtls_host_record record = {.k = 1};
    int64_t now_at = mtls_wallclock();
    uint32_t max_age;
    const uint8_t *key = smkex_machine_server_key(s->m, &max_age);
    int rc;

    if (memory(s) == NULL || (s->outcome == SMKEX_OUTCOME_SINGLE && key == NULL))
        return;
    if (max_age == 0) {
        rc = mtls_hostfile_forget(memory(s), s->name, s->port);
        s->memory_error = rc < 0 ? rc : 0;
        return;
    }
    /* As it stands there already: once an hour is enough. */
    if (s->remembered && s->record.has_key == (key != NULL) && s->key != SMKEX_KEY_CHANGED &&
        now_at - s->record.verified_at < REFRESH_S)
        return;
    record.verified_at = now_at;
    record.expires_at = now_at + max_age;
    if (s->outcome == SMKEX_OUTCOME_VERIFIED) {
        record.k = (uint8_t)s->confirmed_paths;
        record.scope = (uint8_t)s->scope;
    }
    record.has_key = key != NULL;
    if (key != NULL)
        memcpy(record.key, key, sizeof(record.key));
    s->memory_error = mtls_hostfile_put(memory(s), s->name, s->port, &record, now_at);
}
