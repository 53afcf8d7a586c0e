from __future__ import annotations

import warnings

import numpy as np

from repeng.maths import offsets_of, sigmoid


def test_the_logistic_function_neither_overflows_nor_warns_and_leaves_blanks_blank() -> None:
    with np.errstate(all="raise", under="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = sigmoid(np.array([-1e6, -1.0, 0.0, 1.0, 1e6, np.nan]))
    np.testing.assert_allclose(found, [0.0, 1 / (1 + np.e), 0.5, np.e / (1 + np.e), 1.0, np.nan])


def test_offsets_are_where_each_begins_and_the_last_ends() -> None:
    for counts in ([], [3], [2, 0, 5, 1]):
        expected = [sum(counts[:place]) for place in range(len(counts) + 1)]
        for given in (counts, np.array(counts, dtype=np.int32)):
            found = offsets_of(given)
            assert found.tolist() == expected and found.dtype == np.int64
