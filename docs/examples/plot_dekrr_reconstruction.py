r"""
========================================================
What a neighbor can reconstruct from a decentralized fit
========================================================

With :class:`~sklearn_ext.DecentralizedRFKRR`, samples and labels stay at their node. This does
**not** make them private. Node j sends its neighbor i the matrix

.. math::
    G_{ij} = \sum_{x \in X_j} z_i(x)\, z_i(x)^T ,

which sums products of the *neighbor's own* features over the node's samples. Its D (D + 1) / 2
entries are known functions of the unknown samples. In this example, the neighbor solves for them.
"""

# %%
# Two clinics
# -----------
#
# A small clinic has ten patients, with age, body-mass index and blood pressure. Its neighbor uses
# 20 features.

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import least_squares, linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import MinMaxScaler

from sklearn_ext import DecentralizedRFKRR
from sklearn_ext.decentralized import GaussianRelease
from sklearn_ext.decentralized.math import release_sums, shared_map

diabetes = load_diabetes(scaled=False)
names = ["age", "bmi", "bp"]
columns = [diabetes.feature_names.index(name) for name in names]
scaler = MinMaxScaler()
X = scaler.fit_transform(diabetes.data[:, columns])
clinic = np.where(np.arange(len(X)) < 10, "small", "large")

krr = DecentralizedRFKRR(n_components=20, graph="complete", random_state=0)
krr.fit(X, diabetes.target, node=clinic)

# %%
# The message
# -----------
#
# The large clinic has its own frequencies and phases and the number of samples of the small clinic.
# It receives this block.

large = list(krr.nodes_).index("large")
frequencies, phases = krr.node_frequencies_[large], krr.node_phases_[large]


def block(samples):
    Z = np.sqrt(2 / len(phases)) * np.cos(samples @ frequencies + phases)
    return Z.T @ Z


secret = X[clinic == "small"]
received = block(secret)

# %%
# The attack
# ----------
#
# The neighbor applies nonlinear least squares from random starts until the block is matched. The
# attack needs no label, no model and no other message.

upper = np.triu_indices(len(phases))
rng = np.random.default_rng(0)


def misfit(samples):
    return (block(samples.reshape(-1, 3)) - received)[upper]


best = None
for _ in range(30):
    found = least_squares(misfit, rng.uniform(size=secret.size), max_nfev=300)
    if best is None or found.cost < best.cost:
        best = found
    if best.cost < 1e-18:
        break

guess = best.x.reshape(-1, 3)
distances = cdist(secret, guess)
_, order = linear_sum_assignment(distances)
errors = distances[np.arange(len(secret)), order]
print(f"largest error of a patient, on a scale of 0 to 1: {errors.max():.1e}")
assert errors.max() < 1e-6
for patient, found_patient in zip(
    scaler.inverse_transform(secret)[:3], scaler.inverse_transform(guess[order])[:3], strict=True
):
    print(
        "true "
        + np.array2string(patient, precision=3)
        + ", found "
        + np.array2string(found_patient, precision=3)
    )

# %%
# Rounding the block, or adding noise to it, only blurs the samples: the median error grows in
# proportion to the noise, and the fit itself suffers as well.

levels = [1e-4, 1e-3, 1e-2, 1e-1]
medians = []
for level in levels:
    noise = rng.normal(size=received.shape) * level * abs(received).mean()
    received_with_noise = received + (noise + noise.T) / 2
    found = least_squares(
        lambda samples, target=received_with_noise: (block(samples.reshape(-1, 3)) - target)[upper],
        best.x,
        max_nfev=100,
    )
    distances = cdist(secret, found.x.reshape(-1, 3))
    medians.append(np.median(distances[linear_sum_assignment(distances)]))

assert medians == sorted(medians)

fig, ax = plt.subplots(layout="constrained")
ax.loglog(levels, medians, "o-")
ax.set(xlabel="noise relative to the block's entries", ylabel="median error of a patient")
plt.show()

# %%
# A release with a guarantee
# --------------------------
#
# A :class:`~sklearn_ext.decentralized.GaussianRelease` adds just enough noise for (epsilon,
# delta)-differential privacy of everything that the clinic sends. The same attack, with the shared
# map of the release, is then no better than a random guess.

release = GaussianRelease(epsilon=3.0, delta=1e-5)
z = shared_map(3, 21, 0.5, np.random.default_rng(0))
upper = np.triu_indices(z.n_components)


def shared_block(samples):
    Z = np.sqrt(2 / z.n_components) * np.cos(samples @ z.frequencies + z.phases)
    return Z.T @ Z


def median_error(block):
    """Attack a block, and return the median error of a patient."""
    found = min(
        (
            least_squares(
                lambda samples: (shared_block(samples.reshape(-1, 3)) - block)[upper],
                rng.uniform(size=secret.size),
                max_nfev=200,
            )
            for _ in range(10)
        ),
        key=lambda result: result.cost,
    )
    distances = cdist(secret, found.x.reshape(-1, 3))
    return np.median(distances[linear_sum_assignment(distances)])


exact = shared_block(secret)
noisy, _ = release_sums(exact, np.zeros(21), release.noise_scale, rng)
guesses = [cdist(secret, rng.uniform(size=secret.shape)) for _ in range(100)]
by_chance = np.median([g[linear_sum_assignment(g)] for g in guesses])
from_exact, from_release = median_error(exact), median_error(noisy)
print(
    f"median error of a patient: {from_exact:.1e} from the exact block, "
    f"{from_release:.2f} from the release, {by_chance:.2f} by chance"
)
assert from_exact < 1e-4
assert from_release > 0.9 * by_chance

# %%
# Conclusion
# ----------
#
# Treat an exchange of Gram blocks like an exchange of samples. Many samples and few features make
# the attack harder, but not impossible. With ``anchors``, a set of public inputs, nodes exchange
# only the values of their functions at these inputs. This costs accuracy unless the anchors are
# distributed like the samples, and a function still reveals something about the samples to which it
# was fitted. Only a :class:`~sklearn_ext.decentralized.GaussianRelease` gives a guarantee.
