/* See file_writer.h. */
#include "base/file_writer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

/* One direct write of a caller's memory: as fast as a longer one, and what else uses the disk gets its turn
 * between. */
#define PIECE_BYTES ((size_t)1 << 20)

static uint64_t round_down(uint64_t value, uint64_t alignment) { return value & ~(alignment - 1); }

/* ---- Opening ---- */

static int open_file(struct file_writer *writer, const struct docdb_os *os, const char *path, unsigned flags,
                     uint64_t allocate_step) {
    *writer = (struct file_writer){.os = os, .direct = true, .allocate_step = allocate_step};
    writer->file = os_open(os, path, flags | OS_DIRECT);
    if (writer->file == -EINVAL) {
        writer->direct = false;
        writer->file = os_open(os, path, flags);
    }
    int rc = writer->file < 0 ? writer->file : 0;
    writer->file = rc == 0 ? writer->file : -1;
    return rc;
}

int file_writer_open(struct file_writer *writer, const struct docdb_os *os, const char *path,
                     uint64_t allocate_step) {
    return open_file(writer, os, path, OS_READ | OS_WRITE | OS_CREATE | OS_TRUNCATE, allocate_step);
}

static int buffer_need(struct file_writer *writer) {
    if (writer->buffer == NULL) {
        writer->buffer = aligned_alloc((size_t)FILE_WRITER_BLOCK_BYTES, FILE_WRITER_BUFFER_BYTES);
    }
    return writer->buffer == NULL ? -ENOMEM : 0;
}

static void buffer_free(struct file_writer *writer) {
    free(writer->buffer);
    writer->buffer = NULL;
}

/* Takes the part of the last block that counts into the buffer. */
static int last_block_read(struct file_writer *writer, size_t bytes) {
    int rc = buffer_need(writer);
    if (rc != 0) {
        return rc;
    }
    int64_t got =
        os_pread(writer->os, writer->file, writer->buffer, (size_t)FILE_WRITER_BLOCK_BYTES, writer->offset);
    if (got < 0) {
        return (int)got;
    }
    writer->buffered = bytes;
    writer->written = bytes;
    return (size_t)got < bytes ? -EIO : 0; /* the file ends before what was synced */
}

int file_writer_continue(struct file_writer *writer, const struct docdb_os *os, const char *path, uint64_t end,
                         uint64_t allocate_step) {
    int rc = open_file(writer, os, path, OS_READ | OS_WRITE, allocate_step);
    if (rc != 0) {
        return rc;
    }
    writer->offset = round_down(end, FILE_WRITER_BLOCK_BYTES);
    writer->allocated = round_up(end, FILE_WRITER_BLOCK_BYTES);
    rc = end == writer->offset ? 0 : last_block_read(writer, (size_t)(end - writer->offset));
    if (rc != 0) {
        (void)file_writer_close(writer, false);
    }
    return rc;
}

/* ---- Writing ---- */

/* Reserves space for a write up to `end`, and some ahead. A full disk is for the write to find out: it may still
 * have room for that. */
static int allocate(struct file_writer *writer, uint64_t end) {
    if (writer->allocate_step == 0 || end <= writer->allocated) {
        return 0;
    }
    uint64_t ahead = writer->allocated + round_up(writer->allocate_step, FILE_WRITER_BLOCK_BYTES);
    uint64_t target = ahead > end ? ahead : end;
    int rc = os_allocate(writer->os, writer->file, writer->allocated, target - writer->allocated);
    if (rc == -EOPNOTSUPP || rc == -ENOSYS) {
        writer->allocate_step = 0;
        return 0;
    }
    if (rc == 0) {
        writer->allocated = target;
    }
    return rc == -ENOSPC || rc == -EDQUOT ? 0 : rc;
}

static int write_blocks(struct file_writer *writer, const void *data, size_t bytes, uint64_t offset) {
    int rc = allocate(writer, offset + bytes);
    if (rc == 0) {
        rc = os_pwrite(writer->os, writer->file, data, bytes, offset);
    }
    if (rc == 0 && offset + bytes > writer->allocated) {
        writer->allocated = offset + bytes;
    }
    return rc;
}

/* Writes what is buffered, padded with zeros to whole blocks, and keeps the block that is not full. */
static int buffer_write(struct file_writer *writer) {
    if (writer->buffered == writer->written) {
        return 0;
    }
    size_t bytes = (size_t)round_up(writer->buffered, FILE_WRITER_BLOCK_BYTES);
    size_t full = (size_t)round_down(writer->buffered, FILE_WRITER_BLOCK_BYTES);
    memset(writer->buffer + writer->buffered, 0, bytes - writer->buffered);
    int rc = write_blocks(writer, writer->buffer, bytes, writer->offset);
    if (rc != 0) {
        return rc;
    }
    if (full > 0) {
        memmove(writer->buffer, writer->buffer + full, writer->buffered - full);
    }
    writer->offset += full;
    writer->buffered -= full;
    writer->written = writer->buffered;
    return 0;
}

int file_writer_append(struct file_writer *writer, const void *data, size_t bytes) {
    const uint8_t *from = data;
    int rc = bytes > 0 ? buffer_need(writer) : 0;
    while (rc == 0 && bytes > 0) {
        size_t room = FILE_WRITER_BUFFER_BYTES - writer->buffered;
        size_t part = bytes < room ? bytes : room;
        memcpy(writer->buffer + writer->buffered, from, part);
        writer->buffered += part;
        from += part;
        bytes -= part;
        if (part == room) {
            rc = buffer_write(writer);
        }
    }
    return rc;
}

int file_writer_align(struct file_writer *writer, uint64_t alignment) {
    static const uint8_t zeros[4096];
    uint64_t end = file_writer_end(writer);
    uint64_t gap = round_up(end, alignment) - end;
    int rc = 0;
    while (rc == 0 && gap > 0) {
        size_t part = gap < sizeof zeros ? (size_t)gap : sizeof zeros;
        rc = file_writer_append(writer, zeros, part);
        gap -= part;
    }
    return rc;
}

static bool whole_blocks(const void *data, size_t bytes, uint64_t offset) {
    return ((uintptr_t)data | bytes | offset) % FILE_WRITER_BLOCK_BYTES == 0;
}

int file_writer_append_blocks(struct file_writer *writer, const void *data, size_t bytes) {
    const uint8_t *from = data;
    assert(whole_blocks(data, bytes, file_writer_end(writer)));
    int rc = buffer_write(writer); /* whole blocks: nothing stays */
    while (rc == 0 && bytes > 0) {
        size_t part = bytes < PIECE_BYTES ? bytes : PIECE_BYTES;
        rc = write_blocks(writer, from, part, writer->offset);
        writer->offset += rc == 0 ? part : 0;
        from += part;
        bytes -= part;
    }
    return rc;
}

int file_writer_write_at(struct file_writer *writer, const void *data, size_t bytes, uint64_t offset) {
    assert(whole_blocks(data, bytes, offset) && offset + bytes <= writer->offset);
    return os_pwrite(writer->os, writer->file, data, bytes, offset);
}

int file_writer_flush(struct file_writer *writer) { return buffer_write(writer); }

int file_writer_sync(struct file_writer *writer) {
    int rc = buffer_write(writer);
    if (rc == 0) {
        rc = os_sync(writer->os, writer->file);
    }
    if (rc == 0 && writer->buffered == 0) {
        buffer_free(writer); /* a file of large documents needs none, and stays open */
    }
    return rc;
}

int file_writer_close(struct file_writer *writer, bool trim) {
    int rc = 0;
    if (writer->file >= 0) {
        rc = trim ? os_truncate(writer->os, writer->file, file_writer_end(writer)) : 0;
        (void)os_close(writer->os, writer->file);
        writer->file = -1;
    }
    buffer_free(writer);
    return rc;
}
