import ml_dtypes
import numpy as np
import pytest

from relope.errors import InvalidInputError
from relope.store import from_float32, stored_dtype, to_float32


def test_every_bfloat16_decodes_as_ml_dtypes_says() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    expected = bits.view(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(to_float32(bits, "bfloat16"), expected)


def test_rounding_agrees_with_ml_dtypes() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 1 << 32, 200_000, dtype=np.uint32).view(np.float32)
    ties = (np.arange(1 << 16, dtype=np.uint32) << 16 | 0x8000).view(np.float32)
    values = np.concatenate([drawn, ties, np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, 103_936, 3.4e38])])
    with np.errstate(invalid="ignore"):
        expected = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(to_float32(from_float32(values, "bfloat16"), "bfloat16"), expected)


def test_float32_is_left_alone() -> None:
    values = np.float32([[1.5, -2.25]])
    assert to_float32(values, "float32") is values
    assert from_float32(values, "float32") is values


def test_float16_is_refused_with_the_reason() -> None:
    with pytest.raises(InvalidInputError, match=r"float16.*103,936"):
        stored_dtype("float16")
    with pytest.raises(InvalidInputError, match="'int8' is not allowed"):
        stored_dtype("int8")


def test_values_of_another_stored_type_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="stored as uint16, but the values are float32"):
        to_float32(np.zeros(3, np.float32), "bfloat16")
