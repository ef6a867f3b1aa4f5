r"""
===================================
Impute and classify in one pipeline
===================================

All methods of this package are scikit-learn estimators, so you can put them into a pipeline and
search its parameters. This example encodes, imputes and classifies a table with missing values and
a categorical column. Cross-validation chooses the parameters of two steps together. Each step is
fitted on the training folds only, so no information leaks from the validation fold.
"""

# %%
# A table with missing values
# ---------------------------
#
# We remove a quarter of the entries of the wine data, and add a categorical column.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklearn_ext import LABRidgelessClassifier, SupervisedKernelImputer

X, y = load_wine(return_X_y=True, as_frame=True)
X = X.mask(np.random.RandomState(0).rand(*X.shape) < 0.25)
X["cask"] = np.where(np.arange(len(X)) % 3 == 0, "steel", "oak")
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

# %%
# The pipeline
# ------------
#
# The imputer may use the labels during ``fit``, but never during ``transform``.

encode = make_column_transformer(
    (OneHotEncoder(drop="if_binary"), ["cask"]), remainder=StandardScaler()
)
model = make_pipeline(
    encode,
    SupervisedKernelImputer(random_state=0),
    LABRidgelessClassifier(n_support=30, max_iter=100, random_state=0),
)

# %%
# The search
# ----------
#
# As always in scikit-learn, the name of a parameter starts with the name of its step.

search = GridSearchCV(
    model,
    {
        "supervisedkernelimputer__condition_on_y": [False, True],
        "labridgelessclassifier__n_support": [15, 30, 60],
    },
    cv=4,
    n_jobs=2,
)
search.fit(X_train, y_train)
print(search.best_params_)
print(f"accuracy on test samples: {search.score(X_test, y_test):.3f}")

# %%
# The scores
# ----------

scores = search.cv_results_["mean_test_score"].reshape(3, 2)
fig, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
image = ax.imshow(scores, cmap="viridis")
ax.set(
    xticks=[0, 1],
    xticklabels=["without labels", "with labels"],
    yticks=[0, 1, 2],
    yticklabels=[15, 30, 60],
    xlabel="imputer fitted",
    ylabel="support points",
)
for (i, j), score in np.ndenumerate(scores):
    color = "black" if score > scores.mean() else "white"
    ax.text(j, i, f"{score:.3f}", ha="center", va="center", color=color)
fig.colorbar(image, label="mean accuracy over 4 folds")
plt.show()
