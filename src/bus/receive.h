/*-------------------------------------------------------------------------
 *
 * receive.h
 *		What receive() shares with the end of the transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_RECEIVE_H
#define NETBUS_RECEIVE_H

/* At the end of a (sub)transaction: this process does not wait for events any more.  Cannot fail. */
extern void receive_end_wait(void);

#endif /* NETBUS_RECEIVE_H */
