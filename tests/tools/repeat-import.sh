#!/bin/bash
# Runs the test of import, kill -9 and recovery many times, each with another seed:
#
#     repeat-import.sh [COUNT [BUILD_DIRECTORY]]
#
# A line a run, with its seed; stops at the first that fails, prints what it said and keeps its files. Then
# `SEED=n DOCDB=... DOCDB_BUILD=... TEST_TMP=... tests/integration/import_kill_recover.py` runs that one again.
# RUN_TIMEOUT (default 300) seconds is what one run may take.
set -u

count=${1:-20}
DOCDB_BUILD=$(cd "${2:-build/release}" && pwd) || exit 2
DOCDB=$DOCDB_BUILD/docdb
export DOCDB DOCDB_BUILD
test=$(dirname "$0")/../integration/import_kill_recover.py
for needed in "$DOCDB" "$DOCDB_BUILD/tests/tools/put_load"; do
    [ -x "$needed" ] || { echo "there is no $needed: run make all tests" >&2; exit 2; }
done

scratch=$(mktemp -d "${TMPDIR:-/tmp}/docdb-import.XXXXXX") || exit 2
for ((run = 1; run <= count; run++)); do
    SEED=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
    TEST_TMP=$scratch/$run
    export SEED TEST_TMP
    mkdir "$TEST_TMP"
    start=$(date +%s)
    timeout --kill-after=10 "${RUN_TIMEOUT:-300}" "$test" >"$TEST_TMP.log" 2>&1 </dev/null
    status=$?
    printf 'run %d of %d: SEED=%s ' "$run" "$count" "$SEED"
    if [ "$status" -ne 0 ]; then
        echo "exit code $status after $(($(date +%s) - start)) s; its files: $TEST_TMP"
        sed 's/^/    | /' "$TEST_TMP.log"
        exit 1
    fi
    right=$(sed -n 's/.*after kill [0-9]*: \([0-9]* documents\).*/\1/p' "$TEST_TMP.log" | tail -n 1)
    kills=$(grep -c 'killed a' "$TEST_TMP.log")
    echo "passed in $(($(date +%s) - start)) s: $kills kills, $right right after the last"
    rm -rf --one-file-system "$TEST_TMP" "$TEST_TMP.log"
done
rmdir "$scratch"
echo "all $count passed"
