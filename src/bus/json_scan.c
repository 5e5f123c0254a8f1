/*-------------------------------------------------------------------------
 *
 * json_scan.c
 *		The text of a JSON value, looked at where it lies.
 *
 * Most bytes of most events are in strings, so those are taken eight at a
 * time (sixteen on x86-64) as long as nothing in them needs a look.
 *
 *-------------------------------------------------------------------------
 */
#include "bus/json_scan.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define EACH_BYTE(b) (UINT64_C(0x0101010101010101) * (b))

/* JsonType by first byte, 0 being JSON_TYPE_NONE. */
const uint8_t json_types[256] = {
	['{'] = JSON_TYPE_OBJECT, ['['] = JSON_TYPE_ARRAY,  ['"'] = JSON_TYPE_STRING,
	['t'] = JSON_TYPE_TRUE,   ['f'] = JSON_TYPE_FALSE,  ['n'] = JSON_TYPE_NULL,
	['-'] = JSON_TYPE_NUMBER, ['0'] = JSON_TYPE_NUMBER, ['1'] = JSON_TYPE_NUMBER,
	['2'] = JSON_TYPE_NUMBER, ['3'] = JSON_TYPE_NUMBER, ['4'] = JSON_TYPE_NUMBER,
	['5'] = JSON_TYPE_NUMBER, ['6'] = JSON_TYPE_NUMBER, ['7'] = JSON_TYPE_NUMBER,
	['8'] = JSON_TYPE_NUMBER, ['9'] = JSON_TYPE_NUMBER,
};

/*
 * Of eight bytes of a string, mark those that end it, escape, are forbidden
 * or are not ASCII.  A borrow can mark bytes wrongly, but only behind (in
 * a little-endian word) one that is marked rightly: trust the first.
 */
static inline uint64_t
marked_bytes(uint64_t word)
{
	uint64_t quote = word ^ EACH_BYTE('"');
	uint64_t backslash = word ^ EACH_BYTE('\\');

	return (((quote - EACH_BYTE(1)) & ~quote) | ((backslash - EACH_BYTE(1)) & ~backslash) |
			((word - EACH_BYTE(0x20)) & ~word) | word) &
		   EACH_BYTE(0x80);
}

static inline bool
plain_byte(char c)
{
	return c != '"' && c != '\\' && (unsigned char) c >= 0x20 && (unsigned char) c < 0x80;
}

/* The first byte that is not plain, or end. */
static inline const char *
skip_plain(const char *p, const char *end)
{
#ifdef __SSE2__
	while (end - p >= 16)
	{
		__m128i bytes = _mm_loadu_si128((const __m128i *) p);
		/* As signed numbers, bytes beyond ASCII are below the space, too. */
		__m128i marked = _mm_or_si128(_mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20)),
									  _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')),
												   _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'))));
		int mask = _mm_movemask_epi8(marked);

		if (mask != 0)
			return p + __builtin_ctz(mask);
		p += 16;
	}
#endif
	while (end - p >= 8)
	{
		uint64_t word;
		uint64_t marked;

		memcpy(&word, p, sizeof(word));
		marked = marked_bytes(word);
		if (marked != 0)
		{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
			return p + __builtin_ctzll(marked) / 8;
#else
			break;
#endif
		}
		p += 8;
	}
	while (p < end && plain_byte(*p))
		p++;
	return p;
}

/* One character beyond ASCII: no overlong forms, no surrogates, nothing above U+10FFFF. */
static const char *
scan_utf8(const char *p, const char *end)
{
	const unsigned char *c = (const unsigned char *) p;
	ptrdiff_t left = end - p;
	unsigned char low = 0x80;
	unsigned char high = 0xBF;
	int more;

	if (c[0] >= 0xC2 && c[0] <= 0xDF)
		more = 1;
	else if (c[0] >= 0xE0 && c[0] <= 0xEF)
	{
		more = 2;
		if (c[0] == 0xE0)
			low = 0xA0;
		else if (c[0] == 0xED)
			high = 0x9F;
	}
	else if (c[0] >= 0xF0 && c[0] <= 0xF4)
	{
		more = 3;
		if (c[0] == 0xF0)
			low = 0x90;
		else if (c[0] == 0xF4)
			high = 0x8F;
	}
	else
		return NULL;

	if (left <= more || c[1] < low || c[1] > high)
		return NULL;
	for (int i = 2; i <= more; i++)
	{
		if ((c[i] & 0xC0) != 0x80)
			return NULL;
	}
	return p + 1 + more;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The code unit of the \u escape at p, or -1. */
static int
escaped_unit(const char *p, const char *end)
{
	int unit = 0;

	if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++)
	{
		int digit = hex_digit(p[i]);

		if (digit < 0)
			return -1;
		unit = unit * 16 + digit;
	}
	return unit;
}

/*
 * The escape at p: where it ends, and the character.  A surrogate without
 * the other one is no character, and neither is U+0000 one that a text can have.
 */
static const char *
scan_escape(const char *p, const char *end, uint32_t *character)
{
	static const char letters[] = "\"\\/bfnrt";
	static const char meanings[] = "\"\\/\b\f\n\r\t";
	const char *letter;
	int unit;

	if (end - p < 2)
		return NULL;
	if (p[1] != 'u')
	{
		letter = memchr(letters, p[1], sizeof(letters) - 1);
		if (letter == NULL)
			return NULL;
		*character = meanings[letter - letters];
		return p + 2;
	}

	unit = escaped_unit(p, end);
	if (unit <= 0 || (unit >= 0xDC00 && unit <= 0xDFFF))
		return NULL;
	p += 6;
	*character = unit;
	if (unit >= 0xD800 && unit <= 0xDBFF)
	{
		int second = escaped_unit(p, end);

		if (second < 0xDC00 || second > 0xDFFF)
			return NULL;
		*character = 0x10000 + ((uint32_t) (unit - 0xD800) << 10) + (uint32_t) (second - 0xDC00);
		p += 6;
	}
	return p;
}

const char *
json_scan_string(const char *p, const char *end, bool *escaped)
{
	uint32_t character;

	*escaped = false;
	for (;;)
	{
		p = skip_plain(p, end);
		if (p == end)
			return NULL;
		if (*p == '"')
			return p + 1;
		if (*p == '\\')
		{
			*escaped = true;
			p = scan_escape(p, end, &character);
		}
		else
		{
			/* Text in other alphabets comes in runs; scan_utf8() refuses control characters. */
			do
				p = scan_utf8(p, end);
			while (p != NULL && p < end && (unsigned char) *p >= 0x80);
		}
		if (p == NULL)
			return NULL;
	}
}

static inline const char *
skip_digits(const char *p, const char *end)
{
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

const char *
json_scan_number(const char *p, const char *end)
{
	const char *digits;

	if (p < end && *p == '-')
		p++;
	digits = p;
	p = skip_digits(p, end);
	if (p == digits || (*digits == '0' && p > digits + 1))
		return NULL;
	if (p < end && *p == '.')
	{
		digits = ++p;
		p = skip_digits(p, end);
		if (p == digits)
			return NULL;
	}
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		digits = p;
		p = skip_digits(p, end);
		if (p == digits)
			return NULL;
	}
	return p;
}

const char *
json_scan_literal(const char *p, const char *end)
{
	ptrdiff_t left = end - p;

	if (left >= 4 && (memcmp(p, "true", 4) == 0 || memcmp(p, "null", 4) == 0))
		return p + 4;
	if (left >= 5 && memcmp(p, "false", 5) == 0)
		return p + 5;
	return NULL;
}

/* From the quote that opens a key to the value behind the colon. */
static inline const char *
scan_key(const char *p, const char *end)
{
	bool escaped;

	if (p == end || *p != '"')
		return NULL;
	p = json_scan_string(p + 1, end, &escaped);
	if (p == NULL)
		return NULL;
	p = json_skip_space(p, end);
	if (p == end || *p != ':')
		return NULL;
	return json_skip_space(p + 1, end);
}

const char *
json_scan_value(const char *p, const char *end, uint32_t depth)
{
	uint8_t objects[JSON_MAX_DEPTH / 8]; /* a bit for each open container: is it an object? */
	uint32_t open = 0;

	for (;;)
	{
		bool escaped;
		bool object;
		JsonType type;

		/* a value */
		if (p == end)
			return NULL;
		type = json_type(*p);
		switch (type)
		{
			case JSON_TYPE_STRING:
				p = json_scan_string(p + 1, end, &escaped);
				break;
			case JSON_TYPE_NUMBER:
				p = json_scan_number(p, end);
				break;
			case JSON_TYPE_OBJECT:
			case JSON_TYPE_ARRAY:
				if (depth + open >= JSON_MAX_DEPTH)
					return NULL;
				object = type == JSON_TYPE_OBJECT;
				if (object)
					objects[open / 8] |= 1 << open % 8;
				else
					objects[open / 8] &= ~(1 << open % 8);
				p = json_skip_space(p + 1, end);
				if (p == end)
					return NULL;
				if (*p == (object ? '}' : ']'))
				{
					p++;
					break;
				}
				if (object && (p = scan_key(p, end)) == NULL)
					return NULL;
				open++;
				continue;
			case JSON_TYPE_NONE:
				return NULL;
			default:
				p = json_scan_literal(p, end);
		}

		/* what it ends, and where the next one is */
		for (;;)
		{
			if (p == NULL || open == 0)
				return p;
			p = json_skip_space(p, end);
			if (p == end)
				return NULL;
			object = objects[(open - 1) / 8] & 1 << (open - 1) % 8;
			if (*p == ',')
				break;
			if (*p != (object ? '}' : ']'))
				return NULL;
			p++;
			open--;
		}
		p = json_skip_space(p + 1, end);
		if (object && (p = scan_key(p, end)) == NULL)
			return NULL;
	}
}

/* Put a character as UTF-8; the result is its length. */
static int
encode_utf8(uint32_t character, unsigned char *out)
{
	if (character < 0x80)
	{
		out[0] = character;
		return 1;
	}
	if (character < 0x800)
	{
		out[0] = 0xC0 | character >> 6;
		out[1] = 0x80 | (character & 0x3F);
		return 2;
	}
	if (character < 0x10000)
	{
		out[0] = 0xE0 | character >> 12;
		out[1] = 0x80 | (character >> 6 & 0x3F);
		out[2] = 0x80 | (character & 0x3F);
		return 3;
	}
	out[0] = 0xF0 | character >> 18;
	out[1] = 0x80 | (character >> 12 & 0x3F);
	out[2] = 0x80 | (character >> 6 & 0x3F);
	out[3] = 0x80 | (character & 0x3F);
	return 4;
}

int
json_string_compare(const char *p, const char *end, const char *text, size_t len, bool prefix)
{
	size_t at = 0;

	while (p < end)
	{
		unsigned char bytes[4];
		int count = 1;

		if (*p == '\\')
		{
			uint32_t character = 0;

			p = scan_escape(p, end, &character);
			if (p == NULL) /* it was never scanned */
				return -1;
			count = encode_utf8(character, bytes);
		}
		else
			bytes[0] = *p++;

		for (int i = 0; i < count; i++)
		{
			if (at == len)
				return prefix ? 0 : 1;
			if (bytes[i] != (unsigned char) text[at])
				return bytes[i] < (unsigned char) text[at] ? -1 : 1;
			at++;
		}
	}
	return at == len ? 0 : -1;
}

JsonDecimal
json_decimal(const char *p, const char *end)
{
	JsonDecimal result = {NULL, NULL, 0, false};
	int64_t written = 0;
	bool point = false;
	bool below = false;

	if (p < end && *p == '-')
	{
		result.negative = true;
		p++;
	}
	for (; p < end && *p != 'e' && *p != 'E'; p++)
	{
		if (*p == '.')
		{
			point = true;
			continue;
		}
		if (result.digits == NULL && *p != '0')
			result.digits = p;
		if (result.digits != NULL ? !point : point)
			result.exponent += result.digits != NULL ? 1 : -1;
	}
	result.end = p;

	if (p < end)
	{
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			below = *p++ == '-';
		for (; p < end; p++)
		{
			if (written < JSON_MAX_EXPONENT)
				written = written * 10 + (*p - '0');
		}
		if (written > JSON_MAX_EXPONENT)
			written = JSON_MAX_EXPONENT;
	}
	result.exponent += below ? -written : written;
	return result;
}
