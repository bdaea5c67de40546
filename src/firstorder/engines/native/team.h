/* Threads that compute one mini-batch together. All run the same function and wait for one another at barriers. What a
   thread computes depends on how many there are, but no sum does, so results have the same bytes with any number. */

typedef struct {
    int threads;
    atomic_int go, arrived, round;
} team;

#ifdef __x86_64__
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() ((void)0)
#endif

/* Wait until `*value` is no longer `old`: for some 50 microseconds without giving up the core, as waits are short. */
static void wait_while(atomic_int *value, int old) {
    for (long tries = 0; atomic_load_explicit(value, memory_order_acquire) == old; tries++) {
        if (tries < 1000) PAUSE();
        else sched_yield();
    }
}

/* Wait for all threads of the team. */
static void barrier(team *t) {
    if (t->threads == 1) return;
    const int round = atomic_load_explicit(&t->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) == t->threads - 1) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&t->round, round + 1, memory_order_release);
    } else {
        wait_while(&t->round, round);
    }
}

typedef struct {
    team *team;
    int rank;
    void (*body)(team *, int rank, void *given);
    void *given;
} member;

static void *join_in(void *argument) {
    const member *m = argument;
    wait_while(&m->team->go, 0);
    if (m->rank < m->team->threads) m->body(m->team, m->rank, m->given);
    return NULL;
}

/* Run `body` with ranks 0 to threads - 1 at the same time; with fewer threads where the system refuses more. */
static void together(int threads, void (*body)(team *, int, void *), void *given) {
    team t = {.threads = 1};
    pthread_t others[MOST_THREADS];
    member members[MOST_THREADS];
    sigset_t all, before;
    if (threads > 1) { /* signals are for the thread that called */
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &before);
        for (; t.threads < threads; t.threads++) {
            member *m = &members[t.threads];
            *m = (member){&t, t.threads, body, given};
            if (pthread_create(&others[t.threads], NULL, join_in, m)) break;
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        atomic_store_explicit(&t.go, 1, memory_order_release);
    }
    body(&t, 0, given);
    for (int rank = 1; rank < t.threads; rank++) pthread_join(others[rank], NULL);
}
