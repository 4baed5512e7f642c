"""Names of the array types that signatures here use, by element type."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""Of several element types, which the signature's description names."""

Weights = npt.NDArray[np.uint8]
"""How often each row counts, by resample."""

UInt8Array = npt.NDArray[np.uint8]
"""Pixels or voxels as they are stored."""

Int64Array = npt.NDArray[np.int64]
"""Labels as a data set holds them."""

IntArray = npt.NDArray[np.intp]
"""Class ids and row numbers, as numpy indexes by them."""

FloatArray = npt.NDArray[np.float64]
"""Scores and what is computed of them."""

BoolArray = npt.NDArray[np.bool_]
"""Which rows, or which findings, something holds for."""
