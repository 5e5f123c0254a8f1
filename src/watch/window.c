/*-------------------------------------------------------------------------
 *
 * window.c
 *		What happened to the rows of a watch since its last notification.
 *
 * Records in the order in which they first changed, and a hash table of their ids by
 * linear probing.  What does not fit into a notification, or is more than WINDOW_MAX_RECORDS,
 * is not kept: the window then has nothing but its range of seqs.  Before that, records of
 * which nothing is left to tell are dropped.
 *
 * Private to the worker; no lock.
 *
 *-------------------------------------------------------------------------
 */
#include "watch/window.h"

#include <string.h>

#define MIN_ROOM 8

static inline uint32_t
place_of(int64_t id, uint32_t room)
{
	return (uint32_t) (((uint64_t) id * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (2 * room - 1);
}

static void
index_records(Window *window)
{
	memset(window->places, 0, 2 * window->room * sizeof(uint16_t));
	for (uint32_t i = 0; i < window->nrecords; i++)
	{
		uint32_t at = place_of(window->records[i].id, window->room);

		while (window->places[at] != 0)
			at = (at + 1) & (2 * window->room - 1);
		window->places[at] = i + 1;
	}
}

static WindowRecord *
find(const Window *window, int64_t id)
{
	uint32_t at;

	if (window->room == 0)
		return NULL;
	at = place_of(id, window->room);
	while (window->places[at] != 0)
	{
		WindowRecord *record = &window->records[window->places[at] - 1];

		if (record->id == id)
			return record;
		at = (at + 1) & (2 * window->room - 1);
	}
	return NULL;
}

/* Of an id in quotes, with a comma. */
static inline uint32_t
id_bytes(int64_t id)
{
	uint64_t rest = id < 0 ? 0 - (uint64_t) id : (uint64_t) id;
	uint32_t bytes = id < 0 ? 5 : 4;

	for (; rest >= 10; rest /= 10)
		bytes++;
	return bytes;
}

/* Forget records of which nothing is left to tell. */
static void
compact(Window *window)
{
	uint32_t kept = 0;

	window->bytes = 0;
	for (uint32_t i = 0; i < window->nrecords; i++)
		if (window->records[i].was || window->records[i].is)
		{
			window->bytes += id_bytes(window->records[i].id);
			window->records[kept++] = window->records[i];
		}
	window->nrecords = kept;
	index_records(window);
}

static void
overflow(Window *window)
{
	window->overflow = true;
	window->nrecords = window->bytes = 0;
}

static bool
set_room(Window *window, uint32_t room, WindowResize resize)
{
	WindowRecord *records = resize(window->records, room * sizeof(WindowRecord));
	uint16_t *places;

	if (!records)
		return false;
	window->records = records;
	places = resize(window->places, 2 * room * sizeof(uint16_t));
	if (!places)
		return false;
	window->places = places;
	window->room = room;
	index_records(window);
	return true;
}

bool
window_add(Window *window, WatchOp op, int64_t id, uint64_t seq, WindowResize resize)
{
	WindowRecord *record;
	uint32_t bytes;
	bool full;

	if (window->first_seq == 0)
		window->first_seq = seq;
	window->last_seq = seq;
	if (window->overflow)
		return false;
	record = find(window, id);
	if (record)
	{
		record->is = op != WATCH_LEFT;
		return true;
	}
	bytes = id_bytes(id);
	full = window->bytes + bytes > WINDOW_MAX_BYTES;
	if (full || (window->nrecords == window->room && window->room > 0))
		compact(window);
	/* Compacting again and again to win one place would be slow. */
	if (full && window->bytes + bytes > WINDOW_MAX_BYTES / 4 * 3)
	{
		overflow(window);
		return false;
	}
	if (window->nrecords >= window->room - window->room / 4)
	{
		uint32_t room = window->room == 0 ? MIN_ROOM : window->room * 2;

		if (room > WINDOW_MAX_RECORDS ? window->nrecords == window->room
									  : !set_room(window, room, resize))
		{
			overflow(window);
			return false;
		}
	}
	window->bytes += bytes;
	record = &window->records[window->nrecords++];
	record->id = id;
	record->was = op != WATCH_ENTERED;
	record->is = op != WATCH_LEFT;
	for (uint32_t at = place_of(id, window->room);; at = (at + 1) & (2 * window->room - 1))
		if (window->places[at] == 0)
		{
			window->places[at] = window->nrecords;
			break;
		}
	return false;
}

bool
window_op(const WindowRecord *record, WatchOp *op)
{
	*op = !record->was ? WATCH_ENTERED : record->is ? WATCH_CHANGED : WATCH_LEFT;
	return record->was || record->is;
}

bool
window_idle(const Window *window)
{
	if (window->overflow)
		return false;
	for (uint32_t i = 0; i < window->nrecords; i++)
		if (window->records[i].was || window->records[i].is)
			return false;
	return true;
}

void
window_clear(Window *window, uint32_t keep, WindowResize resize)
{
	window->first_seq = window->last_seq = 0;
	window->overflow = false;
	window->nrecords = window->bytes = 0;
	if (window->room > keep)
	{
		window->records = resize(window->records, 0);
		window->places = resize(window->places, 0);
		window->room = 0;
	}
	else if (window->room > 0)
		index_records(window);
}
