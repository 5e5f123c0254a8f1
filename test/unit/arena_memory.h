/*-------------------------------------------------------------------------
 *
 * arena_memory.h
 *		Memory for tests of what lives in an arena: extents from malloc(), up to
 *		a limit.
 *
 * At the limit grow() leaves by longjmp(), as it leaves by an error in a
 * server; without limit it always succeeds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_ARENA_MEMORY_H
#define NETBUS_ARENA_MEMORY_H

#include <setjmp.h>
#include <stdlib.h>

#include "cortex/arena.h"

#define MEMORY_MAX_BLOCKS 2048

static char *memory_blocks[MEMORY_MAX_BLOCKS];
static char *memory_extents[MEMORY_MAX_BLOCKS];
static int memory_nextents;
static uint32_t memory_limit; /* blocks; 0: none */
static jmp_buf memory_full;
static int memory_grows;
static bool memory_locked; /* grow() must not be called now */

__attribute__((unused)) static void
memory_grow(ArenaMap *map, size_t bytes)
{
	uint32_t nblocks = (uint32_t) (bytes / ARENA_BLOCK) + 1;

	if (nblocks < map->nmapped / 8) /* as the server does it */
		nblocks = map->nmapped / 8;
	memory_grows++;
	if (memory_locked)
		abort();
	if (memory_limit > 0 && map->nmapped + nblocks > memory_limit)
		longjmp(memory_full, 1);
	if (map->nmapped + nblocks > MEMORY_MAX_BLOCKS)
		abort();
	memory_extents[memory_nextents] = malloc(nblocks * ARENA_BLOCK);
	arena_map(map, memory_extents[memory_nextents++], nblocks);
	arena_add(map, nblocks);
}

__attribute__((unused)) static void
memory_init(ArenaMap *map, Arena *arena)
{
	arena_init(arena);
	map->arena = arena;
	map->blocks = memory_blocks;
	map->nmapped = 0;
	map->grow = memory_grow;
	memory_limit = 0;
	memory_grows = 0;
}

__attribute__((unused)) static void
memory_release(void)
{
	while (memory_nextents > 0)
		free(memory_extents[--memory_nextents]);
}

#endif /* NETBUS_ARENA_MEMORY_H */
