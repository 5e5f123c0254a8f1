/*-------------------------------------------------------------------------
 *
 * union.h
 *		Several posting lists walked as one, each record once.
 *
 * Plain C.  The lists have the same order, and cursors go in the same direction.  One
 * list alone, which is what most have, is walked by its cursor.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_UNION_H
#define NETBUS_UNION_H

#include "cortex/posting.h"

typedef struct Union
{
	PostingCursor **heap;   /* by what they are at; the caller's, with room for all */
	int n;                  /* of them; those at their end are taken out */
	PostingCursor *current; /* the one that is first; NULL: at the end */
	uint64_t count;         /* entries of all lists */
	int *cost;              /* counts the moves of cursors */
} Union;

extern void union_add(Union *lists, PostingCursor *cursor);

/* All lists are added: at the first entry. */
extern void union_settle(Union *lists);

/* For more than one list. */
extern void union_next_of_many(Union *lists);
extern void union_seek_in_many(Union *lists, PostingKey key);

/* There is a current one. */
static inline void
union_next(Union *lists)
{
	if (lists->n > 1)
		union_next_of_many(lists);
	else
	{
		cursor_next(lists->current);
		if (!lists->current->valid)
			lists->current = NULL;
	}
}

/* Go on to the first entry that is not before the key. */
static inline void
union_seek(Union *lists, PostingKey key)
{
	if (lists->n > 1)
		union_seek_in_many(lists, key);
	else if (lists->current)
	{
		cursor_seek(lists->current, key);
		if (!lists->current->valid)
			lists->current = NULL;
	}
}

/*
 * Go on to where a cursor of the same direction is, or behind that.  First to its
 * time: hardly ever are there several records of one time, and an id is in memory
 * that nobody else needs.
 */
static inline void
union_follow(Union *lists, const PostingCursor *to)
{
	PostingKey key = {to->at, to->backward ? INT64_MAX : INT64_MIN};

	union_seek(lists, key);
	if (lists->current && lists->current->at == to->at && lists->current->record != to->record)
		union_seek(lists, cursor_key(to));
}

#endif /* NETBUS_UNION_H */
