/*-------------------------------------------------------------------------
 *
 * tap.h
 *		Just enough of the Test Anything Protocol for unit tests in plain C.
 *
 * A test is one program.  It calls tap_ok() and tap_is() for what should
 * hold, and returns tap_done() from main().  A check over a great many cases
 * is one line of output: count the failures, describe the first of them with
 * tap_note(), and expect none.
 *
 *-------------------------------------------------------------------------
 */
#ifndef NETBUS_TAP_H
#define NETBUS_TAP_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

static int tap_count;
static int tap_failed;

/* A line that explains; harnesses ignore it. */
__attribute__((format(printf, 1, 2), unused)) static void
tap_note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("# ");
	vprintf(format, args);
	printf("\n");
	va_end(args);
	fflush(stdout);
}

__attribute__((format(printf, 2, 3), unused)) static bool
tap_ok(bool pass, const char *format, ...)
{
	va_list args;

	tap_count++;
	if (!pass)
		tap_failed++;

	va_start(args, format);
	printf("%s %d - ", pass ? "ok" : "not ok", tap_count);
	vprintf(format, args);
	printf("\n");
	va_end(args);

	/* what was reached must be seen even if the next check crashes */
	fflush(stdout);
	return pass;
}

__attribute__((unused)) static bool
tap_is(uint64_t found, uint64_t expected, const char *description)
{
	if (found != expected)
		tap_note("found %" PRIu64 " (0x%" PRIx64 "), expected %" PRIu64 " (0x%" PRIx64 ")", found,
				 found, expected, expected);
	return tap_ok(found == expected, "%s", description);
}

/* Prints the plan; the result is the program's exit status. */
__attribute__((unused)) static int
tap_done(void)
{
	if (tap_failed > 0)
		tap_note("%d of %d checks failed", tap_failed, tap_count);
	printf("1..%d\n", tap_count);
	return tap_failed > 0 ? 1 : 0;
}

#endif /* NETBUS_TAP_H */
