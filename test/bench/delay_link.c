/* Concept: a link with a delay, for kernels without netem: a TUN device to which a router sends
 * what it would forward; each packet comes back out of it after the delay, in order. The router's
 * rules decide what goes through: in from a real device, once. delay_link NAME MICROSECONDS says
 * "ready" when the device is there */
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include "bench.h"

enum { QUEUE = 4096, PACKET = 2048 };

static struct packet {
    uint64_t due;
    size_t len;
    uint8_t data[PACKET];
} queue[QUEUE];

static int tun_open(const char *name)
{
    struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
    bench_check(fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) == 0, "/dev/net/tun");
    return fd;
}

static void run(int fd, uint64_t delay)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    unsigned head = 0, tail = 0; /* free running */
    struct timespec ts;
    uint64_t now;

    for (;;) {
        now = bench_clock_ns(CLOCK_MONOTONIC);
        for (; head != tail && queue[head % QUEUE].due <= now; head++) {
            ssize_t n = write(fd, queue[head % QUEUE].data, queue[head % QUEUE].len);

            (void)n; /* a router may drop */
        }
        for (; tail - head < QUEUE; tail++) {
            struct packet *k = &queue[tail % QUEUE];
            ssize_t n = read(fd, k->data, sizeof(k->data));

            if (n <= 0)
                break;
            k->len = (size_t)n;
            k->due = now + delay;
        }
        now = bench_clock_ns(CLOCK_MONOTONIC);
        if (head != tail) {
            uint64_t due = queue[head % QUEUE].due, left = due > now ? due - now : 0;

            ts = (struct timespec){.tv_sec = (time_t)(left / 1000000000u),
                                   .tv_nsec = (long)(left % 1000000000u)};
        }
        ppoll(&p, 1, head != tail ? &ts : NULL, NULL);
    }
}

int main(int argc, char **argv)
{
    int fd;

    if (argc != 3)
        return 1;
    prctl(PR_SET_TIMERSLACK, 1);
    fd = tun_open(argv[1]);
    puts("ready");
    fflush(stdout);
    run(fd, strtoull(argv[2], NULL, 10) * 1000u);
}
