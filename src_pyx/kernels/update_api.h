/* The optimizers' part of the numeric interface: one function per rule, each a single pass over flat arrays.
 *
 * A rule sees parameters p, gradient g and up to three slots of the same length. Before the rule itself every pass does
 *     g <- scale · clamp(g, -clip_value, clip_value) + decay · p
 * on the fly; the gradient array is never written. Every number gets the same bits however the arrays are cut.
 */
#ifndef RNNCORE_UPDATE_API_H
#define RNNCORE_UPDATE_API_H
#include <stdint.h>

typedef enum {
    UPDATE_SGD,
    UPDATE_MOMENTUM,
    UPDATE_NESTEROV,
    UPDATE_ADAGRAD,
    UPDATE_RMSPROP,
    UPDATE_RMSPROP_MOMENTUM,
    UPDATE_RMSPROP_GRAVES,
    UPDATE_ADADELTA,
    UPDATE_ADAM, /* AdamW too: decay = 0, keep < 1 */
    UPDATE_SDLM, /* slot2 is the curvature, read alone */
    UPDATE_COUNT
} UpdateKind;

/* The scalars of one step, in double; what a, b and c are is said at each rule. */
typedef struct {
    double rate;       /* of this step: schedule and bias correction are already in it */
    double scale;      /* clipping by norm; 1 for none */
    double clip_value; /* INFINITY for none */
    double decay;      /* added to the gradient, times p (L2) */
    double keep;       /* factor on p (decoupled decay); 1 for none; read by Adam alone */
    double a, b, c, eps;
} UpdateRule;

typedef void (*update_fn)(long n, void *theta, const void *grad, void *slot0, void *slot1, void *slot2,
                          const UpdateRule *rule);

/* Sums of squares run in this many chains, chosen by a number's place in the whole array: numbers left out because
 * they are zero do not change the result, nor does the vector width. */
#define UPDATE_CHAINS 16

typedef struct {
    update_fn step[UPDATE_COUNT];
    /* chains[i % UPDATE_CHAINS] += (shrink · clamp(g_i))², g pointing at number `first` of the whole gradient;
     * shrink is a power of two, for gradients whose squares overflow. */
    void (*add_squares)(int64_t first, long n, const void *grad, double clip_value, double shrink, double *chains);
    /* The sum of n squares in the working precision, in no particular order: NaN or infinite where a number is, and
     * where squares overflow. Its root bounds every number; one multiply-add a vector is all it takes. */
    double (*squares)(long n, const void *grad);
    double (*largest)(long n, const void *grad); /* the largest of n absolute values; NaN if one of them is NaN */
    double highest;                              /* the largest number of the working precision */
} UpdateTable;

#endif
