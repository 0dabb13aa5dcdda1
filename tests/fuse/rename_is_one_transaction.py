#!/usr/bin/env python3
"""rename in a database is one transaction, with NOREPLACE and EXCHANGE; between databases mv copies and deletes."""

import errno
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from mounted import *  # noqa: E402,F403


def documents(server):
    names = server.docdb("ls", server.database).decode().split()
    check_equal(names, os.listdir(server.db), "ls through the mount and the socket")
    found = {name: server.read(name) for name in names}
    check_equal(found, {name: read_bytes(server.path(name)) for name in names}, "contents by mount and socket")
    return found


def test_rename_moves_and_replaces(server):
    write_bytes(server.path("a"), b"A")
    os.utime(server.path("a"), (1, 1000000000))
    check_equal(1, server.commits_of(lambda: os.rename(server.path("a"), server.path("b"))), "commits")
    check_equal({"b": b"A"}, documents(server), "after rename")
    check_equal(1000000000, os.stat(server.path("b")).st_mtime, "mtime")
    check_errno(errno.ENOENT, lambda: os.stat(server.path("a")), "stat of the old name")
    write_bytes(server.path("c"), b"C")
    os.stat(server.path("c"))
    os.rename(server.path("b"), server.path("c"))
    check_equal({"c": b"A"}, documents(server), "after replacing")
    check_errno(errno.ENOENT, lambda: os.rename(server.path("a"), server.path("c")), "rename of nothing")
    write_bytes(server.path("a"), b"again")
    check_equal({"a": b"again", "c": b"A"}, documents(server), "the old name used again")


def test_noreplace_and_exchange(server):
    write_bytes(server.path("a"), b"A")
    write_bytes(server.path("b"), b"B")
    a, b = server.path("a"), server.path("b")
    check_errno(errno.EEXIST, lambda: rename2(a, b, RENAME_NOREPLACE), "NOREPLACE over a document")
    check_equal(1, server.commits_of(lambda: rename2(a, b, RENAME_EXCHANGE)), "commits of EXCHANGE")
    check_equal({"a": b"B", "b": b"A"}, documents(server), "after EXCHANGE")
    check_errno(errno.ENOENT, lambda: rename2(a, server.path("none"), RENAME_EXCHANGE), "EXCHANGE with nothing")
    rename2(a, server.path("c"), RENAME_NOREPLACE)
    check_equal({"b": b"A", "c": b"B"}, documents(server), "after NOREPLACE")
    check_errno(errno.EINVAL, lambda: rename2(b, server.path("c"), 4), "WHITEOUT")


def test_noreplace_of_a_name_the_kernel_does_not_know_yet(server):
    write_bytes(server.path("a"), b"A")
    check_errno(errno.ENOENT, lambda: os.stat(server.path("b")), "stat")
    server.put("b", b"B")
    check_errno(errno.EEXIST, lambda: rename2(server.path("a"), server.path("b"), RENAME_NOREPLACE), "NOREPLACE")


def test_between_databases_mv_copies_and_deletes(server):
    other = server.db + "-other"
    os.mkdir(other)
    write_bytes(server.path("a"), b"A" * 100000)
    check_errno(errno.EXDEV, lambda: os.rename(server.path("a"), os.path.join(other, "a")), "rename")
    shell("mv a %s/" % other, server.db)
    check_equal({}, documents(server), "the source")
    check_equal(b"A" * 100000, read_bytes(os.path.join(other, "a")), "the target")


def test_after_rename_commits_of_both_names_are_seen(server):
    for number in range(rounds(200)):
        write_bytes(server.path("a"), b"%d" % number)
        os.stat(server.path("a"))
        os.rename(server.path("a"), server.path("b"))
        check_equal(b"%d" % number, read_bytes(server.path("b")), "the new name in round %d" % number)
        server.put("b", b"socket %d" % number)
        check_equal(b"socket %d" % number, read_bytes(server.path("b")), "a socket commit in round %d" % number)
        server.put("a", b"back %d" % number)
        check_equal(b"back %d" % number, read_bytes(server.path("a")), "the old name in round %d" % number)


def test_renames_by_several_processes_at_once_lose_nothing(server):
    names = ["n%d" % number for number in range(6)]
    for name in names:
        write_bytes(server.path(name), name.encode())
    script = ("import ctypes, os, random, sys\n"
              "libc = ctypes.CDLL(None)\n"
              "random.seed(int(sys.argv[1]))\n"
              "for _ in range(int(sys.argv[2])):\n"
              "    a, b = random.sample(range(6), 2)\n"
              "    assert libc.renameat2(-100, b'n%d' % a, -100, b'n%d' % b, 2) == 0\n"
              "    data = open('n%d' % a, 'rb').read()\n"
              "    assert len(data) == 2, data\n")
    seed = seed_random()
    running = [subprocess.Popen([sys.executable, "-c", script, str(seed + number), str(rounds(200))], cwd=server.db)
               for number in range(4)]
    for process in running:
        check_equal(0, process.wait(PATIENCE_S), "a renaming process")
    found = documents(server)
    check_equal((names, sorted(name.encode() for name in names)), (sorted(found), sorted(found.values())), "what is left")


run_tests(globals())
