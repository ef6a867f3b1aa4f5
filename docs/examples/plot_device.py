r"""
===============================
From numba to torch and the GPU
===============================

Methods with an ``engine`` parameter have two implementations: numba for the CPU, and torch for any
device that torch supports. ``engine="auto"`` uses numba on the CPU and torch on other devices.
``device="auto"`` uses a GPU if one is available. The choice changes the predictions only by
rounding.
"""

# %%
# Fit one estimator with two engines
# ----------------------------------

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
    model.fit(X[:100], y[:100])  # compile before the timing starts
    start = time.perf_counter()
    models[engine] = model.fit(X, y)
    seconds[engine] = time.perf_counter() - start

# %%
# Compare losses and times
# ------------------------
#
# In float64, the results of the engines differ only by rounding.

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for engine, style in (("numba", "-"), ("torch", ":")):
    left.plot(models[engine].loss_curve_, style, lw=3, label=engine)
left.set(xlabel="iteration", ylabel="loss")
left.legend()
right.bar(list(seconds), list(seconds.values()))
right.set(ylabel="fit time in seconds", title=f"torch on {resolve_device('auto')}")
plt.show()
difference = np.abs(models["numba"].predict(X) - models["torch"].predict(X)).max()
print(f"largest difference between predictions: {difference:.1e}")
assert difference < 1e-6
