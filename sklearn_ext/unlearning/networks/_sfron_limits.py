"""Limits of SFRon: the mask of weights that may change, and the score at which it pauses."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ...utils._typing import IntArray
from .._forget_request import ForgetRequest
from ..steps import Mask, balanced_mask, squared_batch_gradients, squared_sample_gradients
from ._base import NetData
from ._label_model import fit_random_features, flat_samples

_N_COMPONENTS = 500  # a score needs fewer random features than labels do
_MASK_SAMPLES = 5000
_MASK_SAMPLES_PER_FORGET_SAMPLE = 200


def draw_samples(index: torch.Tensor, n_samples: int, rng: np.random.RandomState) -> torch.Tensor:
    """Draw at most `n_samples` indices without replacement."""
    if len(index) <= n_samples:
        return index
    return index[torch.as_tensor(rng.choice(len(index), n_samples, replace=False))]


def accuracy_on(data: NetData, index: torch.Tensor) -> Callable[[], float]:
    """Return a function that measures the module's present accuracy on some samples."""
    codes = data.codes[index]

    def accuracy() -> float:
        return (data.outputs(index).argmax(dim=1) == codes).double().mean().item()

    return accuracy


def forget_remain_mask(
    data: NetData,
    *,
    threshold: float,
    batch_size: int,
    per_sample: bool,
    max_samples: int | str | None,
    rng: np.random.RandomState,
) -> Mask:
    """Return the mask of the weights that matter more for the forget set.

    Parameters
    ----------
    data : NetData
        The network and its samples.
    threshold : float
        Smallest ratio of the squared gradients of a selected weight.
    batch_size : int
        Largest batch whose gradient is squared.
    per_sample : bool
        Whether gradients are squared per sample instead of per batch.
    max_samples : int, "auto" or None
        Largest number of retained samples to use; None means all. "auto" means 5,000, or 200 for
        each sample to forget if that is less: more would not reduce the noise from the few samples
        to forget.
    rng : numpy.random.RandomState
        Draws the samples and the batches.

    Returns
    -------
    dict of str to tensor of bool
    """
    module = data.module.eval()
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if isinstance(max_samples, str):
        max_samples = min(_MASK_SAMPLES, _MASK_SAMPLES_PER_FORGET_SAMPLE * len(data.forget))
    if max_samples is None:
        max_samples = len(data.retain)
    retained = draw_samples(data.retain, max_samples, rng)
    # Squares of batch means are comparable only at one batch size.
    size = min(batch_size, len(data.forget), len(retained))

    def sample_loss(
        weights: dict[str, torch.Tensor], x: torch.Tensor, code: torch.Tensor
    ) -> torch.Tensor:
        outputs = torch.func.functional_call(module, weights, (x[None],))
        return data.loss(outputs, code[None], reduction="none")[0]

    def fisher(index: torch.Tensor) -> dict[str, torch.Tensor]:
        if per_sample:
            samples = ((data.inputs(chunk), data.codes[chunk]) for chunk in index.split(size))
            return squared_sample_gradients(sample_loss, parameters, samples)
        order = index[torch.as_tensor(rng.permutation(len(index)))]
        full_batches = order[: len(order) // size * size].split(size)
        return squared_batch_gradients(data.batch_loss, parameters, full_batches)

    return balanced_mask(fisher(data.forget), fisher(retained), threshold)


def expected_forget_score(
    data: NetData,
    rng: np.random.RandomState,
    X_val: Any = None,
    codes_val: IntArray | torch.Tensor | None = None,
) -> float:
    r"""Estimate the accuracy of a retrained model on the forget set.

    The accuracy of random features that are fitted to the retained samples shows how much these
    reveal about the forget set. A network may do better. Samples that neither model was trained on
    show by how much:

    .. math::
        \min\Bigl(1, \mathrm{acc}_{\mathrm{rf}}(D_f)\,
        \frac{\mathrm{acc}_{\mathrm{net}}(D_{val})}{\mathrm{acc}_{\mathrm{rf}}(D_{val})}\Bigr) .

    Parameters
    ----------
    data : NetData
        The original network, not changed yet, and its samples.
    rng : numpy.random.RandomState
        Draws the random features.
    X_val : array, tensor or reader of n_validation samples, default=None
        Samples that the net was not trained on.
    codes_val : array or tensor of shape (n_validation,), default=None
        Class indices of these samples.

    Returns
    -------
    float
    """
    model = fit_random_features(data, rng, n_components=_N_COMPONENTS)
    codes = data.codes[data.forget].cpu().numpy()
    score = float((model.predict(flat_samples(data, data.forget)) == codes).mean())
    if X_val is None or codes_val is None:
        return score
    nothing, everything = np.arange(0), np.arange(len(codes_val))
    held_out = NetData(data.module, X_val, codes_val, ForgetRequest(nothing, everything))
    # Other classes reveal nothing about the retained ones.
    known = torch.nonzero(data.present()[held_out.codes])[:, 0].cpu()
    if not len(known):
        return score
    known_codes = held_out.codes[known]
    hits = held_out.outputs(known).argmax(dim=1) == known_codes
    predicted = model.predict(flat_samples(held_out, known))
    features_accuracy = float((predicted == known_codes.cpu().numpy()).mean())
    if features_accuracy == 0:
        return score
    return min(1.0, score * hits.double().mean().item() / features_accuracy)
