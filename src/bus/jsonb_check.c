/*-------------------------------------------------------------------------
 *
 * jsonb_check.c
 *		Are these bytes a jsonb?
 *
 * A table of a log belongs to its owner, who can disable the guard and write
 * what he likes: frames whose checksum is right and whose payloads are no
 * jsonb.  PostgreSQL trusts a jsonb without looking and would follow its
 * offsets anywhere.  So payloads that come from rows are looked at once.
 * See utils/jsonb.h for the layout.
 *
 *-------------------------------------------------------------------------
 */
#include "bus/jsonb_check.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/jsonb.h"

/* The least bytes of a numeric: its varlena header, and its own header, short or long. */
#define NUMERIC_MIN      (VARHDRSZ + sizeof(uint16))
#define NUMERIC_MIN_LONG (VARHDRSZ + 2 * sizeof(uint16))
#define NUMERIC_SHORT    0x8000 /* set in short and special ones */

static uint32
load32(const char *at)
{
	uint32 value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static bool
numeric_check(const char *at, Size len)
{
	uint32 header;
	uint16 first;

	if (len < NUMERIC_MIN)
		return false;
	header = load32(at);
	memcpy(&first, at + VARHDRSZ, sizeof(first));
	/* An uncompressed varlena with a 4-byte header. */
	return (header & 0x03) == 0 && (header >> 2) <= len && (header >> 2) >= NUMERIC_MIN &&
		   ((first & NUMERIC_SHORT) || (header >> 2) >= NUMERIC_MIN_LONG) && (header >> 2) % 2 == 0;
}

static bool
container_check(const char *base, Size len)
{
	uint32 header;
	uint32 count;
	uint32 end = 0;
	bool object;
	const char *entries;
	const char *data;
	Size room;

	check_stack_depth();
	if (len < sizeof(uint32))
		return false;
	header = load32(base);
	count = header & JB_CMASK;
	object = (header & JB_FOBJECT) != 0;
	if (object == ((header & JB_FARRAY) != 0) || ((header & JB_FSCALAR) && (object || count != 1)))
		return false;
	if (object)
		count *= 2;
	entries = base + sizeof(uint32);
	if ((len - sizeof(uint32)) / sizeof(JEntry) < count)
		return false;
	data = entries + count * sizeof(JEntry);
	room = len - (data - base);

	for (uint32 i = 0; i < count; i++)
	{
		JEntry entry = load32(entries + i * sizeof(JEntry));
		uint32 start = end;
		uint32 aligned = INTALIGN(start);
		uint32 value = JBE_OFFLENFLD(entry);

		end = JBE_HAS_OFF(entry) ? value : start + value;
		if (end < start || end > room)
			return false;
		if (object && i < count / 2 && !JBE_ISSTRING(entry))
			return false;
		if (JBE_ISSTRING(entry))
		{
			if (!pg_verifymbstr(data + start, end - start, true))
				return false;
		}
		else if (JBE_ISNUMERIC(entry))
		{
			if (aligned > end || !numeric_check(data + aligned, end - aligned))
				return false;
		}
		else if (JBE_ISCONTAINER(entry))
		{
			if (aligned > end || !container_check(data + aligned, end - aligned))
				return false;
		}
		else if (!JBE_ISBOOL(entry) && !JBE_ISNULL(entry))
			return false;
	}
	/* A scalar is an array of one value that is none itself. */
	return !(header & JB_FSCALAR) || !JBE_ISCONTAINER(load32(entries));
}

bool
jsonb_check(const char *bytes, Size len)
{
	return container_check(bytes, len);
}
