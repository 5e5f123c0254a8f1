/*-------------------------------------------------------------------------
 *
 * scratch.c
 *		Memory for the length of a call, which the process keeps for the next one.
 *
 * A call that fills some hundred kilobytes, and frees them when it is over, has malloc()
 * give them back to the system, and the next one takes a page fault for every 4 kB of
 * them: a third of the time of a poll.  So a process keeps one block, of the size that a
 * call has needed, within bounds.
 *
 * A call may begin before another has ended (cursors), and end in an error: the block
 * is lent, and comes back by a callback of the memory context that the call has.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/scratch.h"

#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#define MIN_BLOCK (32 * 1024)
#define MAX_BLOCK (1024 * 1024) /* the most that a process keeps */
#define LARGE     (MAX_BLOCK / 4)

struct Scratch
{
	MemoryContext owner;
	MemoryContextCallback at_end;
	char *first; /* the block that is kept, in TopMemoryContext */
	Size first_size;
	char *free; /* the rest of the block at hand */
	Size left;
	Size used; /* of blocks of any size, but for what is large */
};

static char *kept = NULL; /* the block, when nobody has it */
static Size kept_size = MIN_BLOCK;

/* Cannot fail. */
static void
give_back(void *arg)
{
	Scratch *scratch = arg;

	if (kept || scratch->first_size != kept_size)
		pfree(scratch->first);
	else if (scratch->used > kept_size && kept_size < MAX_BLOCK)
	{
		/* The next one gets a larger block. */
		kept_size = Min(MAX_BLOCK, pg_nextpower2_size_t(scratch->used));
		pfree(scratch->first);
	}
	else
		kept = scratch->first;
}

Scratch *
scratch_open(void)
{
	Scratch *scratch = palloc0(sizeof(Scratch));

	scratch->owner = CurrentMemoryContext;
	scratch->first = kept ? kept : MemoryContextAlloc(TopMemoryContext, kept_size);
	scratch->first_size = scratch->left = kept_size;
	scratch->free = scratch->first;
	scratch->at_end.func = give_back;
	scratch->at_end.arg = scratch;
	kept = NULL;
	MemoryContextRegisterResetCallback(scratch->owner, &scratch->at_end);
	return scratch;
}

void *
scratch_alloc(Scratch *scratch, Size size)
{
	void *result;

	size = MAXALIGN(size);
	if (size >= LARGE)
		return MemoryContextAllocHuge(scratch->owner, size);
	scratch->used += size;
	if (size > scratch->left)
	{
		/*
		 * Much more than needed costs nothing, for what is not touched takes no memory.  And
		 * when a block of this size is freed glibc's malloc() raises its thresholds above
		 * it, after which memory that others use, such as the tuplestore in which rows are
		 * collected, stays with the process, too.
		 */
		scratch->left = MAX_BLOCK;
		scratch->free = MemoryContextAlloc(scratch->owner, scratch->left);
	}
	result = scratch->free;
	scratch->free += size;
	scratch->left -= size;
	return result;
}
