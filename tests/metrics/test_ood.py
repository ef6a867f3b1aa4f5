import warnings

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sklearn_ext.metrics import fpr_at_tpr_score, ood_report, select_outliers


def smallest_rate(positives, negatives, tpr):
    """Return the rate of the best threshold, found by trying each."""
    rates = [
        np.mean(negatives >= t) for t in np.unique(positives) if np.mean(positives >= t) >= tpr
    ]
    return min(rates)


@pytest.fixture
def scores():
    rng = np.random.RandomState(0)
    # Rounding makes ties within and between the groups.
    return rng.normal(1.0, size=103).round(1), rng.normal(0.0, size=57).round(1)


@pytest.mark.parametrize("tpr", [0.5, 0.95, 1.0])
def test_false_positive_rate_is_that_of_the_best_threshold(scores, tpr):
    s_id, s_ood = scores
    y = np.repeat(["in", "out"], [len(s_id), len(s_ood)])
    s = np.concatenate(scores)
    actual = fpr_at_tpr_score(y, s, pos_label="in", tpr=tpr)
    assert actual == pytest.approx(smallest_rate(s_id, s_ood, tpr))
    actual = fpr_at_tpr_score(y, -s, pos_label="out", tpr=tpr)
    assert actual == pytest.approx(smallest_rate(-s_ood, -s_id, tpr))


def test_the_two_conventions_differ():
    s_id, s_ood = np.arange(100.0), np.full(10, 4.5)
    scores = ood_report(s_id, s_ood).scores["OOD"]
    assert scores["fpr_id_positive"] == 0.0
    assert scores["fpr_ood_positive"] == 0.05
    assert scores["auroc"] == pytest.approx(0.95)


def test_a_report_of_one_set_has_the_scores_of_scikit_learn(scores):
    s_id, s_ood = scores
    report = ood_report(s_id, s_ood)
    found = report.scores["OOD"]
    y = np.repeat([1, 0], [len(s_id), len(s_ood)])
    s = np.concatenate(scores)
    assert found["auroc"] == pytest.approx(roc_auc_score(y, s))
    assert found["fpr_id_positive"] == fpr_at_tpr_score(y, s, pos_label=1)
    assert found["fpr_ood_positive"] == fpr_at_tpr_score(y, -s, pos_label=0)
    assert found["ood_fraction"] == pytest.approx(57 / 160)
    assert (found["n_id"], found["n_ood"]) == (103, 57)
    assert report.average == pytest.approx(found)


def test_the_precision_of_useless_scores_is_the_prevalence():
    found = ood_report(np.zeros(30), np.zeros(10)).scores["OOD"]
    assert found["auroc"] == 0.5
    assert found["aupr_id"] == pytest.approx(0.75)
    assert found["aupr_ood"] == found["ood_fraction"] == 0.25
    assert found["fpr_id_positive"] == found["fpr_ood_positive"] == 1.0


def test_a_report_of_several_sets_averages(scores):
    s_id, s_ood = scores
    report = ood_report(s_id, {"near": s_ood, "far": s_ood - 10.0}, tpr=0.9)
    near, far = report.scores["near"], report.scores["far"]
    assert far["auroc"] == 1.0
    assert report.average["auroc"] == pytest.approx((near["auroc"] + 1.0) / 2)
    frame = report.to_frame()
    assert frame.index.tolist() == ["near", "far", "average"]
    assert frame.loc["near", "aupr_ood"] == near["aupr_ood"]
    assert "average" in str(report)
    assert "FPR90 (ID positive)" in report._repr_html_()
    assert "average" not in str(ood_report(s_id, s_ood))


@pytest.mark.parametrize("y", [[1, 1, 1], [0, 0, 0]])
def test_both_groups_are_needed(y):
    with pytest.raises(ValueError, match="positives and negatives"):
        fpr_at_tpr_score(y, [0.1, 0.2, 0.3], pos_label=1)


def test_the_positive_class_has_no_default():
    with pytest.raises(TypeError, match="pos_label"):
        fpr_at_tpr_score([0, 1], [0.1, 0.2])


@pytest.mark.parametrize(
    ("s_id", "s_ood", "match"),
    [
        ([], [1.0], "s_id must contain"),
        ([1.0], {"far": []}, "far"),
        ([1.0], {}, "empty dict"),
        ([1.0, np.nan], [1.0], "s_id must be finite"),
        ([1.0], [np.inf], "s_ood must be finite"),
        (np.eye(2), [1.0], r"s_id must have one score per sample, got shape \(2, 2\)"),
        ([1.0], {"far": 3.0}, r"s_ood\['far'\] must have one score per sample, got shape \(\)"),
    ],
)
def test_unusable_scores_are_named(s_id, s_ood, match):
    with pytest.raises(ValueError, match=match):
        ood_report(s_id, s_ood)


def test_swapped_arguments_are_noticed(scores):
    s_id, s_ood = scores
    with pytest.raises(TypeError, match=r"s_id must be .* got a dict.* ood_report\(s_id, s_ood\)"):
        ood_report({"near": s_ood}, s_id)
    with pytest.warns(UserWarning, match="the AUROC is 0.2.* s_id is the first argument") as record:
        ood_report(s_ood, s_id)
    assert record[0].filename == __file__
    with warnings.catch_warnings(action="error"):
        ood_report(s_id, {"far": s_ood, "farther": s_id + 5.0})  # wrong for one set only


def test_selected_outliers_contain_few_inliers():
    rng = np.random.RandomState(0)
    fractions, found = [], []
    for _ in range(300):
        held_out = np.sort(rng.normal(size=500))
        scores = np.concatenate([rng.normal(size=180), rng.normal(-4, 1, size=20)])
        p = (np.searchsorted(held_out, scores, side="right") + 1) / 501
        selected = select_outliers(p, fdr=0.2)
        fractions.append(selected[:180].sum() / max(selected.sum(), 1))
        found.append(selected[180:].mean())
    assert np.mean(fractions) <= 0.2
    assert np.mean(found) > 0.8


def test_selection_equals_the_step_up_procedure():
    p = np.random.RandomState(0).uniform(size=50) ** 3
    below = np.flatnonzero(np.sort(p) <= 0.1 * np.arange(1, 51) / 50)
    expected = p <= np.sort(p)[below[-1]]
    np.testing.assert_array_equal(select_outliers(p, fdr=0.1), expected)
    assert not select_outliers(np.ones(3)).any()


@pytest.mark.parametrize("p", [[0.5, 1.2], [-0.1], [np.nan]])
def test_p_values_outside_zero_to_one_are_refused(p):
    with pytest.raises(ValueError, match="p_values must be between 0 and 1"):
        select_outliers(p)
