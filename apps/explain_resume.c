/* What the bundle of a confirmation by resumption shows, see explain.h. */
#include "explain.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

enum { CERTIFICATE_BYTES = 1 << 15 };

/* "certificate CONNECTION NUMBER HEX": the own one of who answered there. */
static X509 *certificate_of(const struct bundle *b, const char *connection)
{
    char key[64];
    const char *hex;
    const unsigned char *p;
    unsigned char *der;
    long len = 0;
    X509 *cert;

    snprintf(key, sizeof key, "certificate %s 0", connection);
    hex = bundle_value(b, key);
    der = strlen(hex) <= 2 * CERTIFICATE_BYTES ? OPENSSL_hexstr2buf(hex, &len) : NULL;
    p = der;
    cert = der != NULL ? d2i_X509(NULL, &p, len) : NULL;
    OPENSSL_free(der);
    ERR_clear_error();
    return cert;
}

static void show_name(FILE *out, const char *label, const X509_NAME *name)
{
    char text[256];

    X509_NAME_oneline(name, text, sizeof text);
    fprintf(out, "  %s %s\n", label, text);
}

static void show_hash(FILE *out, const char *label, const unsigned char *hash, unsigned len)
{
    fprintf(out, "  %s ", label);
    for (unsigned i = 0; i < len; i++)
        fprintf(out, "%02x", (unsigned)hash[i]);
    fprintf(out, "\n");
}

static void show_certificate(FILE *out, const struct bundle *b, const char *connection)
{
    X509 *cert = certificate_of(b, connection);
    unsigned char print[EVP_MAX_MD_SIZE], *der = NULL;
    unsigned len = 0;
    int der_len;

    if (cert == NULL) {
        fprintf(out, "  No certificate was seen (a resumption shows none).\n");
        return;
    }
    show_name(out, "Certificate for:", X509_get_subject_name(cert));
    show_name(out, "Issued by:      ", X509_get_issuer_name(cert));
    if (X509_digest(cert, EVP_sha256(), print, &len) == 1)
        show_hash(out, "SHA-256:        ", print, len);
    der_len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    if (der_len > 0 && EVP_Digest(der, (size_t)der_len, print, &len, EVP_sha256(), NULL) == 1)
        show_hash(out, "Its public key: ", print, len);
    OPENSSL_free(der);
    X509_free(cert);
}

static void show_path(FILE *out, const struct bundle *b, const char *number)
{
    char key[16], local[64], remote[64], device[64], state[24], error[48];

    snprintf(key, sizeof key, "path %s", number);
    if (sscanf(bundle_value(b, key), "%63s %63s %63s %23s %47s", local, remote, device, state,
               error) != 5)
        return;
    fprintf(out, "Path %s\n  %s -> %s by %s%s%s%s%s\n", number, local, remote, device,
            strcmp(state, "-") != 0 ? ": " : "", strcmp(state, "-") != 0 ? state : "",
            strcmp(error, "-") != 0 ? ", " : "", strcmp(error, "-") != 0 ? error : "");
    show_certificate(out, b, number);
}

static void show_try(FILE *out, const struct bundle *b, const char *connection)
{
    char key[32], end[24], ticket[16], resumed[16], alert[16];

    snprintf(key, sizeof key, "try %s", connection);
    if (sscanf(bundle_value(b, key), "%23s %15s %15s %15s", end, ticket, resumed, alert) == 4)
        fprintf(out, "  Handshake: %s, %s, %s%s%s\n", end, ticket, resumed,
                strcmp(alert, "-") != 0 ? ", " : "", strcmp(alert, "-") != 0 ? alert : "");
}

void bundle_explain_resume(FILE *out, const struct bundle *b)
{
    fprintf(out,
            "What happened\nVerdict: %s (%s)\n%s.\nRules of doc/protocol.md: [RSM-8] to "
            "[RSM-12]\n\n",
            bundle_value(b, "verdict"), bundle_value(b, "reason"), bundle_value(b, "meaning"));
    show_path(out, b, "1");
    show_path(out, b, "2");
    show_try(out, b, "2");
    if (strcmp(bundle_value(b, "try 2-without-ticket"), "-") != 0) {
        fprintf(out, "Path 2 once more, without the ticket\n");
        show_certificate(out, b, "2-without-ticket");
        show_try(out, b, "2-without-ticket");
    }
    fprintf(out,
            "\nWhat to do\nCompare both public keys with the server's own over a third way. If "
            "path 1's is another one,\n"
            "path 1 was intercepted; if path 2's is, path 2 was, and nothing was lost.\n"
            "\nWhat it does not prove\n"
            "Who it was: only which path. Nothing in this file is signed: whoever is shown it has "
            "to believe you.\n");
}
