/*-------------------------------------------------------------------------
 *
 * cursor.c
 *		Encoding and decoding the cursor of poll().  Plain C.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "bus/cursor.h"
#include "core/hash.h"

#define PREFIX_LEN    (sizeof(CURSOR_PREFIX) - 1)
#define CHECKSUM_LEN  4
#define MAX_VARINT    9 /* bytes of one up to 2^63 - 1 */
#define CHECKSUM_SEED 1 /* version of the format */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static unsigned char *
put_fixed(unsigned char *p, uint64_t value, int size)
{
	for (int i = 0; i < size; i++)
		*p++ = value >> (8 * i);
	return p;
}

static unsigned char *
put_varint(unsigned char *p, uint64_t value)
{
	while (value >= 0x80)
	{
		*p++ = value | 0x80;
		value >>= 7;
	}
	*p++ = value;
	return p;
}

static uint64_t
get_fixed(const unsigned char *p, int size)
{
	uint64_t value = 0;

	for (int i = 0; i < size; i++)
		value |= (uint64_t) p[i] << (8 * i);
	return value;
}

/* The bytes that are still to be decoded. */
typedef struct Input
{
	const unsigned char *at;
	const unsigned char *end;
} Input;

static CursorError
get_varint(Input *in, uint64_t max, uint64_t *value)
{
	*value = 0;
	for (int i = 0; i < MAX_VARINT; i++)
	{
		unsigned char byte;

		if (in->at == in->end)
			return CURSOR_ERR_TEXT;
		byte = *in->at++;
		*value |= (uint64_t) (byte & 0x7F) << (7 * i);
		if (byte < 0x80)
			return *value > max || (byte == 0 && i > 0) ? CURSOR_ERR_VALUE : CURSOR_OK;
	}
	return CURSOR_ERR_VALUE;
}

static uint32_t
checksum(const unsigned char *bytes, size_t len)
{
	return (uint32_t) nb_hash64(bytes, len, CHECKSUM_SEED);
}

size_t
cursor_encode(const Cursor *cursor, char *text)
{
	unsigned char bytes[CURSOR_MAX_BYTES + 2];
	unsigned char *p = bytes;
	char *out = text;
	int shards = 0;
	int next = 0;
	size_t len;

	for (int i = 0; i < CURSOR_MAX_SHARDS; i++)
		shards += cursor->known[i];
	p = put_fixed(p, (uint64_t) cursor->incarnation, 8);
	p = put_fixed(p, cursor->relid, 4);
	p = put_varint(p, cursor->first);
	p = put_varint(p, shards);
	for (int i = 0; i < CURSOR_MAX_SHARDS; i++)
	{
		if (!cursor->known[i])
			continue;
		p = put_varint(p, i - next);
		p = put_varint(p, cursor->seqs[i]);
		next = i + 1;
	}
	p = put_fixed(p, checksum(bytes, p - bytes), CHECKSUM_LEN);
	len = p - bytes;
	p[0] = p[1] = 0;

	memcpy(out, CURSOR_PREFIX, PREFIX_LEN);
	out += PREFIX_LEN;
	for (size_t i = 0; i < len; i += 3)
	{
		uint32_t group = (uint32_t) bytes[i] << 16 | bytes[i + 1] << 8 | bytes[i + 2];

		for (int shift = 18; shift >= 0; shift -= 6)
			*out++ = digits[group >> shift & 0x3F];
	}
	/* A last group of one or two bytes is two or three digits. */
	out -= (3 - len % 3) % 3;
	*out = '\0';
	return out - text;
}

/* base64url to bytes; returns how many, 0 if it is not that. */
static size_t
decode_text(const char *text, size_t len, unsigned char *bytes)
{
	size_t n = 0;
	uint32_t bits = 0;
	int nbits = 0;

	if (len % 4 == 1 || len / 4 * 3 + 2 > CURSOR_MAX_BYTES + 2)
		return 0;
	for (size_t i = 0; i < len; i++)
	{
		const char *digit = text[i] == '\0' ? NULL : strchr(digits, text[i]);

		if (!digit)
			return 0;
		bits = bits << 6 | (uint32_t) (digit - digits);
		nbits += 6;
		if (nbits >= 8)
		{
			nbits -= 8;
			bytes[n++] = bits >> nbits;
			bits &= (1u << nbits) - 1;
		}
	}
	return bits == 0 ? n : 0;
}

CursorError
cursor_decode(const char *text, size_t len, Cursor *cursor)
{
	unsigned char bytes[CURSOR_MAX_BYTES + 2];
	Input in;
	CursorError error;
	uint64_t value;
	uint64_t shards;
	uint64_t next = 0;

	if (len < PREFIX_LEN || memcmp(text, CURSOR_PREFIX, PREFIX_LEN) != 0)
		return CURSOR_ERR_PREFIX;
	len = decode_text(text + PREFIX_LEN, len - PREFIX_LEN, bytes);
	if (len < 8 + 4 + CHECKSUM_LEN)
		return CURSOR_ERR_TEXT;
	in.at = bytes;
	in.end = bytes + len - CHECKSUM_LEN;
	if (checksum(bytes, in.end - in.at) != get_fixed(in.end, CHECKSUM_LEN))
		return CURSOR_ERR_CHECKSUM;

	memset(cursor, 0, sizeof(Cursor));
	cursor->incarnation = (int64_t) get_fixed(in.at, 8);
	cursor->relid = get_fixed(in.at + 8, 4);
	in.at += 12;
	if ((error = get_varint(&in, CURSOR_MAX_SHARDS - 1, &value)) != CURSOR_OK)
		return error;
	cursor->first = value;
	if ((error = get_varint(&in, CURSOR_MAX_SHARDS, &shards)) != CURSOR_OK)
		return error;
	for (; shards > 0; shards--)
	{
		if ((error = get_varint(&in, CURSOR_MAX_SHARDS - 1, &value)) != CURSOR_OK)
			return error;
		next += value;
		if (next >= CURSOR_MAX_SHARDS)
			return CURSOR_ERR_VALUE;
		if ((error = get_varint(&in, CURSOR_MAX_SEQ, &cursor->seqs[next])) != CURSOR_OK)
			return error;
		cursor->known[next++] = true;
	}
	return in.at == in.end ? CURSOR_OK : CURSOR_ERR_TEXT;
}
