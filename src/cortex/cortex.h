/*-------------------------------------------------------------------------
 *
 * cortex.h
 *		Models: logs folded into records that are found by index.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_CORTEX_H
#define NETBUS_CORTEX_H

#include "bus/bus.h"

extern void nb_cortex_init(void);
extern Size nb_cortex_shmem_size(void);
extern void nb_cortex_shmem_request(void);
extern void nb_cortex_shmem_init(void);

#endif /* NETBUS_CORTEX_H */
