"""What detectors share that read a trained classifier and change nothing about it."""

import torch

from ...neural import class_codes, class_labels, draw_seed, fitted_copy, is_fitted_net
from .._classifier_outputs import check_head, features_of, head_parameters
from .._detector import BaseOODDetector


class BasePostHocDetector(BaseOODDetector):
    """A classifier, its features and its head; a subclass turns them into a score.

    A subclass defines ``_score(features, weight, bias)``; if it has ``_learns``, also
    ``_learn(features, codes, weight, bias)``, which sees the training rows first. Tensors are in
    double precision. With ``_uses_classes`` it needs y even where the classifier is fitted.
    """

    _learns = False
    _uses_classes = False

    _parameter_constraints = {
        **BaseOODDetector._parameter_constraints,
        "head": [str, None],
    }

    def __init__(
        self,
        estimator=None,
        *,
        head=None,
        outlier_label=-1,
        id_rejection_rate=0.05,
        validation_fraction=0.1,
        random_state=None,
    ):
        super().__init__(
            outlier_label=outlier_label,
            id_rejection_rate=id_rejection_rate,
            validation_fraction=validation_fraction,
            random_state=random_state,
        )
        self.estimator = estimator
        self.head = head

    def _needs_labels(self):
        return self._uses_classes or not is_fitted_net(self.estimator)

    def _needs_training_rows(self):
        return self._learns or not is_fitted_net(self.estimator)

    def _fit_detector(self, rows, rng):
        net = fitted_copy(self.estimator, rows.X, rows.y, random_state=draw_seed(rng))
        self.classifier_, self.classes_ = net, class_labels(net)
        check_head(net.module_, self.classes_, self.head)
        if self._learns:
            codes = torch.from_numpy(class_codes(net, rows.y)) if self._uses_classes else None
            features = features_of(net, rows.X, self.head)
            self._learn(features, codes, *head_parameters(net.module_, self.head))

    def _score_rows(self, X):
        features = features_of(self.classifier_, X, self.head)
        head = head_parameters(self.classifier_.module_, self.head)
        return self._score(features, *head).numpy()
