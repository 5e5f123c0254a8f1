/*-------------------------------------------------------------------------
 *
 * state_fixture.h
 *		A state for tests: with the attributes of a memory, in memory of the test.
 *
 * Between enter() and leave() of a change no memory may be asked for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_STATE_FIXTURE_H
#define NETBUS_STATE_FIXTURE_H

#include <string.h>

#include "arena_memory.h"
#include "cortex/state.h"

enum
{
	ATTR_DATA,
	ATTR_CONTENT,
	ATTR_SOURCE,
	ATTR_TAGS
};

static const Schema fixture_schema = {.nattrs = 4,
									  .attrs = {{"data", ATTR_JSONB, false, 1000},
												{"content", ATTR_TEXT, false, 1024 * 1024},
												{"source", ATTR_TEXT, true, 100},
												{"tags", ATTR_TEXTS, true, 256}},
									  .search = ATTR_CONTENT};

static StateShared fixture_shared;

static void
fixture_enter(State *state)
{
	(void) state;
	if (memory_locked)
		abort();
	memory_locked = true;
}

static void
fixture_leave(State *state)
{
	(void) state;
	memory_locked = false;
}

__attribute__((unused)) static void
fixture_init(State *state)
{
	memset(state, 0, sizeof(State));
	state->schema = &fixture_schema;
	state->enter = fixture_enter;
	state->leave = fixture_leave;
	state->shared = &fixture_shared;
	state_init(&fixture_shared);
	memory_init(&state->map, &fixture_shared.arena);
}

/* Add a text to a list.  Returns its new length. */
__attribute__((unused)) static uint32_t
texts_add(char *list, uint32_t len, const char *text, uint32_t text_len)
{
	list[len] = (char) (text_len & 0xff);
	list[len + 1] = (char) (text_len >> 8);
	memcpy(list + len + 2, text, text_len);
	return len + 2 + text_len;
}

__attribute__((unused)) static Value
value_of(const char *data, uint32_t len)
{
	Value value = {data, data ? len : 0};

	return value;
}

#endif /* NETBUS_STATE_FIXTURE_H */
