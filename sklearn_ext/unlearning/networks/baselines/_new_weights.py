"""Fine-tuning from partly new weights: masked small gradients and transposed convolutions."""

from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from torch import nn

from ....utils._warnings import warn_caller
from ...steps import summed_gradients
from .._base import Task
from .._net_data import NetData
from ._algorithm import BaselineConfig, Factors, retained_training_set
from ._fine_tuning import BaseTargetUnlearner

_GRADIENT_BATCH = 64


def renew_small_gradients(
    data: NetData, rng: np.random.RandomState, *, fraction: float, factor: float
) -> Factors:
    r"""Give new values to the weights that matter least for telling the two sets apart.

    With the loss :math:`L` on the forget set f and on as many retained samples r, these are the
    weights of each layer with the smallest

    .. math:: \Bigl| \frac{\partial (L_r - L_f)}{\partial \theta_p} \Bigr| .

    Parameters
    ----------
    data : NetData
        The network, which is changed in place, and its samples.
    rng : numpy.random.RandomState
        Draws the retained samples and the new weights.
    fraction : float
        Fraction of the weights of each layer that get new values.
    factor : float
        Factor of the gradients of the other weights.

    Returns
    -------
    dict of str to tensor
        Factors of the gradients, 1 for new weights.
    """
    module = data.module.eval()
    weights = _trainable_weights(module, nn.Conv2d) or _trainable_weights(module, nn.Linear)
    if not weights:
        raise ValueError(
            "The network must have a trainable convolution or linear layer for MSGUnlearner, but "
            "it has none."
        )
    drawn = rng.choice(len(data.retain), min(len(data.forget), len(data.retain)), replace=False)
    retained = data.retain[torch.as_tensor(drawn)]
    of_retained, of_forget = (
        summed_gradients(data.batch_loss, weights, index.split(_GRADIENT_BATCH))
        for index in (retained, data.forget)
    )
    factors = {}
    for name, weight in weights.items():
        size = (of_retained[name] - of_forget[name]).abs().flatten()
        chosen = torch.zeros(len(size), dtype=torch.bool, device=size.device)
        chosen[size.topk(round(fraction * len(size)), largest=False).indices] = True
        chosen = chosen.view_as(weight)
        fresh = torch.empty_like(weight)
        nn.init.kaiming_normal_(fresh, mode="fan_out", nonlinearity="relu")
        with torch.no_grad():
            weight.copy_(torch.where(chosen, fresh, weight))
        factors[name] = torch.where(chosen, 1.0, factor)
    return factors


def _trainable_weights(module: nn.Module, kind: type[nn.Module]) -> dict[str, nn.Parameter]:
    """Return the weights of the layers of a kind that are not frozen, by parameter name."""
    of_kind = {id(layer.weight) for layer in module.modules() if isinstance(layer, kind)}
    return {
        name: weight
        for name, weight in module.named_parameters()
        if id(weight) in of_kind and weight.requires_grad
    }


def transpose_convolutions(data: NetData, rng: np.random.RandomState) -> None:
    """Swap the height and the width of all square kernels that are not frozen, in place.

    Parameters
    ----------
    data : NetData
        The network, which is changed in place, and its samples.
    rng : numpy.random.RandomState
        Not used.
    """
    kernels = list(_trainable_weights(data.module, nn.Conv2d).values())
    kernels = [kernel for kernel in kernels if kernel.shape[-1] == kernel.shape[-2] > 1]
    if not kernels:
        warn_caller(
            "The network has no trainable convolution with square kernels, so nothing was "
            "transposed and CTUnlearner only fine-tunes."
        )
    with torch.no_grad():
        for kernel in kernels:
            kernel.copy_(kernel.transpose(-1, -2).clone())


class MSGUnlearner(BaseTargetUnlearner):
    """Masked small gradients (MSG): renew weights that matter little, and fine-tune.

    The weights of convolutions are ranked by the gradient of the loss on retained samples minus
    that on samples to forget. Those with the smallest gradients get new random values, and the
    network is fine-tuned on the retained samples, with smaller gradients of the other weights. In a
    network without trainable convolutions, the weights of linear layers are ranked instead. The
    method was placed in the NeurIPS 2023 unlearning competition and leads the comparison in [1]_.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        An unfitted estimator is fitted first. None means
        :class:`~sklearn_ext.neural.NetClassifier`.

    init_fraction : float in [0, 1], default=0.3
        Fraction of the weights of each layer that get new values.

    gradient_factor : float in [0, 1], default=0.1
        Factor of the gradients of the other weights.

    learning_rate : float, default=0.1
        Initial learning rate, which decays to 0 along half a cosine.

    weight_decay : float, default=0
        Weight decay of the optimizer.

    max_epochs : int or "auto", default="auto"
        Passes over the samples. "auto" means five, or fewer if five passes would visit more than
        50,000 samples.

    batch_size : int or None, default=None
        Samples per step. None means the batch size of the net.

    optimizer : {"adamw", "adam", "sgd"} or torch.optim.Optimizer class, default="sgd"
        The optimizer. "sgd" uses a momentum of 0.9.

    retained_tolerance : float in [0, 1] or None, default=0.05
        Largest loss of accuracy on the retained samples, 500 of which are watched. Changes that
        lose more are shortened, and the following steps are half as long. None means no limit.

    on_retained_loss : {"warn", "raise"}, default="warn"
        Whether `fit` warns or raises an error if the accuracy is still lower at the end.

    random_state : int, RandomState instance or None, default=None
        Seed of all random draws, and of the original training if there is one.

    verbose : int, default=0
        If positive, the record of each epoch is printed.

    Attributes
    ----------
    estimator_ : skorch classifier
        The unlearned model.

    original_estimator_ : skorch classifier
        The original model.

    classes_ : ndarray of shape (n_classes,)
        Class labels of the original model.

    forget_idx_ : ndarray of int
        Indices of the samples to forget.

    history_ : list of dict
        One record per epoch, with the loss, the accuracies "FA" on samples to forget and "RA" on
        retained samples, and the fraction "kept" of the change.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    CTUnlearner : Transposes convolutions before the fine-tuning.

    References
    ----------
    .. [1] X. Cadet, A. Borovykh, M. Malekzadeh, S. Ahmadi-Abhari, H. Haddadi, "Deep Unlearn:
       Benchmarking Machine Unlearning for Image Classification", arXiv:2410.01276, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import MSGUnlearner
    >>> X, y = load_digits(return_X_y=True)
    >>> X = (X / 16).reshape(-1, 8, 8)
    >>> model = MSGUnlearner(random_state=0).fit(X, y, forget=y == 3)
    >>> bool(model.score(X[y != 3], y[y != 3]) > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseTargetUnlearner._parameter_constraints,
        "init_fraction": [Interval(Real, 0, 1, closed="both")],
        "gradient_factor": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        init_fraction: float = 0.3,
        gradient_factor: float = 0.1,
        learning_rate: float = 0.1,
        weight_decay: float = 0.0,
        max_epochs: int | str = "auto",
        batch_size: int | None = None,
        optimizer: Any = "sgd",
        retained_tolerance: float | None = 0.05,
        on_retained_loss: str = "warn",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            estimator,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            max_epochs=max_epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            retained_tolerance=retained_tolerance,
            on_retained_loss=on_retained_loss,
            random_state=random_state,
            verbose=verbose,
        )
        self.init_fraction = init_fraction
        self.gradient_factor = gradient_factor

    def _config(self, task: Task) -> BaselineConfig:
        def prepare(data: NetData, rng: np.random.RandomState) -> Factors:
            return renew_small_gradients(
                data, rng, fraction=self.init_fraction, factor=self.gradient_factor
            )

        return BaselineConfig(
            self._training(task), retained_training_set, prepare=prepare, limit=self._limit()
        )


class CTUnlearner(BaseTargetUnlearner):
    """Convolution transpose (CT): swap height and width of all kernels, and fine-tune.

    Every square kernel of a convolution is transposed, and the network is then fine-tuned on the
    retained samples. The method comes from the NeurIPS 2023 unlearning competition and is one of
    the two that lead the comparison in [1]_. Without trainable convolutions, it is plain
    fine-tuning, and `fit` warns.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        An unfitted estimator is fitted first. None means
        :class:`~sklearn_ext.neural.NetClassifier`.

    learning_rate : float, default=0.1
        Initial learning rate, which decays to 0 along half a cosine.

    weight_decay : float, default=0
        Weight decay of the optimizer.

    max_epochs : int or "auto", default="auto"
        Passes over the samples. "auto" means five, or fewer if five passes would visit more than
        50,000 samples.

    batch_size : int or None, default=None
        Samples per step. None means the batch size of the net.

    optimizer : {"adamw", "adam", "sgd"} or torch.optim.Optimizer class, default="sgd"
        The optimizer. "sgd" uses a momentum of 0.9.

    retained_tolerance : float in [0, 1] or None, default=0.05
        Largest loss of accuracy on the retained samples, 500 of which are watched. Changes that
        lose more are shortened, and the following steps are half as long. None means no limit.

    on_retained_loss : {"warn", "raise"}, default="warn"
        Whether `fit` warns or raises an error if the accuracy is still lower at the end.

    random_state : int, RandomState instance or None, default=None
        Seed of all random draws, and of the original training if there is one.

    verbose : int, default=0
        If positive, the record of each epoch is printed.

    Attributes
    ----------
    estimator_ : skorch classifier
        The unlearned model.

    original_estimator_ : skorch classifier
        The original model.

    classes_ : ndarray of shape (n_classes,)
        Class labels of the original model.

    forget_idx_ : ndarray of int
        Indices of the samples to forget.

    history_ : list of dict
        One record per epoch, with the loss, the accuracies "FA" on samples to forget and "RA" on
        retained samples, and the fraction "kept" of the change.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    MSGUnlearner : Renews weights before the fine-tuning.

    References
    ----------
    .. [1] X. Cadet, A. Borovykh, M. Malekzadeh, S. Ahmadi-Abhari, H. Haddadi, "Deep Unlearn:
       Benchmarking Machine Unlearning for Image Classification", arXiv:2410.01276, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import CTUnlearner
    >>> X, y = load_digits(return_X_y=True)
    >>> X = (X / 16).reshape(-1, 8, 8)
    >>> model = CTUnlearner(random_state=0).fit(X, y, forget=y == 3)
    >>> bool(model.score(X[y != 3], y[y != 3]) > 0.9)
    True
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        learning_rate: float = 0.1,
        weight_decay: float = 0.0,
        max_epochs: int | str = "auto",
        batch_size: int | None = None,
        optimizer: Any = "sgd",
        retained_tolerance: float | None = 0.05,
        on_retained_loss: str = "warn",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            estimator,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            max_epochs=max_epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            retained_tolerance=retained_tolerance,
            on_retained_loss=on_retained_loss,
            random_state=random_state,
            verbose=verbose,
        )

    def _config(self, task: Task) -> BaselineConfig:
        return BaselineConfig(
            self._training(task),
            retained_training_set,
            prepare=transpose_convolutions,
            limit=self._limit(),
        )
