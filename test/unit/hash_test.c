/*-------------------------------------------------------------------------
 *
 * hash_test.c
 *		One hash, whichever build of it the processor gets.
 *
 * link: src/core/hash_avx2.c
 *
 * hash.c is linked as in the extension, and compiled in a second time below
 * with a name for the AVX2 build that nobody defines: that is how it looks
 * where the other build is missing.  The frozen results were computed with
 * the shared library libxxhash.so.0 (0.8.1); stored checksums depend on them.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "tap.h"

extern uint64_t hash64_baseline(const void *data, size_t len, uint64_t seed);

#define nb_hash64      hash64_baseline
#define nb_hash64_avx2 hash64_nowhere
#include "core/hash.c"
#undef nb_hash64
#undef nb_hash64_avx2

#if defined(__x86_64__) && defined(__ELF__)
extern uint64_t nb_hash64_avx2(const void *data, size_t len, uint64_t seed) __attribute__((weak));
#define HAVE_AVX2_BUILD (nb_hash64_avx2 != NULL)
#define HAVE_AVX2       (__builtin_cpu_supports("avx2") != 0)
#else
#define HAVE_AVX2_BUILD false
#define HAVE_AVX2       false
#endif

#define INPUT_BYTES 65536

typedef struct Vector
{
	size_t len;
	uint64_t seed;
	uint64_t hash;
} Vector;

static const Vector vectors[] = {
	{0, UINT64_C(0x0), UINT64_C(0x2d06800538d394c2)},
	{0, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0x602b0e2cd6662c8b)},
	{1, UINT64_C(0x0), UINT64_C(0x429e81bc6744101c)},
	{1, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0x7b7b554ad7c74e73)},
	{3, UINT64_C(0x0), UINT64_C(0x32dbb5c7774cc94f)},
	{3, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0xd9ccce11c32ff4fc)},
	{4, UINT64_C(0x0), UINT64_C(0x65775238ca34c06f)},
	{4, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0x3a2de482afb6a55e)},
	{8, UINT64_C(0x0), UINT64_C(0x90b760c9d253d0ff)},
	{8, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0x43c268fd2fc452cf)},
	{9, UINT64_C(0x0), UINT64_C(0x15ae9f843bb50ea4)},
	{9, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0xdfafe0841328d89d)},
	{16, UINT64_C(0x0), UINT64_C(0x372c92fa68129c98)},
	{16, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0x7cfe1224c396b2d7)},
	{17, UINT64_C(0x0), UINT64_C(0xb5d6b9c1898bd9d6)},
	{17, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0x7751abfbac150046)},
	{52, UINT64_C(0x0), UINT64_C(0x83484aac88e51ec6)},
	{52, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0x550a2b889f925832)},
	{128, UINT64_C(0x0), UINT64_C(0xc59e505a97d029e0)},
	{128, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0xcfafd454c13d0835)},
	{129, UINT64_C(0x0), UINT64_C(0xf9e651a476d6d3ca)},
	{129, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0xf9c2a2a19700d2b8)},
	{240, UINT64_C(0x0), UINT64_C(0x967597e635f3c527)},
	{240, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0xfb8c80193c011bdb)},
	{241, UINT64_C(0x0), UINT64_C(0xd6afac6f8fa85b01)},
	{241, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0xdb3fdf81c3639f27)},
	{256, UINT64_C(0x0), UINT64_C(0x9e6593bab96413da)},
	{256, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0x77c4c9a32824f84a)},
	{1024, UINT64_C(0x0), UINT64_C(0xbb9f0c3761cdfd54)},
	{1024, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0x8b5ec2b786ce09b4)},
	{1025, UINT64_C(0x0), UINT64_C(0x95edccc1adc4d895)},
	{1025, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0x40aeebec14a5f6ef)},
	{8112, UINT64_C(0x0), UINT64_C(0x99a545f941ba1c72)},
	{8112, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0x82daa0ccea5631c9)},
	{65536, UINT64_C(0x0), UINT64_C(0xb25b6166131fa281)},
	{65536, UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0xdb0a35a21324f62e)},
};

static uint32_t random_state = 1;

static uint32_t
next_random(void)
{
	random_state = random_state * 1664525u + 1013904223u;
	return random_state;
}

static uint64_t
random64(void)
{
	uint64_t high = next_random();

	return high << 32 | next_random();
}

/* The bytes that the frozen results belong to. */
static unsigned char *
make_input(void)
{
	unsigned char *input = malloc(INPUT_BYTES);

	random_state = 1;
	for (size_t i = 0; i < INPUT_BYTES; i++)
		input[i] = next_random() >> 24;
	return input;
}

static void
test_vectors(const unsigned char *input)
{
	int wrong = 0;

	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
	{
		const Vector *v = &vectors[i];
		uint64_t built = nb_hash64(input, v->len, v->seed);
		uint64_t baseline = hash64_baseline(input, v->len, v->seed);

		if ((built != v->hash || baseline != v->hash) && wrong++ == 0)
			tap_note("length %zu, seed %" PRIx64 ": %" PRIx64 " and %" PRIx64 ", not %" PRIx64,
					 v->len, v->seed, built, baseline, v->hash);
	}
	tap_is(wrong, 0, "results are those of the library, which stored frames depend on");
}

static bool
same(const void *data, size_t len, uint64_t seed)
{
	uint64_t library = XXH3_64bits_withSeed(data, len, seed);

	return nb_hash64(data, len, seed) == library && hash64_baseline(data, len, seed) == library;
}

/*
 * Each input lies at the end of its own allocation, so that the sanitizer sees
 * a byte read too many, and therefore at any alignment.
 */
static int
count_differences(const unsigned char *input, size_t longest, size_t tries)
{
	int wrong = 0;

	for (size_t i = 0; i < tries; i++)
	{
		/* first the short ones in turn, then any */
		size_t len = i <= longest && i < 2000 ? i : next_random() % (longest + 1);
		size_t shift = next_random() >> 28;
		uint64_t seed = i % 3 == 0 ? 0 : random64();
		unsigned char *copy = malloc(shift + len);

		memcpy(copy + shift, input, len);
		if (!same(copy + shift, len, seed) && wrong++ == 0)
			tap_note("length %zu at shift %zu, seed %" PRIx64, len, shift, seed);
		free(copy);
	}
	return wrong;
}

int
main(void)
{
	unsigned char *input = make_input();
	uint64_t before;

	tap_note("AVX2 build %s, processor %s AVX2", HAVE_AVX2_BUILD ? "linked" : "missing",
			 HAVE_AVX2 ? "with" : "without");

	test_vectors(input);
	tap_is(count_differences(input, 400, 20000), 0, "both builds agree on short input");
	tap_is(count_differences(input, INPUT_BYTES, 10000), 0, "both builds agree on long input");
	tap_is(nb_hash64(NULL, 0, 7), nb_hash64("", 0, 7), "nothing may be a null pointer");

#if defined(__x86_64__) && defined(__ELF__)
	if (HAVE_AVX2_BUILD && HAVE_AVX2)
		tap_ok(nb_hash64_avx2(input, 1000, 3) == hash64_baseline(input, 1000, 3),
			   "the AVX2 build itself agrees");
	else
#endif
		tap_ok(true, "the AVX2 build itself agrees # SKIP no AVX2 here");

	/* not a test of xxh3, but that seed, length and every byte arrive there */
	tap_ok(nb_hash64(input, 300, 1) != nb_hash64(input, 300, 2), "the seed matters to long input");
	tap_ok(nb_hash64(input, 30, 1) != nb_hash64(input, 30, 2), "the seed matters to short input");
	tap_ok(nb_hash64(input, 300, 1) != nb_hash64(input, 301, 1), "the length matters");
	before = nb_hash64(input, INPUT_BYTES, 0);
	input[INPUT_BYTES - 1] ^= 1;
	tap_ok(nb_hash64(input, INPUT_BYTES, 0) != before, "the last byte matters");

	free(input);
	return tap_done();
}
