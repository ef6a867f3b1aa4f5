import numpy as np
import pytest

from sklearn_ext.ood.orthloss._synthetic_outliers import (
    mixed_rows,
    permuted_rows,
    synthetic_outliers,
    uniform_rows,
)


@pytest.fixture
def rng():
    return np.random.RandomState(0)


@pytest.fixture
def images(rng):
    return rng.rand(40, 4, 4).astype(np.float32)


def test_permutations_keep_the_values_of_a_row(images, rng):
    out = permuted_rows(images, rng)
    assert out.shape == images.shape
    flat, before = out.reshape(40, -1), images.reshape(40, -1)
    np.testing.assert_array_equal(np.sort(flat, axis=1), np.sort(before, axis=1))
    assert (flat != before).any(axis=1).all()


def test_mixtures_lie_between_rows_of_two_classes(rng):
    codes = np.arange(60) % 3
    X = np.eye(3, dtype=np.float32)[codes]
    out = mixed_rows(X, codes, rng)
    np.testing.assert_allclose(out.sum(axis=1), 1.0, rtol=1e-6)
    assert ((out > 0).sum(axis=1) == 2).all()
    assert out[out > 0].min() >= 0.35 - 1e-6
    assert out.max() <= 0.65 + 1e-6


def test_uniform_rows_fill_the_bounding_box(images, rng):
    out = uniform_rows(images, rng)
    assert (out >= images.min(axis=0)).all()
    assert (out <= images.max(axis=0)).all()
    assert out.dtype == np.float32


def test_all_kinds_in_equal_parts(images, rng):
    codes = np.arange(40) % 2
    assert synthetic_outliers(images, codes, "auto", rng).shape == (120, 4, 4)
    assert synthetic_outliers(images, codes, "mix", rng).shape == (40, 4, 4)
