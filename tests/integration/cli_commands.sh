#!/bin/bash
# Every command does what its help says, embedded and over a socket alike, with the documented exit codes.
# shellcheck source=tests/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"

databases() {
    check_exit 0 docdb create-db people
    check_equal "" "$(cat "$TEST_TMP/stdout")" "what create-db prints"
    check_exit 0 docdb create-db zoo Alpha_1.x-y
    check_equal "$(printf 'Alpha_1.x-y\npeople\nzoo')" "$(docdb dbs)" "dbs, in bytewise order"
    check_error 4 "people: the database exists already" docdb create-db people
    # One that fails is reported, the others are created.
    check_error 4 "people: the database exists already" docdb create-db people another
    check_exit 0 docdb drop-db another
    check_error 3 "another: no such database" docdb drop-db another

    docdb put people 1 </dev/null || fail "put"
    check_error 4 "people: the database is not empty" docdb drop-db --if-empty people
    check_error 4 "people: the database is not empty" docdb drop-db --if-empty people zoo
    check_equal "$(printf 'Alpha_1.x-y\npeople')" "$(docdb dbs)" "dbs after drop-db"
    check_exit 0 docdb drop-db people Alpha_1.x-y
    check_equal "" "$(docdb dbs)" "dbs when there are none"

    docdb create-db people || fail "create-db after drop-db"
    check_error 3 "people/1: no such document" docdb read people 1
}

documents() {
    local first second
    check_error 3 "people/alice: no such document; \`docdb create\` or" docdb update people alice <<<x
    check_exit 0 docdb create people alice <<<"one"
    check_equal "" "$(cat "$TEST_TMP/stdout")" "what create prints"
    check_error 4 "people/alice: the document exists already; \`docdb update\` or" docdb create people alice <<<x
    check_equal "one" "$(docdb read people alice)" "read after create"
    check_exit 0 docdb update people alice - <<<"two"
    check_equal "two" "$(docdb read people alice)" "read after update"
    echo "three" >"$TEST_TMP/three"
    check_exit 0 docdb put people alice "$TEST_TMP/three"
    check_exit 0 docdb put people bob "$TEST_TMP/three"
    check_equal "$(printf 'three\nthree')" "$(docdb read people alice bob)" "read of two"

    first=$(docdb put -v people alice <<<"four") || fail "put -v"
    second=$(docdb put --verbose people alice <<<"five") || fail "put --verbose"
    [ "$second" -gt "$first" ] || fail "versions do not rise: $first, then $second"
    check_equal "version $second" "$(docdb stat people alice | awk '$1 == "version" { print $1, $2 }')" "stat"
    check_error 4 "people/alice: conflict" docdb put --if-version "$first" people alice <<<"six"
    check_exit 0 docdb put --if-version "$second" people alice <<<"six"
    check_error 4 "people/alice: conflict" docdb put --if-version 0 people alice <<<"seven"
    check_exit 0 docdb put --if-version 0 people carol <<<"new"
    check_equal "$(printf 'six\nnew')" "$(docdb read people alice carol)" "read after put --if-version"

    check_error 4 "people/alice: conflict" docdb delete people alice --if-version "$second"
    first=$(docdb stat people alice | awk '$1 == "version" { print $2 }')
    check_exit 0 docdb delete people alice --if-version "$first"
    check_error 3 "people/alice: no such document" docdb delete people alice
}

# What can be done is done, each failure is a line, and the exit code is the first one's.
several_ids() {
    local id
    for id in a b c; do
        printf '%s' "$id" | docdb put people "$id" || fail "put $id"
    done
    check_exit 3 docdb read people a missing b "" c
    check_equal abc "$(cat "$TEST_TMP/stdout")" "read prints what there is"
    check_equal 2 "$(wc -l <"$TEST_TMP/stderr")" "lines on stderr of read"
    check_exit 2 docdb read people "" missing a
    check_equal a "$(cat "$TEST_TMP/stdout")" "read prints what there is"
    check_exit 3 docdb stat people a missing b
    check_equal "$(printf 'a\nb')" "$(awk '$1 == "id" { print $2 }' "$TEST_TMP/stdout")" "stat prints what there is"
    check_error 3 "people/missing: no such document" docdb delete people a missing c
    check_error 3 "people/a: no such document" docdb read people a
    check_equal b "$(docdb read people b)" "what delete left"
    check_exit 0 docdb delete people b
}

listing() {
    local id version
    for id in b ab B aa ba '~' 1 10 9; do
        docdb create list "$id" --create-db <<<"$id" || fail "create $id"
    done
    check_equal "1 10 9 B aa ab b ba ~" "$(docdb ls list | xargs)" "ls is in bytewise order"
    check_equal "aa ab" "$(docdb ls list --prefix a | xargs)" "ls --prefix"
    check_equal "" "$(docdb ls list --prefix x)" "ls --prefix of nothing"
    check_equal "b ba ~" "$(docdb ls list --after ab | xargs)" "ls --after"
    check_equal "ba ~" "$(docdb ls list --after bZ | xargs)" "ls --after what is not there"
    check_equal "10 9" "$(docdb ls list --after 1 --limit 2 | xargs)" "ls --limit"
    check_equal "1 10 9 B aa ab b ba ~" "$(docdb ls list -0 | tr '\0' ' ' | xargs)" "ls --null"
    version=$(docdb put -v list aa <<<"12345") || fail "put -v"
    check_equal "6 $version aa" "$(docdb ls -l list --prefix aa | awk '{ print $1, $2, $4 }')" "ls -l"
    check_equal "9 25 list" "$(docdb dbs -l | awk '$4 == "list" { print $1, $2, $4 }')" "dbs -l"
    check_error 3 "none: no such database; \`docdb create-db none\`" docdb ls none
    check_exit 0 docdb drop-db list
}

runtime() {
    check_exit 0 docdb stats
    grep -qE '^commits +[0-9]+ ' "$TEST_TMP/stdout" || fail "stats prints no commits: $(cat "$TEST_TMP/stdout")"
    check_equal "databases 1" "$(docdb stats | awk '$1 == "databases" { print $1, $2 }')" "stats"
    docdb put people kept <<<"kept" || fail "put"
    check_exit 0 docdb checkpoint
    check_equal "" "$(cat "$TEST_TMP/stdout")" "what checkpoint prints"
    check_equal kept "$(docdb read people kept)" "read after checkpoint"
}

names() {
    check_error 2 ": bad database name" docdb create-db ""
    check_error 2 ".hidden: bad database name" docdb create-db .hidden
    check_error 2 "a/b: bad database name" docdb create-db a/b
    check_error 2 'a\n: bad database name' docdb create-db $'a\n'
    check_error 2 "bad database name" docdb create-db "$(printf '%065d' 0)"
    check_error 2 "bad database name" docdb ls ..
    check_error 2 "people/: bad doc id" docdb put people "" <<<x
    check_error 2 "people/a/b: bad doc id" docdb put people a/b <<<x
    check_error 2 "people/.: bad doc id" docdb create people . <<<x
    check_error 2 "people/..: bad doc id" docdb update people .. <<<x
    check_error 2 "bad doc id" docdb put people "$(printf '%0256d' 0)" <<<x
    check_error 2 "bad doc id" docdb stat people a/b
    check_error 2 "bad doc id" docdb delete people a/b
    check_error 3 "none: no such database; \`docdb create-db none\` creates it" docdb put none 1 <<<x
    check_exit 0 docdb put --create-db made 1 <<<x
    check_exit 0 docdb put --create-db made 2 <<<x
    check_equal "1 2" "$(docdb ls made | xargs)" "ls after put --create-db"
    check_error 3 "none: no such database" docdb put none 1 <<<x
}

every_command() {
    databases
    documents
    several_ids
    listing
    runtime
    names
}

both_ways every_command
