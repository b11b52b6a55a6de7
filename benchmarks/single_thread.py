"""Import before NumPy: every numeric library of this process then uses one thread."""

import os

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

for name in VARIABLES:
    os.environ[name] = "1"
