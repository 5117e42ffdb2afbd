/* The memory of verified hosts: table, text, known answer, damage, lack of memory. The room is
 * included, so that its allocations can be counted and refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static long allocations_left = -1; /* -1: without end */
static long allocations_made;

static bool allocation_allowed(void)
{
    allocations_made++;
    return allocations_left < 0 || allocations_left-- > 0;
}

static void *counted_malloc(size_t n)
{
    return allocation_allowed() ? malloc(n) : NULL;
}

static void *counted_calloc(size_t n, size_t size)
{
    return allocation_allowed() ? calloc(n, size) : NULL;
}

static void *counted_realloc(void *p, size_t n)
{
    return allocation_allowed() ? realloc(p, n) : NULL;
}

#define malloc  counted_malloc
#define calloc  counted_calloc
#define realloc counted_realloc
#include "mtls/core/hostmem.c"
#undef malloc
#undef calloc
#undef realloc

enum { NOW = 1700000000, DAY = 86400 };

static const uint8_t key[32] = "0123456789abcdef0123456789abcde";

static struct mtls_hostmem *new_memory(void)
{
    struct mtls_hostmem *m;

    assert_int_equal(mtls_hostmem_new(&m, key), 0);
    return m;
}

static struct mtls_host_record record(int64_t verified_at, int64_t expires_at)
{
    return (struct mtls_host_record){
        .verified_at = verified_at, .expires_at = expires_at, .k = 1, .scope = 1};
}

static void add_addr(struct mtls_host_record *rec, const char *text)
{
    struct mtls_host h;

    assert_int_equal(mtls_host_parse(&h, text), 0);
    rec->addrs[rec->naddr++] = h.addr;
}

static void put_ok(struct mtls_hostmem *m, const char *name, int64_t expires_at)
{
    const struct mtls_host_record rec = record(NOW, expires_at);

    assert_int_equal(mtls_hostmem_put(m, name, 443, &rec, NOW), 0);
}

static bool has(const struct mtls_hostmem *m, const char *name, uint16_t port, int64_t now_at)
{
    struct mtls_host_record rec;
    const int r = mtls_hostmem_get(m, name, port, now_at, &rec);

    assert_true(r == 0 || r == 1);
    return r == 1;
}

static void put_get_forget(void **state)
{
    struct mtls_hostmem *m = new_memory();
    struct mtls_host_record rec = record(NOW, NOW + DAY), got;

    assert_int_equal(mtls_hostmem_count(m), 0);
    assert_false(has(m, "a.example", 443, NOW));
    rec.k = 8;
    rec.scope = 3;
    add_addr(&rec, "192.0.2.1:914");
    add_addr(&rec, "[2001:db8::1]:915");
    assert_int_equal(mtls_hostmem_put(m, "a.example", 443, &rec, NOW), 0);
    assert_int_equal(mtls_hostmem_get(m, "A.Example.", 443, NOW, &got), 1);
    assert_int_equal(got.verified_at, NOW);
    assert_int_equal(got.expires_at, NOW + DAY);
    assert_int_equal(got.k, 8);
    assert_int_equal(got.scope, 3);
    assert_int_equal(got.naddr, 2);
    assert_memory_equal(&got.addrs[0], &rec.addrs[0], sizeof(rec.addrs[0]));
    assert_memory_equal(&got.addrs[1], &rec.addrs[1], sizeof(rec.addrs[1]));
    assert_false(has(m, "a.example", 444, NOW));
    assert_false(has(m, "a.example", 0, NOW));
    assert_false(has(m, "b.example", 443, NOW));
    assert_true(has(m, "a.example", 443, NOW + DAY - 1));
    assert_false(has(m, "a.example", 443, NOW + DAY));
    rec.k = 2;
    assert_int_equal(mtls_hostmem_put(m, "a.example", 443, &rec, NOW), 0);
    assert_int_equal(mtls_hostmem_count(m), 1);
    assert_int_equal(mtls_hostmem_get(m, "a.example", 443, NOW, &got), 1);
    assert_int_equal(got.k, 2);
    assert_int_equal(mtls_hostmem_forget(m, "a.example", 444), 0);
    assert_int_equal(mtls_hostmem_forget(m, "a.example", 0), 0);
    assert_int_equal(mtls_hostmem_forget(m, "A.EXAMPLE", 443), 1);
    assert_int_equal(mtls_hostmem_forget(m, "a.example", 443), 0);
    assert_int_equal(mtls_hostmem_count(m), 0);
    mtls_hostmem_free(m);
    mtls_hostmem_free(NULL);
}

static void bad_arguments(void **state)
{
    struct mtls_hostmem *m = new_memory();
    struct mtls_host_record good = record(NOW, NOW + 1), bad;

    add_addr(&good, "192.0.2.1:914");
    assert_int_equal(mtls_hostmem_put(m, "a", 443, &good, NOW), 0);
    assert_int_equal(mtls_hostmem_put(m, "a", 0, &good, NOW), MTLS_ERR_ARG);
    assert_int_equal(mtls_hostmem_put(m, "a b", 443, &good, NOW), MTLS_ERR_ARG);
    assert_int_equal(mtls_hostmem_get(m, "", 443, NOW, &bad), MTLS_ERR_ARG);
    assert_int_equal(mtls_hostmem_forget(m, "a|b", 443), MTLS_ERR_ARG);
    for (int i = 0; i < 8; i++) {
        bad = good;
        bad.k = i == 0 ? 0 : i == 1 ? 9 : bad.k;
        bad.scope = i == 2 ? 4 : bad.scope;
        bad.naddr = i == 3 ? 9 : bad.naddr;
        bad.verified_at = i == 4 ? -1 : NOW;
        bad.expires_at = i == 5 ? -1 : NOW + 1;
        bad.addrs[0].family = i == 6 ? 0 : 4;
        bad.addrs[0].port = i == 7 ? 0 : 1;
        assert_int_equal(mtls_hostmem_put(m, "a", 443, &bad, NOW), MTLS_ERR_ARG);
    }
    assert_int_equal(mtls_hostmem_count(m), 1);
    mtls_hostmem_free(m);
}

/* [PATH-1], [TIM-16] A stored address is admissible for seven days, and not when the clock went
 * back. */
static void addresses_age(void **state)
{
    struct mtls_hostmem *m = new_memory();
    struct mtls_host_record rec = record(NOW, NOW + 100 * DAY), got;
    const struct {
        int64_t at;
        int n;
    } cases[] = {{NOW, 1}, {NOW + 7 * DAY, 1}, {NOW + 7 * DAY + 1, 0}, {NOW - 1, 0}, {-1, 0}};

    add_addr(&rec, "192.0.2.1:914");
    assert_int_equal(mtls_hostmem_put(m, "a", 443, &rec, NOW), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_int_equal(mtls_hostmem_get(m, "a", 443, cases[i].at, &got), 1);
        assert_int_equal(got.naddr, cases[i].n);
        assert_int_equal(got.addrs[0].family, cases[i].n != 0 ? 4 : 0);
    }
    mtls_hostmem_free(m);
}

static void expiry(void **state)
{
    struct mtls_hostmem *m = new_memory();
    struct mtls_host_record rec;

    put_ok(m, "a", NOW + 10);
    put_ok(m, "b", NOW + 20);
    rec = record(NOW, NOW + 30);
    assert_int_equal(mtls_hostmem_put(m, "c", 443, &rec, NOW + 10), 0);
    assert_int_equal(mtls_hostmem_count(m), 2); /* a has gone */
    rec = record(NOW, NOW + 15);                /* a lifetime of 0: forget */
    assert_int_equal(mtls_hostmem_put(m, "b", 443, &rec, NOW + 15), 0);
    assert_int_equal(mtls_hostmem_count(m), 1);
    assert_true(has(m, "c", 443, NOW + 15));
    rec = record(INT64_MAX, INT64_MAX);
    assert_int_equal(mtls_hostmem_put(m, "d", 443, &rec, NOW), 0);
    assert_true(has(m, "d", 443, INT64_MAX - 1));
    assert_false(has(m, "d", 443, INT64_MAX));
    mtls_hostmem_free(m);
}

static struct mtls_hostmem *full_memory(void)
{
    struct mtls_hostmem *m = new_memory();
    char name[32];

    for (int i = 0; i < MTLS_HOSTMEM_MAX; i++) {
        (void)snprintf(name, sizeof(name), "h%d.example", i);
        put_ok(m, name, NOW + 1000 + (i + 7) % MTLS_HOSTMEM_MAX); /* i = 4089 expires first */
    }
    assert_int_equal(mtls_hostmem_count(m), MTLS_HOSTMEM_MAX);
    return m;
}

static void assert_same_text(const struct mtls_hostmem *m)
{
    struct mtls_hostmem *again;
    char *text, *text2;
    size_t len, len2;

    assert_int_equal(mtls_hostmem_format(m, &text, &len), 0);
    assert_true(len <= MTLS_HOSTMEM_TEXT_MAX);
    assert_int_equal(mtls_hostmem_parse(&again, text, len), 0);
    assert_int_equal(mtls_hostmem_format(again, &text2, &len2), 0);
    assert_int_equal(len, len2);
    assert_memory_equal(text, text2, len);
    mtls_hostmem_free(again);
    free(text);
    free(text2);
}

static void full(void **state)
{
    struct mtls_hostmem *m = full_memory();

    assert_same_text(m);
    put_ok(m, "h5.example", NOW + 2000); /* replaced, nobody goes */
    assert_int_equal(mtls_hostmem_count(m), MTLS_HOSTMEM_MAX);
    assert_true(has(m, "h4089.example", 443, NOW));
    put_ok(m, "new.example", NOW + 5000);
    assert_int_equal(mtls_hostmem_count(m), MTLS_HOSTMEM_MAX);
    assert_false(has(m, "h4089.example", 443, NOW));
    assert_true(has(m, "new.example", 443, NOW));
    for (int i = 0; i < MTLS_HOSTMEM_MAX; i += 97) {
        char name[32];

        (void)snprintf(name, sizeof(name), "h%d.example", i);
        assert_true(has(m, name, 443, NOW));
    }
    mtls_hostmem_free(m);
}

/* The largest record in every place stays below the bound of the text. */
static void largest_text(void **state)
{
    assert_true(HEAD_TEXT_MAX + (size_t)MTLS_HOSTMEM_MAX * HOST_TEXT_MAX + END_TEXT_MAX <=
                (size_t)MTLS_HOSTMEM_TEXT_MAX);
}

/* Made by another implementation: Python's hmac and hashlib, from the description in hostmem.c. */
static const char known_text[] =
    "mtls-hosts 1\n"
    "key 3031323334353637383961626364656630313233343536373839616263646500\n"
    "host 81959f8e8142abcf769c0f2d8db4f4bc5a55e47f0ecc407e6266e9bd314d9672 1700000000 1700086400 1 "
    "1 192.0.2.1:914,[2001:db8::1]:915\n"
    "host d1d88397087641c7e4821f6a4c424c83df2f251f394f3f562bcde63d381eb61e 1700000000 1700172800 1 "
    "1 -\n"
    "end 2 f692da77e8d7fa0eacc3e582558136cddc26ff105f35f6f74e74a4ac4f76faa2\n";

/* A text of two hosts. */
static char *sample(size_t *len)
{
    struct mtls_hostmem *m = new_memory();
    struct mtls_host_record rec = record(NOW, NOW + DAY);
    char *text;

    add_addr(&rec, "192.0.2.1:914");
    add_addr(&rec, "[2001:db8::1]:915");
    assert_int_equal(mtls_hostmem_put(m, "a.example", 443, &rec, NOW), 0);
    put_ok(m, "b.example", NOW + 2 * DAY);
    assert_same_text(m);
    assert_int_equal(mtls_hostmem_format(m, &text, len), 0);
    mtls_hostmem_free(m);
    return text;
}

static void known_answer(void **state)
{
    struct mtls_hostmem *m;
    size_t len;
    char *text = sample(&len);

    assert_int_equal(len, strlen(known_text));
    assert_memory_equal(text, known_text, len);
    assert_int_equal(mtls_hostmem_parse(&m, known_text, len), 0);
    assert_true(has(m, "a.example", 443, NOW));
    assert_true(has(m, "b.example", 443, NOW));
    assert_int_equal(mtls_hostmem_count(m), 2);
    mtls_hostmem_free(m);
    free(text);
}

static void assert_corrupt(const char *text, size_t len)
{
    struct mtls_hostmem *m;
    const int r = mtls_hostmem_parse(&m, text, len);

    if (r != MTLS_ERR_HOSTS_CORRUPT)
        fail_msg("%d for: %.*s", r, (int)len, text);
    assert_null(m);
}

static void assert_intact(const char *text, size_t len)
{
    struct mtls_hostmem *m;

    assert_int_equal(mtls_hostmem_parse(&m, text, len), 0);
    mtls_hostmem_free(m);
}

static void damage(void **state)
{
    size_t len;
    char *text = sample(&len), *longer = calloc(1, len + 1);

    assert_intact(text, len);
    for (size_t i = 0; i < len; i++) {
        assert_corrupt(text, i); /* cut */
        for (unsigned bit = 1; bit < 256; bit <<= 1) {
            text[i] = (char)(text[i] ^ bit);
            assert_corrupt(text, len);
            text[i] = (char)(text[i] ^ bit);
        }
        memcpy(longer, text, i); /* a byte put in */
        longer[i] = text[i] == '0' ? '1' : '0';
        memcpy(longer + i + 1, text + i, len - i);
        assert_corrupt(longer, len + 1);
        memcpy(longer, text, i); /* a byte taken out */
        memcpy(longer + i, text + i + 1, len - i - 1);
        assert_corrupt(longer, len - 1);
    }
    memcpy(longer, text, len);
    longer[len] = '\n';
    assert_corrupt(longer, len + 1);
    assert_corrupt(NULL, 0);
    assert_intact(text, len);
    free(text);
    free(longer);
}

/* Writes head, lines and a right last line. */
static void assert_lines(const char *head, const char *lines, unsigned count, bool intact)
{
    static char text[16384];
    char digits[65];
    int n = snprintf(text, sizeof(text), "%s%send %u ", head, lines, count);

    assert_int_equal(checksum(text, (size_t)n, digits), 0);
    n += snprintf(text + n, sizeof(text) - (size_t)n, "%s\n", digits);
    if (intact)
        assert_intact(text, (size_t)n);
    else
        assert_corrupt(text, (size_t)n);
}

#define HEAD                 "mtls-hosts 1\nkey 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n"
#define HASH                 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeef"
#define LINE(hash_end, rest) "host " HASH hash_end " " rest "\n"

/* Damage with a right checksum: the rules of the format, one by one. */
static void strict_format(void **state)
{
    static const char *const good[] = {"0 0 1 0 -", "1 2 8 3 192.0.2.1:1",
                                       "1 9223372036854775807 1 1 [::1]:65535,192.0.2.1:914"};
    static const char *const bad[] = {
        "",
        "0 0 1 0",
        "0 0 1 0 ",
        "0 0 1 0 - ",
        "0 0 1 0 -,192.0.2.1:1",
        "-1 0 1 0 -",
        "0 -1 1 0 -",
        "00 0 1 0 -",
        "0 00 1 0 -",
        "0 0 0 0 -",
        "0 0 9 0 -",
        "0 0 1 4 -",
        "0 0 01 0 -",
        "0 0 1 x -",
        "0  0 1 0 -",
        " 0 0 1 0 -",
        "+1 0 1 0 -",
        "0 9223372036854775808 1 0 -",
        "99999999999999999999 0 1 0 -",
        "0 0 1 0 192.0.2.1",
        "0 0 1 0 192.0.2.1:0",
        "0 0 1 0 192.0.2.1:1,",
        "0 0 1 0 ,192.0.2.1:1",
        "0 0 1 0 [::0]:1",
        "0 0 1 0 [2001:DB8::1]:1",
        "0 0 1 0 [::ffff:192.0.2.1]:1",
        "0 0 1 0 name:1",
        "0 0 1 0 192.0.2.1:01",
        "0 0 1 0 192.0.2.1:1 192.0.2.2:1",
        "0\t0 1 0 -",
        "0 0 1 0 "
        "1.1.1.1:1,1.1.1.1:1,1.1.1.1:1,1.1.1.1:1,1.1.1.1:1,1.1.1.1:1,1.1.1.1:1,1.1.1.1:1,1.1.1.1:1",
        "0 0 1 0 "
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:1",
    };
    char line[400];

    assert_lines(HEAD, "", 0, true);
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        (void)snprintf(line, sizeof(line), "host " HASH "1 %s\n", good[i]);
        assert_lines(HEAD, line, 1, true);
        assert_lines(HEAD, line, 0, false);
        assert_lines(HEAD, line, 2, false);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        (void)snprintf(line, sizeof(line), "host " HASH "1 %s\n", bad[i]);
        assert_lines(HEAD, line, 1, false);
    }
    assert_lines(HEAD, LINE("1", "0 0 1 0 -") LINE("2", "0 0 1 0 -"), 2, true);
    assert_lines(HEAD, LINE("2", "0 0 1 0 -") LINE("1", "0 0 1 0 -"), 2, false); /* order */
    assert_lines(HEAD, LINE("1", "0 0 1 0 -") LINE("1", "0 0 1 0 -"), 2, false); /* twice */
    assert_lines(HEAD, LINE("A", "0 0 1 0 -"), 1, false);
    assert_lines(HEAD, LINE("", "0 0 1 0 -"), 1, false);
    assert_lines(HEAD, "\n", 0, false);
    assert_lines(HEAD, "# remark\n", 0, false);
    assert_lines("mtls-hosts 2"
                 "\nkey 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n",
                 "", 0, false);
    assert_lines("mtls-hosts 1\n", "", 0, false);
    assert_lines("mtls-hosts 1\nkey 0011\n", "", 0, false);
}

static void one_entry_too_many(void **state)
{
    const size_t cap = (size_t)(MTLS_HOSTMEM_MAX + 2) * 100 + sizeof(HEAD) + 200;
    char *text = malloc(cap), digits[65];

    for (unsigned count = MTLS_HOSTMEM_MAX; count <= MTLS_HOSTMEM_MAX + 1; count++) {
        int n = snprintf(text, cap, "%s", HEAD);

        for (unsigned i = 0; i < count; i++)
            n += snprintf(text + n, cap - (size_t)n, "host %064x 0 0 1 0 -\n", i);
        n += snprintf(text + n, cap - (size_t)n, "end %u ", count);
        assert_int_equal(checksum(text, (size_t)n, digits), 0);
        n += snprintf(text + n, cap - (size_t)n, "%s\n", digits);
        if (count == MTLS_HOSTMEM_MAX)
            assert_intact(text, (size_t)n);
        else
            assert_corrupt(text, (size_t)n);
    }
    free(text);
    text = calloc(1, MTLS_HOSTMEM_TEXT_MAX + 1);
    assert_corrupt(text, MTLS_HOSTMEM_TEXT_MAX + 1);
    free(text);
}

/* An IPv4 address in IPv6 clothes must not make a file that cannot be read again. */
static void mapped_address(void **state)
{
    struct mtls_hostmem *m = new_memory();
    struct mtls_host_record rec = record(NOW, NOW + 1), got;

    rec.naddr = 1;
    rec.addrs[0] = (struct mtls_addr){
        .family = 6, .ip = {[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 1}, .port = 1};
    assert_int_equal(mtls_hostmem_put(m, "a", 443, &rec, NOW), 0);
    assert_same_text(m);
    assert_int_equal(mtls_hostmem_get(m, "a", 443, NOW, &got), 1);
    assert_int_equal(got.addrs[0].family, 4);
    mtls_hostmem_free(m);
}

/* new, put, format, parse: 0 or MTLS_ERR_NOMEM, and what was allocated goes. */
static int scenario(void)
{
    struct mtls_hostmem *m = NULL, *again = NULL;
    struct mtls_host_record rec = record(NOW, NOW + DAY);
    char *text = NULL, name[16];
    size_t len = 0;
    int r = mtls_hostmem_new(&m, key);

    for (int i = 0; i < 20 && r == 0; i++) {
        (void)snprintf(name, sizeof(name), "h%d", i);
        r = mtls_hostmem_put(m, name, 443, &rec, NOW);
        assert_int_equal(mtls_hostmem_count(m), r == 0 ? i + 1 : i);
    }
    if (r == 0)
        r = mtls_hostmem_format(m, &text, &len);
    if (r == 0)
        r = mtls_hostmem_parse(&again, text, len);
    assert_true(r == 0 || again == NULL);
    free(text);
    mtls_hostmem_free(m);
    mtls_hostmem_free(again);
    return r;
}

static void lack_of_memory(void **state)
{
    long total;

    allocations_made = 0;
    assert_int_equal(scenario(), 0);
    total = allocations_made;
    assert_true(total >= 7 && total <= 10);
    for (long i = 0; i < total; i++) {
        allocations_left = i;
        assert_int_equal(scenario(), MTLS_ERR_NOMEM);
        allocations_left = -1;
    }
    assert_int_equal(scenario(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_get_forget), cmocka_unit_test(bad_arguments),
        cmocka_unit_test(addresses_age),  cmocka_unit_test(expiry),
        cmocka_unit_test(full),           cmocka_unit_test(largest_text),
        cmocka_unit_test(known_answer),   cmocka_unit_test(damage),
        cmocka_unit_test(strict_format),  cmocka_unit_test(one_entry_too_many),
        cmocka_unit_test(mapped_address), cmocka_unit_test(lack_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
