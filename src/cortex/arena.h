/*-------------------------------------------------------------------------
 *
 * arena.h
 *		The memory of a model: an allocator over extents of shared memory.
 *
 * Plain C.  What is allocated is named by a 32-bit reference that means the
 * same in every process; a process maps extents as they come and keeps the
 * address of each of their 1 MB blocks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_ARENA_H
#define NETBUS_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint32_t ArenaRef; /* in units of 8 bytes from the first block; 0: none */

#define ARENA_BLOCK_SHIFT 20
#define ARENA_BLOCK       ((size_t) 1 << ARENA_BLOCK_SHIFT)
#define ARENA_REF_SHIFT   (ARENA_BLOCK_SHIFT - 3) /* block of a reference */
#define ARENA_REF_MASK    (((ArenaRef) 1 << ARENA_REF_SHIFT) - 1)
#define ARENA_MAX_BLOCKS  ((uint32_t) 1 << (32 - ARENA_REF_SHIFT)) /* 32 GB */

#define ARENA_OVERHEAD 16 /* of an allocation, at most: header, and what fills it up */

#define ARENA_LEVELS 29 /* powers of two of sizes, */
#define ARENA_STEPS  16 /* and what they are divided into */

/* In shared memory.  Written by the single writer; readers look at nothing but blocks and used. */
typedef struct Arena
{
	uint64_t used;    /* bytes allocated, with their headers */
	uint32_t nblocks; /* of all extents */
	uint32_t levels;  /* bit: some step of the level has a free piece */
	uint32_t steps[ARENA_LEVELS];
	ArenaRef free[ARENA_LEVELS][ARENA_STEPS];
} Arena;

/* What a process knows of an arena. */
typedef struct ArenaMap
{
	Arena *arena;
	char **blocks; /* their addresses; room for nmapped */
	uint32_t nmapped;

	/*
	 * Of the writer: add an extent with a free piece of that many bytes, by
	 * arena_map() and arena_add().  Does not return if it cannot.
	 */
	void (*grow)(struct ArenaMap *map, size_t bytes);
} ArenaMap;

extern void arena_init(Arena *arena);

/* Make the blocks of an extent known to this process: the next nblocks.  room: of map->blocks. */
extern void arena_map(ArenaMap *map, char *extent, uint32_t nblocks);

/* Give the extent that was mapped last to the allocator. */
extern void arena_add(ArenaMap *map, uint32_t nblocks);

/* Allocate; bytes > 0.  8-byte aligned, not cleared.  Calls grow() if there is no room. */
extern ArenaRef arena_alloc(ArenaMap *map, size_t bytes);
extern void arena_free(ArenaMap *map, ArenaRef ref);

/* Make an allocation smaller, in place. */
extern void arena_trim(ArenaMap *map, ArenaRef ref, size_t bytes);

/*
 * Find memory now, where to fail does no harm: until that many bytes are allocated,
 * each with ARENA_OVERHEAD, arena_alloc() does not call grow().
 */
extern void arena_reserve(ArenaMap *map, size_t bytes);

/* Bytes that an allocation can hold. */
extern size_t arena_room(const ArenaMap *map, ArenaRef ref);

/* For tests: walks all pieces; false if the structure is broken. */
extern bool arena_check(const ArenaMap *map);

static inline void *
arena_at(const ArenaMap *map, ArenaRef ref)
{
	return map->blocks[ref >> ARENA_REF_SHIFT] + ((size_t) (ref & ARENA_REF_MASK) << 3);
}

#endif /* NETBUS_ARENA_H */
