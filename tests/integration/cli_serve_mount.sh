#!/bin/bash
# `docdb serve --mount`: the mount point is created when missing; one that can't be used is refused in one line; a stale one is cleared;
# where FUSE can't be used, the socket is served alone.
# shellcheck source=tests/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
skip_without_fuse
cd "$TEST_TMP" || exit 1
WHERE=(--socket "$SERVER_SOCKET")

serve_refuses() {
    local code=$1 part=$2
    shift 2
    check_error "$code" "$part" "$DOCDB" serve --data-dir "$SERVER_DATA" --socket "$SERVER_SOCKET" "$@"
    [ ! -e "$SERVER_SOCKET" ] || fail "a server that did not start left its socket"
}

bad_mount_points_are_refused() {
    echo precious >file
    serve_refuses 3 "$TEST_TMP/file" --mount "$TEST_TMP/file"
    check_equal precious "$(cat file)" "the file that was no directory"
    serve_refuses 3 "none/mnt" --mount "$TEST_TMP/none/mnt"
    mkdir other
    server_start_mounted
    check_error 5 "$SERVER_MOUNT" "$DOCDB" serve --data-dir "$TEST_TMP/data2" --mount "$SERVER_MOUNT"
    # A server that can mount but not listen leaves no mount.
    own_mount "$TEST_TMP/mnt2"
    check_error 5 "$SERVER_SOCKET" "$DOCDB" serve --data-dir "$TEST_TMP/data2" --mount "$TEST_TMP/mnt2" \
        --socket "$SERVER_SOCKET"
    is_mounted "$TEST_TMP/mnt2" && fail "a server that did not start left its mount"
    docdb put --create-db db 1 <<<one || fail "put"
    check_equal one "$(cat "$SERVER_MOUNT/db/1")" "the mount of the first server"
    server_stop
    [ -d "$SERVER_MOUNT" ] || fail "the mount point that was created is gone"
    is_mounted "$SERVER_MOUNT" && fail "the mount is there after the server stopped"
    # What was served once is served again, mount only this time.
    own_mount "$SERVER_MOUNT"
    server_run "$DOCDB" serve --data-dir "$SERVER_DATA" --mount "$SERVER_MOUNT"
    check_equal one "$(cat "$SERVER_MOUNT/db/1")" "the document through the mount alone"
    server_stop
}

a_stale_mount_is_cleared() {
    server_start_mounted
    server_kill
    ls "$SERVER_MOUNT" 2>/dev/null && fail "kill -9 left no stale mount: this test shows nothing"
    server_start_mounted
    check_equal one "$(cat "$SERVER_MOUNT/db/1")" "the document after kill -9"
    server_stop
    is_mounted "$SERVER_MOUNT" && fail "a mount is left after the server stopped"
    [ -d "$SERVER_MOUNT" ] || fail "the mount point is gone"
}

# FUSE is taken away in a mount namespace of our own.
without_fuse_the_socket_is_served_alone() {
    [ "$(id -u)" -eq 0 ] && unshare --mount true 2>/dev/null || return 0
    cat >without-fuse <<'END'
mount --bind /dev/fuse /dev/fuse && mount -o remount,bind,nodev /dev/fuse && exec "$@"
END
    server_run unshare --mount sh without-fuse "$DOCDB" serve --data-dir "$SERVER_DATA" --mount "$SERVER_MOUNT" \
        --socket "$SERVER_SOCKET"
    check_equal one "$(docdb read db 1)" "the document over the socket"
    check_equal 1 "$(grep -c ' warning .*serving the socket alone: ' "$SERVER_STDERR")" "warnings of it"
    check_contains "$(head -n 1 "$SERVER_STDOUT")" "mount:   none" "the first ready line"
    server_stop
    check_error 8 "/dev/fuse" unshare --mount sh without-fuse "$DOCDB" serve --data-dir "$SERVER_DATA" --mount "$SERVER_MOUNT"
}

bad_mount_points_are_refused
a_stale_mount_is_cleared
without_fuse_the_socket_is_served_alone
