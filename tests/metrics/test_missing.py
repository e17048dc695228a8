"""None in files, NaN in arrays: metrics/missing.py."""

import numpy as np

from spa_bench.metrics.missing import with_nan, with_none


def test_none_is_nan_in_arrays_of_one_and_of_two_axes():
    assert with_nan([1, None, True]).tolist()[::2] == [1.0, 1.0]
    assert np.isnan(with_nan([1, None, True])[1])
    table = with_nan([[0.5, None], [None, 2]])
    assert (table.shape, table.dtype) == ((2, 2), np.float64)
    assert np.isnan(table).tolist() == [[False, True], [True, False]]


def test_nan_is_none_in_rows():
    assert with_none(np.array([[0.5, np.nan], [np.inf, 2.0]])) == [[0.5, None], [float("inf"), 2.0]]
    assert all(type(value) is float for value in with_none(np.ones((1, 2)))[0])
