/*-------------------------------------------------------------------------
 *
 * scratch.h
 *		Memory for the length of a call, which the process keeps for the next one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_SCRATCH_H
#define NETBUS_SCRATCH_H

typedef struct Scratch Scratch;

/* Lasts as long as CurrentMemoryContext, with whose end its memory is given back. */
extern Scratch *scratch_open(void);

/* Memory that lasts as long as the scratch; it cannot be freed before. */
extern void *scratch_alloc(Scratch *scratch, Size size);

#endif /* NETBUS_SCRATCH_H */
