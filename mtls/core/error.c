/* Concept: names and texts of the error codes, from the one list in mtls/error.h. Owns nothing. */
#include <stddef.h>

#include "mtls/error.h"

static const struct {
    int code;
    const char *name, *text;
} errors[] = {
#define ROW(sym, code, name, text) {code, name, text},
    MTLS_ERROR_LIST(ROW)
#undef ROW
        {MTLS_OK, "ok", "no error"},
};

const char *mtls_error_name(int code)
{
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (errors[i].code == code)
            return errors[i].name;
    return "unknown";
}

const char *mtls_error_string(int code)
{
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (errors[i].code == code)
            return errors[i].text;
    return "unknown error";
}
