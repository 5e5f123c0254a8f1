/*-------------------------------------------------------------------------
 *
 * json_scan_test.c
 *		Where a JSON value ends, and what is none.
 *
 * Texts are allocations of exactly their size: the sanitizer sees each byte
 * read beyond.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "bus/json_scan.h"
#include "tap.h"

/* How many bytes at the start of a text are a value; -1: none. */
static long
value_length(const char *text, size_t len, uint32_t depth)
{
	char *copy = malloc(len > 0 ? len : 1);
	const char *end;
	long result;

	memcpy(copy, text, len);
	end = json_scan_value(copy, copy + len, depth);
	result = end != NULL ? end - copy : -1;
	free(copy);
	return result;
}

/* A text to print on one line. */
static const char *
shown(const char *text)
{
	static char line[256];
	size_t len = 0;

	for (; *text != '\0' && len < sizeof(line) - 5; text++)
		len += snprintf(line + len, 5, *text < 0x20 || *text > 0x7E ? "<%02X>" : "%c",
						(unsigned char) *text);
	line[len] = '\0';
	return line;
}

static void
whole(const char *text)
{
	tap_ok(value_length(text, strlen(text), 0) == (long) strlen(text), "JSON: %s", shown(text));
}

static void
none(const char *text)
{
	tap_ok(value_length(text, strlen(text), 0) == -1, "not JSON: %s", shown(text));
}

static void
test_values(void)
{
	static const char *const good[] = {"null",
									   "true",
									   "false",
									   "0",
									   "-0",
									   "10",
									   "-1.5",
									   "0.0",
									   "1e5",
									   "1E+5",
									   "1e-05",
									   "-0.1e-2",
									   "1e99999999999999999999",
									   "\"\"",
									   "\"a\"",
									   "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
									   "\"\\u0001\\uFFFF\\ud83D\\uDe00\"",
									   "[]",
									   "[ ]",
									   "{}",
									   "{ }",
									   "[1,\t2 ,\r\n3]",
									   "[[],{}]",
									   "{\"a\":1}",
									   "{ \"a\" : [ { \"b\" : null } , \"x\" ] , \"\" : true }",
									   "\"exactly8\"",
									   "\"1234567\\n\"",
									   "\"12345678\\n\"",
									   "\"\x7F\"",
									   "{\"a\":1,\"a\":2}"};
	static const char *const bad[] = {"",
									  " ",
									  "nul",
									  "nulL",
									  "True",
									  "tru",
									  "fals",
									  "-",
									  "+1",
									  ".5",
									  "01",
									  "-01",
									  "1.",
									  "1.e1",
									  "1e",
									  "1e+",
									  "1.5e",
									  "NaN",
									  "Infinity",
									  "\"",
									  "\"a",
									  "\"\\\"",
									  "\"\\",
									  "\"\\x\"",
									  "\"\\u\"",
									  "\"\\u123\"",
									  "\"\\u12G4\"",
									  "\"\\u0000\"",
									  "\"\\ud800\"",
									  "\"\\ud800\\n\"",
									  "\"\\ud800\\ud800\"",
									  "\"\\udc00\"",
									  "\"\\ud800x\"",
									  "\"\n\"",
									  "\"\x1F\"",
									  "\"12345678\x01\"",
									  "[",
									  "[1",
									  "[1,",
									  "[1,]",
									  "[,1]",
									  "[1 2]",
									  "[1}",
									  "]",
									  "{",
									  "{\"a\"",
									  "{\"a\":",
									  "{\"a\":1",
									  "{\"a\":1,",
									  "{\"a\":1,}",
									  "{a:1}",
									  "{\"a\" 1}",
									  "{\"a\":1]",
									  "{1:1}",
									  "{,}",
									  "{\"a\"::1}",
									  "{\"a\":1 \"b\":2}",
									  "'a'",
									  "\xEF\xBB\xBF"
									  "1"};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		whole(good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		none(bad[i]);
	tap_is(value_length("1 2", 3, 0), 1, "a value ends before the space");
	tap_is(value_length("12]", 3, 0), 2, "and before a bracket");
	tap_is(value_length("{\"a\":1}}", 8, 0), 7, "and with its own");
	tap_is(value_length("\"a\0b\"", 5, 0), (uint64_t) -1, "a 0 byte is not JSON");
}

/* Every sequence of up to three bytes, beside the rule; of four some. */
static void
test_utf8(void)
{
	long wrong = 0;
	char text[8] = "\"";

	for (long c = 0x80; c <= 0xFFFF; c++)
	{
		/* two bytes */
		bool good;

		text[1] = (char) (c >> 8);
		text[2] = (char) c;
		text[3] = '"';
		good = (c >> 8) >= 0xC2 && (c >> 8) <= 0xDF && (c & 0xC0) == 0x80;
		if ((c >> 8) >= 0x80)
			wrong += (value_length(text, 4, 0) == 4) != good;
	}
	for (long c = 0xE00000; c <= 0xFFFFFF; c++)
	{
		/* three bytes; a string that is not closed is none, but the sanitizers see each byte */
		long character = (c >> 16 & 0x0F) << 12 | (c >> 8 & 0x3F) << 6 | (c & 0x3F);
		bool good = (c & 0xF0C0C0) == 0xE08080 && character >= 0x800 &&
					!(character >= 0xD800 && character <= 0xDFFF);
		bool escaped;

		text[1] = (char) (c >> 16);
		text[2] = (char) (c >> 8);
		text[3] = (char) c;
		text[4] = '"';
		wrong += (json_scan_string(text + 1, text + 5, &escaped) == text + 5) != good;
	}
	for (long c = 0xF000; c <= 0xFFFF; c++)
	{
		/* four bytes, whose first two decide */
		long character = (c >> 8 & 0x07) << 18 | (c & 0x3F) << 12;
		bool good = (c & 0xF8C0) == 0xF080 && character >= 0x10000 && character <= 0x10FFFF;
		bool escaped;

		text[1] = (char) (c >> 8);
		text[2] = (char) c;
		text[3] = text[4] = '\x80';
		text[5] = '"';
		wrong += (json_scan_string(text + 1, text + 6, &escaped) == text + 6) != good;
		for (int i = 3; i <= 4; i++)
		{
			text[i] = 'x';
			wrong += json_scan_string(text + 1, text + 6, &escaped) != NULL;
			text[i] = '\x80';
			wrong += json_scan_string(text + 1, text + i, &escaped) != NULL;
		}
	}
	tap_is(wrong, 0, "UTF-8 is valid, or refused");
}

/* A byte that matters at every place of a string, and nothing behind its end. */
static void
test_string_places(void)
{
	int wrong = 0;

	for (int len = 0; len < 40; len++)
	{
		for (int at = 0; at < len; at++)
		{
			static const char special[] = {'"', '\\', '\n', '\x80', '\x01', '\x1F', '\xFF'};

			for (size_t i = 0; i < sizeof(special); i++)
			{
				char *text = malloc(len + 1);
				const char *found;
				bool escaped;

				memset(text, at % 2 ? ' ' : '~', len);
				text[len] = '"';
				text[at] = special[i];
				found = json_scan_string(text, text + len + 1, &escaped);
				wrong += found != (i == 0 ? text + at + 1 : NULL);
				text[at] = 'x';
				wrong += json_scan_string(text, text + len + 1, &escaped) != text + len + 1;
				wrong += json_scan_string(text, text + len, &escaped) != NULL;
				free(text);
			}
		}
	}
	tap_is(wrong, 0, "a byte that matters is found at every place");
}

static void
test_depth(void)
{
	enum
	{
		MANY = 1000000
	};
	char *text = malloc(2 * MANY);

	memset(text, '[', MANY);
	memset(text + MANY, ']', MANY);
	tap_is(value_length(text + MANY - JSON_MAX_DEPTH, 2 * JSON_MAX_DEPTH, 0), 2 * JSON_MAX_DEPTH,
		   "as deep as can be");
	tap_is(value_length(text + MANY - JSON_MAX_DEPTH, 2 * JSON_MAX_DEPTH, 1), (uint64_t) -1,
		   "inside of another one it is too deep");
	tap_is(value_length(text, 2 * MANY, 0), (uint64_t) -1, "a million is too deep");
	free(text);
}

static void
compare_is(const char *string, const char *text, bool prefix, int expected)
{
	int found = json_string_compare(string, string + strlen(string), text, strlen(text), prefix);

	tap_ok((found > 0) - (found < 0) == expected, "%s %s \"%s\"", string,
		   prefix ? "starts with" : "beside", shown(text));
}

static void
test_strings(void)
{
	compare_is("", "", false, 0);
	compare_is("a", "", false, 1);
	compare_is("", "a", false, -1);
	compare_is("\\u0061", "a", false, 0);
	compare_is("\\u0061b", "ab", false, 0);
	compare_is("\\u0061b", "abc", false, -1);
	compare_is("\\u0061bc", "ab", false, 1);
	compare_is("\\b\\f\\n\\r\\t\\/\\\\\\\"", "\b\f\n\r\t/\\\"", false, 0);
	compare_is("\\u00e4", "\xC3\xA4", false, 0);
	compare_is("\\u20AC", "\xE2\x82\xAC", false, 0);
	compare_is("\\ud83d\\ude00", "\xF0\x9F\x98\x80", false, 0);
	compare_is("\\udbff\\udfff", "\xF4\x8F\xBF\xBF", false, 0);
	compare_is("\\uffff", "\xF0\x9F\x98\x80", false, -1);
	compare_is("z", "\xC3\xA4", false, -1);
	compare_is("\\u0061bc", "ab", true, 0);
	compare_is("\\u0061", "ab", true, -1);
	compare_is("\\u0062", "ab", true, 1);
	compare_is("\\u0062", "", true, 0);
	compare_is("\\u00e4", "\xC3", true, 0);
}

static void
decimal_is(const char *text, const char *digits, int64_t exponent, bool negative)
{
	JsonDecimal found = json_decimal(text, text + strlen(text));
	char written[64];
	size_t len = 0;

	for (const char *p = found.digits; p != NULL && p < found.end; p++)
	{
		if (*p != '.')
			written[len++] = *p;
	}
	written[len] = '\0';
	tap_ok(strcmp(written, digits) == 0 && (len == 0 || found.exponent == exponent) &&
			   found.negative == negative,
		   "%s is %s0.%s * 10^%lld", text, negative ? "-" : "", digits, (long long) exponent);
}

static void
test_decimals(void)
{
	decimal_is("0", "", 0, false);
	decimal_is("-0.000e7", "", 0, true);
	decimal_is("1", "1", 1, false);
	decimal_is("-120", "120", 3, true);
	decimal_is("12.034", "12034", 2, false);
	decimal_is("0.00120", "120", -2, false);
	decimal_is("0.5", "5", 0, false);
	decimal_is("1e5", "1", 6, false);
	decimal_is("1E+05", "1", 6, false);
	decimal_is("10.5e-3", "105", -1, false);
	decimal_is("1e99999999999999999999999999", "1", JSON_MAX_EXPONENT + 1, false);
	decimal_is("0.1e-99999999999999999999999999", "1", -JSON_MAX_EXPONENT, false);
}

/* Each length, a difference at each place, and nothing read behind the end. */
static void
test_equal(void)
{
	int wrong = 0;

	for (size_t len = 0; len < 40; len++)
	{
		char *a = malloc(len + (len == 0));
		char *b = malloc(len + (len == 0));

		memset(a, 'a', len);
		memset(b, 'a', len);
		wrong += !json_bytes_equal(a, b, len);
		for (size_t at = 0; at < len; at++)
		{
			b[at] = 'b';
			wrong += json_bytes_equal(a, b, len);
			b[at] = 'a';
		}
		free(a);
		free(b);
	}
	tap_is(wrong, 0, "texts of all lengths are equal or not");
}

int
main(void)
{
	test_values();
	test_utf8();
	test_string_places();
	test_depth();
	test_strings();
	test_equal();
	test_decimals();
	return tap_done();
}
