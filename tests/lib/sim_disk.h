/*
 * A disk in memory behind the table of src/base/os.h, for tests: it can lose power, fail and be full.
 *
 * Happy path: sim_disk_create; pass sim_disk_os as docdb_options.os; use the store; close it; sim_disk_crash takes
 * the power away; open the store again and look at what is left.
 *
 * What is durable: the bytes of a file up to its last sync (or each write of a file opened with OS_DSYNC), and the
 * names of a directory up to its last sync_directory; a synced file whose name is not durable is gone after a
 * crash. sim_disk_crash(seed) lets each unsynced write survive whole, torn at sectors of 512 bytes, or not at all,
 * and each unsynced change of a name happen or not (a rename wholly or not at all). A sync that failed leaves the
 * unsynced bytes readable until the crash but never durable, as Linux does.
 *
 * Faults: sim_disk_power_off_at makes one counted operation and all after it fail with -EIO; sim_disk_fault fails
 * chosen operations; sim_disk_set_capacity makes it full. Counted are the operations that change something; see
 * sim_disk_operations.
 *
 * Clocks are simulated: each look at one moves time by a microsecond, and time goes on over crashes.
 *
 * Threads: all functions may be called from any thread (one mutex); crash and kill only when no store is open.
 * Seeds decide what a crash keeps, but the order of operations of several threads is not the seed's to decide.
 * Out of memory aborts: it is a test.
 */
#ifndef DOCDB_TESTS_SIM_DISK_H
#define DOCDB_TESTS_SIM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/os.h"

struct sim_disk;

struct sim_disk *sim_disk_create(void);
void sim_disk_destroy(struct sim_disk *disk);
const struct docdb_os *sim_disk_os(struct sim_disk *disk);

/* The power goes: what is durable stays, the seed decides about the rest. Power is on and all faults are gone
 * afterwards (the capacity stays). */
void sim_disk_crash(struct sim_disk *disk, uint64_t seed);
/* The process was killed: open files and locks go, everything written stays, and stays as unsynced as it was. */
void sim_disk_kill(struct sim_disk *disk);

/* Operations so far that change the disk: opens that create or truncate, pwrite, sync, truncate, allocate, rename,
 * unlink, mkdir, rmdir, sync_directory. */
uint64_t sim_disk_operations(struct sim_disk *disk);
/* The counted operation with this number (the first is 1) and everything later, reads too, fail with -EIO and do
 * nothing. With `partial` the one with the number happens first, though nothing of it is durable. 0: never. */
void sim_disk_power_off_at(struct sim_disk *disk, uint64_t operation, bool partial);
bool sim_disk_is_off(struct sim_disk *disk);

/* Kinds of operations, for a fault's filter. */
enum {
    SIM_OPEN = 1 << 0, /* every open, not only those that are counted */
    SIM_READ = 1 << 1,
    SIM_WRITE = 1 << 2,
    SIM_SYNC = 1 << 3,
    SIM_TRUNCATE = 1 << 4,
    SIM_ALLOCATE = 1 << 5,
    SIM_RENAME = 1 << 6,
    SIM_UNLINK = 1 << 7,
    SIM_MKDIR = 1 << 8,
    SIM_RMDIR = 1 << 9,
    SIM_SYNC_DIRECTORY = 1 << 10,
};
#define SIM_CHANGES                                                                                                \
    (SIM_WRITE | SIM_SYNC | SIM_TRUNCATE | SIM_ALLOCATE | SIM_RENAME | SIM_UNLINK | SIM_MKDIR | SIM_RMDIR |        \
     SIM_SYNC_DIRECTORY)

struct sim_fault {
    unsigned kinds;
    const char *path;   /* a part of the path (of rename: of the old one); NULL: any. Must outlive the fault */
    uint64_t skip;      /* so many that match go well first */
    uint64_t count;     /* so many fail then; UINT64_MAX: all */
    int error;          /* a positive errno value */
    bool partial_write; /* a write that fails has put some of its sectors into the file */
};
/* Replaces the fault; NULL: none. */
void sim_disk_fault(struct sim_disk *disk, const struct sim_fault *fault);
/* How many operations the present fault has failed. */
uint64_t sim_disk_faults_hit(struct sim_disk *disk);

/* Bytes that files may take; writes, allocations and growing beyond it fail with -ENOSPC and do nothing. 0: no
 * end. */
void sim_disk_set_capacity(struct sim_disk *disk, uint64_t bytes);
uint64_t sim_disk_used(struct sim_disk *disk);
/* Without: opens with OS_DIRECT fail with -EINVAL, as on a file system that has none. Default: with. */
void sim_disk_set_direct(struct sim_disk *disk, bool has_direct);

/* Files that are open: 0 after a store was closed, or it leaks. */
size_t sim_disk_open_files(struct sim_disk *disk);
/* Changes one byte of a file (by exclusive or), durably. False: no such file, or it is shorter. */
bool sim_disk_flip(struct sim_disk *disk, const char *path, uint64_t offset, uint8_t bits);
/* The path of the file number `nth` (from 0, in order of name) of a directory whose name ends with `suffix`.
 * False: there is none. */
bool sim_disk_find(struct sim_disk *disk, const char *directory, const char *suffix, size_t nth, char *out,
                   size_t bytes);

/* A generator for tests: splitmix64. Never 0-sensitive; *state is the seed. */
uint64_t sim_random(uint64_t *state);

#endif
