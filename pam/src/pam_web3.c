/*
 * pam_web3.so: signs a user in by a wallet. It decides nothing: web3-auth-svc makes the code, judges the signature and says who may
 * be whom; this shows what it is told, asks, passes the answer on, and returns PAM's code for the verdict.
 *
 *     auth  [success=done default=die]  pam_web3.so  [socket=/run/web3-auth/web3-auth.sock]
 */
#define PAM_SM_AUTH
#define PAM_SM_ACCOUNT

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include <security/pam_appl.h>
#include <security/pam_ext.h>
#include <security/pam_modules.h>

#include "exchange.h"
#include "reply.h"

#define EXPORT __attribute__((visibility("default")))

#define DEFAULT_SOCKET "/run/web3-auth/web3-auth.sock"
#define DEFAULT_PROMPT "Press Enter after signing in the browser, or paste the signature: "

enum {
    /* A cold start of the service on a slow machine. */
    CHALLENGE_TIMEOUT_MS = 20000,
    /* The service waits up to 30 s for the browser and 15 s for the chain; with the 300 s that a code lives, all stays below the
     * LoginGraceTime of etc/00-web3.conf. */
    VERIFY_TIMEOUT_MS = 50000,
    /* Signatures of contract wallets; sshd passes on 512 bytes. */
    MAX_ANSWER = 8192,
};

static const char *find_socket(pam_handle_t *pamh, int argc, const char **argv);
static int get_challenge(pam_handle_t *pamh, const char *path, struct web3_reply *reply);
static int ask_user(pam_handle_t *pamh, const struct web3_reply *challenge, char **answer);
static int verify(pam_handle_t *pamh, const char *path, const char *session, char *answer);
static int ask_service(pam_handle_t *pamh, const char *path, const char *request, int length, int timeout_ms, struct web3_reply *reply);
static int give_up(pam_handle_t *pamh);
static int refuse(pam_handle_t *pamh, const struct web3_reply *reply);

EXPORT int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    const char *path = find_socket(pamh, argc, argv);
    struct web3_reply reply;
    char *answer = NULL;
    int result;

    (void)flags;
    if (path == NULL)
        return PAM_SERVICE_ERR;
    result = get_challenge(pamh, path, &reply);
    if (result == PAM_SUCCESS)
        result = ask_user(pamh, &reply, &answer);
    if (result == PAM_SUCCESS)
        result = verify(pamh, path, reply.session, answer);
    if (answer != NULL) {
        explicit_bzero(answer, strlen(answer));
        free(answer);
    }
    return result;
}

EXPORT int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    (void)pamh, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}

/* Whether the account is locked or over is for the other modules of the account stack. */
EXPORT int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    (void)pamh, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}

static const char *find_socket(pam_handle_t *pamh, int argc, const char **argv)
{
    const char *path = DEFAULT_SOCKET;

    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "socket=/", 8) != 0) {
            pam_syslog(pamh, LOG_ERR, "unknown argument %.100s; only socket=/absolute/path is known", argv[i]);
            return NULL;
        }
        path = argv[i] + strlen("socket=");
    }
    return path;
}

/* Copies what may be anything; bytes that are not printable ASCII become question marks. */
static void copy_printable(char *out, size_t size, const char *text)
{
    size_t used = 0;

    for (; text != NULL && *text != '\0' && used + 1 < size; text++)
        out[used++] = *text >= 0x20 && *text <= 0x7e ? *text : '?';
    out[used] = '\0';
}

static void copy_item(pam_handle_t *pamh, int item, char *out, size_t size)
{
    const void *value = NULL;

    if (pam_get_item(pamh, item, &value) != PAM_SUCCESS)
        value = NULL;
    copy_printable(out, size, value);
}

static int get_challenge(pam_handle_t *pamh, const char *path, struct web3_reply *reply)
{
    char request[2048], service[128], rhost[256];
    const char *user = NULL;
    int length, result = pam_get_user(pamh, &user, NULL);

    if (result != PAM_SUCCESS)
        return result == PAM_CONV_AGAIN ? PAM_INCOMPLETE : result;
    if (user == NULL || *user == '\0')
        return PAM_USER_UNKNOWN;
    copy_item(pamh, PAM_SERVICE, service, sizeof service);
    copy_item(pamh, PAM_RHOST, rhost, sizeof rhost);
    struct web3_param params[] = { { "user", user }, { "service", service }, { "rhost", rhost } };
    length = web3_format_request(request, sizeof request, "challenge", params, 3);
    if (length < 0) { /* not replaced as above: another name might be one that exists */
        pam_syslog(pamh, LOG_NOTICE, "the user name is too long or not printable");
        return PAM_USER_UNKNOWN;
    }
    result = ask_service(pamh, path, request, length, CHALLENGE_TIMEOUT_MS, reply);
    if (result != PAM_SUCCESS)
        return result;
    if (!reply->success)
        return refuse(pamh, reply);
    if (reply->session[0] == '\0' || reply->prompt_text[0] == '\0') {
        pam_syslog(pamh, LOG_ERR, "web3-auth-svc sent no code");
        return give_up(pamh);
    }
    return PAM_SUCCESS;
}

static int ask_user(pam_handle_t *pamh, const struct web3_reply *challenge, char **answer)
{
    const char *prompt = challenge->prompt[0] == '\0' ? DEFAULT_PROMPT : challenge->prompt;

    if (pam_info(pamh, "%s", challenge->prompt_text) != PAM_SUCCESS)
        return PAM_CONV_ERR;
    if (pam_prompt(pamh, PAM_PROMPT_ECHO_OFF, answer, "%s", prompt) != PAM_SUCCESS || *answer == NULL)
        return PAM_CONV_ERR;
    return PAM_SUCCESS;
}

static int verify(pam_handle_t *pamh, const char *path, const char *session, char *answer)
{
    char request[2 * MAX_ANSWER + 256], printable[MAX_ANSWER + 1];
    struct web3_param params[] = { { "session", session }, { "answer", printable } };
    struct web3_reply reply;
    int length, result;

    if (strlen(answer) > MAX_ANSWER) {
        pam_syslog(pamh, LOG_NOTICE, "the answer is too long for a signature");
        (void)pam_error(pamh, "That is too long for a signature. Connect again.");
        return PAM_AUTH_ERR;
    }
    copy_printable(printable, sizeof printable, answer);
    length = web3_format_request(request, sizeof request, "verify", params, 2);
    result = length < 0 ? PAM_AUTH_ERR : ask_service(pamh, path, request, length, VERIFY_TIMEOUT_MS, &reply);
    explicit_bzero(printable, sizeof printable);
    explicit_bzero(request, sizeof request);
    if (result != PAM_SUCCESS)
        return result;
    return reply.success ? PAM_SUCCESS : refuse(pamh, &reply);
}

static int ask_service(pam_handle_t *pamh, const char *path, const char *request, int length, int timeout_ms, struct web3_reply *reply)
{
    char body[WEB3_REPLY_MAX];
    int got = web3_exchange(path, request, (size_t)length, body, sizeof body, timeout_ms);

    if (got >= 0 && web3_parse_reply(body, (size_t)got, reply) == 0)
        return PAM_SUCCESS;
    if (got < 0)
        pam_syslog(pamh, LOG_ERR, "web3-auth-svc at %s does not answer: %m", path);
    else
        pam_syslog(pamh, LOG_ERR, "web3-auth-svc at %s sent a malformed reply of %d bytes", path, got);
    return give_up(pamh);
}

/* The details are for the log; the person hears that the signature was not at fault. */
static int give_up(pam_handle_t *pamh)
{
    (void)pam_error(pamh, "This server can't sign anybody in at the moment. Try again in a minute.");
    return PAM_AUTHINFO_UNAVAIL;
}

static int refuse(pam_handle_t *pamh, const struct web3_reply *reply)
{
    if (reply->error[0] != '\0')
        (void)pam_error(pamh, "%s", reply->error); /* who does not hear it is refused all the same */
    switch (reply->reason) {
    case WEB3_USER_UNKNOWN:
        return PAM_USER_UNKNOWN;
    case WEB3_UNAVAILABLE:
        return PAM_AUTHINFO_UNAVAIL;
    case WEB3_TOO_MANY:
        return PAM_MAXTRIES;
    case WEB3_DENIED:
        break;
    }
    return PAM_AUTH_ERR;
}
