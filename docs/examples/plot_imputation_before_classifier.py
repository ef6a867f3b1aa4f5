r"""
===============================================
Impute missing values before you train a model
===============================================

You want to train a classifier on samples with missing values. Which imputer should come first?
:class:`~sklearn_ext.SupervisedKernelImputer` fits a joint Gaussian model of features and labels.
This example removes 10% to 80% of the entries of a table. It compares the errors of several
imputers and the accuracy of the classifier that follows.
"""

# %%
# The table
# ---------
#
# The data are chemical analyses of 178 wines of three cultivars. We remove entries completely at
# random, from training and test samples alike.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sklearn_ext import ImputationDisplay, SupervisedKernelClassifier, SupervisedKernelImputer

warnings.simplefilter("ignore", ConvergenceWarning)

table = load_wine(as_frame=True)
X = (table.data - table.data.mean()) / table.data.std(ddof=0)
y = table.target


def remove_entries(fraction):
    missing = np.random.RandomState(0).rand(*X.shape) < fraction
    return X.mask(missing), missing


imputers = {
    "joint Gaussian": SupervisedKernelImputer(random_state=0),
    "column means": SimpleImputer(),
    "nearest neighbors": KNNImputer(),
    "iterative": IterativeImputer(random_state=0),
}

# %%
# The idea, in two features
# -------------------------
#
# Half of the flavanoid values are missing. Bars are imputed values, dots are complete samples, and
# colors are cultivars. The column mean is one value for all samples. The other feature moves it
# along a line. The label, known for training samples, gives each cultivar its own line.

rng = np.random.RandomState(0)
pair = X[["total_phenols", "flavanoids"]].to_numpy()
lost = rng.rand(len(pair)) < 0.5
incomplete = pair.copy()
incomplete[lost, 1] = np.nan
joint = SupervisedKernelImputer(residual_smoothing=False, random_state=0)
results = {"column mean": SimpleImputer().fit_transform(incomplete)}
with_label = joint.fit_transform(incomplete, y)
results |= {"the other feature": joint.transform(incomplete), "and the label": with_label}

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharex=True, sharey=True, layout="constrained")
errors = []
for ax, (name, imputed) in zip(axes, results.items(), strict=True):
    ax.scatter(*pair[~lost].T, c=y[~lost], cmap="tab10", vmax=9, s=8, alpha=0.4)
    ax.scatter(*imputed[lost].T, c=y[lost], cmap="tab10", vmax=9, s=30, marker="_")
    errors.append(np.sqrt(np.mean((imputed - pair)[lost, 1] ** 2)))
    ax.set(title=f"{name}: error {errors[-1]:.2f}", xlabel="total phenols")
assert errors == sorted(errors, reverse=True)
axes[0].set_ylabel("flavanoids")
plt.show()

# %%
# Error and accuracy
# ------------------
#
# ``fit_transform(X, y)`` imputes the training samples, so labels help. ``transform`` imputes the
# test samples of a fold, without labels. The last classifier,
# :class:`~sklearn_ext.SupervisedKernelClassifier`, needs no imputer, because it accepts missing
# values.

fractions = [0.1, 0.3, 0.5, 0.65, 0.8]
errors = {name: [] for name in imputers}
accuracies = {name: [] for name in [*imputers, "no imputer: expected kernel"]}
folds = StratifiedKFold(5, shuffle=True, random_state=0)
for fraction in fractions:
    samples, missing = remove_entries(fraction)
    models = {
        name: make_pipeline(imputer, StandardScaler(), SVC()) for name, imputer in imputers.items()
    }
    models["no imputer: expected kernel"] = SupervisedKernelClassifier(random_state=0)
    for name, imputer in imputers.items():
        imputed = np.asarray(imputer.fit_transform(samples, y))
        errors[name].append(np.sqrt(np.mean((imputed - X.to_numpy())[missing] ** 2)))
    for name, model in models.items():
        accuracies[name].append(cross_val_score(model, samples, y, cv=folds).mean())

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for k, name in enumerate(accuracies):
    style = {"color": f"C{k}", "marker": "*" if name == "joint Gaussian" else "o"}
    if name in errors:
        left.plot(fractions, errors[name], **style)
    right.plot(fractions, accuracies[name], label=name, **style)
left.set(xlabel="fraction of missing entries", ylabel="error (1: standard deviation)")
right.set(xlabel="fraction of missing entries", ylabel="accuracy, 5 folds")
figure.legend(loc="outside upper center", ncols=3, frameon=False)
plt.show()

# %%
# The joint Gaussian model has the smallest errors at every fraction. The accuracies differ less,
# because most classifiers tolerate poor imputations. A smaller error is a reason to choose an
# imputer if the values themselves matter.

ours = np.array(errors.pop("joint Gaussian"))
assert all((ours < other).all() for other in errors.values())

# %%
# Feature by feature
# ------------------
#
# :class:`~sklearn_ext.ImputationDisplay` hides known entries and plots their imputed values, with
# bars that span 95% of the posterior. Features that are predicted well lie along the diagonal and
# have short bars. The bars of other features are long, as they should be.

ImputationDisplay.from_estimator(
    imputers["joint Gaussian"], X, y, missing_fraction=0.3, features=range(8), random_state=0
)
plt.show()
