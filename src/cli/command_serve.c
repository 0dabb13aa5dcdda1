/*
 * `docdb serve`: a data directory on a socket, as a mount, or both, until a signal.
 *
 * The happy path: block the signals; open the runtime (which recovers); mount; listen; print three lines on stdout;
 * wait for a signal; stop listening, unmount, close the runtime with a checkpoint; exit 0.
 *
 * How it fails: each step says what is wrong, and what was started before it is stopped again. Where FUSE can't be
 * used and there is a socket, that is a warning. A second signal while it shuts down ends the process at once,
 * which loses nothing that was acknowledged: the next start replays more and clears the mount.
 *
 * Signals are blocked before the first thread starts and taken by sigwait on the main thread, so no handler runs
 * while serving.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "cli/cli.h"
#include "fuse/mount.h"
#include "server/server.h"

#define DIRECTORY_MODE        0755
#define SOCKET_PATH_BYTES_MAX 107 /* sockaddr_un, without its NUL */

/* ---- Log ---- */

static void log_line(void *arg, docdb_log_level level, const char *line) {
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    char time[OUTPUT_TIME_BYTES];
    (void)arg;
    if (level > DOCDB_LOG_INFO) {
        return;
    }
    /* One call a line: stderr is unbuffered, so a line is one write, whichever thread it comes from. */
    (void)fprintf(stderr, "%s %-7s %s\n", output_time(os_realtime_ns(docdb_os_default()), 3, time), levels[level],
                  line);
}

static const struct log serve_log = {.fn = log_line};

/* ---- Paths ---- */

/* The path as another process can use it: without symbolic links in its directory, which must exist; the last
 * component need not, and is not looked at, since looking at a stale mount fails. */
static int resolve(const struct cli *cli, const char *what, const char *path, char out[PATH_MAX]) {
    char for_directory[PATH_MAX];
    char for_name[PATH_MAX];
    if (strlen(path) >= PATH_MAX) {
        return report(cli, EXIT_CODE_USAGE, "the path of the %s is too long", what);
    }
    (void)snprintf(for_directory, sizeof for_directory, "%s", path);
    (void)snprintf(for_name, sizeof for_name, "%s", path);
    const char *directory = dirname(for_directory);
    const char *name = basename(for_name);
    char real[PATH_MAX];
    char escaped[1024];
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "/") == 0) {
        directory = path;
        name = "";
    }
    if (realpath(directory, real) == NULL) {
        int code = errno == EACCES ? EXIT_CODE_PERMISSION : EXIT_CODE_NOT_FOUND;
        return report(cli, code, "can't use %s as the %s: the directory it is to be in can't be reached: %s",
                      output_escape(path, escaped, sizeof escaped), what, strerror(errno));
    }
    const char *slash = name[0] == '\0' || strcmp(real, "/") == 0 ? "" : "/";
    if (snprintf(out, PATH_MAX, "%s%s%s", real, slash, name) >= PATH_MAX) {
        return report(cli, EXIT_CODE_USAGE, "the path of the %s is too long", what);
    }
    return EXIT_CODE_OK;
}

/* Is `inner` the directory `outer`, or in it? */
static bool is_within(const char *inner, const char *outer) {
    size_t bytes = strlen(outer);
    return strncmp(inner, outer, bytes) == 0 &&
           (inner[bytes] == '\0' || inner[bytes] == '/' || outer[bytes - 1] == '/');
}

/* What to serve and where, with every path resolved. */
struct places {
    char data_dir[PATH_MAX];
    char socket[PATH_MAX]; /* "": none */
    char mount[PATH_MAX];  /* "": none */
};

static int places_check(const struct cli *cli, const struct places *places) {
    if (places->mount[0] == '\0') {
        return EXIT_CODE_OK;
    }
    /* Each would have the server wait for itself. */
    if (is_within(places->mount, places->data_dir) || is_within(places->data_dir, places->mount)) {
        return report(cli, EXIT_CODE_USAGE,
                      "the mount point can't be in the data directory, nor the data directory in it: %s",
                      places->mount);
    }
    if (places->socket[0] != '\0' && is_within(places->socket, places->mount)) {
        return report(cli, EXIT_CODE_USAGE, "the socket can't be in the mount: %s", places->socket);
    }
    return EXIT_CODE_OK;
}

static int places_resolve(const struct cli *cli, struct places *out) {
    const char *mount = cli->options[OPTION_MOUNT].text;
    if (cli->data_dir == NULL) {
        return report(cli, EXIT_CODE_USAGE, "where is the data? give --data-dir DIR; it is created when missing");
    }
    if (cli->socket == NULL && mount == NULL) {
        return report(cli, EXIT_CODE_USAGE, "nothing to serve on: give --socket PATH, --mount DIR, or both");
    }
    *out = (struct places){0};
    int code = resolve(cli, "data directory", cli->data_dir, out->data_dir);
    if (code == EXIT_CODE_OK && cli->socket != NULL) {
        code = resolve(cli, "socket", cli->socket, out->socket);
    }
    if (code == EXIT_CODE_OK && mount != NULL) {
        code = resolve(cli, "mount point", mount, out->mount);
    }
    return code == EXIT_CODE_OK ? places_check(cli, out) : code;
}

/* ---- Signals ---- */

static void signals_block(sigset_t *set) {
    struct sigaction hangup;
    (void)sigemptyset(set);
    (void)sigaddset(set, SIGINT);
    (void)sigaddset(set, SIGTERM);
    /* nohup asks to outlive the terminal. */
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) {
        (void)sigaddset(set, SIGHUP);
    }
    (void)pthread_sigmask(SIG_BLOCK, set, NULL);
}

static void exit_at_once(int number) { _exit(128 + number); }

/* From now on a signal of the set ends the process. */
static void signals_unblock(const sigset_t *set) {
    struct sigaction action = {.sa_handler = exit_at_once};
    (void)sigemptyset(&action.sa_mask);
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (sigismember(set, numbers[i]) == 1) {
            (void)sigaction(numbers[i], &action, NULL);
        }
    }
    (void)pthread_sigmask(SIG_UNBLOCK, set, NULL);
}

static void signals_wait(const sigset_t *set) {
    int number = 0;
    while (sigwait(set, &number) != 0) {
    }
    log_info(&serve_log, "SIG%s: shutting down", sigabbrev_np(number));
    signals_unblock(set);
}

/* ---- The three lines ---- */

/* For pasting into a shell: quoted where a shell would see more than a plain word. */
static const char *shell_word(const char *path, char *buffer, size_t bytes) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+,:@%";
    size_t at = 0;
    if (strspn(path, plain) == strlen(path)) {
        return path;
    }
    buffer[at++] = '\'';
    for (; *path != '\0' && at + 6 < bytes; path++) {
        if (*path == '\'') {
            memcpy(buffer + at, "'\\''", 4);
            at += 4;
        } else {
            buffer[at++] = *path;
        }
    }
    buffer[at++] = '\'';
    buffer[at] = '\0';
    return buffer;
}

/* How another terminal, in another directory, calls this program. */
static void program_path(const char *program, char out[PATH_MAX]) {
    char directory[PATH_MAX];
    bool here = strchr(program, '/') != NULL && program[0] != '/' && getcwd(directory, sizeof directory) != NULL;
    program += strncmp(program, "./", 2) == 0 ? 2 : 0;
    if (snprintf(out, PATH_MAX, "%s%s%s", here ? directory : "", here ? "/" : "", program) >= PATH_MAX) {
        (void)snprintf(out, PATH_MAX, "docdb");
    }
}

static void print_ready(struct cli *cli, const struct places *places, bool mounted) {
    char path[PATH_MAX];
    char word[3][PATH_MAX * 2];
    program_path(cli->program, path);
    const char *program = shell_word(path, word[0], sizeof word[0]);
    const char *mount = shell_word(places->mount, word[1], sizeof word[1]);
    /* The whole path is for other directories' sake, but a socket's may be too long to be used. */
    const char *unquoted = strlen(places->socket) <= SOCKET_PATH_BYTES_MAX ? places->socket : cli->socket;
    const char *socket = shell_word(unquoted, word[2], sizeof word[2]);
    if (mounted) {
        output_printf(cli, "mount:   cd %s && mkdir -p demo && echo hello > demo/1 && cat demo/1 && ls -l demo\n",
                      mount);
    } else {
        output_printf(cli, "mount:   none (--mount DIR mounts the databases as directories of files)\n");
    }
    if (places->socket[0] != '\0') {
        output_printf(cli,
                      "command: export DOCDB_SOCKET=%s; echo hello | %s put --create-db demo 1; %s read demo 1\n",
                      socket, program, program);
        output_printf(cli,
                      "socket:  docdb_open(\"unix:%s\", NULL, &docdb, NULL), as examples/c/quick_start.c does\n",
                      unquoted);
    } else {
        output_printf(cli, "command: none (--socket PATH lets `docdb` commands and programs use the databases)\n");
        output_printf(cli, "socket:  none\n");
    }
    if (output_finish(cli) != EXIT_CODE_OK) {
        cli->output_errno = 0; /* nobody reads them: no reason to end */
    }
}

/* ---- Serving ---- */

struct service {
    struct cli *cli;
    struct places places;
    struct mount *mount;
    struct server *server;
};

static int open_runtime(struct service *service) {
    struct cli *cli = service->cli;
    docdb_options options = {
        .max_doc_bytes = cli->options[OPTION_MAX_DOC_SIZE].number,
        .max_txn_bytes = cli->options[OPTION_MAX_TXN_BYTES].number,
        .txn_timeout_ms = (uint32_t)cli->options[OPTION_TXN_TIMEOUT].number,
        .wal_limit_bytes = cli->options[OPTION_WAL_LIMIT].number,
        .memory_bytes = cli->options[OPTION_MEMORY].number,
        .log = log_line,
    };
    docdb_error error = {0};
    int status = docdb_open(service->places.data_dir, &options, &cli->runtime, &error);
    return status == DOCDB_OK ? EXIT_CODE_OK : report(cli, report_exit_code(status), "%s", error.message);
}

/* Creates the mount point when it is missing. What is there already is mount_start's to judge. */
static int create_mount_point(const struct service *service) {
    if (mkdir(service->places.mount, DIRECTORY_MODE) == 0 || errno == EEXIST) {
        return EXIT_CODE_OK;
    }
    int code = errno == EACCES || errno == EROFS ? EXIT_CODE_PERMISSION : EXIT_CODE_FAILED;
    return report(service->cli, code, "can't create the mount point %s: %s", service->places.mount,
                  strerror(errno));
}

static int start_mount(struct service *service) {
    docdb_error error = {0};
    if (service->places.mount[0] == '\0') {
        return EXIT_CODE_OK;
    }
    int status = mount_possible(&error);
    if (status == DOCDB_OK) {
        int code = create_mount_point(service);
        if (code != EXIT_CODE_OK) {
            return code;
        }
        struct mount_options options = {
            .mount_point = service->places.mount,
            .data_dir = service->places.data_dir,
            .log = log_line,
        };
        status = mount_start(service->cli->runtime, &options, &service->mount, &error);
    }
    if (status == DOCDB_OK) {
        return EXIT_CODE_OK;
    }
    bool no_fuse = service->mount == NULL && (status == DOCDB_ERR_UNSUPPORTED || mount_possible(NULL) != DOCDB_OK);
    if (no_fuse && service->places.socket[0] != '\0') {
        log_warning(&serve_log, "no mount, serving the socket alone: %s", error.message);
        return EXIT_CODE_OK;
    }
    return report(service->cli, report_exit_code(status), "%s", error.message);
}

static int start_server(struct service *service) {
    docdb_error error = {0};
    if (service->places.socket[0] == '\0') {
        return EXIT_CODE_OK;
    }
    struct server_options options = {
        .socket_path = service->cli->socket,
        .socket_mode = (unsigned)service->cli->options[OPTION_SOCKET_MODE].number,
        .log = log_line,
    };
    int status = server_start(service->cli->runtime, &options, &service->server, &error);
    return status == DOCDB_OK ? EXIT_CODE_OK : report(service->cli, report_exit_code(status), "%s", error.message);
}

/* Undoes what was started, in the reverse order. */
static int service_stop(struct service *service) {
    if (service->server != NULL) {
        server_stop(service->server);
    }
    if (service->mount != NULL) {
        mount_stop(service->mount);
    }
    return runtime_close(service->cli);
}

static int service_start(struct service *service) {
    int code = open_runtime(service);
    if (code == EXIT_CODE_OK) {
        code = start_mount(service);
    }
    if (code == EXIT_CODE_OK) {
        code = start_server(service);
    }
    return code;
}

int command_serve(struct cli *cli) {
    struct service service = {.cli = cli};
    sigset_t signals;
    int code = places_resolve(cli, &service.places);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    signals_block(&signals);
    code = service_start(&service);
    if (code == EXIT_CODE_OK) {
        log_info(&serve_log, "docdb %s serves %s", docdb_version(), service.places.data_dir);
        print_ready(cli, &service.places, service.mount != NULL);
        signals_wait(&signals);
    }
    int status = service_stop(&service);
    if (code == EXIT_CODE_OK) {
        /* Without room for a checkpoint the next start replays more; that is no failure of this run. */
        code = status == DOCDB_ERR_NO_SPACE ? EXIT_CODE_OK : report_exit_code(status);
        log_info(&serve_log, "stopped");
    }
    return code;
}
