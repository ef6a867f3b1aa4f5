r"""
===========================
From numba to torch and GPU
===========================

Methods with an engine of their own have it twice: in numba for the CPU, and in torch for any
device that torch knows. ``engine="auto"`` takes numba on the CPU and torch elsewhere;
``device="auto"`` takes a GPU if there is one. Nothing else changes, and neither does the answer.
"""

# %%
# One estimator, two engines
# --------------------------

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale

from sklearn_ext import LABRidgelessRegressor
from sklearn_ext.neural import resolve_device

X, y = load_diabetes(return_X_y=True)
X, y = scale(X), scale(y)
print("device='auto' means", resolve_device("auto"), "here")

models, seconds = {}, {}
for engine, device in (("numba", None), ("torch", "auto")):
    model = LABRidgelessRegressor(
        n_support=60, max_iter=300, engine=engine, device=device, random_state=0
    )
    model.fit(X[:100], y[:100])  # what is compiled once is not timed
    start = time.perf_counter()
    models[engine] = model.fit(X, y)
    seconds[engine] = time.perf_counter() - start

# %%
# The same path, step by step
# ---------------------------
#
# In float64 the engines differ by rounding alone.

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for engine, style in (("numba", "-"), ("torch", ":")):
    left.plot(models[engine].loss_curve_, style, lw=3, label=engine)
left.set(xlabel="iteration", ylabel="loss")
left.legend()
right.bar(list(seconds), list(seconds.values()))
right.set(ylabel="seconds of a fit", title=f"torch on {resolve_device('auto')}")
plt.show()
difference = np.abs(models["numba"].predict(X) - models["torch"].predict(X)).max()
print(f"largest difference of predictions: {difference:.1e}")
