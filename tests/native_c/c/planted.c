/* planted.c - faults on purpose: a tool that does not end this program would not see ours either.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile int64_t one = 1;
static volatile double much = 1e30;
static int shared;

static int overrun(void) {
    volatile char *memory = malloc((size_t)(16 * one));
    memory[16 * one - 1] = 1;
    char beyond = memory[16 * one];
    free((void *)(uintptr_t)memory);
    return beyond == 77;
}

static int leak(void) {
    void *volatile memory = malloc((size_t)(1000 * one));
    memory = NULL;
    return memory != NULL;
}

static int overflow(void) {
    volatile int64_t sum = INT64_MAX - 1;
    sum += 2 * one;
    return sum == 77;
}

static int cast(void) {
    return (int)much == 77;
}

static int bounds(void) {
    int numbers[4] = {0};
    return numbers[one + 3] == 77;
}

static int unset(void) {
    int *memory = malloc(16);
    int found = memory[one] == 77;
    free(memory);
    return found ? 1 : (int)(one - 1);
}

static void *count(void *unused) {
    for (int i = 0; i < 1000; i++)
        shared++;
    return unused;
}

static int race(void) {
    pthread_t other;
    if (pthread_create(&other, NULL, count, NULL) != 0)
        return 1;
    count(NULL);
    pthread_join(other, NULL);
    return 0;
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int (*commit)(void);
    } faults[] = {{"overrun", overrun}, {"leak", leak}, {"overflow", overflow}, {"cast", cast},
                  {"bounds", bounds},   {"race", race}, {"unset", unset}};
    for (size_t i = 0; argc == 2 && i < sizeof faults / sizeof *faults; i++)
        if (strcmp(argv[1], faults[i].name) == 0)
            return faults[i].commit();
    fprintf(stderr, "planted: expected the name of one fault\n");
    return 0;
}
