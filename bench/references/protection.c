/* Appel and Li's measures by mprotect and SIGSEGV, in one process: what plain Linux takes for them.

   Told over its stdin what to do, it answers on its stdout, as bench/worker.py says. What is done to the pages is
   what bench/programs/pages.py and toucher.py do to theirs. */

#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE = 4096, PAGES = 100, STRIDE = 37 };

static volatile char *pages;
static volatile sig_atomic_t swaps; /* The handler protects the page it let go last. */
static volatile int last;
static char dirty[PAGES];

static void protect(int first, int count, int rights)
{
    if (mprotect((char *)pages + (size_t)first * PAGE, (size_t)count * PAGE, rights))
        abort();
}

static void handle(int number, siginfo_t *what, void *context)
{
    (void)number, (void)context;
    uintptr_t at = (uintptr_t)what->si_addr - (uintptr_t)pages;
    if (at >= (uintptr_t)PAGES * PAGE)
        abort();
    int page = (int)(at / PAGE);
    if (swaps)
        protect(last, 1, PROT_READ);
    protect(page, 1, PROT_READ | PROT_WRITE);
    last = page;
    dirty[page] = 1;
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void write_all(void)
{
    for (int at = 0; at < PAGES; at++)
        pages[(size_t)(at * STRIDE % PAGES) * PAGE] = 1;
}

static int64_t sample(const char *what, long number)
{
    int page = (int)(number * STRIDE % PAGES);
    int64_t start, end;
    swaps = !strcmp(what, "appel1");
    if (!strcmp(what, "prot1")) {
        start = now(), protect(page, 1, PROT_READ), end = now();
        protect(page, 1, PROT_READ | PROT_WRITE);
        return end - start;
    }
    if (!strcmp(what, "prot100")) {
        start = now(), protect(0, PAGES, PROT_READ), end = now();
        protect(0, PAGES, PROT_READ | PROT_WRITE);
        return end - start;
    }
    if (!strcmp(what, "unprot100")) {
        protect(0, PAGES, PROT_READ);
        start = now(), protect(0, PAGES, PROT_READ | PROT_WRITE), end = now();
        return end - start;
    }
    if (!strcmp(what, "trap") || swaps) {
        if (!page)
            protect(0, PAGES, PROT_READ);
        start = now(), pages[(size_t)page * PAGE] = 1, end = now();
        return end - start;
    }
    if (!strcmp(what, "appel2")) {
        start = now(), protect(0, PAGES, PROT_READ), write_all(), end = now();
        return (end - start) / PAGES;
    }
    if (strcmp(what, "dirty"))
        abort();
    protect(0, PAGES, PROT_READ);
    memset(dirty, 0, sizeof dirty);
    start = now(), write_all();
    int found = 0;
    for (int at = 0; at < PAGES; at++)
        found += dirty[at], dirty[at] = 0;
    protect(0, PAGES, PROT_READ);
    end = now();
    protect(0, PAGES, PROT_READ | PROT_WRITE);
    if (found != PAGES)
        abort();
    return (end - start) / PAGES;
}

int main(void)
{
    pages = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        abort();
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    write_all();
    char what[16];
    long count;
    printf("\n"), fflush(stdout);
    while (scanf("%15s %ld", what, &count) == 2) {
        printf("[");
        for (long number = 0; number < count; number++)
            printf("%s%lld", number ? "," : "", (long long)sample(what, number));
        printf("]\n"), fflush(stdout);
    }
    return 0;
}
