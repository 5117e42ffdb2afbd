/* Concept: our reasons on OpenSSL's error queue. The library number is OpenSSL's to give; ask
 * mtls_last_error(). */
#include <pthread.h>

#include <openssl/err.h>

#include "glue.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int lib;

static ERR_STRING_DATA reasons[] = {
#define REASON(sym, code, name, text) {ERR_PACK(0, 0, -(code)), text},
    MTLS_ERROR_LIST(REASON)
#undef REASON
        {0, NULL}};
static ERR_STRING_DATA lib_name[] = {{0, "Multipath TLS"}, {0, NULL}};

static void load(void)
{
    lib = ERR_get_next_error_library();
    lib_name[0].error = ERR_PACK(lib, 0, 0);
    ERR_load_strings(lib, lib_name);
    ERR_load_strings(lib, reasons);
}

void mtls_raise(int code, const char *detail)
{
    pthread_once(&once, load);
    if (detail != NULL && detail[0] != '\0')
        ERR_raise_data(lib, -code, "%s", detail);
    else
        ERR_raise(lib, -code);
}

int mtls_last_error(void)
{
    unsigned long first = ERR_peek_error(), last = ERR_peek_last_error();

    pthread_once(&once, load);
    if (first != 0 && ERR_GET_LIB(first) == lib)
        return -ERR_GET_REASON(first);
    if (last != 0 && ERR_GET_LIB(last) == lib)
        return -ERR_GET_REASON(last);
    return 0;
}
