"""NumPy array operations and compilation, shared by the engines of several methods."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from ._typing import FloatArray
from ._warnings import warn_caller

Function = TypeVar("Function", bound=Callable[..., Any])


def inner(*, inline: bool = False, reassociate: bool = False) -> Callable[[Function], Function]:
    """Compile a function that only compiled functions call, without an entry point for Python.

    Parameters
    ----------
    inline : bool, default=False
        Whether every call is replaced by the code of the function, which runs faster but compiles
        more slowly.
    reassociate : bool, default=False
        Whether sums may be reordered, which lets them vectorize.

    Returns
    -------
    callable
        The decorator.
    """
    from numba import njit

    compiler: Any = njit  # its type hints lack some options
    return cast(
        Callable[[Function], Function],
        compiler(
            nogil=True,
            error_model="numpy",
            fastmath={"contract", "reassoc"} if reassociate else {"contract"},
            forceinline=inline,
            no_cpython_wrapper=True,
            no_cfunc_wrapper=True,
        ),
    )


def compiled(function: Function) -> Function:
    """Compile a function with numba, and cache its machine code on disk if a folder is writable.

    Without a cache, as in a container run by another user, every process compiles anew.
    """
    from numba import njit

    compiler: Any = njit  # its type hints lack some options
    dispatcher = compiler(
        nogil=True, error_model="numpy", fastmath={"contract"}, no_cfunc_wrapper=True
    )(function)
    try:
        dispatcher.enable_caching()
    except RuntimeError:  # numba found no writable folder
        _warn_without_cache()
    return dispatcher


@functools.cache  # once per process
def _warn_without_cache() -> None:
    warn_caller(
        "numba has no writable folder for its cache, so every process spends seconds on "
        "compilation. Set the environment variable NUMBA_CACHE_DIR to a writable folder."
    )


class NumpyArrays:
    """Contiguous NumPy arrays of float64; `TorchArrays` in ``neural`` is its counterpart."""

    def asarray(self, x: ArrayLike) -> FloatArray:
        """Return the values as a contiguous array."""
        return np.ascontiguousarray(x, dtype=np.float64)

    def to_numpy(self, x: FloatArray) -> FloatArray:
        """Return the array itself."""
        return x

    def zeros(self, *shape: int) -> FloatArray:
        """Return an array of zeros."""
        return np.zeros(shape)

    def vstack(self, *blocks: FloatArray) -> Any:
        """Return the rows of all blocks in one array."""
        return np.concatenate(blocks)
