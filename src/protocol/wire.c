/* See wire.h. */
#include "protocol/wire.h"

#include <stdlib.h>

#include "base/bytes.h"

void wire_reader_init(struct wire_reader *reader, const void *body, size_t bytes) {
    *reader = (struct wire_reader){.at = body, .left = bytes};
}

void wire_reader_fail(struct wire_reader *reader, const char *problem) {
    if (reader->problem == NULL) {
        reader->problem = problem;
    }
    reader->left = 0;
}

const void *wire_read_bytes(struct wire_reader *reader, size_t bytes, const char *problem) {
    if (reader->problem != NULL || reader->left < bytes) {
        wire_reader_fail(reader, problem);
        return NULL;
    }
    const void *at = reader->at;
    reader->at += bytes;
    reader->left -= bytes;
    return at;
}

uint8_t wire_read_u8(struct wire_reader *reader, const char *problem) {
    const void *at = wire_read_bytes(reader, sizeof(uint8_t), problem);
    return at == NULL ? 0 : get_u8(at);
}

uint16_t wire_read_u16(struct wire_reader *reader, const char *problem) {
    const void *at = wire_read_bytes(reader, sizeof(uint16_t), problem);
    return at == NULL ? 0 : get_u16(at);
}

uint32_t wire_read_u32(struct wire_reader *reader, const char *problem) {
    const void *at = wire_read_bytes(reader, sizeof(uint32_t), problem);
    return at == NULL ? 0 : get_u32(at);
}

uint64_t wire_read_u64(struct wire_reader *reader, const char *problem) {
    const void *at = wire_read_bytes(reader, sizeof(uint64_t), problem);
    return at == NULL ? 0 : get_u64(at);
}

const char *wire_reader_finish(struct wire_reader *reader) {
    if (reader->problem == NULL && reader->left != 0) {
        reader->problem = "the body goes on after its last field";
    }
    return reader->problem;
}

void wire_writer_init(struct wire_writer *writer, void *buffer, size_t capacity) {
    *writer = (struct wire_writer){.start = buffer, .capacity = capacity};
}

/* Room for `bytes` more. Too little of it means that the caller counted wrong: memory would be overwritten. */
static uint8_t *writer_room(struct wire_writer *writer, size_t bytes) {
    if (writer->capacity - writer->bytes < bytes) {
        abort();
    }
    uint8_t *at = writer->start + writer->bytes;
    writer->bytes += bytes;
    return at;
}

void wire_write_u8(struct wire_writer *writer, uint8_t value) { put_u8(writer_room(writer, sizeof value), value); }

void wire_write_u16(struct wire_writer *writer, uint16_t value) {
    put_u16(writer_room(writer, sizeof value), value);
}

void wire_write_u32(struct wire_writer *writer, uint32_t value) {
    put_u32(writer_room(writer, sizeof value), value);
}

void wire_write_u64(struct wire_writer *writer, uint64_t value) {
    put_u64(writer_room(writer, sizeof value), value);
}

void wire_write_bytes(struct wire_writer *writer, const void *data, size_t bytes) {
    uint8_t *at = writer_room(writer, bytes);
    if (bytes != 0) {
        memcpy(at, data, bytes);
    }
}
