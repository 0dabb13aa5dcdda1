#!/bin/bash
# docdb verify: offline and online, under load and after kill -9, on sound and on damaged data; what it prints, and its
# exit codes.
# shellcheck source=tests/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"

BUILD=${DOCDB_BUILD:-$(dirname "$DOCDB")}
LOAD=$BUILD/tests/tools/put_load

# flip FILE OFFSET: changes one bit.
flip() {
    python3 - "$1" "$2" <<'END_PYTHON' || fail "can't flip a bit of $1"
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2]))
    byte = f.read(1)[0]
    f.seek(int(sys.argv[2]))
    f.write(bytes([byte ^ 1]))
END_PYTHON
}

# offset_of FILE TEXT: where the text is in the file.
offset_of() {
    python3 -c 'import sys; print(open(sys.argv[1], "rb").read().index(sys.argv[2].encode()))' "$1" "$2"
}

# json EXPRESSION: true of the last stdout, as a list j of the objects on its lines.
json() {
    python3 - "$TEST_TMP/stdout" "$1" <<'END_PYTHON' || fail "not true: $1; of: $(cat "$TEST_TMP/stdout")"
import json, sys
j = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
sys.exit(0 if eval(sys.argv[2]) else 1)
END_PYTHON
}

sound() {
    check_exit 0 docdb verify
    check_contains "$(cat "$TEST_TMP/stdout")" "read: sound" "verify of a sound store"
    check_equal 1 "$(wc -l <"$TEST_TMP/stdout")" "lines of a sound store"
    check_equal "" "$(cat "$TEST_TMP/stderr")" "stderr without a terminal"
}

sound_both_ways() {
    local i
    docdb create-db people || fail "create-db"
    sound
    for i in 1 2 3 4 5; do
        docdb put people "id$i" <<<"document $i" || fail "put"
    done
    head -c 3000000 /dev/urandom | docdb put people large || fail "put of a large document"
    docdb checkpoint || fail "checkpoint"
    docdb delete people id1 || fail "delete"
    docdb put people id2 <<<"again" || fail "put"
    sound
    check_exit 0 docdb verify --json
    json "len(j) == 1 and j[0]['damages'] == 0 and j[0]['documents'] >= 5 and j[0]['bytes'] > 3000000"
}

damaged() {
    local segment at
    docdb create-db people || fail "create-db"
    docdb put people alice <<<"the contents of alice" || fail "put"
    docdb put people bob <<<"the contents of bob" || fail "put"
    docdb checkpoint || fail "checkpoint"
    if [ -z "$SERVER_PID" ]; then
        sound
    fi
    segment=$SERVER_DATA/db/00000001/00000001.seg
    at=$(offset_of "$segment" "contents of bob") || fail "there is no bob in $segment"
    flip "$segment" "$at"
    check_exit 7 docdb verify
    check_contains "$(head -1 "$TEST_TMP/stdout")" "00000001.seg: offset " "the line of a damage"
    check_contains "$(head -1 "$TEST_TMP/stdout")" ": people/bob: a document that does not match" "the line of a damage"
    check_contains "$(tail -1 "$TEST_TMP/stdout")" "read: 1 damage" "the last line"
    check_equal 2 "$(wc -l <"$TEST_TMP/stdout")" "lines of one damage"
    check_exit 7 docdb verify --json
    json "len(j) == 2 and j[0]['id'] == 'bob' and j[0]['database'] == 'people' and j[0]['file'].endswith('.seg')"
    json "j[0]['offset'] == $((at - 4 - 64 - 3)) and j[1]['damages'] == 1"
    flip "$segment" "$at"
    sound
}

refused_by_open() {
    WHERE=(--data-dir "$SERVER_DATA")
    docdb create-db people || fail "create-db"
    docdb put people alice <<<"alice" || fail "put"
    flip "$SERVER_DATA/MANIFEST" 20
    check_exit 7 docdb read people alice
    check_exit 7 docdb verify
    check_contains "$(cat "$TEST_TMP/stdout")" "MANIFEST: offset 0: a manifest that" "verify of a damaged manifest"
    flip "$SERVER_DATA/MANIFEST" 20
    check_equal alice "$(docdb read people alice)" "read after the damage is undone"
    check_error 3 "no data directory at" "$DOCDB" verify --data-dir "$TEST_TMP/none"
    mkdir "$TEST_TMP/foreign"
    check_error 3 "not a data directory" "$DOCDB" verify --data-dir "$TEST_TMP/foreign"
    check_equal "" "$(ls "$TEST_TMP/foreign")" "what verify leaves in a directory that is none of DocDB's"
    check_error 5 "no server answers" "$DOCDB" verify --socket "$TEST_TMP/nothing"
}

in_use() {
    server_start
    check_error 5 "in use by process $SERVER_PID" "$DOCDB" verify --data-dir "$SERVER_DATA"
    server_stop
}

# Opens as many verifications as a server takes, and one more, which is refused; and goes away in the middle of a step.
open_and_vanish() {
    python3 - "$SERVER_SOCKET" <<'END_PYTHON' || fail "verifications over a connection of one's own"
import socket, struct, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
file = s.makefile("rb")
def send(op, handle=0, body=b""):
    s.sendall(struct.pack("<IBBhII", len(body), op, 0, 0, 1, handle) + body)
def call(op, handle=0, body=b""):
    send(op, handle, body)
    length, _, _, status, _, handle = struct.unpack("<IBBhII", file.read(16))
    return status, handle, file.read(length)
assert call(1, 0, b"DOCDB\0\0\0" + struct.pack("<HH", 1, 1))[0] == 0
handles = []
for i in range(4):
    status, handle, _ = call(22)
    assert status == 0, status
    handles.append(handle)
assert call(22)[0] == -28
assert call(23, 12345)[0] == -1 and call(24, 12345)[0] == -1
status, _, body = call(23, handles[0])
assert status == 0 and body[0] == 1, (status, body)
assert call(24, handles[1])[0] == 0 and call(23, handles[1])[0] == -1
send(23, handles[2])
END_PYTHON
}

under_load() {
    local load i
    WHERE=(--socket "$SERVER_SOCKET")
    server_start --wal-limit 16M
    docdb create-db load || fail "create-db"
    "$LOAD" "unix:$SERVER_SOCKET" load 4 50 0 0 1 >"$TEST_TMP/load.out" 2>&1 &
    load=$!
    own_pid "$load"
    for i in 1 2 3 4 5 6; do
        sound
        docdb checkpoint || fail "checkpoint"
    done
    # A connection that ends takes its verifications with it: there may be four at once, and these are more.
    for i in 1 2 3; do
        open_and_vanish
        wait_for "the verifications of the connection that ended to end" docdb verify >/dev/null 2>&1
    done
    server_kill
    wait_for_exit "$load"
    WHERE=(--data-dir "$SERVER_DATA")
    sound
    check_contains "$(docdb dbs)" load "the databases after kill -9"
    sound
}

# The bar is for terminals: `script` gives it one.
progress() {
    command -v script >/dev/null || return 0
    WHERE=(--data-dir "$SERVER_DATA")
    docdb create-db people || fail "create-db"
    head -c 40000000 /dev/zero | docdb put people large || fail "put"
    script -qec "$DOCDB verify --data-dir $SERVER_DATA" /dev/null >"$TEST_TMP/terminal" 2>&1 </dev/null ||
        fail "verify on a terminal: $(cat "$TEST_TMP/terminal")"
    check_contains "$(cat "$TEST_TMP/terminal")" "MiB/s" "what a terminal shows"
    check_contains "$(cat "$TEST_TMP/terminal")" "read: sound" "what a terminal shows"
}

both_ways sound_both_ways
both_ways damaged
SERVER_DATA=$TEST_TMP/data-refused
refused_by_open
SERVER_DATA=$TEST_TMP/data-in-use
in_use
SERVER_DATA=$TEST_TMP/data-under-load
under_load
SERVER_DATA=$TEST_TMP/data-progress
progress
