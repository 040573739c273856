/* libFuzzer: whatever a service sends, parsing ends, stays in its bounds, and leaves texts that a terminal can be shown. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "reply.h"

static void check_text(const char *text, size_t size)
{
    size_t length = strnlen(text, size);

    if (length == size)
        abort();
    for (size_t i = 0; i < length; i++)
        if (((unsigned char)text[i] < 0x20 && text[i] != '\n') || text[i] == 0x7f)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct web3_reply reply;
    char request[512], value[64];
    struct web3_param params[] = { { "session", value } };

    if (web3_parse_reply((const char *)data, size, &reply) == 0) {
        check_text(reply.session, sizeof reply.session);
        check_text(reply.prompt_text, sizeof reply.prompt_text);
        check_text(reply.prompt, sizeof reply.prompt);
        check_text(reply.error, sizeof reply.error);
    }
    /* A request made of the same bytes is refused, or read back as an object. */
    memset(value, 0, sizeof value);
    memcpy(value, data, size < sizeof value - 1 ? size : sizeof value - 1);
    if (web3_format_request(request, sizeof request, "verify", params, 1) > (int)sizeof request)
        abort();
    return 0;
}
