#!/bin/bash
# Runs tests one after the other: run-tests.sh BUILD_DIRECTORY TEST...
#
# A test is a program or script that exits 0 (passed), 77 (skipped: its last line says why) or anything else (failed: its
# output is printed). Each gets DOCDB (the program), DOCDB_BUILD (the build directory) and a scratch directory TEST_TMP of its
# own, removed when it passed. A test that runs for longer than TEST_TIMEOUT seconds (default 300) is ended and failed.
set -u

build=$1
shift
DOCDB_BUILD=$(cd "$build" && pwd)
DOCDB=$DOCDB_BUILD/docdb
export DOCDB DOCDB_BUILD
passed=0 failed=0 skipped=0
scratch=$(mktemp -d "${TMPDIR:-/tmp}/docdb-tests.XXXXXX") || exit 1

for test in "$@"; do
    name=${test#"$build"/}
    TEST_TMP=$scratch/$(echo "$name" | tr / .)
    export TEST_TMP
    mkdir -p "$TEST_TMP"
    log=$TEST_TMP.log
    start=$(date +%s)
    timeout --kill-after=10 "${TEST_TIMEOUT:-300}" "$test" >"$log" 2>&1 </dev/null
    status=$?
    seconds=$(($(date +%s) - start))
    case $status in
    0)
        passed=$((passed + 1))
        printf 'ok    %-52s %3d s\n' "$name" "$seconds"
        rm -rf "$TEST_TMP" "$log"
        ;;
    77)
        skipped=$((skipped + 1))
        printf 'SKIP  %-52s %s\n' "$name" "$(tail -n 1 "$log")"
        rm -rf "$TEST_TMP" "$log"
        ;;
    *)
        failed=$((failed + 1))
        [ "$status" -ne 124 ] || echo "timed out after ${TEST_TIMEOUT:-300} s" >>"$log"
        printf 'FAIL  %-52s %3d s, exit code %d; its files: %s\n' "$name" "$seconds" "$status" "$TEST_TMP"
        sed 's/^/      | /' "$log" | tail -n 100
        ;;
    esac
done

[ "$failed" -ne 0 ] || rm -rf "$scratch"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
