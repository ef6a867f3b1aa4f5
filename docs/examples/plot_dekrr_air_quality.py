r"""
====================================================
A network of air-quality stations: decentralized KRR
====================================================

Twelve stations measure traffic, wind, temperature and the hour of the day, and predict the
concentration of a pollutant. Every station has few samples. Some stations are in quiet streets and
some in busy ones, and no sample may leave its station. :class:`~sklearn_ext.DecentralizedRFKRR`
fits a kernel model at each station and encourages neighboring stations to agree.
"""

# %%
# Stations and their samples
# --------------------------
#
# The stations form a grid of four by three streets. The concentration follows the same law
# everywhere, but the traffic in a station's street decides which part of the law its samples cover.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sklearn_ext import (
    ConsensusDisplay,
    DecentralizedRFKRR,
    InProcessNetwork,
    NetworkDisplay,
)
from sklearn_ext.decentralized import make_graph

rng = np.random.default_rng(0)
n_stations, n_train, n_test = 12, 50, 200
busy = np.linspace(0.1, 0.8, n_stations)


def measure(n_samples):
    """Draw traffic, wind, temperature and hour at all stations, all scaled to [0, 1]."""
    node = np.repeat(np.arange(n_stations), n_samples)
    X = rng.uniform(size=(len(node), 4))
    X[:, 0] = np.clip(busy[node] + rng.normal(scale=0.12, size=len(node)), 0, 1)
    rush_hour = np.exp(-60 * (X[:, 3] - 0.33) ** 2) + np.exp(-60 * (X[:, 3] - 0.73) ** 2)
    concentration = 60 * X[:, 0] * (0.3 + rush_hour) * np.exp(-2.5 * X[:, 1])
    concentration += 15 * (X[:, 2] - 0.5) ** 2 + rng.normal(scale=1.0, size=len(node))
    return X, concentration, node


X, y, node = measure(n_train)
X_test, y_test, node_test = measure(n_test)
graph = make_graph("grid", n_stations)

# %%
# The benefit of neighbors
# ------------------------
#
# With ``consensus_weight=0``, every station learns alone. A positive weight reduces the error of
# each station on new samples from its own street, and most at the stations whose samples are least
# informative.

parameters = {"graph": graph, "alpha": 1e-5, "random_state": 0}
alone = DecentralizedRFKRR(consensus_weight=0, **parameters).fit(X, y, node=node)
together = DecentralizedRFKRR(consensus_weight=0.5, **parameters).fit(X, y, node=node)

positions = np.column_stack((np.arange(n_stations) % 3, np.arange(n_stations) // 3))
display = NetworkDisplay.from_estimator(
    together, X_test, y_test, node=node_test, baseline=alone, positions=positions
)
assert (display.errors["after"] < display.errors["before"]).all()
for name, model in {"alone": alone, "together": together}.items():
    print(f"R2 of the stations {name}: {model.score(X_test, y_test, node=node_test):.3f}")

# %%
# How much agreement?
# -------------------
#
# Functions of different random features agree everywhere only if they are zero. Too large a weight
# therefore shrinks the model: the disagreement tends to zero, and the score falls. Choose the
# weight by cross-validation. All candidates and folds together cost little more than one fit,
# because a fold is held out by subtracting its sums.

chosen = DecentralizedRFKRR(consensus_weight="cv", **parameters).fit(X, y, node=node)
print(f"chosen: {chosen.consensus_weight_}")

weights = np.array([0.01, 0.03, 0.1, 0.3, 1, 3, 10, 100, 1000])
fits = [DecentralizedRFKRR(consensus_weight=c, **parameters).fit(X, y, node=node) for c in weights]
scores = [model.score(X_test, y_test, node=node_test) for model in fits]
assert scores[-1] < max(scores) - 0.03
assert fits[-1].consensus_error_ < 0.1 * fits[0].consensus_error_
fig, ax = plt.subplots(layout="constrained")
ax.semilogx(weights, scores, "o-")
ax.set(xlabel="consensus weight", ylabel="R2 on new samples, own station")
ax.axvline(chosen.consensus_weight_, color="0.7", linestyle="--")
disagreement = ax.twinx()
disagreement.semilogx(weights, [model.consensus_error_ for model in fits], "s-", color="C1")
disagreement.set_ylabel("disagreement of neighbors", color="C1")

# %%
# Rounds of messages
# ------------------
#
# The fits above have computed the joint solution in one place. Real stations exchange coefficients
# with their neighbors in rounds, and reach the same functions. Chebyshev's iteration saves rounds
# if the consensus weight is large.

axes = None
for solver in ("jacobi", "gauss_seidel", "chebyshev"):
    model = DecentralizedRFKRR(consensus_weight=4.0, solver=solver, tol=1e-8, **parameters)
    reference = DecentralizedRFKRR(consensus_weight=4.0, **parameters).fit(X, y, node=node)
    axes = ConsensusDisplay.from_estimator(
        model.fit(X, y, node=node), reference=reference.objective_curve_[-1], axes=axes
    ).axes_

# %%
# Fewer bytes
# -----------
#
# Messages of half or a quarter of the size lead to the same functions: rounds carry differences
# from what the neighbors already know, so their rounding errors vanish with the steps. Stopping
# early saves little, because most bytes are sent before the first round.

settings = {
    "float64": {},
    "float32": {"message_dtype": "float32"},
    "bfloat16": {"message_dtype": "bfloat16"},
    "censored": {"censoring": 0.1, "censoring_decay": 0.8},
}
fig, ax = plt.subplots(layout="constrained")
bytes_sent = {}
for name, options in settings.items():
    path = []
    for max_iter in (1, 3, 10, 30):
        model = DecentralizedRFKRR(
            network=InProcessNetwork(), max_iter=max_iter, **options, **parameters
        )
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            model.fit(X, y, node=node)
        score = model.score(X_test, y_test, node=node_test)
        path.append((model.communication_cost_["total"] / 1e3, score))
    ax.plot(*zip(*path, strict=True), "o-", label=name)
    bytes_sent[name], score = path[-1]
    print(f"{name}: {bytes_sent[name]:,.0f} kB, R2 of the stations {score:.3f}")
    assert abs(score - together.score(X_test, y_test, node=node_test)) < 0.005
assert bytes_sent["bfloat16"] < bytes_sent["float32"] < 0.6 * bytes_sent["float64"]
ax.set(xscale="log", xlabel="kB sent over all edges", ylabel="R2 on new samples, own station")
ax.legend()

# %%
# Lost messages and a failed station
# ----------------------------------
#
# An :class:`~sklearn_ext.InProcessNetwork` runs each station in a thread, exchanges real messages
# and simulates faults. Here, 30 % of all messages are lost, and station 5 fails after eight rounds.
# Lost messages only increase the number of rounds. The failed station's last function stays in
# place.

network = InProcessNetwork(loss_probability=0.3, failures={5: 8}, random_state=0)
model = DecentralizedRFKRR(network=network, consensus_weight=0.5, **parameters)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", ConvergenceWarning)
    model.fit(X, y, node=node)
print(caught[0].message)
score = model.score(X_test, y_test, node=node_test)
print(f"R2 of the stations: {score:.3f}")
assert abs(score - together.score(X_test, y_test, node=node_test)) < 0.01
sent = model.n_floats_sent_
print(f"floats sent: {sent['setup']:,} before the first round, {sent['total']:,} in all")
plt.show()
