#include "exchange.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits until `fd` is ready; -1 with ETIMEDOUT when the deadline is over. Without `fd` (-1) it only waits, 10 ms at most. */
static int wait_for(int fd, short events, int64_t deadline)
{
    for (;;) {
        int64_t left = deadline - now_ms();
        struct pollfd p = { fd, events, 0 };
        int ready;

        if (left <= 0) {
            errno = ETIMEDOUT;
            return -1;
        }
        ready = poll(&p, 1, fd < 0 && left > 10 ? 10 : (int)left);
        if (ready > 0 || (ready == 0 && fd < 0))
            return 0;
        if (ready < 0 && errno != EINTR)
            return -1;
    }
}

/* A Unix socket connects at once or says EAGAIN while the listener's queue is full. */
static int connect_to(const char *path, int64_t deadline)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd;

    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    while (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN || wait_for(-1, 0, deadline) != 0) {
            int saved = errno;

            close(fd);
            errno = saved;
            return -1;
        }
    }
    return fd;
}

static int send_all(int fd, const void *bytes, size_t length, int64_t deadline)
{
    const char *at = bytes;

    while (length > 0) {
        ssize_t sent = send(fd, at, length, MSG_NOSIGNAL);

        if (sent > 0) {
            at += sent;
            length -= (size_t)sent;
        } else if (errno != EINTR && (errno != EAGAIN || wait_for(fd, POLLOUT, deadline) != 0)) {
            return -1;
        }
    }
    return 0;
}

static int receive_all(int fd, void *bytes, size_t length, int64_t deadline)
{
    char *at = bytes;

    while (length > 0) {
        ssize_t got = recv(fd, at, length, 0);

        if (got > 0) {
            at += got;
            length -= (size_t)got;
        } else if (got == 0) {
            errno = EPROTO;
            return -1;
        } else if (errno != EINTR && (errno != EAGAIN || wait_for(fd, POLLIN, deadline) != 0)) {
            return -1;
        }
    }
    return 0;
}

static int converse(int fd, const char *request, size_t length, char *reply, size_t size, int64_t deadline)
{
    unsigned char head[4] = { (unsigned char)(length >> 24), (unsigned char)(length >> 16), (unsigned char)(length >> 8),
                              (unsigned char)length };
    uint32_t announced;

    if (send_all(fd, head, sizeof head, deadline) != 0 || send_all(fd, request, length, deadline) != 0)
        return -1;
    if (receive_all(fd, head, sizeof head, deadline) != 0)
        return -1;
    announced = (uint32_t)head[0] << 24 | (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];
    if (announced == 0 || announced > size) {
        errno = EPROTO;
        return -1;
    }
    return receive_all(fd, reply, announced, deadline) == 0 ? (int)announced : -1;
}

int web3_exchange(const char *path, const char *request, size_t length, char *reply, size_t size, int timeout_ms)
{
    int64_t deadline = now_ms() + timeout_ms;
    int fd = connect_to(path, deadline);
    int result, saved;

    if (fd < 0)
        return -1;
    result = converse(fd, request, length, reply, size, deadline);
    saved = errno;
    close(fd);
    errno = saved;
    return result;
}
