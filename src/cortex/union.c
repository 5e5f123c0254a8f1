/*-------------------------------------------------------------------------
 *
 * union.c
 *		Several posting lists walked as one.
 *
 * Cursors are in a heap by what they are at, so that there may be a thousand of
 * them: only those are touched that have to go on.  Where several are at the same
 * record they go on together.
 *
 *-------------------------------------------------------------------------
 */
#include "cortex/union.h"

/* Is a cursor before another?  The records are looked at only if the times are equal. */
static inline bool
is_before(const PostingCursor *a, const PostingCursor *b)
{
	if (a->at != b->at)
		return a->backward ? a->at > b->at : a->at < b->at;
	if (a->record == b->record)
		return false;
	return (posting_compare(cursor_key(a), cursor_key(b)) < 0) != a->backward;
}

static inline bool
is_before_key(const PostingCursor *cursor, PostingKey key)
{
	int64_t id;

	if (cursor->at != key.at)
		return cursor->backward ? cursor->at > key.at : cursor->at < key.at;
	id = cursor_key(cursor).id;
	return cursor->backward ? id > key.id : id < key.id;
}

static void
sift(Union *lists, int i)
{
	PostingCursor *cursor = lists->heap[i];

	for (;;)
	{
		int child = 2 * i + 1;

		if (child + 1 < lists->n && is_before(lists->heap[child + 1], lists->heap[child]))
			child++;
		if (child >= lists->n || !is_before(lists->heap[child], cursor))
			break;
		lists->heap[i] = lists->heap[child];
		i = child;
	}
	lists->heap[i] = cursor;
}

void
union_add(Union *lists, PostingCursor *cursor)
{
	lists->count += cursor->list->count;
	if (cursor->valid)
		lists->heap[lists->n++] = cursor;
}

void
union_settle(Union *lists)
{
	for (int i = lists->n / 2; i-- > 0;)
		sift(lists, i);
	lists->current = lists->n > 0 ? lists->heap[0] : NULL;
}

/* The first cursor has gone on. */
static inline void
moved(Union *lists)
{
	(*lists->cost)++;
	if (!lists->heap[0]->valid)
		lists->heap[0] = lists->heap[--lists->n];
	if (lists->n > 0)
		sift(lists, 0);
	lists->current = lists->n > 0 ? lists->heap[0] : NULL;
}

void
union_next_of_many(Union *lists)
{
	ArenaRef record = lists->current->record;

	do
	{
		cursor_next(lists->current);
		moved(lists);
	} while (lists->current && lists->current->record == record);
}

void
union_seek_in_many(Union *lists, PostingKey key)
{
	while (lists->current && is_before_key(lists->current, key))
	{
		cursor_seek(lists->current, key);
		moved(lists);
	}
}
