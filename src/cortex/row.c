/*-------------------------------------------------------------------------
 *
 * row.c
 *		Records as rows.
 *
 * A row is written where it is copied to, under the model's lock, in the form in
 * which an executor or a tuplestore takes it: one pass over the record, and no
 * allocation.  As composite it is not good, because it does not say of which
 * type it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "cortex/model.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

void
row_type_init(RowType *type, const ModelKind *kind, uint32 columns)
{
	HeapTupleHeader header = (HeapTupleHeader) type->header;

	type->kind = kind;
	type->ncolumns = 0;
	for (int i = 0; i < kind->ncolumns; i++)
		if (columns & (1 << i))
			type->columns[type->ncolumns++] = kind->columns[i];
	/* All is null, until it is written. */
	memset(type->header, 0, sizeof(type->header));
	type->header_len = MAXALIGN(SizeofHeapTupleHeader + BITMAPLEN(type->ncolumns));
	header->t_hoff = type->header_len;
	header->t_infomask = HEAP_HASNULL | HEAP_HASVARWIDTH;
	HeapTupleHeaderSetNatts(header, type->ncolumns);
	ItemPointerSetInvalid(&header->t_ctid);
}

Size
row_max_bytes(const RowType *type, const Blob *blob)
{
	const Schema *schema = &type->kind->schema;
	Size bytes = type->header_len + type->ncolumns * (2 * sizeof(int64) + VARHDRSZ) + blob->bytes;

	/* A text in an array takes at most 4 times what it takes in a list, beside the array's head. */
	for (int i = 0; i < schema->nattrs; i++)
		if (schema->attrs[i].type == ATTR_TEXTS)
			bytes += ARR_OVERHEAD_NONULLS(1) + 3 * blob_value(blob, schema->nattrs, i).len;
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
row_write(char *row, const RowType *type, const Record *record, const Blob *blob)
{
	HeapTupleHeader header = (HeapTupleHeader) row;
	const ModelKind *kind = type->kind;
	char *to = row + type->header_len;
	int state = record->flags & RECORD_STATE;
	int nattrs = kind->schema.nattrs;

	memcpy(row, type->header, type->header_len);
	for (int i = 0; i < type->ncolumns; i++)
	{
		const RowColumn *column = &type->columns[i];
		Value value;

		switch (column->what)
		{
			case COLUMN_ID:
				to = put_int64(to, record->id);
				break;
			case COLUMN_ATTR:
				value = blob_value(blob, nattrs, column->attr);
				if (!value.data)
					continue; /* null */
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
	return to - row;
}
