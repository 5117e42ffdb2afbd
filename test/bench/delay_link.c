/* Concept: a link with delay, jitter, loss and a rate, for kernels without netem: a TUN device to
 * which a router sends what it would forward; each packet comes back out of it later, in order, or
 * not at all. The router's rules decide what goes through: in from a real device, once.
 *
 *     delay_link NAME DELAY_US [JITTER_US [LOSS_PPM [RATE_KBIT [SEED]]]]
 *
 * Delay and loss are of one direction; jitter is added, evenly between 0 and JITTER_US; the rate is
 * each direction's, 0 = no limit. The same seed drops the same packets of the same sequence. It
 * says "ready" when the device is there, and at SIGTERM how many packets it passed and dropped. */
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include "bench.h"

enum { QUEUE = 8192, PACKET = 2048, MILLION = 1000000, DIRECTIONS = 2 };

struct packet {
    uint64_t due;
    size_t len;
    uint8_t data[PACKET];
};

static struct {
    uint64_t delay_ns, jitter_ns, rate_kbit, seed;
    uint32_t loss_ppm;
    uint64_t passed, dropped;
} line;

/* A direction's packets, in order; idle: when its transmitter has sent all that came before. */
static struct direction {
    struct packet queue[QUEUE];
    unsigned head, tail; /* free running */
    uint64_t idle, last_due;
} directions[DIRECTIONS];

static volatile sig_atomic_t stop;

static void on_term(int signum)
{
    stop = signum;
}

static int tun_open(const char *name)
{
    struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
    bench_check(fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) == 0, "/dev/net/tun");
    return fd;
}

static uint32_t chance(uint32_t bound) /* xorshift64* */
{
    line.seed ^= line.seed >> 12;
    line.seed ^= line.seed << 25;
    line.seed ^= line.seed >> 27;
    return (uint32_t)((line.seed * 0x2545f4914f6cdd1du) >> 33) % bound;
}

/* Which of the two ways: the two ends of a connection differ in which address is the greater. */
static struct direction *direction_of(const struct packet *k)
{
    const uint8_t *p = k->data;
    size_t at = p[0] >> 4 == 6 ? 8 : 12, len = p[0] >> 4 == 6 ? 16 : 4;

    return &directions[memcmp(p + at, p + at + len, len) > 0];
}

static void take(const struct packet *k, uint64_t now)
{
    struct direction *d = direction_of(k);
    struct packet *slot = &d->queue[d->tail % QUEUE];

    if (d->tail - d->head == QUEUE || (line.loss_ppm != 0 && chance(MILLION) < line.loss_ppm)) {
        line.dropped++;
        return;
    }
    *slot = *k;
    d->idle = d->idle > now ? d->idle : now;
    if (line.rate_kbit != 0)
        d->idle += k->len * 8u * MILLION / line.rate_kbit;
    slot->due =
        d->idle + line.delay_ns + (line.jitter_ns != 0 ? chance((uint32_t)line.jitter_ns + 1) : 0);
    if (slot->due < d->last_due)
        slot->due = d->last_due; /* in order */
    d->last_due = slot->due;
    d->tail++;
}

/* Sends what is due; returns when the next is, 0 = nothing waits. */
static uint64_t give(int fd, struct direction *d, uint64_t now)
{
    for (; d->head != d->tail && d->queue[d->head % QUEUE].due <= now; d->head++) {
        struct packet *k = &d->queue[d->head % QUEUE];
        ssize_t n = write(fd, k->data, k->len);

        (void)n; /* a router may drop */
        line.passed++;
    }
    return d->head != d->tail ? d->queue[d->head % QUEUE].due : 0;
}

static void run(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    static struct packet k;
    struct timespec ts;

    while (!stop) {
        uint64_t now = bench_clock_ns(CLOCK_MONOTONIC), due = 0;
        ssize_t n;

        while ((n = read(fd, k.data, sizeof(k.data))) > 0) {
            k.len = (size_t)n;
            take(&k, now);
        }
        for (int i = 0; i < DIRECTIONS; i++) {
            uint64_t next = give(fd, &directions[i], now);

            due = next != 0 && (due == 0 || next < due) ? next : due;
        }
        now = bench_clock_ns(CLOCK_MONOTONIC);
        if (due != 0) {
            uint64_t left = due > now ? due - now : 0;

            ts = (struct timespec){.tv_sec = (time_t)(left / 1000000000u),
                                   .tv_nsec = (long)(left % 1000000000u)};
        }
        ppoll(&p, 1, due != 0 ? &ts : NULL, NULL);
    }
}

static uint64_t number(int argc, char **argv, int at)
{
    return argc > at ? strtoull(argv[at], NULL, 10) : 0;
}

int main(int argc, char **argv)
{
    struct sigaction term = {.sa_handler = on_term};
    int fd;

    if (argc < 3 || argc > 7)
        return 1;
    line.delay_ns = number(argc, argv, 2) * 1000u;
    line.jitter_ns = number(argc, argv, 3) * 1000u;
    line.loss_ppm = (uint32_t)number(argc, argv, 4);
    line.rate_kbit = number(argc, argv, 5);
    line.seed = number(argc, argv, 6) + 0x9e3779b97f4a7c15u;
    bench_check(line.jitter_ns < UINT32_MAX && sigaction(SIGTERM, &term, NULL) == 0, argv[0]);
    prctl(PR_SET_TIMERSLACK, 1);
    fd = tun_open(argv[1]);
    puts("ready");
    fflush(stdout);
    run(fd);
    printf("{\"passed\": %" PRIu64 ", \"dropped\": %" PRIu64 "}\n", line.passed, line.dropped);
    return 0;
}
