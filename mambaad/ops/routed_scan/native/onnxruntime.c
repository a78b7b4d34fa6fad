/* The scan as an operator of onnxruntime: mambaad::RoutedScan (x, projected, routes, dt_proj, dt_bias, A, D) -> y.

   A session that registers this library (`SessionOptions.register_custom_ops_library`, any language) runs graphs of
   `mambaad export --format onnx_native`.  Axes and equations: routed_scan in ../__init__.py; x, y and the parameters
   float32, the routes int64, all on the CPU.

   onnxruntime hands its functions out as a table to which entries are only ever added, so the few that are needed are
   written down here by their places, and no header of onnxruntime is needed to build. */

#include "routed_scan.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORTED __declspec(dllexport)
#else
#define EXPORTED __attribute__((visibility("default")))
#endif

#define API 17 /* version of the table that is asked for; onnxruntime 1.17 and newer have it */

typedef struct Status Status;   /* null: done; else an error, which onnxruntime frees */
typedef struct Value Value;     /* a tensor */
typedef struct Shape Shape;     /* its type and shape */
typedef struct Context Context; /* inputs and outputs of one call */
typedef struct Domain Domain;
typedef struct Options Options; /* of a session */
typedef const void *const *Table;

typedef struct {
    Table (*get)(uint32_t version);
    const char *(*version)(void);
} Base;

/* Places in the table, and types of what lies there. */
#define CREATE_STATUS(t) ((Status * (*)(int, const char *))(t)[0])
#define TENSOR_DATA(t) ((Status * (*)(Value *, void **))(t)[51])
#define DIMENSIONS_COUNT(t) ((Status * (*)(const Shape *, size_t *))(t)[61])
#define DIMENSIONS(t) ((Status * (*)(const Shape *, int64_t *, size_t))(t)[62])
#define SHAPE(t) ((Status * (*)(const Value *, Shape **))(t)[65])
#define RELEASE_SHAPE(t) ((void (*)(Shape *))(t)[99])
#define CREATE_DOMAIN(t) ((Status * (*)(const char *, Domain **))(t)[26])
#define ADD_OPERATOR(t) ((Status * (*)(Domain *, const struct Operator *))(t)[27])
#define ADD_DOMAIN(t) ((Status * (*)(Options *, Domain *))(t)[28])
#define INPUT(t) ((Status * (*)(const Context *, size_t, const Value **))(t)[90])
#define OUTPUT(t) ((Status * (*)(Context *, size_t, const int64_t *, size_t, Value **))(t)[91])
#define PARALLEL(t)                                                                                                    \
    ((Status * (*)(const Context *, void (*)(void *, size_t), size_t, size_t, void *))(t)[274])

/* OrtCustomOp up to API 17. */
typedef struct Operator {
    uint32_t version;
    void *(*create)(const struct Operator *, Table, const void *info);
    const char *(*name)(const struct Operator *);
    const char *(*provider)(const struct Operator *);
    int (*input_type)(const struct Operator *, size_t);
    size_t (*inputs)(const struct Operator *);
    int (*output_type)(const struct Operator *, size_t);
    size_t (*outputs)(const struct Operator *);
    void (*compute)(void *, Context *);
    void (*destroy)(void *);
    int (*input_kind)(const struct Operator *, size_t);
    int (*output_kind)(const struct Operator *, size_t);
    int (*memory)(const struct Operator *, size_t);
    int (*variadic[4])(const struct Operator *);
    Status *(*create_or_fail)(const struct Operator *, Table, const void *info, void **kernel);
    Status *(*compute_or_fail)(void *, Context *);
    Status *(*infer_shape)(const struct Operator *, void *);
    int (*first_version)(const struct Operator *);
    int (*last_version)(const struct Operator *);
} Operator;

enum { FLOAT = 1, INT64 = 7 };  /* ONNXTensorElementDataType */
enum { FAIL = 1, INVALID_ARGUMENT = 2 }; /* OrtErrorCode */
enum { X, PROJECTED, ROUTES, DT_PROJ, DT_BIAS, RATE, SKIP, INPUTS };

static const char *const names[INPUTS] = {"x", "projected", "routes", "dt_proj", "dt_bias", "A", "D"};
static const size_t axes[INPUTS] = {3, 4, 2, 3, 2, 3, 2};

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        Status *status_ = (call);                                                                                      \
        if (status_) return status_;                                                                                   \
    } while (0)

typedef struct {
    Scan scan;
    int set;
    atomic_int failed;
} Job;

static void task(void *job, size_t i) {
    Job *j = job;
    if (routed_scan_task(&j->scan, j->set, (int64_t)i)) atomic_store(&j->failed, 1);
}

static const char no_memory[] = "RoutedScan found no memory for its buffers";

/* Data and sizes of one input. */
static Status *read_input(Table t, const Context *context, int i, const void **data, int64_t sizes[4]) {
    const Value *value;
    Shape *shape;
    size_t count;
    char text[64];
    TRY(INPUT(t)(context, i, &value));
    TRY(TENSOR_DATA(t)((Value *)value, (void **)data));
    TRY(SHAPE(t)(value, &shape));
    Status *status = DIMENSIONS_COUNT(t)(shape, &count);
    if (!status && count != axes[i]) {
        snprintf(text, sizeof text, "RoutedScan: %s must have %zu axes, got %zu", names[i], axes[i], count);
        status = CREATE_STATUS(t)(INVALID_ARGUMENT, text);
    }
    if (!status) status = DIMENSIONS(t)(shape, sizes, count);
    RELEASE_SHAPE(t)(shape);
    return status;
}

static Status *compute(void *kernel, Context *context) {
    Table t = kernel;
    const void *data[INPUTS];
    int64_t n[INPUTS][4];
    for (int i = 0; i < INPUTS; i++) TRY(read_input(t, context, i, &data[i], n[i]));
    int64_t B = n[X][0], L = n[X][1], D = n[X][2], K = n[RATE][0], N = n[RATE][2], R = n[DT_PROJ][2];
    const int64_t wanted[INPUTS][4] = {{B, L, D}, {B, L, K, R + 2 * N}, {K, L}, {K, D, R}, {K, D}, {K, D, N}, {K, D}};
    for (int i = 0; i < INPUTS; i++)
        for (size_t axis = 0; axis < axes[i]; axis++)
            if (n[i][axis] != wanted[i][axis]) {
                char text[160];
                snprintf(
                    text, sizeof text, "RoutedScan: axis %zu of %s must be %lld to go with x, A and dt_proj, got %lld", axis,
                    names[i], (long long)wanted[i][axis], (long long)n[i][axis]
                );
                return CREATE_STATUS(t)(INVALID_ARGUMENT, text);
            }
    /* a graph may come from anywhere, and the kernel reads and writes through the routes */
    const int64_t *routes = data[ROUTES];
    unsigned char *seen = calloc(L ? (size_t)L : 1, 1);
    if (!seen) return CREATE_STATUS(t)(FAIL, no_memory);
    int permutations = 1;
    for (int64_t k = 0; k < K && permutations; k++) {
        for (int64_t i = 0; i < L && permutations; i++) {
            int64_t token = routes[k * L + i];
            permutations = token >= 0 && token < L && !seen[token];
            if (permutations) seen[token] = 1;
        }
        memset(seen, 0, (size_t)L);
    }
    free(seen);
    if (!permutations)
        return CREATE_STATUS(t)(INVALID_ARGUMENT, "RoutedScan: each route must hold every token, 0 to L - 1, once");
    if (!K) return CREATE_STATUS(t)(INVALID_ARGUMENT, "RoutedScan: routes must hold at least one route");

    Value *y;
    void *values;
    TRY(OUTPUT(t)(context, 0, n[X], 3, &y));
    TRY(TENSOR_DATA(t)(y, &values));
    if (!B || !L || !D) return 0;
    int set = routed_scan_best();
    /* as many channels as the kernel takes at once: tasks for several threads, and none costs more than it would alone */
    int64_t width = GROUP * routed_scan_lanes(set);
    Job job = {
        {.B = B, .L = L, .K = K, .D = D, .N = N, .R = R, .threads = 1, .stretches = (D + width - 1) / width,
         .x = data[X], .projected = data[PROJECTED], .table = data[ROUTES], .dt_proj = data[DT_PROJ],
         .dt_bias = data[DT_BIAS], .A = data[RATE], .skip = data[SKIP], .y = values},
        set,
        0,
    };
    TRY(PARALLEL(t)(context, task, (size_t)(B * job.scan.stretches), 0, &job));
    return atomic_load(&job.failed) ? CREATE_STATUS(t)(FAIL, no_memory) : 0;
}

static const char *name(const Operator *self) { return (void)self, "RoutedScan"; }
static const char *provider(const Operator *self) { return (void)self, "CPUExecutionProvider"; }
static size_t inputs(const Operator *self) { return (void)self, INPUTS; }
static size_t outputs(const Operator *self) { return (void)self, 1; }
static int input_type(const Operator *self, size_t i) { return (void)self, i == ROUTES ? INT64 : FLOAT; }
static int output_type(const Operator *self, size_t i) { return (void)self, (void)i, FLOAT; }
static int zero(const Operator *self, size_t i) { return (void)self, (void)i, 0; } /* required; default memory */
static int first_version(const Operator *self) { return (void)self, 1; }

/* A kernel has no state but the table. */
static Status *create(const Operator *self, Table t, const void *info, void **kernel) {
    (void)self, (void)info;
    *kernel = (void *)t;
    return 0;
}

static void destroy(void *kernel) { (void)kernel; }

static const Operator routed_scan = {
    .version = API,
    .name = name,
    .provider = provider,
    .input_type = input_type,
    .inputs = inputs,
    .output_type = output_type,
    .outputs = outputs,
    .destroy = destroy,
    .input_kind = zero,
    .output_kind = zero,
    .memory = zero,
    .create_or_fail = create,
    .compute_or_fail = compute,
    .first_version = first_version,
    .last_version = first_version,
};

/* Called by onnxruntime when a session registers the library.  The domain lives as long as the process, since the
   session options that it is added to do not own it. */
EXPORTED Status *RegisterCustomOps(Options *options, const Base *base) {
    static _Atomic(Domain *) known;
    Table t = base->get(API);
    if (!t) return 0; /* too old; onnxruntime itself says so, and does not find the operator */
    Domain *domain = known;
    if (!domain) {
        TRY(CREATE_DOMAIN(t)("mambaad", &domain));
        TRY(ADD_OPERATOR(t)(domain, &routed_scan));
        known = domain;
    }
    return ADD_DOMAIN(t)(options, domain);
}
