/*-------------------------------------------------------------------------
 *
 * filter_jsonb.c
 *		Matching a jsonb where it lies.
 *
 * Payloads lie in frames at any alignment, and the functions of PostgreSQL
 * want a jsonb aligned and build a JsonbValue for what they find.  Here its
 * entries are read one by one instead; numbers are compared digit by digit in the
 * base of numeric, without a numeric.  See utils/jsonb.h for the layout, and
 * numeric.c for that of numbers: both are on disk everywhere, so they last.
 *
 * The payload is trusted to be a jsonb, as that of any table is; what comes
 * from the rows of a log has passed jsonb_check().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "bus/filter.h"
#include "bus/filter_program.h"
#include "core/hash.h"

/* Objects of up to this many members are searched from the first key on, which needs no offsets. */
#define FEW_MEMBERS 32

/* The first 16 bits of a number; see NumericChoice in numeric.c. */
#define NUMERIC_FORM      0xC000
#define NUMERIC_NEGATIVE  0x4000 /* long: sign and scale, then 16 bits of weight */
#define NUMERIC_SHORT     0x8000 /* all in these 16 bits */
#define NUMERIC_SPECIAL   0xC000 /* NaN and infinities, which jsonb does not have */
#define SHORT_NEGATIVE    0x2000
#define SHORT_WEIGHT_SIGN 0x0040
#define SHORT_WEIGHT_MASK 0x003F

/* An array or object; children are the entries of its elements, or of its keys and then its values. */
typedef struct Container
{
	uint32 count;
	bool is_object;
	bool is_scalar;
	const char *entries;
	const char *data;
} Container;

/* A value: a string's bytes, a number's varlena, or a container. */
typedef struct Piece
{
	JsonType type;
	const char *at;
	uint32 len; /* of a string */
} Piece;

static inline uint32
load32(const char *at)
{
	uint32 value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static inline int16
load16(const char *at)
{
	int16 value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static inline void
open_container(const char *at, Container *container)
{
	uint32 header = load32(at);

	container->count = header & JB_CMASK;
	container->is_object = (header & JB_FOBJECT) != 0;
	container->is_scalar = (header & JB_FSCALAR) != 0;
	container->entries = at + sizeof(uint32);
	container->data = container->entries +
					  (Size) container->count * (container->is_object ? 2 : 1) * sizeof(JEntry);
}

static inline JEntry
entry_at(const Container *container, uint32 i)
{
	return load32(container->entries + (Size) i * sizeof(JEntry));
}

/* Where the data of child i starts. */
static inline uint32
entry_offset(const Container *container, uint32 i)
{
	uint32 offset = 0;

	while (i > 0)
	{
		JEntry entry = entry_at(container, --i);

		offset += JBE_OFFLENFLD(entry);
		if (JBE_HAS_OFF(entry))
			break;
	}
	return offset;
}

/* Child with this entry, whose data starts at offset.  The result is where the next one's starts. */
static inline uint32
get_piece(const Container *container, JEntry entry, uint32 offset, Piece *piece)
{
	uint32 end = JBE_HAS_OFF(entry) ? JBE_OFFLENFLD(entry) : offset + JBE_OFFLENFLD(entry);

	piece->at = container->data + offset;
	piece->len = end - offset;
	switch (entry & JENTRY_TYPEMASK)
	{
		case JENTRY_ISSTRING:
			piece->type = JSON_TYPE_STRING;
			break;
		case JENTRY_ISNUMERIC:
			piece->type = JSON_TYPE_NUMBER;
			piece->at = container->data + INTALIGN(offset);
			break;
		case JENTRY_ISBOOL_FALSE:
			piece->type = JSON_TYPE_FALSE;
			break;
		case JENTRY_ISBOOL_TRUE:
			piece->type = JSON_TYPE_TRUE;
			break;
		case JENTRY_ISNULL:
			piece->type = JSON_TYPE_NULL;
			break;
		default:
			piece->at = container->data + INTALIGN(offset);
			piece->type = load32(piece->at) & JB_FOBJECT ? JSON_TYPE_OBJECT : JSON_TYPE_ARRAY;
	}
	return end;
}

/* Keys are ordered by length first. */
static inline int
compare_key(const char *bytes, uint32 len, const char *key, uint32 key_len)
{
	if (len != key_len)
		return len < key_len ? -1 : 1;
	return memcmp(bytes, key, len);
}

static bool
find_key(const Container *object, const char *key, uint32 key_len, Piece *piece)
{
	uint32 low = 0;
	uint32 high = object->count;

	if (high <= FEW_MEMBERS)
	{
		uint32 offset = 0;

		for (; low < high; low++)
		{
			JEntry entry = entry_at(object, low);
			uint32 end = JBE_HAS_OFF(entry) ? JBE_OFFLENFLD(entry) : offset + JBE_OFFLENFLD(entry);

			if (end - offset >= key_len)
			{
				if (end - offset > key_len)
					return false;
				if (json_bytes_equal(object->data + offset, key, key_len))
					break;
			}
			offset = end;
		}
		if (low == high)
			return false;
	}
	else
	{
		for (;;)
		{
			uint32 middle = low + (high - low) / 2;
			uint32 offset;
			Piece found;
			int order;

			if (low == high)
				return false;
			offset = entry_offset(object, middle);
			get_piece(object, entry_at(object, middle), offset, &found);
			order = compare_key(found.at, found.len, key, key_len);
			if (order == 0)
			{
				low = middle;
				break;
			}
			if (order < 0)
				low = middle + 1;
			else
				high = middle;
		}
	}

	low += object->count;
	get_piece(object, entry_at(object, low), entry_offset(object, low), piece);
	return true;
}

/* Follow a path from the root of a jsonb. */
static bool
find_path(const FilterProgram *program, const FilterNode *path, const char *root, Piece *piece)
{
	Container container;

	open_container(root, &container);
	if (container.is_scalar)
	{
		if (path->path_len > 0)
			return false;
		get_piece(&container, entry_at(&container, 0), 0, piece);
		return true;
	}

	piece->type = container.is_object ? JSON_TYPE_OBJECT : JSON_TYPE_ARRAY;
	piece->at = root;
	for (uint32 i = 0; i < path->path_len; i++)
	{
		const FilterNode *node = &program->nodes[program->paths[path->path + i]];
		FilterText key = node->key[FILTER_SERVER];

		if (i > 0)
		{
			if (piece->type != JSON_TYPE_OBJECT && piece->type != JSON_TYPE_ARRAY)
				return false;
			open_container(piece->at, &container);
		}
		if (container.is_object)
		{
			if (!find_key(&container, program->bytes + key.at, key.len, piece))
				return false;
		}
		else
		{
			if (node->index >= container.count)
				return false;
			get_piece(&container, entry_at(&container, node->index),
					  entry_offset(&container, node->index), piece);
		}
	}
	return true;
}

/* A number as it lies in a jsonb. */
typedef struct Numeral
{
	const char *digits; /* int16, unaligned */
	uint32 count;
	int weight;
	int sign; /* 0: the number is 0 */
} Numeral;

static inline void
open_number(const char *numeric, Numeral *numeral)
{
	uint32 varlena = load32(numeric);
	uint16 header = load16(numeric + VARHDRSZ);

	numeral->digits = numeric + VARHDRSZ + sizeof(uint16);
	if (header & NUMERIC_SHORT)
	{
		numeral->sign = header & SHORT_NEGATIVE ? -1 : 1;
		numeral->weight = header & SHORT_WEIGHT_MASK;
		if (header & SHORT_WEIGHT_SIGN)
			numeral->weight |= ~SHORT_WEIGHT_MASK;
	}
	else
	{
		numeral->sign = header & NUMERIC_NEGATIVE ? -1 : 1;
		numeral->weight = load16(numeral->digits);
		numeral->digits += sizeof(int16);
	}
	numeral->count = (numeric + VARSIZE(&varlena) - numeral->digits) / sizeof(int16);
	if (numeral->count == 0)
		numeral->sign = 0;
}

/* A number in jsonb beside one of the filter. */
static int
compare_number(const FilterProgram *program, const char *numeric, const FilterNumber *number)
{
	const char *others = program->bytes + number->nbase.at;
	Numeral numeral;
	uint32 common;
	int sign;
	int other;

	if (((uint16) load16(numeric + VARHDRSZ) & NUMERIC_FORM) == NUMERIC_SPECIAL)
		return 1;
	open_number(numeric, &numeral);
	sign = numeral.sign;
	other = number->digits.len == 0 ? 0 : number->negative ? -1 : 1;
	if (sign != other || sign == 0)
		return sign - other;
	if (numeral.weight != number->weight)
		return numeral.weight < number->weight ? -sign : sign;
	common = Min(numeral.count, number->nbase.len / sizeof(int16));
	for (uint32 i = 0; i < common; i++)
	{
		int digit = load16(numeral.digits + i * sizeof(int16)) - load16(others + i * sizeof(int16));

		if (digit != 0)
			return digit < 0 ? -sign : sign;
	}
	if (numeral.count * sizeof(int16) == number->nbase.len)
		return 0;
	return numeral.count > common ? sign : -sign;
}

/* A scalar beside an operand of the same type. */
static int
compare_scalar(const FilterProgram *program, const Piece *piece, const FilterValue *operand)
{
	FilterText text;
	int result;

	switch (piece->type)
	{
		case JSON_TYPE_NUMBER:
			return compare_number(program, piece->at, &operand->number);
		case JSON_TYPE_STRING:
			text = operand->text[FILTER_SERVER];
			result = memcmp(piece->at, program->bytes + text.at, Min(piece->len, text.len));
			return result != 0 ? result : (piece->len > text.len) - (piece->len < text.len);
		default:
			return 0;
	}
}

static inline bool
text_equal(const FilterProgram *program, const Piece *piece, FilterText text)
{
	return piece->len == text.len &&
		   json_bytes_equal(piece->at, program->bytes + text.at, text.len);
}

/* Recurses no deeper than the operand is. */
static bool
jsonb_equal(const FilterProgram *program, const Piece *piece, const FilterValue *operand)
{
	Container container;
	uint32 key_offset = 0;
	uint32 offset = 0;

	if (piece->type != operand->type)
		return false;
	if (piece->type == JSON_TYPE_STRING)
		return text_equal(program, piece, operand->text[FILTER_SERVER]);
	if (piece->type != JSON_TYPE_ARRAY && piece->type != JSON_TYPE_OBJECT)
		return compare_scalar(program, piece, operand) == 0;

	open_container(piece->at, &container);
	if (container.count != operand->count)
		return false;
	if (container.is_object)
		offset = entry_offset(&container, container.count);
	for (uint32 i = 0; i < container.count; i++)
	{
		const FilterValue *part = &program->values[operand->first + i];
		uint32 value = i;
		Piece found;

		/* members of both are in the order of their keys */
		if (container.is_object)
		{
			key_offset = get_piece(&container, entry_at(&container, i), key_offset, &found);
			if (!text_equal(program, &found, part->key[FILTER_SERVER]))
				return false;
			value += container.count;
		}
		offset = get_piece(&container, entry_at(&container, value), offset, &found);
		if (!jsonb_equal(program, &found, part))
			return false;
	}
	return true;
}

/* Is a value equal to one of the operands of a test? */
static bool
jsonb_in(const FilterProgram *program, const FilterTest *test, const Piece *piece)
{
	const FilterValue *operands = program->values + test->first;
	uint32 low = 0;
	uint32 high = test->count;

	if (!(test->types & 1 << piece->type))
		return false;
	if (test->count == 1)
		return jsonb_equal(program, piece, operands);
	if (piece->type == JSON_TYPE_ARRAY || piece->type == JSON_TYPE_OBJECT)
	{
		/* containers have no order, but come last */
		for (uint32 i = test->count; i > 0 && operands[i - 1].type >= JSON_TYPE_ARRAY; i--)
		{
			if (jsonb_equal(program, piece, &operands[i - 1]))
				return true;
		}
		return false;
	}

	while (low < high)
	{
		uint32 middle = low + (high - low) / 2;
		const FilterValue *operand = &operands[middle];
		int order = operand->type != piece->type ? (piece->type > operand->type ? 1 : -1)
												 : compare_scalar(program, piece, operand);

		if (order == 0)
			return true;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}

static bool
jsonb_test(const FilterProgram *program, const FilterTest *test, const Piece *piece)
{
	const FilterValue *operand;
	FilterText text;

	switch ((FilterOp) test->op)
	{
		case FILTER_EXISTS:
			return true;
		case FILTER_IN:
			return jsonb_in(program, test, piece);
		case FILTER_NE:
			return !jsonb_in(program, test, piece);
		default:
			break;
	}

	operand = &program->values[test->first];
	if (piece->type != operand->type)
		return false;
	switch ((FilterOp) test->op)
	{
		case FILTER_PREFIX:
			text = operand->text[FILTER_SERVER];
			return piece->len >= text.len &&
				   memcmp(piece->at, program->bytes + text.at, text.len) == 0;
		case FILTER_GT:
			return compare_scalar(program, piece, operand) > 0;
		case FILTER_GTE:
			return compare_scalar(program, piece, operand) >= 0;
		case FILTER_LT:
			return compare_scalar(program, piece, operand) < 0;
		default:
			Assert(test->op == FILTER_LTE);
			return compare_scalar(program, piece, operand) <= 0;
	}
}

bool
filter_match_jsonb(const Filter *filter, const char *container, uint32 len)
{
	uint32 next = 0;
	uint32 node = FILTER_NONE; /* whose value piece is, if found */
	bool found = false;
	Piece piece;

	Assert(len >= sizeof(uint32));
	if (filter->n_tests == 0)
		return filter->constant;

	do
	{
		const FilterTest *test = &filter->tests[next];

		/* tests of one path often come together */
		if (test->node != node)
		{
			node = test->node;
			found = find_path(filter, &filter->nodes[node], container, &piece);
		}
		next = (found && jsonb_test(filter, test, &piece)) != test->negated ? test->if_true
																			: test->if_false;
	} while (next < FILTER_REJECT);
	return next == FILTER_ACCEPT;
}

/* --------------------------------------------------------------- keys */

static bool
is_key(const Filter *filter, const FilterTest *test)
{
	/* Of the outermost $and, or all there is. */
	if (test->op != FILTER_IN || test->negated || test->count == 0 ||
		(test->types & (1 << JSON_TYPE_ARRAY | 1 << JSON_TYPE_OBJECT)) != 0)
		return false;
	return test->group == FILTER_NONE ||
		   (filter->groups[test->group].group == FILTER_NONE && !filter->groups[test->group].is_or);
}

int
filter_keys(const Filter *filter, FilterKey *keys, int room)
{
	int n = 0;

	for (uint32 i = 0; i < filter->n_tests && n < room; i++)
		if (is_key(filter, &filter->tests[i]))
			keys[n++] = (FilterKey){filter, i};
	return n;
}

bool
filter_key_same_path(const FilterKey *a, const FilterKey *b)
{
	const FilterNode *one = &a->filter->nodes[a->filter->tests[a->test].node];
	const FilterNode *other = &b->filter->nodes[b->filter->tests[b->test].node];

	if (one->path_len != other->path_len)
		return false;
	for (uint32 i = 0; i < one->path_len; i++)
	{
		FilterText x = a->filter->nodes[a->filter->paths[one->path + i]].key[FILTER_SERVER];
		FilterText y = b->filter->nodes[b->filter->paths[other->path + i]].key[FILTER_SERVER];

		if (x.len != y.len || memcmp(a->filter->bytes + x.at, b->filter->bytes + y.at, x.len) != 0)
			return false;
	}
	return true;
}

/* What is equal has the same hash, which is never 0. */
static uint64
hash_scalar(JsonType type, int sign, int weight, const char *bytes, uint32 len)
{
	uint64 seed = (uint64) type << 40 | (uint64) (sign + 1) << 32 | (uint32) weight;

	return nb_hash64(bytes, len, seed) | 1;
}

int
filter_key_hashes(const FilterKey *key, uint64 *hashes, int room)
{
	const Filter *filter = key->filter;
	const FilterTest *test = &filter->tests[key->test];

	for (int i = 0; i < Min(room, test->count); i++)
	{
		const FilterValue *value = &filter->values[test->first + i];
		FilterText text = {0, 0};
		int sign = 0;
		int weight = 0;

		if (value->type == JSON_TYPE_STRING)
			text = value->text[FILTER_SERVER];
		else if (value->type == JSON_TYPE_NUMBER && value->number.digits.len > 0)
		{
			text = value->number.nbase;
			sign = value->number.negative ? -1 : 1;
			weight = value->number.weight;
		}
		hashes[i] = hash_scalar(value->type, sign, weight, filter->bytes + text.at, text.len);
	}
	return test->count;
}

uint64
filter_key_find(const FilterKey *key, const char *container)
{
	const Filter *filter = key->filter;
	Numeral numeral;
	Piece piece;

	if (!find_path(filter, &filter->nodes[filter->tests[key->test].node], container, &piece))
		return 0;
	switch (piece.type)
	{
		case JSON_TYPE_STRING:
			return hash_scalar(piece.type, 0, 0, piece.at, piece.len);
		case JSON_TYPE_NUMBER:
			open_number(piece.at, &numeral);
			if (numeral.sign == 0)
				numeral.weight = 0;
			return hash_scalar(piece.type, numeral.sign, numeral.weight, numeral.digits,
							   numeral.count * sizeof(int16));
		case JSON_TYPE_ARRAY:
		case JSON_TYPE_OBJECT:
			return 0;
		default:
			return hash_scalar(piece.type, 0, 0, NULL, 0);
	}
}
