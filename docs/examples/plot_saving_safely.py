r"""
===========================
Save and load models safely
===========================

A pickle can run arbitrary code when you load it. That is fine for your own files, but files from
other people need safer formats. ``skops`` lists all types in a file before it creates any object. A
safetensors file holds only the weights of a network, as plain numbers.
"""

# %%
# Your own files: joblib
# ----------------------

import tempfile
import textwrap
from pathlib import Path

import joblib
import numpy as np
import skops.io
import torch
from sklearn.datasets import load_diabetes, load_iris
from sklearn.preprocessing import scale

from sklearn_ext import LABRidgelessRegressor, NetClassifier
from sklearn_ext.neural import load_tensors, save_tensors

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
X, y = load_diabetes(return_X_y=True)
model = LABRidgelessRegressor(n_support=20, max_iter=50, random_state=0).fit(X, y)
joblib.dump(model, folder / "model.joblib")
print(np.array_equal(joblib.load(folder / "model.joblib").predict(X), model.predict(X)))

# %%
# Files to share: skops
# ---------------------
#
# The file lists the types that it contains, and you say which of them you trust. Here we trust the
# types of this package. skops refuses a file that contains any other untrusted type.

skops.io.dump(model, folder / "model.skops")
types = skops.io.get_untrusted_types(file=folder / "model.skops")
print(types)
trusted = [name for name in types if name.startswith("sklearn_ext.")]
restored = skops.io.load(folder / "model.skops", trusted=trusted)
print(np.array_equal(restored.predict(X), model.predict(X)))

# %%
# Weights of a network: safetensors
# ---------------------------------
#
# Your code defines the architecture, and the file holds the numbers. Soups (``save``), low-rank
# adapters (``save_adapter``) and diffusion models (``save_checkpoint``) write such files, too.

X, y = load_iris(return_X_y=True)
net = NetClassifier(max_epochs=20, random_state=0).fit(scale(X), y)
save_tensors(folder / "weights.safetensors", net.module_.state_dict())

other = NetClassifier(max_epochs=0, random_state=1).fit(scale(X), y)
other.module_.load_state_dict(load_tensors(folder / "weights.safetensors"))
print(np.array_equal(other.predict_proba(scale(X)), net.predict_proba(scale(X))))

# %%
# A file that would run code is rejected
# --------------------------------------
#
# ``load_tensors`` also reads files written by ``torch.save``, but only names and tensors.


class Payload:
    def __reduce__(self):
        return print, ("this would have run",)


torch.save({"weight": Payload()}, folder / "from_a_stranger.pt")
try:
    load_tensors(folder / "from_a_stranger.pt")
except ValueError as error:
    print(textwrap.fill(str(error).replace(str(folder), "..."), 90))
temporary.cleanup()
