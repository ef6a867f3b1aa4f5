"""Forgetting by the labels that a retrained model would give."""

from numbers import Real

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from ...neural import class_labels
from ._base import BaseFineTuner
from ._label_rules import (
    FixedLabels,
    HeadLabels,
    ProjectionLabels,
    fit_random_features,
    flat_rows,
    given_labels,
    labels_of_model,
)
from ._unlearner_docs import with_unlearner_docs


@with_unlearner_docs
class MUSOUnlearner(BaseFineTuner):
    r"""Unlearning by relabelling (MUSO): train on with the labels a retrained model would give.

    A linear model that is trained on with the labels a retrained model gives to the rows to forget
    ends exactly in the weights of the retrained model. Here those labels are estimated without
    retraining, and the network is trained on with them.

    Parameters
    ----------
    {estimator}

    label_model : str, classifier, array-like or callable, default="random_features"
        What estimates the labels of the rows to forget.

        - "random_features": a :class:`RandomFeatureClassifier` on the inputs of the retained rows,
          at most 5,000. It has never seen the rows to forget.
        - "head": a ridge regression of the retained labels on the features before the last linear
          layer; fitted anew in each epoch, asked anew in each batch. The features have seen the
          rows to forget, so that it changes too few labels unless a whole class goes.
        - "projection": the published rule. With more retained rows than features it begins with
          the true labels, and what follows depends on chance.
        - A classifier is cloned and fitted to the flattened retained rows.
        - Labels, an array of shape (n_forget,), or scores of all classes, one of shape
          (n_forget, n_classes), in the order of `forget`.
        - A callable gets the retained rows, their labels and the rows to forget, and returns such
          an array.

    soft_targets : bool, default=False
        Whether probabilities are learned instead of labels. Their entropy tends to give away which
        rows were forgotten.

    subset_ratio : float in (0, 1], default=0.2
        Share of the retained rows that "head" and "projection" draw in each epoch.

    eps : float or None, default=None
        Ridge of "head", in units of the mean eigenvalue, or of "projection", absolute. None is
        1e-3 for the former; for the latter it rises from 1e-6 to 1e-2.

    head : str or None, default=None
        Name of the last linear layer; None is the last :class:`torch.nn.Linear`.

    initial_head : array-like of shape (n_penultimate + 1, n_classes) or None, default=None
        Weights of that layer before the original training, biases last. None is zero.

    lr : float, default=2e-3
        Learning rate; decays to 0 along half a cosine.

    {passes}

    optimizer : {"adamw", "adam", "sgd"} or torch.optim.Optimizer class, default="adamw"
        What makes the steps; "sgd" has a momentum of 0.9.

    {seed}

    Attributes
    ----------
    {models}

    forget_labels_ : ndarray of shape (n_forget,)
        The labels that the rows to forget had in the end.

    changed_fraction_ : ndarray of shape (n_epochs,)
        Share of those labels that differed from the true ones in each epoch.

    label_model_ : estimator or None
        The fitted label model, if there is one.

    {facts}

    See Also
    --------
    RandomFeatureClassifier : Forgets exactly, in closed form.
    NatMUUnlearner : Changes the rows to forget together with their labels.

    References
    ----------
    .. [1] R. Yang, M. He, Z. He, Y. Qiu, X. Huang, "MUSO: Achieving Exact Machine Unlearning in
       Over-Parameterized Regimes", arXiv:2410.08557, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import MUSOUnlearner
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MUSOUnlearner(random_state=0).fit(X / 16, y, forget=y == 3)
    >>> bool((model.predict(X[y == 3] / 16) == 3).mean() < 0.05)
    True
    """

    _parameter_constraints = {
        **BaseFineTuner._parameter_constraints,
        "label_model": [
            StrOptions({"random_features", "head", "projection"}),
            HasMethods(["fit", "predict"]),
            "array-like",
            callable,
        ],
        "soft_targets": ["boolean"],
        "subset_ratio": [Interval(Real, 0, 1, closed="right")],
        "eps": [Interval(Real, 0, None, closed="left"), None],
        "head": [str, None],
        "initial_head": ["array-like", None],
    }

    def __init__(
        self,
        estimator=None,
        *,
        label_model="random_features",
        soft_targets=False,
        subset_ratio=0.2,
        eps=None,
        head=None,
        initial_head=None,
        lr=2e-3,
        weight_decay=0.0,
        max_epochs="auto",
        batch_size=None,
        optimizer="adamw",
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            estimator,
            lr=lr,
            weight_decay=weight_decay,
            max_epochs=max_epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            random_state=random_state,
            verbose=verbose,
        )
        self.label_model = label_model
        self.soft_targets = soft_targets
        self.subset_ratio = subset_ratio
        self.eps = eps
        self.head = head
        self.initial_head = initial_head

    def _unlearn(self, request):
        rule, model = self._rule(request)
        rows = torch.cat([request.retain, request.forget])
        n_retained = len(request.retain)
        true = request.codes[rows]
        targets = true
        if self.soft_targets:
            targets = torch.nn.functional.one_hot(true, request.n_classes).float()
        targets = targets.clone()
        epochs = iter(range(self._recipe(request, len(rows)).n_epochs))

        def batch(index):
            asked = index[index >= n_retained]
            if len(asked):
                targets[asked] = rule.targets(asked - n_retained)
            return request.X[rows[index]], targets[index]

        def forget_labels():
            labels = targets[n_retained:]
            return labels.argmax(dim=1) if self.soft_targets else labels

        def changed():
            return (forget_labels() != true[n_retained:]).double().mean().item()

        fitted = self._train(
            request,
            len(rows),
            batch,
            before_epoch=lambda: rule.refresh(next(epochs)),
            after_epoch=lambda record: record.update(changed_fraction=changed()),
        )
        fractions = np.array([record["changed_fraction"] for record in fitted["history_"]])
        if len(fractions) and not fractions.any():
            self._warn("label_model gave every row its true label, so nothing was forgotten.")
        return fitted | {
            "forget_labels_": class_labels(request.net)[forget_labels().cpu().numpy()],
            "changed_fraction_": fractions,
            "label_model_": model,
        }

    def _nothing_to_forget(self, net):
        return {
            "history_": [],
            "forget_labels_": class_labels(net)[:0],
            "changed_fraction_": np.empty(0),
            "label_model_": None,
        }

    def _rule(self, request):
        """Return what gives the targets, and the label model if one was fitted."""
        chosen, soft = self.label_model, self.soft_targets
        if isinstance(chosen, str) and chosen == "random_features":
            model = fit_random_features(request)
        elif isinstance(chosen, str):
            n_rows = len(request.X)
            rule = HeadLabels if chosen == "head" else ProjectionLabels
            return rule(
                request,
                head=self.head,
                subset_ratio=self.subset_ratio,
                eps=self.eps,
                initial_head=self.initial_head,
                soft=soft,
                n_epochs=self._recipe(request, n_rows).n_epochs,
            ), None
        elif hasattr(chosen, "fit"):
            if soft and not hasattr(chosen, "predict_proba"):
                raise TypeError(
                    f"soft_targets=True needs a label_model with predict_proba, got {chosen!r}."
                )
            codes = request.codes[request.retain].cpu().numpy()
            model = clone(chosen).fit(flat_rows(request, request.retain), codes)
        else:
            values = self._call(request) if callable(chosen) else chosen
            return FixedLabels(given_labels(request, values, soft)), None
        return FixedLabels(labels_of_model(request, model, soft)), model

    def _call(self, request):
        retained, forget = request.X[request.retain], request.X[request.forget]
        codes = request.codes[request.retain].cpu().numpy()
        labels = class_labels(request.net)[codes]
        return self.label_model(retained.cpu().numpy(), labels, forget.cpu().numpy())
