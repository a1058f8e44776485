"""Logical number types and how they lie on disk.

bfloat16 is stored as its 16 bits in ``uint16``, since numpy and Zarr libraries have no such type;
``torch.from_numpy(values).view(torch.bfloat16)`` costs nothing.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from relope.errors import InvalidInputError

STORED: dict[str, np.dtype[Any]] = {"bfloat16": np.dtype("uint16"), "float32": np.dtype("float32")}
"""Logical type → type on disk."""


def stored_dtype(dtype: str) -> np.dtype[Any]:
    """Return the on-disk type of a logical type.

    Raises:
        InvalidInputError: the type is not allowed in a store.
    """
    if dtype == "float16":
        raise InvalidInputError(
            "dtype 'float16' is not allowed (bfloat16 or float32): hidden states overflow it, "
            "Gemma's reach 103,936 and float16 ends at 65,504"
        )
    if dtype not in STORED:
        raise InvalidInputError(f"dtype {dtype!r} is not allowed (bfloat16 or float32)")
    return STORED[dtype]


def to_float32(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.float32]:
    """Return stored values as float32: exact, a copy for bfloat16."""
    if stored_dtype(dtype) != values.dtype:
        raise InvalidInputError(f"{dtype} is stored as {STORED[dtype]}, but the values are {values.dtype}")
    if dtype == "float32":
        return values
    wide = values.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def from_float32(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[Any]:
    """Return float32 values as they are stored: bfloat16 by rounding to nearest, ties to even."""
    if stored_dtype(dtype) == np.float32:
        return values
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32)) >> 16
    quiet_nan = (bits >> 16) | 0x40
    return np.where(np.isnan(values), quiet_nan, rounded).astype(np.uint16)
