import numpy as np
import pytest

from sklearn_ext.ood import make_synthetic_outliers


@pytest.fixture
def rng():
    return np.random.RandomState(0)


@pytest.fixture
def images(rng):
    return rng.rand(40, 4, 4).astype(np.float32)


def test_permutations_keep_the_values_of_a_sample(images, rng):
    out = make_synthetic_outliers(images, np.arange(40) % 2, "permute", rng)
    assert out.shape == images.shape
    flat, before = out.reshape(40, -1), images.reshape(40, -1)
    np.testing.assert_array_equal(np.sort(flat, axis=1), np.sort(before, axis=1))
    assert (flat != before).any(axis=1).all()


def test_mixtures_lie_between_samples_of_two_classes(rng):
    codes = np.arange(60) % 3
    X = np.eye(3, dtype=np.float32)[codes]
    out = make_synthetic_outliers(X, codes, "mix", rng)
    np.testing.assert_allclose(out.sum(axis=1), 1.0, rtol=1e-6)
    assert ((out > 0).sum(axis=1) == 2).all()
    assert out[out > 0].min() >= 0.35 - 1e-6
    assert out.max() <= 0.65 + 1e-6


def test_uniform_samples_stay_in_the_bounding_box(images, rng):
    out = make_synthetic_outliers(images, np.arange(40) % 2, "uniform", rng)
    assert (out >= images.min(axis=0)).all()
    assert (out <= images.max(axis=0)).all()
    assert out.dtype == np.float32


def test_auto_makes_equal_parts_of_all_kinds(images, rng):
    codes = np.arange(40) % 2
    assert make_synthetic_outliers(images, codes, "auto", rng).shape == (120, 4, 4)
    assert make_synthetic_outliers(images, codes, "mix", rng).shape == (40, 4, 4)


def test_unknown_kind_raises(images, rng):
    with pytest.raises(ValueError, match="kind must be 'auto' or one of"):
        make_synthetic_outliers(images, np.arange(40) % 2, "noise", rng)
