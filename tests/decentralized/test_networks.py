"""Messages lead to the joint solution, even with losses, delays and failures."""

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from sklearn.datasets import make_friedman1
from sklearn.exceptions import ConvergenceWarning

from sklearn_ext import DecentralizedRFKRR, InProcessNetwork, TorchDistributedNetwork
from sklearn_ext.decentralized import DeKRRConfig, NodeSamples, make_graph, network_minmax
from sklearn_ext.decentralized.math import make_engine
from sklearn_ext.decentralized.network import run_node
from sklearn_ext.decentralized.network._transport import decode, encode

X, Y = make_friedman1(700, noise=0.3, random_state=0)
NODE = np.array(list("abcdefg"))[np.arange(700) % 7]
PARAMETERS = {
    "n_components": 20,
    "alpha": 1e-4,
    "consensus_weight": 1.0,
    "graph": "ring",
    "tol": 1e-10,
    "random_state": 0,
}


def fit(y=Y, node=NODE, **parameters):
    return DecentralizedRFKRR(**PARAMETERS | parameters).fit(X, y, node=node)


def assert_same_functions(actual, expected, tolerance=1e-8):
    np.testing.assert_allclose(
        actual.predict_nodes(X), expected.predict_nodes(X), atol=tolerance * Y.std()
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"solver": "jacobi", "damping": 5.0},
        {"solver": "chebyshev"},
        {"solver": "gauss_seidel"},
        {"graph": "star"},
        {"graph": "random", "feature_selection": "energy"},
        {"n_components": [10, 12, 14, 16, 18, 20, 23]},
        {"graph": [("a", "b"), ("b", "c"), ("c", "d"), ("e", "f"), ("f", "g"), ("g", "d")]},
        {"consensus_weight": 0.0},
        {"fit_intercept": False, "gamma": 0.4},
        {"engine": "torch"},
    ],
)
def test_messages_lead_to_the_joint_solution(parameters):
    joint = fit(**parameters | {"solver": "direct"})
    talking = fit(**parameters, network=InProcessNetwork())
    assert_same_functions(talking, joint)
    assert talking.gamma_ == joint.gamma_
    assert talking.intercept_ == joint.intercept_
    assert talking.consensus_error_ == pytest.approx(joint.consensus_error_, rel=1e-6)
    assert talking.objective_curve_[-1] == pytest.approx(joint.objective_curve_[-1], rel=1e-8)


def test_synchronous_rounds_match_the_simulation():
    for solver in ("jacobi", "chebyshev"):
        simulated = fit(solver=solver)
        talking = fit(solver=solver, network=InProcessNetwork())
        n = simulated.n_iter_
        np.testing.assert_allclose(
            talking.objective_curve_[:n], simulated.objective_curve_[:n], rtol=1e-10
        )
        np.testing.assert_allclose(
            talking.consensus_curve_[:n], simulated.consensus_curve_[:n], atol=1e-6
        )


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("anchors", [None, X[:30]])
def test_communication_cost_counts_what_is_sent(n_outputs, anchors):
    y = np.column_stack([Y] * n_outputs)
    parameters = {"n_components": [10, 12, 14, 16, 18, 20, 23], "anchors": anchors}
    simulated = fit(y, **parameters)
    sent = fit(y, **parameters, network=InProcessNetwork()).n_floats_sent_
    for key in ("setup_by_edge", "round_by_edge"):
        np.testing.assert_array_equal(sent[key], simulated.n_floats_sent_[key])
    # Node 0 (10 features) sends to node 1 (12 features) the announcements of nodes 0, 4, 5 and 6,
    # to which node 1 is not closer, with 5 held-out errors each. Then it sends its map of 5
    # frequencies in 10 dimensions, the triangle of a 12 x 12 block and a 10 x 12 block.
    announcements = 4 * (n_outputs + 4 + 5)
    blocks = 0 if anchors is not None else 50 + 78 + 120
    assert sent["setup_by_edge"][0, 1] == announcements + blocks
    assert sent["round_by_edge"][0, 1] == (10 if anchors is None else 30) * n_outputs + 1
    assert sent["setup_by_edge"][0, 2] == sent["round_by_edge"][0, 2] == 0


def test_anchors_lead_to_the_joint_solution():
    joint = fit(anchors=X[:50], solver="direct")
    talking = fit(anchors=X[:50], network=InProcessNetwork())
    assert_same_functions(talking, joint, 1e-7)
    assert abs(joint.predict_nodes(X) - fit(solver="direct").predict_nodes(X)).max() > 0.01


@pytest.mark.parametrize(
    "faults",
    [
        {"loss_probability": 0.3},
        {"loss_probability": 0.8},
        {"asynchronous": True},
        {"asynchronous": True, "loss_probability": 0.3},
        {"asynchronous": True, "delays": {2: 0.002}},
    ],
)
def test_lost_and_late_messages_do_not_change_the_solution(faults):
    network = InProcessNetwork(**faults, random_state=0)
    assert_same_functions(fit(network=network, max_iter=5000), fit(), 1e-7)


def test_120_rounds_compensate_for_losing_half_the_messages():
    network = InProcessNetwork(loss_probability=0.5, random_state=0)
    with pytest.warns(ConvergenceWarning, match="max_iter=120"):
        lossy = fit(network=network, tol=0.0, max_iter=120)
    assert_same_functions(lossy, fit(), 1e-6)


def test_seed_determines_the_losses():
    values = [
        fit(network=InProcessNetwork(loss_probability=0.5, random_state=seed)).n_floats_sent_
        for seed in (0, 0, 1)
    ]
    assert values[0]["total"] == values[1]["total"] != values[2]["total"]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("on_failure", ["freeze", "drop"])
def test_failed_node_is_named_and_the_others_finish(on_failure, asynchronous):
    network = InProcessNetwork(failures={2: 6}, asynchronous=asynchronous)
    with pytest.warns(ConvergenceWarning, match=r"nodes \['c'\] failed"):
        krr = fit(network=network, on_failure=on_failure, tol=1e-7)
    assert krr.failed_nodes_.tolist() == ["c"]
    others = NODE != "c"
    assert krr.score(X[others], Y[others], node=NODE[others]) > 0.75
    assert np.isfinite(krr.predict(X)).all()


def test_failed_node_is_frozen_or_dropped():
    others = [0, 1, 3, 4, 5, 6]
    with pytest.warns(ConvergenceWarning):
        dropped = fit(network=InProcessNetwork(failures={2: 6}), on_failure="drop")
    with pytest.warns(ConvergenceWarning):
        never_met = fit(network=InProcessNetwork(failures={2: 0}), on_failure="freeze")
    np.testing.assert_allclose(
        dropped.predict_nodes(X)[others], never_met.predict_nodes(X)[others], atol=1e-7
    )
    assert np.isnan(never_met.predict_nodes(X)[2]).all()
    with pytest.raises(ValueError, match="got 'c'"):
        never_met.predict(X, node="c")
    # A node that fails after it has converged does not change the joint solution.
    with pytest.warns(ConvergenceWarning):
        late = fit(network=InProcessNetwork(failures={2: 60}), tol=1e-13)
    assert_same_functions(late, fit(), 1e-6)


def test_error_in_one_node_stops_all_nodes():
    def broken(transport):
        raise ZeroDivisionError

    def waiting(transport):
        while transport.receive(1.0) is None:
            pass

    with pytest.raises(ZeroDivisionError):
        InProcessNetwork().run({0: broken, 1: waiting})


def test_too_few_rounds_warn():
    with pytest.warns(ConvergenceWarning, match="max_iter=3"):
        fit(network=InProcessNetwork(), max_iter=3)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"solver": "direct", "network": InProcessNetwork()}, "solver must be one of"),
        ({"solver": "cg", "network": InProcessNetwork()}, "solver must be one of"),
        *(
            (
                {name: "cv", "network": InProcessNetwork(asynchronous=True)},
                f"{name} must not be 'cv' on a network that is asynchronous",
            )
            for name in ("gamma", "alpha", "consensus_weight")
        ),
        (
            {"message_dtype": "float32", "network": InProcessNetwork(loss_probability=0.1)},
            "'float32', which sends differences",
        ),
        (
            {"solver": "chebyshev", "network": InProcessNetwork(asynchronous=True)},
            "needs synchronous rounds",
        ),
        (
            {"solver": "gauss_seidel", "network": InProcessNetwork(loss_probability=0.1)},
            "needs synchronous rounds",
        ),
    ],
)
def test_parameters_that_need_more_than_messages_are_rejected(parameters, message):
    with pytest.raises(ValueError, match=message):
        fit(**parameters)


@pytest.mark.parametrize(
    "build",
    [
        lambda: InProcessNetwork(loss_probability=1.0),
        lambda: InProcessNetwork(timeout=0),
        lambda: TorchDistributedNetwork(timeout=-1),
    ],
)
def test_networks_reject_invalid_parameters(build):
    with pytest.raises(ValueError, match="must be"):
        build()


@pytest.mark.parametrize("anchors", [None, X[:40]])
@pytest.mark.parametrize("y", [Y, np.column_stack((Y, np.cos(Y)))])
def test_partial_fit_over_a_network_matches_the_simulation(anchors, y):
    first, later = np.arange(300), np.flatnonzero(NODE[300:] < "f") + 300
    models = []
    for network in (None, InProcessNetwork()):
        krr = DecentralizedRFKRR(**PARAMETERS | {"anchors": anchors}, network=network)
        krr.fit(X[first], y[first], node=NODE[first])
        before = krr.predict(X)
        for rows in np.array_split(later, 2):
            krr.partial_fit(X[rows], y[rows], node=NODE[rows])
        assert abs(krr.predict(X) - before).max() > 0.01
        models.append(krr)
    simulated, talking = models
    assert_same_functions(talking, simulated, 1e-7)
    np.testing.assert_allclose(talking.intercept_, simulated.intercept_)


def test_partial_fit_needs_the_network_and_nodes_of_fit():
    krr = fit(network=InProcessNetwork())
    with pytest.raises(ValueError, match="network must be set for partial_fit if and only if"):
        krr.set_params(network=None).partial_fit(X, Y, node=NODE)
    with pytest.warns(ConvergenceWarning):
        krr = fit(network=InProcessNetwork(failures={2: 6}))
    with pytest.raises(ValueError, match=r"\['c'\] failed"):
        krr.partial_fit(X, Y, node=NODE)


def test_network_minmax_needs_a_network_of_processes():
    with pytest.raises(ValueError, match="one node per process, got InProcessNetwork"):
        network_minmax(X, network=InProcessNetwork())


def test_cross_validation_over_a_network_matches_the_simulation():
    parameters = {"consensus_weight": "cv", "consensus_weight_grid": [0.0, 0.5, 4.0], "cv": 3}
    joint = fit(**parameters)
    talking = fit(**parameters, network=InProcessNetwork())
    np.testing.assert_allclose(
        talking.consensus_weight_scores_, joint.consensus_weight_scores_, rtol=1e-3
    )
    assert talking.consensus_weight_ == joint.consensus_weight_
    assert_same_functions(talking, joint)


@pytest.mark.parametrize("anchors", [None, X[:40]])
def test_width_and_ridge_over_a_network_match_the_simulation(anchors):
    parameters = {
        **{"gamma": "cv", "gamma_grid": [1.0, 0.1], "alpha": "cv", "alpha_grid": [1e-6, 1e-3]},
        **{"consensus_weight": "cv", "consensus_weight_grid": [0.1, 0.5], "cv": 3},
        **{"anchors": anchors, "n_components": 10},
    }
    joint = fit(**parameters)
    talking = fit(**parameters, network=InProcessNetwork())
    for name, values in joint.cv_results_.items():
        found = talking.cv_results_[name]
        if name == "feature_selection":
            np.testing.assert_array_equal(found, values)
        else:
            np.testing.assert_allclose(found, values, rtol=1e-3)
    assert (talking.gamma_, talking.alpha_) == pytest.approx((joint.gamma_, joint.alpha_))
    assert_same_functions(talking, joint, 1e-7)


def test_bytes_are_measured_at_the_transport():
    krr = fit(network=InProcessNetwork())
    cost, floats = krr.communication_cost_, krr.n_floats_sent_
    assert cost["total"] == cost["setup"] + cost["rounds"] == cost["by_edge"].sum()
    headers = 16 * krr.n_iter_ * 14
    # In six hops, each node learns that all have finished: numbers that others have announced,
    # with their indices, then goodbyes.
    closing = 14 * (6 * 16 + 4 * 2 * 8 + 16)
    assert cost["rounds"] == 8 * krr.n_iter_ * floats["round"] + headers + closing
    # Beyond the numbers, the set-up carries headers and the settings of every node to all others.
    assert 0 < cost["setup"] - 8 * floats["setup"] < 42 * 1500 + 16 * 14 * 10
    assert fit().communication_cost_ is None


@pytest.mark.parametrize(
    "parameters",
    [
        {"message_dtype": "float32"},
        {"message_dtype": "bfloat16"},
        {"message_dtype": "bfloat16", "solver": "gauss_seidel"},
        {"message_dtype": "bfloat16", "anchors": X[:50]},
        {"censoring": 0.3, "censoring_decay": 0.7},
        {"message_dtype": "bfloat16", "censoring": 0.1, "censoring_decay": 0.8},
    ],
)
def test_smaller_messages_lead_to_the_joint_solution(parameters):
    anchors = {"anchors": parameters["anchors"]} if "anchors" in parameters else {}
    joint = fit(**anchors)
    full = fit(**anchors, network=InProcessNetwork(), tol=1e-6)
    small = fit(**parameters, network=InProcessNetwork(), tol=1e-6)
    # Gram blocks in single precision move the solution a little.
    assert_same_functions(small, joint, 1e-4)
    if parameters.get("message_dtype"):
        assert small.communication_cost_["rounds"] < 0.8 * full.communication_cost_["rounds"]
    else:
        numbers = [krr.n_floats_sent_["total"] / krr.n_iter_ for krr in (small, full)]
        assert numbers[0] < numbers[1]  # some updates were withheld


def test_bfloat16_rounds_to_the_nearest_number():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    values = np.concatenate((rng.normal(size=1000) * 10.0 ** rng.integers(-30, 30, 1000), [0.0]))
    expected = torch.tensor(values, dtype=torch.float32).to(torch.bfloat16).double().numpy()
    np.testing.assert_array_equal(decode(encode(values, "bfloat16"), "bfloat16"), expected)


def run_with_settings(configs, columns_of=None, settings=None):
    """Run one node per configuration, and return the messages of their errors."""
    n_nodes = len(configs)

    def caught(program, transport):
        try:
            program(transport)
        except ValueError as error:
            return str(error)

    programs = {}
    for rank, config in enumerate(configs):
        columns = slice(None) if columns_of is None else columns_of[rank]
        samples = NodeSamples.from_arrays(X[rank::n_nodes, columns], Y[rank::n_nodes])
        program = partial(
            run_node,
            rank,
            samples,
            config,
            seed=0,
            engine=make_engine(),
            asynchronous=False,
            timeout=20.0,
            settings=None if settings is None else settings[rank],
        )
        programs[rank] = partial(caught, program)
    return list(InProcessNetwork().run(programs).values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_components": 25}, "n_components is .20, 20, 20, 20. at nodes 0, 1, 3; .25, 25"),
        ({"gamma": 2.0}, "gamma is 'median' at nodes 0, 1, 3; 2.0 at node 2"),
        ({"alpha": 1e-3}, "alpha is 1e-06 at nodes 0, 1, 3; 0.001 at node 2"),
        ({"anchors": X[:9]}, "anchors is None at nodes 0, 1, 3; .* at node 2"),
        ({"adjacency": make_graph("path", 4)}, "graph is .* at nodes 0, 1, 3; .* at node 2"),
        ({"solver": "jacobi", "tol": 0.1}, "solver is .* at node 2, and tol is 1e-06 at nodes"),
    ],
)
def test_all_nodes_name_what_differs_and_where(changes, message):
    config = DeKRRConfig(make_graph("ring", 4), n_components=20)
    errors = run_with_settings([config, config, replace(config, **changes), config])
    assert len(set(errors)) == 1
    assert re.search(f"All nodes must have the same settings, but {message}", errors[0])


def test_all_nodes_name_different_columns():
    config = DeKRRConfig(make_graph("complete", 3), n_components=20)
    errors = run_with_settings([config] * 3, [slice(4), slice(5), slice(5)])
    assert set(errors) == {
        "All nodes must have the same settings, but number of features is 5 at nodes 1, 2; 4 at "
        "node 0."
    }
    names = [{"feature names": ["a", "b"]}, {"feature names": ["b", "a"]}, {"feature names": None}]
    errors = run_with_settings([config] * 3, settings=names)
    assert (
        "feature names is ['a', 'b'] at node 0; ['b', 'a'] at node 1; None at node 2" in errors[0]
    )
    assert len(set(errors)) == 1


def test_rounds_do_not_stop_before_news_has_arrived():
    """Only the first node of a path has nonzero targets, so the others seem to have converged."""
    adjacency = make_graph("path", 7)
    targets = np.where(NODE == "a", Y - Y.mean(), 0.0)
    joint = fit(targets, graph=adjacency, fit_intercept=False, consensus_weight=4.0)
    for tol in (1e-2, 1e-6):
        talking = fit(
            targets,
            graph=adjacency,
            fit_intercept=False,
            consensus_weight=4.0,
            network=InProcessNetwork(),
            tol=tol,
        )
        far, expected = talking.predict(X, node="g"), joint.predict(X, node="g")
        assert abs(expected).max() > 0
        assert abs(far - expected).max() < 20.0 * tol * Y.std()
    parameters = {"graph": adjacency, "consensus_weight": 4.0, "tol": 1e-6, "solver": "jacobi"}
    simulated = fit(targets, fit_intercept=False, **parameters)
    assert talking.n_iter_ < 2 * simulated.n_iter_
