#!/bin/bash
# The README's code does what it says, taken from the README itself: the C example embedded and over a socket, the mount's five lines, the
# commands.
# shellcheck source=tests/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$TEST_TMP" || exit 1

# The Nth block of the README in the given language.
block() {
    awk -v language="$1" -v wanted="$2" '
        /^```/ { inside = !inside && $0 == "```" language && ++count == wanted; next }
        inside' "$root/README.md"
}

block c 1 >example.c
[ -s example.c ] || fail "the README has no C example"
cp "$DOCDB_BUILD/libdocdb.a" . || fail "no library"
# A library built under a sanitizer needs the compiler and flags that it was built with.
case $DOCDB_BUILD in
*/asan) compiler=(clang "-fsanitize=address,undefined") ;;
*/tsan) compiler=(clang -fsanitize=thread) ;;
*) compiler=(cc) ;;
esac
"${compiler[@]}" -Wall -Werror example.c -I"$root/include" libdocdb.a -lxxhash -pthread -o example || fail "the C example does not compile"
check_equal "42 years" "$(./example ./embedded)" "the C example, embedded"

if [ -w /dev/fuse ]; then
    server_start_mounted
    mkdir server && cd server || exit 1
    ln -s "$SERVER_MOUNT" mnt
    block sh 2 >mount.sh
    check_equal 5 "$(wc -l <mount.sh)" "lines of the mount's example"
    sh -eu mount.sh >stdout || fail "the mount's example"
    check_contains "$(cat stdout)" "milk, bread" "the mount's example"
    check_contains "$(tail -n 1 stdout)" "done" "the last line of the mount's example"
    ln -s "$DOCDB" docdb
    block sh 3 | sed "s|/tmp/docdb.sock|$SERVER_SOCKET|" >socket.sh
    check_equal "milk, bread" "$(sh -eu socket.sh)" "the socket's example"
    check_equal "eggs" "$(cat mnt/notes/more)" "what the socket's example wrote"
else
    server_start
    echo "the mount's part of the README is not tried: /dev/fuse can't be used here"
fi
check_equal "42 years" "$(../example "unix:$SERVER_SOCKET")" "the C example, over the socket"
server_stop
