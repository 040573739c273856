/* One request and its reply over a Unix socket: u32 big-endian length, then that many bytes, both ways. */
#ifndef WEB3_EXCHANGE_H
#define WEB3_EXCHANGE_H

#include <stddef.h>

/*
 * Connects to `path`, sends `request`, reads the reply. Never waits longer than `timeout_ms` (monotonic clock) over all.
 * Returns the reply's length; -1 with errno: ETIMEDOUT, EPROTO (no reply, or longer than `size`), ENAMETOOLONG, or connect(2)'s.
 */
int web3_exchange(const char *path, const char *request, size_t length, char *reply, size_t size, int timeout_ms);

#endif
