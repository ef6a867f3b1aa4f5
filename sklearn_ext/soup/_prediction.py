"""Prediction with the net inside a soup."""

from sklearn.base import is_classifier
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ..neural import validate_input
from ._rows import is_opaque
from ._templates import architecture


def net_has(method):
    def check(self):
        net = getattr(self, "estimator_", None)
        net = architecture(self.estimator, self.ingredients) if net is None else net
        getattr(net, method)
        # skorch gives regressors a predict_proba too.
        return method != "predict_proba" or is_classifier(net)

    return check


class DelegatedPrediction:
    """Methods of a fitted ``estimator_``, behind a check of X."""

    def _checked(self, X):
        check_is_fitted(self)
        if is_opaque(X) or self.input_shape_ is None:
            return X
        return validate_input(self, X, reset=False)

    def predict(self, X):
        """Predict with the soup.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or anything that the net takes

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Labels or targets.
        """
        X = self._checked(X)
        return self.estimator_.predict(X)

    @available_if(net_has("predict_proba"))
    def predict_proba(self, X):
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or anything that the net takes

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        X = self._checked(X)
        return self.estimator_.predict_proba(X)

    @available_if(net_has("decision_function"))
    def decision_function(self, X):
        """Decision function of the net, if it has one.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or anything that the net takes

        Returns
        -------
        ndarray
        """
        X = self._checked(X)
        return self.estimator_.decision_function(X)

    def score(self, X, y):
        """Score of the net: accuracy of a classifier, R2 of a regressor.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or anything that the net takes
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)

        Returns
        -------
        float
        """
        X = self._checked(X)
        return self.estimator_.score(X, y)
