import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sklearn_ext.metrics import fpr_at_tpr_score, ood_report


def by_hand(positives, negatives, tpr):
    """Try every threshold."""
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
def test_false_positive_rate_by_hand(scores, tpr):
    s_id, s_ood = scores
    y = np.repeat(["in", "out"], [len(s_id), len(s_ood)])
    s = np.concatenate(scores)
    actual = fpr_at_tpr_score(y, s, pos_label="in", tpr=tpr)
    assert actual == pytest.approx(by_hand(s_id, s_ood, tpr))
    actual = fpr_at_tpr_score(y, -s, pos_label="out", tpr=tpr)
    assert actual == pytest.approx(by_hand(-s_ood, -s_id, tpr))


def test_the_two_conventions_differ():
    s_id, s_ood = np.arange(100.0), np.full(10, 4.5)
    report = ood_report(s_id, s_ood)
    assert report.fpr_id_positive == 0.0
    assert report.fpr_ood_positive == 0.05
    assert report.auroc == pytest.approx(0.95)


def test_report_of_one_set(scores):
    s_id, s_ood = scores
    report = ood_report(s_id, s_ood)
    y = np.repeat([1, 0], [len(s_id), len(s_ood)])
    s = np.concatenate(scores)
    assert report.auroc == pytest.approx(roc_auc_score(y, s))
    assert report.fpr_id_positive == fpr_at_tpr_score(y, s, pos_label=1)
    assert report.fpr_ood_positive == fpr_at_tpr_score(y, -s, pos_label=0)
    assert report.ood_share == pytest.approx(57 / 160)
    assert (report.sets["OOD"].n_id, report.sets["OOD"].n_ood) == (103, 57)


def test_useless_scores_have_the_prevalence_as_average_precision():
    report = ood_report(np.zeros(30), np.zeros(10))
    assert report.auroc == 0.5
    assert report.aupr_id == pytest.approx(0.75)
    assert report.aupr_ood == report.ood_share == 0.25
    assert report.fpr_id_positive == report.fpr_ood_positive == 1.0


def test_report_of_several_sets_averages(scores):
    s_id, s_ood = scores
    report = ood_report(s_id, {"near": s_ood, "far": s_ood - 10.0})
    near, far = report.sets["near"], report.sets["far"]
    assert far.auroc == 1.0
    assert report.auroc == pytest.approx((near.auroc + 1.0) / 2)
    frame = report.to_frame()
    assert frame.index.tolist() == ["near", "far"]
    assert frame.loc["near", "aupr_ood"] == near.aupr_ood
    assert "average" in str(report)
    assert "average" not in str(ood_report(s_id, s_ood))
    with pytest.raises(AttributeError, match="accuracy"):
        report.accuracy  # noqa: B018


@pytest.mark.parametrize("y", [[1, 1, 1], [0, 0, 0]])
def test_both_groups_are_needed(y):
    with pytest.raises(ValueError, match="both positives and negatives"):
        fpr_at_tpr_score(y, [0.1, 0.2, 0.3], pos_label=1)


def test_the_positive_class_has_no_default():
    with pytest.raises(TypeError, match="pos_label"):
        fpr_at_tpr_score([0, 1], [0.1, 0.2])


@pytest.mark.parametrize(
    ("s_id", "s_ood", "match"),
    [
        ([], [1.0], "s_id must hold"),
        ([1.0], {"far": []}, "far"),
        ([1.0], {}, "empty dict"),
        ([1.0, np.nan], [1.0], "s_id must be finite"),
        ([1.0], [np.inf], "s_ood must be finite"),
    ],
)
def test_unusable_scores(s_id, s_ood, match):
    with pytest.raises(ValueError, match=match):
        ood_report(s_id, s_ood)
