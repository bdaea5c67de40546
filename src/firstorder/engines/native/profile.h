/* Where the time of an inner step goes, if compiled with -DPROFILE. Otherwise the macros are empty and there is no
   clock.

   Thread 0 reads a clock at the end of each phase and adds the ticks since the last reading to that phase of a block,
   so what it waits at a barrier counts to the phase after it. The counts are those of all networks of the process, of
   which only one may be computed at a time. */

#define NETWORK BLOCKS /* in place of a block, for phases of the whole network */

#ifdef PROFILE
/* The phases, and what Python calls them, in the same order. */
enum { KERNELS, IMAGES, Y, MOMENTS, ACTIVATION, DZ_SUMS, DY, DX, DK, HEAD, OPTIMISER, PHASES };
const char *const phase_names =
    "kernels arranged, images taken, convolution y, moments and pooling, activation, "
    "sums of the backward normalisation, dy, dx, dK, head, optimiser";

static uint64_t phase_ticks[BLOCKS + 1][PHASES];
static _Thread_local uint64_t last_reading; /* 0: this thread does not count */

static uint64_t ticks(void) {
#ifdef __x86_64__
    return __builtin_ia32_rdtsc();
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + now.tv_nsec;
#endif
}

static void begin_phases(int rank) { last_reading = rank == 0 ? ticks() : 0; }

static void end_phase(int block, int phase) {
    if (!last_reading) return;
    const uint64_t now = ticks();
    phase_ticks[block][phase] += now - last_reading;
    last_reading = now;
}

/* Copy the ticks of all phases to counts [BLOCKS + 1][PHASES] and clear them; return the clock. */
uint64_t take_phases(uint64_t *counts) {
    memcpy(counts, phase_ticks, sizeof phase_ticks);
    memset(phase_ticks, 0, sizeof phase_ticks);
    return ticks();
}

#define BEGIN_PHASES(RANK) begin_phases(RANK)
#define END_PHASE(BLOCK, PHASE) end_phase(BLOCK, PHASE)
#else
#define BEGIN_PHASES(RANK) ((void)0)
#define END_PHASE(BLOCK, PHASE) ((void)0)
#endif
