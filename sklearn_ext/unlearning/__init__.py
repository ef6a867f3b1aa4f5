"""Models that forget training samples: exactly on random features, approximately for networks.

Names are listed in ``__init__.pyi`` and imported when first used: the random-feature models work
without torch.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
