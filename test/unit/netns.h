/* Concept: a test's own network: the process moves into a fresh network namespace ("here"), with a
 * second one
 * ("there") and two links between them, so that routes, devices and Fast Open are the kernel's real
 * ones.
 *
 *     here: v0 10.1.0.2/24 2001:db8:1::2/64  <->  there: p0 10.1.0.1 2001:db8:1::1
 * 02:00:00:00:01:01 here: v1 10.2.0.2/24 2001:db8:2::2/64  <->  there: p1 10.2.0.1 2001:db8:2::1
 * 02:00:00:00:02:01 there also: 203.0.113.1 and 2001:db8:9::1; here's default route leads over v0,
 * the second best over v1. */
#ifndef MTLS_TEST_NETNS_H
#define MTLS_TEST_NETNS_H

#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NETNS_UNUSED __attribute__((unused))

static int netns_here_fd = -1, netns_there_fd = -1;

static void netns_die(const char *what)
{
    perror(what);
    exit(1);
}

static NETNS_UNUSED void netns_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        netns_die(path);
    close(fd);
}

/* Runs a shell command; the test ends if it fails. */
static NETNS_UNUSED __attribute__((format(printf, 1, 2))) void netns_sh(const char *format, ...)
{
    char line[512];
    va_list ap;

    va_start(ap, format);
    vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    if (system(line) != 0) {
        fprintf(stderr, "failed: %s\n", line);
        exit(1);
    }
}

static NETNS_UNUSED void netns_go_there(void)
{
    if (setns(netns_there_fd, CLONE_NEWNET) != 0)
        netns_die("setns");
}

static NETNS_UNUSED void netns_go_here(void)
{
    if (setns(netns_here_fd, CLONE_NEWNET) != 0)
        netns_die("setns");
}

/* A fresh namespace with its loopback up. Without root's rights, inside a user namespace. */
static NETNS_UNUSED int netns_fresh(void)
{
    char map[64];
    unsigned uid = getuid(), gid = getgid();
    int fd;

    if (unshare(CLONE_NEWNET) != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
            netns_die("unshare");
        netns_write("/proc/self/setgroups", "deny");
        snprintf(map, sizeof(map), "0 %u 1", uid);
        netns_write("/proc/self/uid_map", map);
        snprintf(map, sizeof(map), "0 %u 1", gid);
        netns_write("/proc/self/gid_map", map);
    }
    fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        netns_die("/proc/self/ns/net");
    netns_sh("ip link set lo up");
    return fd;
}

static NETNS_UNUSED void netns_link(int i)
{
    netns_sh("ip link add v%d address 02:00:00:00:0%d:02 type veth peer name p%d address "
             "02:00:00:00:0%d:01 netns /proc/%d/fd/%d",
             i, i + 1, i, i + 1, (int)getpid(), netns_there_fd);
    netns_sh("ip addr add 10.%d.0.2/24 dev v%d && ip addr add 2001:db8:%d::2/64 dev v%d nodad && "
             "ip link set v%d up",
             i + 1, i, i + 1, i, i);
    netns_go_there();
    netns_sh("ip addr add 10.%d.0.1/24 dev p%d && ip addr add 2001:db8:%d::1/64 dev p%d nodad && "
             "ip link set p%d up",
             i + 1, i, i + 1, i, i);
    netns_go_here();
    netns_sh("ip route add default via 10.%d.0.1 dev v%d metric %d", i + 1, i, 100 * (i + 1));
    netns_sh("ip -6 route add default via 2001:db8:%d::1 dev v%d metric %d", i + 1, i,
             100 * (i + 1));
}

/* Call it first in main(), before any thread. */
static NETNS_UNUSED void netns_setup(void)
{
    netns_there_fd = netns_fresh();
    netns_sh("ip addr add 203.0.113.1/32 dev lo && ip addr add 2001:db8:9::1/128 dev lo nodad");
    netns_here_fd = netns_fresh();
    netns_link(0);
    netns_link(1);
}

#endif
