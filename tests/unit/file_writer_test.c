/*
 * The file writer: what is appended is in the file, what was synced is there after a crash, writes are few and
 * large, and a full or failing disk is an error and no more. Random tests print SEED=n and run again with it.
 */
#include "base/file_writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/cmocka_all.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/store_model.h"
#include "tests/lib/temp.h"

#define BLOCK      ((size_t)4096)
#define MODEL_MAX  ((size_t)8 << 20)
#define BLOCKS_MAX ((size_t)40) /* in one append_blocks of the random test */
#define STEPS      60

/* A file and what it should hold. */
struct fixture {
    struct sim_disk *disk; /* NULL: the real one */
    const struct docdb_os *os;
    const char *path;
    uint64_t step;
    uint64_t random;
    uint64_t seed;
    struct file_writer writer;
    uint8_t *model;
    size_t end;
    size_t synced; /* so much of the model is durable */
    uint8_t *blocks;
};

static void check(const struct fixture *fixture, bool good, const char *what) {
    if (!good) {
        fail_msg("%s; SEED=%" PRIu64, what, fixture->seed);
    }
}

static void fixture_init(struct fixture *fixture, struct sim_disk *disk, const char *path, uint64_t seed) {
    *fixture = (struct fixture){.disk = disk,
                                .os = disk != NULL ? sim_disk_os(disk) : docdb_os_default(),
                                .path = path,
                                .random = seed,
                                .seed = seed};
    fixture->model = calloc(1, MODEL_MAX);
    fixture->blocks = aligned_alloc(BLOCK, BLOCKS_MAX * BLOCK);
    assert_true(fixture->model != NULL && fixture->blocks != NULL);
}

static void fixture_fini(struct fixture *fixture) {
    free(fixture->model);
    free(fixture->blocks);
}

static void fill(struct fixture *fixture, uint8_t *out, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        out[i] = (uint8_t)sim_random(&fixture->random);
    }
}

/* Does the file hold the first `bytes` of the model? */
static void check_file(struct fixture *fixture, size_t bytes, const char *when) {
    uint8_t *got = malloc(bytes + 1);
    int file = os_open(fixture->os, fixture->path, OS_READ);
    check(fixture, got != NULL && file >= 0, when);
    int64_t length = os_pread(fixture->os, file, got, bytes, 0);
    check(fixture, length == (int64_t)bytes && memcmp(got, fixture->model, bytes) == 0, when);
    (void)os_close(fixture->os, file);
    free(got);
}

static uint64_t file_size(const struct fixture *fixture) {
    struct os_stat stat = {0};
    assert_int_equal(os_stat(fixture->os, fixture->path, &stat), 0);
    return stat.bytes;
}

/* One random call that changes the end or the bytes. Returns what the call returned. */
static int append_step(struct fixture *fixture) {
    static const uint64_t alignments[] = {8, 64, BLOCK, 16 * BLOCK};
    size_t bytes = (size_t)(sim_random(&fixture->random) % (sim_random(&fixture->random) % 8 == 0 ? 300000 : 5000));
    uint64_t alignment = alignments[sim_random(&fixture->random) % 4];
    int rc;
    switch (sim_random(&fixture->random) % 8) {
    case 0:
        rc = file_writer_align(&fixture->writer, alignment);
        fixture->end = (size_t)round_up(fixture->end, alignment);
        return rc;
    case 1:
        rc = file_writer_align(&fixture->writer, BLOCK);
        fixture->end = (size_t)round_up(fixture->end, BLOCK);
        bytes = sim_random(&fixture->random) % BLOCKS_MAX * BLOCK;
        fill(fixture, fixture->blocks, bytes);
        memcpy(fixture->model + fixture->end, fixture->blocks, bytes);
        fixture->end += bytes;
        return rc != 0 ? rc : file_writer_append_blocks(&fixture->writer, fixture->blocks, bytes);
    default:
        fill(fixture, fixture->model + fixture->end, bytes);
        rc = file_writer_append(&fixture->writer, fixture->model + fixture->end, bytes);
        fixture->end += bytes;
        return rc;
    }
}

/* One random call that moves what was appended towards the disk. */
static int settle_step(struct fixture *fixture) {
    int rc = 0;
    switch (sim_random(&fixture->random) % 4) {
    case 0:
        rc = file_writer_flush(&fixture->writer);
        break;
    case 1:
        rc = file_writer_sync(&fixture->writer);
        break;
    case 2: /* let go of it, and go on later */
        rc = file_writer_sync(&fixture->writer);
        fixture->synced = rc == 0 ? fixture->end : fixture->synced;
        if (rc == 0) {
            rc = file_writer_close(&fixture->writer, sim_random(&fixture->random) % 2 == 0);
        }
        if (rc == 0) {
            rc = file_writer_continue(&fixture->writer, fixture->os, fixture->path, fixture->end, fixture->step);
        }
        return rc;
    default:
        return 0;
    }
    if (rc == 0) {
        check_file(fixture, fixture->end, "what was flushed can be read");
        /* But for one that was trimmed, and nothing was written since. */
        check(fixture, file_size(fixture) % BLOCK == 0 || file_size(fixture) == fixture->end,
              "the file is whole blocks");
    }
    return rc;
}

/* Replaces a block that is in the file. */
static int replace_step(struct fixture *fixture) {
    uint64_t blocks = fixture->writer.offset / BLOCK;
    if (blocks == 0) {
        return 0;
    }
    size_t offset = (size_t)(sim_random(&fixture->random) % blocks * BLOCK);
    fill(fixture, fixture->blocks, BLOCK);
    memcpy(fixture->model + offset, fixture->blocks, BLOCK);
    return file_writer_write_at(&fixture->writer, fixture->blocks, BLOCK, offset);
}

static void random_file(struct fixture *fixture) {
    fixture->step = sim_random(&fixture->random) % 3 * 60000;
    assert_int_equal(file_writer_open(&fixture->writer, fixture->os, fixture->path, fixture->step), 0);
    for (int i = 0; i < STEPS && fixture->end < MODEL_MAX / 2; i++) {
        check(fixture, append_step(fixture) == 0, "append");
        check(fixture, file_writer_end(&fixture->writer) == fixture->end, "the end");
        check(fixture, settle_step(fixture) == 0, "settle");
        check(fixture, replace_step(fixture) == 0, "replace");
    }
    check(fixture, file_writer_sync(&fixture->writer) == 0, "sync");
    check(fixture, file_writer_close(&fixture->writer, true) == 0, "trim");
    check(fixture, file_size(fixture) == fixture->end, "the file ends where the appended bytes end");
    check_file(fixture, fixture->end, "the whole file");
}

static void what_is_appended_is_in_the_file(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    char *directory = temp_make();
    char *path = temp_path(directory, "file");
    for (unsigned i = 0; i < test_rounds(10, 300); i++) {
        struct fixture fixture;
        struct sim_disk *disk = i % 3 == 0 ? NULL : sim_disk_create();
        if (disk != NULL) {
            sim_disk_set_direct(disk, i % 3 == 1);
        }
        fixture_init(&fixture, disk, disk == NULL ? path : "/file", seed + i);
        random_file(&fixture);
        if (disk != NULL) {
            assert_int_equal(sim_disk_open_files(disk), 0);
            sim_disk_destroy(disk);
        }
        fixture_fini(&fixture);
    }
    free(path);
    temp_remove(directory);
}

/* Whatever the disk does with what was not synced, and wherever the power goes. */
static void a_crash_keeps_what_was_synced(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (unsigned i = 0; i < test_rounds(60, 3000); i++) {
        struct fixture fixture;
        struct sim_disk *disk = sim_disk_create();
        fixture_init(&fixture, disk, "/file", seed + i);
        sim_disk_set_direct(disk, i % 2 == 0);
        fixture.step = i % 3 * (uint64_t)60000;
        assert_int_equal(file_writer_open(&fixture.writer, fixture.os, fixture.path, fixture.step), 0);
        assert_int_equal(os_sync_directory(fixture.os, "/"), 0);
        sim_disk_power_off_at(disk, 2 + sim_random(&fixture.random) % 100, i % 5 == 0);
        int rc = 0;
        for (int step = 0; step < STEPS && rc == 0; step++) {
            rc = append_step(&fixture);
            rc = rc == 0 ? settle_step(&fixture) : rc;
            if (rc == 0 && step % 4 == 3) {
                rc = file_writer_sync(&fixture.writer);
                fixture.synced = rc == 0 ? fixture.end : fixture.synced;
            }
        }
        check(&fixture, rc == 0 || rc == -EIO, "nothing but the lost power is an error");
        (void)file_writer_close(&fixture.writer, false);
        sim_disk_crash(disk, fixture.random);
        check_file(&fixture, fixture.synced, "what was synced is there after the crash");
        assert_int_equal(sim_disk_open_files(disk), 0);
        sim_disk_destroy(disk);
        fixture_fini(&fixture);
    }
}

/* ---- How much is written at once ---- */

static void small_appends_become_large_writes(void **state) {
    (void)state;
    uint8_t data[128] = {1};
    struct sim_disk *disk = sim_disk_create();
    struct file_writer writer;
    assert_int_equal(file_writer_open(&writer, sim_disk_os(disk), "/file", 0), 0);
    assert_true(writer.direct);
    uint64_t before = sim_disk_operations(disk);
    for (size_t i = 0; i < 4 * FILE_WRITER_BUFFER_BYTES / sizeof data; i++) {
        assert_int_equal(file_writer_append(&writer, data, sizeof data), 0);
    }
    assert_int_equal(sim_disk_operations(disk) - before, 4);
    /* All of it is written: a sync is one sync, and needs no memory. */
    assert_int_equal(file_writer_sync(&writer), 0);
    assert_int_equal(sim_disk_operations(disk) - before, 5);
    assert_null(writer.buffer);
    assert_int_equal(file_writer_append(&writer, data, 1), 0);
    assert_int_equal(file_writer_flush(&writer), 0);
    assert_int_equal(file_writer_flush(&writer), 0); /* nothing new */
    assert_int_equal(sim_disk_operations(disk) - before, 6);
    assert_int_equal(file_writer_close(&writer, false), 0);
    sim_disk_destroy(disk);
}

static void blocks_go_out_in_pieces_of_a_mebibyte(void **state) {
    (void)state;
    size_t bytes = ((size_t)5 << 20) / 2;
    uint8_t *data = aligned_alloc(BLOCK, bytes);
    uint8_t last = 0;
    struct sim_disk *disk = sim_disk_create();
    const struct docdb_os *os = sim_disk_os(disk);
    struct file_writer writer;
    assert_non_null(data);
    memset(data, 7, bytes);
    assert_int_equal(file_writer_open(&writer, os, "/file", 0), 0);
    uint64_t before = sim_disk_operations(disk);
    assert_int_equal(file_writer_append_blocks(&writer, data, bytes), 0);
    assert_null(writer.buffer);
    assert_int_equal(sim_disk_operations(disk) - before, 3);
    assert_int_equal(file_writer_end(&writer), bytes);
    assert_int_equal(file_writer_append_blocks(&writer, data, 0), 0);
    assert_int_equal(sim_disk_operations(disk) - before, 3);
    assert_int_equal(file_writer_close(&writer, false), 0);
    int file = os_open(os, "/file", OS_READ);
    assert_int_equal(os_pread(os, file, &last, 1, bytes - 1), 1);
    assert_int_equal(last, 7);
    assert_int_equal(os_close(os, file), 0);
    sim_disk_destroy(disk);
    free(data);
}

static void space_is_reserved_ahead_and_given_back(void **state) {
    (void)state;
    uint8_t data[100] = {1};
    struct sim_disk *disk = sim_disk_create();
    struct file_writer writer;
    assert_int_equal(file_writer_open(&writer, sim_disk_os(disk), "/file", 1 << 20), 0);
    assert_int_equal(file_writer_append(&writer, data, sizeof data), 0);
    assert_int_equal(sim_disk_used(disk), 0);
    assert_int_equal(file_writer_sync(&writer), 0);
    assert_int_equal(sim_disk_used(disk), 1 << 20);
    uint64_t before = sim_disk_operations(disk);
    assert_int_equal(file_writer_append(&writer, data, sizeof data), 0);
    assert_int_equal(file_writer_sync(&writer), 0);
    assert_int_equal(sim_disk_operations(disk) - before, 2); /* a write and a sync: nothing to reserve */
    assert_int_equal(file_writer_close(&writer, true), 0);
    assert_int_equal(sim_disk_used(disk), BLOCK);
    sim_disk_destroy(disk);
}

/* ---- When it fails ---- */

static void a_full_disk_is_an_error_of_the_write_alone(void **state) {
    (void)state;
    uint8_t data[4096] = {1};
    struct sim_disk *disk = sim_disk_create();
    struct file_writer writer;
    sim_disk_set_capacity(disk, 16 * BLOCK);
    assert_int_equal(file_writer_open(&writer, sim_disk_os(disk), "/file", 1 << 20), 0);
    for (int i = 0; i < 16; i++) { /* no room for what should be reserved, but for this */
        assert_int_equal(file_writer_append(&writer, data, sizeof data), 0);
        assert_int_equal(file_writer_flush(&writer), 0);
    }
    assert_int_equal(file_writer_append(&writer, data, sizeof data), 0);
    assert_int_equal(file_writer_sync(&writer), -ENOSPC);
    assert_int_equal(file_writer_close(&writer, false), 0);
    assert_int_equal(sim_disk_open_files(disk), 0);
    sim_disk_destroy(disk);
}

static void a_file_system_that_reserves_nothing_will_do(void **state) {
    (void)state;
    uint8_t data[100] = {1};
    struct sim_disk *disk = sim_disk_create();
    struct file_writer writer;
    sim_disk_fault(disk, &(struct sim_fault){.kinds = SIM_ALLOCATE, .count = UINT64_MAX, .error = EOPNOTSUPP});
    assert_int_equal(file_writer_open(&writer, sim_disk_os(disk), "/file", BLOCK), 0);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(file_writer_append(&writer, data, sizeof data), 0);
        assert_int_equal(file_writer_flush(&writer), 0);
    }
    assert_int_equal(sim_disk_faults_hit(disk), 1); /* asked once */
    assert_int_equal(file_writer_close(&writer, false), 0);
    sim_disk_destroy(disk);
}

/* Appends, syncs, trims with one kind of operation failing; the error comes out once, and closing works. */
static void each_failure_is_returned(void **state) {
    (void)state;
    static const unsigned kinds[] = {SIM_OPEN, SIM_ALLOCATE, SIM_WRITE, SIM_SYNC, SIM_TRUNCATE, SIM_READ};
    static const uint8_t data[5000] = {1};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct sim_disk *disk = sim_disk_create();
        const struct docdb_os *os = sim_disk_os(disk);
        struct file_writer writer;
        assert_int_equal(file_writer_open(&writer, os, "/file", 0), 0);
        assert_int_equal(file_writer_append(&writer, data, sizeof data), 0);
        assert_int_equal(file_writer_sync(&writer), 0);
        assert_int_equal(file_writer_close(&writer, true), 0);
        sim_disk_fault(disk, &(struct sim_fault){.kinds = kinds[i], .count = 1, .error = EIO});
        int rc = file_writer_continue(&writer, os, "/file", sizeof data, BLOCK);
        assert_int_equal(rc, kinds[i] == SIM_OPEN || kinds[i] == SIM_READ ? -EIO : 0);
        if (rc == 0) {
            assert_int_equal(file_writer_append(&writer, data, sizeof data), 0);
            rc = file_writer_sync(&writer);
            assert_int_equal(rc, kinds[i] == SIM_TRUNCATE ? 0 : -EIO);
            assert_int_equal(file_writer_close(&writer, rc == 0), rc == 0 ? -EIO : 0);
        }
        assert_int_equal(writer.file, -1);
        assert_null(writer.buffer);
        assert_int_equal(file_writer_close(&writer, true), 0); /* a closed one may be closed */
        assert_int_equal(sim_disk_faults_hit(disk), 1);
        assert_int_equal(sim_disk_open_files(disk), 0);
        sim_disk_destroy(disk);
    }
}

static void a_file_that_lost_synced_bytes_is_not_gone_on_with(void **state) {
    (void)state;
    uint8_t data[100] = {1};
    struct sim_disk *disk = sim_disk_create();
    const struct docdb_os *os = sim_disk_os(disk);
    struct file_writer writer;
    assert_int_equal(file_writer_continue(&writer, os, "/file", 0, 0), -ENOENT);
    assert_int_equal(file_writer_open(&writer, os, "/file", 0), 0);
    assert_int_equal(file_writer_append(&writer, data, sizeof data), 0);
    assert_int_equal(file_writer_sync(&writer), 0);
    assert_int_equal(file_writer_close(&writer, true), 0);
    assert_int_equal(file_writer_continue(&writer, os, "/file", sizeof data + 1, 0), -EIO);
    assert_int_equal(file_writer_continue(&writer, os, "/file", sizeof data, 0), 0);
    assert_int_equal(file_writer_end(&writer), sizeof data);
    assert_int_equal(file_writer_close(&writer, false), 0);
    /* Opening for a new life empties it. */
    assert_int_equal(file_writer_open(&writer, os, "/file", 0), 0);
    assert_int_equal(file_writer_close(&writer, true), 0);
    assert_int_equal(sim_disk_used(disk), 0);
    sim_disk_destroy(disk);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_appended_is_in_the_file),
        cmocka_unit_test(a_crash_keeps_what_was_synced),
        cmocka_unit_test(small_appends_become_large_writes),
        cmocka_unit_test(blocks_go_out_in_pieces_of_a_mebibyte),
        cmocka_unit_test(space_is_reserved_ahead_and_given_back),
        cmocka_unit_test(a_full_disk_is_an_error_of_the_write_alone),
        cmocka_unit_test(a_file_system_that_reserves_nothing_will_do),
        cmocka_unit_test(each_failure_is_returned),
        cmocka_unit_test(a_file_that_lost_synced_bytes_is_not_gone_on_with),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
