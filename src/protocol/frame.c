/* Frame headers and the hello: the part of the protocol that is the same in all its versions. See protocol.h. */
#include <string.h>

#include "base/bytes.h"
#include "protocol/protocol.h"

static const uint8_t magic[8] = {'D', 'O', 'C', 'D', 'B', 0, 0, 0};

void frame_encode(uint8_t at[FRAME_BYTES], const struct frame *frame) {
    put_u32(at, frame->body_bytes);
    put_u8(at + 4, frame->op);
    put_u8(at + 5, frame->flags);
    put_u16(at + 6, (uint16_t)frame->status);
    put_u32(at + 8, frame->request_id);
    put_u32(at + 12, frame->handle);
}

void frame_decode(struct frame *out, const uint8_t at[FRAME_BYTES]) {
    *out = (struct frame){
        .body_bytes = get_u32(at),
        .op = get_u8(at + 4),
        .flags = get_u8(at + 5),
        .status = (int16_t)get_u16(at + 6),
        .request_id = get_u32(at + 8),
        .handle = get_u32(at + 12),
    };
}

static bool may_go_unanswered(uint8_t op) {
    return op == OP_CLOSE_DB || op == OP_ABORT || op == OP_SCAN_CLOSE || op == OP_VERIFY_CLOSE ||
           op == OP_BACKUP_CLOSE;
}

const char *frame_check_request(const struct frame *frame, uint32_t max_body_bytes) {
    if (frame->op == 0 || frame->op >= OP_COUNT) {
        return "unknown operation";
    }
    if ((frame->flags & ~FRAME_NO_REPLY) != 0) {
        return "flags that a request cannot have";
    }
    if ((frame->flags & FRAME_NO_REPLY) != 0 && !may_go_unanswered(frame->op)) {
        return "NO_REPLY on an operation that is always answered";
    }
    if (frame->status != 0) {
        return "a status in a request";
    }
    if (frame->body_bytes > max_body_bytes) {
        return "a body longer than max_request_bytes";
    }
    return NULL;
}

const char *frame_check_reply(const struct frame *frame) {
    if (frame->op == OP_ERROR ? frame->flags != 0 : (frame->flags & ~FRAME_END) != FRAME_REPLY) {
        return "flags that a reply cannot have";
    }
    if (frame->status > 0) {
        return "a status above 0";
    }
    if (frame->body_bytes > REPLY_BODY_BYTES_MAX) {
        return "a body longer than any reply";
    }
    return NULL;
}

uint32_t request_body_bytes_max(const docdb_limits *limits) {
    /* max_txn_bytes counts ids and documents, so what is left are the heads; one document must fit in any case. */
    uint64_t payload =
        limits->max_txn_bytes > limits->max_doc_bytes ? limits->max_txn_bytes : limits->max_doc_bytes;
    uint64_t bytes = payload + (uint64_t)limits->max_txn_ops * WRITE_HEAD_BYTES + SMALL_BODY_BYTES_MAX;
    return bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
}

static void magic_read(struct wire_reader *reader) {
    const void *at = wire_read_bytes(reader, sizeof magic, "the hello ends inside its magic");
    if (at != NULL && memcmp(at, magic, sizeof magic) != 0) {
        wire_reader_fail(reader, "the hello does not bear DocDB's magic");
    }
}

void hello_request_encode(struct wire_writer *writer, const struct hello_request *hello) {
    wire_write_bytes(writer, magic, sizeof magic);
    wire_write_u16(writer, hello->version_min);
    wire_write_u16(writer, hello->version_max);
}

const char *hello_request_decode(struct hello_request *out, const void *body, size_t bytes) {
    struct wire_reader reader;
    wire_reader_init(&reader, body, bytes);
    magic_read(&reader);
    out->version_min = wire_read_u16(&reader, "the hello ends inside its versions");
    out->version_max = wire_read_u16(&reader, "the hello ends inside its versions");
    if (reader.problem == NULL && out->version_min > out->version_max) {
        wire_reader_fail(&reader, "the hello's lowest version is above its highest");
    }
    return wire_reader_finish(&reader);
}

void hello_reply_encode(struct wire_writer *writer, const struct hello_reply *hello) {
    size_t text_bytes = strnlen(hello->server_version, HELLO_VERSION_TEXT_MAX);
    wire_write_bytes(writer, magic, sizeof magic);
    wire_write_u16(writer, hello->version);
    wire_write_u16(writer, 0);
    wire_write_u32(writer, hello->max_request_bytes);
    wire_write_u64(writer, hello->limits.max_doc_bytes);
    wire_write_u64(writer, hello->limits.max_txn_bytes);
    wire_write_u32(writer, hello->limits.max_txn_ops);
    wire_write_u32(writer, hello->limits.txn_timeout_ms);
    wire_write_u8(writer, (uint8_t)text_bytes);
    wire_write_bytes(writer, hello->server_version, text_bytes);
}

const char *hello_reply_decode(struct hello_reply *out, const void *body, size_t bytes) {
    static const char limits[] = "the hello ends inside its limits";
    struct wire_reader reader;
    wire_reader_init(&reader, body, bytes);
    *out = (struct hello_reply){0};
    magic_read(&reader);
    out->version = wire_read_u16(&reader, "the hello ends inside its version");
    (void)wire_read_u16(&reader, "the hello ends inside its version");
    out->max_request_bytes = wire_read_u32(&reader, limits);
    out->limits.max_doc_bytes = wire_read_u64(&reader, limits);
    out->limits.max_txn_bytes = wire_read_u64(&reader, limits);
    out->limits.max_txn_ops = wire_read_u32(&reader, limits);
    out->limits.txn_timeout_ms = wire_read_u32(&reader, limits);
    size_t text_bytes = wire_read_u8(&reader, "the hello ends inside the server's version");
    const void *text = wire_read_bytes(&reader, text_bytes, "the hello ends inside the server's version");
    if (text != NULL) {
        size_t kept = text_bytes < HELLO_VERSION_TEXT_MAX ? text_bytes : HELLO_VERSION_TEXT_MAX;
        memcpy(out->server_version, text, kept);
    }
    return reader.problem; /* what follows was added by a newer server */
}
