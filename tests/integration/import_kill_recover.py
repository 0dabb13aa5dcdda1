#!/usr/bin/env python3
"""A real tree is imported with cp through the mount while socket clients write; the server is killed in the middle;
after the restart everything acknowledged is there, whole, and nothing else; then the import goes on to its end.

One run: start `docdb serve` with a mount; several threads import disjoint slices of a real tree into several
databases, each with one `cp` process after the other (its exit code 0 acknowledges all the files it was given),
one more with `docdb put`; two put_load processes write, overwrite and delete documents over the socket; one
thread reads through the mount and checks what it sees. At a random document the server gets kill -9: every
client must end with a clean error, none may hang. Sometimes the next start is killed too, at a random moment of
its recovery. Then it starts on what is left (the stale mount included), and every document is compared, byte
for byte, through the mount and through the socket. All of it once or twice, then the import is finished, `cp
-r` and `diff -r` agree with the source, SIGTERM, exit 0, and the same once more embedded.

    SEED=n          the run to repeat (what threads do at the same time still differs); default: random, printed
    IMPORT_FILES=n  how many files (default 3000; fewer for a build with sanitizers)
    DOCDB, DOCDB_BUILD, TEST_TMP as tests/tools/run-tests.sh sets them
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback

sys.dont_write_bytecode = True  # leaves nothing in the source tree
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from import_world import (EXIT_UNKNOWN, EXIT_UNREACHABLE, GONE, PATIENCE_S, Failed, History, Load, Server, Skip,
                          check, read_bytes, require_fuse, shorten, tree_make)  # noqa: E402

DATABASES = ("docs", "Docs-2", "d_3.x")
MIXED, LOAD_ONLY = "docs", "load"  # where put_load writes: beside the tree, and alone
IMPORTERS = 4
FILES_A_CP_MAX = 24
CP_ERRORS = tuple(os.strerror(number) for number in GONE)


class Import:
    """The tree, its histories, and the threads that write and read it."""

    def __init__(self, server, source, ids):
        self.server = server
        self.source = source
        self.variants = source + ".variants"
        self.round = 0                    # of imports; each has variants of its own
        self.histories = {(db, doc_id): History() for db in ids for doc_id in ids[db]}
        self.lock = threading.Lock()
        self.acked_documents = 0
        self.kill_at = None
        self.due = threading.Event()      # the moment to kill has come, or there is nothing left to wait for
        self.killed = False               # set before the kill: from now on errors are expected
        self.stopped = False              # the next server is there already: start nothing more on it
        self.failure = None
        self.processes = set()
        self.read_documents = 0

    # ---- Work, as lists of (database, directory, ids): one cp each ----

    def work_make(self, overwrite):
        """What is missing, cut into slices for the importers and one for `docdb put`. With `overwrite` also some of
        what is there already, and variants that the source overwrites at once."""
        missing = [key for key in self.histories if not self.is_final(*key)]
        if overwrite:
            final = [key for key in self.histories if self.is_final(*key)]
            missing += random.sample(final, len(final) // 5)
        random.shuffle(missing)
        slices = [missing[number::IMPORTERS * 4] for number in range(IMPORTERS * 4)]
        by_put = slices.pop()
        slices = [sum(slices[number::IMPORTERS], []) for number in range(IMPORTERS)]
        return [self.batches(part, overwrite) for part in slices], by_put

    def is_final(self, db, doc_id):
        history = self.histories[db, doc_id]
        return history.acked >= 0 and history.attempted[history.acked] == os.path.join(self.source, db, doc_id)

    def batches(self, keys, overwrite):
        work = []
        for db in DATABASES:
            ids = [doc_id for key_db, doc_id in keys if key_db == db]
            while ids:
                count = random.choice((1, 1, 2, 5, FILES_A_CP_MAX))
                part, ids = ids[:count], ids[count:]
                if overwrite and random.random() < 0.1:
                    work.append((db, self.variant_make(db, part), part))
                work.append((db, os.path.join(self.source, db), part))
        # In random order, but a document's variant (the same list of ids) stays before its source.
        order = {id(part): random.random() for _, _, part in work}
        return sorted(work, key=lambda job: order[id(job[2])])

    def variant_make(self, db, ids):
        """An earlier version of these documents: other bytes of another length."""
        directory = os.path.join(self.variants, str(self.round), db)
        os.makedirs(directory, exist_ok=True)
        for doc_id in ids:
            data = read_bytes(os.path.join(self.source, db, doc_id))
            with open(os.path.join(directory, doc_id), "wb") as file:
                file.write(b"variant of " + os.fsencode(doc_id) + b"\n")
                file.write(data[::-1][:random.randrange(len(data) + 1)])
        return directory

    # ---- The threads ----

    def when(self):
        return "after the kill" if self.killed else "before the kill"

    def guarded(self, function, *arguments):
        try:
            function(*arguments)
        except Exception as error:
            reason = str(error) if isinstance(error, Failed) else traceback.format_exc()
            self.failure = self.failure or reason
            self.due.set()

    def acknowledge(self, histories, indices):
        with self.lock:
            for history, index in zip(histories, indices):
                history.acked = index
            self.acked_documents += len(histories)
            if self.kill_at is not None and self.acked_documents >= self.kill_at:
                self.due.set()

    def run_process(self, command, what):
        """Returns (exit code, stderr). One that does not end is left to cleanup: it may never end."""
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE)
        with self.lock:
            self.processes.add(process)
        try:
            _, stderr = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Failed("%s still waits after %d s, %s" % (what, PATIENCE_S, self.when()))
        with self.lock:
            self.processes.discard(process)
        return process.returncode, stderr.decode(errors="replace")

    def import_by_cp(self, work):
        for db, directory, ids in work:
            if self.stopped:
                return
            paths = [os.path.join(directory, doc_id) for doc_id in ids]
            histories = [self.histories[db, doc_id] for doc_id in ids]
            indices = [history.attempt(path) for history, path in zip(histories, paths)]
            code, stderr = self.run_process(["cp", "-t", os.path.join(self.server.mount, db), "--"] + paths, "cp")
            if code == 0:
                self.acknowledge(histories, indices)
                continue
            check(self.killed, "cp failed before the server was killed: " + stderr)
            for line in stderr.splitlines():
                check(line.endswith(CP_ERRORS), "cp failed for another reason than the server's end: " + line)
            return

    def import_by_put(self, keys):
        for db, doc_id in keys:
            if self.stopped:
                return
            history = self.histories[db, doc_id]
            path = os.path.join(self.source, db, doc_id)
            index = history.attempt(path)
            code, stderr = self.run_process([self.server.program, "put", "--socket", self.server.socket, "--", db,
                                             doc_id, path], "docdb put")
            if code == 0:
                self.acknowledge([history], [index])
                continue
            check(self.killed and code in (EXIT_UNREACHABLE, EXIT_UNKNOWN) and stderr.count("\n") == 1,
                  "docdb put: exit code %d, %s: %s" % (code, self.when(), stderr))
            return

    def read_all_the_time(self, load, stop):
        """What a reader sees meanwhile: whole versions, none older than one acknowledged before it looked."""
        keys = list(self.histories)
        chance = random.Random()  # of its own: how much is read must not change what else the seed decides
        newest = {}
        while not stop.is_set():
            try:
                for _ in range(10):
                    self.read_one(*chance.choice(keys))
                    self.read_one_of(load, chance.randrange(load.threads), chance.randrange(load.docs), newest)
            except OSError as error:
                check(self.killed and error.errno in GONE,
                      "a reader of the mount got %s, %s" % (error, self.when()))
                return
            stop.wait(0.005)

    def read_one(self, db, doc_id):
        history = self.histories[db, doc_id]
        acked = history.acked
        try:
            data = read_bytes(os.path.join(self.server.mount, db, doc_id))
        except FileNotFoundError:
            data = None
        reason = history.reason_against(data, acked)
        check(reason is None, "meanwhile, through the mount: %s/%s %s" % (db, doc_id, reason))
        self.read_documents += 1

    @staticmethod
    def read_one_of(load, thread, doc, newest):
        doc_id = "load.%d.%d" % (thread, doc)
        try:
            data = read_bytes(os.path.join(load.server.mount, load.db, doc_id))
        except FileNotFoundError:
            return
        version = load.version_of(load.db, doc_id, data)
        name = "meanwhile, through the mount: %s/%s" % (load.db, doc_id)
        check(version is not None, "%s is torn: %s" % (name, shorten(data)))
        check(version[0] >= newest.get(doc_id, 0),
              "%s was version %d, and now is %d" % (name, newest.get(doc_id, 0), version[0]))
        newest[doc_id] = version[0]

    def run(self, kill, load):
        """Imports what is missing, until all is done or the server is killed (kill may be None)."""
        self.round += 1
        slices, by_put = self.work_make(kill is not None)
        total = sum(len(job[2]) for work in slices for job in work) + len(by_put)
        self.acked_documents, self.killed, self.stopped = 0, False, False
        self.kill_at = None if kill is None else max(1, int(total * kill.share))
        self.due.clear()
        stop = threading.Event()
        writers = [thread_start(self.guarded, self.import_by_cp, work) for work in slices]
        writers.append(thread_start(self.guarded, self.import_by_put, by_put))
        reader = thread_start(self.guarded, self.read_all_the_time, load, stop)
        if kill is not None:
            check(self.due.wait(4 * PATIENCE_S), "after %d s %d of %d documents are imported" %
                  (4 * PATIENCE_S, self.acked_documents, total))
            time.sleep(kill.jitter_s)
            if self.failure is None:
                self.kill_server()
        end = time.monotonic() + 4 * PATIENCE_S
        for thread in writers:
            thread.join(max(0, end - time.monotonic()))
            check(self.failure is None, self.failure)
            check(not thread.is_alive(), "a writer still waits")
        stop.set()
        reader.join(PATIENCE_S)
        check(not reader.is_alive(), "a reader of the mount still waits after %d s" % PATIENCE_S)
        check(self.failure is None, self.failure)
        return self.acked_documents

    def kill_server(self):
        self.killed = True
        if not self.server.kill():
            print("         the killed server is still there: starting the next one, which must end it", flush=True)
            self.stopped = True
            self.server.start()

    # ---- Comparing ----

    def verify(self, found, where, load):
        """found: {db: {id: contents}} of the tree's databases."""
        for db in DATABASES:
            of_load = {key: data for key, data in found[db].items() if db == load.db and load.owns(key)}
            for key_db, doc_id in self.histories:
                if key_db == db:
                    history = self.histories[db, doc_id]
                    reason = history.reason_against(found[db].get(doc_id), history.acked)
                    check(reason is None, "%s: %s/%s %s" % (where, db, doc_id, reason))
            strange = [key for key in found[db] if (db, key) not in self.histories and key not in of_load]
            check(not strange, "%s: %s holds what nobody wrote: %r" % (where, db, strange[:5]))

    def settle(self, found):
        for (db, doc_id), history in self.histories.items():
            history.settle(found[db].get(doc_id))


def thread_start(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def bounded(function, *arguments):
    """Calls it in a thread, since what reads the mount could wait forever."""
    outcome = {}

    def call():
        try:
            outcome["result"] = function(*arguments)
        except Exception as error:
            outcome["error"] = error

    thread = thread_start(call)
    thread.join(2 * PATIENCE_S)
    check(not thread.is_alive(), "%s still waits after %d s" % (function.__name__, 2 * PATIENCE_S))
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


class Kill:
    """When the server is killed, and how often and when the starts after it are. All of it is chosen before
    anything runs, so that a seed means the same in each run."""

    def __init__(self):
        self.share = random.uniform(0.02, 0.95)  # of the documents to import
        self.jitter_s = random.random() * 0.02
        self.starts_killed_after_s = [random.random() * 0.06 for _ in range(random.choice((0, 0, 1, 2)))]


class Story:
    def __init__(self, scratch):
        self.scratch = scratch
        wal_limit = random.choice(("16M", "16M", "256M"))  # with checkpoints during the import, or without
        self.server = Server(scratch, ["--wal-limit", wal_limit])
        self.kills = [Kill() for _ in range(random.choice((1, 1, 2)))]
        self.loads = []
        self.tree = None
        self.started = time.monotonic()
        self.say("%d kill(s), --wal-limit %s" % (len(self.kills), wal_limit))

    def say(self, text):
        print("%5.1f s  %s" % (time.monotonic() - self.started, text), flush=True)

    def set_up(self, count):
        os.mkdir(self.server.mount)
        source = os.path.join(self.scratch, "source")
        ids = tree_make(source, DATABASES, count)
        self.tree = Import(self.server, source, ids)
        self.loads = [Load(self.server, self.scratch, MIXED, 3, 30),
                      Load(self.server, self.scratch, LOAD_ONLY, 4, 60)]
        self.say("%d files to import" % len(self.tree.histories))
        self.server.start()
        for number, db in enumerate(DATABASES + (LOAD_ONLY,)):
            if number % 2 == 0:
                code, stderr = self.tree.run_process(["mkdir", os.path.join(self.server.mount, db)], "mkdir")
                check(code == 0, stderr)
            else:
                self.server.call(["create-db", db])

    def import_until_killed(self, kill):
        for load in self.loads:
            load.start(0)
        documents = self.tree.run(kill, self.loads[0])
        writes = sum(load.finish(("DISCONNECTED",)) for load in self.loads)
        check(documents > 0, "nothing was acknowledged before the kill: this run proves nothing")
        self.say("killed at %.0f %%: acknowledged: %d documents of cp and docdb put, %d transactions of socket "
                 "clients; %d read meanwhile" % (100 * kill.share, documents, writes, self.tree.read_documents))
        if self.server.process is not None:
            return
        code = self.server.run(["dbs"]).returncode
        check(code == EXIT_UNREACHABLE, "docdb dbs on the socket of a killed server: exit code %d" % code)

    def restart(self, kill):
        if self.server.process is not None:
            return
        for delay in kill.starts_killed_after_s:
            self.server.spawn()
            time.sleep(delay)
            check(self.server.kill(), "the server is still there after it was killed at its start")
            self.say("started, and killed after %.0f ms" % (delay * 1000))
        self.server.start()

    def verify(self, where, fetch, databases):
        """Compares what fetch(db) gives. Returns it."""
        check(databases == sorted(DATABASES + (LOAD_ONLY,)), "%s: the databases are %r" % (where, databases))
        found = {db: bounded(fetch, db) for db in databases}
        self.tree.verify(found, where, self.loads[0])
        for load in self.loads:
            load.verify({key: data for key, data in found[load.db].items() if load.owns(key)} if load.db == MIXED
                        else found[load.db], where)
        return found

    def verify_both_ways(self, when):
        by_mount = self.verify(when + ", through the mount", self.server.mounted_documents,
                               bounded(lambda: sorted(os.listdir(self.server.mount))))
        by_socket = self.verify(when + ", through the socket", self.server.documents, self.server.databases())
        check(by_mount == by_socket, when + ": the mount and the socket differ")
        self.tree.settle(by_socket)
        for load in self.loads:
            load.settle(by_socket[load.db])
        self.say("%s: %d documents are right, through the mount and through the socket" %
                 (when, sum(len(documents) for documents in by_socket.values())))

    def finish_import(self):
        for load in self.loads:
            load.start(100)
        documents = self.tree.run(None, self.loads[0])
        writes = sum(load.finish(("OK",)) for load in self.loads)
        left = [key for key in self.tree.histories if not self.tree.is_final(*key)]
        check(not left, "the import ended without %r" % left[:3])
        self.say("finished: %d more documents, %d more transactions through the socket" % (documents, writes))

    def compare_with_diff(self):
        """`cp -r` of each database and the source are the same, as `diff -r` sees it."""
        os.makedirs(os.path.join(self.tree.source, LOAD_ONLY))
        for load in self.loads:
            for doc_id, data in load.expected().items():
                with open(os.path.join(self.tree.source, load.db, doc_id), "wb") as file:
                    file.write(data)
        out = os.path.join(self.scratch, "out")
        os.mkdir(out)
        for db in DATABASES + (LOAD_ONLY,):
            copy = os.path.join(out, db)
            code, stderr = self.tree.run_process(["cp", "-r", os.path.join(self.server.mount, db), copy], "cp -r")
            check(code == 0, "cp -r of %s: %s" % (db, stderr))
            done = subprocess.run(["diff", "-r", copy, os.path.join(self.tree.source, db)], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=PATIENCE_S)
            check(done.returncode == 0, "diff -r of %s: %s" % (db, done.stdout.decode(errors="replace")[:3000]))
        self.say("cp -r and diff -r agree")

    def tell(self):
        self.set_up(file_count())
        for number, kill in enumerate(self.kills):
            self.import_until_killed(kill)
            self.restart(kill)
            self.verify_both_ways("after kill %d" % (number + 1))
        self.finish_import()
        self.compare_with_diff()
        self.server.stop()
        self.verify("after SIGTERM, embedded", lambda db: self.server.documents(db, embedded=True),
                    self.server.databases(embedded=True))
        self.say("SIGTERM: exit code 0, and all is there embedded")

    def cleanup(self):
        self.server.abort()
        for process in list(self.tree.processes) if self.tree is not None else ():
            process.kill()
        for load in self.loads:
            load.cleanup()
        self.server.cleanup()


def file_count():
    slow = os.environ.get("DOCDB_TEST_SLOW") == "1"
    return int(os.environ.get("IMPORT_FILES") or (400 if slow else 3000))


def end_in_order(number, _):
    """A signal ends the test as a failure does: with its clean-up."""
    raise Failed("ended by " + signal.Signals(number).name)


def main():
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    print("SEED=%d" % seed, flush=True)
    random.seed(seed)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end_in_order)
    os.environ["LC_ALL"] = "C.UTF-8"  # cp's errors are compared
    story = None
    try:
        require_fuse()
        story = Story(os.path.realpath(os.environ["TEST_TMP"]))
        story.tell()
        return 0
    except Skip as reason:
        print(reason)
        return 77
    except Exception as error:
        print("FAIL (SEED=%d): %s" % (seed, error if isinstance(error, Failed) else traceback.format_exc()))
        if story is not None:
            print("the server's log ends:\n" + story.server.log_tail())
        return 1
    finally:
        if story is not None:
            story.cleanup()


sys.exit(main())
