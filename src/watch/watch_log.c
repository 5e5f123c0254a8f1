#include "postgres.h"
#include "watch/watch.h"
void
watch_log_add(Watch *watch, bool known)
{
}
void
watch_log_remove(Watch *watch)
{
}
void
watch_log_free(WatchedLog *log)
{
}
long
watch_log_run(WatchedLog *log)
{
	return -1;
}
bool
watch_log_idle(const Watch *watch)
{
	return true;
}
void
watch_log_seqs(const Watch *watch, StringInfo payload)
{
}
void
watch_log_told(Watch *watch)
{
}
