import numpy as np
import pytest
from scipy.stats import entropy

from sklearn_ext.metrics import mean_kl_divergence, unlearning_gap


def test_the_divergence_is_the_mean_over_samples():
    rng = np.random.RandomState(0)
    r, p = rng.dirichlet(np.ones(5), size=(2, 20))
    assert mean_kl_divergence(r, p) == pytest.approx(entropy(r, p, axis=1).mean())
    assert mean_kl_divergence(r, r) == 0.0
    assert mean_kl_divergence(r, p) != pytest.approx(mean_kl_divergence(p, r))


def test_an_excluded_class_costs_much_but_not_everything():
    r, p = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert mean_kl_divergence(r, p) == pytest.approx(np.log(1e12), rel=1e-6)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"shape of proba_reference, \(1, 2\), got shape \(1, 3\)"):
        mean_kl_divergence([[0.5, 0.5]], [[0.2, 0.3, 0.5]])


def test_the_gap_averages_the_named_metrics():
    ours, gold = {"FA": 10.0, "TA": 80.0, "MIA": 7.0}, {"FA": 0.0, "TA": 84.0, "MIA": 50.0}
    assert unlearning_gap(ours, gold, names=("FA", "TA")) == 7.0
    with pytest.raises(KeyError, match="RA"):
        unlearning_gap(ours, gold)
