/* The differences between POSIX and Windows that the C code meets. `_connect/platform.py` has those of the Python code.
 *
 * READS_DESCRIPTORS is 0 if headrace must leave sockets to the event loop. Proactor loops, the default of Windows, have
 * a receive under way at all times: bytes that somebody else received would be missing there.
 */
#ifndef HEADRACE_PLATFORM_H
#define HEADRACE_PLATFORM_H

#ifdef _WIN32

#include <winsock2.h>
#include <ws2tcpip.h>
#include <windows.h>
#include <stddef.h>
#include <string.h>

#define READS_DESCRIPTORS 0

#define strncasecmp _strnicmp

/* The performance counter goes on while the machine sleeps. */
static inline double boot_seconds(void)
{
    LARGE_INTEGER now, frequency;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&now);
    return (double)now.QuadPart / (double)frequency.QuadPart;
}

static inline double monotonic_seconds(void)
{
    return boot_seconds();
}

/* Nothing is received here; see READS_DESCRIPTORS. */
static inline ptrdiff_t receive_now(int descriptor, char *place, ptrdiff_t room)
{
    (void)descriptor, (void)place, (void)room;
    return -1;
}

static inline ptrdiff_t send_now(int descriptor, const char *data, ptrdiff_t size)
{
    (void)descriptor, (void)data, (void)size;
    return -1;
}

static inline int has_unread(int descriptor)
{
    (void)descriptor;
    return 0;
}

#else

#include <arpa/inet.h>
#include <stddef.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

#define READS_DESCRIPTORS 1

/* Seconds that go on while the machine sleeps: CLOCK_BOOTTIME where there is one (clock_gettime(2)), the wall clock
   elsewhere. A server ends its sessions meanwhile, and a clock that stands still would not tell. */
static inline double boot_seconds(void)
{
    struct timespec now;
#ifdef CLOCK_BOOTTIME
    clock_gettime(CLOCK_BOOTTIME, &now);
#else
    clock_gettime(CLOCK_REALTIME, &now);
#endif
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline double monotonic_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Receive what is there; returns the number of bytes, 0 at the end of the stream, -1 if there is nothing or an error. */
static inline ptrdiff_t receive_now(int descriptor, char *place, ptrdiff_t room)
{
    return recv(descriptor, place, (size_t)room, MSG_DONTWAIT);
}

/* Send what the socket takes at once; returns the number of bytes, -1 if it takes nothing or in case of an error. */
static inline ptrdiff_t send_now(int descriptor, const char *data, ptrdiff_t size)
{
#ifdef MSG_NOSIGNAL
    return send(descriptor, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
#else
    return send(descriptor, data, (size_t)size, MSG_DONTWAIT);
#endif
}

/* Whether there is something to read: data, or the end of the stream. */
static inline int has_unread(int descriptor)
{
    char byte;
    return recv(descriptor, &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0;
}

#endif

#endif
