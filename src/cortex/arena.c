/*-------------------------------------------------------------------------
 *
 * arena.c
 *		The memory of a model.
 *
 * Two-level segregated fit (Masmano et al., 2004): free pieces are kept in
 * lists by size, a power of two divided into 16 steps, with bitmaps that find the
 * first list that serves in a few instructions.  A piece that is freed is merged with
 * its free neighbours at once.  So allocation and release take constant time,
 * a piece wastes less than 8 bytes, and memory that strings of any sizes have
 * left is good for strings of any other sizes.
 *
 * A piece has a header of 8 bytes: its own size and that of the piece before
 * it, by which neighbours are found.  An extent ends with a header of size 0.
 * Extents are never given back but all together.
 *
 * Locks: none.  There is one writer; readers hold a lock under which he does
 * not change what they can reach, and never look at headers.
 *
 *-------------------------------------------------------------------------
 */
#include "cortex/arena.h"

#include <string.h>

#define UNIT      8
#define MIN_UNITS 2           /* header, and the links of a free piece */
#define SMALL     ARENA_STEPS /* below, a list for each size */
#define STEP_BITS 4
#define FREE_BIT  0x80000000u

typedef struct Piece
{
	uint32_t units;  /* with this header; 0: the end of an extent; FREE_BIT */
	uint32_t before; /* units of the piece before; 0: first of its extent */

	/* of a free piece */
	ArenaRef next;
	ArenaRef prev;
} Piece;

/* References to pieces are those to what follows the header. */
static inline Piece *
piece_at(const ArenaMap *map, ArenaRef ref)
{
	return (Piece *) arena_at(map, ref - 1);
}

static inline uint32_t
piece_units(const Piece *piece)
{
	return piece->units & ~FREE_BIT;
}

static inline bool
piece_free(const Piece *piece)
{
	return (piece->units & FREE_BIT) != 0;
}

void
arena_init(Arena *arena)
{
	memset(arena, 0, sizeof(Arena));
}

/* The list for a free piece of that size. */
static inline void
list_of(uint32_t units, int *level, int *step)
{
	int log;

	if (units < SMALL)
	{
		*level = 0;
		*step = units;
		return;
	}
	log = 31 - __builtin_clz(units);
	*level = log - STEP_BITS + 1;
	*step = (units >> (log - STEP_BITS)) - ARENA_STEPS;
}

static void
link_free(ArenaMap *map, ArenaRef ref)
{
	Arena *arena = map->arena;
	Piece *piece = piece_at(map, ref);
	int level;
	int step;

	list_of(piece_units(piece), &level, &step);
	piece->units |= FREE_BIT;
	piece->prev = 0;
	piece->next = arena->free[level][step];
	if (piece->next)
		piece_at(map, piece->next)->prev = ref;
	arena->free[level][step] = ref;
	arena->steps[level] |= 1u << step;
	arena->levels |= 1u << level;
}

static void
unlink_free(ArenaMap *map, ArenaRef ref)
{
	Arena *arena = map->arena;
	Piece *piece = piece_at(map, ref);
	int level;
	int step;

	list_of(piece_units(piece), &level, &step);
	if (piece->next)
		piece_at(map, piece->next)->prev = piece->prev;
	if (piece->prev)
		piece_at(map, piece->prev)->next = piece->next;
	else
	{
		arena->free[level][step] = piece->next;
		if (!piece->next)
		{
			arena->steps[level] &= ~(1u << step);
			if (!arena->steps[level])
				arena->levels &= ~(1u << level);
		}
	}
	piece->units &= ~FREE_BIT;
}

/*
 * The size to look for: rounded up, so that any piece of the list that it leads to
 * will do.
 */
static inline uint64_t
list_size(uint64_t units)
{
	return units < SMALL ? units
						 : units + (UINT64_C(1) << (63 - __builtin_clzll(units) - STEP_BITS)) - 1;
}

/* A free piece of at least that size; 0: none. */
static ArenaRef
find_free(const Arena *arena, uint64_t units)
{
	uint32_t bits;
	int level;
	int step;

	units = list_size(units);
	if (units >= FREE_BIT)
		return 0;
	list_of(units, &level, &step);
	bits = arena->steps[level] & (~0u << step);
	if (!bits)
	{
		bits = arena->levels & (~0u << (level + 1));
		if (!bits)
			return 0;
		level = __builtin_ctz(bits);
		bits = arena->steps[level];
	}
	return arena->free[level][__builtin_ctz(bits)];
}

static inline uint64_t
units_for(size_t bytes)
{
	uint64_t units = (bytes + UNIT - 1) / UNIT + 1;

	return units < MIN_UNITS ? MIN_UNITS : units;
}

/* A free piece of at least that size, with more memory if need be. */
static ArenaRef
get_free(ArenaMap *map, uint64_t units)
{
	ArenaRef ref;

	/* A piece that is as large as this, and no smaller one, is sure to be found. */
	while ((ref = find_free(map->arena, units)) == 0)
		map->grow(map, list_size(units) * UNIT);
	return ref;
}

void
arena_reserve(ArenaMap *map, size_t bytes)
{
	/*
	 * An allocation takes from the piece found here no more than its own size, and
	 * looks for a 16th more at most.
	 */
	(void) get_free(map, units_for(bytes + bytes / ARENA_STEPS));
}

ArenaRef
arena_alloc(ArenaMap *map, size_t bytes)
{
	Arena *arena = map->arena;
	ArenaRef ref = get_free(map, units_for(bytes));
	uint32_t units = units_for(bytes);
	Piece *piece = piece_at(map, ref);
	uint32_t rest;

	unlink_free(map, ref);
	rest = piece_units(piece) - units;
	if (rest >= MIN_UNITS)
	{
		Piece *second = piece_at(map, ref + units);

		second->units = rest;
		second->before = units;
		piece_at(map, ref + units + rest)->before = rest;
		piece->units = units;
		link_free(map, ref + units);
	}
	arena->used += (size_t) piece->units * UNIT;
	return ref;
}

void
arena_free(ArenaMap *map, ArenaRef ref)
{
	Piece *piece = piece_at(map, ref);
	uint32_t units = piece->units;
	Piece *after = piece_at(map, ref + units);

	map->arena->used -= (size_t) units * UNIT;
	if (piece_free(after))
	{
		unlink_free(map, ref + units);
		units += after->units;
	}
	if (piece->before && piece_free(piece_at(map, ref - piece->before)))
	{
		ref -= piece->before;
		unlink_free(map, ref);
		units += piece_at(map, ref)->units;
	}
	piece_at(map, ref)->units = units;
	piece_at(map, ref + units)->before = units;
	link_free(map, ref);
}

void
arena_trim(ArenaMap *map, ArenaRef ref, size_t bytes)
{
	Piece *piece = piece_at(map, ref);
	uint32_t units = units_for(bytes);
	uint32_t rest = piece->units - units;
	Piece *second;

	if (piece->units < units + MIN_UNITS)
		return;
	second = piece_at(map, ref + units);
	second->units = rest;
	second->before = units;
	piece_at(map, ref + piece->units)->before = rest;
	piece->units = units;
	arena_free(map, ref + units);
}

size_t
arena_room(const ArenaMap *map, ArenaRef ref)
{
	return (size_t) (piece_at(map, ref)->units - 1) * UNIT;
}

void
arena_map(ArenaMap *map, char *extent, uint32_t nblocks)
{
	for (uint32_t i = 0; i < nblocks; i++)
		map->blocks[map->nmapped++] = extent + ((size_t) i << ARENA_BLOCK_SHIFT);
}

void
arena_add(ArenaMap *map, uint32_t nblocks)
{
	Arena *arena = map->arena;
	ArenaRef first = (arena->nblocks << ARENA_REF_SHIFT) + 1;
	uint32_t units = (nblocks << ARENA_REF_SHIFT) - 1; /* but the header at the end */
	Piece *piece = piece_at(map, first);
	Piece *end = piece_at(map, first + units);

	piece->units = units;
	piece->before = 0;
	end->units = 0;
	end->before = units;
	arena->nblocks += nblocks;
	link_free(map, first);
}

bool
arena_check(const ArenaMap *map)
{
	const Arena *arena = map->arena;
	uint64_t ref = 1;
	uint64_t limit = (uint64_t) arena->nblocks << ARENA_REF_SHIFT;
	uint64_t used = 0;
	uint32_t nfree = 0;
	uint32_t before = 0;
	bool was_free = false;

	while (ref < limit)
	{
		const Piece *piece = piece_at(map, ref);

		if (piece->before != before)
			return false;
		before = piece_units(piece);
		if (before == 0)
		{
			/* The next extent, or the end of it all. */
			ref++;
			was_free = false;
			continue;
		}
		if (before < MIN_UNITS || (was_free && piece_free(piece)))
			return false;
		was_free = piece_free(piece);
		if (was_free)
			nfree++;
		else
			used += (uint64_t) before * UNIT;
		ref += before;
	}
	for (int level = 0; level < ARENA_LEVELS; level++)
		for (int step = 0; step < ARENA_STEPS; step++)
		{
			ArenaRef prev = 0;

			if ((arena->free[level][step] != 0) != ((arena->steps[level] >> step) & 1))
				return false;
			for (ArenaRef at = arena->free[level][step]; at; at = piece_at(map, at)->next)
			{
				if (!piece_free(piece_at(map, at)) || piece_at(map, at)->prev != prev)
					return false;
				prev = at;
				nfree--;
			}
		}
	return nfree == 0 && used == arena->used;
}
