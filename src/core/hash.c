/*-------------------------------------------------------------------------
 *
 * hash.c
 *		xxh3, with a wider build for long input.
 *
 * libxxhash's header is compiled in twice: here for the baseline of the
 * platform (SSE2 on x86-64), and in hash_avx2.c, which the Makefile builds
 * with -mavx2 on x86-64.  Up to 240 bytes xxh3 has no vector loop, so such
 * input is hashed here without asking; beyond that one indirect call goes to
 * the build that the processor can run.  Both builds give the same result, so
 * it does not matter that two threads might both make the choice.
 *
 * The reference to the other build is weak.  Where hash_avx2.c is missing or
 * was compiled without -mavx2 (and is thus empty), the symbol is null and
 * everything is hashed here.  If this file itself is compiled for AVX2 or
 * better, there is nothing to choose.
 *
 *-------------------------------------------------------------------------
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/hash.h"

/* Longest input that xxh3 hashes without its vector loop. */
#define HASH_SHORT_MAX 240

#if defined(__x86_64__) && defined(__GNUC__) && defined(__ELF__) && !defined(__AVX2__)
#define HASH_CHOOSE
#endif

#ifdef HASH_CHOOSE

typedef uint64_t (*HashFunction)(const void *data, size_t len, uint64_t seed);

extern uint64_t nb_hash64_avx2(const void *data, size_t len, uint64_t seed) __attribute__((weak));

static uint64_t hash_long_choose(const void *data, size_t len, uint64_t seed);

static HashFunction hash_long = hash_long_choose;

static uint64_t
hash_long_baseline(const void *data, size_t len, uint64_t seed)
{
	return XXH3_64bits_withSeed(data, len, seed);
}

/* The first long hash comes here; later ones go where it leads. */
static uint64_t
hash_long_choose(const void *data, size_t len, uint64_t seed)
{
	HashFunction chosen = hash_long_baseline;

	__builtin_cpu_init();
	if (nb_hash64_avx2 != NULL && __builtin_cpu_supports("avx2"))
		chosen = nb_hash64_avx2;

	hash_long = chosen;
	return chosen(data, len, seed);
}

#endif /* HASH_CHOOSE */

uint64_t
nb_hash64(const void *data, size_t len, uint64_t seed)
{
#ifdef HASH_CHOOSE
	if (len > HASH_SHORT_MAX)
		return hash_long(data, len, seed);
#endif
	return XXH3_64bits_withSeed(data, len, seed);
}
