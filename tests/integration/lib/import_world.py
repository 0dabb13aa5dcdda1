"""What the import test needs around it: a server to start and kill, a real tree of files, and the model of what the
store may hold.

Server   starts, kills and stops `docdb serve`; whatever happens, its cleanup ends what it started and unmounts it.
History  of one document the contents that were attempted, in order, and the newest that was acknowledged. What is
         in the store must be that one or a later attempted one, whole.
Load     what put_load (tests/tools/put_load.c) was told, and what its log says that it did: the same for its
         documents.
tree_make copies a real tree (many sizes, real names) to a directory a database.

Nothing here waits without a bound (PATIENCE_S): a server that hangs makes the test fail with a reason. The bound is
no timing assertion; a pass takes a small part of it.
"""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time

PATIENCE_S = 60
DEATH_S = 5  # after which a killed server that is still there is left to the next start
# What a mount answers whose server was killed. EIO: killed while the kernel handed it a request or took its reply.
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)
EXIT_UNREACHABLE, EXIT_UNKNOWN = 5, 9        # of docdb: no server; the server went away during a write
DOCUMENT_BYTES_MAX = 1 << 20


class Failed(Exception):
    pass


class Skip(Exception):
    pass


def check(condition, message):
    if not condition:
        raise Failed(message)


def shorten(data):
    if data is None:
        return "nothing"
    return "%d bytes, %r%s" % (len(data), data[:60], "..." if len(data) > 60 else "")


# ---- The server --------------------------------------------------------------------------------------------------

class Server:
    def __init__(self, scratch, options):
        self.data = os.path.join(scratch, "data")
        self.mount = os.path.join(scratch, "mnt")
        self.stdout_path = os.path.join(scratch, "server.out")
        self.stderr_path = os.path.join(scratch, "server.err")
        self.short_directory = None
        self.socket = os.path.join(scratch, "socket")
        if len(os.fsencode(self.socket)) > 100:  # sockaddr_un holds 107 bytes
            self.short_directory = tempfile.mkdtemp(prefix="docdb.")
            self.socket = os.path.join(self.short_directory, "socket")
        self.program = os.environ["DOCDB"]
        self.options = options
        self.process = None
        self.undead = None  # was killed, and is still there

    def spawn(self):
        """Starts it without waiting until it is ready."""
        with open(self.stdout_path, "wb") as stdout, open(self.stderr_path, "ab") as stderr:
            self.process = subprocess.Popen(
                [self.program, "serve", "--data-dir", self.data, "--socket", self.socket, "--mount", self.mount]
                + self.options, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)

    def start(self):
        self.spawn()
        end = time.monotonic() + PATIENCE_S
        while self.ready_lines() < 3:
            check(self.process.poll() is None,
                  "the server ended with %s instead of starting" % self.process.returncode)
            check(time.monotonic() < end, "the server was not ready after %d s" % PATIENCE_S)
            time.sleep(0.002)
        if self.undead is not None:
            check(exit_code_of(self.undead, PATIENCE_S) is not None,
                  "the killed server is still there after the next start")
            self.undead = None
        check(self.mounts() == 1,
              "the server is ready, and %d file systems are mounted at its mount" % self.mounts())

    def ready_lines(self):
        with open(self.stdout_path, "rb") as file:
            return file.read().count(b"\n")

    def kill(self):
        """True: it is gone. A server that is killed while it notifies the kernel can stay, dead, with /dev/fuse,
        its lock and its sockets open, and its clients hang; then the next start must end it."""
        self.process.send_signal(signal.SIGKILL)
        self.undead, self.process = self.process, None
        if exit_code_of(self.undead, DEATH_S) is None:
            return False
        self.undead = None
        return True

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = exit_code_of(self.process, PATIENCE_S)
        check(code is not None, "the server still runs %d s after SIGTERM" % PATIENCE_S)
        self.process = None
        check(code == 0, "the server exited with %d after SIGTERM" % code)
        check(self.mounts() == 0, "the mount is still there after SIGTERM")
        check(not os.path.exists(self.socket), "the socket is still there after SIGTERM")

    def mount_lines(self):
        """Of /proc/self/mountinfo, those of the mount point. Never looks at the mount itself: that could wait."""
        with open("/proc/self/mountinfo") as file:
            lines = [line.split() for line in file]
        return [line for line in lines if line[4] == self.mount]

    def mounts(self):
        return len(self.mount_lines())

    def log_tail(self):
        if not os.path.exists(self.stderr_path):
            return "(it was never started)"
        with open(self.stderr_path, errors="replace") as file:
            return "".join(file.readlines()[-20:])

    def abort(self):
        """Ends the server and its mount, so that whoever waits for them wakes up."""
        if self.process is not None:
            self.process.kill()
            exit_code_of(self.process, DEATH_S)
        commands = ["umount", "-f"], ["umount", "-l"], ["fusermount3", "-uz"]
        for command in commands * 2:  # twice: a crashed server's mount may lie below a new one
            if self.mounts() != 0 and shutil.which(command[0]):
                subprocess.run(command + [self.mount], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               timeout=PATIENCE_S)

    def cleanup(self):
        self.abort()
        for process in (self.process, self.undead):
            if process is not None and exit_code_of(process, DEATH_S) is None:
                print("the killed server %d does not end" % process.pid)
        if self.short_directory is not None:
            shutil.rmtree(self.short_directory, ignore_errors=True)

    # ---- The command line, on the socket or (embedded) on the data directory ----

    def run(self, arguments, embedded=False):
        where = ["--data-dir", self.data] if embedded else ["--socket", self.socket]
        try:
            return subprocess.run([self.program] + where + arguments, stdin=subprocess.DEVNULL, capture_output=True,
                                  timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Failed("docdb %s did not end in %d s" % (arguments[0], PATIENCE_S))

    def call(self, arguments, embedded=False):
        done = self.run(arguments, embedded)
        check(done.returncode == 0, "docdb %s: exit code %d: %s" % (" ".join(arguments[:2]), done.returncode,
                                                                    done.stderr.decode(errors="replace")))
        return done.stdout

    def databases(self, embedded=False):
        return sorted(self.call(["dbs"], embedded).decode().split())

    def documents(self, db, embedded=False):
        """All documents of a database, {id: contents}: their list, and then many in each call of `docdb read`."""
        listed = [(entry["id"], entry["bytes"]) for entry in json.loads(self.call(["ls", db, "--json"], embedded))]
        ids = [os.fsencode(name) for name, _ in listed]
        check(ids == sorted(set(ids)), "docdb ls %s: not in bytewise order, or an id twice" % db)
        found = {}
        for start in range(0, len(listed), 500):
            part = listed[start:start + 500]
            data = self.call(["read", db, "--"] + [name for name, _ in part], embedded)
            check(len(data) == sum(size for _, size in part),
                  "docdb read %s: %d bytes where docdb ls says %d" % (db, len(data), sum(size for _, size in part)))
            at = 0
            for name, size in part:
                found[name] = data[at:at + size]
                at += size
        return found

    def mounted_documents(self, db):
        """The same through the mount. For a thread that may wait."""
        directory = os.path.join(self.mount, db)
        names = os.listdir(directory)
        check(len(names) == len(set(names)), "%s lists an entry twice" % directory)
        return {name: read_bytes(os.path.join(directory, name)) for name in names}


def exit_code_of(process, seconds):
    """None: it is still there after so many seconds."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def read_bytes(path):
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def require_fuse():
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        raise Skip("the mount cannot be tested here: /dev/fuse: " + error.strerror)
    if os.geteuid() != 0 and not shutil.which("fusermount3"):
        raise Skip("the mount cannot be tested here: only root mounts without fusermount3, which is not installed")


# ---- A real tree -------------------------------------------------------------------------------------------------

TREES = ("/usr/share/doc", "/usr/include", "/usr/lib/python3", "/usr/lib/python3.11", "/usr/share")
ENOUGH_FILES = 500


def tree_list(root):
    """Regular files under 1 MiB, as (path, id): the path below the root with '/' replaced."""
    files = []
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            doc_id = os.path.relpath(path, root).replace("/", "%")
            try:
                os.fsencode(doc_id).decode("utf-8")  # what JSON can show as it is
                stat = os.lstat(path)
            except (UnicodeDecodeError, OSError):
                continue
            if os.path.isfile(path) and not os.path.islink(path) and stat.st_size < DOCUMENT_BYTES_MAX and \
                    len(os.fsencode(doc_id)) <= 255 and "\n" not in doc_id:
                files.append((path, doc_id))
    return sorted(files)


def tree_choose(count):
    """Files of the first tree that has enough of them, in random order; two large trees may be needed for that."""
    files = []
    for root in TREES:
        known = {doc_id for _, doc_id in files}
        files += [file for file in tree_list(root) if file[1] not in known]
        if len(files) >= min(count, ENOUGH_FILES):
            break
    check(len(files) > 50, "found no real tree to import: looked in " + " ".join(TREES))
    random.shuffle(files)
    return files[:count]


def edge_files():
    """Sizes that a tree may lack, with the names that ids may have."""
    yield "empty", b""
    yield "one byte", b"x"
    for size in (4095, 4096, 4097, 131072, 131073, DOCUMENT_BYTES_MAX - 1, 5 << 20):
        yield "-%d ;&*?'\"\\ \u00e4" % size, random.randbytes(size)
    yield "l" * 255, b"the longest id"


def tree_make(directory, dbs, count):
    """Fills directory/DB for each database. Returns {db: [id, ...]}."""
    ids = {db: [] for db in dbs}
    for db in dbs:
        os.makedirs(os.path.join(directory, db))
    for path, doc_id in tree_choose(count):
        db = random.choice(dbs)
        try:
            shutil.copyfile(path, os.path.join(directory, db, doc_id))
        except OSError:
            continue  # unreadable, or gone meanwhile
        ids[db].append(doc_id)
    for doc_id, data in edge_files():
        db = random.choice(dbs)
        with open(os.path.join(directory, db, doc_id), "wb") as file:
            file.write(data)
        ids[db].append(doc_id)
    return ids


# ---- What the store may hold -------------------------------------------------------------------------------------

class History:
    """One document of the tree. Only the thread that writes it changes it; others read `acked`, then the store."""

    def __init__(self):
        self.attempted = []  # paths of source files, in order
        self.acked = -1      # index of the newest acknowledged one

    def attempt(self, path):
        self.attempted.append(path)
        return len(self.attempted) - 1

    def reason_against(self, data, acked):
        """Why a reader that began when `acked` was acknowledged must not find this; None when it may."""
        if data is None:
            return None if acked < 0 else "is missing, although a write of it was acknowledged"
        if any(read_bytes(path) == data for path in self.attempted[max(acked, 0):]):
            return None
        if any(read_bytes(path) == data for path in self.attempted):
            return "is older than the version that was acknowledged"
        return "equals no version that was ever written: %s" % shorten(data)

    def settle(self, data):
        """What was found after a restart is durable: from now on nothing older may be found."""
        for number in range(len(self.attempted) - 1, self.acked, -1):
            if data is not None and read_bytes(self.attempted[number]) == data:
                self.acked = number


class Load:
    """One run of put_load, and what the documents of its database may be after it."""
    GROUP, DELETE_EVERY, LINE_BYTES = 3, 7, 79  # as in put_load.c

    def __init__(self, server, scratch, db, threads, docs):
        self.server = server
        self.db = db
        self.threads = threads
        self.docs = docs
        self.program = os.path.join(os.environ["DOCDB_BUILD"], "tests/tools/put_load")
        self.log_path = os.path.join(scratch, "put_load.%s.log" % db)
        self.round = 0
        self.acked = {}      # (thread, doc) -> (version, bytes or None for a deletion)
        self.unknown = {}    # (thread, doc) -> version that was attempted and not acknowledged
        self.process = None

    def owns(self, doc_id):
        return doc_id.startswith("load.")

    def start(self, limit):
        """limit: transactions a thread, 0 for as long as the server lives."""
        base = self.round * 7000000
        self.round += 1
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [self.program, "unix:" + self.server.socket, self.db, str(self.threads), str(self.docs), str(base),
                 str(limit), str(random.randrange(1 << 32))], stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.PIPE)

    def finish(self, expected):
        """Waits until it has ended, and takes its log in. Every thread must have ended with a status of `expected`.
        Returns how many transactions were acknowledged."""
        try:
            _, stderr = self.process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Failed("the socket client of %s still waits after %d s" % (self.db, PATIENCE_S))
        code = self.process.returncode
        self.process = None
        check(code in (0, 1), "put_load: exit code %d: %s" % (code, stderr.decode(errors="replace")))
        ended, acks = 0, 0
        with open(self.log_path) as log:
            for line in log:
                words = line.split()
                thread, doc, version = (int(word) for word in words[1:4])
                if words[0] == "ack":
                    self.take_ack(thread, doc, version, words[4:])
                    acks += 1
                else:
                    check(words[4] in expected, "a socket client of %s ended with %s, expected %s" %
                          (self.db, words[4], " or ".join(expected)))
                    ended += 1
                    if words[4] != "OK":
                        self.take_unknown(thread, doc, version)
        check(ended == self.threads, "%d of %d threads of put_load ended in order" % (ended, self.threads))
        return acks

    def cleanup(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()

    def group(self, thread):
        return 1 if thread % 2 == 0 else self.GROUP

    def take_ack(self, thread, doc, version, sizes):
        check(len(sizes) == self.group(thread), "put_load: a bad line in its log")
        for number, size in enumerate(sizes):
            self.acked[thread, doc + number] = version, None if size == "-" else int(size)
            self.unknown.pop((thread, doc + number), None)

    def take_unknown(self, thread, doc, version):
        for number in range(self.group(thread)):
            self.unknown[thread, doc + number] = version

    @classmethod
    def contents(cls, db, thread, doc, version, size):
        line = b"load %s %d %d %d %d " % (db.encode(), thread, doc, version, size)
        line = line.ljust(cls.LINE_BYTES - 1, b".") + b"\n"
        return (line * (size // cls.LINE_BYTES + 1))[:size]

    @classmethod
    def version_of(cls, db, doc_id, data):
        """(version, bytes) of a whole document; None when it is none."""
        try:
            thread, doc = (int(word) for word in doc_id.split(".")[1:])
            version, size = (int(word) for word in data[:cls.LINE_BYTES].split()[4:6])
        except ValueError:
            return None
        return (version, size) if data == cls.contents(db, thread, doc, version, size) else None

    def verify(self, found, where):
        """found: {id: contents}, of this load's documents alone."""
        found = dict(found)
        groups = {}
        for thread in range(self.threads):
            for doc in range(self.docs):
                data = found.pop("load.%d.%d" % (thread, doc), None)
                first = doc // self.group(thread) * self.group(thread)
                groups.setdefault((thread, first), set()).add(self.verify_one(data, thread, doc, where))
        check(not found, "%s: %s holds what nobody wrote: %r" % (where, self.db, sorted(found)[:5]))
        for (thread, first), states in groups.items():
            check(len(states) == 1, "%s: %s/load.%d.%d and its neighbours were always written in one transaction, "
                  "but are of different ones: %s" % (where, self.db, thread, first, sorted(map(str, states))))

    def verify_one(self, data, thread, doc, where):
        """Returns the version that it is, None when it does not exist."""
        doc_id = "load.%d.%d" % (thread, doc)
        acked, acked_bytes = self.acked.get((thread, doc), (0, None))
        attempted = self.unknown.get((thread, doc))
        said = "acknowledged was version %d (%s bytes), attempted after it %s" % (acked, acked_bytes, attempted)
        if data is None:
            gone = acked_bytes is None or (attempted is not None and attempted % self.DELETE_EVERY == 0)
            check(gone, "%s: %s/%s is missing; %s" % (where, self.db, doc_id, said))
            return None
        version = self.version_of(self.db, doc_id, data)
        check(version is not None, "%s: %s/%s is torn: %s; %s" % (where, self.db, doc_id, shorten(data), said))
        check(version == (acked, acked_bytes) or version[0] == attempted,
              "%s: %s/%s is version %d of %d bytes; %s" % (where, self.db, doc_id, version[0], version[1], said))
        return version[0]

    def settle(self, found):
        """What was found after a restart is durable: from now on nothing else may be found."""
        for (thread, doc), attempted in self.unknown.items():
            doc_id = "load.%d.%d" % (thread, doc)
            if doc_id in found:
                self.acked[thread, doc] = self.version_of(self.db, doc_id, found[doc_id])
            elif attempted % self.DELETE_EVERY == 0:
                self.acked[thread, doc] = attempted, None
        self.unknown.clear()

    def expected(self):
        """{id: contents} after a run of which every transaction was acknowledged."""
        return {"load.%d.%d" % key: self.contents(self.db, *key, version, size)
                for key, (version, size) in self.acked.items() if size is not None}
