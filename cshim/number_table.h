/* A hash table from an address to a number: open addressing, linear probing, backward-shift deletion, so it has no
 * tombstones and needs no rebuilding however many objects come and go. At most half full. The GIL guards it. */
#ifndef RETRACE_NUMBER_TABLE_H
#define RETRACE_NUMBER_TABLE_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    void *key; /* NULL: empty */
    uint64_t number;
} retrace_number_slot;

typedef struct {
    retrace_number_slot *slots;
    uint64_t mask;
    uint64_t used;
} retrace_number_table;

/* Behind the slots is a byte of each: 0 where it is empty, else something of the key's hash. A table of thousands lies in
 * hundreds of kilobytes, so that a lookup in vain reads a line of memory that is far; these bytes are near.
 *
 * Shared by all tables that are still empty, so that a lookup needs no check. Never written. */
extern retrace_number_slot retrace_no_slots[2];
#define RETRACE_EMPTY_TABLE {retrace_no_slots, 0, 0}

static inline uint64_t
retrace_table_hash(const void *key)
{
    return ((uintptr_t)key >> 4) * UINT64_C(0x9E3779B97F4A7C15);
}

static inline uint64_t
retrace_table_home(const retrace_number_table *table, const void *key)
{
    return retrace_table_hash(key) >> 32 & table->mask;
}

static inline uint8_t *
retrace_table_tags(const retrace_number_table *table)
{
    return (uint8_t *)(table->slots + table->mask + 1);
}

static inline uint8_t
retrace_table_tag(const void *key)
{
    return (uint8_t)(retrace_table_hash(key) >> 56 | 1);
}

/* The slot of `key`, or NULL. Valid until the next change of the table. */
static inline retrace_number_slot *
retrace_table_find(const retrace_number_table *table, const void *key)
{
    for (uint64_t i = retrace_table_home(table, key);; i = (i + 1) & table->mask) {
        retrace_number_slot *slot = &table->slots[i];
        if (slot->key == key) {
            return slot;
        }
        if (slot->key == NULL) {
            return NULL;
        }
    }
}

/* The same, where it is seldom there. */
static inline retrace_number_slot *
retrace_table_find_seldom(const retrace_number_table *table, const void *key)
{
    const uint8_t *tags = retrace_table_tags(table), tag = retrace_table_tag(key);
    for (uint64_t i = retrace_table_home(table, key); tags[i] != 0; i = (i + 1) & table->mask) {
        if (tags[i] == tag && table->slots[i].key == key) {
            return &table->slots[i];
        }
    }
    return NULL;
}

/* The slot of `key`, made with number 0 where it is new; NULL without memory. Valid until the next change. */
retrace_number_slot *retrace_table_slot(retrace_number_table *table, void *key);

/* Makes room for `count` keys. 0, or -1 without memory. */
int retrace_table_reserve(retrace_number_table *table, uint64_t count);

/* Removes `slot`, which retrace_table_find answered. */
void retrace_table_remove(retrace_number_table *table, retrace_number_slot *slot);

/* Empties the table and frees its memory. */
void retrace_table_clear(retrace_number_table *table);

#endif
