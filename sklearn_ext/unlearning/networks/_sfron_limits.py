"""How far and where SFRon climbs: a mask of weights, and the score at which it pauses."""

import torch

from ...neural import predict_logits
from ..steps._masks import balanced_mask, squared_batch_gradients, squared_row_gradients
from ._label_rules import fit_random_features, flat_rows

_N_COMPONENTS = 500  # a score needs fewer than labels do
_MASK_ROWS = 5000
_MASK_ROWS_PER_FORGET_ROW = 200


def sample_rows(rows, n_rows, rng):
    """Draw at most so many rows without replacement."""
    if len(rows) <= n_rows:
        return rows
    return rows[torch.as_tensor(rng.choice(len(rows), n_rows, replace=False))]


def accuracy_on(request, rows):
    """Return a function without arguments: the accuracy of the module, as it is, on some rows."""
    X, codes = request.X[rows], request.codes[rows]  # gathered once, for many calls

    def accuracy():
        outputs = predict_logits(request.net, X)
        return (outputs.argmax(dim=1) == codes).double().mean().item()

    return accuracy


def _full_batches(rows, batch_size, rng):
    """Cut shuffled rows into batches of one size, without the rest."""
    order = rows[torch.as_tensor(rng.permutation(len(rows)))]
    return order[: len(order) // batch_size * batch_size].split(batch_size)


def forget_remain_mask(request, *, gamma, batch_size, by_row, max_samples):
    """Return the mask of weights that matter more for the rows to forget.

    Parameters
    ----------
    request : Request
    gamma : float
    batch_size : int
    by_row : bool
        Whether gradients are squared by row instead of by batch.
    max_samples : int, "auto" or None
        Retained rows that take part. "auto" is 5,000, or 200 for each row to forget if that is
        less: more would not make up for how few these are.

    Returns
    -------
    dict of str to tensor of bool
    """
    module, rng = request.module.eval(), request.rng
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if max_samples == "auto":
        max_samples = min(_MASK_ROWS, _MASK_ROWS_PER_FORGET_ROW * len(request.forget))
    retained = sample_rows(request.retain, max_samples or len(request.retain), rng)
    # Squares of batch means compare for one batch size only.
    size = min(batch_size, len(request.forget), len(retained))

    def mean_loss(rows):
        return request.row_losses(module(request.X[rows]), request.codes[rows]).mean()

    def row_loss(weights, x, code):
        outputs = torch.func.functional_call(module, weights, (x[None],))
        return request.row_losses(outputs, code[None])[0]

    def fisher(rows):
        if by_row:
            batches = ((request.X[piece], request.codes[piece]) for piece in rows.split(size))
            return squared_row_gradients(row_loss, parameters, batches)
        return squared_batch_gradients(mean_loss, parameters, _full_batches(rows, size, rng))

    return balanced_mask(fisher(request.forget), fisher(retained), gamma)


def expected_forget_score(request, X_val=None, codes_val=None):
    r"""Estimate the accuracy of a retrained model on the rows to forget.

    Random features fitted to the retained rows have an accuracy on the rows to forget, which tells
    how much the others give away about them. A network may do better: rows that neither model was
    trained on tell how much,

    .. math::
        \min\Bigl(1, \mathrm{acc}_{\mathrm{rf}}(D_f)\,
        \frac{\mathrm{acc}_{\mathrm{net}}(D_{val})}{\mathrm{acc}_{\mathrm{rf}}(D_{val})}\Bigr) .

    Parameters
    ----------
    request : Request
        Its module has not been changed yet.
    X_val : tensor of shape (n_validation, ...), default=None
    codes_val : tensor of shape (n_validation,), default=None

    Returns
    -------
    float
    """
    model = fit_random_features(request, _N_COMPONENTS)
    codes = request.codes[request.forget].cpu().numpy()
    score = float((model.predict(flat_rows(request, request.forget)) == codes).mean())
    if X_val is None:
        return score
    known = request.present[codes_val]  # classes without retained rows say nothing about the others
    if not known.any():
        return score
    X_val, codes_val = X_val[known], codes_val[known]
    of_net = predict_logits(request.net, X_val).argmax(dim=1) == codes_val
    predicted = model.predict(X_val.flatten(start_dim=1).cpu().numpy())
    of_features = float((predicted == codes_val.cpu().numpy()).mean())
    if of_features == 0:
        return score
    return min(1.0, score * of_net.double().mean().item() / of_features)
