/* The ordered tree against a sorted array: random inserts, removals and seeks. SEED=n reruns a run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "docdb.h"
#include "engine/index.h"
#include "engine/order.h"
#include "tests/lib/cmocka_all.h"

#define IDS 5000

struct model {
    struct arena arena;
    struct order order;
    arena_name present[IDS];
    size_t count;
    unsigned seed;
};

static unsigned chosen_seed(void) {
    const char *given = getenv("SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    printf("SEED=%u\n", seed);
    return seed;
}

static unsigned random_below(struct model *model, unsigned bound) { return (unsigned)rand_r(&model->seed) % bound; }

static const struct entry *entry_at(const struct model *model, arena_name name) {
    return arena_at(&model->arena, name);
}

static size_t piece_bytes(size_t id_bytes) { return sizeof(struct entry) + id_bytes + 1; }

static arena_name entry_make(struct model *model, const char *id) {
    size_t bytes = strlen(id);
    arena_name name = arena_alloc(&model->arena, piece_bytes(bytes));
    assert_int_not_equal(name, 0);
    struct entry *entry = arena_at(&model->arena, name);
    memset(entry, 0, sizeof *entry);
    entry->id_bytes = (uint8_t)bytes;
    memcpy(entry->id, id, bytes + 1);
    return name;
}

static void entry_free(struct model *model, arena_name name) {
    arena_free(&model->arena, name, piece_bytes(entry_at(model, name)->id_bytes));
}

/* Short and long ids, with long common beginnings, so that separators of every length appear. */
static arena_name entry_random(struct model *model) {
    char id[DOCDB_ID_BYTES_MAX + 1];
    size_t prefix = random_below(model, 4) * 60;
    memset(id, 'p', prefix);
    int length = snprintf(id + prefix, sizeof id - prefix, "%x", random_below(model, 100000));
    if (random_below(model, 8) == 0) {
        id[prefix + (size_t)length - 1] = (char)(128 + random_below(model, 128));
    }
    return entry_make(model, id);
}

static size_t model_slot(const struct model *model, const char *id) {
    size_t slot = 0;
    size_t high = model->count;
    while (slot < high) {
        size_t middle = (slot + high) / 2;
        if (strcmp(entry_at(model, model->present[middle])->id, id) < 0) {
            slot = middle + 1;
        } else {
            high = middle;
        }
    }
    return slot;
}

static void add(struct model *model, arena_name name) {
    const char *id = entry_at(model, name)->id;
    size_t slot = model_slot(model, id);
    if (model->count == IDS ||
        (slot < model->count && strcmp(entry_at(model, model->present[slot])->id, id) == 0)) {
        entry_free(model, name);
        return;
    }
    memmove(&model->present[slot + 1], &model->present[slot], (model->count - slot) * sizeof name);
    model->present[slot] = name;
    model->count++;
    assert_int_equal(order_insert(&model->order, name), DOCDB_OK);
}

static void remove_at(struct model *model, size_t slot) {
    arena_name name = model->present[slot];
    order_remove(&model->order, name);
    model->count--;
    memmove(&model->present[slot], &model->present[slot + 1], (model->count - slot) * sizeof name);
    entry_free(model, name);
}

static void check_all(const struct model *model) {
    struct order_cursor cursor = order_seek(&model->order, "", 0, false);
    for (size_t i = 0; i < model->count; i++) {
        assert_int_equal(order_next(&cursor), model->present[i]);
    }
    assert_int_equal(order_next(&cursor), 0);
    assert_int_equal(order_last(&model->order), model->count == 0 ? 0 : model->present[model->count - 1]);
    assert_int_equal(model->order.count, model->count);
}

static void check_seek(struct model *model, const char *id) {
    size_t slot = model_slot(model, id);
    bool there = slot < model->count && strcmp(entry_at(model, model->present[slot])->id, id) == 0;
    struct order_cursor at = order_seek(&model->order, id, strlen(id), false);
    struct order_cursor after = order_seek(&model->order, id, strlen(id), true);
    assert_int_equal(order_next(&at), slot < model->count ? model->present[slot] : 0);
    slot += there ? 1 : 0;
    assert_int_equal(order_next(&after), slot < model->count ? model->present[slot] : 0);
}

static void model_fini(struct model *model) {
    while (model->count > 0) {
        remove_at(model, model->count - 1);
    }
    check_all(model);
    order_fini(&model->order);
    arena_fini(&model->arena);
}

static void random_changes_keep_the_order(void **state) {
    (void)state;
    struct model *model = calloc(1, sizeof *model);
    model->seed = chosen_seed();
    arena_init(&model->arena);
    order_init(&model->order, &model->arena);
    for (int round = 0; round < 60; round++) {
        unsigned removals = random_below(model, 3); /* some rounds grow, some shrink */
        for (int i = 0; i < 400; i++) {
            if (model->count > 0 && random_below(model, 3) < removals) {
                remove_at(model, random_below(model, (unsigned)model->count));
            } else {
                add(model, entry_random(model));
            }
        }
        check_all(model);
        for (int i = 0; i < 50; i++) {
            arena_name probe = entry_random(model);
            check_seek(model, entry_at(model, probe)->id);
            entry_free(model, probe);
        }
    }
    model_fini(model);
    free(model);
}

static void ascending_and_descending_inserts_work(void **state) {
    (void)state;
    for (int direction = 0; direction < 2; direction++) {
        struct model *model = calloc(1, sizeof *model);
        char id[16];
        arena_init(&model->arena);
        order_init(&model->order, &model->arena);
        for (int i = 0; i < IDS; i++) {
            (void)snprintf(id, sizeof id, "%06d", direction == 0 ? i : IDS - i);
            add(model, entry_make(model, id));
        }
        check_all(model);
        while (model->count > 0) { /* from the front: whole leaves go */
            remove_at(model, 0);
        }
        model_fini(model);
        free(model);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_changes_keep_the_order),
        cmocka_unit_test(ascending_and_descending_inserts_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
