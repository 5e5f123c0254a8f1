/*-------------------------------------------------------------------------
 *
 * json_scan.h
 *		The text of a JSON value, looked at where it lies.
 *
 * A scanner steps over one string, number or whole value and tells where it
 * ends, or that it is none.  It accepts what jsonb_in() accepts: RFC 8259 in
 * valid UTF-8, with \u escapes in whole surrogate pairs and without \u0000.
 * Two bounds differ.  Nesting ends at JSON_MAX_DEPTH, where jsonb_in() ends at
 * max_stack_depth; and a number may be too large for a numeric.
 *
 * This file and json_scan.c are plain C: no palloc, no ereport, no recursion,
 * no tree.  [p, end) may be any bytes; NULL is the answer where they are no JSON.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_JSON_SCAN_H
#define NETBUS_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define JSON_MAX_DEPTH 6400 /* containers in one another; deeper is not JSON */

typedef enum JsonType
{
	JSON_TYPE_NONE, /* no JSON value starts so */
	JSON_TYPE_NULL,
	JSON_TYPE_FALSE,
	JSON_TYPE_TRUE,
	JSON_TYPE_NUMBER,
	JSON_TYPE_STRING,
	JSON_TYPE_ARRAY,
	JSON_TYPE_OBJECT
} JsonType;

/* A number as 0.d1d2d3.. * 10^exponent, with d1 not 0. */
typedef struct JsonDecimal
{
	const char *digits; /* the first that is not 0; NULL: the number is 0 */
	const char *end;    /* of the digits, between which the point may lie */
	int64_t exponent;   /* beyond JSON_MAX_EXPONENT only about */
	bool negative;
} JsonDecimal;

/* Exponents written larger are taken for this one, far beyond those of numeric. */
#define JSON_MAX_EXPONENT INT64_C(1000000000000)

static inline const char *
json_skip_space(const char *p, const char *end)
{
	/* mostly there is none, and all of it is below what can follow */
	while (p < end && (unsigned char) *p <= ' ' &&
		   (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
		p++;
	return p;
}

/* Keys and most values are short, and calling memcmp() would be most of the work. */
static inline bool
json_bytes_equal(const char *a, const char *b, size_t len)
{
	uint64_t x[2];
	uint64_t y[2];

	if (len > 16)
		return memcmp(a, b, len) == 0;
	if (len >= 8)
	{
		/* the last eight may be some of the first */
		memcpy(&x[0], a, 8);
		memcpy(&y[0], b, 8);
		memcpy(&x[1], a + len - 8, 8);
		memcpy(&y[1], b + len - 8, 8);
		return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
	}
	if (len >= 4)
	{
		uint32_t v[2];
		uint32_t w[2];

		memcpy(&v[0], a, 4);
		memcpy(&w[0], b, 4);
		memcpy(&v[1], a + len - 4, 4);
		memcpy(&w[1], b + len - 4, 4);
		return ((v[0] ^ w[0]) | (v[1] ^ w[1])) == 0;
	}
	for (size_t i = 0; i < len; i++)
	{
		if (a[i] != b[i])
			return false;
	}
	return true;
}

extern const uint8_t json_types[256];

/* By its first byte. */
static inline JsonType
json_type(char first)
{
	return (JsonType) json_types[(unsigned char) first];
}

/* From behind the opening quote of a string to behind the closing one. */
extern const char *json_scan_string(const char *p, const char *end, bool *escaped);

extern const char *json_scan_number(const char *p, const char *end);

/* null, true and false */
extern const char *json_scan_literal(const char *p, const char *end);

/* A whole value at p that lies within depth other containers. */
extern const char *json_scan_value(const char *p, const char *end, uint32_t depth);

/*
 * Compare the string whose bytes between the quotes are [p, end), after
 * decoding its escapes, with a text in UTF-8: by bytes, the sign is the result.
 * With prefix only as far as the text goes.
 */
extern int json_string_compare(const char *p, const char *end, const char *text, size_t len,
							   bool prefix);

/* The number [p, end).  Costs O(end - p), whatever its exponent. */
extern JsonDecimal json_decimal(const char *p, const char *end);

#endif /* NETBUS_JSON_SCAN_H */
