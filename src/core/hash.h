/*-------------------------------------------------------------------------
 *
 * hash.h
 *		xxh3, the one hash of netbus: frame checksums and key routing.
 *
 * Short input is hashed inline.  Long input goes to a build of the same
 * function that the processor's widest vectors serve, chosen once at first
 * use: every build gives the same result.  Plain C.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_HASH_H
#define NETBUS_HASH_H

#include <stddef.h>
#include <stdint.h>

/* xxh3-64 of any bytes, any length. */
extern uint64_t nb_hash64(const void *data, size_t len, uint64_t seed);

#endif /* NETBUS_HASH_H */
