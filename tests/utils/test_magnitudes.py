import numpy as np
import pytest

from sklearn_ext.utils._validation import check_magnitude


def test_accepted_values_have_finite_squares():
    for dtype in (np.float32, np.float64):
        limit = np.sqrt(np.finfo(dtype).max) / 1e3
        check_magnitude(np.array([-limit / 2, 0.0]), dtype)
        assert np.isfinite(dtype(limit) ** 2)
        with pytest.raises(ValueError, match=r"y must have absolute values below .*; rescale it"):
            check_magnitude(np.array([0.0, -2 * limit]), dtype)
    check_magnitude(np.array([]))


@pytest.mark.parametrize("values", [["1.5", "2"], np.array(["2020-01-01"], dtype="datetime64[D]")])
def test_strings_and_dates_are_refused(values):
    with pytest.raises(ValueError, match="y must contain numbers, got"):
        check_magnitude(values)
