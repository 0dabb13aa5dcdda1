#!/usr/bin/env python3
"""A listing shows every entry that is neither added nor removed meanwhile exactly once, however it is read."""

import ctypes
import os
import random
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from mounted import *  # noqa: E402,F403

COUNT = rounds(4000)


def fill(server, count=COUNT):
    for number in range(count):
        os.mknod(server.path("doc%05d" % number), 0o644)
    return ["doc%05d" % number for number in range(count)]


def test_ls_and_find_see_all(server):
    names = fill(server)
    check_equal(names, shell("ls -f | grep doc", server.db).split(), "ls -f")
    check_equal(names, shell("ls", server.db).split(), "ls")
    check_equal(len(names) + 1, len(shell("ls -l", server.db).splitlines()), "ls -l")
    check_equal(len(names), len(shell("find . -type f -size 0", server.db).split()), "find")
    check_equal(names[0], shell("ls -f | grep doc | head -n 1", server.db).strip(), "ls | head")


CHURN = r"""
import os, random, sys
random.seed(int(sys.argv[1]))
while True:
    name = "doc%05d.churn%d" % (random.randrange(int(sys.argv[2])), random.randrange(3))
    try:
        os.unlink(name)
    except FileNotFoundError:
        with open(name, "w") as file:
            file.write("x")
"""


def test_stable_entries_appear_once_while_others_come_and_go(server):
    names = fill(server)
    seed = seed_random()
    churn = [subprocess.Popen([sys.executable, "-c", CHURN, str(seed + number), str(COUNT)], cwd=server.db)
             for number in range(2)]
    try:
        for turn in range(rounds(20)):
            command = ["ls -f", "ls -l", "find . -printf '%f\\n'", "ls -U --color=always"][turn % 4]
            words = shell(command + " 2> /dev/null | grep -o 'doc[0-9.churn]*'", server.db).split()
            stable = [word for word in words if "churn" not in word]
            check_equal(names, sorted(stable), command + ": the stable entries")
            check_equal(len(words), len(set(words)), command + ": an entry twice")
            entries = os.listdir(server.db)
            check_equal(names, [entry for entry in entries if "churn" not in entry], "listdir, in order")
    finally:
        for process in churn:
            check(process.poll() is None, "a churning process ended")
            process.kill()
            process.wait()


def test_telldir_and_seekdir(server):
    names = fill(server, 500)
    libc = ctypes.CDLL(None)
    libc.opendir.restype = ctypes.c_void_p
    libc.readdir.restype = ctypes.c_void_p
    libc.telldir.restype = ctypes.c_long
    directory = libc.opendir(os.fsencode(server.db))

    def next_name():
        entry = libc.readdir(ctypes.c_void_p(directory))
        return ctypes.string_at(entry + 19).decode() if entry else None

    seen, places = [], []
    while True:
        places.append(libc.telldir(ctypes.c_void_p(directory)))
        name = next_name()
        if name is None:
            break
        seen.append(name)
    check_equal([".", ".."] + names, seen, "all entries")
    for place in (7, 400, 2, 333, 0, 501):
        libc.seekdir(ctypes.c_void_p(directory), ctypes.c_long(places[place]))
        check_equal(seen[place:place + 3], [next_name() for _ in range(len(seen[place:place + 3]))], "after seekdir")
    libc.rewinddir(ctypes.c_void_p(directory))
    check_equal(seen[:5], [next_name() for _ in range(5)], "after rewinddir")
    libc.closedir(ctypes.c_void_p(directory))


def test_an_open_directory_that_is_read_slowly_sees_all(server):
    names = fill(server, 1000)
    with os.scandir(server.db) as entries:
        seen = [next(entries).name]
        os.unlink(server.path("doc00999"))
        write_bytes(server.path("doc00000.new"), b"")
        for entry in entries:
            seen.append(entry.name)
    check_equal(names[:-1], [name for name in seen if name not in ("doc00999", "doc00000.new")], "the stable entries")


run_tests(globals())
