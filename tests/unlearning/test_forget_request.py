import subprocess
import sys

import numpy as np
import pytest

from sklearn_ext import make_forget_split
from sklearn_ext.unlearning import ForgetRequest

COARSE = np.repeat(["animal", "plant"], [30, 20])
FINE = np.repeat(["cat", "dog", "tree"], [10, 20, 20])


def test_a_whole_class_is_selected():
    np.testing.assert_array_equal(make_forget_split(FINE, target="dog"), FINE == "dog")
    drawn = make_forget_split(FINE, random_state=1)
    assert len(np.unique(FINE[drawn])) == 1
    assert drawn.sum() == (FINE[drawn][0] == FINE).sum()


def test_a_part_of_a_class_is_selected():
    mask = make_forget_split(COARSE, "subclass", target="cat", y_fine=FINE)
    np.testing.assert_array_equal(mask, FINE == "cat")


@pytest.mark.parametrize(("fraction", "expected"), [(0.1, [1, 2, 2]), (0.5, [5, 10, 10])])
def test_a_fraction_of_every_class_is_drawn(fraction, expected):
    masks = [
        make_forget_split(FINE, "random", fraction=fraction, random_state=seed)
        for seed in (0, 0, 1)
    ]
    counts = np.unique(FINE[masks[0]], return_counts=True)[1]
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()


def test_small_classes_keep_their_last_sample():
    y = np.array([0] * 3 + [1] * 2 + [2])
    for fraction, expected in ((0.01, [1, 1, 0]), (0.99, [2, 1, 0])):
        mask = make_forget_split(y, "random", fraction=fraction, random_state=0)
        np.testing.assert_array_equal(np.bincount(y[mask], minlength=3), expected)


@pytest.mark.parametrize(
    ("y", "arguments", "message"),
    [
        (FINE, {"target": "fish"}, "target must be one of the labels in y, got 'fish'"),
        (FINE, {"kind": "subclass"}, "requires y_fine"),
        (COARSE, {"kind": "subclass", "y_fine": FINE, "target": "tree"}, "are a whole class"),
        (FINE, {"kind": "subclass", "y_fine": COARSE, "target": "animal"}, "belong to 2 classes"),
        (COARSE, {"kind": "subclass", "y_fine": FINE[1:]}, "inconsistent numbers of samples"),
        (np.zeros(4), {}, "only one class"),
        (np.arange(3), {"kind": "random"}, "only one sample"),
        (FINE, {"kind": "random", "fraction": 1.0}, "fraction"),
        (FINE, {"kind": "hardest"}, "kind"),
    ],
)
def test_invalid_splits_are_refused(y, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_forget_split(y, **arguments)


@pytest.mark.parametrize("forget", [[4, 1], np.array([0, 1, 0, 0, 1], dtype=bool)])
def test_a_request_splits_the_samples(forget):
    request = ForgetRequest.from_user(forget, 5)
    assert sorted(request.forget) == [1, 4]
    assert request.retain.tolist() == [0, 2, 3]
    assert not request.is_empty


def test_a_request_of_none_retains_all_samples():
    request = ForgetRequest.from_user(None, 3)
    assert request.is_empty
    assert request.retain.tolist() == [0, 1, 2]


def test_a_request_keeps_the_order_of_the_indices():
    assert ForgetRequest.from_user([4, 1], 5).forget.tolist() == [4, 1]


def test_subpackages_are_exported_and_imported_lazily():
    code = (
        "import sys; from sklearn_ext import unlearning; unlearning.RandomFeatureClassifier();"
        "assert 'torch' not in sys.modules; unlearning.steps.fast_slow; unlearning.networks.muso"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
