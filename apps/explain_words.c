/* What an evidence bundle shows, in words: what happened, which rule stopped it, who could have
 * done it, and what it does not prove. The one claim that can be checked, that the server's
 * certificate signed this handshake, is checked. */
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "explain.h"

enum { CLIENT_HELLO = 1, CERTIFICATE = 11, CERTIFICATE_VERIFY = 15 };

/* ---- what the server showed on path 1 ---- */

static const struct bundle_message *find(const struct bundle *b, unsigned type)
{
    for (size_t i = 0; i < b->nmsg; i++)
        if (b->msgs[i].type == type && b->msgs[i].from_server && b->msgs[i].data != NULL)
            return &b->msgs[i];
    return NULL;
}

static size_t big_endian(const uint8_t *p, size_t n)
{
    size_t v = 0;

    for (size_t i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

/* The leaf of a Certificate message. */
static X509 *leaf_of(const struct bundle_message *m)
{
    const uint8_t *p;
    size_t len;

    if (m == NULL || m->len < 4 + 1 + 3 + 3 || m->data[4] != 0)
        return NULL;
    p = m->data + 8;
    len = big_endian(p, 3);
    p += 3;
    return len <= m->len - 11 ? d2i_X509(NULL, &p, (long)len) : NULL;
}

/* The hash of ClientHello .. Certificate; false: a message is missing, or unusual. */
static bool hash_before_verify(const struct bundle *b, const EVP_MD *md, uint8_t *out,
                               unsigned *len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL && EVP_DigestInit_ex(ctx, md, NULL) == 1;
    unsigned hellos = 0;

    for (size_t i = 0; ok && i < b->nmsg && b->msgs[i].type != CERTIFICATE_VERIFY; i++) {
        const struct bundle_message *m = &b->msgs[i];

        hellos += m->type == CLIENT_HELLO;
        ok = m->data != NULL && hellos == 1 && EVP_DigestUpdate(ctx, m->data, m->len) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(ctx, out, len) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

/* RFC 8446 section 4.2.3 */
static const struct scheme {
    unsigned id;
    const char *digest;
    bool pss;
} schemes[] = {
    {0x0403, "SHA256", false}, {0x0503, "SHA384", false}, {0x0603, "SHA512", false},
    {0x0804, "SHA256", true},  {0x0805, "SHA384", true},  {0x0806, "SHA512", true},
    {0x0809, "SHA256", true},  {0x080a, "SHA384", true},  {0x080b, "SHA512", true},
    {0x0807, NULL, false},     {0x0808, NULL, false},
};

static bool verify(const struct scheme *scheme, EVP_PKEY *key, const struct bundle_message *m,
                   const uint8_t *signed_data, size_t len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL;
    size_t siglen = big_endian(m->data + 6, 2);
    bool ok = ctx != NULL && siglen == m->len - 8 &&
              EVP_DigestVerifyInit_ex(ctx, &pctx, scheme->digest, NULL, NULL, key, NULL) == 1;

    if (ok && scheme->pss)
        ok = EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) == 1;
    ok = ok && EVP_DigestVerify(ctx, m->data + 8, siglen, signed_data, len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

enum signature { SIGNED, NOT_SIGNED, NOT_KNOWN };

/* Did the leaf's key sign this handshake? */
static enum signature signature_of(const struct bundle *b, X509 *leaf)
{
    static const char context[] = "TLS 1.3, server CertificateVerify";
    const struct bundle_message *m = find(b, CERTIFICATE_VERIFY);
    uint8_t text[64 + sizeof context + EVP_MAX_MD_SIZE];
    const EVP_MD *md =
        strstr(bundle_value(b, "tls"), "SHA384") != NULL ? EVP_sha384() : EVP_sha256();
    unsigned hlen = 0;

    memset(text, ' ', 64);
    memcpy(text + 64, context, sizeof context);
    if (m == NULL || m->len < 8 || !hash_before_verify(b, md, text + 64 + sizeof context, &hlen))
        return NOT_KNOWN;
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (schemes[i].id == big_endian(m->data + 4, 2))
            return verify(&schemes[i], X509_get0_pubkey(leaf), m, text, 64 + sizeof context + hlen)
                       ? SIGNED
                       : NOT_SIGNED;
    return NOT_KNOWN;
}

/* ---- words ---- */

static void show_name(FILE *out, const char *label, const X509_NAME *name)
{
    char text[256];

    X509_NAME_oneline(name, text, sizeof text);
    fprintf(out, "  %s %s\n", label, text);
}

static void show_certificate(FILE *out, const struct bundle *b)
{
    static const char *const words[] = {
        ("  Its key signed this very handshake: checked now. Whoever is shown this file can check "
         "it too."),
        "  Its signature does NOT fit this handshake: the file was changed, or is damaged.",
        "  Whether its key signed this handshake cannot be told from what was kept."};
    X509 *leaf = leaf_of(find(b, CERTIFICATE));
    uint8_t print[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (leaf == NULL) {
        ERR_clear_error();
        fprintf(out, "  No certificate was seen%s.\n",
                bundle_is(b, "role", "server")
                    ? ": this is the server's bundle, it has its own"
                    : " before the session ended, or it was a resumption");
        X509_free(leaf);
        return;
    }
    show_name(out, "Certificate for:", X509_get_subject_name(leaf));
    show_name(out, "Issued by:      ", X509_get_issuer_name(leaf));
    if (X509_digest(leaf, EVP_sha256(), print, &len) == 1) {
        fprintf(out, "  SHA-256:         ");
        for (unsigned i = 0; i < len; i++)
            fprintf(out, "%02x", print[i]);
        fprintf(out, "\n");
    }
    if (bundle_is(b, "role", "client"))
        fprintf(out, "%s\n", words[signature_of(b, leaf)]);
    X509_free(leaf);
}

static const struct verdict {
    const char *reason, *what, *rules, *who;
} verdicts[] = {
    {"proof-wrong",
     "The server of path 2 took part in another TLS handshake than the one that this client saw on "
     "path 1.",
     "[PRF-5], [TAG-3]",
     "Somebody between this client and the server on path 1, who ended TLS there with the "
     "certificate shown\n"
     "below. Or somebody on path 2 who changed the proof: that can only make sessions fail. "
     "Compare the\n"
     "certificate with the server's own over a third way; if it is another one, it was path 1."},
    {"downgrade",
     "The server says on path 2 that it speaks Multipath TLS, and whoever answered on path 1 did "
     "not.",
     "[DWN-1]",
     "Somebody on path 1 who ended TLS there and left the extension out. Or the path-2 port "
     "belongs to a\n"
     "server whose TLS port is not hooked (roll-out not finished), or somebody forged READY on "
     "path 2."},
    {"downgrade-late",
     "Path 2 answered only after the connection had gone on without verification. Data was exposed "
     "to\n"
     "whoever is on path 1.",
     "[DWN-6]",
     "As with an early downgrade: somebody on path 1; here path 2 was slow, or held back."},
    {"remembered", "This host was verified before, and now offers nothing.", "[MEM-1]",
     "Somebody on path 1 who leaves the extension out; or the server no longer speaks Multipath "
     "TLS\n"
     "(mtls-client forget)."},
    {"not-offered", "Whoever answered on path 1 does not speak Multipath TLS.", "[POL-2]",
     "A server without it; or somebody on path 1 who left the extension out."},
    {"proof-missing", "Path 2 was there, and no proof came over it.", "[PRF-5], [TIM-1]",
     "Path 2 led to another node of a server farm than path 1; or path 1's peer is not the server; "
     "or\n"
     "somebody on path 2 dropped the proof."},
    {"deadline", "The handshake was not decided in time.", "[CLI-3], [TIM-1]",
     "A slow or cut network; or somebody who holds back one of the paths."},
    {"proof-too-few", "Fewer distinct paths confirmed than were asked for.", "[MUL-3], [PATH-9]",
     "A path that is down, or not distinct from another; or somebody on one of them."},
    {"paths-not-distinct", "Path 2 left by the same network as path 1 when it was judged.",
     "[PATH-9]",
     "The configuration; or a network that pushed a route so that both paths go through it."},
    {"path2-inadmissible",
     "The address for path 2 came from a source that path 1 could have chosen.", "[PATH-1]",
     "Nobody: the configuration gives path 2 no address of its own."},
    {"confirm-missing", "The client's confirmation did not come: nothing of its request was read.",
     "[SRV-2]",
     "The client refused (its own bundle says why), lost path 2, or somebody on path 2 dropped "
     "CONFIRM. A man\n"
     "in the middle of path 1 looks like this from the server, for the client never confirms."},
    {"confirm-wrong", "A confirmation came that was not made for this handshake.", "[CNF-5]",
     "Somebody on path 2; or a man in the middle of path 1."},
    {"path2-refused", "Path 2 was refused.", "[DWN-4], [POL-2]",
     "The server has no listener there, a firewall, or somebody on path 2."},
    {"path2-foreign", "Something that is not the server answered on path 2.", "[P2-4], [RDY-6]",
     "A captive portal, another service on that port, or somebody on path 2."},
    {"ext-changed", "The extension differs between the two ClientHellos.", "[EXT-3]",
     "Somebody on path 1."},
    {"tls-version", "TLS below 1.3 was spoken.", "[DWN-8]",
     "An old server; or somebody on path 1 who spoke TLS for it."},
};

static void show_verdict(FILE *out, const struct bundle *b)
{
    for (size_t i = 0; i < sizeof verdicts / sizeof verdicts[0]; i++)
        if (bundle_is(b, "reason", verdicts[i].reason)) {
            fprintf(
                out,
                "What happened\n%s\nRule of doc/protocol.md: %s\n\nWho could have done it\n%s\n\n",
                verdicts[i].what, verdicts[i].rules, verdicts[i].who);
            return;
        }
    if (bundle_is(b, "outcome", "failed"))
        fprintf(out,
                "What happened\nThe session failed: %s. It is no sign of an interception by "
                "itself.\n\n",
                bundle_value(b, "reason"));
    else
        fprintf(out, "What happened\nNothing: the outcome was %s.\n\n", bundle_value(b, "outcome"));
}

static void show_paths(FILE *out, const struct bundle *b)
{
    for (size_t i = 0; i < b->nlines; i++) {
        char number[8], local[64], remote[64], device[64], state[24], error[48];

        if (sscanf(b->lines[i], "path %7s %63s %63s %63s %23s %47s", number, local, remote, device,
                   state, error) == 6) {
            fprintf(out, "Path %s\n  %s -> %s", number, local, remote);
            if (strcmp(device, "-") != 0)
                fprintf(out, " by %s", device);
            fprintf(out, "%s%s%s%s\n", strcmp(state, "-") != 0 ? ": " : "",
                    strcmp(state, "-") != 0 ? state : "", strcmp(error, "-") != 0 ? ", " : "",
                    strcmp(error, "-") != 0 ? error : "");
            if (strcmp(number, "1") == 0)
                show_certificate(out, b);
        }
    }
}

static void show_frames(FILE *out, const struct bundle *b)
{
    for (size_t i = 0; i < b->nlines; i++) {
        char ready[12], at[3][24], verdict[12];
        unsigned path, slot, more;

        if (sscanf(b->lines[i], "claim %u %11s %23s %23s %23s", &path, ready, at[0], at[1],
                   at[2]) == 5)
            fprintf(out,
                    "  claim on path %u: HELLO at %s, READY at %s, PROOF at %s (us after the "
                    "ClientHello)\n",
                    path + 2, at[0], at[1], at[2]);
        if (sscanf(b->lines[i], "proof %u %u %u %11s", &path, &slot, &more, verdict) == 4)
            fprintf(out, "  proof on path %u: %s\n", path + 2, verdict);
    }
}

/* The other end's bundle of the same attempt says whether there were two handshakes. */
void bundle_compare(FILE *out, const struct bundle *a, const struct bundle *b)
{
    const char *what = bundle_is(a, "mode", "smkex") ? "SMKEX" : "TLS";
    bool known = !bundle_is(a, "transcript-hash", "-") && !bundle_is(b, "transcript-hash", "-");

    fprintf(out, "\nCompared with %s\n", b->name);
    if (!bundle_is(a, "join", bundle_value(b, "join")) ||
        bundle_is(a, "role", bundle_value(b, "role")))
        fprintf(out, "It is not the other end of the same attempt: nothing follows.\n");
    else if (!known)
        fprintf(
            out,
            "The other end of the same attempt; one of them had no whole handshake to compare.\n");
    else if (bundle_is(a, "transcript-hash", bundle_value(b, "transcript-hash")))
        fprintf(out,
                "The other end of the same attempt, and the same handshake: nobody ended %s "
                "between them.\n",
                what);
    else
        fprintf(out,
                "The other end of the same attempt, and ANOTHER handshake: somebody between them "
                "ended %s.\n"
                "If both files are genuine, path 1 was intercepted.\n",
                what);
}

void bundle_explain(FILE *out, const struct bundle *b)
{
    fprintf(out, "%s, %s's bundle, written %s by mtls %s with %s\n\n", bundle_value(b, "name"),
            bundle_value(b, "role"), bundle_value(b, "written-at"), bundle_value(b, "library"),
            bundle_value(b, "openssl"));
    if (bundle_is(b, "mode", "resume")) {
        bundle_explain_resume(out, b);
        return;
    }
    if (bundle_is(b, "mode", "smkex")) {
        bundle_explain_smkex(out, b);
        return;
    }
    show_verdict(out, b);
    show_paths(out, b);
    show_frames(out, b);
    fprintf(
        out,
        "\nWhat it does not prove\n"
        "Who it was: only which path. Nothing in a bundle is signed but the handshake by the "
        "certificate's\n"
        "key; proofs convince nobody who does not hold the session's keys, and these are not in "
        "the file.\n");
    if (!bundle_is(b, "outcome", "failed"))
        return;
    fprintf(out,
            "That the session failed says that nothing was sent under keys of an attacker, except "
            "where it\n"
            "says that data was exposed.\n");
}
