#!/usr/bin/env python3
"""On a full disk close says ENOSPC; what was acknowledged stays, what was refused is not there, also after a restart."""

import errno
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from mounted import *  # noqa: E402,F403

DISK_MIB = 300
DOCUMENT = 8 << 20


def contents(number):
    return bytes([number % 256]) * DOCUMENT


def fill(server):
    """Writes documents until one is refused; returns how many were acknowledged."""
    for number in range(2 * DISK_MIB):
        fd = os.open(server.path("d%03d" % number), os.O_WRONLY | os.O_CREAT)
        os.write(fd, contents(number)[:DOCUMENT // 2])
        os.write(fd, contents(number)[DOCUMENT // 2:])
        try:
            os.close(fd)
        except OSError as error:
            check_equal("ENOSPC", errno.errorcode.get(error.errno), "the error of close")
            return number
    raise AssertionError("the disk never became full")


def check_documents(server, count, when):
    check_equal(["d%03d" % number for number in range(count)], os.listdir(server.db), "ls " + when)
    for number in range(count):
        check(read_bytes(server.path("d%03d" % number)) == contents(number), "document %d %s" % (number, when))


def main():
    require_fuse()
    with scratch_directory() as scratch:
        server = Server(scratch)
        os.mkdir(server.data)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm" % DISK_MIB, "docdb-test", server.data], check=True)
        try:
            server.start()
            server.database = "db"
            os.mkdir(server.db)
            count = fill(server)
            check(count > 0, "not even one document fitted")
            check_documents(server, count, "after ENOSPC")
            os.unlink(server.path("d000"))
            check(not os.path.exists(server.path("d000")), "a delete on a full disk")
            server.kill()
            server.start()
            check_equal(["d%03d" % number for number in range(1, count)], os.listdir(server.db), "ls after a restart")
            print("ok: %d documents were acknowledged" % count)
        finally:
            server.cleanup()
            subprocess.run(["umount", "-l", server.data], check=True)


try:
    main()
except Skip as reason:
    print(reason)
    sys.exit(77)
