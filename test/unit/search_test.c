/*-------------------------------------------------------------------------
 *
 * search_test.c
 *		Substrings beside a naive search, with SSE2 and without; digests never
 *		deny what is there, and are the same with SSE2 and without.
 *
 * Texts end where the next page may not be read.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cortex/search.h"
#include "tap.h"

/* The same without SSE2. */
#undef __SSE2__
#define needle_init  plain_needle_init
#define needle_in    plain_needle_in
#define digest_words plain_digest_words
#define digest_make  plain_digest_make
#include "cortex/search.c"
#undef needle_init
#undef needle_in
#undef digest_words
#undef digest_make

#define MAX_TEXT (1024 * 1024)

static char *page_end;
static uint64_t seed = 88172645463325252ull;

static uint32_t
rnd(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t) ((seed >> 32) % n);
}

static bool
naive(const char *needle, size_t n, const char *text, size_t len)
{
	for (size_t i = 0; i + n <= len; i++)
	{
		size_t j = 0;

		while (j < n && lower(text[i + j]) == lower(needle[j]))
			j++;
		if (j == n)
			return true;
	}
	return false;
}

/* Both searches, the two-way search by itself, and the digest. */
static bool
agree(const char *original, uint32_t n, const char *text, size_t len)
{
	static uint64_t digest[4096];
	static uint64_t plain_digest[4096];
	char *lowered = malloc(n + 1); /* as long as it is, for the sanitizer */
	uint32_t words = digest_words(len);
	Needle needle;
	bool there;
	bool good;

	lowered = memcpy(realloc(lowered, n > 0 ? n : 1), original, n);
	needle_init(&needle, lowered, n);
	there = naive(original, n, text, len);
	good = needle_in(&needle, text, len) == there && plain_needle_in(&needle, text, len) == there;
	if (n > 0 && two_way(&needle, text, len) != there)
		good = false;
	if (words > 0)
	{
		digest_make(digest, words, text, len);
		plain_digest_make(plain_digest, words, text, len);
		if (memcmp(digest, plain_digest, words * sizeof(uint64_t)) != 0)
			good = false;
		if (there && !digest_may_have(digest, words, &needle))
			good = false;
	}
	free(lowered);
	return good;
}

static void
test_small(void)
{
	/* Letters next to ASCII ones, and what differs from others by the bit of case. */
	static const char *const alphabets[] = {"ab",
											"aAbB",
											"a",
											"@A[Z`a{z",
											"kK\xe2\x84\xaaiI\xc4\xb0",
											"\x01\x21\x41\x61\x81\xa1\xc1\xe1"};
	uint64_t found = 0;
	int bad = 0;

	for (int round = 0; round < 60000; round++)
	{
		const char *alphabet = alphabets[rnd(6)];
		uint32_t letters = strlen(alphabet);
		uint32_t len = rnd(rnd(4) ? 40 : 200);
		uint32_t n = rnd(rnd(3) ? 6 : 40);
		char *text = page_end - len - (rnd(2) ? 0 : rnd(33));
		char needle[64];

		for (uint32_t i = 0; i < len; i++)
			text[i] = alphabet[rnd(letters)];
		for (uint32_t i = 0; i < n; i++)
			needle[i] = alphabet[rnd(letters)];
		/* Often one that is there, at the very ends too. */
		if (n <= len && rnd(2))
		{
			uint32_t at = rnd(3) ? rnd(len - n + 1) : rnd(2) ? 0 : len - n;

			memcpy(needle, text + at, n);
			for (uint32_t i = 0; i < n; i++)
				if (rnd(2) && needle[i] >= 'a' && needle[i] <= 'z')
					needle[i] -= 32;
		}
		found += naive(needle, n, text, len);
		if (!agree(needle, n, text, len))
			bad++;
	}
	tap_is(bad, 0, "all searches agree");
	tap_ok(found > 10000 && found < 55000, "... and find some");
}

/* One place, at every distance from either end and of every alignment. */
static void
test_places(void)
{
	int bad = 0;

	for (uint32_t len = 0; len < 70; len++)
		for (uint32_t end = 0; end < 17; end++)
		{
			char *text = page_end - end - len;

			memset(text, 'x', len);
			memset(page_end - end, 'y', end);
			for (uint32_t at = 0; at < len; at++)
			{
				text[at] = 'Y';
				if (!agree("y", 1, text, len) || (at > 0 && !agree("xY", 2, text, len)) ||
					!agree("yx", 2, text, len) || !agree("xyxx", 4, text, len))
					bad++;
				text[at] = 'x';
			}
			if (!agree("y", 1, text, len) || !agree("xy", 2, text, len))
				bad++;
		}
	tap_is(bad, 0, "a place is found wherever it is, and nothing beyond the end");
}

/* Two-way: all needles over two letters, in all texts that they may be in. */
static void
test_two_way(void)
{
	int bad = 0;

	for (uint32_t n = 1; n <= 9; n++)
		for (uint32_t bits = 0; bits < 1u << n; bits++)
		{
			char text[40];
			char needle[16];

			for (uint32_t i = 0; i < n; i++)
				needle[i] = bits >> i & 1 ? 'B' : 'a';
			for (int round = 0; round < 12; round++)
			{
				uint32_t len = rnd(sizeof(text));

				/* Parts of the needle, one after the other. */
				for (uint32_t i = 0; i < len;)
					for (uint32_t from = rnd(n), to = from + 1 + rnd(n - from);
						 from < to && i < len; from++)
						text[i++] = rnd(30) ? needle[from] : 'a';
				if (!agree(needle, n, text, len))
					bad++;
			}
		}
	tap_is(bad, 0, "repetitive needles");
}

/* What takes hours if it is compared at every place. */
static void
test_long(void)
{
	uint32_t n = 200001;
	char *text = page_end - MAX_TEXT;
	char *lowered = malloc(n);
	Needle needle;
	int bad = 0;

	memset(text, 'A', MAX_TEXT);
	memset(lowered, 'a', n);
	lowered[n / 2] = 'b';
	needle_init(&needle, lowered, n);
	if (needle_in(&needle, text, MAX_TEXT) || plain_needle_in(&needle, text, MAX_TEXT))
		bad++;
	text[MAX_TEXT - n / 2 - 1] = 'B';
	if (!needle_in(&needle, text, MAX_TEXT) || !plain_needle_in(&needle, text, MAX_TEXT))
		bad++;
	text[MAX_TEXT - n / 2 - 1] = 'A';
	text[MAX_TEXT - n / 2] = 'B';
	if (needle_in(&needle, text, MAX_TEXT) || plain_needle_in(&needle, text, MAX_TEXT))
		bad++;
	free(lowered);
	tap_is(bad, 0, "a long needle in a long text, that match nearly everywhere");
}

static void
test_digests(void)
{
	static char text[100000];
	static uint64_t digest[4096];
	static char words_of_text[300][10];
	int bad = 0;
	int passed = 0;
	int asked = 0;

	for (int w = 0; w < 300; w++)
		for (int i = 2 + rnd(7); i >= 0; i--)
			words_of_text[w][i] = "etaoinshrdlcumwfgypbvkETAOIN"[rnd(28)];
	for (uint32_t len = 0; len < 600; len++)
		if (digest_words(len) != plain_digest_words(len) || digest_words(len) * 64 > len)
			bad++;
	if (digest_words(SIZE_MAX) > 4096)
		bad++;
	for (int round = 0; round < 300; round++)
	{
		uint32_t len = round < 290 ? 128 + rnd(3000) : 50000 + rnd(50000);
		uint32_t words = digest_words(len);

		/* Words, as in a text of some language; a few of any bytes. */
		for (uint32_t i = 0; i < len;)
		{
			const char *word = words_of_text[rnd(300)];

			for (; *word && i < len; word++)
				text[i++] = rnd(100) ? *word : (char) rnd(256);
			if (i < len)
				text[i++] = ' ';
		}
		digest_make(digest, words, text, len);
		for (int i = 0; i < 40; i++)
		{
			char bytes[64];
			uint32_t n = rnd(sizeof(bytes));
			Needle needle;

			memcpy(bytes, text + rnd(len - n), n);
			needle_init(&needle, bytes, n);
			if (needle.nprobes > SEARCH_MAX_PROBES || !digest_may_have(digest, words, &needle))
				bad++;
			if (len > 3200)
				continue;
			for (n = 0; n < 10; n++)
				bytes[n] = 'a' + rnd(26);
			needle_init(&needle, bytes, n);
			asked++;
			passed += digest_may_have(digest, words, &needle);
		}
	}
	tap_is(bad, 0, "a digest has what the text has");
	tap_note("%d of %d texts without a needle of 10 bytes had to be read", passed, asked);
	tap_ok(passed < asked / 4, "... and mostly denies what it has not");
}

int
main(void)
{
	long page = sysconf(_SC_PAGESIZE);
	char *pages =
		mmap(NULL, MAX_TEXT + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	page_end = pages + MAX_TEXT + page;
	mprotect(page_end, page, PROT_NONE);
	test_small();
	test_places();
	test_two_way();
	test_long();
	test_digests();
	return tap_done();
}
