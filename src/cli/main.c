/*
 * docdb, the program: sets the process up, parses, runs one command, and ends with its exit code.
 *
 * A reader of our stdout that goes away early (`docdb ls db | head -1`) ends us the way it ends every Unix tool, by
 * SIGPIPE and without a word, but only after the runtime was closed: SIGPIPE is ignored while we work, and raised
 * at the end. Where the caller ignores SIGPIPE it is an error like any other.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

/*
 * A descriptor 0, 1 or 2 that the caller closed would be given to the next file that we open: a WAL, into which our
 * output would then go. So each is made something that fails instead: reading a write-only /dev/null, and the
 * reverse.
 */
static void standard_files_init(void) {
    for (int file = STDIN_FILENO; file <= STDERR_FILENO; file++) {
        if (fcntl(file, F_GETFD) == -1 && errno == EBADF) {
            int null = open("/dev/null", file == STDIN_FILENO ? O_WRONLY : O_RDONLY);
            if (null != file) {
                _exit(EXIT_CODE_FAILED); /* there is no place to say so */
            }
        }
    }
}

static bool sigpipe_ignore(void) {
    struct sigaction old;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    return sigaction(SIGPIPE, &ignore, &old) == 0 && old.sa_handler == SIG_DFL;
}

static void sigpipe_raise(void) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    (void)sigaction(SIGPIPE, &standard, NULL);
    (void)raise(SIGPIPE);
}

int main(int argc, char **argv) {
    standard_files_init();
    bool pipe_kills = sigpipe_ignore();
    struct detail detail = {0};
    mutex_init(&detail.mutex);
    struct cli cli = {.program = argc > 0 ? argv[0] : "docdb", .detail = &detail};
    int code = parse_arguments(&cli, argc, argv);
    if (code == EXIT_CODE_OK) {
        code = cli.command->run(&cli);
    }
    (void)runtime_close(&cli);
    char text[DETAIL_BYTES];
    if (code == EXIT_CODE_OK && report_take_detail(&detail, text, sizeof text)) {
        (void)report(&cli, 0, "warning: %s", text); /* what was asked for was done in spite of it */
    }
    int output_code = output_finish(&cli);
    if (cli.output_errno == EPIPE && pipe_kills) {
        sigpipe_raise();
    }
    if (output_code != EXIT_CODE_OK) {
        (void)report(&cli, output_code, "can't write to stdout: %s", strerror(cli.output_errno));
    }
    return code != EXIT_CODE_OK ? code : output_code;
}
