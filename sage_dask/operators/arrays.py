"""The array types that retrieval passes around, and the one thing all of it does to them."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int64]
Int8Array: TypeAlias = NDArray[np.int8]


def unit_rows(vectors: FloatArray) -> FloatArray:
    """Scale each row of an ``(n, d)`` array to length 1; rows of zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths[lengths == 0.0] = 1.0
    scaled: FloatArray = (vectors / lengths).astype(np.float32, copy=False)
    return scaled


def finite_array(value: Any, name: str, *, ndim: int) -> FloatArray:
    """Return a field's value as float32, of ``ndim`` dimensions and without NaN or infinity.

    Raises:
        ValueError: It is no such array; the message says what was found.
    """
    try:
        array = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"field {name!r} holds {type(value).__name__}, not numbers; "
            "is it the field that Embed writes?"
        ) from error
    if array.ndim != ndim or not np.isfinite(array).all():
        raise ValueError(
            f"field {name!r} must hold finite numbers in {ndim} dimension(s), found "
            f"{'none' if value is None else f'shape {array.shape}'}"
        )
    return array
