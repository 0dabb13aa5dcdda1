/* The bytes of the WAL: what is written is read back, a flipped bit is noticed, and the example in
 * docs/ondisk_format.md is true. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "docdb.h"
#include "engine/wal_format.h"
#include "tests/lib/cmocka_all.h"

static void a_file_header_is_read_back_and_checked(void **state) {
    (void)state;
    uint8_t block[WAL_BLOCK_BYTES];
    struct wal_file_header in = {
        .store_id = 0x1122334455667788, .number = 7, .start_lsn = 4096 * 9, .file_bytes = 1 << 22};
    struct wal_file_header out = {0};
    wal_file_header_encode(&in, block);
    assert_int_equal(wal_file_header_decode(block, &out), WAL_HEADER_OK);
    assert_memory_equal(&in, &out, sizeof in);
    for (size_t bit = 0; bit < 56 * 8; bit++) {
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
        enum wal_header_status status = wal_file_header_decode(block, &out);
        /* A higher version can't be checked, only refused. */
        assert_int_equal(status, bit >= 64 && bit < 96 && bit != 64 ? WAL_HEADER_NEWER : WAL_HEADER_BAD);
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

/* The record of the example: header, one put of "one" as "a". Returns its length. */
static size_t example_encode(uint8_t *out) {
    uint64_t meta_bytes = wal_op_encode(
        &(struct wal_op){
            .kind = WAL_OP_PUT, .id_bytes = 1, .id = "a", .doc_bytes = 3, .doc_checksum = checksum("one", 3)},
        out + WAL_RECORD_HEADER_BYTES);
    struct wal_record_header header = {.lsn = 0x1000,
                                       .commit_seq = 2,
                                       .commit_time_ns = 1700000000000000000,
                                       .durable_lsn = 0x88,
                                       .prev_checksum = 42,
                                       .database_id = 1,
                                       .op_count = 1,
                                       .meta_bytes = meta_bytes,
                                       .docs_bytes = 8};
    wal_record_header_encode(&header, out + WAL_RECORD_HEADER_BYTES, out);
    memcpy(out + WAL_RECORD_HEADER_BYTES + meta_bytes, "one\0\0\0\0", 8);
    return (size_t)wal_record_bytes(&header);
}

static void a_record_is_read_back_and_checked(void **state) {
    (void)state;
    uint8_t bytes[256] = {0};
    struct wal_record_header header;
    struct wal_op op;
    uint64_t at = 0;
    size_t length = example_encode(bytes);
    const uint8_t *meta = bytes + WAL_RECORD_HEADER_BYTES;
    assert_true(wal_record_header_decode(bytes, &header));
    assert_true(wal_record_valid(bytes, meta, &header));
    assert_int_equal(header.commit_seq, 2);
    assert_int_equal(header.durable_lsn, 0x88);
    assert_true(wal_op_decode(meta, header.meta_bytes, &at, &op));
    assert_int_equal(at, header.meta_bytes);
    assert_int_equal(op.kind, WAL_OP_PUT);
    assert_memory_equal(op.id, "a", 1);
    assert_int_equal(op.doc_checksum, checksum("one", 3));
    /* All but the document, which has its own checksum, in the meta. */
    for (size_t bit = 0; bit < (length - 8) * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        bool sized =
            wal_record_header_decode(bytes, &header) && header.meta_bytes <= sizeof bytes - WAL_RECORD_HEADER_BYTES;
        assert_false(sized && wal_record_valid(bytes, meta, &header));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void impossible_operations_are_refused(void **state) {
    (void)state;
    uint8_t meta[1024];
    struct wal_op op;
    const struct wal_op bad[] = {
        {.kind = (enum wal_op_kind)0, .id_bytes = 1, .id = "a"},
        {.kind = (enum wal_op_kind)99, .id_bytes = 1, .id = "a"},
        {.kind = WAL_OP_PUT, .id_bytes = 0, .id = "a"},
        {.kind = WAL_OP_PUT, .id_bytes = 3, .id = "a/b"},
        {.kind = WAL_OP_DELETE, .id_bytes = 2, .id = ".."},
        {.kind = WAL_OP_RENAME, .id_bytes = 1, .id = "a"},
        {.kind = WAL_OP_RENAME, .id_bytes = 1, .id = "a", .second_id_bytes = 1, .second_id = "/"},
        {.kind = WAL_OP_PUT, .id_bytes = 1, .id = "a", .second_id_bytes = 1, .second_id = "b"},
        {.kind = WAL_OP_CREATE_DATABASE, .id_bytes = 2, .id = ".a"},
        {.kind = WAL_OP_PUT, .id_bytes = 1, .id = "a", .doc_bytes = UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t at = 0;
        uint64_t length = wal_op_encode(&bad[i], meta);
        assert_false(wal_op_decode(meta, length, &at, &op));
    }
    uint64_t length = wal_op_encode(&(struct wal_op){.kind = WAL_OP_DELETE, .id_bytes = 1, .id = "a"}, meta);
    for (uint64_t cut = 0; cut < length; cut++) {
        uint64_t at = 0;
        uint8_t *exact = malloc(cut + 1); /* so that a sanitizer sees a read past the end */
        memcpy(exact, meta, cut);
        assert_false(wal_op_decode(exact, cut, &at, &op));
        free(exact);
    }
}

/* The example of docs/ondisk_format.md, byte for byte; ".." there stands for what differs from run to run. */
static void the_example_in_the_documentation_is_true(void **state) {
    (void)state;
    uint8_t bytes[256] = {0};
    size_t length = example_encode(bytes);
    FILE *file = fopen("docs/ondisk_format.md", "r");
    if (file == NULL) {
        skip(); /* not run from the project's root */
    }
    char line[512];
    size_t checked = 0;
    bool inside = false;
    while (fgets(line, sizeof line, file) != NULL) {
        inside = inside || strncmp(line, "### Worked example", 18) == 0;
        unsigned long offset = strtoul(line, NULL, 16);
        if (!inside || strspn(line, "0123456789abcdef") != 4 || strncmp(line + 4, "  ", 2) != 0) {
            continue;
        }
        for (size_t i = 0; i < 16; i++) {
            const char *text = line + 6 + 3 * i + (i >= 8 ? 1 : 0);
            char *end = NULL;
            unsigned long value = strtoul(text, &end, 16);
            if (text[0] == ' ' || (end != text + 2 && strncmp(text, "..", 2) != 0)) {
                break;
            }
            assert_true(strncmp(text, "..", 2) == 0 || value == bytes[offset + i]);
            checked++;
        }
    }
    fclose(file);
    assert_int_equal(checked, length);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_header_is_read_back_and_checked),
        cmocka_unit_test(a_record_is_read_back_and_checked),
        cmocka_unit_test(impossible_operations_are_refused),
        cmocka_unit_test(the_example_in_the_documentation_is_true),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
