_C_API: object  # a capsule: what rnncore_import() of rnncore.h fetches
