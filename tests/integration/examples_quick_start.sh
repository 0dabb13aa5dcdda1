#!/bin/bash
# The quick starts in C and shell do what they show, embedded and over a socket.
# shellcheck source=tests/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
examples=$(cd "$(dirname "$0")/../../examples" && pwd)
cd "$TEST_TMP" || exit 1
quick_start=$DOCDB_BUILD/examples/c/quick_start
export DOCDB

quick_starts() {
    local where
    if [ "$MODE" = embedded ]; then
        where=$SERVER_DATA
        export DOCDB_DATA_DIR=$SERVER_DATA
    else
        where=unix:$SERVER_SOCKET
        unset DOCDB_DATA_DIR
        export DOCDB_SOCKET=$SERVER_SOCKET
    fi
    check_exit 0 "$quick_start" "$where"
    check_equal '{"age": 42}' "$(cat stdout)" "what the C quick start prints"
    check_exit 0 "$quick_start" "$where"
    check_equal "" "$(docdb ls people)" "what the C quick start leaves"
    docdb drop-db people || fail "drop-db"
    check_exit 0 "$examples/shell/quick_start.sh"
    check_equal '{"age": 42}' "$(sed -n 1p stdout)" "what the shell quick start reads"
    check_equal '{"age": 43} {"age": 17}' "$(tail -n 2 stdout | xargs -d '\n')" "what the shell quick start reads after txn"
    check_equal "" "$(docdb dbs)" "what the shell quick start leaves"
}

[ -x "$quick_start" ] || fail "$quick_start is not built"
both_ways quick_starts
unset DOCDB_SOCKET

# ./data is where the C quick start goes by itself.
check_exit 0 "$quick_start"
[ -d data ] || fail "the C quick start did not create ./data"
check_exit 1 "$quick_start" unix:/nonexistent/socket
check_contains "$(cat stderr)" "no server answers" "the C quick start without a server"
