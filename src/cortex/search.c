/*-------------------------------------------------------------------------
 *
 * search.c
 *		Substrings in text.
 *
 * The scan looks for the needle's first and last byte at their distance, 16
 * places at a time where there is SSE2, and compares the rest only where both
 * are found.  Without SSE2 it goes byte by byte, with the same answer.  Where
 * these comparisons get long, as that of "aaab" in a text of many a's, it goes on by
 * the two-way algorithm (Crochemore and Perrin, 1991), which is linear in any case and
 * needs no memory: readers hold up the writer meanwhile.
 *
 * A digest says which trigrams a text may have: a Bloom filter with one probe,
 * and a bit for each byte of a short text, half a bit of a long one, in which more of
 * them occur again.  A needle of n bytes asks for n - 2 trigrams; for ten bytes most
 * texts of 1 kB without it are passed by reading 64 bytes.
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
#define DIGEST_BYTES     128 /* of text for a word, */
#define SHORT_BYTES      64  /* of a short text, */
#define SHORT_WORDS      8   /* which is one of so many words */
#define MAP_WORDS        32

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

/* How many bytes match at this place?  There are enough of them. */
static inline uint32_t
match_at(const Needle *needle, const char *at)
{
	uint32_t i = 0;

	while (i < needle->len && lower(at[i]) == (uint8_t) needle->text[i])
		i++;
	return i;
}

/*
 * The greatest suffix of a needle by the order of bytes, or by the reverse of it: where
 * it starts, and its period.
 */
static int64_t
greatest_suffix(const Needle *needle, bool reverse, int64_t *period)
{
	const uint8_t *text = (const uint8_t *) needle->text;
	int64_t suffix = 0;
	int64_t at = 1;   /* of another one, */
	int64_t same = 0; /* which begins with so many bytes as the greatest so far, and period */

	*period = 1;
	while (at + same < needle->len)
	{
		uint8_t a = text[at + same];
		uint8_t b = text[suffix + same];

		if (a == b)
		{
			if (++same == *period)
			{
				at += *period;
				same = 0;
			}
		}
		else if (reverse ? a > b : a < b)
		{
			at += same + 1;
			same = 0;
			*period = at - suffix;
		}
		else
		{
			suffix = at++;
			same = 0;
			*period = 1;
		}
	}
	return suffix;
}

/*
 * Two-way: the needle is cut where its right part can be moved, where it does not match,
 * by as many bytes as did.  The left part is compared after it.
 */
static bool
two_way(const Needle *needle, const char *text, size_t len)
{
	int64_t n = needle->len;
	int64_t period;
	int64_t other_period;
	int64_t cut = greatest_suffix(needle, false, &period);
	int64_t other = greatest_suffix(needle, true, &other_period);
	bool periodic;
	int64_t known = 0; /* bytes from the start that match, because it is periodic */

	if (other > cut)
	{
		cut = other;
		period = other_period;
	}
	periodic = memcmp(needle->text, needle->text + period, cut) == 0;
	if (!periodic)
		period = (cut > n - cut ? cut : n - cut) + 1;
	for (int64_t at = 0; at + n <= (int64_t) len;)
	{
		int64_t i = cut > known ? cut : known;

		while (i < n && lower(text[at + i]) == (uint8_t) needle->text[i])
			i++;
		if (i < n)
		{
			at += i - cut + 1;
			known = 0;
			continue;
		}
		i = cut;
		while (i > known && lower(text[at + i - 1]) == (uint8_t) needle->text[i - 1])
			i--;
		if (i <= known)
			return true;
		at += period;
		known = periodic ? n - period : 0;
	}
	return false;
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
	size_t work = 0; /* bytes compared in vain */

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
				uint32_t same = match_at(needle, text + i + __builtin_ctz(found));

				if (same == needle->len)
					return true;
				work += same;
				found &= found - 1;
			}
			if (work > len)
				return two_way(needle, text + i, len - i);
		}
	}
#endif
	for (; i < places; i++)
	{
		uint32_t same = match_at(needle, text + i);

		if (same == needle->len)
			return true;
		work += same;
		if (work > len)
			return two_way(needle, text + i, len - i);
	}
	return false;
}

uint32_t
digest_words(size_t len)
{
	size_t words = len / SHORT_BYTES;

	if (words > SHORT_WORDS)
		words = len / DIGEST_BYTES < SHORT_WORDS ? SHORT_WORDS : len / DIGEST_BYTES;
	if (words < DIGEST_MIN_WORDS)
		return 0;
	return words > DIGEST_MAX_WORDS ? DIGEST_MAX_WORDS : (uint32_t) words;
}

/* The bit of the trigram that ends with the byte at i, which is at least 2. */
static inline uint32_t
next_bit(uint32_t *trigram, const char *text, size_t i, uint32_t nbits)
{
	*trigram = *trigram << 8 | lower(text[i]);
	return ((uint64_t) trigram_hash(*trigram) * nbits) >> 32;
}

void
digest_make(uint64_t *digest, uint32_t words, const char *text, size_t len)
{
	uint32_t trigram = 0;
	uint32_t nbits = words * 64;
	size_t i = 0;

	for (; i < 2 && i < len; i++)
		trigram = trigram << 8 | lower(text[i]);
#ifdef __SSE2__
	if (words <= MAP_WORDS)
	{
		/* In a byte for each bit at first: setting bits of few words waits for the one before. */
		__m128i map[MAP_WORDS * 4];

		memset(map, 0, nbits);
		for (; i < len; i++)
			((uint8_t *) map)[next_bit(&trigram, text, i, nbits)] = 0xff;
		for (uint32_t w = 0; w < words; w++)
			digest[w] = (uint64_t) _mm_movemask_epi8(map[4 * w]) |
						(uint64_t) _mm_movemask_epi8(map[4 * w + 1]) << 16 |
						(uint64_t) _mm_movemask_epi8(map[4 * w + 2]) << 32 |
						(uint64_t) _mm_movemask_epi8(map[4 * w + 3]) << 48;
		return;
	}
#endif
	memset(digest, 0, words * sizeof(uint64_t));
	for (; i < len; i++)
	{
		uint32_t bit = next_bit(&trigram, text, i, nbits);

		digest[bit / 64] |= UINT64_C(1) << (bit % 64);
	}
}
