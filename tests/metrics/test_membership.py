import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from sklearn_ext.metrics import membership_inference_score
from sklearn_ext.metrics._membership import (
    label_codes,
    modified_entropy,
    prediction_entropy,
    true_class_probability,
)


def probabilities(n, sharpness, seed):
    rng = np.random.RandomState(seed)
    values = np.exp(sharpness * rng.randn(n, 4))
    return values / values.sum(axis=1, keepdims=True), rng.randint(4, size=n)


MEMBER, Y_MEMBER = probabilities(300, 3.0, 0)
OTHER, Y_OTHER = probabilities(120, 1.0, 1)
ASKED, Y_ASKED = probabilities(90, 2.0, 2)


def test_the_entropy_is_that_of_scipy_and_zero_for_certainty():
    np.testing.assert_allclose(prediction_entropy(MEMBER), entropy(MEMBER, axis=1))
    np.testing.assert_array_equal(prediction_entropy(np.eye(3)), 0.0)


def test_the_modified_entropy_matches_its_formula():
    p, y = ASKED[0], Y_ASKED[0]
    expected = -(1 - p[y]) * np.log(p[y])
    expected -= sum(p[c] * np.log(1 - p[c]) for c in range(4) if c != y)
    assert modified_entropy(ASKED, Y_ASKED)[0] == pytest.approx(expected)
    certain = modified_entropy(np.eye(3)[[0, 0]], np.array([0, 1]))
    assert certain[0] == 0.0
    assert certain[1] > 20.0


def test_columns_may_have_the_classes_in_any_order():
    classes = np.array(["c", "a", "b"])
    codes = label_codes(np.array(["a", "b", "c", "z", "0"]), classes)
    np.testing.assert_array_equal(codes, [1, 2, 0, -1, -1])
    proba = np.array([[0.7, 0.2, 0.1]] * 5)
    np.testing.assert_array_equal(true_class_probability(proba, codes), [0.2, 0.1, 0.7, 0, 0])


@pytest.mark.parametrize("attack", ["entropy", "modified_entropy"])
def test_threshold_attacks_are_balanced_logistic_regressions(attack):
    groups = [(MEMBER, Y_MEMBER), (OTHER, Y_OTHER), (ASKED, Y_ASKED)]
    if attack == "entropy":
        member, other, asked = (entropy(p, axis=1)[:, None] for p, _ in groups)
    else:
        member, other, asked = (modified_entropy(p, y)[:, None] for p, y in groups)
    model = LogisticRegression(class_weight="balanced")
    model.fit(np.vstack((member, other)), np.repeat([1, 0], [300, 120]))
    score = membership_inference_score(
        ASKED, MEMBER, OTHER, y=Y_ASKED, y_member=Y_MEMBER, y_nonmember=Y_OTHER, attack=attack
    )
    assert 0.0 < score < 1.0
    assert score == model.predict(asked).mean()


def test_the_confidence_attack_trains_on_equal_numbers():
    labels = {"y": Y_ASKED, "y_member": Y_MEMBER, "y_nonmember": Y_OTHER}
    score = membership_inference_score(
        ASKED, MEMBER, OTHER, **labels, attack="confidence", max_samples=80, random_state=3
    )
    rng = np.random.RandomState(3)
    members, others = rng.permutation(300)[:80], rng.permutation(120)[:80]
    own = [p[np.arange(len(p)), y] for p, y in ((MEMBER, Y_MEMBER), (OTHER, Y_OTHER))]
    signal = np.concatenate((own[0][members], own[1][others]))[:, None]
    svc = SVC(C=3, gamma="auto").fit(signal, np.repeat([1, 0], 80))
    assert score == svc.predict(ASKED[np.arange(90), Y_ASKED][:, None]).mean()


def test_members_and_nonmembers_are_told_apart():
    attack = {"proba_member": MEMBER, "proba_nonmember": OTHER}
    assert membership_inference_score(MEMBER, **attack) > 0.7
    assert membership_inference_score(OTHER, **attack) < 0.3


def test_a_forgotten_label_has_zero_confidence():
    names = {"y": ["gone"] * 90, "y_member": np.array(list("abcd"))[MEMBER.argmax(axis=1)]}
    score = membership_inference_score(
        ASKED,
        MEMBER,
        OTHER,
        **names,
        y_nonmember=np.array(list("abcd"))[Y_OTHER],
        classes=list("abcd"),
        attack="confidence",
        random_state=0,
    )
    assert score == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proba": ASKED[:, :3]}, "proba must have nonnegative rows that sum to one, got entries"),
        ({"proba_member": np.eye(3)}, r"same number of columns, got \[3, 4\]"),
        ({"attack": "confidence"}, "y must be given for attack='confidence', got None"),
        ({"attack": "confidence", "y": Y_ASKED}, "y_member must be given"),
        ({"attack": "confidence", "y": [0]}, "y must have 90 labels, got 1"),
        ({"attack": "confidence", "y": Y_ASKED, "classes": [1]}, "one label per column, 4, got 1"),
        ({"attack": "shadow"}, "attack"),
    ],
)
def test_inconsistent_arguments_are_refused(change, message):
    given = {"proba": ASKED, "proba_member": MEMBER, "proba_nonmember": OTHER}
    with pytest.raises(ValueError, match=message):
        membership_inference_score(**given | change)
