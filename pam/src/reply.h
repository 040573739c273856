/* What is said to web3-auth-svc and what it answers: JSON, bounded and strict. No allocation, no I/O: fuzzed by test/fuzz_reply.c. */
#ifndef WEB3_REPLY_H
#define WEB3_REPLY_H

#include <stdbool.h>
#include <stddef.h>

/* Longest reply taken, bytes. */
#define WEB3_REPLY_MAX 16384

/* Why the service refused. */
enum web3_reason { WEB3_DENIED, WEB3_USER_UNKNOWN, WEB3_UNAVAILABLE, WEB3_TOO_MANY };

/* A reply. Texts end with a zero byte and are fit for a terminal: of control characters only line feeds are left. */
struct web3_reply {
    bool success;
    enum web3_reason reason;
    char session[64];
    char prompt_text[2048];
    char prompt[256];
    char error[512];
};

/*
 * Parses a reply: one JSON object (RFC 8259) with nothing behind it, nested at most eight deep, with `success`. Unknown members
 * are read over. Returns 0, or -1 when it is malformed, names a member twice, or holds a text that is too long.
 */
int web3_parse_reply(const char *body, size_t length, struct web3_reply *reply);

/* A member of a request. */
struct web3_param {
    const char *name;
    const char *value;
};

/*
 * Writes `{"method":…,"params":{…}}` without a zero byte. Values must be printable ASCII. Returns the length, or -1 when a value is
 * not, or `size` is too small.
 */
int web3_format_request(char *out, size_t size, const char *method, const struct web3_param *params, size_t count);

#endif
