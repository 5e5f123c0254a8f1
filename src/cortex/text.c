/*-------------------------------------------------------------------------
 *
 * text.c
 *		Values of attributes as SQL has them, and what lower() makes of a text.
 *
 * A substring is found whatever the case: as strpos(lower(content), lower(needle))
 * would, by the rules of the database.  For ASCII these are what search.c does,
 * but for two things.  In a few languages not even ASCII letters have the usual
 * lower case (Turkish I); that shows in a probe.  And two letters beyond ASCII
 * have one in ASCII: the Kelvin sign and I with a dot.  A record with one of
 * these is marked when it is folded, and left to lower().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "cortex/model.h"

#include "catalog/pg_collation.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

static text *
lower_text(const char *data, uint32 len)
{
	text *value = cstring_to_text_with_len(data, len);
	text *lowered = DatumGetTextPP(
		DirectFunctionCall1Coll(lower, DEFAULT_COLLATION_OID, PointerGetDatum(value)));

	pfree(value);
	return lowered;
}

/* Does lower() of the database make of ASCII letters what everybody expects? */
bool
fold_case_is_ascii(void)
{
	static int known = -1;

	if (known < 0)
	{
		text *lowered = lower_text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 26);

		known = VARSIZE_ANY_EXHDR(lowered) == 26 &&
				memcmp(VARDATA_ANY(lowered), "abcdefghijklmnopqrstuvwxyz", 26) == 0;
	}
	return known == 1;
}

/* Is there a letter beyond ASCII whose lower case is in ASCII? */
bool
text_has_odd_case(const char *text, uint32 len)
{
	const char *at = text;
	const char *end = text + len;

	if (GetDatabaseEncoding() == PG_SQL_ASCII || pg_database_encoding_max_length() == 1 ||
		GetDatabaseEncoding() != PG_UTF8)
	{
		/* Which these are elsewhere nobody has looked up. */
		for (; at < end; at++)
			if (IS_HIGHBIT_SET(*at))
				return true;
		return false;
	}
	for (at = text; at + 1 < end && (at = memchr(at, 0xC4, end - at - 1)) != NULL; at++)
		if ((uint8) at[1] == 0xB0)
			return true; /* U+0130 */
	for (at = text; at + 2 < end && (at = memchr(at, 0xE2, end - at - 2)) != NULL; at++)
		if ((uint8) at[1] == 0x84 && (uint8) at[2] == 0xAA)
			return true; /* U+212A */
	return false;
}

/* By the database's rules; the needle is lower case already. */
bool
text_contains(const char *data, uint32 len, const char *needle, uint32 needle_len)
{
	text *lowered = lower_text(data, len);
	text *wanted = cstring_to_text_with_len(needle, needle_len);
	bool found =
		DatumGetInt32(DirectFunctionCall2Coll(
			textpos, DEFAULT_COLLATION_OID, PointerGetDatum(lowered), PointerGetDatum(wanted))) > 0;

	pfree(lowered);
	pfree(wanted);
	return found;
}

Datum
value_jsonb(Value value)
{
	Jsonb *jsonb = palloc(VARHDRSZ + value.len);

	SET_VARSIZE(jsonb, VARHDRSZ + value.len);
	memcpy(VARDATA(jsonb), value.data, value.len);
	return PointerGetDatum(jsonb);
}
