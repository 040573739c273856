#include "reply.h"

#include <stdint.h>
#include <string.h>

enum { MAX_DEPTH = 8, MAX_NAME = 32 };

struct reader {
    const unsigned char *at;
    const unsigned char *end;
};

/* A member that is kept: its text goes to `out`. */
struct member {
    const char *name;
    char *out;
    size_t size;
    bool seen;
};

static int read_value(struct reader *r, int depth);
static int read_string(struct reader *r, char *out, size_t size);
static int read_bool(struct reader *r, bool *out);
static void skip_blanks(struct reader *r);
static bool take(struct reader *r, unsigned char c);
static int read_members(struct reader *r, struct web3_reply *reply, struct member *members, size_t count, bool *has_success);
static enum web3_reason reason_of(const char *text);

int web3_parse_reply(const char *body, size_t length, struct web3_reply *reply)
{
    struct reader r = { (const unsigned char *)body, (const unsigned char *)body + length };
    char reason[32] = "";
    struct member members[] = {
        { "session", reply->session, sizeof reply->session, false },
        { "prompt_text", reply->prompt_text, sizeof reply->prompt_text, false },
        { "prompt", reply->prompt, sizeof reply->prompt, false },
        { "error", reply->error, sizeof reply->error, false },
        { "reason", reason, sizeof reason, false },
    };
    bool has_success = false;

    memset(reply, 0, sizeof *reply);
    if (length > WEB3_REPLY_MAX)
        return -1;
    if (read_members(&r, reply, members, sizeof members / sizeof members[0], &has_success) != 0)
        return -1;
    skip_blanks(&r);
    if (r.at != r.end || !has_success)
        return -1;
    reply->reason = reason_of(reason);
    return 0;
}

static enum web3_reason reason_of(const char *text)
{
    if (strcmp(text, "user-unknown") == 0)
        return WEB3_USER_UNKNOWN;
    if (strcmp(text, "unavailable") == 0)
        return WEB3_UNAVAILABLE;
    return strcmp(text, "too-many") == 0 ? WEB3_TOO_MANY : WEB3_DENIED;
}

static int read_members(struct reader *r, struct web3_reply *reply, struct member *members, size_t count, bool *has_success)
{
    char name[MAX_NAME];

    skip_blanks(r);
    if (!take(r, '{'))
        return -1;
    skip_blanks(r);
    if (take(r, '}'))
        return 0;
    do {
        struct member *known = NULL;

        skip_blanks(r);
        if (read_string(r, name, sizeof name) != 0)
            return -1;
        skip_blanks(r);
        if (!take(r, ':'))
            return -1;
        skip_blanks(r);
        for (size_t i = 0; i < count; i++)
            if (strcmp(name, members[i].name) == 0)
                known = &members[i];
        if (strcmp(name, "success") == 0) {
            if (*has_success || read_bool(r, &reply->success) != 0)
                return -1;
            *has_success = true;
        } else if (known != NULL) {
            if (known->seen || read_string(r, known->out, known->size) != 0)
                return -1;
            known->seen = true;
        } else if (read_value(r, 1) != 0) {
            return -1;
        }
        skip_blanks(r);
    } while (take(r, ','));
    return take(r, '}') ? 0 : -1;
}

static void skip_blanks(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
        r->at++;
}

static bool take(struct reader *r, unsigned char c)
{
    if (r->at >= r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

static bool take_word(struct reader *r, const char *word)
{
    size_t length = strlen(word);

    if ((size_t)(r->end - r->at) < length || memcmp(r->at, word, length) != 0)
        return false;
    r->at += length;
    return true;
}

static int read_bool(struct reader *r, bool *out)
{
    *out = take_word(r, "true");
    return *out || take_word(r, "false") ? 0 : -1;
}

static int read_hex4(struct reader *r, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char c = r->at < r->end ? *r->at++ : 0;

        if (c >= '0' && c <= '9')
            *out = *out << 4 | (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            *out = *out << 4 | (uint32_t)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            *out = *out << 4 | (uint32_t)(c - 'A' + 10);
        else
            return -1;
    }
    return 0;
}

/* Reads what follows a backslash. Surrogates come in pairs; a zero byte would cut the text short. */
static int read_escape(struct reader *r, uint32_t *out)
{
    static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    unsigned char c = r->at < r->end ? *r->at++ : 0;
    const char *found = c == 0 ? NULL : strchr(letters, c);
    uint32_t low;

    if (found != NULL) {
        *out = (unsigned char)values[found - letters];
        return 0;
    }
    if (c != 'u' || read_hex4(r, out) != 0 || *out == 0 || (*out >= 0xdc00 && *out <= 0xdfff))
        return -1;
    if (*out < 0xd800 || *out > 0xdbff)
        return 0;
    if (!take(r, '\\') || !take(r, 'u') || read_hex4(r, &low) != 0 || low < 0xdc00 || low > 0xdfff)
        return -1;
    *out = 0x10000 + ((*out - 0xd800) << 10) + (low - 0xdc00);
    return 0;
}

/* Bytes of a sequence that begins with `first`, 0 when none does (RFC 3629). */
static int sequence_length(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first <= 0xdf)
        return 2;
    if (first >= 0xe0 && first <= 0xef)
        return 3;
    return first >= 0xf0 && first <= 0xf4 ? 4 : 0;
}

static int read_utf8(struct reader *r, uint32_t *out)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    int length = sequence_length(*r->at);

    if (length == 0 || r->end - r->at < length)
        return -1;
    *out = length == 1 ? *r->at : *r->at & (0x7fu >> length);
    for (int i = 1; i < length; i++) {
        if ((r->at[i] & 0xc0) != 0x80)
            return -1;
        *out = *out << 6 | (r->at[i] & 0x3f);
    }
    if (*out < least[length] || *out > 0x10ffff || (*out >= 0xd800 && *out <= 0xdfff))
        return -1;
    r->at += length;
    return 0;
}

static size_t write_utf8(uint32_t c, unsigned char bytes[4])
{
    if (c < 0x80) {
        bytes[0] = (unsigned char)c;
        return 1;
    }
    if (c < 0x800) {
        bytes[0] = (unsigned char)(0xc0 | c >> 6);
        bytes[1] = (unsigned char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        bytes[0] = (unsigned char)(0xe0 | c >> 12);
        bytes[1] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
        bytes[2] = (unsigned char)(0x80 | (c & 0x3f));
        return 3;
    }
    bytes[0] = (unsigned char)(0xf0 | c >> 18);
    bytes[1] = (unsigned char)(0x80 | (c >> 12 & 0x3f));
    bytes[2] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
    bytes[3] = (unsigned char)(0x80 | (c & 0x3f));
    return 4;
}

/* A terminal obeys these: C0 but the line feed, DEL, C1, and marks that turn the direction of text. */
static bool is_control(uint32_t c)
{
    return (c < 0x20 && c != '\n') || (c >= 0x7f && c <= 0x9f) || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/* Reads a string into `out`, zero byte included; with `out` NULL it is only checked. */
static int read_string(struct reader *r, char *out, size_t size)
{
    size_t used = 0;

    if (!take(r, '"'))
        return -1;
    while (r->at < r->end) {
        unsigned char bytes[4];
        uint32_t c;
        size_t length;

        if (take(r, '"')) {
            if (out != NULL)
                out[used] = '\0';
            return 0;
        }
        if (*r->at < 0x20 || (take(r, '\\') ? read_escape(r, &c) : read_utf8(r, &c)) != 0)
            return -1;
        length = write_utf8(is_control(c) ? '?' : c, bytes);
        if (out == NULL)
            continue;
        if (used + length >= size)
            return -1;
        memcpy(out + used, bytes, length);
        used += length;
    }
    return -1;
}

static int read_digits(struct reader *r)
{
    const unsigned char *start = r->at;

    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
    return r->at > start ? 0 : -1;
}

static int read_number(struct reader *r)
{
    (void)take(r, '-');
    if (!take(r, '0') && read_digits(r) != 0)
        return -1;
    if (take(r, '.') && read_digits(r) != 0)
        return -1;
    if (!take(r, 'e') && !take(r, 'E'))
        return 0;
    if (!take(r, '+'))
        (void)take(r, '-');
    return read_digits(r);
}

/* Reads over a list, or an object when `named`. */
static int read_list(struct reader *r, unsigned char close, bool named, int depth)
{
    skip_blanks(r);
    if (take(r, close))
        return 0;
    do {
        skip_blanks(r);
        if (named) {
            if (read_string(r, NULL, 0) != 0)
                return -1;
            skip_blanks(r);
            if (!take(r, ':'))
                return -1;
            skip_blanks(r);
        }
        if (read_value(r, depth + 1) != 0)
            return -1;
        skip_blanks(r);
    } while (take(r, ','));
    return take(r, close) ? 0 : -1;
}

static int read_value(struct reader *r, int depth)
{
    if (depth > MAX_DEPTH || r->at >= r->end)
        return -1;
    if (*r->at == '"')
        return read_string(r, NULL, 0);
    if (take(r, '{'))
        return read_list(r, '}', true, depth);
    if (take(r, '['))
        return read_list(r, ']', false, depth);
    if (take_word(r, "true") || take_word(r, "false") || take_word(r, "null"))
        return 0;
    return read_number(r);
}

/* Appends; returns the new length, or -1 when there is no room. `used` of -1 stays. */
static int append(char *out, size_t size, int used, const char *text, bool escape)
{
    for (; used >= 0 && *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        bool special = escape && (c == '"' || c == '\\');

        if ((escape && (c < 0x20 || c > 0x7e)) || (size_t)used + (special ? 2 : 1) > size)
            return -1;
        if (special)
            out[used++] = '\\';
        out[used++] = (char)c;
    }
    return used;
}

int web3_format_request(char *out, size_t size, const char *method, const struct web3_param *params, size_t count)
{
    int used = append(out, size, 0, "{\"method\":\"", false);

    used = append(out, size, used, method, true);
    used = append(out, size, used, "\",\"params\":{", false);
    for (size_t i = 0; i < count; i++) {
        used = append(out, size, used, i == 0 ? "\"" : ",\"", false);
        used = append(out, size, used, params[i].name, true);
        used = append(out, size, used, "\":\"", false);
        used = append(out, size, used, params[i].value, true);
        used = append(out, size, used, "\"", false);
    }
    return append(out, size, used, "}}", false);
}
