#!/bin/bash
# The mount example does what it shows, and so does the first ready line of `docdb serve` when it is pasted.
# shellcheck source=tests/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
skip_without_fuse
examples=$(cd "$(dirname "$0")/../../examples" && pwd)
cd "$TEST_TMP" || exit 1
WHERE=(--socket "$SERVER_SOCKET")

server_start_mounted
check_exit 0 "$examples/shell/mount.sh" "$SERVER_MOUNT"
check_equal "milk, bread notes/done" "$(xargs -d '\n' <stdout)" "what the mount example prints"
check_equal "" "$(ls "$SERVER_MOUNT")" "what the mount example leaves"
check_equal hello "$(eval "$(sed -n 's/^mount: //p' "$SERVER_STDOUT")" | head -n 1)" "the ready line, pasted"
check_equal hello "$(docdb read demo 1)" "what it wrote, over the socket"
docdb put demo 2 <<<"from the socket" || fail "put"
check_equal "from the socket" "$(cat "$SERVER_MOUNT/demo/2")" "what a command wrote, through the mount"
server_stop
is_mounted "$SERVER_MOUNT" && fail "the mount is still there after the server stopped"
check_equal "hello" "$("$DOCDB" --data-dir "$SERVER_DATA" read demo 1)" "the document, embedded"
