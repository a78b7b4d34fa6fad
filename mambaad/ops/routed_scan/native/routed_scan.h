/* The scan as its callers see it: ctypes (../native.py) and onnxruntime (onnxruntime.c). */

#ifndef ROUTED_SCAN_H
#define ROUTED_SCAN_H

#include <stdint.h>

#define GROUP 4 /* at most so many vectors of channels side by side share a gathered row */

typedef struct {
    int64_t B, L, K, D, N, R; /* batch, tokens, routes, channels, states, rank of the step size */
    int64_t threads, stretches; /* the channels of a batch row are shared out among so many tasks */
    const float *x, *projected;               /* (B, L, D), (B, L, K, R + 2N) */
    const int64_t *table;                     /* (K, L) */
    const float *dt_proj, *dt_bias, *A, *skip; /* (K, D, R), (K, D), (K, D, N), (K, D) */
    float *y, *states;                        /* (B, L, D); null or state_floats() */
    const float *dy;                          /* (B, L, D) */
    float *dx, *dprojected;                   /* (B, L, D), (stretches, B, L, K, R + 2N) */
    float *ddt_proj, *ddt_bias, *dA, *dskip;  /* as above, for each batch row: (B, ...) */
} Scan;

/* Index of the best instruction set that this processor has. */
int routed_scan_best(void);

/* Channels that the i-th instruction set treats at once. */
int64_t routed_scan_lanes(int i);

/* Forward of one task, 0 .. B * stretches - 1.  Returns 0, or 1 if memory ran out. */
int routed_scan_task(const Scan *s, int set, int64_t task);

#endif
