/* The file of verified hosts: made, trusted, refused, damaged, written by many at once, killed in
 * mid-write, full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* The room is included, so that its one allocation can be refused. */
static int memory_is_full;

static void *refusing_malloc(size_t n)
{
    return memory_is_full ? NULL : malloc(n);
}

#define malloc refusing_malloc
#include "mtls/net/hostfile.c"
#undef malloc

enum { NOW = 1700000000, WRITERS = 4, ROUNDS = 8, KILLS = 40 };

static char folder[64], path[128];

static int set_up(void **state)
{
    (void)umask(022);
    (void)snprintf(folder, sizeof(folder), "/tmp/mtls-hostfile-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    (void)snprintf(path, sizeof(path), "%s/hosts", folder);
    return 0;
}

/* Removes the folder and what is in it, one level of folders deep. */
static void remove_tree(const char *name)
{
    DIR *d = opendir(name);
    struct dirent *e;

    while (d != NULL && (e = readdir(d)) != NULL) {
        char sub[512];

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        (void)snprintf(sub, sizeof(sub), "%s/%s", name, e->d_name);
        if (unlink(sub) != 0)
            remove_tree(sub);
    }
    if (d != NULL)
        (void)closedir(d);
    (void)rmdir(name);
}

static int tear_down(void **state)
{
    remove_tree(folder);
    return 0;
}

static int put_at(const char *file, const char *name)
{
    const struct mtls_host_record rec = {
        .verified_at = NOW, .expires_at = NOW + 1000, .k = 1, .scope = 1};

    return mtls_hostfile_put(file, name, 443, &rec, NOW);
}

static int put(const char *name)
{
    return put_at(path, name);
}

static int get(const char *name)
{
    struct mtls_host_record rec;

    return mtls_hostfile_get(path, name, 443, NOW, &rec);
}

static bool exists(const char *name)
{
    struct stat st;
    char file[256];

    (void)snprintf(file, sizeof(file), "%s/%s", folder, name);
    return lstat(file, &st) == 0;
}

static size_t slurp(char *buf, size_t cap)
{
    const int fd = open(path, O_RDONLY);
    ssize_t n;

    assert_true(fd >= 0);
    n = read(fd, buf, cap);
    assert_true(n >= 0 && (size_t)n < cap);
    (void)close(fd);
    return (size_t)n;
}

static void spill(const char *file, const void *data, size_t len, mode_t mode)
{
    const int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, mode);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    assert_int_equal(fchmod(fd, mode), 0);
    (void)close(fd);
}

/* What the last replies leave behind: the file, its lock, no temporary file. */
static void assert_tidy(void)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_true(exists("hosts.lock"));
    assert_false(exists("hosts.tmp"));
}

static void put_get_forget(void **state)
{
    struct mtls_host_record rec = {
        .verified_at = NOW, .expires_at = NOW + 50, .k = 2, .scope = 3, .naddr = 1};
    struct mtls_host_record got;

    rec.addrs[0] = (struct mtls_addr){.family = 4, .ip = {192, 0, 2, 1}, .port = 914};
    assert_int_equal(get("a.example"), 0);
    assert_int_equal(mtls_hostfile_forget(path, "a.example", 443), 0);
    assert_false(exists("hosts.lock")); /* looking makes nothing */
    assert_int_equal(mtls_hostfile_put(path, "a.example", 443, &rec, NOW), 0);
    assert_tidy();
    assert_int_equal(mtls_hostfile_get(path, "A.example.", 443, NOW + 49, &got), 1);
    assert_int_equal(got.k, 2);
    assert_int_equal(got.addrs[0].port, 914);
    assert_int_equal(mtls_hostfile_get(path, "a.example", 443, NOW + 50, &got), 0);
    assert_int_equal(get("b.example"), 0);
    assert_int_equal(put("b.example"), 0);
    assert_int_equal(get("b.example"), 1);
    assert_int_equal(mtls_hostfile_forget(path, "a.example", 443), 1);
    assert_int_equal(mtls_hostfile_forget(path, "a.example", 443), 0);
    assert_int_equal(get("a.example"), 0);
    assert_int_equal(get("b.example"), 1);
    assert_tidy();
}

static void any_umask(void **state)
{
    (void)umask(0);
    assert_int_equal(put("a"), 0);
    assert_tidy();
    (void)umask(0777);
    assert_int_equal(put("b"), 0);
    (void)umask(022);
    assert_tidy();
    assert_int_equal(get("a"), 1);
    assert_int_equal(get("b"), 1);
}

/* Two files never have the same key, one file keeps its own. */
static void keys(void **state)
{
    char one[4096], two[4096];
    const size_t at = strlen("mtls-hosts 1\nkey ");

    assert_int_equal(put("a"), 0);
    (void)slurp(one, sizeof(one));
    assert_int_equal(put("b"), 0);
    (void)slurp(two, sizeof(two));
    assert_memory_equal(one + at, two + at, 64);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(put("a"), 0);
    (void)slurp(two, sizeof(two));
    assert_memory_not_equal(one + at, two + at, 64);
    assert_null(memmem(two, sizeof(two), "a|443", 5));
}

static void folders(void **state)
{
    char deep[200];
    struct stat st;

    (void)snprintf(deep, sizeof(deep), "%s/new/hosts", folder);
    assert_int_equal(mtls_hostfile_forget(deep, "a", 443), 0);
    assert_int_equal(put_at(deep, "a"), 0);
    assert_int_equal(mtls_hostfile_forget(deep, "a", 443), 1);
    (void)snprintf(deep, sizeof(deep), "%s/new", folder);
    assert_int_equal(stat(deep, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    (void)snprintf(deep, sizeof(deep), "%s/not/made/hosts", folder); /* only the last folder */
    assert_int_equal(put_at(deep, "a"), MTLS_ERR_HOSTS_FILE);
    assert_false(exists("not"));
    (void)snprintf(deep, sizeof(deep), "%s/new/hosts/hosts", folder); /* a file for a folder */
    assert_int_equal(put_at(deep, "a"), MTLS_ERR_HOSTS_FILE);
    assert_int_equal(mtls_hostfile_forget(deep, "a", 443), MTLS_ERR_HOSTS_FILE);
}

static void relative_name(void **state)
{
    const int back = open(".", O_RDONLY | O_DIRECTORY);

    assert_int_equal(chdir(folder), 0);
    assert_int_equal(put_at("hosts", "a"), 0);
    assert_int_equal(fchdir(back), 0);
    (void)close(back);
    assert_int_equal(get("a"), 1);
    assert_tidy();
}

static void bad_arguments(void **state)
{
    char longest[MTLS_FILE_MAX + 2];
    static const char *const bad[] = {"", "/", "/tmp/"};
    struct mtls_host_record rec = {.verified_at = NOW, .expires_at = NOW + 1, .k = 1};

    memset(longest, 'a', sizeof(longest));
    longest[MTLS_FILE_MAX + 1] = '\0';
    assert_int_equal(put_at(longest, "a"), MTLS_ERR_ARG);
    longest[251] = '\0'; /* no room for ".lock" in a name */
    assert_int_equal(put_at(longest, "a"), MTLS_ERR_ARG);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(put_at(bad[i], "a"), MTLS_ERR_ARG);
    assert_int_equal(put_at(NULL, "a"), MTLS_ERR_ARG);
    assert_int_equal(put("a b"), MTLS_ERR_ARG);
    assert_int_equal(mtls_hostfile_put(path, "a", 0, &rec, NOW), MTLS_ERR_ARG);
    rec.k = 0;
    assert_int_equal(mtls_hostfile_put(path, "a", 443, &rec, NOW), MTLS_ERR_ARG);
    assert_false(exists("hosts"));
    assert_int_equal(put("a"), 0);
    assert_int_equal(get("a b"), MTLS_ERR_ARG);
    assert_int_equal(mtls_hostfile_forget(path, "a b", 443), MTLS_ERR_ARG);
}

static void assert_all(int code)
{
    assert_int_equal(get("a"), code);
    assert_int_equal(put("a"), code);
    assert_int_equal(mtls_hostfile_forget(path, "a", 443), code);
}

/* A file that others may read or write is not believed. */
static void permissions(void **state)
{
    assert_int_equal(put("a"), 0);
    for (mode_t bit = 1; bit < 0100; bit = (mode_t)(bit << 1)) {
        assert_int_equal(chmod(path, 0600 | bit), 0);
        assert_all(MTLS_ERR_HOSTS_FILE);
    }
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(get("a"), 1);
    assert_int_equal(put("a"), 0);
}

static void not_a_file(void **state)
{
    char other[160];

    assert_int_equal(mkdir(path, 0700), 0);
    assert_all(MTLS_ERR_HOSTS_FILE);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_all(MTLS_ERR_HOSTS_FILE);
    assert_int_equal(unlink(path), 0);
    (void)snprintf(other, sizeof(other), "%s/other", folder);
    assert_int_equal(put_at(other, "a"), 0);
    assert_int_equal(symlink("other", path), 0);
    assert_all(MTLS_ERR_HOSTS_FILE);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rename(other, path), 0); /* the same bytes as a file */
    assert_int_equal(get("a"), 1);
}

/* The lock and the temporary file are no way in either. */
static void traps_beside_it(void **state)
{
    char lock[160], temp[160], victim[160], text[16] = "";
    int fd;

    (void)snprintf(lock, sizeof(lock), "%s.lock", path);
    (void)snprintf(temp, sizeof(temp), "%s.tmp", path);
    (void)snprintf(victim, sizeof(victim), "%s/victim", folder);
    spill(victim, "precious", 8, 0600);
    assert_int_equal(symlink("victim", lock), 0);
    assert_int_equal(put("a"), MTLS_ERR_HOSTS_FILE);
    assert_int_equal(unlink(lock), 0);
    spill(lock, "", 0, 0666);
    assert_int_equal(put("a"), MTLS_ERR_HOSTS_FILE);
    assert_int_equal(unlink(lock), 0);
    assert_int_equal(symlink("victim", temp), 0); /* removed, not followed */
    assert_int_equal(put("a"), 0);
    assert_tidy();
    spill(temp, "left by a crash", 15, 0600);
    assert_int_equal(put("a"), 0);
    assert_tidy();
    assert_int_equal(mkdir(temp, 0700), 0);
    assert_int_equal(put("b"), MTLS_ERR_IO);
    assert_int_equal(rmdir(temp), 0);
    assert_int_equal(put("b"), 0);
    fd = open(victim, O_RDONLY);
    assert_int_equal(read(fd, text, sizeof(text)), 8);
    assert_string_equal(text, "precious");
    (void)close(fd);
}

static void damaged(void **state)
{
    char before[4096], after[4096];
    size_t len;

    assert_int_equal(put("a"), 0);
    len = slurp(before, sizeof(before));
    for (size_t i = 0; i <= len; i += i < 20 || i + 20 > len ? 1 : 7) {
        char bad[4096];
        size_t n = i < len ? len : 0; /* at last: empty */

        memcpy(bad, before, len);
        if (n > 0)
            bad[i] ^= 1;
        spill(path, bad, n, 0600);
        assert_all(MTLS_ERR_HOSTS_CORRUPT);
        assert_int_equal(slurp(after, sizeof(after)), n); /* not overwritten */
        assert_memory_equal(after, bad, n);
    }
    assert_int_equal(truncate(path, MTLS_HOSTMEM_TEXT_MAX + 1), 0);
    assert_all(MTLS_ERR_HOSTS_CORRUPT);
    spill(path, before, len, 0600);
    assert_int_equal(get("a"), 1);
    assert_int_equal(put("a"), 0);
}

static void lack_of_memory(void **state)
{
    char before[4096], after[4096];
    size_t len;

    assert_int_equal(put("a"), 0);
    len = slurp(before, sizeof(before));
    memory_is_full = 1;
    assert_all(MTLS_ERR_NOMEM);
    memory_is_full = 0;
    assert_int_equal(slurp(after, sizeof(after)), len);
    assert_memory_equal(before, after, len);
    assert_int_equal(get("a"), 1);
}

/* ---- Other processes. A child tells its result by its exit code. ---- */

static int wait_for(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

/* Root may do anything: the checks of permission run in a child as nobody. */
static void drop_root(void)
{
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        _exit(99);
}

static int refused_without_permission(void)
{
    if (get("a") != 1 || put("a") != 0)
        return 1;
    if (chmod(path, 0) != 0 || get("a") != MTLS_ERR_HOSTS_FILE || put("a") != MTLS_ERR_HOSTS_FILE)
        return 2;
    if (chmod(path, 0600) != 0 || chmod(folder, 0500) != 0 || get("a") != 1 ||
        put("b") != MTLS_ERR_IO)
        return 3;
    if (chmod(folder, 0) != 0 || get("a") != MTLS_ERR_HOSTS_FILE ||
        put("a") != MTLS_ERR_HOSTS_FILE ||
        mtls_hostfile_forget(path, "a", 443) != MTLS_ERR_HOSTS_FILE)
        return 4;
    return chmod(folder, 0700) == 0 && get("a") == 1 && get("b") == 0 ? 0 : 5;
}

static void without_permission(void **state)
{
    pid_t pid;

    if (geteuid() == 0)
        assert_int_equal(chown(folder, 65534, 65534), 0);
    pid = fork();
    if (pid == 0) {
        drop_root();
        _exit(put("a") != 0 ? 98 : refused_without_permission());
    }
    assert_int_equal(wait_for(pid), 0);
    if (geteuid() == 0) /* somebody else's file, the same bytes, for root */
        assert_int_equal(get("a"), MTLS_ERR_HOSTS_FILE);
}

static int writer(int id)
{
    char name[48];

    for (int i = 0; i < ROUNDS; i++) {
        (void)snprintf(name, sizeof(name), "w%d-%d.example", id, i);
        if (put(name) != 0)
            return 1;
        if (get(name) != 1) /* nobody else's write took it away */
            return 2;
        if (i % 2 != 0 && mtls_hostfile_forget(path, name, 443) != 1)
            return 3;
    }
    return 0;
}

static void concurrent_writers(void **state)
{
    pid_t pids[WRITERS];
    char name[48];

    for (int i = 0; i < WRITERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            _exit(writer(i));
    }
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(wait_for(pids[i]), 0);
    for (int i = 0; i < WRITERS; i++)
        for (int j = 0; j < ROUNDS; j++) {
            (void)snprintf(name, sizeof(name), "w%d-%d.example", i, j);
            assert_int_equal(get(name), j % 2 == 0);
        }
    assert_tidy();
}

/* Writes for ever, a byte into the pipe after each. */
static void write_until_killed(int fd)
{
    char name[48];

    for (int i = 0;; i++) {
        (void)snprintf(name, sizeof(name), "k%d.example", i % 50);
        if (put(name) != 0 || write(fd, "", 1) != 1)
            _exit(1);
    }
}

static void killed_writers(void **state)
{
    assert_int_equal(put("always.example"), 0);
    for (int i = 0; i < KILLS; i++) {
        struct pollfd p;
        int ends[2], writes = 0;
        char byte;
        pid_t pid;

        assert_int_equal(pipe(ends), 0);
        pid = fork();
        if (pid == 0)
            write_until_killed(ends[1]);
        (void)close(ends[1]);
        /* After a few writes, and then some way into the next one. */
        p = (struct pollfd){.fd = ends[0], .events = POLLIN};
        while (writes <= i % 3 && poll(&p, 1, 10000) == 1 && read(ends[0], &byte, 1) == 1)
            writes++;
        for (volatile int spin = 0; spin < i * 2000; spin++)
            ;
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(wait_for(pid), 256 + SIGKILL);
        (void)close(ends[0]);
        assert_int_equal(writes, i % 3 + 1);
        assert_int_equal(get("always.example"), 1);
    }
    assert_int_equal(put("after.example"), 0); /* no lock is left, nor a temporary file */
    assert_int_equal(get("always.example"), 1);
    assert_tidy();
}

/* Whoever stands still with the lock keeps nobody for ever. */
static void held(void **state)
{
    char lock[160];
    int fd;

    assert_int_equal(put("before.example"), 0);
    (void)snprintf(lock, sizeof(lock), "%s.lock", path);
    fd = open(lock, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(put("during.example"), MTLS_ERR_IO);
    assert_int_equal(get("before.example"), 1);
    assert_int_equal(get("during.example"), 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(put("after.example"), 0);
    assert_tidy();
}

/* A process that another thread forked in the middle of a write, and that lives on. */
static void inherited(void **state)
{
    struct place p;
    int ends[2];
    char byte;
    pid_t pid;

    assert_int_equal(put("before.example"), 0);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(place_open(&p, path, false), 1);
    assert_int_equal(place_lock(&p), 0);
    pid = fork();
    if (pid == 0) {
        (void)close(ends[1]);
        _exit(read(ends[0], &byte, 1) == 0 ? 0 : 1);
    }
    place_close(&p);
    assert_int_equal(put("after.example"), 0);
    (void)close(ends[1]);
    assert_int_equal(wait_for(pid), 0);
    (void)close(ends[0]);
    assert_tidy();
}

/* A disk that is full after n bytes. */
static int put_within(rlim_t n)
{
    const struct rlimit limit = {n, n};

    (void)signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        return 9;
    return put("b") == MTLS_ERR_IO ? 0 : put("b") == 0 ? 1 : 2;
}

static void full_disk(void **state)
{
    char before[4096], after[4096];
    size_t len;

    assert_int_equal(put("a"), 0);
    len = slurp(before, sizeof(before));
    for (rlim_t n = 0; n < len; n += 13) {
        const pid_t pid = fork();

        if (pid == 0)
            _exit(put_within(n));
        assert_int_equal(wait_for(pid), 0);
        assert_int_equal(slurp(after, sizeof(after)), len);
        assert_memory_equal(before, after, len);
        assert_false(exists("hosts.tmp"));
    }
    for (int room = 0; room < 2; room++) { /* the boundary: what two entries take */
        pid_t pid;

        assert_int_equal(put("b"), 0);
        len = slurp(after, sizeof(after));
        assert_int_equal(mtls_hostfile_forget(path, "b", 443), 1);
        pid = fork();
        if (pid == 0)
            _exit(put_within(len - 1 + (unsigned)room));
        assert_int_equal(wait_for(pid), room);
        assert_int_equal(get("b"), room);
    }
}

#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(put_get_forget),
        IN_FOLDER(any_umask),
        IN_FOLDER(keys),
        IN_FOLDER(folders),
        IN_FOLDER(relative_name),
        IN_FOLDER(bad_arguments),
        IN_FOLDER(permissions),
        IN_FOLDER(not_a_file),
        IN_FOLDER(traps_beside_it),
        IN_FOLDER(damaged),
        IN_FOLDER(without_permission),
        IN_FOLDER(concurrent_writers),
        IN_FOLDER(killed_writers),
        IN_FOLDER(held),
        IN_FOLDER(inherited),
        IN_FOLDER(full_disk),
        IN_FOLDER(lack_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
