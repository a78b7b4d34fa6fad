/* Vectors of LANES floats and the functions of them that the scan needs, for one instruction set.

   Included by scan.h, once per instruction set, with LANES and SUFFIX defined.  Plain vector extensions of GCC and
   Clang, so that one text serves all; intrinsics only where the extension has no word for an instruction. */

typedef float FN(vf) __attribute__((vector_size(4 * LANES)));
typedef int32_t FN(vi) __attribute__((vector_size(4 * LANES)));
#define vf FN(vf)
#define vi FN(vi)

static INLINE vf FN(load)(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v); /* an unaligned load */
    return v;
}

static INLINE void FN(store)(float *p, vf v) { memcpy(p, &v, sizeof v); }

static INLINE vf FN(all)(float value) { return (vf){0} + value; }

/* max(v, low); NaN stays NaN */
static INLINE vf FN(at_least)(vf v, float low) {
#if LANES == 16
    return (vf)_mm512_max_ps((__m512)FN(all)(low), (__m512)v);
#elif LANES == 8
    return (vf)_mm256_max_ps((__m256)FN(all)(low), (__m256)v);
#else
    vi below = v < low; /* all bits of a lane set where true */
    return (vf)((below & (vi)FN(all)(low)) | (~below & (vi)v));
#endif
}

/* 2^(a b) for a b <= 0, relative error below 3e-7 plus rounding, less towards a b = 0; under 2^-126 it counts as about 0.
   With LANES 16 that ends at a b = -1e16, beyond which the rest f is no longer small: step sizes and A that far from
   what a network learns are not worth an instruction per state and step.

   a b is split into the nearest multiple of a step and a rest f in [-step / 2, step / 2]; 2^f is a polynomial with the
   value 1 and the slope log 2 at 0: slow decays, whose errors would add up over the steps, are the most exact.  Adding the constant `round` leaves the multiple in the low bits. */
#if LANES == 16
/* Steps of 1/32, looked up: fewer multiplications than with the long polynomial, and those are what limits the scan. */
#define STEP(j, bits) (bits) - ((j) << 18) /* the float 2^(j / 32), less what adding `shifted` brings of j */
static INLINE vf FN(exp2_product)(vf a, vf b) {
    const vi low = {
        STEP(0, 0x3f800000), STEP(1, 0x3f82cd87), STEP(2, 0x3f85aac3), STEP(3, 0x3f88980f),
        STEP(4, 0x3f8b95c2), STEP(5, 0x3f8ea43a), STEP(6, 0x3f91c3d3), STEP(7, 0x3f94f4f0),
        STEP(8, 0x3f9837f0), STEP(9, 0x3f9b8d3a), STEP(10, 0x3f9ef532), STEP(11, 0x3fa27043),
        STEP(12, 0x3fa5fed7), STEP(13, 0x3fa9a15b), STEP(14, 0x3fad583f), STEP(15, 0x3fb123f6),
    };
    const vi high = {
        STEP(16, 0x3fb504f3), STEP(17, 0x3fb8fbaf), STEP(18, 0x3fbd08a4), STEP(19, 0x3fc12c4d),
        STEP(20, 0x3fc5672a), STEP(21, 0x3fc9b9be), STEP(22, 0x3fce248c), STEP(23, 0x3fd2a81e),
        STEP(24, 0x3fd744fd), STEP(25, 0x3fdbfbb8), STEP(26, 0x3fe0ccdf), STEP(27, 0x3fe5b907),
        STEP(28, 0x3feac0c7), STEP(29, 0x3fefe4ba), STEP(30, 0x3ff5257d), STEP(31, 0x3ffa83b3),
    };
    const float round = 393216.0f; /* 1.5 * 2^18, the bits 0x48c00000 */
    vf shifted = a * b + round;    /* of a b = e + j / 32, the lowest bits are 32 e + j */
    shifted = (vf)_mm512_max_epi32((__m512i)shifted, _mm512_set1_epi32(0x48c00000 - 126 * 32));
    vf f = a * b - (shifted - round);
    vf p = FN(all)(0.24022651f) * f + 0.69314718f;
    vi power = (vi)_mm512_permutex2var_epi32((__m512i)low, (__m512i)shifted, (__m512i)high);
    vf whole = (vf)(power + ((vi)shifted << 18)); /* 2^(j / 32), with e added to the exponent */
    return (whole * f) * p + whole;
}
#undef STEP
#else
static INLINE vf FN(exp2_product)(vf a, vf b) {
    const float round = 12582912.0f; /* 1.5 * 2^23 */
    vf x = FN(at_least)(a * b, -126.0f);
    HIDE(x); /* or the compiler multiplies twice, to fuse each product with the sum behind it */
    vf shifted = x + round;
    vf f = x - (shifted - round);
    vf p = FN(all)(0.0013300264f);
    p = p * f + 0.0096697086f;
    p = p * f + 0.0555055999f;
    p = p * f + 0.2402228161f;
    p = p * f + 0.6931471806f;
    p = p * f + 1.0f;
    return (vf)((vi)p + ((vi)shifted << 23));
}
#endif

/* log(1 + e) for e in [0, 1], relative error below 1e-7 plus rounding */
static INLINE vf FN(log1p)(vf e) {
    vf p = FN(all)(0.0053648231f);
    p = p * e - 0.0300657896f;
    p = p * e + 0.0792045348f;
    p = p * e - 0.1375380258f;
    p = p * e + 0.1915365519f;
    p = p * e - 0.2485716576f;
    p = p * e + 0.3332132263f;
    p = p * e - 0.4999964796f;
    return e + e * e * p;
}

/* softplus(z) = log(1 + exp z), and exp(-|z|) for its derivative */
static INLINE vf FN(softplus)(vf z, vf *small) {
    vf minus = (vf)((vi)z | (int32_t)0x80000000);
    minus = FN(at_least)(minus, -200.0f); /* exp(-200) is 0 in float32; see exp2_product on large arguments */
    *small = FN(exp2_product)(minus, FN(all)(1.44269504f));
    return FN(at_least)(z, 0.0f) + FN(log1p)(*small);
}

/* 1 / (1 + exp(-z)), from small = exp(-|z|) */
static INLINE vf FN(sigmoid)(vf z, vf small) {
    vf of_positive = 1.0f / (1.0f + small);
    vi negative = z < 0.0f;
    return (vf)((negative & (vi)(small * of_positive)) | (~negative & (vi)of_positive));
}
