#!/usr/bin/env python3
"""What one durable put costs the disk: writes, KiB and flushes a put, from /proc/diskstats, beside an append with
fdatasync to a growing file. Nothing else should be writing to that disk.

Usage: disk_writes.py LIBDOCDB.so [DIRECTORY] [COUNT]
"""
import ctypes
import os
import shutil
import sys
import tempfile

library = ctypes.CDLL(sys.argv[1])
directory = tempfile.mkdtemp(dir=sys.argv[2] if len(sys.argv) > 2 else None)
count = int(sys.argv[3]) if len(sys.argv) > 3 else 5000
device = os.stat(directory).st_dev


def counters():
    """Writes, sectors written and flushes of the disk so far."""
    with open("/proc/diskstats", encoding="ascii") as stats:
        for line in stats:
            fields = line.split()
            if int(fields[0]) == os.major(device) and int(fields[1]) == os.minor(device):
                return int(fields[7]), int(fields[9]), int(fields[18]) if len(fields) > 18 else 0
    sys.exit("no counters for the disk of " + directory)


def measure(name, work):
    os.sync()
    before = counters()
    for i in range(count):
        work(i)
    after = counters()
    writes, sectors, flushes = (b - a for a, b in zip(before, after))
    print(f"{name}: {writes / count:.2f} writes, {sectors / 2 / count:.2f} KiB, {flushes / count:.2f} flushes each")


def check(status):
    if status != 0:
        sys.exit(f"docdb: error {status}")


runtime = ctypes.c_void_p()
db = ctypes.c_void_p()
data = b"x" * 128
check(library.docdb_open(os.fsencode(directory + "/data"), None, ctypes.byref(runtime), None))
check(library.docdb_db_open(runtime, b"puts", 1, ctypes.byref(db)))
measure("put of 128 B", lambda i: check(library.docdb_put(db, b"%d" % (i % 1000), data, len(data), None)))
library.docdb_db_close(db)
check(library.docdb_close(runtime))

plain = os.open(directory + "/plain", os.O_CREAT | os.O_WRONLY | os.O_APPEND)


def append(_):
    os.write(plain, b"x" * 4096)
    os.fdatasync(plain)


measure("append of 4 KiB and fdatasync", append)
os.close(plain)
shutil.rmtree(directory)
