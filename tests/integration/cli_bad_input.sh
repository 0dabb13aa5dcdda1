#!/bin/bash
# What a user can get wrong about data and files: one line on stderr, the documented exit code, and nothing lost.
# (Arguments: cli_usage.sh. Ids and names: cli_commands.sh. Serving: cli_serve.sh. A full disk: cli_full_disk.sh.)
# shellcheck source=tests/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
cd "$TEST_TMP" || exit 1

a_missing_data_directory_is_not_created() {
    local command
    for command in "ls db" "read db 1" "put db 1" "delete db 1" "dbs" "drop-db db" "stats" "checkpoint" "txn db"; do
        # shellcheck disable=SC2086  # words are meant
        check_error 3 "$TEST_TMP/missing" "$DOCDB" $command --data-dir "$TEST_TMP/missing" </dev/null
    done
    [ ! -e missing ] || fail "a command created the data directory"
    check_error 3 "$TEST_TMP/missing/data" "$DOCDB" create-db db --data-dir "$TEST_TMP/missing/data"
    [ ! -e missing ] || fail "create-db created the parent of the data directory"
    : >file
    check_error 3 "$TEST_TMP/file" "$DOCDB" dbs --data-dir "$TEST_TMP/file"
}

a_missing_server_is_said_to_be_missing() {
    check_error 5 "$TEST_TMP/no-server" "$DOCDB" dbs --socket "$TEST_TMP/no-server"
    check_contains "$(cat stderr)" "docdb serve" "what to do about it"
    : >file
    check_error 5 "$TEST_TMP/file" "$DOCDB" dbs --socket "$TEST_TMP/file"
}

# Every file begins with 8 bytes that name its kind, and then its format version: 32 bits, little-endian. The manifest's is
# the data directory's; a single file of a newer version can't be told from a damaged one by everybody.
a_newer_format_is_refused() {
    local file files=0
    "$DOCDB" create-db --data-dir newer db || fail "create-db"
    "$DOCDB" put --data-dir newer db 1 <<<one || fail "put"
    raise_format_version MANIFEST
    check_error 7 "newer" "$DOCDB" dbs --data-dir copy
    check_error 7 "newer" "$DOCDB" serve --data-dir copy --socket "$SERVER_SOCKET"
    for file in $(cd newer && find . -type f ! -name LOCK ! -name MANIFEST ! -path './wal/*' | sort); do
        raise_format_version "$file"
        check_exit 7 "$DOCDB" read --data-dir copy db 1
        files=$((files + 1))
    done
    [ "$files" -gt 0 ] || fail "the data directory has no files but its manifest: this test shows too little"
    check_equal one "$("$DOCDB" read --data-dir newer db 1)" "the data directory that was copied"
}

raise_format_version() {
    rm -rf copy
    cp -r newer copy
    check_equal 01000000 "$(od -An -tx1 -j8 -N4 "copy/$1" | tr -d ' \n')" "the format version of $1"
    printf '\377\0\0\0' | dd of="copy/$1" bs=1 seek=8 conv=notrunc 2>/dev/null || fail "dd"
}

input_files() {
    docdb create-db db || fail "create-db"
    check_error 3 "can't open none: No such file or directory" docdb put db 1 none
    check_error 1 "can't read $TEST_TMP: Is a directory" docdb put db 1 "$TEST_TMP"
    check_error 1 "can't read stdin" docdb put db 1 <&-
    if [ "$(id -u)" -ne 0 ]; then
        : >secret && chmod 000 secret
        check_error 8 "can't open secret: Permission denied" docdb put db 1 secret
    fi
    check_equal "" "$(docdb ls db)" "what failed puts left"
}

# A full stdout, a closed one, and one whose reader is gone.
broken_stdout() {
    local status
    head -c 1000000 /dev/zero | docdb put db big || fail "put"
    echo x | docdb put db small || fail "put"
    docdb read db big >/dev/full 2>stderr && fail "read to a full device succeeded"
    check_equal "docdb read: can't write to stdout: No space left on device" "$(cat stderr)" "read to a full device"
    docdb ls db >&- 2>stderr && fail "ls to a closed stdout succeeded"
    check_equal "docdb ls: can't write to stdout: Bad file descriptor" "$(cat stderr)" "ls to a closed stdout"
    # A closed stdout must not become the number of a file of the data directory.
    docdb put db small -v <<<y >&- 2>stderr && fail "put -v to a closed stdout succeeded"
    check_equal y "$(docdb read db small)" "what put -v with a closed stdout wrote"
    docdb put db small <<<z >&- 2>&- || fail "put needs no stdout and no stderr"
    check_equal z "$(docdb read db small)" "what put without stdout and stderr wrote"
    status=$(
        docdb read db big 2>stderr | true
        echo "${PIPESTATUS[0]}"
    )
    check_equal 141 "$status" "exit code of read to a pipe that nobody reads"
    check_equal "" "$(cat stderr)" "stderr of read to a pipe that nobody reads"
    status=$(
        trap '' PIPE
        docdb read db big 2>stderr | true
        echo "${PIPESTATUS[0]}"
    )
    check_equal 1 "$status" "exit code where SIGPIPE is ignored"
    check_equal "docdb read: can't write to stdout: Broken pipe" "$(cat stderr)" "stderr where SIGPIPE is ignored"
    check_equal z "$(docdb read db small)" "the store after all that"
}

bad_files() {
    input_files
    broken_stdout
}

# Over the limit is refused before it is read: an endless input ends at once.
a_document_over_the_limit_is_refused() {
    head -c 1024 /dev/zero >1K
    head -c 1025 /dev/zero >1K+1
    printf 'put-text a x\nput b 1K+1\n' >script
    check_exit 0 docdb put db fits 1K
    check_exit 0 docdb put db fits <1K
    check_error 6 "1K+1 is larger than the limit of 1024 bytes" docdb put db over 1K+1
    check_error 6 "stdin is larger than the limit of 1024 bytes" docdb create db over <1K+1
    check_error 6 "stdin is larger than the limit of 1024 bytes" docdb update db fits </dev/zero
    check_error 6 "/dev/zero is larger than the limit of 1024 bytes" docdb put db over /dev/zero
    check_error 6 "line 2: 1K+1 is larger than the limit of 1024 bytes" docdb txn db script
    check_contains "$(cat stderr)" "--max-doc-size" "what to do about it"
    check_error 6 "/dev/zero is larger than the limit of" docdb txn db /dev/zero
    check_equal fits "$(docdb ls db)" "what was written"
    docdb read db fits | cmp - 1K || fail "the document that fits"
}

limits() {
    MODE="socket, small limit"
    SERVER_DATA=$TEST_TMP/small
    WHERE=(--socket "$SERVER_SOCKET")
    server_start --max-doc-size 1K --max-txn-bytes 4K
    docdb create-db db || fail "create-db"
    a_document_over_the_limit_is_refused
    seq -f "put over-%g 1K" 1 5 >script
    check_error 6 "limit of 4096 bytes" docdb txn db script
    check_equal fits "$(docdb ls db)" "what was written"
    server_stop
    MODE="embedded, small limit"
    docdb() { "$DOCDB" --data-dir "$SERVER_DATA" "$@"; }
    SERVER_DATA=$TEST_TMP/small2
    docdb create-db db || fail "create-db"
    # Only commands that write have the option.
    docdb() {
        case $1 in
        put | create | update | txn) "$DOCDB" --data-dir "$SERVER_DATA" --max-doc-size 1K "$@" ;;
        *) "$DOCDB" --data-dir "$SERVER_DATA" "$@" ;;
        esac
    }
    a_document_over_the_limit_is_refused
}

a_missing_data_directory_is_not_created
a_missing_server_is_said_to_be_missing
a_newer_format_is_refused
both_ways bad_files
limits
