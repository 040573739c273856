/* Unit tests of the parser and the exchange, run under ASan and UBSan by `make check`. */
#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "exchange.h"
#include "reply.h"

static int parse(const char *text, struct web3_reply *reply)
{
    /* On the heap without a zero byte behind it, so that ASan sees a step too far. */
    size_t length = strlen(text);
    char *copy = malloc(length == 0 ? 1 : length);
    int result;

    assert(copy != NULL);
    memcpy(copy, text, length);
    result = web3_parse_reply(copy, length, reply);
    free(copy);
    return result;
}

static void test_reads_what_the_service_sends(void)
{
    struct web3_reply r;

    assert(parse("{\"success\":true,\"session\":\"ab\",\"prompt_text\":\"\\nCode: X\\n\",\"prompt\":\"p\\u0041\\\"\"}", &r) == 0);
    assert(r.success && strcmp(r.session, "ab") == 0 && strcmp(r.prompt_text, "\nCode: X\n") == 0);
    assert(strcmp(r.prompt, "pA\"") == 0 && r.error[0] == '\0');
    assert(parse(" {\"x\":[{\"y\":[]},{},-0.5E+2,null,true],\"success\":false,\"reason\":\"too-many\",\"error\":\"\xc3\xbc\\ud83d\\ude00\"}\n", &r) == 0);
    assert(!r.success && r.reason == WEB3_TOO_MANY && strcmp(r.error, "\xc3\xbc\xf0\x9f\x98\x80") == 0);
    assert(parse("{\"success\":false,\"reason\":\"anything\"}", &r) == 0 && r.reason == WEB3_DENIED);
}

static void test_leaves_nothing_a_terminal_obeys(void)
{
    struct web3_reply r;

    assert(parse("{\"success\":true,\"error\":\"\\u001b[2J\\r\\t\\u009b\\u202e\\u007f|\\n\"}", &r) == 0);
    assert(strcmp(r.error, "?[2J?????|\n") == 0);
}

static void test_refuses_what_is_malformed(void)
{
    static const char *const wrong[] = {
        "", " ", "{", "}", "[]", "null", "true", "{}", "{\"success\":1}", "{\"success\":\"true\"}", "{\"success\":true",
        "{\"success\":true,}", "{\"success\":true} x", "{\"success\":true}{}", "{\"success\":true,\"success\":true}",
        "{\"success\":true,\"session\":\"a\",\"session\":\"b\"}", "{\"success\":true,\"session\":5}", "{success:true}",
        "{\"success\":true,\"error\":\"\\u0000\"}", "{\"success\":true,\"error\":\"\\ud800\"}", "{\"success\":true,\"error\":\"\\udc00\"}",
        "{\"success\":true,\"error\":\"\\ud800\\u0041\"}", "{\"success\":true,\"error\":\"\\x\"}", "{\"success\":true,\"error\":\"a\nb\"}",
        "{\"success\":true,\"error\":\"\xff\"}", "{\"success\":true,\"error\":\"\xc0\x80\"}", "{\"success\":true,\"error\":\"\xed\xa0\x80\"}",
        "{\"success\":true,\"error\":\"\xe2\x82", "{\"success\":true,\"a\":01}", "{\"success\":true,\"a\":1.}", "{\"success\":true,\"a\":1e}",
        "{\"success\":true,\"a\":-}", "{\"success\":true,\"a\":nul}", "{\"success\":true,\"a\":[1,]}", "{\"success\":true,\"a\":[[[[[[[[[1]]]]]]]]]}",
        "{\"success\":true,\"a\":\"\\", "{\"success\":true,\"a\":\"\\u12", "{\"success\" true}",
    };
    struct web3_reply r;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (parse(wrong[i], &r) != -1) {
            fprintf(stderr, "was taken: %s\n", wrong[i]);
            abort();
        }
}

static void test_bounds_every_text(void)
{
    char body[WEB3_REPLY_MAX + 1];
    struct web3_reply r;

    for (size_t length = 0; length < 70; length++) {
        int used = snprintf(body, sizeof body, "{\"success\":true,\"session\":\"%0*d\"}", (int)length + 1, 0);

        assert(used > 0 && parse(body, &r) == (length + 1 < sizeof r.session ? 0 : -1));
    }
    memset(body, ' ', sizeof body);
    memcpy(body, "{\"success\":true}", 16);
    assert(web3_parse_reply(body, WEB3_REPLY_MAX, &r) == 0);
    assert(web3_parse_reply(body, WEB3_REPLY_MAX + 1, &r) == -1);
}

static void test_requests_are_escaped_and_bounded(void)
{
    struct web3_param params[] = { { "user", "a\"b\\c" }, { "rhost", "" } };
    const char *expected = "{\"method\":\"challenge\",\"params\":{\"user\":\"a\\\"b\\\\c\",\"rhost\":\"\"}}";
    char out[128];
    int length = web3_format_request(out, sizeof out, "challenge", params, 2);

    assert(length == (int)strlen(expected) && memcmp(out, expected, (size_t)length) == 0);
    for (size_t size = 0; size < strlen(expected); size++)
        assert(web3_format_request(out, size, "challenge", params, 2) == -1);
    params[0].value = "new\nline";
    assert(web3_format_request(out, sizeof out, "challenge", params, 2) == -1);
    params[0].value = "\xc3\xbc";
    assert(web3_format_request(out, sizeof out, "challenge", params, 2) == -1);
}

/* A service that takes one connection, reads until it has `expect` bytes, and sends `reply` a byte at a time. */
struct server {
    int listener;
    size_t expect;
    const char *reply;
    size_t length;
    char got[256];
};

static void *serve(void *data)
{
    struct server *s = data;
    int fd = accept(s->listener, NULL, NULL);

    assert(fd >= 0);
    for (size_t at = 0; at < s->expect;) {
        ssize_t n = read(fd, s->got + at, sizeof s->got - at);

        assert(n > 0);
        at += (size_t)n;
    }
    for (size_t i = 0; i < s->length; i++)
        assert(write(fd, s->reply + i, 1) == 1);
    if (s->reply == NULL)
        while (read(fd, s->got, sizeof s->got) > 0)
            ; /* silent until the other side has enough of it */
    close(fd);
    return NULL;
}

static int exchange_with(const char *reply, size_t length, char *out, size_t size, int timeout_ms, struct server *s)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    char folder[] = "/tmp/pam-web3-XXXXXX";
    pthread_t thread;
    int result, saved;

    assert(mkdtemp(folder) != NULL);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", folder);
    *s = (struct server){ .listener = socket(AF_UNIX, SOCK_STREAM, 0), .expect = 9, .reply = reply, .length = length };
    assert(bind(s->listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(s->listener, 1) == 0);
    assert(pthread_create(&thread, NULL, serve, s) == 0);
    result = web3_exchange(address.sun_path, "hello", 5, out, size, timeout_ms);
    saved = errno;
    pthread_join(thread, NULL);
    close(s->listener);
    unlink(address.sun_path);
    rmdir(folder);
    errno = saved;
    return result;
}

static void test_exchanges_frames(void)
{
    struct server s;
    char out[16];

    assert(exchange_with("\0\0\0\3abc", 7, out, sizeof out, 5000, &s) == 3 && memcmp(out, "abc", 3) == 0);
    assert(memcmp(s.got, "\0\0\0\5hello", 9) == 0);
    assert(exchange_with("\0\0\0\20" "0123456789abcdef", 20, out, sizeof out, 5000, &s) == 16);
    assert(exchange_with("\0\0\0\21", 4, out, sizeof out, 5000, &s) == -1 && errno == EPROTO);
    assert(exchange_with("\377\377\377\377", 4, out, sizeof out, 5000, &s) == -1 && errno == EPROTO);
    assert(exchange_with("\0\0\0\0", 4, out, sizeof out, 5000, &s) == -1 && errno == EPROTO);
    assert(exchange_with("\0\0\0\5abc", 7, out, sizeof out, 5000, &s) == -1 && errno == EPROTO);
    assert(exchange_with("\0\0", 2, out, sizeof out, 5000, &s) == -1 && errno == EPROTO);
    assert(exchange_with(NULL, 0, out, sizeof out, 50, &s) == -1 && errno == ETIMEDOUT);
}

static void test_says_why_it_could_not_connect(void)
{
    char path[200], out[4];

    assert(web3_exchange("/nonexistent/s", "x", 1, out, sizeof out, 1000) == -1 && errno == ENOENT);
    memset(path, 'a', sizeof path);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    assert(web3_exchange(path, "x", 1, out, sizeof out, 1000) == -1 && errno == ENAMETOOLONG);
}

int main(void)
{
    test_reads_what_the_service_sends();
    test_leaves_nothing_a_terminal_obeys();
    test_refuses_what_is_malformed();
    test_bounds_every_text();
    test_requests_are_escaped_and_bounded();
    test_exchanges_frames();
    test_says_why_it_could_not_connect();
    puts("unit: all passed");
    return 0;
}
