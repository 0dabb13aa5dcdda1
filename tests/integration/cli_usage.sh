#!/bin/bash
# What is wrong with the arguments is said in one line, with exit code 2, before anything is done; and help, man page and
# tables agree. Needs no data.
# shellcheck source=tests/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
cd "$TEST_TMP" || exit 1

usage_error() { check_error 2 "$@"; }

commands_are_checked() {
    usage_error "no command" "$DOCDB"
    usage_error "no such command: sevre; did you mean serve?" "$DOCDB" sevre
    usage_error "did you mean create-db?" "$DOCDB" creat-db x
    usage_error "no such command: frobnicate; \`docdb help\`" "$DOCDB" frobnicate
    usage_error 'no such command: a\nb\x1b' "$DOCDB" $'a\nb\x1b'
    usage_error "no such command or topic: nothing" "$DOCDB" help nothing
}

options_are_checked() {
    usage_error "no such option: --sokcet; did you mean --socket?" "$DOCDB" --sokcet s ls db
    usage_error "no such option: --data_dir; did you mean --data-dir?" "$DOCDB" ls db --data_dir=x
    usage_error "no such option: -q" "$DOCDB" ls -q db
    usage_error "no such option: -5" "$DOCDB" --data-dir d read db -5
    usage_error "--mount is no option of this command" "$DOCDB" ls --mount m db
    usage_error "--json takes no value" "$DOCDB" ls --json=yes db
    usage_error "--socket needs a value: --socket PATH" "$DOCDB" ls db --socket
    usage_error "--socket needs a value that is not empty" "$DOCDB" ls db --socket ""
    usage_error "--socket needs a value that is not empty" "$DOCDB" ls db --socket=
}

values_are_checked() {
    local value
    for value in 12Q 1.5M -1 "" " 1" 1KB M 0x10; do
        usage_error "--max-doc-size $value is not a size" "$DOCDB" serve --max-doc-size "$value"
    done
    for value in 0 1025M 2G 18446744073709551615G 99999999999999999999; do
        check_exit 2 "$DOCDB" serve --max-doc-size "$value"
    done
    usage_error "out of range: 1 to 1073741824 bytes" "$DOCDB" serve --max-doc-size 2G
    usage_error "out of range" "$DOCDB" serve --max-txn-bytes 3G
    usage_error "out of range" "$DOCDB" serve --wal-limit 1M
    usage_error "out of range: 1 to 60000 ms" "$DOCDB" serve --txn-timeout 61s
    usage_error "--txn-timeout 5h is not a time" "$DOCDB" serve --txn-timeout 5h
    usage_error "--socket-mode 0888 is not octal" "$DOCDB" serve --socket-mode 0888
    usage_error "out of range" "$DOCDB" serve --socket-mode 1777
    usage_error "--limit x is not a number" "$DOCDB" ls db --limit x
    usage_error "--if-version 1K is not a number" "$DOCDB" put db id --if-version 1K
}

operands_are_checked() {
    usage_error "operands are missing; use: docdb ls DB" "$DOCDB" --data-dir d ls
    usage_error "operands are missing; use: docdb put DB ID [FILE|-]" "$DOCDB" --data-dir d put db
    usage_error "one operand too many: c; use: docdb ls DB" "$DOCDB" --data-dir d ls db c
    usage_error "one operand too many: x" "$DOCDB" --data-dir d dbs x
    usage_error "one operand too many: x" "$DOCDB" serve x --data-dir d --socket s
    usage_error "--if-version goes with one ID" "$DOCDB" --data-dir d delete db a b --if-version 1
    usage_error "--if-version 0" "$DOCDB" --data-dir d delete db a --if-version 0
}

the_place_of_the_data_is_checked() {
    usage_error "where is the data?" "$DOCDB" ls db
    usage_error "where is the data?" env DOCDB_SOCKET= DOCDB_DATA_DIR= "$DOCDB" ls db
    usage_error "exclude each other" "$DOCDB" --data-dir d --socket s ls db
    usage_error "over a socket the limit is the server's" "$DOCDB" --socket s --max-doc-size 1M put db id
    usage_error "where is the data?" "$DOCDB" serve --socket s
    usage_error "nothing to serve on" "$DOCDB" serve --data-dir d
    usage_error "nothing to serve on" "$DOCDB" --data-dir d
    usage_error "the mount point can't be in the data directory" "$DOCDB" serve --data-dir . --mount ./mnt
    usage_error "nor the data directory in it" "$DOCDB" serve --data-dir ./d --mount .
    usage_error "the socket can't be in the mount" "$DOCDB" serve --data-dir ./d --mount ./m --socket "$(mkdir -p m && echo m)/s"
    check_equal "m" "$(echo [!s]*)" "what these created"
}

# An option beats the environment, of which the socket beats the data directory.
environment_gives_defaults() {
    check_error 5 "$TEST_TMP/env.sock" env DOCDB_SOCKET="$TEST_TMP/env.sock" DOCDB_DATA_DIR="$TEST_TMP/env.data" "$DOCDB" dbs
    check_error 3 "$TEST_TMP/env.data" env DOCDB_DATA_DIR="$TEST_TMP/env.data" "$DOCDB" dbs
    check_error 3 "$TEST_TMP/opt.data" env DOCDB_SOCKET="$TEST_TMP/env.sock" "$DOCDB" dbs --data-dir "$TEST_TMP/opt.data"
    check_error 5 "$TEST_TMP/opt.sock" env DOCDB_DATA_DIR="$TEST_TMP/env.data" "$DOCDB" dbs --socket "$TEST_TMP/opt.sock"
}

options_stand_anywhere() {
    check_error 3 "$TEST_TMP/none" "$DOCDB" --data-dir "$TEST_TMP/none" ls db -l
    check_error 3 "$TEST_TMP/none" "$DOCDB" ls "--data-dir=$TEST_TMP/none" -l db
    check_error 3 "$TEST_TMP/none" "$DOCDB" ls -l0 db "--data-dir=$TEST_TMP/none"
    check_error 3 "$TEST_TMP/none" "$DOCDB" --data-dir "$TEST_TMP/none" -- read db --json -l
    check_error 3 "$TEST_TMP/none" "$DOCDB" ls db --data-dir "$TEST_TMP/other" --data-dir "$TEST_TMP/none"
}

# Every command has help, and the man page tells of every command and option that help tells of.
help_and_manual_are_complete() {
    local command option manual
    manual=$(dirname "$0")/../../docs/man/docdb.1.scd
    [ "${0#/}" != "$0" ] || manual=$OLDPWD/$manual
    check_exit 0 "$DOCDB" help
    cp stdout overview
    check_exit 0 "$DOCDB" --help
    check_same_file overview stdout "--help and help"
    awk '/^  [a-z]/ { print $1 }' overview >commands
    [ "$(wc -l <commands)" -ge 16 ] || fail "help lists too few commands: $(cat commands)"
    while read -r command; do
        check_exit 0 "$DOCDB" help "$command"
        cp stdout help
        check_contains "$(cat help)" "docdb $command" "help $command"
        check_exit 0 "$DOCDB" "$command" --help
        check_same_file help stdout "help $command and $command --help"
        grep -q "^\*$command\*" "$manual" || fail "the man page has no paragraph of $command"
        grep -oE -- '--[a-z-]+' help >options
        while read -r option; do
            grep -q -- "\*$option\*" "$manual" || fail "the man page has no $option of $command"
        done <options
    done <commands
    check_exit 0 "$DOCDB" help exit-codes
    awk '/^ +[0-9] / { print $1 }' stdout >codes
    check_equal 10 "$(wc -l <codes)" "how many exit codes help lists"
    while read -r option; do
        grep -qE "^\|.* \*$option\*" "$manual" || fail "the man page has no exit code $option"
    done <codes
    check_exit 0 "$DOCDB" help environment
    check_exit 0 "$DOCDB" version
    check_equal "docdb" "$(cut -d' ' -f1 stdout)" "version"
    cp stdout version
    check_exit 0 "$DOCDB" --version
    check_same_file version stdout "--version and version"
}

commands_are_checked
options_are_checked
values_are_checked
operands_are_checked
the_place_of_the_data_is_checked
environment_gives_defaults
options_stand_anywhere
help_and_manual_are_complete
