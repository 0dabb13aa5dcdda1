"""What the mount's tests share: a server with a mount in a scratch directory, and small helpers.

    from mounted import Server, run_tests

    def test_something(server): ...

    run_tests(globals())

run_tests starts one server, calls every function test_* with it in the order of the file, each in a database of its own
(server.db), and cleans up whatever happened: it ends the processes it started, unmounts what they mounted, removes its
scratch. Where /dev/fuse cannot be used it says why and exits 77. DOCDB is the program to test.
"""

import contextlib
import ctypes
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

PATIENCE_S = 120  # only so that a test that hangs fails with a reason
LIBC = ctypes.CDLL(None, use_errno=True)
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
SLOW = os.environ.get("DOCDB_TEST_SLOW") == "1"  # a sanitizer's build: fewer rounds


class Skip(Exception):
    pass


def rounds(normal):
    return max(1, normal // 10) if SLOW else normal


def program():
    path = os.environ.get("DOCDB")
    if not path:
        root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
        path = os.path.join(root, "docdb")
    if not os.access(path, os.X_OK):
        raise SystemExit("no program to test at %s: run `make`, or set DOCDB" % path)
    return os.path.abspath(path)


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def check_equal(expected, actual, what):
    if expected != actual:
        raise AssertionError("%s: expected %s, got %s" % (what, shorten(expected), shorten(actual)))


def shorten(value):
    text = repr(value)
    return text if len(text) <= 600 else text[:450] + " ... " + text[-150:]


def check_errno(expected, call, what):
    """call() must fail with this errno."""
    try:
        call()
    except OSError as error:
        check_equal(errno.errorcode[expected], errno.errorcode.get(error.errno), what)
        return
    raise AssertionError("%s: expected %s, but it worked" % (what, errno.errorcode[expected]))


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def write_bytes(path, data):
    with open(path, "wb") as file:
        file.write(data)


def rename2(old, new, flags):
    if LIBC.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), new)


def wait_until(condition, what):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        check(time.monotonic() < end, "timed out waiting until " + what)
        time.sleep(0.01)


def is_mounted(path):
    path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    with open("/proc/self/mounts") as mounts:
        return any(line.split()[1] == path for line in mounts)


def shell(script, directory, check_status=True, timeout=PATIENCE_S):
    """Runs bash in a directory; returns what it wrote."""
    done = subprocess.run(["bash", "-c", script], cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=timeout)
    if check_status and done.returncode != 0:
        raise AssertionError("%s: exit code %d: %s" % (script, done.returncode, done.stdout.decode(errors="replace")))
    return done.stdout.decode(errors="replace")


class Server:
    def __init__(self, scratch, options=()):
        self.scratch = scratch
        self.data = os.path.join(scratch, "data")
        self.socket = os.path.join(scratch, "socket")
        self.mount = os.path.join(scratch, "mount")
        self.log_path = os.path.join(scratch, "log")
        self.options = list(options)
        self.process = None
        self.database = None
        os.makedirs(self.mount, exist_ok=True)

    @property
    def db(self):
        return os.path.join(self.mount, self.database)

    def path(self, name):
        return os.path.join(self.db, name)

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [program(), "serve", "--data-dir", self.data, "--socket", self.socket, "--mount", self.mount]
                + self.options, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self.is_ready, "the server is ready: " + self.log())
        check(is_mounted(self.mount), "the server did not mount: " + self.log())

    def is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError("the server ended with %d: %s" % (self.process.returncode, self.log()))
        return subprocess.run([program(), "dbs", "--socket", self.socket], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode == 0

    def stop(self):
        """SIGTERM; it must exit 0 and leave nothing mounted."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        self.process = None
        check_equal(0, code, "the server's exit code; its log: " + self.log()[-3000:])
        check(not is_mounted(self.mount), "the mount is still there after SIGTERM")

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self.process = None

    def cleanup(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        while is_mounted(self.mount):
            if subprocess.run(["umount", "-f", self.mount], stderr=subprocess.DEVNULL).returncode != 0:
                subprocess.run(["umount", "-l", self.mount], check=True)

    # The same documents through the socket.
    def docdb(self, *arguments, data=None, check_status=True):
        done = subprocess.run([program(), arguments[0], "--socket", self.socket] + list(arguments[1:]),
                              input=data if data is not None else b"", stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=PATIENCE_S)
        if check_status and done.returncode != 0:
            raise AssertionError("docdb %s: %s" % (" ".join(arguments), done.stderr.decode()))
        return done.stdout if check_status else done

    def put(self, name, data):
        self.docdb("put", self.database, name, data=data)

    def read(self, name):
        """None when there is no such document."""
        done = self.docdb("read", self.database, name, check_status=False)
        return done.stdout if done.returncode == 0 else None

    def commits(self):
        return json.loads(self.docdb("stats", "--json"))["commits"]

    def commits_of(self, action):
        before = self.commits()
        action()
        return self.commits() - before


def require_fuse():
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        raise Skip("the mount cannot be tested here: /dev/fuse: " + error.strerror)
    if os.geteuid() != 0:
        raise Skip("the mount cannot be tested here: mounting needs root")


@contextlib.contextmanager
def scratch_directory():
    path = tempfile.mkdtemp(prefix="docdb-fuse.")  # not $TEST_TMP: a socket's path has room for 107 bytes
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def mounted_server(options=()):
    require_fuse()
    with scratch_directory() as scratch:
        server = Server(scratch, options)
        try:
            server.start()
            yield server
        finally:
            server.cleanup()


def seed_random():
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    print("seed: SEED=%d" % seed)
    random.seed(seed)
    return seed


def run_tests(namespace, options=()):
    """Runs the module's test_* functions; those named on the command line when there are any."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # a runner's timeout: clean up
    names = sys.argv[1:] or [name for name in namespace if name.startswith("test_")]
    failed = 0
    try:
        with mounted_server(options) as server:
            for number, name in enumerate(names):
                server.database = "db%d" % number
                os.mkdir(server.db)
                try:
                    namespace[name](server)
                    print("ok   " + name)
                except Exception:
                    failed += 1
                    print("FAIL " + name)
                    traceback.print_exc(file=sys.stdout)
                    if server.process is None or server.process.poll() is not None:
                        print("the server is gone; its log ends:\n" + server.log()[-6000:])
                        break
                sys.stdout.flush()
            if failed == 0 and server.process is not None:
                server.stop()
    except Skip as reason:
        print(reason)
        sys.exit(77)
    sys.exit(1 if failed else 0)
