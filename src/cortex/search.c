/*-------------------------------------------------------------------------
 *
 * search.c
 *		Substrings in text.
 *
 * The scan looks for the needle's first and last byte at their distance, 16
 * places at a time where there is SSE2, and compares the rest only where both
 * are found.  Without SSE2 it goes byte by byte, with the same answer.
 *
 * A digest says which trigrams a text may have: a Bloom filter with one probe
 * and half a bit for each byte of text.  A needle of n bytes asks for n - 2 trigrams;
 * for ten of 1 kB text nearly all texts without it are passed by
 * reading 64 bytes.
 *
 *-------------------------------------------------------------------------
 */
#include "cortex/search.h"

#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define DIGEST_MIN_WORDS 1
#define DIGEST_MAX_WORDS 4096
#define DIGEST_BYTES     128 /* of text for a word */

static inline uint8_t
lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

static inline uint32_t
trigram_hash(uint32_t trigram)
{
	return (uint32_t) (((trigram & 0xffffff) * UINT64_C(0x9E3779B97F4A7C15)) >> 32);
}

void
needle_init(Needle *needle, char *text, uint32_t len)
{
	uint32_t trigram = 0;

	needle->text = text;
	needle->len = len;
	needle->nprobes = 0;
	for (uint32_t i = 0; i < len; i++)
	{
		text[i] = lower(text[i]);
		trigram = trigram << 8 | (uint8_t) text[i];
		if (i >= 2 && needle->nprobes < SEARCH_MAX_PROBES)
			needle->probes[needle->nprobes++] = trigram_hash(trigram);
	}
}

/* Is it at this place?  There are enough bytes. */
static inline bool
is_at(const Needle *needle, const char *at)
{
	for (uint32_t i = 0; i < needle->len; i++)
		if (lower(at[i]) != (uint8_t) needle->text[i])
			return false;
	return true;
}

#ifdef __SSE2__
/* 0xff where a byte is c, whatever its case if it is a letter. */
static inline __m128i
equals(const char *at, __m128i bits, __m128i c)
{
	return _mm_cmpeq_epi8(_mm_or_si128(_mm_loadu_si128((const __m128i *) at), bits), c);
}

/* The bit by which the cases of a letter differ. */
static inline __m128i
case_bit(uint8_t c)
{
	return _mm_set1_epi8(c >= 'a' && c <= 'z' ? 0x20 : 0);
}
#endif

bool
needle_in(const Needle *needle, const char *text, size_t len)
{
	size_t places;
	size_t i = 0;

	if (needle->len == 0)
		return true;
	if (needle->len > len)
		return false;
	places = len - needle->len + 1;
#ifdef __SSE2__
	{
		uint8_t a = needle->text[0];
		uint8_t z = needle->text[needle->len - 1];
		__m128i first = _mm_set1_epi8(a);
		__m128i last = _mm_set1_epi8(z);
		__m128i first_bits = case_bit(a);
		__m128i last_bits = case_bit(z);

		for (; i + 16 <= places; i += 16)
		{
			int found = _mm_movemask_epi8(
				_mm_and_si128(equals(text + i, first_bits, first),
							  equals(text + i + needle->len - 1, last_bits, last)));

			while (found)
			{
				if (is_at(needle, text + i + __builtin_ctz(found)))
					return true;
				found &= found - 1;
			}
		}
	}
#endif
	for (; i < places; i++)
		if (lower(text[i]) == (uint8_t) needle->text[0] && is_at(needle, text + i))
			return true;
	return false;
}

uint32_t
digest_words(size_t len)
{
	size_t words = len / DIGEST_BYTES;

	if (words < DIGEST_MIN_WORDS)
		return 0;
	return words > DIGEST_MAX_WORDS ? DIGEST_MAX_WORDS : (uint32_t) words;
}

void
digest_make(uint64_t *digest, uint32_t words, const char *text, size_t len)
{
	uint32_t trigram = 0;
	uint32_t nbits = words * 64;

	memset(digest, 0, words * sizeof(uint64_t));
	for (size_t i = 0; i < len; i++)
	{
		trigram = trigram << 8 | lower(text[i]);
		if (i >= 2)
		{
			uint64_t bit = ((uint64_t) trigram_hash(trigram) * nbits) >> 32;

			digest[bit / 64] |= UINT64_C(1) << (bit % 64);
		}
	}
}
