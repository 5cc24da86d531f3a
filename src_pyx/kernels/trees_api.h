/* What networks on trees need beside products (trees.h). */
#ifndef RNNCORE_TREES_API_H
#define RNNCORE_TREES_API_H
#include <stdint.h>

typedef struct {
    void (*activate)(int activation, long rows, long ld, void *y);
    void (*slope)(int activation, long rows, long ld, const void *y, void *d);
    void (*forget)(long edges, long ld, const void *p, long ldp, const void *fx, long lda, const int64_t *child,
                   const void *cells, void *f, void *c);
    void (*forget_back)(long edges, long ld, const void *dc, const int64_t *child, const void *cells, void *f, void *fx,
                        void *own, long lda, void *dcells);
    void (*gates)(long rows, long ld, void *a, long lda, void *c, void *h);
    void (*gates_back)(long rows, long ld, void *a, long lda, const void *c, const void *dh, void *dc);
    void (*pairs)(long rows, long H, const void *x, const void *y, long ld, void *z, long ldz);
    void (*pairs_back)(long rows, long H, const void *x, const void *y, long ld, const void *dz, long ldz, void *dx,
                       void *dy);
} rc_tree_table;
#endif
