/* Test helper: waits for one readiness of one descriptor by an io_uring poll request, as programs
 * on io_uring do; by a one-shot epoll where the kernel has no io_uring or forbids it. */
#ifndef TEST_URING_POLL_H
#define TEST_URING_POLL_H

#include <linux/io_uring.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline bool oneshot_wait(int epoll, int fd, short events, int limit_ms)
{
    struct epoll_event ev = {.events = (uint32_t)events | EPOLLONESHOT};

    return (epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &ev) == 0 ||
            epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) == 0) &&
           epoll_wait(epoll, &ev, 1, limit_ms) == 1;
}

static inline void *uring_map(int ring, size_t len, uint64_t at)
{
    return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, (off_t)at);
}

/* A request to poll, and one that ends it after the limit. */
static inline void uring_fill(struct io_uring_sqe *sqes, int fd, short events,
                              const struct __kernel_timespec *limit)
{
    memset(sqes, 0, 2 * sizeof(*sqes));
    sqes[0].opcode = IORING_OP_POLL_ADD;
    sqes[0].flags = IOSQE_IO_LINK;
    sqes[0].fd = fd;
    sqes[0].poll32_events = (uint16_t)events;
    sqes[0].user_data = 1;
    sqes[1].opcode = IORING_OP_LINK_TIMEOUT;
    sqes[1].fd = -1;
    sqes[1].addr = (uint64_t)(uintptr_t)limit;
    sqes[1].len = 1;
}

/* Reads completions until the poll's own is among them; its result. */
static inline int uring_result(int ring, const struct io_uring_params *p, uint8_t *cq)
{
    uint32_t *head = (uint32_t *)(void *)(cq + p->cq_off.head),
             *tail = (uint32_t *)(void *)(cq + p->cq_off.tail);
    const struct io_uring_cqe *cqes = (const void *)(cq + p->cq_off.cqes);

    for (;;) {
        for (; *head != __atomic_load_n(tail, __ATOMIC_ACQUIRE); (*head)++) {
            const struct io_uring_cqe *cqe = &cqes[*head & (p->cq_entries - 1)];

            if (cqe->user_data == 1)
                return cqe->res;
        }
        if (syscall(SYS_io_uring_enter, ring, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
            return -1;
    }
}

static inline bool uring_wait(int epoll, int fd, short events, int limit_ms)
{
    struct __kernel_timespec limit = {.tv_sec = limit_ms / 1000};
    struct io_uring_params p = {0};
    int ring = (int)syscall(SYS_io_uring_setup, 4, &p), res = -1;
    size_t sq_len = p.sq_off.array + p.sq_entries * sizeof(uint32_t),
           cq_len = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe),
           sqes_len = p.sq_entries * sizeof(struct io_uring_sqe);
    uint8_t *sq, *cq;
    void *sqes;

    if (ring < 0)
        return oneshot_wait(epoll, fd, events, limit_ms);
    sq = uring_map(ring, sq_len, IORING_OFF_SQ_RING);
    cq = uring_map(ring, cq_len, IORING_OFF_CQ_RING);
    sqes = uring_map(ring, sqes_len, IORING_OFF_SQES);
    if (sq != MAP_FAILED && cq != MAP_FAILED && sqes != MAP_FAILED) {
        uint32_t *array = (uint32_t *)(void *)(sq + p.sq_off.array);

        uring_fill(sqes, fd, events, &limit);
        array[0] = 0;
        array[1] = 1;
        __atomic_store_n((uint32_t *)(void *)(sq + p.sq_off.tail), 2, __ATOMIC_RELEASE);
        if (syscall(SYS_io_uring_enter, ring, 2, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 2)
            res = uring_result(ring, &p, cq);
    }
    munmap(sq, sq_len);
    munmap(cq, cq_len);
    munmap(sqes, sqes_len);
    close(ring);
    return res > 0;
}

#endif
