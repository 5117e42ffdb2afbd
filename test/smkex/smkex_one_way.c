/* Concept: a client that only writes (test/system/test_smkex_mptcp.py): connects by MPTCP, says a
 * word, and with the argument `twice` another one once something has come, which it does not read;
 * then it waits for the end of its standard input, ends its direction and closes. */
#include <mtls/smkex.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int say(const char *what, int rc)
{
    printf("%s: %d\n", what, rc);
    return rc < 0;
}

/* Until there is something to read. */
static int something(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 20000) == 1 ? 0 : -1;
}

static int twice(struct smkex *s, int fd)
{
    return say("came", something(fd)) || say("write", smkex_write(s, "word", 4)) ||
           say("came", something(fd)) || say("again", 0);
}

int main(int argc, char **argv)
{
    struct sockaddr_in sin = {.sin_family = AF_INET};
    struct smkex_ctx *ctx;
    struct smkex *s;
    char msg[256] = "";
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP), failed;

    if (argc < 4 || inet_pton(AF_INET, argv[1], &sin.sin_addr) != 1)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    sin.sin_port = htons((uint16_t)atoi(argv[2]));
    if (smkex_ctx_new(&ctx, argv[3], msg, sizeof msg) != 0) {
        printf("%s\n", msg);
        return 2;
    }
    if (fd < 0 || connect(fd, (struct sockaddr *)&sin, sizeof sin) != 0)
        return 2;
    failed = say("new", smkex_client_new(&s, ctx, fd, argv[1])) ||
             say("handshake", smkex_handshake(s)) || say("write", smkex_write(s, "word", 4)) ||
             (argc > 4 && strcmp(argv[4], "twice") == 0 && twice(s, fd));
    while (getchar() != EOF)
        ;
    failed = failed || say("shutdown", smkex_shutdown(s));
    smkex_free(s);
    close(fd);
    smkex_ctx_free(ctx);
    return failed;
}
