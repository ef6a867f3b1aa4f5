import numpy as np
import pytest
from sklearn.datasets import make_friedman1
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from sklearn_ext import (
    ConsensusDisplay,
    DecentralizedRFClassifier,
    DecentralizedRFKRR,
    NetworkDisplay,
)

X, y = make_friedman1(300, random_state=0)
node = np.array(list("abcde"))[np.arange(300) % 5]


def fit(**parameters):
    krr = DecentralizedRFKRR(n_components=20, alpha=1e-3, graph="ring", random_state=0)
    return krr.set_params(**parameters).fit(X, y, node=node)


def test_curves_are_plotted_against_the_floats_sent():
    exact = fit().objective_curve_[-1]
    krr = fit(solver="jacobi")
    display = ConsensusDisplay.from_estimator(krr, reference=exact, name="rounds")
    objective, gap = display.lines_
    sent = krr.n_floats_sent_
    assert gap.get_xdata()[0] == sent["setup"]
    assert gap.get_xdata()[-1] == sent["total"]
    np.testing.assert_array_equal(gap.get_ydata(), krr.consensus_curve_)
    assert objective.get_label() == "rounds"
    assert (np.diff(objective.get_ydata()) < 0).all()
    assert objective.get_ydata()[0] == pytest.approx(krr.objective_curve_[0] / exact - 1.0)


def test_solvers_share_axes():
    first = ConsensusDisplay.from_estimator(fit(solver="jacobi"))
    second = ConsensusDisplay.from_estimator(fit(solver="chebyshev"), axes=first.axes_)
    assert second.figure_ is first.figure_
    legend = [text.get_text() for text in first.axes_[0].get_legend().get_texts()]
    assert legend == ["jacobi", "chebyshev"]


def test_nodes_are_colored_by_their_own_error():
    krr, alone = fit(), fit(consensus_weight=0.0)
    display = NetworkDisplay.from_estimator(krr, X, y, node=node, baseline=alone)
    assert [ax.get_title() for ax in display.axes_] == ["before", "after"]
    for points, model in zip(display.points_, (alone, krr), strict=True):
        expected = [
            np.sqrt(((model.predict(X[node == k], node=k) - y[node == k]) ** 2).mean())
            for k in "abcde"
        ]
        np.testing.assert_allclose(points.get_array(), expected)
        assert points.get_clim() == display.points_[0].get_clim()
    assert len(display.axes_[0].lines) == 5


def test_nodes_without_samples_are_blank():
    labels = y > np.median(y)
    classifier = DecentralizedRFClassifier(alpha=1e-3, random_state=0).fit(X, labels, node=node)
    rows = node != "c"
    positions = np.arange(10).reshape(5, 2)
    display = NetworkDisplay.from_estimator(
        classifier, X[rows], labels[rows], node=node[rows], positions=positions
    )
    assert list(display.errors) == ["after"]
    assert np.isnan(display.errors["after"]).tolist() == [False, False, True, False, False]
    assert display.measure == "error rate"
    np.testing.assert_array_equal(display.points_[0].get_offsets(), positions)


@pytest.mark.parametrize(
    "draw",
    [
        ConsensusDisplay.from_estimator,
        lambda model: NetworkDisplay.from_estimator(model, X, y, node=node),
    ],
)
def test_unfitted_estimators_are_refused(draw):
    with pytest.raises(NotFittedError):
        draw(DecentralizedRFKRR())


def test_a_solution_without_rounds_is_drawn_as_points():
    display = ConsensusDisplay.from_estimator(fit())
    objective, gap = display.lines_
    assert [line.get_marker() for line in display.lines_] == ["o", "o"]
    assert len(objective.get_xdata()) == 1  # the best value is not on a logarithmic axis
    assert len(gap.get_xdata()) == 2


def test_a_pipeline_prepares_the_samples_of_the_nodes():
    krr = DecentralizedRFKRR(n_components=20, alpha=1e-3, graph="ring", random_state=0)
    pipeline = make_pipeline(MinMaxScaler(), krr)
    pipeline.fit(10 * X, y, decentralizedrfkrr__node=node)
    display = NetworkDisplay.from_estimator(pipeline, 10 * X, y, node=node)
    scaled = pipeline[0].transform(10 * X)
    direct = NetworkDisplay.from_estimator(pipeline[-1], scaled, y, node=node)
    np.testing.assert_array_equal(display.errors["after"], direct.errors["after"])


def test_displays_refuse_a_wrong_number_of_axes():
    from matplotlib.figure import Figure

    krr = fit(solver="jacobi")
    with pytest.raises(ValueError, match="axes must have one entry per curve, 2, got 1"):
        ConsensusDisplay.from_estimator(krr, axes=[Figure().subplots()])
    with pytest.raises(ValueError, match="axes must have one entry per panel, 1, got 3"):
        NetworkDisplay.from_estimator(krr, X, y, node=node, axes=Figure().subplots(3))
