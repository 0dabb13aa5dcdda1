#!/usr/bin/env python3
"""Processes that do everything to the same few names, through the mount and the socket, never hang, and leave both equal."""

import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from mounted import *  # noqa: E402,F403

WORKER = r"""
import ctypes, errno, os, random, subprocess, sys
docdb, socket, mount, rounds, seed = sys.argv[1:6]
random.seed(int(seed))
libc = ctypes.CDLL(None)
FINE = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY}

def cli(*arguments, data=b""):
    subprocess.run([docdb, arguments[0], "--socket", socket] + list(arguments[1:]), input=data,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

def write(path, mode, sync=False):
    with open(path, mode) as file:
        file.write(b"w" * random.randint(0, 50000))
        if sync:
            file.flush()
            os.fsync(file.fileno())
            file.write(b"more")

def touch(path):
    os.utime(path, (1, random.randint(1, 1 << 30)))

def touch_open(path):
    with open(path, "r+b") as file:
        os.utime(file.fileno(), (1, 2))

def look(path):
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read()
        assert len(data) == size, (len(data), size)

def listing(database):
    for entry in os.scandir(os.path.join(mount, database)):
        try:
            entry.stat()
        except FileNotFoundError:
            pass

for number in range(int(rounds)):
    database = random.choice(["shared", "shared", "shared", "brief"])
    name = random.choice(["a", "b", "c"])
    path = os.path.join(mount, database, name)
    other = os.path.join(mount, database, random.choice(["a", "b", "c"]))
    doing = random.choice([
        lambda: write(path, "wb"), lambda: write(path, "ab"), lambda: write(path, "r+b"), lambda: write(path, "xb"),
        lambda: write(path, "wb", True), lambda: write(path, "ab", True), lambda: os.unlink(path),
        lambda: os.rename(path, other), lambda: libc.renameat2(-100, path.encode(), -100, other.encode(), 2),
        lambda: os.truncate(path, random.randint(0, 9999)), lambda: touch(path), lambda: touch_open(path),
        lambda: look(path), lambda: os.stat(path), lambda: listing(database), lambda: os.mknod(path, 0o644),
        lambda: os.chmod(path, 0o600), lambda: os.listdir(mount), lambda: os.stat(os.path.dirname(path)),
        lambda: cli("put", database, name, data=b"s" * random.randint(0, 50000)),
        lambda: cli("delete", database, name), lambda: cli("create-db", "brief"), lambda: cli("drop-db", "brief"),
        lambda: os.mkdir(os.path.join(mount, "brief")), lambda: os.rmdir(os.path.join(mount, "brief")),
    ])
    try:
        doing()
    except OSError as error:
        if error.errno not in FINE:
            raise
"""


def test_everything_at_once(server):
    seed = seed_random()
    os.mkdir(os.path.join(server.mount, "shared"))
    running = [subprocess.Popen([sys.executable, "-c", WORKER, program(), server.socket, server.mount,
                                 str(rounds(1500)), str(seed + number)], stderr=subprocess.PIPE) for number in range(8)]
    try:
        for process in running:
            error = process.communicate(timeout=PATIENCE_S)[1].decode()
            check_equal((0, ""), (process.returncode, error), "a process's exit code and errors")
    except subprocess.TimeoutExpired:
        for process in running:
            process.kill()
        raise AssertionError("something hangs")
    server.database = "shared"
    names = os.listdir(server.db)
    check_equal(server.docdb("ls", "shared").decode().split(), names, "ls")
    for name in names:
        data = server.read(name)
        check(read_bytes(server.path(name)) == data, name + " differs between mount and socket")
        check_equal(len(data), os.stat(server.path(name)).st_size, "stat of " + name)


run_tests(globals())
