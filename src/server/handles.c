/* See handles.h. A handle is a slot's index and, above it, a count of the slot's uses, so that an old number fits
 * nothing. */
#include "server/handles.h"

#include <stdlib.h>

#include "server/bounds.h"

#define GENERATION_STEP CONNECTION_HANDLES_MAX
#define SLOTS_MIN       8

enum kind { KIND_NONE, KIND_DB, KIND_TXN, KIND_SCAN, KIND_VERIFY, KIND_BACKUP };

struct handle_slot {
    enum kind kind;
    uint32_t handle; /* the number of what is open here, or that was last */
    void *object;
};

void handles_init(struct handles *handles) { *handles = (struct handles){0}; }

void open_db_acquire(struct open_db *db) { db->users++; }

void open_db_release(struct open_db *db) {
    if (--db->users == 0) {
        docdb_db_close(db->db);
        free(db);
    }
}

void open_backup_acquire(struct open_backup *backup) { backup->users++; }

static void backup_close_work(uv_work_t *work) {
    struct open_backup *backup = work->data;
    docdb_backup_close(backup->backup);
}

static void backup_close_after(uv_work_t *work, int cancelled) {
    (void)cancelled; /* nothing cancels these */
    free(work->data);
}

void open_backup_release(struct open_backup *backup) {
    if (--backup->users == 0) {
        backup->closing.data = backup;
        (void)uv_queue_work(backup->uv, &backup->closing, backup_close_work, backup_close_after);
    }
}

static struct handle_slot *slot_find(const struct handles *handles, uint32_t handle, enum kind kind) {
    uint32_t index = handle % CONNECTION_HANDLES_MAX;
    if (index >= handles->slot_count) {
        return NULL;
    }
    struct handle_slot *slot = &handles->slots[index];
    return slot->kind == kind && slot->handle == handle ? slot : NULL;
}

static void *object_find(const struct handles *handles, uint32_t handle, enum kind kind) {
    const struct handle_slot *slot = slot_find(handles, handle, kind);
    return slot == NULL ? NULL : slot->object;
}

struct open_db *handles_db(const struct handles *handles, uint32_t handle) {
    return object_find(handles, handle, KIND_DB);
}

struct open_txn *handles_txn(const struct handles *handles, uint32_t handle) {
    return object_find(handles, handle, KIND_TXN);
}

struct open_scan *handles_scan(const struct handles *handles, uint32_t handle) {
    return object_find(handles, handle, KIND_SCAN);
}

struct open_verify *handles_verify(const struct handles *handles, uint32_t handle) {
    struct open_verify *const *verify = object_find(handles, handle, KIND_VERIFY);
    return verify == NULL ? NULL : *verify;
}

struct open_backup *handles_backup(const struct handles *handles, uint32_t handle) {
    return object_find(handles, handle, KIND_BACKUP);
}

/* A free slot; NULL when the limit is reached or memory is out. */
static struct handle_slot *slot_take(struct handles *handles) {
    if (handles->open_count == handles->slot_count) {
        uint32_t count = handles->slot_count == 0 ? SLOTS_MIN : handles->slot_count * 2;
        if (count > CONNECTION_HANDLES_MAX) {
            return NULL;
        }
        struct handle_slot *slots = realloc(handles->slots, count * sizeof *slots);
        if (slots == NULL) {
            return NULL;
        }
        for (uint32_t i = handles->slot_count; i < count; i++) {
            slots[i] = (struct handle_slot){.handle = i};
        }
        handles->slots = slots;
        handles->slot_count = count;
    }
    uint32_t index = 0;
    while (handles->slots[index].kind != KIND_NONE) {
        index++;
    }
    return &handles->slots[index];
}

/* Puts a copy of `object` into a slot; the handle, or 0. */
static uint32_t object_add(struct handles *handles, enum kind kind, const void *object, size_t bytes) {
    struct handle_slot *slot = slot_take(handles);
    void *copy = slot == NULL ? NULL : malloc(bytes);
    if (copy == NULL) {
        return 0;
    }
    __builtin_memcpy(copy, object, bytes);
    slot->kind = kind;
    slot->object = copy;
    slot->handle += GENERATION_STEP;
    if (slot->handle < GENERATION_STEP) {
        slot->handle += GENERATION_STEP; /* wrapped around: 0 is no handle */
    }
    handles->open_count++;
    return slot->handle;
}

uint32_t handles_add_db(struct handles *handles, docdb_db *db) {
    return object_add(handles, KIND_DB, &(struct open_db){.db = db, .users = 1}, sizeof(struct open_db));
}

uint32_t handles_add_txn(struct handles *handles, struct open_db *db, docdb_txn *txn) {
    uint32_t handle =
        object_add(handles, KIND_TXN, &(struct open_txn){.txn = txn, .db = db}, sizeof(struct open_txn));
    if (handle != 0) {
        open_db_acquire(db);
    }
    return handle;
}

uint32_t handles_add_scan(struct handles *handles, const struct open_scan *scan) {
    uint32_t handle = object_add(handles, KIND_SCAN, scan, sizeof *scan);
    if (handle != 0) {
        open_db_acquire(scan->db);
    }
    return handle;
}

uint32_t handles_add_verify(struct handles *handles, struct open_verify *verify) {
    return object_add(handles, KIND_VERIFY, &verify, sizeof(struct open_verify *));
}

uint32_t handles_add_backup(struct handles *handles, uv_loop_t *uv, docdb_backup *backup) {
    struct open_backup open = {.backup = backup, .uv = uv, .users = 1};
    return object_add(handles, KIND_BACKUP, &open, sizeof open);
}

static void slot_empty(struct handles *handles, struct handle_slot *slot) {
    slot->kind = KIND_NONE;
    slot->object = NULL;
    handles->open_count--;
}

bool handles_close_db(struct handles *handles, uint32_t handle) {
    struct handle_slot *slot = slot_find(handles, handle, KIND_DB);
    if (slot == NULL) {
        return false;
    }
    open_db_release(slot->object);
    slot_empty(handles, slot);
    return true;
}

static void scan_end(struct handles *handles, struct handle_slot *slot) {
    struct open_scan *scan = slot->object;
    docdb_scan_close(scan->scan);
    open_db_release(scan->db);
    free(scan);
    slot_empty(handles, slot);
}

bool handles_close_scan(struct handles *handles, uint32_t handle) {
    struct handle_slot *slot = slot_find(handles, handle, KIND_SCAN);
    if (slot == NULL) {
        return false;
    }
    scan_end(handles, slot);
    return true;
}

bool handles_close_verify(struct handles *handles, uint32_t handle) {
    struct handle_slot *slot = slot_find(handles, handle, KIND_VERIFY);
    if (slot == NULL) {
        return false;
    }
    struct open_verify **verify = slot->object;
    open_verify_release(*verify);
    free(verify);
    slot_empty(handles, slot);
    return true;
}

bool handles_close_backup(struct handles *handles, uint32_t handle) {
    struct handle_slot *slot = slot_find(handles, handle, KIND_BACKUP);
    if (slot == NULL) {
        return false;
    }
    open_backup_release(slot->object);
    slot_empty(handles, slot);
    return true;
}

docdb_txn *handles_take_txn(struct handles *handles, uint32_t handle, struct open_db **db) {
    struct handle_slot *slot = slot_find(handles, handle, KIND_TXN);
    if (slot == NULL) {
        return NULL;
    }
    struct open_txn *open = slot->object;
    for (uint32_t i = 0; i < handles->slot_count; i++) {
        struct handle_slot *other = &handles->slots[i];
        if (other->kind == KIND_SCAN && ((struct open_scan *)other->object)->txn == open) {
            scan_end(handles, other);
        }
    }
    docdb_txn *txn = open->txn;
    *db = open->db;
    free(open);
    slot_empty(handles, slot);
    return txn;
}

bool handles_abort_txn(struct handles *handles, uint32_t handle) {
    struct open_db *db = NULL;
    docdb_txn *txn = handles_take_txn(handles, handle, &db);
    if (txn == NULL) {
        return false;
    }
    docdb_abort(txn);
    open_db_release(db);
    return true;
}

void handles_fini(struct handles *handles) {
    for (uint32_t i = 0; i < handles->slot_count; i++) {
        (void)handles_abort_txn(handles, handles->slots[i].handle);
    }
    for (uint32_t i = 0; i < handles->slot_count; i++) {
        (void)handles_close_scan(handles, handles->slots[i].handle);
        (void)handles_close_verify(handles, handles->slots[i].handle);
        (void)handles_close_backup(handles, handles->slots[i].handle);
    }
    for (uint32_t i = 0; i < handles->slot_count; i++) {
        (void)handles_close_db(handles, handles->slots[i].handle);
    }
    free(handles->slots);
    *handles = (struct handles){0};
}
