/*-------------------------------------------------------------------------
 *
 * state_fuzz.c
 *		Any sequence of changes to a state gives what it gives in a plain array.
 *
 * link: src/cortex/select.c src/cortex/union.c src/cortex/posting.c src/cortex/arena.c src/cortex/search.c src/core/hash.c src/core/hash_avx2.c
 *
 * The input is a program: each operation is a byte and its operands.  Ids, times
 * and texts are few, so that they meet.  Now and then memory ends; then the change
 * must not have happened.
 *
 *-------------------------------------------------------------------------
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/state_fixture.h"
#include "cortex/select.h"

#define require(condition)                                                            \
	do                                                                                \
	{                                                                                 \
		if (!(condition))                                                             \
		{                                                                             \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                  \
		}                                                                             \
	} while (0)

#define IDS     256
#define TAGS    16
#define SOURCES 4

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a record should be. */
typedef struct Model
{
	bool there;
	int64_t created;
	int64_t updated;
	uint8_t state;
	uint8_t source; /* SOURCES: null */
	uint16_t tags;
	uint32_t content;
} Model;

static Model models[IDS];
static State state;
static char text[512 * 1024];
static const uint8_t *input;
static const uint8_t *input_end;

static uint32_t
byte(void)
{
	return input < input_end ? *input++ : 0;
}

static uint32_t
word(void)
{
	uint32_t high = byte();

	return high << 8 | byte();
}

/* Ids all over their range, half of them such that only high bits differ. */
static int64_t
id_of(uint32_t number)
{
	return (int64_t) (number & 1 ? number * UINT64_C(0x9E3779B97F4A7C15) : (uint64_t) number << 50);
}

static uint32_t
source_text(char *to, uint8_t source)
{
	return sprintf(to, "source %d", source);
}

/* Tags are of any length; some are all NULs, or alike. */
static uint32_t
tag_text(char *to, int tag)
{
	uint32_t len = tag * tag;

	memset(to, tag & 1 ? 0 : 't', len);
	return len;
}

static void
put(uint32_t number, const Model *model, bool same)
{
	static char list[TAGS * 300];
	static uint64_t used; /* static: of setjmp() */
	static uint32_t slots;
	char source[20];
	uint32_t len = 0;
	Image image = {.id = id_of(number),
				   .created = model->created,
				   .updated = model->updated,
				   .flags = model->state,
				   .same_values = same};

	if (!same)
	{
		for (int t = 0; t < TAGS; t++)
			if (model->tags >> t & 1)
			{
				char tag[300];

				len = texts_add(list, len, tag, tag_text(tag, t));
			}
		image.values[ATTR_CONTENT] = value_of(text, model->content);
		if (model->source < SOURCES)
			image.values[ATTR_SOURCE] = value_of(source, source_text(source, model->source));
		image.values[ATTR_TAGS] = value_of(list, len);
	}
	used = fixture_shared.arena.used;
	slots = fixture_shared.ids.mask + fixture_shared.terms.mask;
	if (setjmp(memory_full) == 0)
	{
		state_put(&state, &image);
		models[number] = *model;
	}
	else
		/* Nothing was taken, but for a larger table. */
		require(fixture_shared.arena.used == used ||
				fixture_shared.ids.mask + fixture_shared.terms.mask != slots);
}

/* Is every record what it should be, and in no other list? */
static void
check_records(void)
{
	uint64_t count = 0;
	uint64_t tagged[TAGS] = {0};
	uint64_t from[SOURCES] = {0};
	uint64_t nterms = 0;

	for (uint32_t i = 0; i < IDS; i++)
	{
		const Model *model = &models[i];
		ArenaRef ref = state_find(&state, id_of(i));
		const Record *record;
		Value value;

		require((ref != 0) == model->there);
		if (!ref)
			continue;
		record = state_record(&state, ref);
		require(record->id == id_of(i) && record->created == model->created &&
				record->updated == model->updated &&
				(record->flags & RECORD_STATE) == model->state);
		value = blob_value(state_blob(&state, record), 4, ATTR_CONTENT);
		require(value.len == model->content && memcmp(value.data, text, value.len) == 0);
		count++;
		for (int t = 0; t < TAGS; t++)
			tagged[t] += model->tags >> t & 1;
		if (model->source < SOURCES)
			from[model->source]++;
	}
	require(fixture_shared.by_created.count == count);
	for (int t = 0; t < TAGS; t++)
	{
		char tag[300];
		const PostingList *list = state_term(&state, ATTR_TAGS, tag, tag_text(tag, t));

		require((list ? list->count : 0) == tagged[t]);
		nterms += list != NULL;
	}
	for (uint8_t s = 0; s < SOURCES; s++)
	{
		char source[20];
		const PostingList *list = state_term(&state, ATTR_SOURCE, source, source_text(source, s));

		require((list ? list->count : 0) == from[s]);
		nterms += list != NULL;
	}
	require(fixture_shared.terms.used == nterms);
}

/* ---------------------------------------------------------------- queries */

static RecordFilter filter;
static PostingKey last;
static uint64_t emitted;

static PostingKey
key_of(int64_t id, int64_t created, int64_t updated)
{
	PostingKey key = {filter.order == ORDER_CREATED   ? created
					  : filter.order == ORDER_UPDATED ? updated
													  : id,
					  id};

	return key;
}

static bool
take(void *arg, const Record *record, bool certain)
{
	PostingKey key = key_of(record->id, record->created, record->updated);

	(void) arg;
	require(certain);
	if (emitted > 0)
		require(filter.backward ? posting_compare(key, last) < 0 : posting_compare(key, last) > 0);
	last = key;
	emitted++;
	return (emitted & 3) != 0;
}

/* The rows are in order, as many as there should be, and none comes before those left out. */
static void
query(void)
{
	static Value values[TAGS];
	static char names[TAGS][300];
	TermFilter terms[3];
	uint16_t tags[3] = {0};
	uint32_t what = byte();
	uint8_t source = byte() % SOURCES;
	char source_name[20];
	int budget = 1 + byte() * 4;
	uint64_t expected = 0;
	uint64_t before = 0;
	Select select;

	memset(&filter, 0, sizeof(filter));
	filter.terms = terms;
	for (int t = 0; t < TAGS; t++)
		values[t] = value_of(names[t], tag_text(names[t], t));
	for (uint32_t n = 0; n < (what & 3) && n < 2; n++)
	{
		int first = byte() % TAGS;
		int some = 1 + byte() % (TAGS - first);

		terms[filter.nterms++] = (TermFilter){ATTR_TAGS, some, values + first};
		tags[n] = (uint16_t) (((1u << some) - 1) << first);
	}
	if (what & 4)
	{
		static Value value;

		value = value_of(source_name, source_text(source_name, source));
		terms[filter.nterms++] = (TermFilter){ATTR_SOURCE, 1, &value};
	}
	filter.state = what & 8 ? what >> 4 & 1 : FILTER_ANY_STATE;
	filter.order = (what >> 5) % 3;
	filter.backward = what >> 7;
	what = byte();
	filter.created_from = what & 1 ? (int64_t) byte() : INT64_MIN;
	filter.created_to = what & 2 ? (int64_t) byte() : INT64_MAX;
	filter.updated_from = what & 4 ? (int64_t) byte() : INT64_MIN;
	filter.updated_to = what & 8 ? (int64_t) byte() : INT64_MAX;
	filter.after = what >> 4 & 1;
	if (filter.after)
	{
		filter.after_key.id = id_of(byte());
		filter.after_key.at = filter.order == ORDER_ID ? filter.after_key.id : (int64_t) byte();
	}
	filter.max_rows = what & 32 ? byte() : UINT64_MAX;

	emitted = 0;
	select_init(&select, &state, &filter);
	select.emit = take;
	select.resize = realloc;
	while (!select.done)
	{
		select_step(&select, budget);
		if (select.unsorted)
			select_sort(&select);
	}
	free(select.matches);

	for (uint32_t i = 0; i < IDS; i++)
	{
		const Model *model = &models[i];
		PostingKey key = key_of(id_of(i), model->created, model->updated);
		int compared = posting_compare(key, filter.after_key);

		if (!model->there || (filter.state >= 0 && model->state != filter.state) ||
			model->created < filter.created_from || model->created > filter.created_to ||
			model->updated < filter.updated_from || model->updated > filter.updated_to ||
			(tags[0] && !(model->tags & tags[0])) || (tags[1] && !(model->tags & tags[1])) ||
			(filter.nterms > 0 && terms[filter.nterms - 1].attr == ATTR_SOURCE &&
			 model->source != source) ||
			(filter.after && (filter.backward ? compared >= 0 : compared <= 0)))
			continue;
		expected++;
		compared = posting_compare(key, last);
		before += filter.backward ? compared >= 0 : compared <= 0;
	}
	require(emitted == (expected < filter.max_rows ? expected : filter.max_rows));
	require(emitted == 0 || before == emitted);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint32_t number; /* static: of setjmp() */
	static Model model;

	input = data;
	input_end = data + size;
	memset(models, 0, sizeof(models));
	if (text[0] == 0)
		memset(text, 'x', sizeof(text));
	fixture_init(&state);
	memory_limit = 1 + byte() % 3;
	for (int op = 0; input < input_end; op++)
	{
		uint32_t what = byte();

		number = byte();
		model = models[number];
		if (op > 0 && op % 64 == 0)
			require(state_check(&state));
		switch (what % 8)
		{
			case 0: /* as a store does it */
			case 1:
			case 2:
				if (!model.there)
					model.created = byte();
				model.there = true;
				model.updated = byte();
				model.source = byte() % (SOURCES + 1);
				model.tags = word();
				model.content = what & 8 ? word() * 8 : word() % 2000;
				put(number, &model, false);
				break;
			case 3: /* only times and state */
				if (!model.there)
					break;
				if (what & 8)
					model.created = byte();
				model.updated = byte();
				model.state = what >> 4 & 1;
				put(number, &model, true);
				break;
			case 4:
				require(state_remove(&state, id_of(number)) == model.there);
				models[number].there = false;
				break;
			case 5: /* many, so that lists get chunks */
				for (int n = byte(); n >= 0; n--)
				{
					number = (number + 1) % IDS;
					model = models[number];
					if (!model.there)
						model = (Model){.created = n & what, .source = SOURCES};
					model.there = true;
					model.tags ^= 1u << (what >> 4);
					model.updated = n;
					put(number, &model, false);
				}
				break;
			case 6:
				for (int n = byte(); n >= 0; n--)
				{
					number = (number + 3) % IDS;
					(void) state_remove(&state, id_of(number));
					models[number].there = false;
				}
				break;
			default:
				query();
		}
	}
	require(state_check(&state));
	check_records();
	memory_release();
	return 0;
}
