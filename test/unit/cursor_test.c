/*-------------------------------------------------------------------------
 *
 * cursor_test.c
 *		Cursors of poll(): what goes in comes out, and nothing else does.
 *
 * link: src/core/hash.c src/core/hash_avx2.c
 *
 * Some cursors are also put together byte by byte, from the drawing in
 * cursor.h, so that a change of the format is noticed.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "bus/cursor.h"
#include "core/hash.h"
#include "tap.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* A cursor's text from its bytes, to which the checksum is added. */
static void
text_of(const unsigned char *bytes, size_t len, char *text)
{
	unsigned char all[CURSOR_MAX_BYTES * 2 + 8] = {0};
	uint32_t hash = (uint32_t) nb_hash64(bytes, len, 1);

	memcpy(all, bytes, len);
	for (int i = 0; i < 4; i++)
		all[len++] = hash >> (8 * i);
	text += sprintf(text, "%s", CURSOR_PREFIX);
	for (size_t bit = 0; bit < len * 8; bit += 6)
	{
		unsigned group = all[bit / 8] << 8 | all[bit / 8 + 1];

		*text++ = digits[group >> (10 - bit % 8) & 0x3F];
	}
	*text = '\0';
}

/* In an allocation of exactly its size, so that the sanitizer sees each byte read beyond. */
static CursorError
decode(const char *text, size_t len, Cursor *cursor)
{
	char *copy = malloc(len > 0 ? len : 1);
	CursorError error;

	memcpy(copy, text, len);
	error = cursor_decode(copy, len, cursor);
	free(copy);
	return error;
}

static CursorError
decode_bytes(const unsigned char *bytes, size_t len)
{
	char text[CURSOR_MAX_TEXT * 2 + 16];
	Cursor cursor;

	text_of(bytes, len, text);
	return decode(text, strlen(text), &cursor);
}

static bool
same(const Cursor *a, const Cursor *b)
{
	if (a->incarnation != b->incarnation || a->relid != b->relid || a->first != b->first)
		return false;
	for (int i = 0; i < CURSOR_MAX_SHARDS; i++)
		if (a->known[i] != b->known[i] || (a->known[i] && a->seqs[i] != b->seqs[i]))
			return false;
	return true;
}

static uint64_t state = 88172645463325252;

static uint64_t
random64(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void
random_cursor(Cursor *cursor)
{
	int density = random64() % 4;

	memset(cursor, 0, sizeof(Cursor));
	cursor->incarnation = (int64_t) random64();
	cursor->relid = random64();
	cursor->first = random64() % CURSOR_MAX_SHARDS;
	for (int i = 0; i < CURSOR_MAX_SHARDS; i++)
	{
		cursor->known[i] =
			density == 3 || (density > 0 && random64() % (density == 1 ? 50 : 2) == 0);
		if (cursor->known[i])
			cursor->seqs[i] = random64() >> (1 + random64() % 63);
	}
}

static void
test_round_trip(void)
{
	int failed = 0;
	int long_ones = 0;

	for (int i = 0; i < 20000; i++)
	{
		Cursor cursor;
		Cursor back;
		char text[CURSOR_MAX_TEXT];
		size_t len;

		random_cursor(&cursor);
		len = cursor_encode(&cursor, text);
		long_ones += len >= CURSOR_MAX_TEXT;
		if (len != strlen(text) || decode(text, len, &back) != CURSOR_OK || !same(&cursor, &back))
			failed++;
	}
	tap_is(failed, 0, "random cursors come back");
	tap_is(long_ones, 0, "none is longer than it may be");
}

static void
test_largest(void)
{
	Cursor cursor;
	Cursor back;
	char text[CURSOR_MAX_TEXT];
	size_t len;

	memset(&cursor, 0xFF, sizeof(cursor));
	cursor.first = CURSOR_MAX_SHARDS - 1;
	for (int i = 0; i < CURSOR_MAX_SHARDS; i++)
	{
		cursor.known[i] = true;
		cursor.seqs[i] = CURSOR_MAX_SEQ;
	}
	len = cursor_encode(&cursor, text);
	tap_ok(len < CURSOR_MAX_TEXT && decode(text, len, &back) == CURSOR_OK && same(&cursor, &back),
		   "the largest cursor fits and comes back");
}

static void
test_format(void)
{
	const unsigned char bytes[] = {0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, 0x39, 0x30, 0,
								   0,    2,    3,    1,    0x80, 0x01, 0,    5,    0x80, 0x01, 0};
	Cursor cursor;
	char text[CURSOR_MAX_TEXT];
	char expected[CURSOR_MAX_TEXT];

	memset(&cursor, 0, sizeof(cursor));
	cursor.incarnation = 0x0102030405060708;
	cursor.relid = 12345;
	cursor.first = 2;
	cursor.known[1] = cursor.known[2] = cursor.known[131] = true;
	cursor.seqs[1] = 128;
	cursor.seqs[2] = 5;
	cursor.seqs[131] = 0;
	(void) cursor_encode(&cursor, text);
	text_of(bytes, sizeof(bytes), expected);
	tap_note("%s", text);
	tap_ok(strcmp(text, expected) == 0, "a cursor is what cursor.h says");
	tap_ok(strcmp(text, "c1.CAcGBQQDAgE5MAAAAgMBgAEABYABAJcOsRY") == 0,
		   "also to those who have kept one");
}

/* Whatever is changed in a text, it is no cursor any more. */
static void
test_damage(void)
{
	int accepted = 0;
	int cases = 0;

	for (int i = 0; i < 50; i++)
	{
		Cursor cursor;
		Cursor back;
		char text[CURSOR_MAX_TEXT];
		char damaged[CURSOR_MAX_TEXT + 1];
		size_t len;

		random_cursor(&cursor);
		len = cursor_encode(&cursor, text);
		for (size_t n = 0; n < len; n++)
		{
			accepted += decode(text, n, &back) == CURSOR_OK;
			memcpy(damaged, text, len);
			damaged[n] = digits[random64() % 64];
			if (damaged[n] != text[n])
				accepted += decode(damaged, len, &back) == CURSOR_OK;
			damaged[n] = "=+/ \n\0\xFF"[random64() % 7];
			accepted += decode(damaged, len, &back) == CURSOR_OK;
			cases += 3;
		}
		memcpy(damaged, text, len);
		damaged[len] = 'A';
		accepted += decode(damaged, len + 1, &back) == CURSOR_OK;
	}
	tap_note("%d cases", cases);
	tap_is(accepted, 0, "no damaged cursor is accepted");
}

static void
test_values(void)
{
	unsigned char head[32] = {0};
	Cursor cursor;
	char text[CURSOR_MAX_TEXT];

	/* head[0..12) is the log, then first, shards, skipped, seq .. */
	tap_is(decode_bytes(head, 14), CURSOR_OK, "no positions at all");
	tap_is(decode_bytes(head, 15), CURSOR_ERR_TEXT, "a byte too many");
	tap_is(decode_bytes(head, 13), CURSOR_ERR_TEXT, "a byte too few");
	tap_is(decode_bytes(head, 12), CURSOR_ERR_TEXT, "nothing behind the log");
	head[13] = 1;
	tap_is(decode_bytes(head, 14), CURSOR_ERR_TEXT, "a position is missing");
	tap_is(decode_bytes(head, 15), CURSOR_ERR_TEXT, "a seq is missing");
	tap_is(decode_bytes(head, 16), CURSOR_OK, "one position");
	head[15] = 0x80;
	head[16] = 0x00;
	tap_is(decode_bytes(head, 17), CURSOR_ERR_VALUE, "zero in two bytes");
	tap_is(decode_bytes(head, 16), CURSOR_ERR_TEXT, "a number that does not end");
	memset(head + 15, 0xFF, 8);
	head[23] = 0x7F;
	tap_is(decode_bytes(head, 24), CURSOR_OK, "the highest seq");
	memset(head + 15, 0xFF, 9);
	head[24] = 0x01;
	tap_is(decode_bytes(head, 25), CURSOR_ERR_VALUE, "a seq beyond it");
	memset(head + 12, 0, 20);
	head[12] = 0x80;
	head[13] = 0x02;
	tap_is(decode_bytes(head, 15), CURSOR_ERR_VALUE, "first is shard 256");
	head[12] = 0;
	head[13] = 2;
	head[14] = 0xFF;
	head[15] = 0x01;
	head[16] = 1;
	head[17] = 0;
	head[18] = 1;
	tap_is(decode_bytes(head, 19), CURSOR_ERR_VALUE, "a position in shard 256");
	head[13] = 1;
	tap_is(decode_bytes(head, 17), CURSOR_OK, "a position in shard 255");

	tap_is(decode("", 0, &cursor), CURSOR_ERR_PREFIX, "nothing");
	tap_is(decode("c1", 2, &cursor), CURSOR_ERR_PREFIX, "half a prefix");
	tap_is(decode("c1.", 3, &cursor), CURSOR_ERR_TEXT, "a prefix");
	tap_is(decode("c2.AAAA", 7, &cursor), CURSOR_ERR_PREFIX, "another version");
	text_of(head, 17, text);
	text[20] = text[20] == 'A' ? 'B' : 'A';
	tap_is(decode(text, strlen(text), &cursor), CURSOR_ERR_CHECKSUM, "a wrong checksum");
}

int
main(void)
{
	test_round_trip();
	test_largest();
	test_format();
	test_damage();
	test_values();
	return tap_done();
}
