r"""
=================================
Relabeling as a way of forgetting
=================================

MUSO fine-tunes a model with the labels that a retrained model would give to the samples to forget.
For a linear model with more features than samples, this ends exactly at the weights of the
retrained model [1]_. This example trains such a model by stochastic gradient descent, lets it
forget a tenth of its samples, and follows the weights. Random labels lead elsewhere, and training
on the retained samples alone leads nowhere.

.. [1] R. Yang, M. He, Z. He, Y. Qiu, X. Huang, "MUSO: Achieving Exact Machine Unlearning in
   Over-Parameterized Regimes", arXiv:2410.08557, 2024.
"""

# %%
# A model with more weights than samples
# --------------------------------------
#
# Random Fourier features turn each of 300 digits into 1,000 numbers, and a linear model maps these
# to one score per class. Because it has more weights than samples, it can fit any labels.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.kernel_approximation import RBFSampler

from sklearn_ext import make_forget_split

X, y = load_digits(return_X_y=True)
Z = RBFSampler(gamma=1.0, n_components=1000, random_state=0).fit_transform(X / 16)
Z, Z_test, y = Z[:300], Z[300:], y[:300]
T = 2.0 * np.eye(10)[y] - 1
forget = make_forget_split(y, "random", fraction=0.1, random_state=0)


def descend(W, Z, T, *, n_epochs=60, reference=None):
    """Make one step on the squared error of each sample in each epoch; return the weights.

    With a reference, also return the distance to it before the first epoch and after each.
    """
    rng = np.random.RandomState(0)
    W, distances = W.copy(), []
    for _ in range(n_epochs):
        if reference is not None:
            distances.append(np.linalg.norm(W - reference) / np.linalg.norm(reference))
        for i in rng.permutation(len(Z)):
            W -= np.outer(Z[i], Z[i] @ W - T[i])
    return W if reference is None else (W, distances)


zero = np.zeros((1000, 10))
original = descend(zero, Z, T)
retrained = descend(zero, Z[~forget], T[~forget])

# %%
# Three ways to continue
# ----------------------
#
# All three start at the original weights. The first gives the samples to forget the scores of the
# retrained model, the second gives them random labels, and the third leaves them out.

rng = np.random.RandomState(0)
relabeled, random = T.copy(), T.copy()
relabeled[forget] = Z[forget] @ retrained
random[forget] = 2.0 * np.eye(10)[rng.randint(10, size=forget.sum())] - 1

paths = {
    "scores of the retrained model": descend(original, Z, relabeled, reference=retrained),
    "random labels": descend(original, Z, random, reference=retrained),
    "retained samples only": descend(original, Z[~forget], T[~forget], reference=retrained),
}
for name, (_, distances) in paths.items():
    print(f"{name}: distance {distances[0]:.3f} at first, {distances[-1]:.3g} at the end")
    plt.semilogy(distances, label=name)
plt.xlabel("epoch")
plt.ylabel("relative distance to the retrained weights")
plt.legend()
plt.show()

# %%
# Why relabeling works
# --------------------
#
# Gradient descent moves the weights only along the features of the samples that it uses. The
# retrained weights, which started at zero, are a combination of the features of the retained
# samples. The original weights are a combination of the features of all samples, and so is every
# point on the path from there. Only one such combination fits given scores of all samples. With the
# scores of the retrained model, this is the retrained model itself.
#
# Random labels determine another combination. The retained samples are already fitted by the
# original weights, so their gradients are zero, and training on them changes nothing.

(found, near), (wrong, far), (same, still) = paths.values()
assert near[-1] < 1e-3 * near[0]
assert far[-1] > near[0]
assert np.allclose(still, still[0], rtol=1e-3)
assert np.abs(Z_test @ (found - retrained)).max() < 1e-2
print((Z_test @ found).argmax(axis=1)[:10], (Z_test @ retrained).argmax(axis=1)[:10])

# %%
# What carries over to networks
# -----------------------------
#
# The features of a network change while it is trained, and nobody knows the scores of a retrained
# network without training one. :class:`~sklearn_ext.MUSOUnlearner` estimates them, and the result
# is an approximation. In a model that is linear in fixed features, the same scores have a closed
# form: :class:`~sklearn_ext.RandomFeatureClassifier` forgets exactly and without gradient steps.
