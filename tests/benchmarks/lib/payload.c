/* See payload.h. */
#include "tests/benchmarks/lib/payload.h"

#include <stdio.h>
#include <string.h>

#include "tests/benchmarks/lib/bench.h"

#define WORD sizeof(uint64_t)

/* The word at a place of the stream of a seed (splitmix64): any word without those before it. */
static uint64_t stream_word(uint64_t seed, size_t at) {
    uint64_t value = (seed + 1) * 0xd1342543de82ef95u + (at + 1) * 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

static void store(void *out, size_t word, uint64_t value) { memcpy((char *)out + word * WORD, &value, WORD); }

static uint64_t load(const void *data, size_t word) {
    uint64_t value = 0;
    memcpy(&value, (const char *)data + word * WORD, WORD);
    return value;
}

struct payload_id payload_id(uint32_t number) {
    struct payload_id id;
    (void)snprintf(id.text, sizeof id.text, "%08u", number % 100000000u);
    return id;
}

void payload_fill(void *out, size_t bytes, uint64_t seed) {
    for (size_t word = 0; word < bytes / WORD; word++) {
        store(out, word, stream_word(seed, word));
    }
}

void payload_stamp(void *out, size_t bytes, uint64_t number, uint64_t sequence) {
    store(out, 0, number);
    store(out, 1, sequence);
    store(out, bytes / WORD - 1, sequence);
}

bool payload_matches(const void *data, size_t bytes, uint64_t seed, uint64_t number, uint64_t sequence) {
    size_t words = bytes / WORD;
    if (bytes < PAYLOAD_BYTES_MIN || load(data, 0) != number || load(data, 1) != sequence ||
        load(data, words - 1) != sequence) {
        return false;
    }
    for (size_t word = 2; word < words - 1; word++) {
        if (load(data, word) != stream_word(seed, word)) {
            return false;
        }
    }
    return true;
}

uint64_t payload_touch(const void *data, size_t bytes) { return load(data, 0) ^ load(data, bytes / WORD - 1); }

uint32_t *payload_shuffle(uint32_t count, uint64_t seed) {
    uint32_t *numbers = bench_alloc(count, sizeof *numbers);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t other = (uint32_t)(stream_word(seed, i) % (i + 1));
        numbers[i] = numbers[other];
        numbers[other] = i;
    }
    return numbers;
}
