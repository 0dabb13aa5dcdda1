#!/usr/bin/env python3
"""An open reader sees its version until it closes; whoever opens anew sees the newest; nobody sees a write before its commit."""

import errno
import mmap
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from mounted import *  # noqa: E402,F403

OLD = b"A" * 300000
NEW = b"B" * 200000


class Reader:
    """A descriptor and a mapping of one version, touched only at its start so far."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY)
        self.expected = os.fstat(self.fd).st_size
        self.map = mmap.mmap(self.fd, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)

    def check(self, data, what):
        check_equal(len(data), os.fstat(self.fd).st_size, what + ": fstat")
        check(os.pread(self.fd, len(data) + 10, 0) == data, what + ": pread")
        check(self.map[:] == data, what + ": mmap")

    def close(self):
        self.map.close()
        os.close(self.fd)


def test_a_truncating_open_publishes_nothing_before_its_commit(server):
    path = server.path("f")
    write_bytes(path, OLD)
    reader = Reader(path)
    writer = os.open(path, os.O_WRONLY | os.O_TRUNC)
    reader.check(OLD, "an old reader after O_TRUNC")
    check_equal(len(OLD), os.stat(path).st_size, "stat after O_TRUNC")
    os.write(writer, NEW)
    reader.check(OLD, "an old reader after a write")
    check(read_bytes(path) == OLD, "a new reader before the commit")
    check(server.read("f") == OLD, "the socket before the commit")
    check_equal(len(OLD), os.stat(path).st_size, "stat before the commit")
    os.close(writer)
    reader.check(OLD, "an old reader after the commit")
    check(read_bytes(path) == NEW, "a new reader after the commit")
    check_equal(len(NEW), os.stat(path).st_size, "stat after the commit")
    reader.close()


def test_a_reader_keeps_its_version(server):
    path = server.path("f")
    changes = {
        "replace": lambda: write_bytes(path, NEW),
        "a socket commit": lambda: server.put("f", NEW),
        "truncate": lambda: os.truncate(path, 10),
        "unlink": lambda: os.unlink(path),
        "a socket delete": lambda: server.docdb("delete", server.database, "f"),
        "rename away": lambda: os.rename(path, path + "2"),
        "rename over it": lambda: (write_bytes(path + "3", NEW), os.rename(path + "3", path)),
        "append": lambda: shell("echo more >> f", server.db),
    }
    for what, change in changes.items():
        write_bytes(path, OLD)
        reader = Reader(path)
        change()
        reader.check(OLD, what)
        if os.path.exists(path):
            check(read_bytes(path) != OLD, what + ": a new reader sees the old version")
        reader.check(OLD, what + ", after a new reader")
        reader.close()


def test_a_replaced_version_can_be_opened_again_through_its_descriptor(server):
    write_bytes(server.path("f"), OLD)
    fd = os.open(server.path("f"), os.O_RDONLY)
    write_bytes(server.path("f"), NEW)
    again = os.open("/proc/self/fd/%d" % fd, os.O_RDONLY)
    check(os.pread(again, len(OLD), 0) == OLD, "the second descriptor")
    os.close(again)
    os.close(fd)


def test_an_open_writer_that_commits_after_unlink_creates_it_again(server):
    write_bytes(server.path("f"), OLD)
    fd = os.open(server.path("f"), os.O_WRONLY)
    os.unlink(server.path("f"))
    os.pwrite(fd, b"x", 0)
    check_errno(errno.ENOENT, lambda: os.stat(server.path("f")), "stat before the commit")
    os.close(fd)
    check(read_bytes(server.path("f")) == b"x" + OLD[1:], "after the commit")


def test_of_two_writers_the_last_commit_wins_whole(server):
    write_bytes(server.path("f"), OLD)
    first = os.open(server.path("f"), os.O_WRONLY | os.O_TRUNC)
    second = os.open(server.path("f"), os.O_WRONLY)
    os.write(first, NEW)
    os.write(second, b"CC")
    os.close(first)
    check(read_bytes(server.path("f")) == NEW, "after the first commit")
    os.close(second)
    check(read_bytes(server.path("f")) == b"CC" + OLD[2:], "after the second commit")


STRESS = r"""
import mmap, os, random, sys
role, path, seconds, seed = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
import time
random.seed(seed)
end = time.monotonic() + seconds
sizes = {chr(65 + i): 3000 + i * 23456 for i in range(8)}
count = 0
while time.monotonic() < end or count == 0:
    count += 1
    if role == "write":
        letter = random.choice(list(sizes))
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CREAT)
        left = sizes[letter]
        while left:
            left -= os.write(fd, letter.encode() * min(left, 40000))
        os.close(fd)
    elif role == "stat":
        size = os.stat(path).st_size
        assert size in sizes.values(), "stat shows %d bytes" % size
    else:
        fd = os.open(path, os.O_RDONLY)
        size = os.fstat(fd).st_size
        if role == "map":
            data = mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)[:]
        else:
            data = b""
            while True:
                part = os.read(fd, 7000)
                if not part:
                    break
                data += part
        os.close(fd)
        letter = chr(data[0]) if data else "none"
        assert len(set(data)) == 1, "a mixture of versions"
        assert len(data) == size == sizes[letter], "%d bytes, fstat %d, of version %s" % (len(data), size, letter)
print(role, count)
"""


def test_readers_see_whole_versions_while_writers_truncate_and_write(server):
    seed = seed_random()
    write_bytes(server.path("f"), b"A" * 3000)
    roles = ["write", "write", "read", "read", "map", "map", "stat"]
    running = [subprocess.Popen([sys.executable, "-c", STRESS, role, server.path("f"), "4", str(seed + number)],
                                stderr=subprocess.PIPE) for number, role in enumerate(roles)]
    for role, process in zip(roles, running):
        error = process.communicate(timeout=PATIENCE_S)[1].decode()
        check_equal((0, ""), (process.returncode, error), "the process that does " + role)


run_tests(globals())
