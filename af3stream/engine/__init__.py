"""The engine: its interface, the scheduler and caches, and the models behind them."""

import os

# How often an OpenMP thread looks for more work before it sleeps: for at most 50 µs. By default it looks 300,000 times,
# and takes the cores from threads that have work. If it sleeps at once, each matrix product of a caption waits until it
# is awake. libgomp reads this when torch or CTranslate2 loads it.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
