"""Checks `count` random geometries: run_geometries.py LIBRARY SEED COUNT. A process of its own, for sanitizers."""

import ctypes
import sys

import numpy as np
from geometries import check, random_geometry

if __name__ == "__main__":
    library, seed, count = ctypes.CDLL(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    random = np.random.default_rng(seed)
    for _ in range(count):
        check(library, random_geometry(random), random)
