"""Recent machine-learning methods as scikit-learn estimators.

Public names are listed once, in ``__init__.pyi``, and imported when first used:
``import sklearn_ext`` loads neither torch, numba nor matplotlib.
"""

import lazy_loader as _lazy

from ._version import __version__

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__all__ += ["__version__"]
