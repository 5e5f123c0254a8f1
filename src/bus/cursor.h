/*-------------------------------------------------------------------------
 *
 * cursor.h
 *		The cursor of poll(): a position in every shard of a log, as text.
 *
 * "c1." and base64url (RFC 4648 section 5, no padding) of these bytes:
 *
 *		incarnation		8		which log: either of the two has to match
 *		relid			4
 *		first			varint	the shard that is served first
 *		shards			varint	of which the cursor has a position; for each, ascending:
 *			skipped		varint	shards since the one before that have none
 *			seq			varint	the last one passed
 *		checksum		4		low half of xxh3 over all bytes before
 *
 * Fixed-size numbers are little-endian; a varint has 7 bits a byte, the lowest
 * first, the high bit set in all but the last byte, in the shortest form.  So
 * equal cursors are equal texts.
 *
 * Plain C: no palloc, no ereport.  Decoding trusts nothing: any text gives a
 * cursor or an error.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_CURSOR_H
#define NETBUS_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CURSOR_PREFIX     "c1."
#define CURSOR_MAX_SHARDS 256
#define CURSOR_MAX_SEQ    INT64_MAX

/* Bytes before encoding, and the text with its terminator, at most. */
#define CURSOR_MAX_BYTES (8 + 4 + 2 + 2 + CURSOR_MAX_SHARDS * (2 + 9) + 4)
#define CURSOR_MAX_TEXT  (sizeof(CURSOR_PREFIX) + (CURSOR_MAX_BYTES + 2) / 3 * 4)

typedef struct Cursor
{
	int64_t incarnation;
	uint32_t relid;
	int first;                     /* shard */
	bool known[CURSOR_MAX_SHARDS]; /* has a position; without one: the oldest event there is */
	uint64_t seqs[CURSOR_MAX_SHARDS];
} Cursor;

typedef enum CursorError
{
	CURSOR_OK,
	CURSOR_ERR_PREFIX, /* no cursor of this version */
	CURSOR_ERR_TEXT,   /* not base64url, or shorter or longer than it says */
	CURSOR_ERR_CHECKSUM,
	CURSOR_ERR_VALUE, /* out of range, or not in the shortest form */
} CursorError;

/* Write the text, terminated, into CURSOR_MAX_TEXT bytes; returns its length. */
extern size_t cursor_encode(const Cursor *cursor, char *text);

/* Read a text of len bytes.  The cursor is undefined if the result is not CURSOR_OK. */
extern CursorError cursor_decode(const char *text, size_t len, Cursor *cursor);

#endif /* NETBUS_CURSOR_H */
