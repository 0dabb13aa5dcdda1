/*
 * Writing a file front to back, past the page cache where the file system lets us.
 *
 * What is appended gathers in one aligned buffer and goes out in whole blocks with direct writes: they take no page
 * cache away from readers, and leave no pile of dirty pages whose writing out would hold up the log. Where there is
 * no O_DIRECT (tmpfs, some FUSE) the writes are plain ones.
 *
 * Happy path: file_writer_open, file_writer_append as often as wanted, file_writer_sync; then more of both, or
 * file_writer_close. What is not synced may be lost by a crash. The file is padded with zeros to a multiple of
 * FILE_WRITER_BLOCK_BYTES on disk; what is appended after a sync takes the padding's place.
 *
 * Failure: after an error of append, write_at or sync the writer must only be closed, and nothing more may be
 * written to the file: the kernel may hold for clean what never reached the disk.
 *
 * Threads: one at a time.
 */
#ifndef DOCDB_BASE_FILE_WRITER_H
#define DOCDB_BASE_FILE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/os.h"

#define FILE_WRITER_BLOCK_BYTES ((uint64_t)4096)
#define FILE_WRITER_BUFFER_BYTES                                                                                   \
    ((size_t)256 << 10) /* one write: long enough for the disk's full speed, and so short                          \
                           that a write of the log behind it hardly waits */

struct file_writer {
    const struct docdb_os *os;
    int file; /* open for reading and writing; -1: closed */
    bool direct;
    uint8_t *buffer;        /* aligned to a block; NULL while nothing was appended */
    size_t buffered;        /* bytes of it that count */
    size_t written;         /* bytes of it that are in the file already (the partial last block, after a sync) */
    uint64_t offset;        /* in the file, of buffer[0]: a multiple of a block */
    uint64_t allocated;     /* up to where space was reserved */
    uint64_t allocate_step; /* reserve that much ahead; 0: nothing */
};

/* Creates the file (or empties it). Returns 0 or a negative errno value; then the writer is closed. */
int file_writer_open(struct file_writer *writer, const struct docdb_os *os, const char *path,
                     uint64_t allocate_step);
/* Opens an existing file to go on at `end`, a place that was synced; what lies behind it is overwritten. */
int file_writer_continue(struct file_writer *writer, const struct docdb_os *os, const char *path, uint64_t end,
                         uint64_t allocate_step);
/* Where the next byte goes. */
static inline uint64_t file_writer_end(const struct file_writer *writer) {
    return writer->offset + writer->buffered;
}
int file_writer_append(struct file_writer *writer, const void *data, size_t bytes);
/* Appends zeros up to a multiple of `alignment`, a power of two. */
int file_writer_align(struct file_writer *writer, uint64_t alignment);
/* Appends whole blocks straight from the caller's memory: `data` and `bytes` are multiples of a block and the end
 * is too (file_writer_align). */
int file_writer_append_blocks(struct file_writer *writer, const void *data, size_t bytes);
/* Replaces bytes that were appended before (a header that comes last): whole blocks, as append_blocks. `offset` is
 * below what is buffered. */
int file_writer_write_at(struct file_writer *writer, const void *data, size_t bytes, uint64_t offset);
/* Writes what is buffered, and makes everything durable. The file's name is the caller's to make durable. */
int file_writer_sync(struct file_writer *writer);
/* Writes what is buffered without making it durable, so that it can be read back. */
int file_writer_flush(struct file_writer *writer);
/* Frees the writer's memory and closes the file. With `trim` the file is cut at the end of what was appended; only
 * after a sync. Returns 0 or a negative errno value of the trim. */
int file_writer_close(struct file_writer *writer, bool trim);

#endif
