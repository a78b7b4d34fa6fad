/* The selective scan along routes through an image, forward and backward, for the CPU.

   A shared library without any header of Python or torch: pointers come in through ctypes, or from onnxruntime
   (onnxruntime.c).  What is computed: ../README.md; the definition in torch: ../naive.py; how it is called: ../native.py.

   The text of the scan (scan.h) is compiled once per instruction set; the best one that this processor has is taken
   when the library is called. */

#include "routed_scan.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif

#define STEPS 32 /* steps of time in a chunk: the state is kept for the backward once per chunk */
#define INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define PADDED(count, block) (((count) + (block)-1) / (block) * (block))
#define CHUNKS(length) (((length) + STEPS - 1) / STEPS)
#define HIDE(v) __asm__("" : "+v"(v))

#define STATES(s, b, k, c)                                                                                             \
    ((s)->states + (((b) * (s)->K + (k)) * CHUNKS((s)->L) + (c)) * PADDED((s)->D, LANES) * PADDED((s)->N, BLOCK))

/* Lane l of a mix of vectors a and b: from a where l < LANES, from b where beyond.  See sums() in scan.h. */
#define KEEP(l, s) (((l) & (s)) ? LANES + (l) : (l))
#define SWAP(l, s) (((l) & (s)) ? LANES + (l) - (s) : (l) + (s))
#define CROSS(l, s) ((l) ^ (s))
#define EACH4(F, s) F(0, s), F(1, s), F(2, s), F(3, s)
#define EACH8(F, s) EACH4(F, s), F(4, s), F(5, s), F(6, s), F(7, s)
#define EACH16(F, s) EACH8(F, s), F(8, s), F(9, s), F(10, s), F(11, s), F(12, s), F(13, s), F(14, s), F(15, s)
#if defined(__clang__)
#define MIX(a, b, F, s) __builtin_shufflevector(a, b, EACH(F, s))
#else
#define MIX(a, b, F, s) __builtin_shuffle(a, b, (vi){EACH(F, s)})
#endif
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define FN(name) JOIN(name, SUFFIX)

#define PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define BEGIN(set) PRAGMA(clang attribute push(__attribute__((target(set))), apply_to = function))
#define END PRAGMA(clang attribute pop)
#else
#define BEGIN(set) PRAGMA(GCC push_options) PRAGMA(GCC target(set))
#define END PRAGMA(GCC pop_options)
#endif

#if defined(__x86_64__)
#define LANES 16
#define BLOCK 4
#define EACH EACH16
#define SUFFIX _avx512
BEGIN("avx512f,avx512vl,avx512dq,fma")
#include "scan.h"
END
#undef LANES
#undef BLOCK
#undef EACH
#undef SUFFIX
#define LANES 8
#define BLOCK 4
#define EACH EACH8
#define SUFFIX _avx2
BEGIN("avx2,fma")
#include "scan.h"
END
#undef LANES
#undef BLOCK
#undef EACH
#undef SUFFIX
#endif
#define LANES 4
#define BLOCK 2
#define EACH EACH4
#define SUFFIX _plain
#include "scan.h"

typedef struct {
    const char *name;
    int64_t lanes, block;
    void (*forward)(const Scan *, int64_t, int64_t, int64_t, float *);
    void (*backward)(const Scan *, int64_t, int64_t, int64_t, float *, int, float *);
    int64_t (*work_floats)(const Scan *);
} Set;

static const Set sets[] = { /* best first */
#if defined(__x86_64__)
    {"AVX-512", 16, 4, forward_avx512, backward_avx512, work_floats_avx512},
    {"AVX2", 8, 4, forward_avx2, backward_avx2, work_floats_avx2},
#endif
    {"plain", 4, 2, forward_plain, backward_plain, work_floats_plain},
};
#define SETS ((int)(sizeof sets / sizeof *sets))

/* Name of the i-th instruction set this library has text for; null past the end. */
const char *routed_scan_set(int i) { return i >= 0 && i < SETS ? sets[i].name : 0; }

/* Whether this processor can run the i-th. */
int routed_scan_runs(int i) {
    if (i < 0 || i >= SETS) return 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (sets[i].lanes == 16)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma");
    if (sets[i].lanes == 8) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return 1;
}

int routed_scan_best(void) {
    int i = 0;
    while (!routed_scan_runs(i)) i++;
    return i;
}

int64_t routed_scan_lanes(int i) { return sets[i].lanes; }

/* Floats that the forward leaves for the backward in `states`. */
int64_t routed_scan_state_floats(const Scan *s, int set) {
    return s->B * s->K * CHUNKS(s->L) * PADDED(s->D, sets[set].lanes) * PADDED(s->N, sets[set].block);
}

static float *work_memory(const Scan *s, const Set *set) {
    return aligned_alloc(64, (size_t)(4 * set->work_floats(s) + 63) / 64 * 64);
}

/* One task: a batch row and a stretch of its channels. */
static void run_task(const Scan *s, const Set *set, int backward, int64_t task, float *memory) {
    int64_t lanes = set->lanes, vectors = (s->D + lanes - 1) / lanes;
    int64_t b = task / s->stretches, stretch = task % s->stretches;
    int64_t from = vectors * stretch / s->stretches * lanes, to = vectors * (stretch + 1) / s->stretches * lanes;
    float *dprojected = s->dprojected + (stretch * s->B + b) * s->L * s->K * (s->R + 2 * s->N);
    for (int64_t d = from; d < MIN(to, s->D); d += GROUP * lanes) {
        int64_t end = MIN(d + GROUP * lanes, MIN(to, s->D));
        if (backward)
            set->backward(s, b, d, end, dprojected, d == from, memory);
        else
            set->forward(s, b, d, end, memory);
    }
}

int routed_scan_task(const Scan *s, int set, int64_t task) {
    float *memory = work_memory(s, &sets[set]);
    if (memory) run_task(s, &sets[set], 0, task, memory);
    free(memory);
    return !memory;
}

typedef struct {
    const Scan *scan;
    const Set *set;
    int backward;
    atomic_llong next; /* task to take */
    atomic_int failed;
} Job;

/* Takes tasks until none is left. */
static void work(void *argument) {
    Job *job = argument;
    const Scan *s = job->scan;
    float *memory = 0;
    for (;;) {
        int64_t task = atomic_fetch_add(&job->next, 1);
        if (task >= s->B * s->stretches) break;
        if (!memory && !(memory = work_memory(s, job->set))) {
            atomic_store(&job->failed, 1);
            break;
        }
        run_task(s, job->set, job->backward, task, memory);
    }
    free(memory);
}

#if !defined(_WIN32)
static void *work_thread(void *argument) {
    work(argument);
    return 0;
}
#endif

/* Runs the scan or its adjoint.  `parallel` is OpenMP's GOMP_parallel where torch has brought one (its threads are awake then),
   or null for threads of our own.  Returns 0, or 1 if memory ran out. */
int routed_scan_run(
    const Scan *s, int set, int backward, void (*parallel)(void (*)(void *), void *, unsigned, unsigned)
) {
    Job job = {s, &sets[set], backward, 0, 0};
    int64_t tasks = s->B * s->stretches, threads = MIN(s->threads, tasks);
    if (threads <= 1) {
        work(&job);
    } else if (parallel) {
        parallel(work, &job, (unsigned)threads, 0);
    } else {
#if defined(_WIN32)
        work(&job);
#else
        pthread_t others[64];
        int started = 0;
        while (started < MIN(threads - 1, 64) && !pthread_create(&others[started], 0, work_thread, &job)) started++;
        work(&job);
        for (int i = 0; i < started; i++) pthread_join(others[i], 0);
#endif
    }
    return atomic_load(&job.failed);
}
