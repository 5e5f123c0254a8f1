/*-------------------------------------------------------------------------
 *
 * row.c
 *		Records as rows.
 *
 * A row is written where it is copied to, under the model's lock, in the form in
 * which it goes into a tuplestore or is returned: one pass over the record, and no
 * allocation.  Its header is a copy of one that heap_form_tuple() has made; a
 * function's row type never changes, so it is made once for each function.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "cortex/model.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#define MAX_ROW_TYPES 8 /* functions; more take turns */

const RowType *
row_type(Oid function, const ModelKind *kind)
{
	static RowType cache[MAX_ROW_TYPES];
	static int next = 0;
	RowType *type;
	TupleDesc desc;
	Datum values[MODEL_MAX_COLUMNS] = {0};
	bool nulls[MODEL_MAX_COLUMNS];
	HeapTuple tuple;
	Oid id;

	for (int i = 0; i < MAX_ROW_TYPES; i++)
		if (cache[i].function == function)
			return &cache[i];

	id = get_func_rettype(function);
	desc = lookup_rowtype_tupdesc_copy(id, -1);
	if (desc->natts != kind->ncolumns)
		elog(ERROR, "return type must be a row type of %d columns", kind->ncolumns);
	type = &cache[next++ % MAX_ROW_TYPES];
	type->function = InvalidOid;
	memset(nulls, true, sizeof(nulls));
	tuple = heap_form_tuple(desc, values, nulls);
	memcpy(type->header, tuple->t_data, tuple->t_data->t_hoff);
	type->header_len = tuple->t_data->t_hoff;
	((HeapTupleHeader) type->header)->t_infomask |= HEAP_HASVARWIDTH;
	type->id = id;
	type->function = function;
	heap_freetuple(tuple);
	FreeTupleDesc(desc);
	return type;
}

Size
row_max_bytes(const ModelKind *kind, const RowType *type, const Blob *blob)
{
	Size bytes = type->header_len + kind->ncolumns * (2 * sizeof(int64) + VARHDRSZ) + blob->bytes;

	/* A text in an array takes at most 4 times what it takes in a list, beside the array's head. */
	for (int i = 0; i < kind->schema.nattrs; i++)
		if (kind->schema.attrs[i].type == ATTR_TEXTS)
			bytes += ARR_OVERHEAD_NONULLS(1) + 3 * blob_value(blob, kind->schema.nattrs, i).len;
	return MAXALIGN(bytes);
}

/* Go on to the next place that is aligned so; what lies between must be zero.  There is room for more. */
static inline char *
align_to(char *to, Size alignment)
{
	memset(to, 0, sizeof(int64));
	return (char *) TYPEALIGN(alignment, to);
}

static inline char *
put_int64(char *to, int64 value)
{
	to = align_to(to, sizeof(int64));
	memcpy(to, &value, sizeof(int64));
	return to + sizeof(int64);
}

static inline char *
put_varlena(char *to, const char *data, Size len)
{
	to = align_to(to, sizeof(int32));
	SET_VARSIZE(to, VARHDRSZ + len);
	memcpy(to + VARHDRSZ, data, len);
	return to + VARHDRSZ + len;
}

/* A list of texts, as an array. */
static char *
put_texts(char *to, Value rest)
{
	ArrayType *array = (ArrayType *) align_to(to, sizeof(int32));
	Value element;
	int n = 0;

	array->dataoffset = 0;
	array->elemtype = TEXTOID;
	array->ndim = rest.len > 0;
	to = (char *) array + ARR_OVERHEAD_NONULLS(array->ndim);
	while (texts_next(&rest, &element))
	{
		to = put_varlena(to, element.data, element.len);
		n++;
	}
	if (n > 0)
	{
		to = align_to(to, sizeof(int32));
		ARR_DIMS(array)[0] = n;
		ARR_LBOUND(array)[0] = 1;
	}
	SET_VARSIZE(array, to - (char *) array);
	return to;
}

Size
row_write(char *row, const ModelKind *kind, const RowType *type, uint32 columns,
		  const Record *record, const Blob *blob)
{
	HeapTupleHeader header = (HeapTupleHeader) row;
	char *to = row + type->header_len;
	int state = record->flags & RECORD_STATE;
	int nattrs = kind->schema.nattrs;
	Size len;

	memcpy(row, type->header, type->header_len);
	for (int i = 0; i < kind->ncolumns; i++)
	{
		const RowColumn *column = &kind->columns[i];
		Value value;

		if (!(columns & (1 << i)))
			continue; /* the header says null already */
		switch (column->what)
		{
			case COLUMN_ID:
				to = put_int64(to, record->id);
				break;
			case COLUMN_ATTR:
				value = blob_value(blob, nattrs, column->attr);
				if (!value.data)
					continue;
				if (kind->schema.attrs[column->attr].type == ATTR_TEXTS)
					to = put_texts(to, value);
				else
					to = put_varlena(to, value.data, value.len);
				break;
			case COLUMN_FLAG:
				*to++ = state != 0;
				break;
			case COLUMN_STATUS:
				to = put_varlena(to, kind->states[state], strlen(kind->states[state]));
				break;
			case COLUMN_CREATED:
				to = put_int64(to, record->created);
				break;
			case COLUMN_UPDATED:
				to = put_int64(to, record->updated);
				break;
		}
		header->t_bits[i >> 3] |= 1 << (i & 7);
	}
	len = to - row;
	HeapTupleHeaderSetDatumLength(header, len);
	return len;
}
