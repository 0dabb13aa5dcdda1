/* See bench.h. */
#include "tests/benchmarks/lib/bench.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/temp.h"

/* ---- Clock, failure, memory ---- */

double bench_now(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void bench_sleep(double seconds) {
    struct timespec left = {.tv_sec = (time_t)seconds};
    left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
    }
}

/* _exit: other threads may be in the middle of anything, so nobody's destructors run. */
void bench_die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)fflush(stdout);
    (void)fputs("benchmark: ", stderr);
    (void)vfprintf(stderr, format, arguments);
    (void)fputc('\n', stderr);
    va_end(arguments);
    _exit(1);
}

void *bench_alloc(size_t count, size_t bytes) {
    void *memory = calloc(count, bytes);
    if (memory == NULL) {
        bench_die("out of memory");
    }
    return memory;
}

char *bench_directory(const char *directory, const char *name) {
    char *path = temp_path(directory, name);
    if (mkdir(path, 0700) != 0) {
        bench_die("can't make the directory %s: %s", path, strerror(errno));
    }
    return path;
}

/* ---- The command line ---- */

static int usage(const char *program, const struct peer *const *peers, FILE *out) {
    (void)fprintf(out,
                  "Usage: %s [--quick] [--only PEER,...] [DIRECTORY]\n"
                  "  --quick   smaller numbers: shows that it works, not how fast it is\n"
                  "  --only    these peers alone, of:",
                  program);
    for (size_t i = 0; peers[i] != NULL; i++) {
        (void)fprintf(out, " %s", peers[i]->name);
    }
    (void)fputs(
        "\n  DIRECTORY where the stores are made, and removed at the end (default: the working directory)\n", out);
    return out == stdout ? 0 : 2;
}

/* Is `name` one of the comma-separated `list`? Counts it when it is. */
static bool is_listed(const char *list, const char *name, size_t *listed) {
    size_t bytes = strlen(name);
    for (const char *at = list; at != NULL; at = strchr(at, ','), at = at != NULL ? at + 1 : NULL) {
        if (strncmp(at, name, bytes) == 0 && (at[bytes] == ',' || at[bytes] == '\0')) {
            (*listed)++;
            return true;
        }
    }
    return false;
}

/* False: the list names something else than distinct peers. */
static bool choose_peers(struct bench *bench, const struct peer *const *peers, const char *only) {
    size_t listed = 0;
    size_t wanted = 1;
    for (size_t i = 0; peers[i] != NULL; i++) {
        if (only == NULL || is_listed(only, peers[i]->name, &listed)) {
            bench->peers[bench->peer_count++] = peers[i];
        }
    }
    for (const char *at = only; at != NULL && *at != '\0'; at++) {
        wanted += *at == ',';
    }
    return only == NULL || listed == wanted;
}

/* ---- The process that outlives the run ---- */

/* Waits for the run and passes on to it what would end this process. Returns an exit code. */
static int supervise(pid_t run, const sigset_t *signals) {
    int status = 0;
    while (waitpid(run, &status, WNOHANG) == 0) {
        int number = sigwaitinfo(signals, NULL);
        if (number > 0 && number != SIGCHLD) {
            (void)kill(run, number);
        }
    }
    if (WIFSIGNALED(status)) {
        (void)fprintf(stderr, "benchmark: ended by a signal: %s\n", strsignal(WTERMSIG(status)));
        return 1;
    }
    return WEXITSTATUS(status);
}

static int run_apart(const struct bench *bench, void (*run)(const struct bench *bench)) {
    sigset_t signals;
    sigset_t before;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGHUP);
    (void)sigaddset(&signals, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &signals, &before);
    (void)signal(SIGCHLD, SIG_DFL); /* where it is inherited as ignored, it would never come */
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        run(bench);
        (void)fflush(stdout);
        _exit(0);
    }
    int code = child < 0 ? 1 : supervise(child, &signals);
    if (child < 0) {
        perror("benchmark: fork");
    }
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    return code;
}

int bench_main(int argc, char **argv, const struct peer *const *peers, const char *usual,
               void (*run)(const struct bench *bench)) {
    static const struct option options[] = {{"quick", no_argument, NULL, 'q'},
                                            {"only", required_argument, NULL, 'o'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct bench bench = {0};
    const char *only = usual;
    for (int option = 0; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (option) {
        case 'q':
            bench.quick = true;
            break;
        case 'o':
            only = optarg;
            break;
        default:
            return usage(argv[0], peers, option == 'h' ? stdout : stderr);
        }
    }
    if (optind + 1 < argc || !choose_peers(&bench, peers, only)) {
        return usage(argv[0], peers, stderr);
    }
    const char *where = optind < argc ? argv[optind] : ".";
    if (access(where, W_OK | X_OK) != 0 || setenv("TEST_TMP", where, 1) != 0) {
        bench_die("can't make a directory in %s: %s", where, strerror(errno));
    }
    char *directory = temp_make();
    bench.directory = directory;
    int code = run_apart(&bench, run);
    temp_remove(directory);
    return code;
}
