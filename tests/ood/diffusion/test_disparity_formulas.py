import numpy as np
import pytest
from scipy.spatial.distance import cosine, jensenshannon
from scipy.stats import entropy

from sklearn_ext.ood import feature_disparity, pixel_disparity, probability_disparity
from sklearn_ext.ood.diffusion._disparity_formulas import calibrate, combine, remove_anomalies

FEATURE_METRICS = ("l2", "cosine", "unit_l1")
DIVERGENCES = ("kl", "kl_rev", "jeffreys", "js")


@pytest.fixture
def pair():
    """Features (or logits) of 20 samples and of three regenerations of each."""
    rng = np.random.RandomState(0)
    return rng.gamma(1.0, size=(20, 6)), rng.gamma(1.0, size=(3, 20, 6))


def softmax(logits):
    e = np.exp(logits)
    return e / e.sum(axis=-1, keepdims=True)


def test_disparities_agree_with_scipy(pair):
    z, z_hat = pair
    p, q = softmax(z), softmax(z_hat)
    for r, i in np.ndindex(3, 20):
        assert pixel_disparity(z, z_hat)[r, i] == pytest.approx(np.linalg.norm(z[i] - z_hat[r, i]))
        expected = {
            "l2": np.linalg.norm(z[i] - z_hat[r, i]),
            "cosine": cosine(z[i], z_hat[r, i]),
            "unit_l1": np.abs(
                z[i] / np.linalg.norm(z[i]) - z_hat[r, i] / np.linalg.norm(z_hat[r, i])
            ).sum(),
        }
        for metric, value in expected.items():
            assert feature_disparity(z, z_hat, metric)[r, i] == pytest.approx(value)
        expected = {
            "kl": entropy(p[i], q[r, i]),
            "kl_rev": entropy(q[r, i], p[i]),
            "jeffreys": entropy(p[i], q[r, i]) + entropy(q[r, i], p[i]),
            "js": jensenshannon(p[i], q[r, i]) ** 2,
            "logit_l1": np.abs(z[i] - z_hat[r, i]).sum(),
        }
        for metric, value in expected.items():
            assert probability_disparity(z, z_hat, metric)[r, i] == pytest.approx(value)


def test_a_sample_has_no_disparity_with_itself(pair):
    z, z_hat = pair[0].astype(np.float32), np.stack([pair[0]] * 2).astype(np.float32)
    assert pixel_disparity(z, z_hat).max() == 0
    for metric in FEATURE_METRICS:
        assert np.abs(feature_disparity(z, z_hat, metric)).max() == 0
    for metric in (*DIVERGENCES, "logit_l1"):
        assert np.abs(probability_disparity(z, z_hat, metric)).max() < 1e-12


@pytest.mark.parametrize("scale", [1e-6, 1.0, 300.0])
def test_divergences_are_never_negative(pair, scale):
    z, z_hat = (scale * logits for logits in pair)
    for metric in DIVERGENCES:
        values = probability_disparity(z, z_hat, metric)
        assert values.min() >= 0
        assert np.isfinite(values).all()
    assert probability_disparity(z, z_hat, "js").max() <= np.log(2) + 1e-12
    np.testing.assert_array_equal(
        probability_disparity(z, z_hat, "jeffreys"), probability_disparity(z_hat, z, "jeffreys")
    )


def test_saturated_probabilities_have_a_positive_divergence():
    logits = np.array([[60.0, 0.0, 0.0]], dtype=np.float32)
    other = np.array([[[50.0, 0.0, 0.0]]], dtype=np.float32)
    # The softmax is exactly one for both in single precision.
    expected = 2 * np.exp(-50) - 2 * np.exp(-60)
    for metric in ("kl_rev", "jeffreys"):
        assert 0 < probability_disparity(logits, other, metric)[0, 0] < 11 * expected


def test_divergences_ignore_a_constant_added_to_logits(pair):
    z, z_hat = pair
    shift = np.random.RandomState(1).randn(3, 20, 1)
    for metric in DIVERGENCES:
        np.testing.assert_allclose(
            probability_disparity(z + 5, z_hat + shift, metric),
            probability_disparity(z, z_hat, metric),
            atol=1e-12,
        )
    np.testing.assert_allclose(
        probability_disparity(z + 5, z_hat + 5, "logit_l1"),
        probability_disparity(z, z_hat, "logit_l1"),
    )


@pytest.mark.parametrize("metric", ["cosine", "unit_l1"])
def test_unit_features_ignore_the_length(pair, metric):
    z, z_hat = pair
    np.testing.assert_allclose(
        feature_disparity(3 * z, 0.1 * z_hat, metric), feature_disparity(z, z_hat, metric)
    )
    zero = feature_disparity(np.zeros_like(z), z_hat, metric)
    assert np.isfinite(zero).all()


def test_small_angles_do_not_cancel():
    z = np.array([[1.0, 0.0]], dtype=np.float32)
    z_hat = np.array([[[1.0, 1e-4]]], dtype=np.float32)
    assert feature_disparity(z, z_hat, "cosine")[0, 0] == pytest.approx(5e-9, rel=1e-3)


def test_clipping_both_sides_never_increases_a_distance(pair):
    z, z_hat = pair
    whole = feature_disparity(z, z_hat, "l2")
    for clip_value in (0.0, 0.3, 1.0, 2.0):
        clipped = remove_anomalies(z, z_hat, clip_value, "both")
        assert (feature_disparity(*clipped, "l2") <= whole + 1e-12).all()
        assert max(clipped[0].max(), clipped[1].max()) <= clip_value


def test_anomaly_removal_clips_the_given_sides(pair):
    z, z_hat = pair
    for sides, expected in (
        ("none", (z, z_hat)),
        ("generation", (z, np.minimum(z_hat, 0.5))),
        ("both", (np.minimum(z, 0.5), np.minimum(z_hat, 0.5))),
    ):
        for actual, side in zip(remove_anomalies(z, z_hat, 0.5, sides), expected, strict=True):
            np.testing.assert_array_equal(actual, side)


def test_terms_are_standardized_before_they_are_added():
    rng = np.random.RandomState(0)
    terms = {"pixel": np.exp(3 + 2 * rng.randn(500)), "feature": np.exp(-2 + 0.1 * rng.randn(500))}
    calibration = {term: calibrate(values) for term, values in terms.items()}
    assert calibration["pixel"] == pytest.approx((3, 2), abs=0.2)
    each = [combine({term: terms[term]}, calibration) for term in terms]
    for values in each:
        assert values.mean() == pytest.approx(0, abs=1e-9)
        assert values.std() == pytest.approx(1)
    np.testing.assert_allclose(combine(terms, calibration), each[0] + each[1])


def test_ties_do_not_lead_to_division_by_zero():
    tied = np.zeros(10)
    calibration = {"pixel": calibrate(tied)}
    np.testing.assert_array_equal(combine({"pixel": tied}, calibration), np.zeros(10))


@pytest.mark.parametrize(("value", "n"), [(0.0, 100), (0.3, 37)])
def test_rounding_of_ties_does_not_lead_to_division(value, n):
    calibration = {"pixel": calibrate(np.full(n, value))}
    assert calibration["pixel"] == (pytest.approx(np.log(value + 1e-6)), 1.0)
