/*-------------------------------------------------------------------------
 *
 * hash_avx2.c
 *		xxh3 for processors with AVX2.
 *
 * To be compiled with -mavx2, which makes libxxhash's header choose its AVX2
 * loop; without the option this file is empty and hash.c does all the work.
 * Nothing but hash.c may call this, after it has asked the processor.  All of
 * the header's functions are static here, so that no AVX2 copy of one can
 * take the place of another file's.
 *
 *-------------------------------------------------------------------------
 */
#include <stddef.h>
#include <stdint.h>

#ifdef __AVX2__

#define XXH_INLINE_ALL
#include <xxhash.h>

extern uint64_t nb_hash64_avx2(const void *data, size_t len, uint64_t seed);

uint64_t
nb_hash64_avx2(const void *data, size_t len, uint64_t seed)
{
	return XXH3_64bits_withSeed(data, len, seed);
}

#else

/* ISO C wants a declaration in every file. */
typedef int hash_avx2_is_empty;

#endif /* __AVX2__ */
