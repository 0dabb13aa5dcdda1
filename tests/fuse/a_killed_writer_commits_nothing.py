#!/usr/bin/env python3
"""A writer that a signal kills commits nothing and publishes nothing; a normal exit, whatever its status, commits."""

import os
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from mounted import *  # noqa: E402,F403

WRITER = r"""
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
how = sys.argv[1]
fd = os.open("f", os.O_WRONLY | os.O_TRUNC | os.O_CREAT)
os.write(fd, b"partial\n")
if how.startswith("threads"):
    def write():
        while True:
            os.write(fd, b"more\n")
            time.sleep(0.001)
    threading.Thread(target=write, daemon=True).start()
    time.sleep(0.05)
print("written", flush=True)
end = how.split("-")[-1]
if end == "exit":
    os._exit(3)
if end == "abort":
    os.abort()
if end == "close":
    os.close(fd)
    os._exit(0)
time.sleep(600)
"""


def run_writer(server, how, signal_number=None):
    """Starts the writer in the database; kills it once it has written. Returns its exit code."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, how], cwd=server.db, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
    try:
        check_equal(b"written\n", writer.stdout.readline(), "the writer's word")
        if signal_number is not None:
            writer.send_signal(signal_number)
        return writer.wait(PATIENCE_S)
    finally:
        if writer.poll() is None:
            writer.kill()
            writer.wait()
        writer.stdout.close()


def released(server):
    """After this, every RELEASE of processes that have ended was handled: the server lists no more open handles."""
    # The kernel sends RELEASE without waiting. A commit that must not happen would happen within it; so give it the time of
    # several commits of another document, which wait for their turn behind it.
    for _ in range(5):
        write_bytes(server.path("barrier"), b"x")
    os.unlink(server.path("barrier"))
    time.sleep(0.05)


def test_killed_by_each_signal(server):
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGSEGV):
        for how in ("single", "threads"):
            write_bytes(server.path("f"), b"old")
            check_equal(-number, run_writer(server, how, number), "the writer's exit code")
            released(server)
            check_equal(b"old", server.read("f"), "after signal %d, %s" % (number, how))


def test_abort_is_a_kill(server):
    write_bytes(server.path("f"), b"old")
    run_writer(server, "single-abort")
    released(server)
    check_equal(b"old", server.read("f"), "after abort()")


def test_a_new_document_of_a_killed_writer_never_appears(server):
    run_writer(server, "single", signal.SIGKILL)
    released(server)
    check_equal([], os.listdir(server.db), "ls")
    check_equal(None, server.read("f"), "the socket")


def test_exits_commit(server):
    for how, expected in (("single-exit", b"partial\n"), ("single-close", b"partial\n")):
        write_bytes(server.path("f"), b"old")
        run_writer(server, how)
        check_equal(expected, server.read("f"), how)
    write_bytes(server.path("f"), b"old")
    run_writer(server, "threads-exit")
    wait_until(lambda: server.read("f").startswith(b"partial\nmore\n"), "an exit with other threads alive commits")


def test_a_killed_writer_that_is_not_the_opener(server):
    write_bytes(server.path("f"), b"old")
    status = subprocess.run(["bash", "-c", "(echo part; sleep 1) | timeout -s KILL 0.3 cat > f"], cwd=server.db)
    check(status.returncode != 0, "timeout did not kill cat")
    released(server)
    check_equal(b"old", server.read("f"), "timeout cat > f")
    subprocess.run(["timeout", "0.3", "bash", "-c", "(echo part; sleep 2) > f"], cwd=server.db)
    released(server)
    check_equal(b"old", server.read("f"), "timeout bash -c '... > f'")


def test_a_killed_child_that_never_wrote_does_no_harm(server):
    write_bytes(server.path("f"), b"old")
    shell("{ echo part; sh -c 'kill -9 $$'; echo rest; } > f", server.db)
    check_equal(b"part\nrest\n", server.read("f"), "the document")


def test_a_killed_parent_whose_child_goes_on_commits_nothing(server):
    write_bytes(server.path("f"), b"old")
    script = ("import os, signal, time\n"
              "fd = os.open('f', os.O_WRONLY | os.O_TRUNC)\n"
              "os.write(fd, b'parent')\n"
              "r, w = os.pipe()\n"
              "if os.fork() == 0:\n"
              "    os.close(w); os.read(r, 1)\n"  # the parent is gone
              "    try: os.write(fd, b'child')\n"
              "    except OSError: pass\n"
              "    os._exit(0)\n"
              "os.kill(os.getpid(), signal.SIGKILL)\n")
    subprocess.run([sys.executable, "-c", script], cwd=server.db)
    time.sleep(0.3)
    released(server)
    check_equal(b"old", server.read("f"), "the document")


def test_a_new_writer_after_a_killed_one_works(server):
    run_writer(server, "single", signal.SIGKILL)
    write_bytes(server.path("f"), b"fine")
    check_equal(b"fine", server.read("f"), "the document")


run_tests(globals())
