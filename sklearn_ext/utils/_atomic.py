import functools


def atomic_fit(fit):
    """Decorate `fit` so that a call that raises leaves the estimator as it was before.

    A model that was never fitted stays unfitted, a fitted one keeps predicting as it did. It goes
    outside of all other decorators, which clean up after themselves first.
    """

    @functools.wraps(fit)
    def wrapper(self, *args, **kwargs):
        before = dict(vars(self))
        try:
            return fit(self, *args, **kwargs)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return wrapper
