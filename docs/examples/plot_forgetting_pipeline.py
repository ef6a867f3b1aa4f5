r"""
============================
A customer asks for deletion
============================

A bank predicts how much its customers will spend. One of them asks for her data to be deleted.
:class:`~sklearn_ext.ForgettingPipeline` deletes her from the scaler, the encoder and the model, and
certifies the deletion.
"""

# %%
# A pipeline
# ----------
#
# The table is real, from a study of diabetes, but the story is not. It has numbers and a category.
# The preprocessing consists of steps that can forget, and the last step is a kernel ridge
# regression on random features.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from sklearn_ext import (
    ForgettingOneHotEncoder,
    ForgettingPipeline,
    ForgettingScaler,
    RandomFeatureRegressor,
    make_forgetting_pipeline,
)

frame, spending = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
frame["region"] = np.where(frame.pop("sex") == 1, "north", "south")
frame.loc[7, "region"] = "island"  # only one customer lives there
names = np.array([f"customer {k}" for k in range(len(frame))])
X, X_test, y, y_test, ids, _ = train_test_split(frame, spending, names, random_state=0)

numbers = [name for name in frame if name != "region"]
columns = make_column_transformer(
    (ForgettingScaler(), numbers), (ForgettingOneHotEncoder(), ["region"])
)
pipeline = make_forgetting_pipeline(
    columns, RandomFeatureRegressor(gamma=0.01, alpha=1.0, random_state=0)
)
pipeline.fit(X, y, sample_id=ids)
print(f"R2 on test samples: {pipeline.score(X_test, y_test):.2f}")

# %%
# The request
# -----------
#
# Saved pipelines are durable: each request is on disk when ``learn`` or ``forget`` returns. A new
# customer, the only one on an island, arrives and asks for deletion a day later.

folder = tempfile.TemporaryDirectory()
pipeline.save(folder.name)
pipeline.learn(frame.loc[[7]], spending[[7]], sample_id=["customer 7"])
before = pipeline.named_steps["columntransformer"].get_feature_names_out()
pipeline.forget(["customer 7"])
after = pipeline.named_steps["columntransformer"].get_feature_names_out()
print("columns that disappeared:", set(before) - set(after))

# %%
# The certificate names what was done and what cannot be claimed. An audit fits a new pipeline to
# the customers who are left, and compares the outputs.

certificate = pipeline.certificate(audit=True)
assert certificate.audit["difference"] < 1e-9
print(certificate)

# %%
# Until the files are compacted, they still contain the value ``island``.


def mentions(text):
    return any(text in path.read_bytes() for path in Path(folder.name).iterdir())


print("in the files before compact:", mentions(b"island"))
assert mentions(b"island")
pipeline.compact()
print("in the files after compact:", mentions(b"island"))
assert not mentions(b"island")

# %%
# After a crash
# -------------
#
# Another process, or the same one after a crash, continues where this one stopped.

pipeline.forget(ids[:3].tolist())
pipeline.close()
loaded = ForgettingPipeline.load(folder.name)
assert not np.isin(ids[:3], loaded.sample_id_).any()
print(f"{loaded.n_retained_} customers after {len(loaded.requests_)} requests")

# %%
# Intervals
# ---------
#
# The leave-one-out errors of all samples are known in closed form, and give prediction intervals.
# Their coverage holds after deletions, too.


def coverage(model):
    lower, upper = model.predict_interval(X_test, alpha=0.1)
    return np.mean((lower <= y_test) & (y_test <= upper))


first = coverage(loaded)
loaded.forget(loaded.sample_id_[:30])
later = coverage(loaded)
print(f"coverage of 90 % intervals: {first:.0%}, and {later:.0%} after deletions")
assert min(first, later) > 0.85

lower, upper = loaded.predict_interval(X_test, alpha=0.1)
order = np.argsort(loaded.predict(X_test))
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.fill_between(range(len(order)), lower[order], upper[order], alpha=0.3, label="90 % interval")
axes.plot(loaded.predict(X_test)[order], label="prediction")
axes.plot(y_test.to_numpy()[order], ".", color="0.3", label="target")
axes.set(xlabel="test customers, sorted by prediction", ylabel="spending")
axes.legend()
plt.show()

loaded.close()
folder.cleanup()
