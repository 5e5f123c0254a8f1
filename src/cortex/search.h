/*-------------------------------------------------------------------------
 *
 * search.h
 *		Substrings in text, whatever the case of ASCII letters.
 *
 * Plain C.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_SEARCH_H
#define NETBUS_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEARCH_MAX_PROBES 16

/*
 * What is searched for: bytes whose ASCII letters are lower case, and the
 * trigrams by which digests are asked.
 */
typedef struct Needle
{
	const char *text;
	uint32_t len;
	uint32_t nprobes;
	uint32_t probes[SEARCH_MAX_PROBES];
} Needle;

/* Points to text, which is made lower case. */
extern void needle_init(Needle *needle, char *text, uint32_t len);

extern bool needle_in(const Needle *needle, const char *text, size_t len);

/* 64-bit words of a digest for a text of that length; 0: not worth one. */
extern uint32_t digest_words(size_t len);
extern void digest_make(uint64_t *digest, uint32_t words, const char *text, size_t len);

/* May the needle be in the text that has this digest? */
static inline bool
digest_may_have(const uint64_t *digest, uint32_t words, const Needle *needle)
{
	if (words == 0)
		return true;
	for (uint32_t i = 0; i < needle->nprobes; i++)
	{
		uint64_t bit = ((uint64_t) needle->probes[i] * (words * 64)) >> 32;

		if (!(digest[bit / 64] >> (bit % 64) & 1))
			return false;
	}
	return true;
}

#endif /* NETBUS_SEARCH_H */
