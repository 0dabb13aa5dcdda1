# shellcheck shell=bash
# For tests written in bash that drive the real program: `. "$(dirname "$0")/../lib/server.sh"`.
#
# It finds the program and a scratch directory, starts and ends servers, and cleans up whatever the test did, however it
# ends: it kills the processes it started (by pid, never by name), unmounts what they mounted, and removes its scratch.
#
#   server_start [OPTION...]      a server on $SERVER_DATA and $SERVER_SOCKET; returns when it is ready
#   server_start_mounted          the same with a mount at $SERVER_MOUNT (options: in the array SERVER_OPTIONS)
#   server_run COMMAND...         the same with a whole command line of one's own
#   server_stop                   SIGTERM; fails the test unless it exits 0
#   server_kill                   kill -9
#   server_output                 what it wrote to stdout and stderr
#   both_ways FUNCTION            runs FUNCTION twice, where `docdb ...` works embedded and then over a socket
#
# Calling server_start after server_stop or server_kill serves the same data directory again. Set SERVER_DATA,
# SERVER_SOCKET or SERVER_MOUNT before to use others. SERVER_PID is the server's.
#
# No wait here is a timing assertion: the bound (WAIT_SECONDS) is only there so that a test that hangs fails with a reason.
set -u

WAIT_SECONDS=${WAIT_SECONDS:-60}
owned_pids=()
owned_mounts=()
owned_directories=()

fail() {
    echo "FAIL${MODE:+ ($MODE)}: $*" >&2
    local i
    for ((i = 1; i < ${#BASH_SOURCE[@]}; i++)); do
        [ "${BASH_SOURCE[$i]}" = "${BASH_SOURCE[0]}" ] ||
            echo "  at line ${BASH_LINENO[$((i - 1))]} of ${BASH_SOURCE[$i]##*/}, in ${FUNCNAME[$i]}" >&2
    done
    if [ -n "${SERVER_PID:-}" ] && [ -s "${SERVER_STDERR:-}" ]; then
        echo "  the server's stderr ends:" >&2
        tail -n 20 "$SERVER_STDERR" | sed 's/^/    /' >&2
    fi
    exit 1
}

# check_equal EXPECTED ACTUAL WHAT
check_equal() {
    [ "$1" = "$2" ] || fail "$3: expected '$1', got '$2'"
}

# check_same_file EXPECTED ACTUAL WHAT: byte for byte.
check_same_file() {
    cmp "$1" "$2" >&2 || fail "$3: $1 and $2 differ"
}

# check_contains TEXT PART WHAT
check_contains() {
    case $1 in
    *"$2"*) ;;
    *) fail "$3: '$2' is not in: $1" ;;
    esac
}

# check_exit EXPECTED COMMAND...: runs it and compares its exit code. Leaves its stdout in $TEST_TMP/stdout, its stderr in
# $TEST_TMP/stderr.
check_exit() {
    local expected=$1 status=0
    shift
    "$@" >"$TEST_TMP/stdout" 2>"$TEST_TMP/stderr" || status=$?
    [ "$status" -eq "$expected" ] ||
        fail "exit code $status instead of $expected of: $*; its stderr: $(cat "$TEST_TMP/stderr")"
}

# check_error EXPECTED PART COMMAND...: it fails with that exit code, says so in one line on stderr that holds PART, and prints
# nothing else.
check_error() {
    local expected=$1 part=$2
    shift 2
    check_exit "$expected" "$@"
    check_equal 1 "$(wc -l <"$TEST_TMP/stderr")" "lines on stderr of: $*; which are: $(cat "$TEST_TMP/stderr")"
    check_contains "$(cat "$TEST_TMP/stderr")" "$part" "stderr of: $*"
    check_equal docdb "$(head -c 5 "$TEST_TMP/stderr")" "how stderr of this begins: $*"
    check_equal "" "$(cat "$TEST_TMP/stdout")" "stdout of: $*"
}

skip() {
    echo "skipped: $*"
    exit 77
}

skip_without_root() {
    [ "$(id -u)" -eq 0 ] || skip "only root can do this: $*"
}

skip_without_fuse() {
    [ -e /dev/fuse ] || skip "there is no /dev/fuse here (a container needs --device /dev/fuse)"
    if [ ! -r /dev/fuse ] || [ ! -w /dev/fuse ]; then
        skip "/dev/fuse cannot be opened by this user"
    fi
    if [ "$(id -u)" -ne 0 ]; then
        command -v fusermount3 >/dev/null || skip "fusermount3 is not installed, and only root mounts without it"
    fi
}

# wait_for WHAT COMMAND...: polls until the command succeeds.
wait_for() {
    local what=$1 tries=$((WAIT_SECONDS * 20))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "waited $WAIT_SECONDS s for $what"
        sleep 0.05
    done
}

is_mounted() {
    awk -v want="$1" '$2 == want { found = 1 } END { exit !found }' /proc/self/mounts
}

# own_pid PID, own_mount DIRECTORY: what the test started or mounted by itself, to be cleaned up with the rest.
own_pid() { owned_pids+=("$1"); }
own_mount() { owned_mounts+=("$(cd "$(dirname "$1")" && pwd -P)/$(basename "$1")"); }

disown_pid() {
    local pid kept=()
    for pid in "${owned_pids[@]+"${owned_pids[@]}"}"; do
        [ "$pid" = "$1" ] || kept+=("$pid")
    done
    owned_pids=("${kept[@]+"${kept[@]}"}")
}

# small_disk DIRECTORY SIZE: mounts an empty file system of that size there, for tests of a full disk. Root only.
small_disk() {
    skip_without_root "mounting a small file system"
    mkdir -p "$1"
    mount -t tmpfs -o "size=$2" tmpfs "$1" 2>/dev/null || skip "no file system can be mounted here"
    own_mount "$1"
}

# Waits for a child of this shell and leaves its exit code in WAITED_STATUS.
wait_for_exit() {
    local tries=$((WAIT_SECONDS * 20))
    while kill -0 "$1" 2>/dev/null; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "waited $WAIT_SECONDS s for process $1 to exit"
        sleep 0.05
    done
    WAITED_STATUS=0
    wait "$1" || WAITED_STATUS=$?
    disown_pid "$1"
}

# The ready lines are three, and written in one piece.
server_is_ready() {
    [ "$(wc -l <"$SERVER_STDOUT")" -ge 3 ] || ! kill -0 "$SERVER_PID" 2>/dev/null
}

server_run() {
    [ -z "${SERVER_PID:-}" ] || fail "server_run: a server runs already"
    : >"$SERVER_STDOUT" # here, not only by the shell of the background process: that may come later than the first look
    : >"$SERVER_STDERR"
    "$@" >"$SERVER_STDOUT" 2>"$SERVER_STDERR" </dev/null &
    SERVER_PID=$!
    own_pid "$SERVER_PID"
    wait_for "the server to be ready" server_is_ready
    kill -0 "$SERVER_PID" 2>/dev/null || fail "the server ended instead of starting: $(cat "$SERVER_STDERR")"
}

server_start() {
    server_run "$DOCDB" serve --data-dir "$SERVER_DATA" --socket "$SERVER_SOCKET" "$@"
}

server_start_mounted() {
    own_mount "$SERVER_MOUNT"
    server_start --mount "$SERVER_MOUNT" "${SERVER_OPTIONS[@]+"${SERVER_OPTIONS[@]}"}"
    is_mounted "$SERVER_MOUNT" || fail "the server is ready, but nothing is mounted at $SERVER_MOUNT"
}

server_stop() {
    kill -TERM "$SERVER_PID" || fail "the server is gone before SIGTERM"
    wait_for_exit "$SERVER_PID"
    [ "$WAITED_STATUS" -eq 0 ] || fail "the server exited with $WAITED_STATUS after SIGTERM: $(cat "$SERVER_STDERR")"
    SERVER_PID=
}

server_kill() {
    kill -KILL "$SERVER_PID" || fail "the server is gone before kill -9"
    wait_for_exit "$SERVER_PID" 2>/dev/null
    SERVER_PID=
}

server_output() { cat "$SERVER_STDOUT" "$SERVER_STDERR"; }

# The program on the data that both_ways chose.
docdb() { "$DOCDB" "${WHERE[@]}" "$@"; }

both_ways() {
    for MODE in embedded socket; do
        SERVER_DATA=$TEST_TMP/data-of-$1.$MODE
        if [ "$MODE" = socket ]; then
            server_start
            WHERE=(--socket "$SERVER_SOCKET")
        else
            WHERE=(--data-dir "$SERVER_DATA")
        fi
        "$1"
        [ -z "$SERVER_PID" ] || server_stop
    done
    MODE=
}

cleanup_unmount() {
    # Lazily, and twice, since a crashed server's mount may lie below a new one.
    for _ in 1 2; do
        is_mounted "$1" || return 0
        umount -l "$1" 2>/dev/null || fusermount3 -uz "$1" 2>/dev/null || true
    done
}

cleanup() {
    local status=$? each
    trap - EXIT
    for each in "${owned_pids[@]+"${owned_pids[@]}"}"; do
        kill -KILL "$each" 2>/dev/null && wait "$each" 2>/dev/null
    done
    for each in "${owned_mounts[@]+"${owned_mounts[@]}"}"; do
        cleanup_unmount "$each"
    done
    for each in "${owned_directories[@]+"${owned_directories[@]}"}"; do
        rm -rf --one-file-system "$each"
    done
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# ---- What every test gets ----

if [ -z "${DOCDB:-}" ]; then
    DOCDB=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/docdb # started by hand: the last build
fi
[ -x "$DOCDB" ] || fail "there is no program at $DOCDB: run make, or set DOCDB"
if [ -z "${TEST_TMP:-}" ]; then
    TEST_TMP=$(mktemp -d "${TMPDIR:-/tmp}/docdb-test.XXXXXX") || exit 1
    owned_directories+=("$TEST_TMP")
fi
TEST_TMP=$(cd "$TEST_TMP" && pwd -P) # as /proc/self/mounts names it
unset DOCDB_SOCKET DOCDB_DATA_DIR   # the caller's own defaults have no part in a test

MODE=
WHERE=()
SERVER_PID=
SERVER_OPTIONS=()
SERVER_DATA=$TEST_TMP/data
SERVER_MOUNT=$TEST_TMP/mnt
SERVER_STDOUT=$TEST_TMP/server.out
SERVER_STDERR=$TEST_TMP/server.err
SERVER_SOCKET=$TEST_TMP/s
if [ "${#SERVER_SOCKET}" -gt 100 ]; then # sockaddr_un holds 107 bytes
    socket_directory=$(mktemp -d /tmp/docdb.XXXXXX) || exit 1
    owned_directories+=("$socket_directory")
    SERVER_SOCKET=$socket_directory/s
fi
