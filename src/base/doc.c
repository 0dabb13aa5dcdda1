/* See doc.h. */
#include "base/doc.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

docdb_doc *doc_create(size_t bytes) {
    docdb_doc *doc = malloc(sizeof *doc + bytes);
    if (doc == NULL) {
        return NULL;
    }
    *doc = (docdb_doc){.info = {.bytes = bytes}, .data = doc + 1};
    atomic_init(&doc->references, 1);
    return doc;
}

docdb_doc *doc_create_large(size_t bytes) {
    size_t padded = (size_t)round_up(bytes, DOC_BLOCK_BYTES);
    /* One block for the struct, one for the header of the record, then the bytes. */
    char *memory = aligned_alloc(DOC_BLOCK_BYTES, 2 * (size_t)DOC_BLOCK_BYTES + padded);
    if (memory == NULL) {
        return NULL;
    }
    docdb_doc *doc = (docdb_doc *)memory;
    *doc = (docdb_doc){.is_large = true, .info = {.bytes = bytes}, .data = memory + 2 * (size_t)DOC_BLOCK_BYTES};
    memset(memory + DOC_BLOCK_BYTES, 0, DOC_BLOCK_BYTES);
    memset((char *)doc->data + bytes, 0, padded - bytes);
    atomic_init(&doc->references, 1);
    return doc;
}

docdb_doc *doc_create_alias(docdb_doc *owner) {
    docdb_doc *doc = malloc(sizeof *doc);
    if (doc == NULL) {
        return NULL;
    }
    while (owner->owner != NULL) {
        owner = owner->owner;
    }
    *doc = (docdb_doc){.info = owner->info, .checksum = owner->checksum, .data = owner->data, .owner = owner};
    atomic_init(&doc->references, 1);
    (void)docdb_doc_acquire(owner);
    return doc;
}

void doc_account(docdb_doc *doc, atomic_size_t *account) {
    size_t bytes = sizeof *doc + (doc->owner == NULL ? doc->info.bytes : 0);
    doc->account = account;
    atomic_fetch_add_explicit(account, bytes, memory_order_relaxed);
}

docdb_doc *docdb_doc_acquire(docdb_doc *doc) {
    atomic_fetch_add_explicit(&doc->references, 1, memory_order_relaxed);
    return doc;
}

void docdb_doc_release(docdb_doc *doc) {
    if (doc == NULL || atomic_fetch_sub_explicit(&doc->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    docdb_doc *owner = doc->owner;
    if (doc->account != NULL) {
        size_t bytes = sizeof *doc + (owner == NULL ? doc->info.bytes : 0);
        atomic_fetch_sub_explicit(doc->account, bytes, memory_order_relaxed);
    }
    free(doc);
    docdb_doc_release(owner); /* an owner has no owner, so this goes one deep */
}

const void *docdb_doc_data(const docdb_doc *doc) { return doc->data; }

size_t docdb_doc_bytes(const docdb_doc *doc) { return (size_t)doc->info.bytes; }

const docdb_info *docdb_doc_info(const docdb_doc *doc) { return &doc->info; }
