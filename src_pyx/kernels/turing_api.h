/* The Neural Turing machine's part of the numeric interface: one batch in packed ragged form (how it works: turing.h).
 *
 * Sequences are dealt: `shard` of `shards` takes the sequences b = shard (mod shards) through all their steps. */
#ifndef RNNCORE_TURING_API_H
#define RNNCORE_TURING_API_H

/* N locations of M numbers; R heads that read, then V that write, each shifting by -S to S. `state` and `memory` have
 * `sequences` rows in front, at negative row numbers, `weights` too: what a sequence begins with. */
typedef struct {
    long locations, ld;                /* N, and N rounded up to whole vectors */
    long width, reads, writes, shifts; /* M, R, V, S */
    long hidden, ldh;                  /* H, and H rounded up */
    int gates;                         /* of the controller: 4, an LSTM; 1, tanh of a sum */
    long lda, lds, ldp;                /* row lengths of a, of state and of emissions */
    long steps, sequences;
    const long *offsets, *active;
    rc_packed recurrent, recurrent_T, emit, emit_T;
    void *a;         /* (rows, gates·ldh): in: x·W_xh + b; out: gates; after backward: their gradient */
    void *c;         /* (rows, ldh) of an LSTM */
    void *state;     /* (rows, lds): what the heads read (R·M numbers), then h */
    void *emissions; /* (rows, ldp): what the controller tells the heads */
    void *memory;    /* (rows, M, ld): after each step, column by column */
    void *norms;     /* (rows, ld): of the locations before each step */
    void *cosines, *content, *shifted, *weights; /* (rows, R + V, ld): addressing, stage by stage */
    void *dstate;     /* (rows, lds): in: gradient of the outputs; out: the whole one */
    void *demissions; /* (rows, ldp) */
    void *dmemory;    /* (sequences, M, ld): in: zeros */
    void *dweights;   /* (sequences, R + V, ld): in: zeros; out: gradient of what a sequence begins with */
    void *dbefore;    /* (sequences, lds): likewise */
    void *dc;         /* (sequences, ldh): likewise */
    void *work;       /* (shards, work_size) */
    long work_size;
} rc_turing;

typedef struct {
    long (*work_size)(const rc_turing *m); /* numbers, a whole count of cache lines */
    void (*forward)(const rc_turing *m, long shard, long shards);
    void (*backward)(const rc_turing *m, long shard, long shards);
} rc_turing_table;
#endif
