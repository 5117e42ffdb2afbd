/* Fuzz target: the configuration. Layers are separated by zero bytes. What is accepted can be
 * written and read again and is then the same; a refused layer changes nothing; so for single hosts
 * and names. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mtls/core/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void check_round_trip(const struct mtls_config *c)
{
    static char once[2 * MTLS_CONFIG_TEXT_MAX], twice[2 * MTLS_CONFIG_TEXT_MAX];
    struct mtls_config again;
    const int n = mtls_config_format(c, once, sizeof(once));

    check(n >= 0 && strlen(once) == (size_t)n);
    if (n > MTLS_CONFIG_TEXT_MAX) /* several layers may say more than fits in one */
        return;
    mtls_config_init(&again);
    check(mtls_config_apply(&again, once, NULL, 0) == 0);
    check(mtls_config_format(&again, twice, sizeof(twice)) == n);
    check(strcmp(once, twice) == 0);
    check(memcmp(again.listen, c->listen, sizeof(c->listen[0]) * c->nlisten) == 0);
}

static void check_host(const char *text)
{
    char name[MTLS_HOST_MAX + 1], again[MTLS_HOST_MAX + 1], addr[56];
    struct mtls_host h, h2;

    if (mtls_name_canonical(text, name) == 0) {
        check(name[0] != '\0' && mtls_name_canonical(name, again) == 0);
        check(strcmp(name, again) == 0);
    }
    if (mtls_host_parse(&h, text) != 0)
        return;
    check(mtls_name_canonical(h.name, again) == 0 && strcmp(h.name, again) == 0);
    if (h.addr.family == 0)
        return;
    check(mtls_addr_format(&h.addr, addr, sizeof(addr)) < (int)sizeof(addr));
    check(mtls_host_parse(&h2, addr) == 0 && memcmp(&h.addr, &h2.addr, sizeof(h.addr)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mtls_config c, before;
    char *text = malloc(size + 1), msg[80];

    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    mtls_config_init(&c);
    for (size_t at = 0; at <= size; at += strlen(text + at) + 1) {
        before = c;
        memset(msg, 'G', sizeof(msg));
        if (mtls_config_apply(&c, text + at, msg, sizeof(msg)) != 0)
            check(memcmp(&c, &before, sizeof(c)) == 0 && strnlen(msg, sizeof(msg)) < sizeof(msg));
        check_round_trip(&c);
    }
    (void)!mtls_config_finish(&c, msg, sizeof(msg));
    check_round_trip(&c);
    check_host(text);
    free(text);
    return 0;
}
