from __future__ import annotations

import numpy as np
import pytest

from sage_dask.operators.arrays import finite_array, unit_rows


def test_unit_rows_have_length_one():
    """Every row that is not zero is scaled to length 1, and zeros stay zeros."""
    vectors = np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32)

    scaled = unit_rows(vectors)

    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [[0.6, 0.8], [0.0, 0.0]], atol=1e-7)


def test_a_list_of_numbers_is_an_array():
    """A vector that came through JSON is taken like one from Embed."""
    assert finite_array([1, 2.5], "embedding", ndim=1).tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    "value", [None, "text", [1.0, float("nan")], [[1.0]], [[1.0], [1.0, 2.0]], {"a": 1}]
)
def test_what_is_no_vector_is_refused_by_field_name(value):
    """Missing, textual, infinite, nested and ragged values are errors that name the field."""
    with pytest.raises(ValueError, match="'embedding'"):
        finite_array(value, "embedding", ndim=1)
