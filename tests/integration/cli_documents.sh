#!/bin/bash
# Documents and ids of any bytes come back as they went in, embedded and over a socket.
# shellcheck source=tests/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"

cd "$TEST_TMP" || exit 1
python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 3)' >all-bytes
: >empty
printf '\0' >nul
head -c 20971520 /dev/urandom >20MiB
head -c 65536 /dev/urandom >64KiB
head -c 131071 /dev/urandom >odd
head -c 67108864 /dev/zero >64MiB
files="all-bytes empty nul 20MiB 64KiB odd"

content() {
    local file
    docdb create-db files || fail "create-db"
    for file in $files; do
        check_exit 0 docdb put files "$file" "$file"
        docdb read files "$file" >got || fail "read $file"
        check_same_file "$file" got "a document from a file"
        # shellcheck disable=SC2094  # the first is an id
        check_exit 0 docdb update files "$file" <"$file"
        docdb read files "$file" >got || fail "read $file"
        check_same_file "$file" got "a document from stdin"
        # shellcheck disable=SC2002  # a pipe gives short reads and no size, which is the point
        cat "$file" | docdb put files "$file" - || fail "put from a pipe"
        docdb read files "$file" | cat >got || fail "read $file"
        check_same_file "$file" got "a document from a pipe, to a pipe"
    done
    check_exit 0 docdb put files 64MiB 64MiB # the largest that is allowed
    docdb read files 64MiB | cmp - 64MiB || fail "the largest document"
    check_equal "$(stat -c %s 20MiB)" "$(docdb stat files 20MiB | awk '$1 == "bytes" { print $2 }')" "stat's bytes"
    docdb read files all-bytes empty nul odd >got || fail "read of several"
    cat all-bytes empty nul odd >expected
    check_same_file expected got "several documents"
    # A file that is read from its middle on.
    (
        dd bs=1 count=5 of=/dev/null 2>/dev/null
        docdb put files middle
    ) <odd || fail "put of the rest of a file"
    docdb read files middle >got
    tail -c +6 odd >expected
    check_same_file expected got "the rest of a file"
    check_exit 0 docdb put files from-proc /proc/self/stat # a file that says it has 0 bytes
    [ "$(docdb read files from-proc | wc -c)" -gt 0 ] || fail "a file of unknown size came out empty"
}

ids() {
    local id
    # shellcheck disable=SC2016  # no expansion is meant
    local -a all=(
        ' ' 'with blanks  in it' $'new\nline' $'tab\there' $'\x01\x1b[31m\x7f' '"quoted"' "it's" 'back\slash' '*' '$HOME' '#'
        ... .hidden -dash --json -- 'ümlaut' '日本語' '😀' $'\xff' $'bad\xc3' $'\xc0\x80' $'\xed\xa0\x80' "$(printf 'x%.0s' {1..255})"
    )
    docdb create-db ids || fail "create-db"
    for id in "${all[@]}"; do
        printf 'document of %s' "$id" | docdb create ids -- "$id" || fail "create '$id'"
    done
    for id in "${all[@]}"; do
        docdb read ids -- "$id" >got || fail "read '$id'"
        printf 'document of %s' "$id" >expected
        check_same_file expected got "the document of '$id'"
    done
    docdb ls ids -0 >got || fail "ls"
    printf '%s\0' "${all[@]}" | LC_ALL=C sort -z >expected
    check_same_file expected got "ls --null lists every id, bytewise, as it is"
    docdb ls ids >got || fail "ls"
    printf '%s\0' "${all[@]}" | LC_ALL=C sort -z | tr '\0' '\n' >expected
    check_same_file expected got "ls to a file prints ids as they are"
    docdb delete ids -- "${all[@]}" || fail "delete of all"
    check_equal "" "$(docdb ls ids)" "ls after delete of all"
}

# Messages and terminals never get a control character.
# shellcheck disable=SC1003  # these backslashes are backslashes
escaping() {
    docdb put ids $'red\e[31m\n\xff\\' </dev/null || fail "put"
    check_error 4 'ids/red\x1b[31m\n\xff\\: the document exists' docdb create ids $'red\e[31m\n\xff\\' </dev/null
    check_exit 0 docdb stat ids $'red\e[31m\n\xff\\'
    grep -qF 'id           red\x1b[31m\n\xff\\' stdout || fail "stat does not escape: $(cat stdout)"
    python3 - "$DOCDB" "${WHERE[@]}" ls ids >got <<'END' || fail "ls on a terminal"
import os, pty, sys
master, slave = pty.openpty()
if os.fork() == 0:
    os.dup2(slave, 1)
    os.execv(sys.argv[1], sys.argv[1:])
os.close(slave)
text = b""
while True:
    try:
        piece = os.read(master, 4096)
    except OSError:
        break
    if not piece:
        break
    text += piece
os.wait()
sys.stdout.buffer.write(text.replace(b"\r\n", b"\n"))
END
    check_equal 'red\x1b[31m\n\xff\\' "$(cat got)" "ls on a terminal"
}

every_byte() {
    content
    ids
    escaping
}

both_ways every_byte
