/* The bounds of everything that could grow, with the reason for each value. What users see stands in docdb.h. */
#ifndef DOCDB_BASE_LIMITS_H
#define DOCDB_BASE_LIMITS_H

#include <stdint.h>

/* Databases of one runtime. Each has an index of its own (about 10 KiB when empty): 65,536 of them stay below 1
 * GiB. */
#define LIMIT_DATABASES 65536u

/* Observers of one runtime: the mount is one; room for a metrics or a watch front-end. */
#define LIMIT_OBSERVERS 8u

/* Snapshots open at once (transactions and scans). Each costs about 100 B; the bound catches a caller that leaks
 * them. */
#define LIMIT_SNAPSHOTS 65536u

/* The commit queue. More than this waits outside: enough that the next batch is always full while one syncs, and so
 * little that what waits here stays a small part of any memory cap. One transaction may always enter, however
 * large. */
#define LIMIT_QUEUE_TRANSACTIONS 16384u
#define LIMIT_QUEUE_BYTES        ((uint64_t)64 << 20)

/* One WAL batch: one write and one sync. Past a few MiB a write is bound by bandwidth, and a larger batch adds only
 * latency. One transaction may always enter an empty batch, however large. */
#define LIMIT_BATCH_TRANSACTIONS 4096u
#define LIMIT_BATCH_BYTES        ((uint64_t)4 << 20)

/* A WAL file. Creating one writes it full of zeros, so smaller means more often and larger means a longer pause
 * where the background could not prepare it in time. With a small --wal-limit it is a quarter of that. */
#define LIMIT_WAL_FILE_BYTES     ((uint64_t)64 << 20)
#define LIMIT_WAL_FILE_BYTES_MIN ((uint64_t)4 << 20)
#define LIMIT_WAL_LIMIT_MIN      ((uint64_t)16 << 20)
#define LIMIT_WAL_LIMIT_DEFAULT  ((uint64_t)256 << 20)

/* Kept free in the WAL's files for transactions that only delete: about 10,000 of them when the disk is full. */
#define LIMIT_WAL_RESERVE_BYTES ((uint64_t)1 << 20)
/* Kept free on the disk, beside what the next checkpoint must move, for its index files and for compaction. */
#define LIMIT_SPACE_RESERVE_BYTES ((uint64_t)4 << 20)

/* A segment takes no more documents once it is this large: compaction works by whole segments, so they are a small
 * part of the data, but never so small that there are very many. */
#define LIMIT_SEGMENT_BYTES         ((uint64_t)256 << 20)
#define LIMIT_SEGMENT_BYTES_DEFAULT ((uint64_t)8 << 20) /* of a small database; docdb_options.segment_bytes */
#define LIMIT_SEGMENT_BYTES_MIN     ((uint64_t)64 << 10)
#define LIMIT_SEGMENT_SHARE         32u /* of the data in one segment */

/* Segment files kept open for reading, of all databases: half of the usual bound on open files of a process. Beyond
 * it a file is opened for each read. */
#define LIMIT_OPEN_SEGMENTS 512u

/* A document of more bytes goes straight to a segment when it is committed, and the WAL only says where: its bytes
 * are written once. Below that a second write costs less than the sync of a second file. */
#define LIMIT_INLINE_DOC_BYTES ((uint64_t)128 << 10)
/* And so do all documents of a transaction with more bytes than this, so that a record of the WAL stays a small
 * part of a WAL file. */
#define LIMIT_INLINE_TXN_BYTES ((uint64_t)1 << 20)

/* Large documents are appended to so many databases' segments at once; each such file stays open in between. */
#define LIMIT_OPEN_APPENDERS 64u

/* Documents that are in a segment are kept in memory too while all resident documents together stay below this
 * (docdb_options.memory_bytes). */
#define LIMIT_RESIDENT_BYTES_DEFAULT ((uint64_t)1 << 30)

/* Backups open at once: each has a buffer of a chunk. */
#define LIMIT_BACKUPS 16u

/* Entries that a scan takes from the index under one hold of its lock: short enough that a commit never waits
 * noticeably. */
#define LIMIT_SCAN_CHUNK 128u

#endif
