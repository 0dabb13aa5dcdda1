#!/bin/bash
# `docdb backup` copies a store that is in use, to a directory and through a pipe, embedded and over the socket; `docdb restore`
# makes a data directory of it with the same documents, and refuses what is not a whole backup.
# shellcheck source=tests/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"

PUT_LOAD=$DOCDB_BUILD/tests/tools/put_load
LOAD_THREADS=4
LOAD_DOCS=30

# contents WHERE...: every document of every database there, with its version and time, as one text.
contents() {
    local db id
    "$DOCDB" "$@" dbs | while read -r db; do
        echo "database $db"
        "$DOCDB" "$@" ls --null "$db" | xargs -0 -r "$DOCDB" "$@" stat "$db"
        "$DOCDB" "$@" ls "$db" | while read -r id; do
            echo "$id $("$DOCDB" "$@" read "$db" "$id" | sha256sum)"
        done
    done
}

check_same_contents() { # EXPECTED-FILE DATA-DIR WHAT
    contents --data-dir "$2" >"$TEST_TMP/contents"
    check_same_file "$1" "$TEST_TMP/contents" "$3"
}

# data_of NAME: a path that is not there yet.
data_of() { echo "$TEST_TMP/$1.$MODE"; }

fill() {
    local i
    docdb create-db people empty || fail "create-db"
    for i in 1 2 3 4 5 6 7 8; do
        head -c $((i * 700)) /dev/urandom | docdb put people "doc-$i" || fail "put"
    done
    head -c 3000000 /dev/urandom | docdb put people large || fail "put"
    docdb checkpoint || fail "checkpoint"
    docdb delete people doc-3 || fail "delete"
    docdb put people doc-4 <<<"changed" || fail "put"
    contents "${WHERE[@]}" >"$TEST_TMP/expected"
}

idle_store() {
    local seq
    fill
    seq=$(docdb stats | awk '$1 == "commit_seq" { print $2 }')
    check_exit 0 docdb backup "$(data_of directory)"
    check_equal "$seq" "$(cat "$TEST_TMP/stdout")" "what backup prints"
    check_equal "" "$(cat "$TEST_TMP/stderr")" "what backup says where stderr is no terminal"

    # A directory is restored before it is used as a data directory itself.
    check_exit 0 "$DOCDB" restore "$(data_of directory)" --data-dir "$(data_of restored)"
    check_equal "" "$(cat "$TEST_TMP/stdout" "$TEST_TMP/stderr")" "what restore prints"
    check_same_contents "$TEST_TMP/expected" "$(data_of restored)" "a restored directory"
    check_same_contents "$TEST_TMP/expected" "$(data_of directory)" "a backup, opened as it is"

    docdb backup - >"$(data_of tar)" || fail "backup -"
    "$DOCDB" restore - --data-dir "$(data_of from-tar)" <"$(data_of tar)" || fail "restore -"
    check_same_contents "$TEST_TMP/expected" "$(data_of from-tar)" "a restored tar"
    docdb backup - | "$DOCDB" restore - --data-dir "$(data_of from-pipe)" || fail "backup - | restore -"
    check_same_contents "$TEST_TMP/expected" "$(data_of from-pipe)" "through a pipe"
    # Any tar reads it, and gives a data directory.
    mkdir "$(data_of untarred)"
    tar -C "$(data_of untarred)" -xf "$(data_of tar)" || fail "tar -x"
    check_same_contents "$TEST_TMP/expected" "$(data_of untarred)" "what tar unpacked"

    # The copy goes on by itself, and so does the original.
    echo new | "$DOCDB" put --data-dir "$(data_of from-tar)" people more || fail "put into the restored store"
    check_equal new "$("$DOCDB" read --data-dir "$(data_of from-tar)" people more)" "the restored store"
    docdb put people more <<<"other" || fail "put into the original"
    check_error 7 "used as a data directory since" "$DOCDB" restore "$(data_of from-tar)" --data-dir "$(data_of no)"
    check_absent "$(data_of no)"
}

check_absent() { [ ! -e "$1" ] || fail "$1 is there, with: $(find "$1")"; }

# What is refused leaves nothing behind.
check_refused_tar() { # FILE PART
    check_error 7 "$2" restore_file "$1" "$(data_of refused)"
    check_absent "$(data_of refused)"
}
restore_file() { "$DOCDB" restore - --data-dir "$2" <"$1"; }

refusals() {
    local bytes part
    fill
    docdb backup - >"$(data_of tar)" || fail "backup -"
    mkdir "$(data_of full)"
    echo precious >"$(data_of full)/file"
    check_error 4 "is not empty" docdb backup "$(data_of full)"
    check_error 4 "is not empty" restore_file "$(data_of tar)" "$(data_of full)"
    check_equal "file" "$(ls "$(data_of full)")" "the directory that is not empty"
    check_error 3 "its parent directory does not exist" docdb backup "$(data_of no)/below"
    check_error 3 "can't open the backup" "$DOCDB" restore "$(data_of no)" --data-dir "$(data_of refused)"
    check_error 2 "where to? give --data-dir NEW" env DOCDB_DATA_DIR="$(data_of no)" "$DOCDB" restore -
    check_error 2 "stdout is a terminal" terminal_backup

    # Cut off anywhere: nothing is kept. (The end of a tar is at least 1024 bytes of zeros: what is cut off there is whole.)
    bytes=$(stat -c %s "$(data_of tar)")
    for part in 0 1 511 512 1024 1600 5000 $((bytes / 3)) $((bytes / 2)) $((bytes - 10240)) $((bytes - 12000)); do
        head -c "$part" "$(data_of tar)" >"$(data_of cut)"
        check_refused_tar "$(data_of cut)" ""
    done
    head -c 20000 /dev/urandom >"$(data_of cut)"
    check_refused_tar "$(data_of cut)" "can't read the tar on stdin"
    hostile_tars
    bad_directories
    # The store itself is as it was.
    contents "${WHERE[@]}" >"$TEST_TMP/contents"
    check_same_file "$TEST_TMP/expected" "$TEST_TMP/contents" "the store after all this"
}

# In a terminal of its own; its one line goes to our stderr.
terminal_backup() {
    python3 - "$DOCDB" "${WHERE[@]}" <<'END'
import os, pty, subprocess, sys
main, terminal = pty.openpty()
sys.exit(subprocess.run([sys.argv[1], "backup", "-", *sys.argv[2:]], stdout=terminal).returncode)
END
}

# hostile NAME PYTHON: a tar that python makes of `whole` (a list of the entries and data of a good one).
hostile() {
    python3 - "$(data_of tar)" "$(data_of hostile)" "$2" <<'END' || fail "making a hostile tar: $1"
import io, sys, tarfile
source, target, change = sys.argv[1:4]
with tarfile.open(source) as tar:
    whole = [(member, tar.extractfile(member).read() if member.isfile() else None) for member in tar]
def entry(name, data=b"x", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    return info, data if kind == tarfile.REGTYPE else None
exec(change)
with tarfile.open(target, "w") as tar:
    for member, data in whole:
        tar.addfile(member, io.BytesIO(data) if data is not None else None)
END
}

hostile_tars() {
    local name
    for name in /etc/passwd ../escaped db/../../escaped db/00000001/../../escaped ./MANIFEST db/00000001/x.seg \
        db/0000000G/00000001.seg wal/0000000000000001.wal LOCK MANIFEST.tmp db/00000001/00000001.seg/x; do
        hostile "$name" "whole.insert(0, entry('$name'))"
        check_refused_tar "$(data_of hostile)" "no path that a backup has"
    done
    hostile "a link" "whole.insert(0, entry('db/00000009', kind=tarfile.SYMTYPE, link='/tmp'))"
    check_refused_tar "$(data_of hostile)" "db/00000009 is a link"
    hostile "a hard link" "whole.insert(0, entry('MANIFEST', kind=tarfile.LNKTYPE, link='/etc/passwd'))"
    check_refused_tar "$(data_of hostile)" "MANIFEST is a link"
    hostile "a device" "whole.insert(0, entry('MANIFEST', kind=tarfile.CHRTYPE))"
    check_refused_tar "$(data_of hostile)" "MANIFEST is no file"
    hostile "a directory" "whole.insert(0, entry('MANIFEST', kind=tarfile.DIRTYPE))"
    check_refused_tar "$(data_of hostile)" "MANIFEST"
    hostile "a file as a directory" "whole.insert(0, entry('db'))"
    check_refused_tar "$(data_of hostile)" "db is no directory"
    hostile "twice" "whole.insert(3, whole[2])"
    check_refused_tar "$(data_of hostile)" "comes twice"
    hostile "something behind MANIFEST" "whole.append(whole[2])"
    check_refused_tar "$(data_of hostile)" "comes behind MANIFEST"
    hostile "no MANIFEST" "whole.pop()"
    check_refused_tar "$(data_of hostile)" "it ends before its MANIFEST"
    check_absent "$TEST_TMP/escaped"
}

bad_directories() {
    local bad
    bad=$(data_of bad)
    docdb backup "$bad" >/dev/null || fail "backup"
    touch "$bad/db/foreign"
    check_error 7 "db/foreign is no file that a backup has" "$DOCDB" restore "$bad" --data-dir "$(data_of refused)"
    rm "$bad/db/foreign"
    ln -s /etc/passwd "$bad/db/00000001/0000ffff.seg"
    check_error 7 "is a link" "$DOCDB" restore "$bad" --data-dir "$(data_of refused)"
    rm "$bad/db/00000001/0000ffff.seg"
    mv "$bad/MANIFEST" "$bad/MANIFEST.tmp"
    check_error 7 "MANIFEST.tmp is no file that a backup has" "$DOCDB" restore "$bad" --data-dir "$(data_of refused)"
    rm "$bad/MANIFEST.tmp"
    check_error 7 "MANIFEST is missing" "$DOCDB" restore "$bad" --data-dir "$(data_of refused)"
    check_absent "$(data_of refused)"
}

# Every document that put_load writes says which version it is, and a group's three are of one transaction: so a backup is
# looked at by itself, and against the writes that were acknowledged before it was begun.
check_load() { # DATA-DIR ACKED-BEFORE
    python3 - "$DOCDB" "$1" "$2" <<'END' || fail "the backup $1 is not one state of the store"
import re, subprocess, sys
docdb, data, acked = sys.argv[1:4]
def run(*words):
    return subprocess.run([docdb, *words, "--data-dir", data], check=True, stdout=subprocess.PIPE).stdout
before = {}
with open(acked) as lines:
    for line in lines:
        words = line.split()
        if words[0] == "ack":
            for i in range(len(words) - 4):
                before[int(words[1]), int(words[2]) + i] = int(words[3])
assert before, "nothing was acknowledged before the backup"
versions = {}
for name in run("ls", "load").decode().split():
    thread, doc = map(int, name.split(".")[1:])
    text = run("read", "load", name)
    words = text[:79].decode().split()
    assert words[:4] == ["load", "load", str(thread), str(doc)], (name, words)
    line = text[:79] if len(text) >= 79 else text
    assert len(text) == int(words[5]) and text == (line * (len(text) // 79 + 1))[:len(text)], name
    versions[thread, doc] = int(words[4])
for (thread, doc), version in before.items():
    there = versions.get((thread, doc))
    assert version <= there if there is not None else True, (thread, doc, version, there)
for (thread, doc), version in versions.items():
    if thread % 2 == 1:
        group = [versions.get((thread, doc // 3 * 3 + i)) for i in range(3)]
        assert group == [version] * 3, (thread, doc, group)
END
}

has_lines() { [ "$(wc -l <"$1")" -ge "$2" ]; }

# The store is written to all the time by another client of the server.
under_load() {
    local acks=$TEST_TMP/acks load i
    SERVER_DATA=$TEST_TMP/data-of-load
    server_start
    WHERE=(--socket "$SERVER_SOCKET")
    MODE=load
    : >"$acks"
    "$PUT_LOAD" "unix:$SERVER_SOCKET" load $LOAD_THREADS $LOAD_DOCS 0 0 1 >"$acks" &
    load=$!
    own_pid "$load"
    for i in 1 2 3 4; do
        wait_for "writes" has_lines "$acks" $((i * 150))
        sed -n 's/^ack .*/&/p' "$acks" >"$TEST_TMP/acked.$i"
        if [ $((i % 2)) -eq 0 ]; then
            docdb backup "$(data_of "$i")" >/dev/null || fail "backup"
        else
            docdb backup - | "$DOCDB" restore - --data-dir "$(data_of "$i")" || fail "backup - | restore -"
        fi
        [ "$i" -ne 2 ] || docdb checkpoint || fail "checkpoint"
    done
    kill -0 "$load" || fail "the load ended too early"
    kill -TERM "$load"
    wait_for_exit "$load"
    for i in 1 2 3 4; do
        check_load "$(data_of "$i")" "$TEST_TMP/acked.$i"
    done
    killed_client "$SERVER_DATA/db/00000001"
    server_stop
}

is_gone() { [ ! -e "$1" ]; }

# A backup keeps the files that it copies, also of a database that is dropped meanwhile; one whose client dies lets go of them.
killed_client() { # DIRECTORY of the database
    local client
    mkfifo "$TEST_TMP/pipe"
    exec 9<>"$TEST_TMP/pipe"
    "$DOCDB" backup --socket "$SERVER_SOCKET" - >&9 9>&- &
    client=$!
    own_pid "$client"
    head -c 1 <&9 >/dev/null || fail "reading the pipe" # the tar's first block: the backup is open, and the pipe full soon
    docdb drop-db load || fail "drop-db"
    docdb checkpoint || fail "checkpoint"
    [ -e "$1" ] || fail "the files that a backup copies are gone"
    kill -KILL "$client" || fail "the backup ended already"
    wait_for_exit "$client" 2>/dev/null
    exec 9>&-
    wait_for "the killed backup's files to go" is_gone "$1"
}

both_ways idle_store
both_ways refusals
MODE=load
under_load
