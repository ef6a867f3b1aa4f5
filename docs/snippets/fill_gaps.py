import numpy as np
from sklearn.datasets import load_wine
from sklearn_ext import SupervisedKernelImputer

X, y = load_wine(return_X_y=True, as_frame=True)
gaps = X.mask(np.random.default_rng(0).random(X.shape) < 0.3)
filled = SupervisedKernelImputer().set_output(transform="pandas").fit_transform(gaps, y)
