#!/usr/bin/env python3
"""SIGTERM drops what is staged and unmounts; kill -9 loses nothing acknowledged, and the next start clears the stale mount."""

import errno
import os
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from mounted import *  # noqa: E402,F403


def test_sigterm_drops_staged_writes_and_keeps_acknowledged_ones(server):
    write_bytes(server.path("f"), b"acknowledged")
    staged = os.open(server.path("f"), os.O_WRONLY | os.O_TRUNC)
    os.write(staged, b"staged")
    created = os.open(server.path("new"), os.O_WRONLY | os.O_CREAT)
    os.write(created, b"staged")
    reader = os.open(server.path("f"), os.O_RDONLY)
    directory = os.open(server.db, os.O_RDONLY)
    server.stop()
    check_errno(errno.ENOENT, lambda: os.stat(server.db), "the database after the unmount")
    for fd in (staged, created):
        try:
            os.close(fd)
            raise AssertionError("close of a staged write worked after the server stopped")
        except OSError:
            pass
    os.close(reader)
    os.close(directory)
    server.start()
    check_equal(b"acknowledged", read_bytes(server.path("f")), "after the restart")
    check_equal(["f"], os.listdir(server.db), "ls after the restart")


def test_sigterm_under_load_exits_cleanly(server):
    script = "i=0; while echo $i > %s.$1 && cat %s.$1 > /dev/null && rm %s.$1; do i=$((i+1)); done" % (("f",) * 3)
    running = [subprocess.Popen(["bash", "-c", script, "bash", str(number)], cwd=server.db, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL) for number in range(6)]
    time.sleep(0.5)
    server.stop()
    for process in running:
        process.wait(PATIENCE_S)
    server.start()


def test_kill_9_gives_enotconn_and_the_next_start_clears_it(server):
    write_bytes(server.path("f"), b"acknowledged")
    staged = os.open(server.path("f"), os.O_WRONLY | os.O_TRUNC)
    os.write(staged, b"staged")
    server.kill()
    check_errno(errno.ENOTCONN, lambda: os.listdir(server.mount), "ls after kill -9")
    server.start()
    check_equal(b"acknowledged", read_bytes(server.path("f")), "after the restart")
    with open("/proc/self/mounts") as mounts:
        check_equal(1, sum(line.split()[1] == os.path.realpath(server.mount) for line in mounts), "mounts")
    check("stale" in server.log() or "cleared the mount" in server.log(), "the log says nothing of it")
    try:
        os.close(staged)
    except OSError:
        pass
    check_equal(b"acknowledged", server.read("f"), "after the close of the old descriptor")


def test_kill_9_under_load_loses_nothing_acknowledged(server):
    script = ("import os, sys\n"
              "number = 0\n"
              "try:\n"
              "    while True:\n"
              "        with open('d' + sys.argv[1], 'w') as file: file.write(str(number))\n"
              "        number += 1\n"
              "        open('d' + sys.argv[1]).read()\n"
              "except OSError: pass\n"
              "print(number)\n")
    for turn in range(4):
        for name in os.listdir(server.db):
            os.unlink(server.path(name))
        running = [subprocess.Popen([sys.executable, "-c", script, str(number)], cwd=server.db, stdout=subprocess.PIPE)
                   for number in range(4)]
        time.sleep(0.2 + 0.1 * turn)
        server.kill()
        server.start()
        for number, process in enumerate(running):
            count = int(process.communicate(timeout=PATIENCE_S)[0])
            got = server.read("d%d" % number)
            # The last close may have failed although its commit was durable.
            found = -1 if got is None else int(got)
            check(found in (count - 1, count), "acknowledged %d, found %d" % (count - 1, found))


def test_a_live_mount_is_refused(server):
    second = Server(os.path.join(server.scratch, "second"))
    second.mount = server.mount
    done = subprocess.run([program(), "serve", "--data-dir", second.data, "--socket", second.socket, "--mount",
                           second.mount], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE_S)
    check(done.returncode != 0, "a second server mounted over a live one")
    check(b"live" in done.stderr, "its error does not say why: %r" % done.stderr)
    write_bytes(server.path("f"), b"still served")
    check_equal(b"still served", server.read("f"), "the first server")


def test_an_unmount_by_hand_leaves_the_socket_and_a_clean_stop(server):
    write_bytes(server.path("f"), b"data")
    subprocess.run(["umount", server.mount], check=True)
    check(not is_mounted(server.mount), "it is still mounted")
    check_equal(b"data", server.read("f"), "the socket")
    wait_until(lambda: "unmounted by someone else" in server.log(), "the log says so")
    server.stop()
    server.start()
    check_equal(b"data", read_bytes(server.path("f")), "after a restart")


def test_mount_points_that_cannot_be_used_are_refused(server):
    path = os.path.join(server.scratch, "plain-file")
    write_bytes(path, b"")
    for number, mount in enumerate((path, os.path.join(server.scratch, "none", "deeper"))):
        done = subprocess.run([program(), "serve", "--data-dir", os.path.join(server.scratch, "x%d" % number), "--socket",
                               os.path.join(server.scratch, "x.socket"), "--mount", mount], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=PATIENCE_S)
        check(done.returncode not in (0, -signal.SIGSEGV), "serve on %s: exit code %d" % (mount, done.returncode))
        check(mount.encode() in done.stderr, "the error does not name the mount point: %r" % done.stderr)


run_tests(globals())
