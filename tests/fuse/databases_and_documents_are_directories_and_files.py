#!/usr/bin/env python3
"""Databases are directories, documents are files; what has no place in a database is refused."""

import errno
import os
import stat
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from mounted import *  # noqa: E402,F403


def test_mkdir_creates_and_rmdir_drops_a_database(server):
    path = os.path.join(server.mount, "fresh")
    os.mkdir(path)
    check(b"fresh" in server.docdb("dbs"), "the socket does not see the database")
    check("fresh" in os.listdir(server.mount), "ls does not show it")
    check_errno(errno.EEXIST, lambda: os.mkdir(path), "mkdir twice")
    os.rmdir(path)
    check(b"fresh" not in server.docdb("dbs"), "the socket still sees the database")
    check("fresh" not in os.listdir(server.mount), "ls still shows it")
    check_errno(errno.ENOENT, lambda: os.rmdir(path), "rmdir twice")
    check_errno(errno.ENOENT, lambda: os.stat(path), "stat after rmdir")


def test_rmdir_refuses_a_database_with_documents(server):
    write_bytes(server.path("one"), b"1")
    check_errno(errno.ENOTEMPTY, lambda: os.rmdir(server.db), "rmdir")
    check_equal(b"1", read_bytes(server.path("one")), "the document")
    os.unlink(server.path("one"))
    os.rmdir(server.db)
    check_errno(errno.ENOENT, lambda: os.listdir(server.db), "ls after rmdir")


def test_a_database_made_again_after_rmdir_is_empty(server):
    for number in range(30):
        write_bytes(server.path("x"), b"%d" % number)
        check_equal(["x"], os.listdir(server.db), "ls")
        os.unlink(server.path("x"))
        os.rmdir(server.db)
        os.mkdir(server.db)
        check_equal([], os.listdir(server.db), "ls of the new database")


def test_bad_database_names_are_refused(server):
    for name in (".hidden", "has space", "ä", "a" * 65, "semi;colon"):
        check_errno(errno.EINVAL, lambda name=name: os.mkdir(os.path.join(server.mount, name)), "mkdir " + name)
        check_errno(errno.ENOENT, lambda name=name: os.stat(os.path.join(server.mount, name)), "stat " + name)


def test_every_file_name_is_a_document(server):
    names = ["1", "a b", ".dot", "..x", "ümläut", "tab\there", "new\nline", "-n", "x" * 255, "\\", "*"]
    for name in names:
        write_bytes(server.path(name), name.encode())
    for name in names:
        check_equal(name.encode(), read_bytes(server.path(name)), "document " + repr(name))
    check_equal(sorted(names, key=str.encode), sorted(os.listdir(server.db), key=str.encode), "ls")
    check_errno(errno.ENAMETOOLONG, lambda: write_bytes(server.path("x" * 256), b""), "a name of 256 bytes")


def test_ls_lists_documents_in_id_order(server):
    for name in ("b", "a", "B", "10", "9", "ä"):
        write_bytes(server.path(name), b"")
    with os.scandir(server.db) as entries:
        names = [entry.name for entry in entries]
    check_equal(sorted(names, key=str.encode), names, "order")


def test_what_has_no_place_is_refused(server):
    write_bytes(server.path("doc"), b"x")
    in_root = os.path.join(server.mount, "file")
    check_errno(errno.EPERM, lambda: os.mkdir(server.path("sub")), "a directory in a database")
    check_errno(errno.EPERM, lambda: write_bytes(in_root, b""), "a file at the root")
    check_errno(errno.EPERM, lambda: os.mknod(in_root, 0o644 | stat.S_IFREG), "mknod at the root")
    check_errno(errno.EPERM, lambda: os.link(server.path("doc"), server.path("hard")), "a hard link")
    check_errno(errno.EPERM, lambda: os.symlink("doc", server.path("soft")), "a symbolic link")
    check_errno(errno.EPERM, lambda: os.mkfifo(server.path("fifo")), "a fifo")
    check_errno(errno.EPERM, lambda: os.mknod(server.path("null"), 0o644 | stat.S_IFCHR, os.makedev(1, 3)), "a device")
    check_errno(errno.EPERM, lambda: os.rename(server.db, server.db + "x"), "renaming a database")
    check_equal(["doc"], os.listdir(server.db), "what is left")


def test_mknod_creates_an_empty_document(server):
    os.mknod(server.path("empty"), 0o644 | stat.S_IFREG)
    check_equal(b"", server.read("empty"), "through the socket")
    check_equal(0, os.stat(server.path("empty")).st_size, "size")
    check_errno(errno.EEXIST, lambda: os.mknod(server.path("empty"), 0o644 | stat.S_IFREG), "mknod twice")


def test_stat_shows_what_a_file_system_would(server):
    write_bytes(server.path("doc"), b"x" * 1000)
    info = os.stat(server.path("doc"))
    check(stat.S_ISREG(info.st_mode), "not a regular file")
    check_equal((1000, 2, 1), (info.st_size, info.st_blocks, info.st_nlink), "size, blocks, links")
    check_equal(info.st_mtime_ns, info.st_ctime_ns, "mtime and ctime")
    write_bytes(server.path("other"), b"x" * 1000)
    check(os.stat(server.path("other")).st_ino != info.st_ino, "two documents have one inode number")
    again = os.stat(server.path("doc"))
    check_equal(info, again, "stat of an unchanged document")
    write_bytes(server.path("doc"), b"y" * 1000)
    replaced = os.stat(server.path("doc"))
    check(replaced.st_ino != info.st_ino, "a new version has the old inode number")
    check(replaced.st_mtime_ns > info.st_mtime_ns, "a new version has the old time")
    with os.scandir(server.db) as entries:
        check_equal({"doc": replaced.st_ino, "other": os.stat(server.path("other")).st_ino},
                    {entry.name: entry.inode() for entry in entries}, "inode numbers in the listing")


def test_statfs_shows_the_data_directorys_file_system(server):
    mine, disk = os.statvfs(server.db), os.statvfs(server.data)
    check_equal((disk.f_blocks, disk.f_frsize, 255), (mine.f_blocks, mine.f_frsize, mine.f_namemax), "statvfs")


def test_extended_attributes_are_not_supported(server):
    write_bytes(server.path("doc"), b"x")
    check_errno(errno.EOPNOTSUPP, lambda: os.getxattr(server.path("doc"), "user.x"), "getxattr")
    check_errno(errno.EOPNOTSUPP, lambda: os.setxattr(server.path("doc"), "user.x", b"1"), "setxattr")


run_tests(globals())
