import numpy as np
import pytest

from sklearn_ext.ood import (
    DiffusionOODConfig,
    EmpiricalDenoiser,
    diffusion_disparities,
    feature_disparity,
    pixel_disparity,
    regenerate,
)
from sklearn_ext.ood.diffusion._diffusion_disparities import available_terms, chosen_terms


class SquaredFeatures:
    """Outputs of a classifier with three classes whose features are squares of the input."""

    has_features = True
    classifier = None
    classes = np.arange(3)

    def compute(self, X):
        return X.reshape(len(X), -1).astype(np.float64) ** 2

    def logits(self, values):
        return values[..., :3]

    def codes(self, X):
        return self.logits(self.compute(X)).argmax(axis=1)


@pytest.fixture
def problem():
    rng = np.random.RandomState(0)
    stored = rng.uniform(-1, 1, size=(40, 4)).astype(np.float32)
    X, noise = (rng.randn(n, 4).astype(np.float32) for n in (9, 3))
    return X, EmpiricalDenoiser(stored, rng.randint(3, size=40)), noise


@pytest.mark.parametrize("conditional", [False, True])
def test_disparities_are_those_of_the_regenerations(problem, conditional):
    X, denoiser, noise = problem
    outputs = SquaredFeatures()
    config = DiffusionOODConfig(
        terms=("pixel", "feature"), noise_level=0.4, n_steps=2, conditional=conditional
    )
    actual = diffusion_disparities(
        X, denoiser, noise, config, outputs=outputs, clip_value=0.5, batch_size=4
    )
    codes = outputs.codes(X) if conditional else None
    x_hat = regenerate(X, noise, denoiser, noise_level=0.4, n_steps=2, codes=codes)
    np.testing.assert_allclose(actual["pixel"], pixel_disparity(X, x_hat).mean(axis=0), rtol=1e-5)
    z, z_hat = (np.minimum(each.astype(np.float64) ** 2, 0.5) for each in (X, x_hat))
    expected = feature_disparity(z, z_hat, "cosine").mean(axis=0)
    np.testing.assert_allclose(actual["feature"], expected, rtol=1e-4, atol=1e-7)


def test_terms_without_outputs_are_refused(problem):
    config = DiffusionOODConfig(terms=("pixel", "probability"))
    with pytest.raises(ValueError, match="cannot be computed from these outputs: None"):
        diffusion_disparities(*problem, config)


def test_auto_chooses_two_terms_if_a_classifier_is_available():
    outputs = SquaredFeatures()
    assert chosen_terms("auto", None) == available_terms(None) == ("pixel",)
    assert chosen_terms("auto", outputs) == ("pixel", "feature")
    assert available_terms(outputs) == ("pixel", "feature", "probability")
