#!/usr/bin/env python3
"""What is too large fails in the write, with EFBIG or ENOSPC, and nothing is lost."""

import errno
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from mounted import *  # noqa: E402,F403

MIB = 1 << 20
MAX_DOC = 32 * MIB  # --max-doc-size below
STAGED_MAX = 256 * MIB


def test_a_document_over_the_limit_is_efbig(server):
    write_bytes(server.path("f"), b"old")
    fd = os.open(server.path("f"), os.O_RDWR | os.O_TRUNC)
    check_errno(errno.EFBIG, lambda: os.pwrite(fd, b"xx", MAX_DOC - 1), "write over the limit")
    check_errno(errno.EFBIG, lambda: os.ftruncate(fd, MAX_DOC + 1), "ftruncate over the limit")
    check_errno(errno.EFBIG, lambda: os.posix_fallocate(fd, 0, MAX_DOC + 1), "fallocate over the limit")
    check_errno(errno.EFBIG, lambda: os.truncate(server.path("f"), MAX_DOC + 1), "truncate over the limit")
    os.pwrite(fd, b"x", MAX_DOC - 1)
    check_equal(b"old", server.read("f"), "before the close")
    os.close(fd)
    check_equal(MAX_DOC, os.stat(server.path("f")).st_size, "the largest document")
    fd = os.open(server.path("f"), os.O_WRONLY | os.O_APPEND)
    check_errno(errno.EFBIG, lambda: os.write(fd, b"x"), "append over the limit")
    os.close(fd)


def test_staged_bytes_over_the_cap_are_enospc_and_come_back(server):
    open_files = []
    total = 0
    block = b"x" * MIB
    failed = False
    while not failed and total <= STAGED_MAX:
        fd = os.open(server.path("f%d" % len(open_files)), os.O_WRONLY | os.O_CREAT)
        open_files.append(fd)
        for _ in range(MAX_DOC // MIB):
            try:
                total += os.write(fd, block)
            except OSError as error:
                check_equal(errno.ENOSPC, error.errno, "the error")
                failed = True
                break
    check(failed, "%d bytes were staged" % total)
    check(total > STAGED_MAX // 2, "only %d bytes could be staged" % total)
    check_equal([], os.listdir(server.db), "ls before the closes")
    for fd in open_files:
        os.ftruncate(fd, 1)
        os.close(fd)
    write_bytes(server.path("after"), block)
    check(server.read("after") == block, "a write after the stages were given back")


run_tests(globals(), options=["--max-doc-size", "32M"])
