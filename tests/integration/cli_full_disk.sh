#!/bin/bash
# A full disk: writes are refused with exit code 6 and leave nothing behind, reads and deletes work, and when there is room again
# writes go on without a restart. What was acknowledged is there all along.
# shellcheck source=tests/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
cd "$TEST_TMP" || exit 1
small_disk "$TEST_TMP/disk" 160M
head -c 1000000 /dev/urandom >document


# fill PUT: writes documents with that function until one is refused. $written counts those that were not, in this database.
fill() {
    local status=0
    while [ "$written" -lt 1000 ]; do
        "$1" "doc-$written" >stdout 2>stderr || status=$?
        if [ "$status" -ne 0 ]; then
            check_equal 6 "$status" "exit code on a full disk; stderr: $(cat stderr)"
            check_contains "$(cat stderr)" "no space left" "stderr on a full disk"
            check_equal 1 "$(wc -l <stderr)" "lines on stderr on a full disk, which are: $(cat stderr)"
            check_error 3 "no such document" docdb read db "doc-$written"
            return
        fi
        written=$((written + 1))
    done
    fail "1000 MB fit on a disk of 160 MiB"
}

by_put() { docdb put db "$1" document; }
by_txn() { docdb txn db <<<"put $1 document"; }

check_documents() {
    local ids
    mapfile -t ids < <(seq -f 'doc-%g' 0 "$((written - 1))")
    check_equal "$written" "$(docdb ls db --prefix doc- | wc -l)" "documents $1"
    docdb read db "${ids[@]}" | cmp - <(for _ in "${ids[@]}"; do cat document; done) || fail "not what was written, $1"
}

start_on_small_disk() {
    SERVER_DATA=$TEST_TMP/disk/data
    server_start --wal-limit 16M
}

writes_are_refused_reads_and_deletes_work() {
    written=0
    docdb create-db db || fail "create-db"
    fill by_put
    fill by_txn # what a checkpoint that came in between made room for
    check_documents "on the full disk"
    docdb delete db doc-0 || fail "delete on a full disk"
    check_error 3 "no such document" docdb read db doc-0
    docdb drop-db db || fail "drop-db on a full disk"
}

writes_go_on_when_there_is_room() {
    written=0
    docdb create-db db || fail "create-db"
    fill by_put
    rm disk/ballast
    docdb put db more document || fail "put after there was room again, without a restart"
    docdb read db more | cmp - document || fail "the document that was written then"
    docdb delete db more || fail "delete"
    check_documents "after there was room again"
}

# What was refused does not come back, and what was acknowledged is there.
a_full_disk_starts() {
    fill by_txn
    server_kill
    start_on_small_disk
    check_documents "after kill -9 and a start on a full disk"
    server_stop
    start_on_small_disk
    check_documents "after a stop and a start on a full disk"
}

WHERE=(--socket "$SERVER_SOCKET")
head -c 30000000 /dev/zero >disk/ballast # what is taken away later to make room
start_on_small_disk
writes_are_refused_reads_and_deletes_work
writes_go_on_when_there_is_room
a_full_disk_starts
server_stop
WHERE=(--data-dir "$SERVER_DATA")
MODE=embedded
fill by_put
fill by_txn
check_documents "embedded"
