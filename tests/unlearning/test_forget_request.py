import numpy as np
import pytest

from sklearn_ext import make_forget_split

COARSE = np.repeat(["animal", "plant"], [30, 20])
FINE = np.repeat(["cat", "dog", "tree"], [10, 20, 20])


def test_a_class_is_forgotten_as_a_whole():
    np.testing.assert_array_equal(make_forget_split(FINE, target="dog"), FINE == "dog")
    drawn = make_forget_split(FINE, random_state=1)
    assert len(np.unique(FINE[drawn])) == 1
    assert drawn.sum() == (FINE[drawn][0] == FINE).sum()


def test_a_part_of_a_class_leaves_the_rest():
    mask = make_forget_split(COARSE, "subclass", target="cat", y_fine=FINE)
    np.testing.assert_array_equal(mask, FINE == "cat")


@pytest.mark.parametrize(("fraction", "expected"), [(0.1, [1, 2, 2]), (0.5, [5, 10, 10])])
def test_a_share_of_every_class_is_drawn(fraction, expected):
    masks = [
        make_forget_split(FINE, "random", fraction=fraction, random_state=seed)
        for seed in (0, 0, 1)
    ]
    counts = np.unique(FINE[masks[0]], return_counts=True)[1]
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()


def test_small_classes_give_a_row_but_not_their_last():
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
def test_what_cannot_be_forgotten_is_refused(y, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_forget_split(y, **arguments)
