/*
 * Backups: the files of one checkpoint, handed out chunk by chunk while the store goes on.
 *
 * Opening runs a checkpoint, takes the manifest and the list of the files that it needs (of each database its runs,
 * and its segments as far as the newest run says that they are valid), and holds the files (collect.h): later
 * checkpoints, compaction and drops remove none of them until the backup is closed. Nothing in a file changes that
 * a checkpoint holds: index files are written once, segments only grow. So a backup is read without any lock, and
 * what it holds is the state after the checkpoint's commit_seq, whatever is committed meanwhile.
 *
 * It has no log. Its MANIFEST is the checkpoint's with a replay LSN of 0: a log that begins anew.
 *
 * A checkpoint leaves out a database that is dropped while it is written, for the log behind it has the drop.
 * Without that log it would be a state that never was (a drop without the commits before it), so opening takes
 * another checkpoint then.
 *
 * Failure: what can't be read is logged with file and offset, and returned. Held files cost space until the close,
 * which frees it. A backup must be closed before its engine is.
 *
 * Threads: a backup belongs to one thread at a time; checkpoint_mutex is held in opening and closing only.
 */
#ifndef DOCDB_ENGINE_BACKUP_H
#define DOCDB_ENGINE_BACKUP_H

#include "engine/runtime.h"

int backup_open(docdb *runtime, docdb_backup **out);
int backup_next(docdb_backup *api, docdb_backup_chunk *out);
void backup_close(docdb_backup *api);

#endif
