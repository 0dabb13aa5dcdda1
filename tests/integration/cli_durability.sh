#!/bin/bash
# What was acknowledged survives kill -9, whichever command wrote it, and what was not acknowledged is there whole or not at all.
# shellcheck source=tests/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
cd "$TEST_TMP" || exit 1
WHERE=(--socket "$SERVER_SOCKET")
head -c 3000000 /dev/urandom >large

acknowledged_writes_survive_kill_9() {
    local before
    server_start
    docdb create-db kept dropped || fail "create-db"
    docdb put kept large large || fail "put"
    docdb put kept empty </dev/null || fail "put"
    docdb put kept replaced <<<old || fail "put"
    docdb put kept deleted <<<old || fail "put"
    docdb put dropped x <<<old || fail "put"
    docdb update kept replaced <<<new || fail "update"
    docdb delete kept deleted || fail "delete"
    docdb drop-db dropped || fail "drop-db"
    printf 'put-text t1 one\nput-text t2 two\nrename t1 t3\n' | docdb txn kept >/dev/null || fail "txn"
    before=$(docdb ls -l kept)
    server_kill
    server_start
    check_equal "$before" "$(docdb ls -l kept)" "the listing, with versions and times, after kill -9"
    check_equal kept "$(docdb dbs)" "databases after kill -9"
    docdb read kept large | cmp - large || fail "the large document after kill -9"
    check_equal new "$(docdb read kept replaced)" "the replaced document after kill -9"
    check_equal onetwo "$(docdb read kept t3 t2)" "the transaction's documents after kill -9"
    # And through a checkpoint.
    docdb checkpoint || fail "checkpoint"
    docdb put kept later <<<later || fail "put"
    server_kill
    server_start
    check_equal later "$(docdb read kept later)" "a document written after the checkpoint"
    docdb read kept large | cmp - large || fail "the large document after the checkpoint and kill -9"
    server_stop
    docdb() { "$DOCDB" --data-dir "$SERVER_DATA" "$@"; }
    docdb read kept large | cmp - large || fail "the large document, embedded"
    docdb put kept embedded <<<embedded || fail "put embedded"
    docdb() { "$DOCDB" "${WHERE[@]}" "$@"; }
}

# Writers note what was acknowledged, in files of their own; the server is killed in the middle.
killed_in_the_middle() {
    local round writer pids i
    for round in 1 2 3; do
        server_start
        docdb put --create-db race start </dev/null || fail "put"
        pids=()
        for writer in a b c; do
            (
                trap - EXIT
                for ((i = 0; i < 1000; i++)); do
                    printf '%s.%s.%s %02000d' "$round" "$writer" "$i" "$i" |
                        docdb put race "$writer-$round-$i" 2>/dev/null || exit 0
                    echo "$writer-$round-$i $round.$writer.$i $i" >>"acknowledged-$writer"
                done
            ) &
            pids+=("$!")
            own_pid "$!"
        done
        wait_for "some writes" test -s acknowledged-a -a -s acknowledged-b -a -s acknowledged-c
        sleep "0.$((RANDOM % 5))"
        server_kill
        for writer in "${pids[@]}"; do
            wait_for_exit "$writer"
        done
    done
    server_start
    while read -r id tag i; do
        check_equal "$(printf '%s %02000d' "$tag" "$i")" "$(docdb read race "$id")" "the acknowledged document $id"
    done < <(cat acknowledged-*)
    # What was in flight is whole, too.
    docdb ls -l race | awk '$4 != "start" && $1 < 2000 { bad = 1; print } END { exit bad }' || fail "a torn document"
    echo "$(cat acknowledged-* | wc -l) acknowledged, $(docdb ls race | wc -l) there"
    server_stop
}

acknowledged_writes_survive_kill_9
killed_in_the_middle
