/*
 * Reading and writing the pieces of a frame's body, with every field checked against the end of the body.
 *
 * A reader that would run over the end notes the field's name once, and gives zeros from then on; so a decoder
 * reads all fields in order and looks for a problem once, at its end (wire_reader_finish). A writer writes into a
 * buffer that its caller made large enough; running over is a bug of the caller and ends the program. No I/O, no
 * allocation, no locks.
 */
#ifndef DOCDB_PROTOCOL_WIRE_H
#define DOCDB_PROTOCOL_WIRE_H

#include <stddef.h>
#include <stdint.h>

struct wire_reader {
    const uint8_t *at;
    size_t left;
    const char *problem; /* what is wrong, for people; NULL as long as nothing is */
};

void wire_reader_init(struct wire_reader *reader, const void *body, size_t bytes);
/* `problem` is a static text: what is wrong with the body when it ends inside this field. */
uint8_t wire_read_u8(struct wire_reader *reader, const char *problem);
uint16_t wire_read_u16(struct wire_reader *reader, const char *problem);
uint32_t wire_read_u32(struct wire_reader *reader, const char *problem);
uint64_t wire_read_u64(struct wire_reader *reader, const char *problem);
/* NULL when the body ends before `bytes` more. */
const void *wire_read_bytes(struct wire_reader *reader, size_t bytes, const char *problem);
void wire_reader_fail(struct wire_reader *reader, const char *problem);
/* NULL when all was well and nothing is left over. */
const char *wire_reader_finish(struct wire_reader *reader);

struct wire_writer {
    uint8_t *start;
    size_t capacity;
    size_t bytes; /* written so far */
};

void wire_writer_init(struct wire_writer *writer, void *buffer, size_t capacity);
void wire_write_u8(struct wire_writer *writer, uint8_t value);
void wire_write_u16(struct wire_writer *writer, uint16_t value);
void wire_write_u32(struct wire_writer *writer, uint32_t value);
void wire_write_u64(struct wire_writer *writer, uint64_t value);
void wire_write_bytes(struct wire_writer *writer, const void *data, size_t bytes);

#endif
