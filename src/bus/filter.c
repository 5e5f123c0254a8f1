/*-------------------------------------------------------------------------
 *
 * filter.c
 *		Compiling a filter from jsonb.
 *
 * This reads the grammar that filter.h states, says what is wrong with a
 * filter, and hands the rest to the builder of filter_program.c.  A filter is
 * compiled once a call and belongs to the process.
 *
 * Events of bytea logs are JSON in UTF-8, whatever the encoding of the
 * database; so a filter keeps its texts in UTF-8, too, where that differs.  In a
 * database of SQL_ASCII, which does not know what its bytes mean, they are
 * taken as they are, for UTF-8.
 *
 *-------------------------------------------------------------------------
 */
#include "bus/filter.h"

#include "bus/filter_program.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

typedef struct Operator
{
	const char *key;
	FilterOp op;
} Operator;

static const Operator operators[] = {
	{"value", FILTER_IN},       {"$eq", FILTER_IN},        {"$ne", FILTER_NE},   {"$gt", FILTER_GT},
	{"$gte", FILTER_GTE},       {"$lt", FILTER_LT},        {"$lte", FILTER_LTE}, {"$in", FILTER_IN},
	{"$exists", FILTER_EXISTS}, {"$prefix", FILTER_PREFIX}};

static uint32 compile_filter(FilterBuilder *b, JsonbContainer *spec, bool negated, int depth);

static int
filter_hint(void)
{
	return errhint(
		"A filter is {\"path\": \"a.b\", OPERATOR: VALUE, ...} with the operators value, "
		"$eq, $ne, $gt, $gte, $lt, $lte, $in, $exists and $prefix; or "
		"{\"$and\": [FILTER, ...]}, {\"$or\": [FILTER, ...]} or {\"$not\": FILTER}.");
}

static void
invalid_operand(const char *key, const char *wanted)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("\"%s\" in filter must be %s", key, wanted), filter_hint()));
}

static bool
key_is(const JsonbValue *key, const char *name)
{
	return key->val.string.len == strlen(name) &&
		   memcmp(key->val.string.val, name, key->val.string.len) == 0;
}

static bool
is_container(const JsonbValue *value, bool array)
{
	JsonbContainer *container = value->val.binary.data;

	return value->type == jbvBinary &&
		   (array ? JsonContainerIsArray(container) : JsonContainerIsObject(container));
}

/* A text of a filter in the server's encoding and in UTF-8. */
static FilterSource
get_source(const JsonbValue *string)
{
	int len = string->val.string.len;
	char *bytes = string->val.string.val;
	char *utf8 = bytes;
	FilterSource source;

	if (GetDatabaseEncoding() != PG_SQL_ASCII)
		utf8 = pg_server_to_any(bytes, len, PG_UTF8);
	source.bytes[FILTER_SERVER] = bytes;
	source.len[FILTER_SERVER] = len;
	source.bytes[FILTER_UTF8] = utf8;
	source.len[FILTER_UTF8] = utf8 == bytes ? len : strlen(utf8);
	return source;
}

static void
check_depth(int depth)
{
	if (depth > FILTER_MAX_DEPTH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("filter is nested too deeply"),
				 errhint("$and, $or and $not may be nested up to %d deep, and so may arrays "
						 "and objects that values are compared with.",
						 FILTER_MAX_DEPTH)));
}

/* Set an operand, or a part of one. */
static void
compile_value(FilterBuilder *b, uint32 value, JsonbValue *from, int depth)
{
	JsonbContainer *container;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue part;
	FilterSource source;
	uint32 at;
	char *number;

	CHECK_FOR_INTERRUPTS();
	switch (from->type)
	{
		case jbvNull:
			filter_build_literal(b, value, JSON_TYPE_NULL);
			return;
		case jbvBool:
			filter_build_literal(b, value, from->val.boolean ? JSON_TYPE_TRUE : JSON_TYPE_FALSE);
			return;
		case jbvString:
			source = get_source(from);
			filter_build_string(b, value, &source);
			return;
		case jbvNumeric:
			number = DatumGetCString(
				DirectFunctionCall1(numeric_out, NumericGetDatum(from->val.numeric)));
			filter_build_number(b, value, number, strlen(number));
			return;
		case jbvBinary:
			break;
		default:
			elog(ERROR, "unexpected jsonb value type: %d", (int) from->type);
	}

	check_depth(depth);
	container = from->val.binary.data;
	at = filter_build_container(
		b, value, JsonContainerIsObject(container) ? JSON_TYPE_OBJECT : JSON_TYPE_ARRAY,
		JsonContainerSize(container));
	it = JsonbIteratorInit(container);
	JsonbIteratorNext(&it, &part, true);
	while ((token = JsonbIteratorNext(&it, &part, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			source = get_source(&part);
			filter_build_key(b, at, &source);
		}
		else if (token == WJB_VALUE || token == WJB_ELEM)
			compile_value(b, at++, &part, depth + 1);
	}
}

/* One operator and its operand, of a path. */
static uint32
compile_test(FilterBuilder *b, uint32 node, const Operator *operation, JsonbValue *operand,
			 bool negated)
{
	const char *key = operation->key;
	uint32 first = 0;
	uint32 count = 1;

	switch (operation->op)
	{
		case FILTER_EXISTS:
			if (operand->type != jbvBool)
				invalid_operand(key, "true or false");
			return filter_build_test(b, node, FILTER_EXISTS, negated == operand->val.boolean, 0, 0);
		case FILTER_PREFIX:
			if (operand->type != jbvString)
				invalid_operand(key, "a string");
			break;
		case FILTER_GT:
		case FILTER_GTE:
		case FILTER_LT:
		case FILTER_LTE:
			if (operand->type != jbvString && operand->type != jbvNumeric)
				invalid_operand(key, "a number or a string");
			break;
		case FILTER_IN:
		case FILTER_NE:
			break;
	}

	if (strcmp(key, "$in") == 0)
	{
		JsonbContainer *list = operand->val.binary.data;

		if (!is_container(operand, true))
			invalid_operand(key, "an array");
		count = JsonContainerSize(list);
		first = filter_build_values(b, count);
		for (uint32 i = 0; i < count; i++)
			compile_value(b, first + i, getIthJsonbValueFromContainer(list, i), 1);
	}
	else
	{
		first = filter_build_values(b, 1);
		compile_value(b, first, operand, 1);
	}
	return filter_build_test(b, node, operation->op, negated, first, count);
}

/* {"path": .., operators} */
static uint32
compile_path(FilterBuilder *b, JsonbContainer *spec, JsonbValue *path, bool negated)
{
	/* several operators are an $and, and the negation of an $and is an $or */
	uint32 group = filter_build_group(b, negated);
	JsonbIterator *it = JsonbIteratorInit(spec);
	JsonbIteratorToken token;
	JsonbValue value;
	const Operator *operation = NULL;
	FilterSource source;
	uint32 node;

	if (path->type != jbvString)
		invalid_operand("path", "a string");
	if (JsonContainerSize(spec) == 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("filter has a path but no operator"), filter_hint()));
	source = get_source(path);
	node = filter_build_path(b, &source);

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			operation = NULL;
			if (key_is(&value, "path"))
				continue;
			for (int i = 0; i < lengthof(operators); i++)
			{
				if (key_is(&value, operators[i].key))
					operation = &operators[i];
			}
			if (operation == NULL)
				ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
								errmsg("key \"%s\" in filter is not an operator",
									   pnstrdup(value.val.string.val, value.val.string.len)),
								filter_hint()));
		}
		else if (token == WJB_VALUE && operation != NULL)
			filter_build_member(b, group, compile_test(b, node, operation, &value, negated));
	}
	return group;
}

/* {"$and": [..]} or {"$or": [..]} */
static uint32
compile_group(FilterBuilder *b, const char *key, JsonbValue *members, bool negated, int depth)
{
	uint32 group = filter_build_group(b, (strcmp(key, "$or") == 0) != negated);
	JsonbContainer *list = members->val.binary.data;

	if (!is_container(members, true))
		invalid_operand(key, "an array of filters");
	for (uint32 i = 0; i < JsonContainerSize(list); i++)
	{
		JsonbValue *member = getIthJsonbValueFromContainer(list, i);

		if (!is_container(member, false))
			invalid_operand(key, "an array of filters");
		filter_build_member(b, group,
							compile_filter(b, member->val.binary.data, negated, depth + 1));
	}
	return group;
}

/* The term of a filter, or of its negation. */
static uint32
compile_filter(FilterBuilder *b, JsonbContainer *spec, bool negated, int depth)
{
	static const char *const combinators[] = {"$and", "$or", "$not"};
	JsonbValue found;
	JsonbIterator *it;
	JsonbValue key;

	CHECK_FOR_INTERRUPTS();
	if (JsonContainerSize(spec) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("filter is empty"),
						filter_hint()));

	for (int i = 0; i < lengthof(combinators); i++)
	{
		const char *name = combinators[i];

		if (getKeyJsonValueFromContainer(spec, name, strlen(name), &found) == NULL)
			continue;
		if (JsonContainerSize(spec) > 1)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("\"%s\" in filter must be alone in its object", name), filter_hint()));
		check_depth(depth);
		if (strcmp(name, "$not") != 0)
			return compile_group(b, name, &found, negated, depth);
		if (!is_container(&found, false))
			invalid_operand(name, "a filter");
		return compile_filter(b, found.val.binary.data, !negated, depth + 1);
	}

	if (getKeyJsonValueFromContainer(spec, "path", strlen("path"), &found) != NULL)
		return compile_path(b, spec, &found, negated);

	/* name the first key: one that is unknown, or an operator without its path */
	it = JsonbIteratorInit(spec);
	JsonbIteratorNext(&it, &key, true);
	JsonbIteratorNext(&it, &key, true);
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("filter has the key \"%s\" but no path",
						   pnstrdup(key.val.string.val, key.val.string.len)),
					filter_hint()));
	return 0; /* keep compiler quiet */
}

Filter *
filter_compile(Jsonb *spec)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context;
	FilterBuilder *b;
	uint32 term;
	Filter *filter;

	if (!JB_ROOT_IS_OBJECT(spec))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("filter must be a JSON object"), filter_hint()));

	context = AllocSetContextCreate(caller, "netbus filter compilation", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	b = filter_builder(palloc);
	term = compile_filter(b, &spec->root, false, 1);
	MemoryContextSwitchTo(caller);
	filter = filter_build_program(b, term, palloc);
	MemoryContextDelete(context);
	return filter;
}

bool
filter_match_raw(const Filter *filter, const char *bytes, uint32 len)
{
	return filter_scan(filter, bytes, len) == FILTER_ACCEPTED;
}
