# mypy: allow-untyped-defs
"""CPU kernel of Adam; the readable twin is in ``adam.py``."""

import numpy as np
from numba import njit

f32 = np.float32


@njit(nogil=True, error_model="numpy", fastmath=True, cache=True)
def adam_step(begin, end, parameters, gradient, first, second, step, rate):
    """One step of Adam (Kingma and Ba 2015, default decay) in place, on flat arrays."""
    b1, b2 = f32(0.9), f32(0.999)
    c1 = f32(1) / (f32(1) - b1**step)
    c2 = f32(1) / (f32(1) - b2**step)
    # Indices from 0 on cannot be negative, which is what the compiler must know to make vectors of them.
    parameters, gradient = parameters[begin:end], gradient[begin:end]
    first, second = first[begin:end], second[begin:end]
    for n in range(parameters.size):
        g = gradient[n]
        first[n] = b1 * first[n] + (f32(1) - b1) * g
        second[n] = b2 * second[n] + (f32(1) - b2) * g * g
        parameters[n] -= rate * (first[n] * c1) / (np.sqrt(second[n] * c2) + f32(1e-12))
