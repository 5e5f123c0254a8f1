/*-------------------------------------------------------------------------
 *
 * cursor_fuzz.c
 *		Any text is a cursor or an error, and a cursor has one text only.
 *
 * link: src/core/hash.c src/core/hash_avx2.c
 *
 * The first byte of the input says whether the rest is the text, or the bytes
 * of a cursor without its checksum, which can hardly be guessed.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/cursor.h"
#include "core/hash.h"

#define require(condition)                                                            \
	do                                                                                \
	{                                                                                 \
		if (!(condition))                                                             \
		{                                                                             \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                  \
		}                                                                             \
	} while (0)

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Prefix, base64url and checksum for the bytes of a cursor; returns the length. */
static size_t
make_text(const uint8_t *data, size_t size, char *text)
{
	uint8_t *bytes = calloc(1, size + 8);
	uint32_t hash = (uint32_t) nb_hash64(data, size, 1);
	char *out = text;

	if (size > 0)
		memcpy(bytes, data, size);
	for (int i = 0; i < 4; i++)
		bytes[size + i] = hash >> (8 * i);
	memcpy(out, CURSOR_PREFIX, sizeof(CURSOR_PREFIX) - 1);
	out += sizeof(CURSOR_PREFIX) - 1;
	for (size_t bit = 0; bit < (size + 4) * 8; bit += 6)
		*out++ = digits[(bytes[bit / 8] << 8 | bytes[bit / 8 + 1]) >> (10 - bit % 8) & 0x3F];
	free(bytes);
	return out - text;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;
	char again[CURSOR_MAX_TEXT];
	size_t len;
	Cursor cursor;

	if (size == 0)
		return 0;
	text = malloc(size * 2 + 32);
	len = size - 1;
	if (data[0] & 1)
		memcpy(text, data + 1, len);
	else
		len = make_text(data + 1, len, text);
	text = realloc(text, len > 0 ? len : 1);

	if (cursor_decode(text, len, &cursor) == CURSOR_OK)
	{
		require(cursor.first >= 0 && cursor.first < CURSOR_MAX_SHARDS);
		for (int i = 0; i < CURSOR_MAX_SHARDS; i++)
			require(!cursor.known[i] || cursor.seqs[i] <= CURSOR_MAX_SEQ);
		require(cursor_encode(&cursor, again) == len);
		require(strlen(again) == len && memcmp(again, text, len) == 0);
	}
	free(text);
	return 0;
}
