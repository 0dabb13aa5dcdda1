/*
 * Removing files that are not needed any more: segments without live documents, index files that were merged,
 * dropped databases, and what an unfinished checkpoint left.
 *
 * What counts is the manifest, which a crash goes back to: a file goes only when the manifest on the disk does not
 * need it. Who reads files beside the engine (a backup, a verification) holds them: until the last one lets go
 * nothing is removed, and then all of it is looked for.
 *
 * Everything here is under engine.checkpoint_mutex. What can't be removed is logged and left for the next time.
 */
#ifndef DOCDB_ENGINE_COLLECT_H
#define DOCDB_ENGINE_COLLECT_H

#include "engine/runtime.h"

/* Looks through all directories for files that are not needed. */
void collect_all(struct engine *engine) REQUIRES(engine->checkpoint_mutex);
/* Removes one file that is not needed any more, by its path; later, when files are held. */
void collect_file(struct engine *engine, const char *path) REQUIRES(engine->checkpoint_mutex);

/* No file that the manifest needs now is removed until collect_release. */
void collect_hold(struct engine *engine) REQUIRES(engine->checkpoint_mutex);
void collect_release(struct engine *engine) REQUIRES(engine->checkpoint_mutex);

#endif
