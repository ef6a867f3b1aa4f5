"""The kernel of a fitted imputer, computed when it is asked for."""

from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits


class KernelViews:
    """Mixin with attributes that show the kernel which a solver has."""

    @property
    def kernel_initial_(self):
        """Kernel between landmarks (training rows), before labels correct it."""
        return self._kernel().initial

    @property
    def kernel_factor_(self):
        """Entrywise correction of the kernel by the labels."""
        return self._kernel().factor

    @property
    def kernel_(self):
        """The corrected kernel, ``kernel_initial_ * kernel_factor_``."""
        kernel = self._kernel()
        return kernel.initial * kernel.factor

    @property
    def dual_coef_(self):
        """Dual coefficients of the machine on the corrected kernel."""
        return self._kernel().dual_coef

    @property
    def intercept_(self):
        """Intercepts of the machine on the corrected kernel."""
        return self._kernel().intercept

    def _kernel(self):
        check_is_fitted(self)
        with threadpool_limits(limits=1, user_api="blas"):
            return self._solver.kernel(self._engine())
