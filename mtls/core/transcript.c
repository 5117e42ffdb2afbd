/* Concept: the handshake's transcript hash and the facts read on the way (transcript.h): a small
 * order of messages, a bounds-checked reader of ServerHello, and one running hash. [KEY-1] */
#include "transcript.h"

#include <string.h>

#include <openssl/crypto.h>

/* RFC 8446 section 4, and RFC 8879 */
enum {
    CLIENT_HELLO = 1,
    SERVER_HELLO = 2,
    ENCRYPTED_EXTENSIONS = 8,
    CERTIFICATE = 11,
    CERTIFICATE_REQUEST = 13,
    CERTIFICATE_VERIFY = 15,
    FINISHED = 20,
    COMPRESSED_CERTIFICATE = 25,
    MESSAGE_HASH = 254,
};

enum { MESSAGE_HEADER_LEN = 4, RANDOM_LEN = 32, SESSION_ID_MAX = 32 };

enum { KEPT_ROOM = 512 /* behind the ClientHello: a whole flight without certificate */ };

enum { EXT_PRE_SHARED_KEY = 41, EXT_SUPPORTED_VERSIONS = 43, EXT_KEY_SHARE = 51 };

/* What comes next. */
enum state {
    WANT_CLIENT_HELLO,
    WANT_SERVER_HELLO,        /* or HelloRetryRequest */
    WANT_SECOND_CLIENT_HELLO, /* after HelloRetryRequest */
    WANT_LAST_SERVER_HELLO,
    WANT_ENCRYPTED_EXTENSIONS,
    WANT_FINISHED, /* or what may come before it */
    COMPLETE,
};

struct mtls_transcript {
    struct mtls_crypto *crypto;
    enum state state;
    int err;
    uint8_t *kept; /* the messages from the first ClientHello on, until the hash runs */
    size_t kept_len, kept_size;
    EVP_MD_CTX *hash; /* runs from the message that kept has no room for, or from
                         HelloRetryRequest, else only once somebody asks */
    size_t hlen;
    bool hashed; /* th is there */
    uint8_t th[MTLS_HASH_MAX];
    struct mtls_transcript_facts facts;
};

int mtls_transcript_new(struct mtls_transcript **out, struct mtls_crypto *c)
{
    struct mtls_transcript *t = OPENSSL_zalloc(sizeof *t);

    *out = t;
    if (t == NULL)
        return MTLS_ERR_NOMEM;
    t->crypto = c;
    return 0;
}

void mtls_transcript_reset(struct mtls_transcript *t)
{
    struct mtls_crypto *crypto = t->crypto;

    OPENSSL_free(t->kept);
    EVP_MD_CTX_free(t->hash);
    OPENSSL_cleanse(t, sizeof *t);
    t->crypto = crypto;
}

void mtls_transcript_free(struct mtls_transcript *t)
{
    if (t == NULL)
        return;
    mtls_transcript_reset(t);
    OPENSSL_free(t);
}

/* ---- ServerHello --------------------------------------------------------------------------- */

/* What is left of a message. */
struct reader {
    const uint8_t *p;
    size_t left;
};

/* The next n bytes, or NULL. */
static const uint8_t *take(struct reader *r, size_t n)
{
    const uint8_t *p = r->p;

    if (r->left < n)
        return NULL;
    r->p += n;
    r->left -= n;
    return p;
}

static bool take16(struct reader *r, uint16_t *v)
{
    const uint8_t *p = take(r, 2);

    if (p == NULL)
        return false;
    *v = (uint16_t)(p[0] << 8 | p[1]);
    return true;
}

struct server_hello {
    bool retry, psk, key_share, versions;
    uint16_t suite, version; /* version: of supported_versions */
};

/* SHA-256("HelloRetryRequest"), RFC 8446 section 4.1.3 */
static const uint8_t retry_random[RANDOM_LEN] = {
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
    0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C};

bool mtls_random_is_retry(const uint8_t random[32])
{
    return memcmp(random, retry_random, RANDOM_LEN) == 0;
}

static bool set_once(bool *flag)
{
    bool first = !*flag;

    *flag = true;
    return first;
}

/* Reads one extension; false if it is malformed or repeated. */
static bool read_extension(struct reader *r, struct server_hello *sh)
{
    uint16_t type, len;
    struct reader body;

    if (!take16(r, &type) || !take16(r, &len))
        return false;
    body = (struct reader){take(r, len), len};
    if (body.p == NULL)
        return false;
    switch (type) {
    case EXT_SUPPORTED_VERSIONS:
        return set_once(&sh->versions) && take16(&body, &sh->version) && body.left == 0;
    case EXT_KEY_SHARE:
        return set_once(&sh->key_share);
    case EXT_PRE_SHARED_KEY:
        return set_once(&sh->psk);
    default:
        return true;
    }
}

static bool server_hello_parse(const uint8_t *body, size_t len, struct server_hello *sh)
{
    struct reader r = {body, len};
    const uint8_t *random, *id_len;
    uint16_t legacy_version, ext_len;

    memset(sh, 0, sizeof *sh);
    if (!take16(&r, &legacy_version) || (random = take(&r, RANDOM_LEN)) == NULL ||
        (id_len = take(&r, 1)) == NULL || *id_len > SESSION_ID_MAX || take(&r, *id_len) == NULL ||
        !take16(&r, &sh->suite) || take(&r, 1) == NULL)
        return false;
    sh->retry = mtls_random_is_retry(random);
    if (r.left == 0)
        return true; /* TLS 1.2 and before may have no extensions at all */
    if (!take16(&r, &ext_len) || ext_len != r.left)
        return false;
    while (r.left > 0)
        if (!read_extension(&r, sh))
            return false;
    return true;
}

/* ---- The hash ------------------------------------------------------------------------------ */

static size_t suite_hash_len(uint16_t suite)
{
    switch (suite) {
    case 0x1301: /* TLS_AES_128_GCM_SHA256 */
    case 0x1303: /* TLS_CHACHA20_POLY1305_SHA256 */
    case 0x1304: /* TLS_AES_128_CCM_SHA256 */
    case 0x1305: /* TLS_AES_128_CCM_8_SHA256 */
        return 32;
    case 0x1302: /* TLS_AES_256_GCM_SHA384 */
        return 48;
    default:
        return 0;
    }
}

static int hash_init(struct mtls_transcript *t)
{
    return EVP_DigestInit_ex2(t->hash, mtls_crypto_md(t->crypto, t->hlen), NULL) == 1
               ? 0
               : MTLS_ERR_CRYPTO;
}

/* Hashes what was kept and lets go of it. */
static int hash_start(struct mtls_transcript *t)
{
    int rc;

    t->hash = EVP_MD_CTX_new();
    if (t->hash == NULL)
        return MTLS_ERR_NOMEM;
    rc = hash_init(t);
    if (rc == 0 && EVP_DigestUpdate(t->hash, t->kept, t->kept_len) != 1)
        rc = MTLS_ERR_CRYPTO;
    OPENSSL_free(t->kept);
    t->kept = NULL;
    t->kept_len = t->kept_size = 0;
    return rc;
}

/* The suite is known. */
static int hash_add(struct mtls_transcript *t, const uint8_t *data, size_t len)
{
    int rc;

    if (t->hash == NULL && len <= t->kept_size - t->kept_len) {
        memcpy(t->kept + t->kept_len, data, len);
        t->kept_len += len;
        return 0;
    }
    rc = t->hash == NULL ? hash_start(t) : 0;
    if (rc == 0 && EVP_DigestUpdate(t->hash, data, len) != 1)
        rc = MTLS_ERR_CRYPTO;
    return rc;
}

/* Puts message_hash in the first ClientHello's place: RFC 8446 section 4.4.1. */
static int hash_fold(struct mtls_transcript *t)
{
    uint8_t message[MESSAGE_HEADER_LEN + MTLS_HASH_MAX] = {MESSAGE_HASH, 0, 0, (uint8_t)t->hlen};

    if (EVP_DigestFinal_ex(t->hash, message + MESSAGE_HEADER_LEN, NULL) != 1)
        return MTLS_ERR_CRYPTO;
    if (hash_init(t) != 0)
        return MTLS_ERR_CRYPTO;
    return hash_add(t, message, MESSAGE_HEADER_LEN + t->hlen);
}

static int hash_suite(struct mtls_transcript *t, uint16_t suite, bool retry)
{
    int rc;

    t->hlen = suite_hash_len(suite);
    if (t->hlen == 0)
        return MTLS_ERR_TRANSCRIPT_SUITE;
    if (!retry)
        return 0;
    rc = hash_start(t);
    return rc != 0 ? rc : hash_fold(t);
}

static int hash_finish(struct mtls_transcript *t)
{
    int rc = t->hash == NULL ? hash_start(t) : 0;

    if (rc == 0 && EVP_DigestFinal_ex(t->hash, t->th, NULL) != 1)
        rc = MTLS_ERR_CRYPTO;
    EVP_MD_CTX_free(t->hash);
    t->hash = NULL;
    t->hashed = rc == 0;
    return rc;
}

/* ---- The order of messages ----------------------------------------------------------------- */

static int add_client_hello(struct mtls_transcript *t, const uint8_t *msg, size_t len)
{
    if (len > MTLS_TRANSCRIPT_HELLO_MAX)
        return MTLS_ERR_LIMIT;
    if (t->state == WANT_SECOND_CLIENT_HELLO) {
        t->state = WANT_LAST_SERVER_HELLO;
        return hash_add(t, msg, len);
    }
    if (t->state != WANT_CLIENT_HELLO)
        return MTLS_ERR_TRANSCRIPT_ORDER;
    t->kept = OPENSSL_malloc(len + KEPT_ROOM);
    if (t->kept == NULL)
        return MTLS_ERR_NOMEM;
    memcpy(t->kept, msg, len);
    t->kept_len = len;
    t->kept_size = len + KEPT_ROOM;
    t->state = WANT_SERVER_HELLO;
    return 0;
}

static int add_server_hello(struct mtls_transcript *t, const uint8_t *msg, size_t len)
{
    bool last = t->state == WANT_LAST_SERVER_HELLO;
    struct server_hello sh;
    int rc = 0;

    if (!last && t->state != WANT_SERVER_HELLO)
        return MTLS_ERR_TRANSCRIPT_ORDER;
    if (!server_hello_parse(msg + MESSAGE_HEADER_LEN, len - MESSAGE_HEADER_LEN, &sh))
        return MTLS_ERR_TRANSCRIPT_ORDER;
    if (last && sh.retry)
        return MTLS_ERR_TRANSCRIPT_ORDER;
    if (last && sh.suite != t->facts.suite)
        return MTLS_ERR_TRANSCRIPT_SUITE;
    t->facts.suite = sh.suite;
    t->facts.tls13 = sh.versions && sh.version == 0x0304;
    if (sh.retry) {
        t->facts.hello_retry = true;
    } else {
        t->facts.server_hello = true;
        t->facts.key_share = sh.key_share;
        t->facts.psk = sh.psk;
    }
    if (!t->facts.tls13)
        return MTLS_ERR_TLS_VERSION;
    if (!last)
        rc = hash_suite(t, sh.suite, sh.retry);
    t->state = sh.retry ? WANT_SECOND_CLIENT_HELLO : WANT_ENCRYPTED_EXTENSIONS;
    return rc != 0 ? rc : hash_add(t, msg, len);
}

static int add_encrypted_extensions(struct mtls_transcript *t, const uint8_t *msg, size_t len)
{
    if (t->state != WANT_ENCRYPTED_EXTENSIONS)
        return MTLS_ERR_TRANSCRIPT_ORDER;
    t->facts.encrypted_extensions = true;
    t->state = WANT_FINISHED;
    return hash_add(t, msg, len);
}

/* The rest of the server's flight. libssl judges its order; we need its end. */
static int add_flight(struct mtls_transcript *t, const uint8_t *msg, size_t len)
{
    int rc;

    if (t->state != WANT_FINISHED)
        return MTLS_ERR_TRANSCRIPT_ORDER;
    rc = hash_add(t, msg, len);
    if (rc != 0)
        return rc;
    if (msg[0] == CERTIFICATE_REQUEST)
        t->facts.client_auth = true;
    if (msg[0] != FINISHED)
        return 0;
    t->state = COMPLETE;
    if (t->hash != NULL) /* else nobody may ever ask */
        rc = hash_finish(t);
    t->facts.complete = rc == 0;
    return rc;
}

static int add_message(struct mtls_transcript *t, bool from_server, const uint8_t *msg, size_t len)
{
    if (len < MESSAGE_HEADER_LEN ||
        len - MESSAGE_HEADER_LEN != ((size_t)msg[1] << 16 | (size_t)msg[2] << 8 | msg[3]))
        return MTLS_ERR_TRANSCRIPT_ORDER;
    if (!from_server)
        return msg[0] == CLIENT_HELLO ? add_client_hello(t, msg, len) : MTLS_ERR_TRANSCRIPT_ORDER;
    switch (msg[0]) {
    case SERVER_HELLO:
        return add_server_hello(t, msg, len);
    case ENCRYPTED_EXTENSIONS:
        return add_encrypted_extensions(t, msg, len);
    case CERTIFICATE:
    case CERTIFICATE_REQUEST:
    case CERTIFICATE_VERIFY:
    case COMPRESSED_CERTIFICATE:
    case FINISHED:
        return add_flight(t, msg, len);
    default:
        return MTLS_ERR_TRANSCRIPT_ORDER;
    }
}

int mtls_transcript_message(struct mtls_transcript *t, bool from_server, const uint8_t *msg,
                            size_t len)
{
    if (t->err == 0 && t->state != COMPLETE)
        t->err = add_message(t, from_server, msg, len);
    return t->err;
}

int mtls_transcript_get(struct mtls_transcript *t, uint8_t *th, size_t *hlen)
{
    if (t->err != 0 || t->state != COMPLETE)
        return MTLS_ERR_TRANSCRIPT;
    if (!t->hashed)
        t->err = hash_finish(t);
    if (t->err != 0)
        return t->err;
    memcpy(th, t->th, t->hlen);
    *hlen = t->hlen;
    return 0;
}

void mtls_transcript_facts(const struct mtls_transcript *t, struct mtls_transcript_facts *out)
{
    *out = t->facts;
}
