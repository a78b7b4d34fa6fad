/* The scan and its adjoint for one batch row and a stretch of channels: the text of one instruction set.

   Included by routed_scan.c once per instruction set, with LANES, SUFFIX and TARGET defined.  Equations and names:
   ../README.md.  A lane is a channel.  STEPS steps of time at a time are gathered through the route's table into
   buffers that stay in the first-level cache; the states go through them BLOCK by BLOCK, so that they stay in
   registers.  Padded lanes and states hold zeros throughout. */

#include "lanes.h"

/* Channels d .. d + width - 1 of a row; the lanes beyond are 0, and are not written. */
static INLINE vf FN(load_part)(const float *row, int width) {
    if (width == LANES) return FN(load)(row);
    float part[LANES] = {0};
    for (int i = 0; i < width; i++) part[i] = row[i];
    return FN(load)(part);
}

static INLINE void FN(store_part)(float *row, int width, vf v) {
    if (width == LANES) {
        FN(store)(row, v);
        return;
    }
    float part[LANES];
    FN(store)(part, v);
    for (int i = 0; i < width; i++) row[i] = part[i];
}

static INLINE void FN(add_part)(float *row, int width, vf v) {
    FN(store_part)(row, width, FN(load_part)(row, width) + v);
}

/* The sums over the lanes of `count` vectors, in the first lanes of the result; count is a power of two <= LANES.

   Each level adds two vectors into one, which holds half as many terms of each: a transposition, half skipped. */
static INLINE vf FN(sums)(vf *v, int count) {
#define LEVEL(s)                                                                                                       \
    if (count > s)                                                                                                     \
        UNROLL for (int i = 0; i < s; i++) v[i] = MIX(v[i], v[i + s], KEEP, s) + MIX(v[i], v[i + s], SWAP, s);
#if LANES == 16
    LEVEL(8)
#endif
#if LANES >= 8
    LEVEL(4)
#endif
    LEVEL(2)
    LEVEL(1)
#undef LEVEL
    vf sum = v[0];
#if LANES == 16
    if (count <= 8) sum += MIX(sum, sum, CROSS, 8);
#endif
#if LANES >= 8
    if (count <= 4) sum += MIX(sum, sum, CROSS, 4);
#endif
    if (count <= 2) sum += MIX(sum, sum, CROSS, 2);
    return sum;
}

/* What a task works in; all arrays are parts of one allocation.  V: vectors of channels side by side. */
typedef struct {
    float *A2, *W, *bias, *D;         /* of the route: (V, N, LANES) A log2(e), (V, R, LANES), (V, LANES) twice */
    float *h, *g;                     /* (V, N, LANES): the state, and the adjoint handed to the step before */
    float *dA, *dW, *dbias, *dD;      /* sums over the route's steps, as the four above */
    float *rows, *drows;              /* (STEPS, P): dt, B, C of the chunk, and their gradients */
    float *x, *delta, *xd, *y;        /* (STEPS, LANES); y doubles as dy */
    float *slope, *dxd, *ddelta;      /* (STEPS, LANES): softplus', and sums over the states */
    float *decay, *before;            /* (STEPS, BLOCK, LANES): exp(delta A), and the state before the step */
} FN(Work);
#define Work FN(Work)

static int64_t FN(work_floats)(const Scan *s) {
    int64_t N = PADDED(s->N, BLOCK), R = PADDED(s->R, 4), P = R + 2 * N;
    return LANES * GROUP * (4 * N + 2 * R + 4) + STEPS * 2 * P + LANES * STEPS * (7 + 2 * BLOCK) + 32 * 16;
}

static void FN(lay_out)(const Scan *s, Work *w, float *memory) {
    memset(memory, 0, 4 * FN(work_floats)(s)); /* the padding must be 0 */
    int64_t N = PADDED(s->N, BLOCK), R = PADDED(s->R, 4), P = R + 2 * N;
#define TAKE(name, count) w->name = memory, memory += ((count) + 15) / 16 * 16
    TAKE(A2, LANES * GROUP * N), TAKE(W, LANES * GROUP * R), TAKE(bias, LANES * GROUP), TAKE(D, LANES * GROUP);
    TAKE(h, LANES * GROUP * N), TAKE(g, LANES * GROUP * N);
    TAKE(dA, LANES * GROUP * N), TAKE(dW, LANES * GROUP * R), TAKE(dbias, LANES * GROUP), TAKE(dD, LANES * GROUP);
    TAKE(rows, STEPS * P), TAKE(drows, STEPS * P);
    TAKE(x, LANES * STEPS), TAKE(delta, LANES * STEPS), TAKE(xd, LANES * STEPS), TAKE(y, LANES * STEPS);
    TAKE(slope, LANES * STEPS), TAKE(dxd, LANES * STEPS), TAKE(ddelta, LANES * STEPS);
    TAKE(decay, LANES * STEPS * BLOCK), TAKE(before, LANES * STEPS * BLOCK);
#undef TAKE
}

/* The parameters of route k for the channels from d0, lane by lane. */
static void FN(pack)(const Scan *s, const Work *w, int64_t k, int64_t d0, int64_t vectors) {
    int64_t N = PADDED(s->N, BLOCK), R = PADDED(s->R, 4);
    for (int64_t v = 0; v < vectors; v++)
        for (int64_t i = 0; i < LANES; i++) {
            int64_t d = d0 + v * LANES + i, kd = k * s->D + d;
            int inside = d < s->D;
            for (int64_t n = 0; n < N; n++)
                w->A2[(v * N + n) * LANES + i] = inside && n < s->N ? s->A[kd * s->N + n] * 1.44269504f : 0.0f;
            for (int64_t r = 0; r < R; r++)
                w->W[(v * R + r) * LANES + i] = inside && r < s->R ? s->dt_proj[kd * s->R + r] : 0.0f;
            w->bias[v * LANES + i] = inside ? s->dt_bias[kd] : 0.0f;
            w->D[v * LANES + i] = inside ? s->skip[kd] : 0.0f;
        }
}

/* dt, B and C of the chunk's tokens; asks the memory for those of the chunk that comes next. */
static void FN(gather_rows)(const Scan *s, const Work *w, const float *base, const int64_t *token, int steps) {
    int64_t N = PADDED(s->N, BLOCK), R = PADDED(s->R, 4), P = R + 2 * N, stride = s->K * (s->R + 2 * s->N);
    for (int t = 0; t < steps; t++) {
        const float *from = base + token[t] * stride;
        float *to = w->rows + t * P;
        memcpy(to, from, 4 * s->R);
        memcpy(to + R, from + s->R, 4 * s->N);
        memcpy(to + R + N, from + s->R + s->N, 4 * s->N);
    }
}

static INLINE void FN(prefetch)(const float *p, int64_t count) {
    for (int64_t i = 0; i < count; i += 16) __builtin_prefetch(p + i);
    __builtin_prefetch(p + count - 1);
}

/* x, delta, x delta of the chunk, for one vector of channels */
static INLINE void FN(inputs)(
    const Scan *s, const Work *w, const float *x, const int64_t *token, int steps, int64_t v, int width, int slope
) {
    int64_t N = PADDED(s->N, BLOCK), R = PADDED(s->R, 4), P = R + 2 * N;
    vf bias = FN(load)(w->bias + v * LANES);
    for (int t = 0; t < steps; t++) {
        const float *dt = w->rows + t * P, *W = w->W + v * R * LANES;
        vf z = bias, z2 = {0}, small;
        for (int64_t r = 0; r < R; r += 4) { /* two sums: half the wait for the last product */
            z += dt[r] * FN(load)(W + r * LANES) + dt[r + 1] * FN(load)(W + (r + 1) * LANES);
            z2 += dt[r + 2] * FN(load)(W + (r + 2) * LANES) + dt[r + 3] * FN(load)(W + (r + 3) * LANES);
        }
        z += z2;
        vf delta = FN(softplus)(z, &small);
        vf x_t = FN(load_part)(x + token[t] * s->D, width);
        FN(store)(w->x + t * LANES, x_t);
        FN(store)(w->delta + t * LANES, delta);
        FN(store)(w->xd + t * LANES, delta * x_t);
        if (slope) FN(store)(w->slope + t * LANES, FN(sigmoid)(z, small));
    }
}

static void FN(forward)(const Scan *s, int64_t b, int64_t d0, int64_t d1, float *memory) {
    int64_t N = PADDED(s->N, BLOCK), R = PADDED(s->R, 4), P = R + 2 * N, chunks = CHUNKS(s->L);
    int64_t row = s->K * (s->R + 2 * s->N), vectors = (d1 - d0 + LANES - 1) / LANES;
    const float *x = s->x + b * s->L * s->D + d0;
    float *y = s->y + b * s->L * s->D + d0;
    Work work, *w = &work;
    FN(lay_out)(s, w, memory);
    for (int64_t k = 0; k < s->K; k++) {
        const float *projected = s->projected + b * s->L * row + k * (s->R + 2 * s->N);
        FN(pack)(s, w, k, d0, vectors);
        memset(w->h, 0, 4 * GROUP * N * LANES);
        for (int64_t c = 0; c < chunks; c++) {
            const int64_t *token = s->table + k * s->L + c * STEPS;
            int steps = (int)MIN(STEPS, s->L - c * STEPS);
            int next = (int)MIN(STEPS, s->L - c * STEPS - steps); /* steps of the next chunk */
            FN(gather_rows)(s, w, projected, token, steps);
            for (int64_t v = 0; v < vectors; v++) {
                int width = (int)MIN(LANES, d1 - d0 - v * LANES);
                float *states = w->h + v * N * LANES;
                if (s->states)
                    memcpy(STATES(s, b, k, c) + (d0 / LANES + v) * N * LANES, states, 4 * N * LANES);
                FN(inputs)(s, w, x + v * LANES, token, steps, v, width, 0);
                vf skip = FN(load)(w->D + v * LANES);
                for (int t = 0; t < steps; t++) FN(store)(w->y + t * LANES, skip * FN(load)(w->x + t * LANES));
                for (int64_t n = 0; n < N; n += BLOCK) {
                    const float *B = w->rows + R + n, *C = B + N;
                    vf A2[BLOCK], h[BLOCK];
                    UNROLL for (int i = 0; i < BLOCK; i++) {
                        A2[i] = FN(load)(w->A2 + (v * N + n + i) * LANES);
                        h[i] = FN(load)(states + (n + i) * LANES);
                    }
                    for (int t = 0; t < steps; t++) {
                        vf delta = FN(load)(w->delta + t * LANES), xd = FN(load)(w->xd + t * LANES);
                        vf sum = FN(load)(w->y + t * LANES), sum2 = {0};
                        UNROLL for (int i = 0; i < BLOCK; i += 2) {
                            h[i] = FN(exp2_product)(delta, A2[i]) * h[i] + xd * B[t * P + i];
                            h[i + 1] = FN(exp2_product)(delta, A2[i + 1]) * h[i + 1] + xd * B[t * P + i + 1];
                            sum += h[i] * C[t * P + i];
                            sum2 += h[i + 1] * C[t * P + i + 1];
                        }
                        FN(store)(w->y + t * LANES, sum + sum2);
                        if (n == 0 && t < next) { /* while there is arithmetic to hide the way to memory behind */
                            int64_t ahead = token[steps + t];
                            if (v == 0) FN(prefetch)(projected + ahead * row, s->R + 2 * s->N);
                            FN(prefetch)(x + ahead * s->D + v * LANES, width);
                            FN(prefetch)(y + ahead * s->D + v * LANES, width);
                        }
                    }
                    UNROLL for (int i = 0; i < BLOCK; i++) FN(store)(states + (n + i) * LANES, h[i]);
                }
                for (int t = 0; t < steps; t++) {
                    float *out = y + token[t] * s->D + v * LANES;
                    vf value = FN(load)(w->y + t * LANES);
                    if (k == 0)
                        FN(store_part)(out, width, value);
                    else
                        FN(add_part)(out, width, value);
                }
            }
        }
    }
}

/* Gradients of one batch row and the channels d0 .. d1 - 1, given dy.  Sums over the channels go to `dprojected`, a
   (L, K, R + 2N) array of this stretch of channels alone; the caller adds them up. */
static void FN(backward)(const Scan *s, int64_t b, int64_t d0, int64_t d1, float *dprojected, int first, float *memory) {
    int64_t N = PADDED(s->N, BLOCK), R = PADDED(s->R, 4), P = R + 2 * N, chunks = CHUNKS(s->L);
    int64_t width_row = s->R + 2 * s->N, row = s->K * width_row, vectors = (d1 - d0 + LANES - 1) / LANES;
    const float *x = s->x + b * s->L * s->D + d0, *dy = s->dy + b * s->L * s->D + d0;
    float *dx = s->dx + b * s->L * s->D + d0;
    Work work, *w = &work;
    FN(lay_out)(s, w, memory);
    for (int64_t k = 0; k < s->K; k++) {
        const float *projected = s->projected + b * s->L * row + k * width_row;
        FN(pack)(s, w, k, d0, vectors);
        memset(w->g, 0, 4 * GROUP * N * LANES);
        memset(w->dA, 0, 4 * GROUP * N * LANES);
        memset(w->dW, 0, 4 * GROUP * R * LANES);
        memset(w->dbias, 0, 4 * GROUP * LANES);
        memset(w->dD, 0, 4 * GROUP * LANES);
        for (int64_t c = chunks - 1; c >= 0; c--) {
            const int64_t *token = s->table + k * s->L + c * STEPS;
            int steps = (int)MIN(STEPS, s->L - c * STEPS);
            FN(gather_rows)(s, w, projected, token, steps);
            memset(w->drows, 0, 4 * steps * P);
            for (int64_t v = 0; v < vectors; v++) {
                int width = (int)MIN(LANES, d1 - d0 - v * LANES);
                const float *states = STATES(s, b, k, c) + (d0 / LANES + v) * N * LANES;
                FN(inputs)(s, w, x + v * LANES, token, steps, v, width, 1);
                for (int t = 0; t < steps; t++)
                    FN(store)(w->y + t * LANES, FN(load_part)(dy + token[t] * s->D + v * LANES, width));
                memset(w->dxd, 0, 4 * steps * LANES);
                memset(w->ddelta, 0, 4 * steps * LANES);
                for (int64_t n = 0; n < N; n += BLOCK) {
                    const float *B = w->rows + R + n, *C = B + N;
                    float *dB = w->drows + R + n, *dC = dB + N;
                    vf A2[BLOCK], h[BLOCK], g[BLOCK], dA[BLOCK];
                    UNROLL for (int i = 0; i < BLOCK; i++) {
                        A2[i] = FN(load)(w->A2 + (v * N + n + i) * LANES);
                        h[i] = FN(load)(states + (n + i) * LANES);
                    }
                    for (int t = 0; t < steps; t++) { /* the chunk's states again */
                        vf delta = FN(load)(w->delta + t * LANES), xd = FN(load)(w->xd + t * LANES);
                        UNROLL for (int i = 0; i < BLOCK; i++) {
                            vf decay = FN(exp2_product)(delta, A2[i]);
                            FN(store)(w->decay + (t * BLOCK + i) * LANES, decay);
                            FN(store)(w->before + (t * BLOCK + i) * LANES, h[i]);
                            h[i] = decay * h[i] + xd * B[t * P + i];
                        }
                        if (n == 0 && c > 0) { /* the chunk before this one has STEPS steps */
                            int64_t ahead = token[t - STEPS];
                            if (v == 0) {
                                FN(prefetch)(projected + ahead * row, width_row);
                                FN(prefetch)(dprojected + ahead * row + k * width_row, width_row);
                            }
                            FN(prefetch)(x + ahead * s->D + v * LANES, width);
                            FN(prefetch)(dy + ahead * s->D + v * LANES, width);
                            FN(prefetch)(dx + ahead * s->D + v * LANES, width);
                        }
                    }
                    UNROLL for (int i = 0; i < BLOCK; i++) {
                        g[i] = FN(load)(w->g + (v * N + n + i) * LANES);
                        dA[i] = FN(load)(w->dA + (v * N + n + i) * LANES);
                    }
                    for (int t = steps - 1; t >= 0; t--) {
                        vf delta = FN(load)(w->delta + t * LANES), xd = FN(load)(w->xd + t * LANES);
                        vf dy_t = FN(load)(w->y + t * LANES), products[2 * BLOCK];
                        vf dxd = FN(load)(w->dxd + t * LANES), ddelta = FN(load)(w->ddelta + t * LANES);
                        UNROLL for (int i = 0; i < BLOCK; i++) {
                            vf g_t = C[t * P + i] * dy_t + g[i];
                            products[i] = xd * g_t;
                            products[BLOCK + i] = dy_t * h[i];
                            h[i] = FN(load)(w->before + (t * BLOCK + i) * LANES);
                            dxd += B[t * P + i] * g_t;
                            g[i] = FN(load)(w->decay + (t * BLOCK + i) * LANES) * g_t;
                            vf exponent = g[i] * h[i];
                            dA[i] += delta * exponent;
                            ddelta += A2[i] * exponent;
                        }
                        FN(store)(w->dxd + t * LANES, dxd);
                        FN(store)(w->ddelta + t * LANES, ddelta);
                        float sums[LANES];
                        FN(store)(sums, FN(sums)(products, 2 * BLOCK));
                        for (int i = 0; i < BLOCK; i++) dB[t * P + i] += sums[i], dC[t * P + i] += sums[BLOCK + i];
                    }
                    UNROLL for (int i = 0; i < BLOCK; i++) {
                        FN(store)(w->g + (v * N + n + i) * LANES, g[i]);
                        FN(store)(w->dA + (v * N + n + i) * LANES, dA[i]);
                    }
                }
                vf skip = FN(load)(w->D + v * LANES), dD = FN(load)(w->dD + v * LANES);
                vf dbias = FN(load)(w->dbias + v * LANES);
                for (int t = 0; t < steps; t++) {
                    vf x_t = FN(load)(w->x + t * LANES), dy_t = FN(load)(w->y + t * LANES);
                    vf dxd = FN(load)(w->dxd + t * LANES);
                    vf ddelta = x_t * dxd + 0.6931471806f * FN(load)(w->ddelta + t * LANES); /* A2 = A / log 2 */
                    vf dz = ddelta * FN(load)(w->slope + t * LANES);
                    dbias += dz;
                    dD += x_t * dy_t;
                    vf value = FN(load)(w->delta + t * LANES) * dxd + skip * dy_t;
                    float *out = dx + token[t] * s->D + v * LANES;
                    if (k == 0)
                        FN(store_part)(out, width, value);
                    else
                        FN(add_part)(out, width, value);
                    const float *dt = w->rows + t * P;
                    for (int64_t r = 0; r < R; r += 4) {
                        vf products[4];
                        UNROLL for (int i = 0; i < 4; i++) {
                            float *dW = w->dW + (v * R + r + i) * LANES;
                            FN(store)(dW, FN(load)(dW) + dz * dt[r + i]);
                            products[i] = dz * FN(load)(w->W + (v * R + r + i) * LANES);
                        }
                        float sums[LANES];
                        FN(store)(sums, FN(sums)(products, 4));
                        for (int i = 0; i < 4; i++) w->drows[t * P + r + i] += sums[i];
                    }
                }
                FN(store)(w->dD + v * LANES, dD);
                FN(store)(w->dbias + v * LANES, dbias);
            }
            for (int t = 0; t < steps; t++) {
                float *to = dprojected + token[t] * row + k * width_row;
                const float *from = w->drows + t * P;
                if (first) {
                    memcpy(to, from, 4 * s->R);
                    memcpy(to + s->R, from + R, 4 * s->N);
                    memcpy(to + s->R + s->N, from + R + N, 4 * s->N);
                    continue;
                }
                for (int64_t i = 0; i < s->R; i++) to[i] += from[i];
                for (int64_t i = 0; i < s->N; i++) to[s->R + i] += from[R + i], to[s->R + s->N + i] += from[R + N + i];
            }
        }
        for (int64_t v = 0; v < vectors; v++)
            for (int64_t i = 0; i < MIN(LANES, d1 - d0 - v * LANES); i++) {
                int64_t kd = (b * s->K + k) * s->D + d0 + v * LANES + i;
                for (int64_t n = 0; n < s->N; n++) s->dA[kd * s->N + n] = w->dA[(v * N + n) * LANES + i];
                for (int64_t r = 0; r < s->R; r++) s->ddt_proj[kd * s->R + r] = w->dW[(v * R + r) * LANES + i];
                s->ddt_bias[kd] = w->dbias[v * LANES + i];
                s->dskip[kd] = w->dD[v * LANES + i];
            }
    }
}

#undef Work
#undef vf
#undef vi
