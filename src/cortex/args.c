/*-------------------------------------------------------------------------
 *
 * args.c
 *		Arguments of the functions that write to models.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "cortex/model.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/array.h"
#include "utils/builtins.h"

void
arg_check_size(const char *name, uint64 bytes, uint32 max_bytes)
{
	if (bytes > max_bytes)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("%s of %llu bytes is too long", name, (unsigned long long) bytes),
						errdetail("At most %u bytes are allowed.", max_bytes)));
}

/* A text that is not too long; NULL for a null that is allowed. */
text *
arg_sized_text(FunctionCallInfo fcinfo, int n, const char *name, bool required, uint32 max_bytes)
{
	text *value;

	if (PG_ARGISNULL(n))
	{
		if (required)
			arg_null(name);
		return NULL;
	}
	value = PG_GETARG_TEXT_PP(n);
	arg_check_size(name, VARSIZE_ANY_EXHDR(value), max_bytes);
	return value;
}

static bool
same_text(const Value *a, const Value *b)
{
	return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* Remove duplicates, keep the order.  Returns how many are left. */
int
tags_distinct(Value *texts, int n)
{
	int kept = 0;

	/* Few, as a rule; else by a small table of hashes. */
	if (n <= 16)
	{
		for (int i = 0; i < n; i++)
		{
			bool known = false;

			for (int j = 0; j < kept && !known; j++)
				known = same_text(&texts[i], &texts[j]);
			if (!known)
				texts[kept++] = texts[i];
		}
		return kept;
	}
	else
	{
		uint32 mask = 4 * STATE_MAX_TEXTS > 4095 ? 8191 : 4095;
		int16 *places = palloc0((mask + 1) * sizeof(int16)); /* index + 1 */

		for (int i = 0; i < n; i++)
		{
			uint32 at = hash_bytes((const unsigned char *) texts[i].data, texts[i].len) & mask;

			while (places[at] && !same_text(&texts[places[at] - 1], &texts[i]))
				at = (at + 1) & mask;
			if (!places[at])
			{
				texts[kept++] = texts[i];
				places[at] = kept;
			}
		}
		pfree(places);
		return kept;
	}
}

/* An array of tags, without duplicates; -1 for null. */
int
arg_tags(FunctionCallInfo fcinfo, int n, const char *name, Value **texts)
{
	ArrayType *array;
	Datum *elements;
	bool *nulls;
	int count;

	if (PG_ARGISNULL(n))
		return -1;
	array = PG_GETARG_ARRAYTYPE_P(n);
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
	if (count > MODEL_MAX_TAGS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("argument \"%s\" has %d elements", name, count),
						errdetail("At most %d are allowed.", MODEL_MAX_TAGS)));
	*texts = palloc(sizeof(Value) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		text *element;

		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("argument \"%s\" must not contain nulls", name)));
		element = DatumGetTextPP(elements[i]);
		(*texts)[i].data = VARDATA_ANY(element);
		(*texts)[i].len = VARSIZE_ANY_EXHDR(element);
		arg_check_size("tag", (*texts)[i].len, MODEL_MAX_TAG);
	}
	return tags_distinct(*texts, count);
}

static bool
has_record(Model *model, int64 id)
{
	bool found;

	model_lock(model);
	found = state_find(&model->state, id) != 0;
	model_unlock(model);
	return found;
}

/*
 * Is there a record with that id, as a query would see it?  If it is there before the
 * fold has caught up it still is, unless something that is not folded yet removes
 * records: so updates one after the other need not wait.  No model, no record.
 */
bool
record_visible(Model *model, int64 id)
{
	bool caught_up;

	if (!model)
		return false;
	caught_up = model_has_slot(model) && pg_atomic_read_u32(&model->slot->phase) == MODEL_READY &&
				pg_atomic_read_u32(&model->slot->deleting) == 0;

	pg_read_barrier();
	if (caught_up &&
		pg_atomic_read_u64(&model->slot->deletes_to) <=
			pg_atomic_read_u64(&model->slot->folded_seq) &&
		has_record(model, id))
		return true;
	return model_await(model) && has_record(model, id);
}
