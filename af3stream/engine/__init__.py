"""The engine: its interface, the scheduler and caches, and the models behind them."""

import os
import sys

# How often an OpenMP thread looks for more work before it sleeps. By default it looks 300,000 times, which takes the
# cores from threads that have work; if all teams together have more threads than there are cores, it looks 100 times,
# and each matrix product of a caption waits until a thread is awake. With both variables it looks 1,000 times in either
# case, for at most 50 µs. libgomp reads them when torch or CTranslate2 loads it (libgomp/env.c).
if sys.platform == "linux" and not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ.update(OMP_WAIT_POLICY="active", GOMP_SPINCOUNT="1000")
# The threads of NumPy's OpenBLAS go on looking beside the engine's. NumPy reads this when it is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
