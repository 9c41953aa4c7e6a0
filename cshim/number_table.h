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

/* Shared by all tables that are still empty, so that a lookup needs no check. Never written. */
extern retrace_number_slot retrace_no_slots[1];
#define RETRACE_EMPTY_TABLE {retrace_no_slots, 0, 0}

static inline uint64_t
retrace_table_home(const retrace_number_table *table, const void *key)
{
    return (((uintptr_t)key >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 32) & table->mask;
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

/* The slot of `key`, made with number 0 where it is new; NULL without memory. Valid until the next change. */
retrace_number_slot *retrace_table_slot(retrace_number_table *table, void *key);

/* Makes room for `count` keys. 0, or -1 without memory. */
int retrace_table_reserve(retrace_number_table *table, uint64_t count);

/* Removes `slot`, which retrace_table_find answered. */
void retrace_table_remove(retrace_number_table *table, retrace_number_slot *slot);

/* Empties the table and frees its memory. */
void retrace_table_clear(retrace_number_table *table);

#endif
