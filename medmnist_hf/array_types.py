"""Array types for signatures, by element type."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""Array of any element type; the docstring names the types that are accepted."""

Weights = npt.NDArray[np.uint8]
"""How often each row is drawn, per resample."""

UInt8Array = npt.NDArray[np.uint8]
"""Stored pixels or voxels."""

Int64Array = npt.NDArray[np.int64]
"""Labels of a data set."""

IntArray = npt.NDArray[np.intp]
"""Class ids and row numbers, in the type that NumPy indexes with."""

FloatArray = npt.NDArray[np.float64]
"""Scores and values computed from them."""

BoolArray = npt.NDArray[np.bool_]
"""Mask of rows or of findings."""
