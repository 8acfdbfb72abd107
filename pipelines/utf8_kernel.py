"""UTF-8 as kernels read it: Arrow's strings are valid, so that a character is never cut.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline="always")
def decoded(data, at):
    """The code point at a byte of valid UTF-8, and where the next one begins."""
    code = np.int64(data[at])
    if code < 0x80:
        return code, at + 1
    size = 2 if code < 0xE0 else 3 if code < 0xF0 else 4
    code &= 0x7F >> size
    for k in range(1, size):
        code = (code << 6) | (np.int64(data[at + k]) & 0x3F)
    return code, at + size
