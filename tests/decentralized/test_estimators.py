"""The public behavior of DecentralizedRFKRR and DecentralizedRFClassifier."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn import clone, config_context
from sklearn.datasets import load_digits, make_friedman1
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, scale

from sklearn_ext import DecentralizedRFClassifier, DecentralizedRFKRR, InProcessNetwork

X, Y = make_friedman1(800, noise=0.5, random_state=0)
NODE = np.array(["north", "east", "south", "west"])[np.arange(800) % 4]
TRAIN, TEST = slice(0, 400), slice(400, None)


def make(**parameters):
    defaults = {"n_components": 30, "alpha": 1e-4, "graph": "ring", "random_state": 0}
    return DecentralizedRFKRR(**defaults | parameters)


def fit(y=Y, **parameters):
    return make(**parameters).fit(X[TRAIN], y[TRAIN], node=NODE[TRAIN])


def test_every_node_benefits_from_its_neighbors():
    alone, together = fit(consensus_weight=0.0), fit(consensus_weight=0.5)
    for name in np.unique(NODE):
        rows = np.flatnonzero(NODE[TEST] == name) + 400
        scores = [krr.score(X[rows], Y[rows], node=name) for krr in (alone, together)]
        assert scores[0] < scores[1]
    assert together.consensus_error_ < alone.consensus_error_


def test_single_node_is_ridge_regression_on_its_features():
    krr = make(n_nodes=1, fit_intercept=False).fit(X, Y)
    (frequencies,), (phases,) = krr.node_frequencies_, krr.node_phases_
    Z = np.sqrt(2.0 / 30) * np.cos(X @ frequencies + phases)
    ridge = Ridge(alpha=1e-4 * len(X), fit_intercept=False).fit(Z, Y)
    np.testing.assert_allclose(krr.predict(X), ridge.predict(Z), rtol=1e-8)


def test_aggregate_and_node_decide_what_is_averaged():
    krr = fit(graph="path")
    values = krr.predict_nodes(X[TEST])
    assert krr.nodes_.tolist() == ["east", "north", "south", "west"]
    np.testing.assert_allclose(krr.predict(X[TEST]), values.mean(axis=0))
    np.testing.assert_allclose(krr.predict(X[TEST], node="south"), values[2])
    own = krr.predict(X[TEST], node=NODE[TEST])
    position = np.searchsorted(krr.nodes_, NODE[TEST])
    np.testing.assert_allclose(own, values[position, np.arange(400)])
    krr.set_params(aggregate="neighborhood")
    np.testing.assert_allclose(krr.predict(X[TEST], node="east"), values[:2].mean(axis=0))
    np.testing.assert_allclose(krr.predict(X[TEST], node="south"), values[1:].mean(axis=0))
    with pytest.raises(ValueError, match="node must be passed to predict"):
        krr.predict(X[TEST])


@pytest.mark.parametrize("node", ["nowhere", ["east"] * 399 + ["nowhere"]])
def test_unknown_nodes_are_rejected(node):
    with pytest.raises(ValueError, match=r"one of the fitted nodes .* got 'nowhere'"):
        fit().predict(X[TRAIN][:400], node=node)


def test_node_is_routed_through_pipelines_and_searches():
    pipeline = make_pipeline(MinMaxScaler(), make())
    with config_context(enable_metadata_routing=True):
        scores = cross_val_score(pipeline, X, Y, params={"node": NODE}, cv=3)
        search = GridSearchCV(pipeline, {"decentralizedrfkrr__consensus_weight": [0.0, 1.0]}, cv=2)
        search.fit(X, Y, node=NODE)
        best = search.best_estimator_[-1]
        own = pipeline.fit(X[TRAIN], Y[TRAIN], node=NODE[TRAIN]).predict(X[TEST], node=NODE[TEST])
    assert (scores > 0.6).all()
    assert best.nodes_.tolist() == sorted(set(NODE))
    assert r2_score(Y[TEST], own) > 0.6


def test_edges_join_labels_of_nodes():
    with pytest.warns(UserWarning, match="its 2 components cannot exchange"):
        krr = fit(graph=[("north", "east"), ("east", "south")])
    neighbors = {name: krr.nodes_[row > 0].tolist() for name, row in zip(
        krr.nodes_.tolist(), krr.adjacency_, strict=True)}  # fmt: skip
    assert neighbors == {
        "east": ["north", "south"],
        "north": ["east"],
        "south": ["east"],
        "west": [],
    }
    assert np.isfinite(krr.predict(X)).all()


def test_more_nodes_than_samples_warn():
    with pytest.warns(UserWarning, match="n_nodes=10 is more"):
        krr = make(n_nodes=10).fit(X[:6], Y[:6])
    assert len(krr.nodes_) == 6


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_threads_do_not_change_the_result(n_jobs):
    np.testing.assert_array_equal(fit(n_jobs=n_jobs).predict(X), fit().predict(X))


def test_order_and_replication_give_the_same_model():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 3, 400)
    weighted = make().fit(X[TRAIN], Y[TRAIN], node=NODE[TRAIN], sample_weight=counts)
    rows = rng.permutation(np.repeat(np.arange(400), counts))
    copied = make().fit(X[rows], Y[rows], node=NODE[rows])
    np.testing.assert_allclose(weighted.predict(X), copied.predict(X), rtol=1e-9)


def test_predictions_shift_and_scale_with_the_targets():
    both = np.column_stack((Y, -2.0 * Y))
    single, joint = fit(), fit(both)
    assert joint.predict_nodes(X).shape == (4, 800, 2)
    np.testing.assert_allclose(joint.predict(X)[:, 0], single.predict(X), rtol=1e-8)
    np.testing.assert_allclose(joint.predict(X)[:, 1], -2.0 * single.predict(X), rtol=1e-8)
    np.testing.assert_allclose(fit(Y + 1e4).predict(X) - 1e4, single.predict(X), atol=1e-6)
    assert fit(Y, fit_intercept=False).intercept_ == 0.0


def test_sparse_and_dense_samples_give_the_same_model():
    samples = X * (X > 0.5)
    csr = sparse.csr_array(samples)
    dense = make(oversampling=3).fit(samples, Y, node=NODE)
    thin = make(oversampling=3).fit(csr, Y, node=NODE)
    np.testing.assert_allclose(thin.predict(csr), dense.predict(samples), rtol=1e-7)
    for engine in ("torch", "numba"):
        scaled = make(gamma="scale", engine=engine).fit(samples, Y, node=NODE)
        again = make(gamma="scale", engine=engine).fit(csr, Y, node=NODE)
        np.testing.assert_allclose(again.predict(samples), scaled.predict(samples), rtol=1e-7)


def test_float32_input_gives_float32_output():
    krr = make().fit(X[TRAIN].astype(np.float32), Y[TRAIN], node=NODE[TRAIN])
    predicted = krr.predict(X.astype(np.float32))
    assert predicted.dtype == np.float32
    assert abs(predicted - fit().predict(X)).max() < 0.05 * Y.std()


def test_torch_engine_matches_numba():
    np.testing.assert_allclose(fit(engine="torch").predict(X), fit().predict(X), atol=1e-10)


@pytest.mark.parametrize("selection", ["energy_pairs", "energy", "leverage", "plain"])
@pytest.mark.parametrize("solver", ["direct", "cg", "jacobi", "gauss_seidel", "chebyshev"])
def test_every_selection_and_solver_learns(selection, solver):
    krr = fit(feature_selection=selection, solver=solver, oversampling=4)
    assert krr.score(X[TEST], Y[TEST]) > 0.5
    assert len(krr.objective_curve_) == krr.n_iter_ + 1
    assert krr.n_floats_sent_["total"] == (
        krr.n_floats_sent_["setup"] + krr.n_iter_ * krr.n_floats_sent_["round"]
    )


def test_too_few_rounds_warn():
    with pytest.warns(ConvergenceWarning, match="to tol=1e-06 within max_iter=2 rounds"):
        fit(solver="jacobi", max_iter=2)


def test_anchors_from_another_distribution_hurt():
    good, bad = fit(anchors=X[TEST][:100]), fit(anchors=X[TEST][:100] + 3.0, consensus_weight=4.0)
    assert good.score(X[TEST], Y[TEST], node=NODE[TEST]) > bad.score(
        X[TEST], Y[TEST], node=NODE[TEST]
    )


def test_partial_fit_adds_samples():
    plain = {"feature_selection": "plain", "gamma": 0.5}
    whole = fit(**plain)
    rows = np.arange(400)
    grown = make(**plain).partial_fit(X[:200], Y[:200], node=NODE[:200])
    grown.partial_fit(X[200:400], Y[200:400], node=NODE[200:400])
    np.testing.assert_allclose(grown.predict(X), whole.predict(X), rtol=1e-6)
    assert grown.intercept_ == pytest.approx(Y[rows].mean())
    only_north = np.flatnonzero(NODE[TEST] == "north") + 400
    before = grown.predict_nodes(X)
    grown.partial_fit(X[only_north], Y[only_north], node=NODE[only_north])
    assert (grown.predict_nodes(X) != before).all(axis=1).any()
    dealt = grown.partial_fit(X[:2], Y[:2])
    assert np.isfinite(dealt.predict(X)).all()
    with pytest.raises(ValueError, match="must be one of the fitted nodes"):
        grown.partial_fit(X[:2], Y[:2], node=["north", "nowhere"])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"graph": "cube"}, "graph must be one of"),
        ({"graph": np.zeros((3, 3))}, r"\(4, 4\) for 4 nodes, got shape \(3, 3\)"),
        ({"n_components": [4, 4]}, "one number, or one for each of the 4 nodes"),
        ({"n_components": [4, 4, 4, 0]}, "must consist of positive integers"),
        ({"anchors": X[:5, :3]}, "anchors must have 10 features, as X has, got 3"),
        ({"engine": "numba", "device": "cuda"}, "computes on the CPU only"),
    ],
)
def test_invalid_parameters_are_rejected(parameters, message):
    with pytest.raises(ValueError, match=message):
        fit(**parameters)


def test_invalid_labels_of_nodes_are_rejected():
    with pytest.raises(ValueError, match="got 3 labels for 400 samples"):
        make().fit(X[TRAIN], Y[TRAIN], node=[0, 1, 2])
    with pytest.raises(ValueError, match="positive weight, but node 'west' has none"):
        make().fit(X[TRAIN], Y[TRAIN], node=NODE[TRAIN], sample_weight=NODE[TRAIN] != "west")


def test_nodes_predict_classes_absent_from_their_samples():
    digits, labels = load_digits(return_X_y=True)
    digits = scale(digits)
    node = labels[:900] // 2  # two digits per node
    parameters = {"graph": "complete", "alpha": 1e-4, "random_state": 0}
    alone = DecentralizedRFClassifier(consensus_weight=0.0, **parameters)
    together = DecentralizedRFClassifier(consensus_weight=2.0, **parameters)
    scores = [
        classifier.fit(digits[:900], labels[:900], node=node).score(digits[900:], labels[900:])
        for classifier in (alone, together)
    ]
    assert scores[0] < scores[1]
    assert scores[1] > 0.85
    assert together.decision_function(digits[:3]).shape == (3, 10)
    assert together.predict_nodes(digits[:3]).shape == (5, 3)


def test_binary_classifier_has_one_value_per_sample():
    labels = np.where(Y - np.median(Y) > 0, "high", "low")
    classifier = DecentralizedRFClassifier(n_nodes=4, graph="ring", alpha=1e-3, random_state=0)
    classifier.partial_fit(X[:100], labels[:100], classes=["low", "high"])
    classifier.partial_fit(X[TRAIN][100:], labels[TRAIN][100:])
    assert classifier.classes_.tolist() == ["high", "low"]
    values = classifier.decision_function(X)
    np.testing.assert_array_equal(classifier.predict(X) == "low", values > 0)
    assert classifier.score(X[TEST], labels[TEST]) > 0.8
    assert set(classifier.predict_nodes(X[:9]).ravel()) <= {"high", "low"}
    with pytest.raises(ValueError, match="classes must be"):
        classifier.partial_fit(X[:9], labels[:9], classes=["low"])
    with pytest.raises(ValueError, match="got 'odd'"):
        classifier.partial_fit(X[:9], ["odd"] * 9)


def test_classifier_over_a_network_matches_the_joint_one():
    labels = np.digitize(Y, np.quantile(Y, [0.3, 0.6]))
    parameters = {"n_nodes": 5, "alpha": 1e-3, "n_components": 20, "tol": 1e-9, "random_state": 0}
    joint = DecentralizedRFClassifier(**parameters).fit(X, labels)
    talking = DecentralizedRFClassifier(**parameters, network=InProcessNetwork()).fit(X, labels)
    np.testing.assert_allclose(talking.decision_function(X), joint.decision_function(X), atol=1e-7)


def test_single_class_is_rejected():
    with pytest.raises(ValueError, match="y must contain at least two classes, got one class: "):
        DecentralizedRFClassifier().fit(X[:20], np.zeros(20))
    with pytest.raises(
        ValueError, match="classes must contain at least two classes, got one class: 7"
    ):
        DecentralizedRFClassifier(classes=[7]).fit(X[:20], np.zeros(20))


def test_torch_is_imported_only_where_it_is_used():
    program = (
        "import sys; from sklearn.datasets import make_friedman1;"
        "from sklearn_ext import DecentralizedRFKRR, InProcessNetwork, TorchDistributedNetwork;"
        "X, y = make_friedman1(60, random_state=0);"
        "DecentralizedRFKRR(n_nodes=3, network=InProcessNetwork()).fit(X, y).predict(X);"
        "TorchDistributedNetwork(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_paper_form_gives_the_minimizer_of_its_objective():
    paper = DecentralizedRFKRR.from_paper(
        n_components=20, alpha=1e-3, n_nodes=4, tol=1e-9, random_state=0
    )
    direct = clone(paper).set_params(solver="direct", damping=0.0)
    scaled = Y / abs(Y).max()
    paper.fit(X, scaled)
    direct.fit(X, scaled)
    assert paper.consensus_weight_ == direct.consensus_weight_
    assert paper.consensus_weight_ in paper.consensus_weight_grid
    assert paper.n_iter_ > 1
    np.testing.assert_allclose(paper.predict(X), direct.predict(X), atol=1e-6)


@pytest.mark.parametrize("estimator", [DecentralizedRFKRR, DecentralizedRFClassifier])
def test_parameters_replace_those_of_the_paper_form(estimator):
    paper = estimator.from_paper(consensus_weight=1.0, n_nodes=3)
    assert (paper.consensus_weight, paper.n_nodes, paper.damping) == (1.0, 3, 5.0)
    assert (paper.feature_selection, paper.fit_intercept) == ("energy", False)


@pytest.mark.parametrize(
    ("missing", "shown"), [(np.nan, "nan"), (None, "None"), (pd.NA, "<NA>"), (pd.NaT, "NaT")]
)
@pytest.mark.parametrize("estimator", [DecentralizedRFKRR, DecentralizedRFClassifier])
def test_missing_labels_of_nodes_are_rejected(estimator, missing, shown):
    y = (Y[:40] > np.median(Y)).astype(int)
    labels = np.arange(40) % 2 if missing is np.nan else np.array(["a", "b"])[np.arange(40) % 2]
    fitted = estimator(n_components=4).fit(X[:40], y, node=labels)
    incomplete = pd.Series(labels).astype(object)
    incomplete[7] = missing
    for call in (estimator().fit, estimator().partial_fit):
        with pytest.raises(ValueError, match=f"node must have a label .* {shown} for sample 7"):
            call(X[:40], y, node=incomplete)
    with pytest.raises(ValueError, match=f"{shown} for sample 7"):
        fitted.predict(X[:40], node=incomplete)


def test_labels_of_nodes_that_do_not_compare_are_rejected():
    with pytest.raises(ValueError, match=r"labels of one type, .* got int and str"):
        make().fit(X[:4], Y[:4], node=np.array([1, "b", 1, "b"], dtype=object))


def test_missing_nodes_are_dealt_with_a_warning():
    with pytest.warns(UserWarning, match="node is None: the samples are split into n_nodes=3"):
        make(n_nodes=3).fit(X[:60], Y[:60])


def test_sparse_and_dense_samples_are_dealt_alike():
    rng = np.random.default_rng(0)
    samples = rng.integers(-2, 3, (120, 4)) * (rng.random((120, 4)) < 0.6)
    targets = rng.integers(0, 2, 120).astype(float)
    dealt = []
    for form in (samples, sparse.csr_array(samples), sparse.csc_matrix(samples)):
        fitted = make(n_nodes=3, n_components=6, alpha=1.0).fit(form.astype(float), targets)
        dealt.append(fitted.node_frequencies_)
    for frequencies in dealt[1:]:
        np.testing.assert_array_equal(frequencies, dealt[0])


def test_samples_of_weight_zero_may_have_any_class():
    labels = np.repeat(["a", "b", "rare"], [190, 190, 20])
    weights = (labels != "rare").astype(float)
    parameters = {"n_components": 10, "alpha": 1e-3, "random_state": 0}
    weighted = DecentralizedRFClassifier(**parameters)
    weighted.fit(X[:400], labels, sample_weight=weights, node=NODE[:400])
    without = DecentralizedRFClassifier(**parameters).fit(X[:380], labels[:380], node=NODE[:380])
    assert weighted.classes_.tolist() == ["a", "b"]
    np.testing.assert_array_equal(weighted.predict(X), without.predict(X))
    weighted.partial_fit(X[:400], labels, sample_weight=weights, node=NODE[:400])
    with pytest.raises(ValueError, match="got 'rare'"):
        weighted.partial_fit(X[:400], labels, node=NODE[:400])
    bagged = BaggingClassifier(DecentralizedRFClassifier(**parameters), 8, max_samples=0.1)
    assert bagged.set_params(random_state=0).fit(X[:400], labels).score(X[:380], labels[:380]) > 0.4


def heavy_tails(n_samples=800):
    """Inputs and targets of which a few are a hundred times as large as most."""
    rng = np.random.default_rng(0)
    size = np.exp(rng.normal(size=(n_samples, 1)))
    samples = size * np.exp(0.5 * rng.normal(size=(n_samples, 8)))
    samples /= samples.max(axis=0)
    return samples, samples @ np.linspace(1.0, 2.0, 8)


@pytest.mark.parametrize("network", [None, InProcessNetwork()])
def test_nodes_notice_that_the_selection_fails(network):
    samples, targets = heavy_tails()
    parameters = {"alpha": 1e-6, "n_components": 40, "network": network}
    auto = make(**parameters).fit(samples[TRAIN], targets[TRAIN], node=NODE[TRAIN])
    pairs = make(**parameters, feature_selection="energy_pairs")
    pairs.fit(samples[TRAIN], targets[TRAIN], node=NODE[TRAIN])
    assert (auto.feature_selection_, pairs.feature_selection_) == ("plain", "energy_pairs")
    assert auto.gamma_ in [pairs.gamma_ / 4.0**power for power in range(1, 5)]
    errors = [1.0 - krr.score(samples[TEST], targets[TEST]) for krr in (auto, pairs)]
    assert errors[0] < 0.01 < 0.5 < errors[1]
    gamma = auto.gamma_
    auto.partial_fit(samples[TEST], targets[TEST], node=NODE[TEST])
    assert (auto.feature_selection_, auto.gamma_) == ("plain", gamma)


def test_selection_stays_where_it_works_or_the_width_is_given():
    assert fit().feature_selection_ == "energy_pairs"
    samples, targets = heavy_tails()
    given = make(gamma=3.0).fit(samples, targets, node=NODE)
    assert (given.feature_selection_, given.gamma_) == ("energy_pairs", 3.0)
    few = make(graph="path").fit(X[:4], Y[:4], node=NODE[:4])
    assert few.feature_selection_ == "energy_pairs"
