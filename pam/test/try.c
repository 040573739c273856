/* try CONFDIR SERVICE USER RHOST: authenticates through the real libpam. Messages go to standard output, a line `prompt: …` before
 * each answer, which is read from standard input; the last line is `result: PAM_…`. */
#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
    struct pam_response *made = calloc((size_t)count, sizeof *made);

    (void)data;
    if (made == NULL)
        return PAM_BUF_ERR;
    for (int i = 0; i < count; i++) {
        char *line = NULL;
        size_t size = 0;
        ssize_t length;

        if (messages[i]->msg_style == PAM_TEXT_INFO || messages[i]->msg_style == PAM_ERROR_MSG) {
            printf("%s: %s\n", messages[i]->msg_style == PAM_TEXT_INFO ? "info" : "error", messages[i]->msg);
            continue;
        }
        printf("prompt: %s\n", messages[i]->msg);
        fflush(stdout);
        length = getline(&line, &size, stdin);
        if (length < 0) {
            free(line);
            free(made);
            return PAM_CONV_ERR;
        }
        if (length > 0 && line[length - 1] == '\n')
            line[length - 1] = '\0';
        made[i].resp = line;
    }
    *responses = made;
    return PAM_SUCCESS;
}

static const char *name_of(int code)
{
    static const struct { int code; const char *name; } names[] = {
        { PAM_SUCCESS, "PAM_SUCCESS" }, { PAM_AUTH_ERR, "PAM_AUTH_ERR" }, { PAM_USER_UNKNOWN, "PAM_USER_UNKNOWN" },
        { PAM_AUTHINFO_UNAVAIL, "PAM_AUTHINFO_UNAVAIL" }, { PAM_MAXTRIES, "PAM_MAXTRIES" }, { PAM_CONV_ERR, "PAM_CONV_ERR" },
        { PAM_SERVICE_ERR, "PAM_SERVICE_ERR" },
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].code == code)
            return names[i].name;
    return "another";
}

int main(int argc, char **argv)
{
    struct pam_conv conversation = { converse, NULL };
    pam_handle_t *pamh = NULL;
    int result;

    if (argc != 5)
        return 2;
    result = pam_start_confdir(argv[2], argv[3], &conversation, argv[1], &pamh);
    if (result == PAM_SUCCESS)
        result = pam_set_item(pamh, PAM_RHOST, argv[4]);
    if (result == PAM_SUCCESS)
        result = pam_authenticate(pamh, 0);
    printf("result: %s\n", name_of(result));
    pam_end(pamh, result);
    return result == PAM_SUCCESS ? 0 : 1;
}
