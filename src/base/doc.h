/*
 * docdb_doc: one version of a document in memory, immutable and reference-counted.
 *
 * The same object is what a commit publishes, what the index keeps resident and what a reader has pinned, so that a
 * read copies nothing. Its bytes follow the struct, or belong to another document that it keeps alive (a rename or
 * a new mtime makes a new version of the same bytes). `info` is written by whoever creates it, before anyone else
 * can see it.
 */
#ifndef DOCDB_BASE_DOC_H
#define DOCDB_BASE_DOC_H

#include <stdatomic.h>
#include <stdbool.h>

#include "docdb.h"

struct docdb_doc {
    atomic_uint references;
    bool is_large;          /* made by doc_create_large */
    docdb_info info;        /* info.bytes is the length of data */
    uint64_t checksum;      /* of the bytes */
    void *data;             /* never NULL */
    docdb_doc *owner;       /* whose bytes these are, or NULL: they follow */
    atomic_size_t *account; /* where the bytes are accounted for as long as it lives, or NULL */
};

/* A document with room for `bytes` bytes, not yet filled, and one reference. NULL: out of memory. */
docdb_doc *doc_create(size_t bytes);
/* The same for a large one, laid out so that it can be written to a segment without a copy: its bytes begin at a
 * block of DOC_BLOCK_BYTES, are followed by zeros to the end of one, and have an empty block before them. */
docdb_doc *doc_create_large(size_t bytes);
#define DOC_BLOCK_BYTES 4096u
static inline bool doc_is_large(const docdb_doc *doc) { return doc->is_large; }
/* The block before the bytes of a large document; for whoever made it, before it is shared. */
static inline uint8_t *doc_header_block(docdb_doc *doc) { return (uint8_t *)doc->data - DOC_BLOCK_BYTES; }
/* A document with the bytes (and checksum) of another, and one reference; info is copied. NULL: out of memory. */
docdb_doc *doc_create_alias(docdb_doc *owner);
/* Adds the memory it takes to *account until it is destroyed. Once, before it is shared. */
void doc_account(docdb_doc *doc, atomic_size_t *account);

#endif
