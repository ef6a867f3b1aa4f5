"""Where the labels of the rows to forget come from: a model of the retained rows, or the net."""

import numpy as np
import torch
from scipy.spatial.distance import pdist

from ...neural import class_labels, head_of, outputs_and_features, to_tensor
from ..exact import RandomFeatureClassifier
from ._muso_labels import (
    best_class,
    leave_out_head,
    projected_head,
    projected_scores,
    stacked_head,
    with_ones,
)

_N_COMPONENTS = 750  # 1,000 give the same gaps at 1.3 to 1.5 times the cost of unlearning
_RIDGE = 0.1
_N_PAIRED_ROWS = 500  # rows whose distances set the width of the kernel
_MAX_ROWS = 5000  # the features are the bottleneck long before
_FIRST_EPS, _LAST_EPS = 1e-6, 1e-2
_HEAD_EPS = 1e-3
_HEAD_SHARPNESS = 4.0  # soft targets are the softmax of so many times scores between 0 and 1
_CHUNK = 1024


def flat_rows(request, rows):
    """Return rows of X as a table on the CPU."""
    return request.X[rows].flatten(start_dim=1).cpu().numpy()


def fit_random_features(request, n_components=_N_COMPONENTS):
    """Fit random features to the retained rows, on which alone their width depends, too.

    Parameters
    ----------
    request : Request
    n_components : int

    Returns
    -------
    RandomFeatureClassifier
        Its classes are the codes of those present.
    """
    rng = request.rng
    rows = request.retain
    if len(rows) > _MAX_ROWS:
        rows = rows[torch.as_tensor(rng.choice(len(rows), _MAX_ROWS, replace=False))]
    X = flat_rows(request, rows)
    some = X[rng.choice(len(X), min(len(X), _N_PAIRED_ROWS), replace=False)]
    squares = pdist(some, "sqeuclidean")
    classifier = RandomFeatureClassifier(
        n_components,
        gamma=1.0 / max(float(np.median(squares)), 1e-12),
        alpha=_RIDGE,
        random_state=rng.randint(2**31 - 1),
    )
    return classifier.fit(X, request.codes[rows].cpu().numpy())


def scattered(values, columns, n_classes):
    """Put columns of probabilities where their classes are among all classes."""
    out = np.zeros((len(values), n_classes), dtype=np.float32)
    out[:, columns] = values
    return out


class FixedLabels:
    """Labels that stay, hard or soft.

    Parameters
    ----------
    targets : tensor of shape (n_forget,) or (n_forget, n_classes)
    """

    def __init__(self, targets):
        self._targets = targets

    def refresh(self, epoch):
        """Do nothing."""

    def targets(self, positions):
        """Return the targets of forget rows by position."""
        return self._targets[positions]


class _NetLabels:
    """Labels from the features of the net as it is; the module must not change them otherwise."""

    def __init__(self, request, *, head, subset_ratio, eps, initial_head, soft, n_epochs):
        self.request = request
        self.head = head_of(request.module, head)
        self.subset_ratio = subset_ratio
        self.eps = eps
        self.soft = soft
        self.n_epochs = n_epochs
        self.original_head = self._stacked_head()
        self.initial_head = _checked_head(initial_head, self.original_head)

    def _stacked_head(self):
        bias = self.head.bias
        return stacked_head(self.head.weight.detach(), None if bias is None else bias.detach())

    def _sample(self):
        """Draw retained rows anew."""
        rows, rng = self.request.retain, self.request.rng
        n_sampled = max(1, round(self.subset_ratio * len(rows)))
        return rows[torch.as_tensor(rng.choice(len(rows), n_sampled, replace=False))]

    @torch.no_grad()
    def _features(self, rows):
        """Features with a column of ones."""
        module = self.request.module.eval()
        pieces = [
            outputs_and_features(module, self.request.X[piece], self.head)[1]
            for piece in rows.split(_CHUNK)
        ]
        return with_ones(torch.cat(pieces))

    def _choose(self, scores):
        present = self.request.present
        if self.soft:
            return scores.masked_fill(~present, -torch.inf).softmax(dim=1).float()
        return best_class(scores, present)


class HeadLabels(_NetLabels):
    """Answers of a ridge head that is fitted to retained rows on the net's features."""

    def refresh(self, epoch):
        """Fit the head to a new sample of retained rows."""
        rows = self._sample()
        codes = self.request.codes[rows]
        T = torch.nn.functional.one_hot(codes, self.request.n_classes).to(torch.float64)
        eps = _HEAD_EPS if self.eps is None else self.eps
        self.fitted_head = leave_out_head(self._features(rows), T, self.initial_head, eps)

    def targets(self, positions):
        """Return the targets of forget rows by position."""
        scores = self._features(self.request.forget[positions]) @ self.fitted_head
        return self._choose(_HEAD_SHARPNESS * scores)


class ProjectionLabels(_NetLabels):
    """MUSO's published rule, whose head is projected onto the retained rows' features."""

    def __init__(self, request, **parameters):
        super().__init__(request, **parameters)
        self.original_features = self._features(request.forget)

    def refresh(self, epoch):
        """Project the head with a new sample of retained rows."""
        eps = self.eps
        if eps is None:
            share = (1 - np.cos(np.pi * epoch / max(self.n_epochs - 1, 1))) / 2
            eps = _FIRST_EPS + (_LAST_EPS - _FIRST_EPS) * share
        Z = self._features(self._sample())
        self.projected_head = projected_head(Z, self.initial_head, self.original_head, eps)

    def targets(self, positions):
        """Return the targets of forget rows by position."""
        scores = projected_scores(
            self._features(self.request.forget[positions]),
            self.original_features[positions],
            self.projected_head,
            self.original_head,
        )
        return self._choose(scores)


def _checked_head(initial_head, like):
    if initial_head is None:
        return torch.zeros_like(like)
    head = torch.as_tensor(np.asarray(initial_head), dtype=like.dtype, device=like.device)
    if head.shape != like.shape:
        raise ValueError(
            f"initial_head must have shape {tuple(like.shape)}, one row a feature and a last one "
            f"of biases, got {tuple(head.shape)}."
        )
    return head


def labels_of_model(request, model, soft):
    """Return targets from a fitted classifier of codes for flattened rows."""
    X = flat_rows(request, request.forget)
    if soft:
        values = model.predict_proba(X)
        targets = scattered(values, np.asarray(model.classes_, dtype=int), request.n_classes)
    else:
        targets = model.predict(X).astype(np.int64)
    return to_tensor(targets, request.net)


def given_labels(request, values, soft):
    """Return targets from what a user gives: labels, or scores of all classes.

    Raises
    ------
    ValueError
        If their shape fits neither, or a label is unknown to the net.
    """
    values = np.asarray(values)
    n_forget, n_classes = len(request.forget), request.n_classes
    if values.shape == (n_forget, n_classes):
        values = values.astype(np.float32)
        if not soft:
            return to_tensor(values.argmax(axis=1), request.net)
        if (values < 0).any() or not np.allclose(values.sum(axis=1), 1.0, atol=1e-3):
            raise ValueError("label_model must give probabilities if soft_targets is set.")
        return to_tensor(values, request.net)
    if values.shape != (n_forget,):
        raise ValueError(
            f"label_model must give one label for each of the {n_forget} rows to forget, or "
            f"scores of shape {(n_forget, n_classes)}, got shape {values.shape}."
        )
    classes = class_labels(request.net)
    if unknown := set(values.tolist()).difference(classes.tolist()):
        raise ValueError(f"label_model gives labels that the net does not know: {unknown}.")
    codes = to_tensor(np.searchsorted(classes, values).astype(np.int64), request.net)
    return torch.nn.functional.one_hot(codes, n_classes).float() if soft else codes
