#!/bin/bash
# `docdb txn` commits all of a script or nothing of it, names the line of an error, and its grammar is the man page's.
# shellcheck source=tests/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
cd "$TEST_TMP" || exit 1
printf 'from a file\n' >file
printf 'from another' >'other file'
head -c 1000000 /dev/urandom >large

# contents: every document as ID=CONTENT, on one line.
contents() {
    local id
    for id in $(docdb ls t); do
        printf '%s=%s ' "$id" "$(docdb read t "$id")"
    done
}

operations_take_effect_in_order() {
    local version
    docdb create-db t || fail "create-db"
    check_exit 0 docdb txn t <<'END'
# a comment, and an empty line

put a file
	create b "other file"
create-text c "text"
  update-text c changed   
put-text d ""
put-text e gone
delete e
rename c f
put-text g 1
put-text h 2
rename g h exchange
put-if-text i 0 "new"
# the end
END
    version=$(cat stdout)
    [ "$version" -gt 0 ] || fail "txn prints no commit_seq but '$version'"
    check_equal "a=from a file b=from another d= f=changed g=2 h=1 i=new " "$(contents)" "after the script"
    check_equal "$version" "$(docdb stat t a b d f g h i | awk '$1 == "version" { print $2 }' | sort -u)" "one version for all"
    check_exit 0 docdb txn t <<END
put-if a $version large
delete-if b $version
update d file
rename f g
END
    docdb read t a | cmp - large || fail "put-if of a file"
    check_exit 0 docdb txn t - <<<"put-text a small"
    check_equal "a=small d=from a file g=changed h=1 i=new " "$(contents)" "after the second script"
    echo "delete a" >script
    check_exit 0 docdb txn t script
    check_equal "d=from a file g=changed h=1 i=new " "$(contents)" "after a script from a file"
    check_exit 0 docdb txn t </dev/null
    check_exit 0 docdb txn --create-db made <<<"put-text x y"
    check_equal y "$(docdb read made x)" "txn --create-db"
}

words_and_escapes() {
    printf 'put-text x "%s"\r\n' '\n\t\r\\\"\x00\x41\xff # no comment' | docdb txn t >/dev/null || fail "escapes"
    docdb read t x >got
    printf '\n\t\r\\"\0A\377 # no comment' >expected
    check_same_file expected got "what the escapes became"
    printf 'put-text "an id\\n" back\\slash' | docdb txn t >/dev/null || fail "a script without a last newline"
    check_equal 'back\slash' "$(docdb read t $'an id\n')" "a backslash in a bare word"
    printf 'put-text\tx\t"one  two"\t' | docdb txn t >/dev/null || fail "tabs"
    check_equal "one  two" "$(docdb read t x)" "blanks in quotes"
    printf '\n\n  \n#\n' | docdb txn t >/dev/null || fail "a script of nothing"
    docdb delete t x $'an id\n' || fail "delete"
}

# broken LINE CODE PART SCRIPT: the script fails so, and nothing is committed.
broken() {
    local before
    before=$(docdb ls -l t)
    printf '%b' "$4" >script
    check_error "$2" "docdb txn: line $1: " docdb txn t script
    check_contains "$(cat stderr)" "$3" "the error of the script: $4"
    check_contains "$(cat stderr)" "nothing was" "the error of the script: $4"
    check_equal "$before" "$(docdb ls -l t)" "the database after the failed script: $4"
}

an_error_names_its_line_and_commits_nothing() {
    docdb put t there <<<"there" || fail "put"
    broken 2 4 "the document exists already" 'put-text new 1\ncreate-text there 2\nput-text newer 3\n'
    broken 3 4 "create there" '# comment\nput-text new 1\ncreate there file\n'
    broken 2 3 "no such document" 'put-text new 1\nupdate-text missing 2\n'
    broken 2 3 "delete missing: no such document" 'put-text new 1\ndelete missing\n'
    broken 2 3 "rename missing there" 'put-text new 1\nrename missing there\n'
    broken 2 4 "rename new there: the document exists" 'put-text new 1\nrename new there noreplace\n'
    broken 2 3 "no such document" 'put-text new 1\nrename new missing exchange\n'
    broken 2 4 "conflict" 'put-text new 1\nput-if-text there 1 x\n'
    broken 2 4 "conflict" 'put-text new 1\nput-if-text there 0 x\n'
    broken 1 4 "conflict" 'delete-if there 1\n'
    broken 2 2 "bad doc id" 'put-text new 1\nput-text a/b 2\n'
    broken 1 2 "bad doc id" 'put-text "a\\x00b" 2\n'
    broken 2 2 "frobnicate is not an operation" 'put-text new 1\nfrobnicate x\n'
    broken 1 2 "use: put ID FILE" 'put x\n'
    broken 1 2 "use: put ID FILE" 'put x file more\n'
    broken 1 2 "too many words" 'put a b c d e\n'
    broken 1 2 "use: rename FROM TO" 'rename there\n'
    broken 1 2 "sideways is not noreplace or exchange" 'rename there new sideways\n'
    broken 1 2 "a quote is not closed" 'put-text x "abc\n'
    broken 1 2 "unknown escape" 'put-text x "a\\qb"\n'
    broken 1 2 "unknown escape" 'put-text x "a\\x4"\n'
    broken 1 2 "blank is missing" 'put-text x "abc"def\n'
    broken 1 2 "goes in double quotes" 'put-text x ab"c\n'
    broken 1 2 "goes in double quotes" 'put-text x a\0b\n'
    broken 1 2 "x1 is not a version" 'put-if-text there x1 y\n'
    broken 1 2 "99999999999999999999 is not a version" 'put-if-text there 99999999999999999999 y\n'
    broken 1 2 "0 is not a version" 'delete-if there 0\n'
    broken 1 2 "can't be the file" 'put x -\n'
    broken 2 3 "can't open missing: No such file" 'put-text new 1\nput x missing\n'
    check_error 3 "can't open missing-script" docdb txn t missing-script
    docdb delete t there || fail "delete"
}

limits() {
    seq -f 'put-text %g x' 1 10000 >script-of-10000
    seq -f 'put-text %g x' 1 10001 >script-of-10001
    broken 10001 6 "at most 10000 operations" "$(cat script-of-10001)"
    check_exit 0 docdb txn --create-db many script-of-10000
    check_equal 10000 "$(docdb ls many | wc -l)" "documents after a script of 10000 operations"
}

every_script() {
    operations_take_effect_in_order
    words_and_escapes
    an_error_names_its_line_and_commits_nothing
    limits
}

both_ways every_script

# Scripts that touch the same documents at the same time lose nothing and mix nothing: each is done again when another one got
# in between. Each adds a document of its own, and all replace the same two.
concurrent_scripts_do_not_mix() {
    local writer pids=()
    server_start
    WHERE=(--socket "$SERVER_SOCKET")
    docdb create-db --socket "$SERVER_SOCKET" race || fail "create-db"
    for writer in 1 2 3 4 5 6; do
        (
            trap - EXIT
            for round in 1 2 3 4 5 6 7 8; do
                printf 'put-text left %s\nput-text right %s\ncreate-text done-%s x\n' "$writer.$round" "$writer.$round" \
                    "$writer.$round" | docdb txn race >/dev/null || exit 1
            done
        ) &
        pids+=("$!")
        own_pid "$!"
    done
    for writer in "${pids[@]}"; do
        wait_for_exit "$writer"
        check_equal 0 "$WAITED_STATUS" "a writer's exit code"
    done
    check_equal "$(docdb read race left)" "$(docdb read race right)" "left and right"
    check_equal 48 "$(docdb ls race --prefix done- | wc -l)" "scripts that took effect"
    server_stop
}

concurrent_scripts_do_not_mix
