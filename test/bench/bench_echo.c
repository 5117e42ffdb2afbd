/* Concept: the benchmark's server for what is not TLS: answers each byte with a byte, over TCP or
 * MPTCP, in clear or by SMKEX; a thread for each connection. It says its ports in its first line
 * and ends with its standard input. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include <mtls/smkex.h>

#include "bench.h"

static struct smkex_ctx *ctx; /* NULL: in clear */

static void echo_clear(int fd)
{
    char c;

    while (read(fd, &c, 1) == 1 && write(fd, &c, 1) == 1)
        ;
}

static void echo_smkex(int fd)
{
    struct smkex *s = NULL;
    char c;

    if (smkex_server_new(&s, ctx, fd) == 0 && smkex_handshake(s) == 0)
        while (smkex_read(s, &c, 1) == 1 && smkex_write(s, &c, 1) == 1)
            ;
    smkex_free(s);
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;

    bench_nodelay(fd);
    (ctx != NULL ? echo_smkex : echo_clear)(fd);
    close(fd);
    return NULL;
}

static void *accept_main(void *arg)
{
    int listener = *(int *)arg, fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        pthread_t thread;

        bench_check(pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0, "thread");
        pthread_detach(thread);
    }
    bench_die("accept");
}

static int listen_on(const char *host, int transport, unsigned *port)
{
    struct sockaddr_in sin = bench_addr(host, 0);
    socklen_t len = sizeof(sin);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, transport);

    bench_check(fd >= 0 && bind(fd, (struct sockaddr *)&sin, len) == 0 && listen(fd, 64) == 0 &&
                    getsockname(fd, (struct sockaddr *)&sin, &len) == 0,
                "listen");
    *port = ntohs(sin.sin_port);
    return fd;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"host", required_argument, NULL, 'h'},
                                            {"words", required_argument, NULL, 'w'},
                                            {"mptcp", no_argument, NULL, 'm'},
                                            {NULL, 0, NULL, 0}};
    const char *host = "127.0.0.1", *words = NULL, *path2;
    int opt, transport = IPPROTO_TCP, listener;
    char msg[256] = "", line[16];
    pthread_t thread;
    unsigned port;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt == 'h')
            host = optarg;
        else if (opt == 'w')
            words = optarg;
        else if (opt == 'm')
            transport = IPPROTO_MPTCP;
        else
            return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    if (words != NULL && smkex_ctx_new(&ctx, words, msg, sizeof(msg)) != 0) {
        errno = 0;
        bench_die(msg);
    }
    path2 = ctx != NULL ? smkex_ctx_get0_listener(ctx, 0) : NULL;
    listener = listen_on(host, transport, &port);
    bench_check(pthread_create(&thread, NULL, accept_main, &listener) == 0, "thread");
    printf("{\"port\": %u, \"path2\": \"%s\"}\n", port, path2 != NULL ? path2 : "");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin) != NULL)
        ;
    _exit(0); /* its threads wait in reads */
}
