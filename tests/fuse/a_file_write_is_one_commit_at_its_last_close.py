#!/usr/bin/env python3
"""A file write is one transaction, committed when the last descriptor that counts is closed, whatever tool writes."""

import errno
import fcntl
import mmap
import os
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from mounted import *  # noqa: E402,F403


def check_shell(server, script, name, expected, commits):
    """Runs the script in the database: the document must be as expected, made by so many commits."""
    made = server.commits_of(lambda: shell(script, server.db))
    check_equal(expected, read_bytes(server.path(name)), script)
    check_equal(expected, server.read(name), script + " (through the socket)")
    check_equal(commits, made, script + ": commits")


def test_redirections_commit_once(server):
    check_shell(server, "echo x > f", "f", b"x\n", 1)
    check_shell(server, "echo xx > f", "f", b"xx\n", 1)
    check_shell(server, "echo y >> f", "f", b"xx\ny\n", 1)
    check_shell(server, "{ echo a; echo b; } > f", "f", b"a\nb\n", 1)
    check_shell(server, "{ echo c; echo d; } >> f", "f", b"a\nb\nc\nd\n", 1)
    check_shell(server, "exec 3>f; echo a >&3; echo b >&3; exec 3>&-", "f", b"a\nb\n", 1)
    check_shell(server, "exec 3>>f; echo c >&3; echo d >&3; exec 3>&-", "f", b"a\nb\nc\nd\n", 1)
    check_shell(server, ": > f", "f", b"", 1)
    check_shell(server, "cat <<< here > f", "f", b"here\n", 1)
    check_shell(server, "echo x | tee f > /dev/null", "f", b"x\n", 1)
    check_shell(server, "(sleep 0.1; echo late) > f & wait", "f", b"late\n", 1)
    check_shell(server, "(exec 1>f; echo part; exec echo rest)", "f", b"part\nrest\n", 1)


def test_nothing_written_commits_nothing(server):
    write_bytes(server.path("f"), b"data")
    check_equal(0, server.commits_of(lambda: shell("cat f; exec 3<>f; exec 3>&-; : >> f; cat < f", server.db)), "commits")
    check_equal(b"data", read_bytes(server.path("f")), "the document")


def wait_for_document(server, name, expected, what):
    """For writes of several processes, which RELEASE commits: soon, but not before the last close returned."""
    wait_until(lambda: os.path.exists(server.path(name)) and read_bytes(server.path(name)) == expected, what)


def test_several_writing_processes_commit_once(server):
    made = server.commits_of(lambda: (shell("(cat /etc/hostname; cat /etc/hostname) > f", server.db),
                                      wait_for_document(server, "f", read_bytes("/etc/hostname") * 2, "both parts")))
    check_equal(1, made, "commits")


def test_tools_work(server):
    source = os.path.join(server.scratch, "source")
    os.mkdir(source)
    for number in range(40):
        write_bytes(os.path.join(source, "file%d" % number), os.urandom(number * number * 1000 % 400001))
    made = server.commits_of(lambda: shell("cp %s/* ." % source, server.db))
    check_equal(40, made, "commits of cp of 40 files")
    shell("diff -r %s ." % source, server.db)
    shell("cp -r . %s/../copy && diff -r %s %s/../copy" % (source, source, source), server.db)
    check_equal(1, server.commits_of(lambda: shell("mv file1 moved", server.db)), "commits of mv")
    shell("cmp moved %s/file1 && ! test -e file1" % source, server.db)
    check_equal(1, server.commits_of(lambda: shell("rm moved", server.db)), "commits of rm")
    check_shell(server, "printf 'abc\\n' > s", "s", b"abc\n", 1)
    check_shell(server, "sed -i s/b/X/ s", "s", b"aXc\n", 2)
    check_shell(server, "dd if=/dev/zero of=s bs=1 seek=1 count=1 conv=notrunc status=none", "s", b"a\0c\n", 1)
    check_shell(server, "printf 'c\\na\\nb\\n' > s; sort -o s s", "s", b"a\nb\nc\n", 2)
    check_shell(server, "cp -f %s/file3 s" % source, "s", read_bytes(os.path.join(source, "file3")), 1)
    check_shell(server, "install -m 644 %s/file4 s" % source, "s", read_bytes(os.path.join(source, "file4")), 2)


def test_truncate_of_a_path_is_one_commit(server):
    write_bytes(server.path("f"), b"0123456789")
    check_shell(server, "truncate -s 4 f", "f", b"0123", 1)
    for size, expected in ((2, b"01"), (4, b"01\0\0"), (0, b""), (3, b"\0\0\0")):
        made = server.commits_of(lambda size=size: os.truncate(server.path("f"), size))
        check_equal((size, 1), (os.stat(server.path("f")).st_size, made), "size after truncate, commits")
        check_equal(expected, server.read("f"), "truncate to %d" % size)
    check_errno(errno.ENOENT, lambda: os.truncate(server.path("none"), 1), "truncate of a missing document")


def test_read_write_seek_and_ftruncate_of_one_descriptor(server):
    write_bytes(server.path("f"), b"0123456789")
    fd = os.open(server.path("f"), os.O_RDWR)
    check_equal(10, os.lseek(fd, 0, os.SEEK_END), "the end")
    os.write(fd, b"zz")
    check_equal((12, 10), (os.fstat(fd).st_size, os.stat(server.path("f")).st_size), "staged and committed size")
    check_equal(b"89zz", os.pread(fd, 10, 8), "the staged bytes")
    check_equal(b"0123456789", server.read("f"), "what others see")
    os.ftruncate(fd, 3)
    os.pwrite(fd, b"end", 6)
    check_equal(b"012\0\0\0end", os.pread(fd, 99, 0), "the staged bytes")
    os.posix_fallocate(fd, 0, 12)
    check_equal(12, os.fstat(fd).st_size, "fallocate")
    made = server.commits_of(lambda: os.close(fd))
    check_equal((b"012\0\0\0end\0\0\0", 1), (server.read("f"), made), "after close")


def test_fsync_commits_and_staging_goes_on(server):
    fd = os.open(server.path("f"), os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"one")
    check_equal(1, server.commits_of(lambda: os.fsync(fd)), "commits of fsync")
    check_equal(b"one", server.read("f"), "after fsync")
    check_equal(0, server.commits_of(lambda: os.fdatasync(fd)), "commits of a second fsync")
    os.write(fd, b"two")
    check_equal(b"one", server.read("f"), "before the second commit")
    os.close(fd)
    check_equal(b"onetwo", server.read("f"), "after close")


def test_a_created_document_appears_at_its_commit(server):
    fd = os.open(server.path("f"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, b"data")
    check_equal([], os.listdir(server.db), "ls before the commit")
    check_equal(None, server.read("f"), "the socket before the commit")
    os.close(fd)
    check_equal((["f"], 4), (os.listdir(server.db), os.stat(server.path("f")).st_size), "after the commit")


def test_touch_creates_and_never_empties(server):
    check_shell(server, "touch f", "f", b"", 1)
    fd = os.open(server.path("late"), os.O_WRONLY | os.O_CREAT)
    server.put("late", b"by the socket")
    os.close(fd)
    check_equal(b"by the socket", read_bytes(server.path("late")), "created by another between open and close")


def test_exclusive_create_fails_when_the_document_exists(server):
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    fd = os.open(server.path("f"), flags)
    os.write(fd, b"mine")
    os.close(fd)
    check_errno(errno.EEXIST, lambda: os.open(server.path("f"), flags), "open")
    fd = os.open(server.path("g"), flags)
    os.write(fd, b"mine")
    server.put("g", b"first")
    check_errno(errno.EEXIST, lambda: os.close(fd), "close after a socket create came first")
    check_equal(b"first", read_bytes(server.path("g")), "the document")


def test_appends_are_applied_to_what_is_newest_at_their_commit(server):
    write_bytes(server.path("f"), b"base\n")
    first = os.open(server.path("f"), os.O_WRONLY | os.O_APPEND)
    second = os.open(server.path("f"), os.O_RDWR | os.O_APPEND)
    os.write(first, b"first\n")
    os.write(second, b"second\n")
    check_equal(b"base\nsecond\n", os.pread(second, 99, 0), "what the appender reads")
    server.put("f", b"replaced\n")
    os.close(second)
    os.close(first)
    check_equal(b"replaced\nsecond\nfirst\n", server.read("f"), "after both commits")
    fd = os.open(server.path("f"), os.O_RDWR | os.O_APPEND)
    os.write(fd, b"x")
    os.ftruncate(fd, 3)
    os.write(fd, b"y")
    os.close(fd)
    check_equal(b"repy", server.read("f"), "an append that truncates")


def test_concurrent_appenders_lose_nothing(server):
    count, lines = 4, rounds(100)
    script = "for i in $(seq %d); do echo \"$1 $i\" >> log; done" % lines
    writers = [subprocess.Popen(["bash", "-c", script, "bash", str(number)], cwd=server.db) for number in range(count)]
    for writer in writers:
        check_equal(0, writer.wait(PATIENCE_S), "an appender's exit code")
    got = read_bytes(server.path("log")).decode().splitlines()
    check_equal(sorted("%d %d" % (w, i + 1) for w in range(count) for i in range(lines)), sorted(got), "the lines")
    for number in range(count):
        mine = [line for line in got if line.startswith("%d " % number)]
        check_equal(["%d %d" % (number, i + 1) for i in range(lines)], mine, "the order of one appender's lines")


def test_times_that_are_set_are_kept(server):
    check_shell(server, "touch -d @1000000000 f", "f", b"", 1)
    check_equal(1000000000, os.stat(server.path("f")).st_mtime, "mtime of touch -d of a new document")
    write_bytes(server.path("g"), b"data")
    os.utime(server.path("g"), ns=(5, 1234567890123456789))
    check_equal(1234567890123456789, os.stat(server.path("g")).st_mtime_ns, "mtime after utime")
    source = os.path.join(server.scratch, "old")
    write_bytes(source, b"old data")
    os.utime(source, (1, 1111111111))
    check_shell(server, "cp -p %s h" % source, "h", b"old data", 1)
    check_equal(1111111111, os.stat(server.path("h")).st_mtime, "mtime of cp -p")
    with open(server.path("h"), "ab") as file:
        os.utime(file.fileno(), (1, 5))
        file.write(b"!")
    check(os.stat(server.path("h")).st_mtime > 1111111111, "a write after utime did not change the time")


def test_mode_and_owner_are_accepted_and_ignored(server):
    write_bytes(server.path("f"), b"x")
    os.chmod(server.path("f"), 0o600)
    os.chown(server.path("f"), 12345, 12345)
    info = os.stat(server.path("f"))
    check_equal((0o644, 0, 0), (info.st_mode & 0o7777, info.st_uid, info.st_gid), "mode and owner")
    fd = os.open(server.path("f"), os.O_RDONLY)
    os.fchmod(fd, 0o600)
    os.close(fd)


def test_copies_of_a_descriptor_commit_nothing_until_the_last_is_closed(server):
    write_bytes(server.path("f"), b"old")
    fd = os.open(server.path("f"), os.O_WRONLY | os.O_TRUNC)
    copy = os.dup(fd)
    os.write(fd, b"ne")
    os.close(fd)
    check_equal(b"old", server.read("f"), "after the first close")
    os.write(copy, b"w")
    os.close(copy)
    check_equal(b"new", server.read("f"), "after the last close")


def test_a_writer_has_the_inode_number_of_the_path_it_opened(server):
    write_bytes(server.path("f"), b"old")
    number = os.stat(server.path("f")).st_ino
    fd = os.open(server.path("f"), os.O_WRONLY | os.O_CREAT)
    check_equal(number, os.fstat(fd).st_ino, "the inode number")
    os.write(fd, b"new")
    check_equal(number, os.fstat(fd).st_ino, "the inode number after a write")
    os.close(fd)


def test_other_descriptors_of_the_document_do_not_delay_the_commit(server):
    write_bytes(server.path("f"), b"old")
    others = [os.open(server.path("f"), flags) for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)]
    for number in range(rounds(50)):
        fd = os.open(server.path("f"), os.O_WRONLY | os.O_TRUNC)
        others.append(os.open(server.path("f"), os.O_RDWR))
        os.write(fd, b"%d" % number)
        made = server.commits_of(lambda fd=fd: os.close(fd))
        check_equal((b"%d" % number, 1), (read_bytes(server.path("f")), made), "round %d" % number)
    for fd in others:
        os.close(fd)


def test_a_child_that_inherits_the_descriptor_publishes_nothing(server):
    write_bytes(server.path("f"), b"old")
    fd = os.open(server.path("f"), os.O_WRONLY | os.O_TRUNC)
    os.set_inheritable(fd, True)
    os.write(fd, b"half ")
    subprocess.run(["true"], close_fds=False, check=True)
    check_equal(b"old", server.read("f"), "after a child that held it ended")
    os.write(fd, b"whole")
    os.close(fd)
    check_equal(b"half whole", server.read("f"), "after the close")


def test_what_a_child_wrote_is_committed_with_its_close(server):
    for number in range(rounds(40)):
        fd = os.open(server.path("f"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        child = os.fork()
        if child == 0:
            os.write(fd, b"%d" % number)
            os._exit(0)
        os.close(fd)
        os.waitpid(child, 0)
        wait_for_document(server, "f", b"%d" % number, "the child's bytes are there")


def test_execve_with_a_dirty_close_on_exec_descriptor_does_not_hang(server):
    fd = os.open(server.path("f"), os.O_WRONLY | os.O_CREAT)
    child = os.fork()
    if child == 0:
        os.set_inheritable(fd, False)
        os.write(fd, b"written before execve")
        os.execv("/bin/true", ["true"])
    os.close(fd)
    end = time.monotonic() + PATIENCE_S
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        check(time.monotonic() < end, "execve hangs")
        time.sleep(0.01)
    wait_for_document(server, "f", b"written before execve", "the bytes are committed")


def test_own_process_execve_commits(server):
    script = ("import os; f = os.open('f', os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC); os.write(f, b'exec'); "
              "os.execv('/bin/true', ['true'])")
    subprocess.run([sys.executable, "-c", script], cwd=server.db, check=True, timeout=PATIENCE_S)
    wait_for_document(server, "f", b"exec", "the bytes are committed")


def test_shared_writable_mappings_are_refused_others_work(server):
    write_bytes(server.path("f"), b"mapped" * 1000)
    fd = os.open(server.path("f"), os.O_RDWR)
    check_errno(errno.ENODEV, lambda: mmap.mmap(fd, 6000), "shared, writable")
    with mmap.mmap(fd, 6000, flags=mmap.MAP_PRIVATE) as private:
        check_equal(b"mapped", private[:6], "private")
    os.close(fd)
    fd = os.open(server.path("f"), os.O_RDONLY)
    with mmap.mmap(fd, 6000, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ) as shared:
        check_equal(b"mapped", shared[-6:], "shared, read-only")
    os.close(fd)


def test_a_write_that_is_never_closed_by_hand_is_committed_at_exit(server):
    script = "import os; f = os.open('f', os.O_WRONLY | os.O_CREAT); os.write(f, b'exit')"
    subprocess.run([sys.executable, "-c", script], cwd=server.db, check=True)
    check_equal(b"exit", read_bytes(server.path("f")), "after exit")


def test_documents_of_many_sizes_come_back_byte_for_byte(server):
    for size in (0, 1, 4095, 4096, 4097, 131072, 131073, 1 << 20, (1 << 20) + 1, 5_000_003):
        data = os.urandom(size)
        write_bytes(server.path("f"), data)
        check(read_bytes(server.path("f")) == data, "%d bytes through the mount" % size)
        check(server.read("f") == data, "%d bytes through the socket" % size)


run_tests(globals())
