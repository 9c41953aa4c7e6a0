/* See number_table.h. */
#include "number_table.h"
#include <stdlib.h>

retrace_number_slot retrace_no_slots[2];

static int
resize(retrace_number_table *table, uint64_t capacity)
{
    retrace_number_slot *slots = calloc(capacity, sizeof *slots + 1);
    if (slots == NULL) {
        return -1;
    }
    retrace_number_table grown = {slots, capacity - 1, table->used};
    for (uint64_t i = 0; i <= table->mask; i++) {
        if (table->slots[i].key == NULL) {
            continue;
        }
        uint64_t j = retrace_table_home(&grown, table->slots[i].key);
        while (slots[j].key != NULL) {
            j = (j + 1) & grown.mask;
        }
        slots[j] = table->slots[i];
        retrace_table_tags(&grown)[j] = retrace_table_tag(slots[j].key);
    }
    if (table->slots != retrace_no_slots) {
        free(table->slots);
    }
    *table = grown;
    return 0;
}

int
retrace_table_reserve(retrace_number_table *table, uint64_t count)
{
    uint64_t capacity = 1024;
    while (capacity < count * 2) {
        capacity *= 2;
    }
    return capacity > table->mask + 1 ? resize(table, capacity) : 0;
}

retrace_number_slot *
retrace_table_slot(retrace_number_table *table, void *key)
{
    if ((table->used + 1) * 2 > table->mask + 1 && retrace_table_reserve(table, table->used + 1) < 0 &&
        table->used + 1 > table->mask) {
        return NULL; /* a full table would make a lookup of an unknown key endless */
    }
    uint64_t i = retrace_table_home(table, key);
    while (table->slots[i].key != NULL) {
        if (table->slots[i].key == key) {
            return &table->slots[i];
        }
        i = (i + 1) & table->mask;
    }
    table->used++;
    table->slots[i] = (retrace_number_slot){key, 0};
    retrace_table_tags(table)[i] = retrace_table_tag(key);
    return &table->slots[i];
}

void
retrace_table_remove(retrace_number_table *table, retrace_number_slot *slot)
{
    uint64_t hole = (uint64_t)(slot - table->slots);
    uint8_t *tags = retrace_table_tags(table);
    for (uint64_t i = (hole + 1) & table->mask; table->slots[i].key != NULL; i = (i + 1) & table->mask) {
        /* What probes from its home past the hole moves into it; what lies between the hole and its home stays. */
        uint64_t home = retrace_table_home(table, table->slots[i].key);
        if (((i - home) & table->mask) >= ((i - hole) & table->mask)) {
            table->slots[hole] = table->slots[i];
            tags[hole] = tags[i];
            hole = i;
        }
    }
    table->slots[hole].key = NULL;
    tags[hole] = 0;
    table->used--;
}

void
retrace_table_clear(retrace_number_table *table)
{
    if (table->slots != retrace_no_slots) {
        free(table->slots);
    }
    *table = (retrace_number_table)RETRACE_EMPTY_TABLE;
}
