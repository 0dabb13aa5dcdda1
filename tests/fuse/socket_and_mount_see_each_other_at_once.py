#!/usr/bin/env python3
"""After an acknowledged commit, through the socket or by close, everybody sees it: opens, stats, listings, socket reads."""

import os
import random
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from mounted import *  # noqa: E402,F403


def test_a_socket_commit_is_seen_through_the_mount(server):
    path = server.path("f")
    for number in range(rounds(300)):
        data = b"%d" % number * (number % 50 + 1)
        server.put("f", data)
        check_equal(len(data), os.stat(path).st_size, "stat in round %d" % number)
        check_equal(data, read_bytes(path), "read in round %d" % number)
        check_equal(["f"], os.listdir(server.db), "ls in round %d" % number)
        if number % 10 == 9:
            server.docdb("delete", server.database, "f")
            check(not os.path.exists(path), "stat after delete in round %d" % number)
            check_equal([], os.listdir(server.db), "ls after delete in round %d" % number)


def test_a_close_is_seen_through_the_socket(server):
    path = server.path("f")
    for number in range(rounds(300)):
        data = b"%d" % number * (number % 50 + 1)
        write_bytes(path, data)
        check_equal(data, server.read("f"), "round %d" % number)
        if number % 10 == 9:
            os.unlink(path)
            check_equal(None, server.read("f"), "after unlink in round %d" % number)


def test_a_close_is_seen_by_another_process(server):
    reader = subprocess.Popen(
        [sys.executable, "-c", "import os, sys\n"
         "for line in sys.stdin:\n"
         "    size = os.stat('f').st_size\n"
         "    data = open('f').read()\n"
         "    print(size, data, flush=True)\n"],
        cwd=server.db, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        for number in range(rounds(1000)):
            data = "%d" % number
            write_bytes(server.path("f"), data.encode())
            reader.stdin.write("\n")
            reader.stdin.flush()
            check_equal("%d %s\n" % (len(data), data), reader.stdout.readline(), "round %d" % number)
    finally:
        reader.stdin.close()
        reader.stdout.close()
        reader.wait()


def test_a_directorys_time_changes_with_its_members(server):
    times = [os.stat(server.db).st_mtime_ns]
    for step, action in enumerate((lambda: server.put("f", b"1"), lambda: write_bytes(server.path("g"), b"1"),
                                   lambda: server.docdb("delete", server.database, "f"),
                                   lambda: os.unlink(server.path("g")))):
        action()
        times.append(os.stat(server.db).st_mtime_ns)
        check(times[-1] > times[-2], "the time did not change in step %d" % step)


def test_a_database_dropped_and_made_again_through_the_socket(server):
    for number in range(rounds(50)):
        server.put("f", b"%d" % number)
        check_equal(b"%d" % number, read_bytes(server.path("f")), "round %d" % number)
        server.docdb("drop-db", server.database)
        check(not os.path.exists(server.path("f")), "the document after drop-db in round %d" % number)
        check(server.database not in os.listdir(server.mount), "ls after drop-db in round %d" % number)
        server.docdb("create-db", server.database)
        check_equal([], os.listdir(server.db), "ls after create-db in round %d" % number)


WRITER = r"""
import os, random, subprocess, sys
docdb, socket, db, mount, me, rounds, seed = sys.argv[1:8]
random.seed(int(seed))
names = ["d%d" % i for i in range(3)]
for number in range(int(rounds)):
    name = random.choice(names)
    path = os.path.join(mount, db, name)
    data = ("%s-%d-" % (me, number)).encode() * random.randint(1, 2000)
    how = random.randrange(6)
    try:
        if how == 0:
            subprocess.run([docdb, "put", "--socket", socket, db, name], input=data, check=True)
        elif how == 1:
            with open(path, "wb") as file:
                file.write(data)
        elif how == 2:
            with open(path + "." + me, "wb") as file:
                file.write(data)
            os.rename(path + "." + me, path)
        elif how == 3:
            os.unlink(path)
        elif how == 4:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                read = file.read()
            head = read[:read.find(b"-", read.find(b"-") + 1) + 1]
            assert read == head * (len(read) // len(head)), "a torn document: %r" % read[:60]
            assert len(read) == size, "%d bytes, fstat %d" % (len(read), size)
        else:
            listed = os.listdir(os.path.join(mount, db))
            assert len(listed) == len(set(listed)), "a name twice: %r" % listed
            for entry in listed:
                os.stat(os.path.join(mount, db, entry))
    except FileNotFoundError:
        pass
"""


def test_processes_that_mix_everything_leave_mount_and_socket_equal(server):
    seed = seed_random()
    running = [subprocess.Popen([sys.executable, "-c", WRITER, program(), server.socket, server.database, server.mount,
                                 "p%d" % number, str(rounds(300)), str(seed + number)], stderr=subprocess.PIPE)
               for number in range(6)]
    for process in running:
        error = process.communicate(timeout=PATIENCE_S)[1].decode()
        check_equal((0, ""), (process.returncode, error), "a process's exit code and errors")
    names = os.listdir(server.db)
    check_equal(server.docdb("ls", server.database).decode().split(), names, "ls")
    for name in names:
        data = server.read(name)
        check(read_bytes(server.path(name)) == data, name + " differs between mount and socket")
        check_equal(len(data), os.stat(server.path(name)).st_size, "stat of " + name)


run_tests(globals())
