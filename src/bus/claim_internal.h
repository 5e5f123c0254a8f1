/*-------------------------------------------------------------------------
 *
 * claim_internal.h
 *		What claim.c, claim_outcome.c and claim_action.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_CLAIM_INTERNAL_H
#define NETBUS_CLAIM_INTERNAL_H

#include "bus/claim.h"

/* claim.c: an error once the transaction is being committed */
extern void claim_check_may(void);

/* claim_outcome.c */

/* Events that this transaction has been given. */
extern uint64 claim_events;

/* Before the commit: insert the rows that say what will be true.  May fail. */
extern void claim_insert_rows(Claim *claim);

/*
 * Store it in the slot; or count the delivery that has failed, alone if there was one
 * event in all; or go back to where a savepoint was, which is a failure, too.  They
 * cannot fail.
 */
extern void claim_commit(Claim *claim);
extern void claim_abort(Claim *claim, bool alone);
extern void claim_undo_to(Claim *claim, const ClaimProgress *before, bool alone);

/* claim_action.c: claim_add_action(), and the end of a (sub)transaction, which cannot fail */
extern bool claim_has_actions(void);
extern void claim_actions_end(bool commit);
extern void claim_actions_subxact_end(int level, bool commit);

#endif /* NETBUS_CLAIM_INTERNAL_H */
