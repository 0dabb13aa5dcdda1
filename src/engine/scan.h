/*
 * Ordered scans: chunks of the index, merged with what the transaction wrote.
 *
 * Threads: a scan belongs to one thread at a time. It holds a snapshot, and no lock between calls.
 */
#ifndef DOCDB_ENGINE_SCAN_H
#define DOCDB_ENGINE_SCAN_H

#include "engine/runtime.h"

int scan_open(docdb_db *db, docdb_txn *txn, const docdb_scan_options *options, docdb_scan **out);
int scan_next(docdb_scan *api, docdb_entry *out);
void scan_close(docdb_scan *api);

#endif
