"""Flat-LoRA as skorch nets: a classifier and a regressor around a pretrained network."""

import contextlib
import copy
import inspect
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.validation import check_is_fitted
from skorch.dataset import get_len, unpack_data
from torch import nn

from ..neural import (
    CosineDecay,
    NetClassifier,
    NetRegressor,
    load_tensors,
    seeded,
    validate_input,
)
from ..utils._atomic import atomic_fit
from ..utils._random import local_random_state
from ..utils._typing import FloatArray, RandomState
from ..utils._warnings import warn_caller
from ._adapter_files import (
    WEIGHTS_FILE,
    attributes_from_metadata,
    attributes_to_metadata,
    load_lora_state_dict,
    read_config,
    save_adapter,
)
from ._config import AdapterConfig, NoiseConfig, from_lora_config
from ._injection import (
    frozen_norms,
    inject,
    lora_layers,
    merge_lora,
    norm_layers,
    saved_modules,
)
from ._noise import SCHEDULES
from ._noise_process import (
    NoiseProcess,
    TrainingProgress,
    expected_sharpness,
    n_training_batches,
)
from ._pretrained import load_pretrained, pretrained_state

_SEED_BOUND = 2**31 - 1
_CONSTRAINTS: dict[str, list[Any]] = {
    "r": [Interval(Integral, 1, None, closed="left")],
    "lora_alpha": [Interval(Real, 0, None, closed="neither")],
    "lora_dropout": [Interval(Real, 0, 1, closed="left")],
    "use_rslora": ["boolean"],
    "target_modules": [str, list, tuple],
    "exclude_modules": [str, list, tuple, None],
    "modules_to_save": [list, tuple, None],
    "train_bias": [StrOptions({"none", "all", "lora_only"})],
    "train_norm": ["boolean"],
    "sigma": [Interval(Real, 0, None, closed="left")],
    "sigma_schedule": [StrOptions(set(SCHEDULES)), callable],
    "perturbation": [StrOptions({"weight", "local"})],
    "store_noise": ["boolean"],
    "n_noise": [Interval(Integral, 1, None, closed="left")],
}
_SHARPNESS_CONSTRAINTS: dict[str, list[Any]] = {
    "sigma": [Interval(Real, 0, None, closed="left")],
    "n_draws": [Interval(Integral, 1, None, closed="left")],
}
_SAVED_ATTRIBUTES = ("input_shape_", "n_features_in_", "feature_names_in_", "n_outputs_")


class FlatLoRAClassifier(NetClassifier):
    r"""Low-rank adaptation of a pretrained network, trained over a flat part of the loss.

    The estimator freezes a pretrained network, adds low-rank updates :math:`s B A` to its layers,
    and trains them on the loss averaged over Gaussian noise on the *merged* weight [1]_,

    .. math::
        \min_{A, B} E_\varepsilon\, L(W' + \varepsilon), \qquad W' = W + s B A, \qquad
        \varepsilon_{ij} \sim N(0, \sigma_t^2 \lVert W'_{i,:} \rVert^2 / n) .

    The noise favors weights around which the loss is flat in every direction, not only in the
    low-rank ones. Each step takes one forward and one backward pass, as in plain LoRA, which you
    get with ``sigma=0``.

    Parameters
    ----------
    module : torch.nn.Module class or instance
        The network. An instance is copied, and its weights are the pretrained ones. A class whose
        constructor has parameters `n_features` or `n_outputs` receives them from the data.

    pretrained : str, path-like, dict, torch.nn.Module, fitted skorch net or None, default=None
        Weights of the backbone, which are loaded at every fit: a ``.safetensors`` or ``.pt`` file,
        which is mapped into memory, a mapping of names to tensors, a module or a fitted net.

    r : int, default=8
        Rank of the updates, limited by the smaller dimension of a weight.

    lora_alpha : float, default=16
        The scaling s of the updates is ``lora_alpha / r``.

    lora_dropout : float in [0, 1), default=0.0
        Dropout rate on the input of the updates, in training mode.

    use_rslora : bool, default=False
        Whether s is ``lora_alpha / sqrt(r)`` instead.

    target_modules : {"auto", "all-linear", "all"}, list of str or str, default="auto"
        The layers to adapt. "auto" selects every ``Linear``, ``Conv1d`` and ``Conv2d`` layer except
        the last layer with parameters, "all-linear" every ``Linear`` layer, and "all" every layer
        of the three types. A list contains names or ends of names. Any other string is a regular
        expression that must match the whole name.

    exclude_modules : list of str or str or None, default=None
        Layers that are not adapted: a list of names or ends of names, or a regular expression.

    modules_to_save : list of str or None, default=None
        Names, or ends of names, of modules that are trained in full, such as a new head. Their
        weights may be missing from `pretrained` or have other shapes.

    train_bias : {"none", "all", "lora_only"}, default="none"
        Which biases are trained: none, all, or those of the adapted layers.

    train_norm : bool, default=False
        Whether batch and instance normalization layers with running statistics are trained in full.
        By default, they use the statistics of the pretrained network, during training as well.

    sigma : float, default=0.1
        Size of the noise relative to the merged weight at the end of the training.

    sigma_schedule : {"cosine", "linear", "constant"} or callable, default="cosine"
        How the strength of the noise grows during the training. A callable maps the fraction of the
        training that is done to a factor of `sigma`.

    perturbation : {"weight", "local"}, default="weight"
        "weight" draws one noise on the weights for all samples of a batch. "local" draws noise on
        the outputs of linear layers for each sample, which is cheaper for small batches and has
        less variance; positions of one sample, such as tokens, then get independent noise.
        Convolutions, and layers whose weight is read instead of called, always get "weight" noise.

    store_noise : bool, default=False
        Whether to keep a noisy copy of each weight during a step, which halves the number of
        random draws.

    n_noise : int, default=1
        Number of draws of the noise per step, over which the loss is averaged.

    lora_config : peft.LoraConfig, dict or None, default=None
        Replaces the parameters from `r` to `train_bias`.

    optimizer : torch.optim.Optimizer class, default=torch.optim.Adam
        Receives only the trainable parameters. The default equals AdamW without weight decay.

    lr : float, default=1e-3
        Learning rate. Small networks need more, up to 5e-3.

    random_state : int, RandomState instance or None, default=None
        Seeds the new weights, the factors, the batches and the noise. No global generator is
        changed. Pass an int for reproducible results across calls.

    **params
        Any other parameter of :class:`~sklearn_ext.NetClassifier`, such as `max_epochs`,
        `batch_size`, `criterion`, `callbacks`, `device` or ``module__...``.

    Attributes
    ----------
    module_ : torch.nn.Module
        The network with adapters.

    lora_layers_ : dict of str to dict
        The `shape` of the weight and the rank `r` of each adapted layer.

    target_modules_ : list of str
        Names of the adapted layers.

    n_trainable_ : int
        Number of trainable parameters.

    n_total_ : int
        Number of all parameters.

    sigma_history_ : ndarray of shape (n_batches,)
        Strength of the noise in each training batch; `history_` contains it as `sigma`.

    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.

    n_outputs_ : int
        Number of outputs of the network.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Length of the second axis of X in `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X in `fit`. Defined only if all of them are strings.

    See Also
    --------
    FlatLoRACallback : The noise alone, for any skorch net.
    FlatLoRARegressor : The counterpart for regression.

    References
    ----------
    .. [1] T. Li, Z. He, Y. Li, Y. Wang, L. Shang, X. Huang, "Flat-LoRA: Low-Rank Adaptation over a
       Flat Loss Landscape", ICML 2025, arXiv:2409.14396.

    Examples
    --------
    A network for upright digits is adapted to digits that are rotated by 90 degrees:

    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import FlatLoRAClassifier, NetClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> rotated = np.rot90(X.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64)
    >>> net = NetClassifier(max_epochs=10, random_state=0).fit(X[:900], y[:900])
    >>> net.score(rotated[1200:], y[1200:]) < 0.3
    True
    >>> adapted = FlatLoRAClassifier(net.module_, r=4, lr=1e-2, max_epochs=20, random_state=0)
    >>> adapted.fit(rotated[900:1200], y[900:1200]).score(rotated[1200:], y[1200:]) > 0.8
    True
    >>> adapted.n_trainable_, adapted.n_total_
    (1792, 27914)
    """

    def __init__(
        self,
        module: Any,
        *,
        pretrained: Any = None,
        r: int = 8,
        lora_alpha: float = 16,
        lora_dropout: float = 0.0,
        use_rslora: bool = False,
        target_modules: str | Sequence[str] = "auto",
        exclude_modules: str | Sequence[str] | None = None,
        modules_to_save: Sequence[str] | None = None,
        train_bias: str = "none",
        train_norm: bool = False,
        sigma: float = 0.1,
        sigma_schedule: str | Callable[[float], float] = "cosine",
        perturbation: str = "weight",
        store_noise: bool = False,
        n_noise: int = 1,
        lora_config: Any = None,
        optimizer: Any = torch.optim.Adam,
        lr: float = 1e-3,
        random_state: RandomState = None,
        **params: Any,
    ) -> None:
        super().__init__(module, optimizer=optimizer, lr=lr, random_state=random_state, **params)
        self.pretrained = pretrained
        self.r = r
        self.lora_alpha = lora_alpha
        self.lora_dropout = lora_dropout
        self.use_rslora = use_rslora
        self.target_modules = target_modules
        self.exclude_modules = exclude_modules
        self.modules_to_save = modules_to_save
        self.train_bias = train_bias
        self.train_norm = train_norm
        self.sigma = sigma
        self.sigma_schedule = sigma_schedule
        self.perturbation = perturbation
        self.store_noise = store_noise
        self.n_noise = n_noise
        self.lora_config = lora_config

    @classmethod
    def from_paper(cls, module: Any, **params: Any) -> Self:
        """Create an estimator with the settings of the paper's language experiments.

        The objective (eq. 4) and the increasing noise (section 3.2) are the defaults of this class.
        This method sets the remaining values to those of the paper: ``sigma=0.05``, ``r=8``,
        ``lora_alpha=16`` and ``lr=5e-4``, which decays to zero along a cosine. The paper uses
        ``sigma=0.15`` for image classification with CLIP.

        Parameters
        ----------
        module : torch.nn.Module class or instance
            The network.
        **params
            Other parameters of the constructor, which take precedence over the paper's.

        Returns
        -------
        FlatLoRAClassifier
        """
        return cls(module, **_paper_params() | params)

    def set_params(self, **params: Any) -> Self:
        """Set parameters; see :meth:`skorch.NeuralNet.set_params`.

        Parameters
        ----------
        **params
            Values by name.

        Returns
        -------
        self : object
        """
        # skorch would take a name that begins with "module" for a parameter of the module.
        if "modules_to_save" in params:
            self.modules_to_save = params.pop("modules_to_save")
        super().set_params(**params)
        return self

    def get_params_for(self, prefix: str) -> dict[str, Any]:
        """Collect the constructor arguments of a part of the net.

        A module class whose constructor has parameters `n_features` or `n_outputs` receives them
        from the data, unless they are given.

        Parameters
        ----------
        prefix : str
            Name of the part, such as "module".

        Returns
        -------
        dict
        """
        params = super().get_params_for(prefix)
        if prefix != "module" or not hasattr(self, "n_outputs_"):
            return params
        return _sizes_for(self.module, self.input_shape_, self.n_outputs_) | params

    def initialize_module(self) -> Self:
        """Build the module, load the pretrained weights, freeze them, and add adapters.

        Returns
        -------
        self : object
        """
        _check_parameters(self)
        super().initialize_module()
        _insert_adapters(self, _adapter_config(self))
        return self

    def get_all_learnable_params(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the trainable parameters by name, for the optimizer and for callbacks.

        Yields
        ------
        tuple of str and torch.nn.Parameter
        """
        for name, parameter in super().get_all_learnable_params():
            if parameter.requires_grad:
                yield name, parameter

    @contextlib.contextmanager
    def _training_context(self) -> Iterator[None]:
        is_continued = self.warm_start and len(self.history_) > 0
        self._progress = TrainingProgress(self.max_epochs, is_complete=is_continued)
        with _noise_process(self) as self._noise:
            yield
        del self._progress, self._noise

    def _set_training(self, training: bool = True) -> None:
        super()._set_training(training)
        if training:
            for norm in frozen_norms(self.module_):
                norm.eval()

    def on_epoch_begin(self, net: Any, dataset_train: Any = None, **kwargs: Any) -> None:
        """Count the batches of an epoch for the schedule of the noise.

        Parameters
        ----------
        net : skorch.NeuralNet
        dataset_train : torch.utils.data.Dataset or None, default=None
        **kwargs
            Passed to the method of skorch.
        """
        super().on_epoch_begin(net, dataset_train=dataset_train, **kwargs)
        self._progress.begin_epoch(n_training_batches(self, dataset_train))

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Record the strength of the noise in the history.

        Parameters
        ----------
        net : skorch.NeuralNet
        training : bool, default=False
        **kwargs
            Passed to the method of skorch.
        """
        super().on_batch_end(net, training=training, **kwargs)
        if training:
            self._progress.end_batch()
            self.history_.record_batch("sigma", self._noise.strength)
            self.history_.record("sigma", self._noise.strength)

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute the loss of a batch and its gradients under the noise of the step.

        Parameters
        ----------
        batch : tuple
            Samples and targets.
        **fit_params
            Passed to the module.

        Returns
        -------
        dict
            The mean `loss` over the draws, and `y_pred` of the last draw.

        Raises
        ------
        ValueError
            If the loss is not finite.
        """
        self._noise.refresh(self._progress.fraction)
        return _averaged_step(self, self._noise, batch, fit_params)

    @property
    def sigma_history_(self) -> FloatArray:
        """Strength of the noise in each training batch, of shape (n_batches,)."""
        check_is_fitted(self)
        batches = (batch for epoch in self.history_ for batch in epoch["batches"])
        return np.array([batch["sigma"] for batch in batches if "sigma" in batch])

    def merge(self) -> Self:
        """Predict with the merged weights from now on, which is faster.

        The frozen weights and the factors are kept, so that :meth:`unmerge` restores the previous
        state exactly.

        Returns
        -------
        self : object
        """
        check_is_fitted(self)
        for layer in lora_layers(self.module_).values():
            layer.merge()
        return self

    def unmerge(self) -> Self:
        """Predict with the frozen weights and the factors again.

        Returns
        -------
        self : object
        """
        check_is_fitted(self)
        for layer in lora_layers(self.module_).values():
            layer.unmerge()
        return self

    def merged_module(self) -> nn.Module:
        """Return a copy of the trained network in which all layers are plain.

        Returns
        -------
        torch.nn.Module
            In evaluation mode, with all parameters trainable.
        """
        check_is_fitted(self)
        return merge_lora(copy.deepcopy(self.module_)).eval()

    def expected_sharpness(
        self, X: ArrayLike, y: ArrayLike, *, sigma: float = 0.1, n_draws: int = 20
    ) -> float:
        r"""Estimate how much noise on the merged weights raises the loss.

        The result is the mean of :math:`L(W' + \varepsilon) - L(W')` over draws of the noise. Use
        it to compare networks of the same architecture whose losses are similar.

        Parameters
        ----------
        X : array-like
            As in `fit`.
        y : array-like
            As in `fit`.
        sigma : float, default=0.1
            Size of the noise relative to the merged weights.
        n_draws : int, default=20
            Number of draws.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If `sigma` is negative or `n_draws` is less than 1.
        """
        return _sharpness(self, X, y, sigma=sigma, n_draws=n_draws)

    def save_adapter(self, path: str | os.PathLike) -> None:
        """Save the trained parameters to a folder in peft's format.

        The files are ``adapter_model.safetensors`` and ``adapter_config.json``. The first one
        also stores the classes and the shape of the data for
        :meth:`load_adapter`; peft ignores them.

        Parameters
        ----------
        path : str or path-like
            Folder, which is created if it does not exist.
        """
        check_is_fitted(self)
        metadata = attributes_to_metadata(self, (*_SAVED_ATTRIBUTES, "classes_inferred_"))
        save_adapter(self.module_, path, metadata=metadata)

    @atomic_fit
    def load_adapter(
        self, path: str | os.PathLike, X: ArrayLike | None = None, y: ArrayLike | None = None
    ) -> Self:
        """Build the network anew and load the adapters in a folder.

        The folder may have been written by :meth:`save_adapter` or by peft's ``save_pretrained``.
        Its configuration is used in place of this estimator's parameters.

        Parameters
        ----------
        path : str or path-like
            Folder.
        X : array-like or None, default=None
            Some samples, as in `fit`. They are required if peft wrote the folder and this
            estimator has not been fitted, because their shape is then unknown.
        y : array-like or None, default=None
            Targets of `X`, which contain all classes.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        FileNotFoundError
            If a file is missing.
        ValueError
            If the adapter does not fit the network, or if the shape of the data is unknown.
        """
        _load_adapter(self, path, X, y)
        return self


class FlatLoRARegressor(NetRegressor):
    r"""Low-rank adaptation of a pretrained network for regression.

    The estimator freezes a pretrained network, adds low-rank updates :math:`s B A` to its layers,
    and trains them on the loss averaged over Gaussian noise on the *merged* weight [1]_,

    .. math::
        \min_{A, B} E_\varepsilon\, L(W' + \varepsilon), \qquad W' = W + s B A, \qquad
        \varepsilon_{ij} \sim N(0, \sigma_t^2 \lVert W'_{i,:} \rVert^2 / n) .

    The noise favors weights around which the loss is flat in every direction, not only in the
    low-rank ones. Each step takes one forward and one backward pass, as in plain LoRA, which you
    get with ``sigma=0``.

    Parameters
    ----------
    module : torch.nn.Module class or instance
        The network. An instance is copied, and its weights are the pretrained ones. A class whose
        constructor has parameters `n_features` or `n_outputs` receives them from the data.

    pretrained : str, path-like, dict, torch.nn.Module, fitted skorch net or None, default=None
        Weights of the backbone, which are loaded at every fit: a ``.safetensors`` or ``.pt`` file,
        which is mapped into memory, a mapping of names to tensors, a module or a fitted net.

    r : int, default=8
        Rank of the updates, limited by the smaller dimension of a weight.

    lora_alpha : float, default=16
        The scaling s of the updates is ``lora_alpha / r``.

    lora_dropout : float in [0, 1), default=0.0
        Dropout rate on the input of the updates, in training mode.

    use_rslora : bool, default=False
        Whether s is ``lora_alpha / sqrt(r)`` instead.

    target_modules : {"auto", "all-linear", "all"}, list of str or str, default="auto"
        The layers to adapt. "auto" selects every ``Linear``, ``Conv1d`` and ``Conv2d`` layer except
        the last layer with parameters, "all-linear" every ``Linear`` layer, and "all" every layer
        of the three types. A list contains names or ends of names. Any other string is a regular
        expression that must match the whole name.

    exclude_modules : list of str or str or None, default=None
        Layers that are not adapted: a list of names or ends of names, or a regular expression.

    modules_to_save : list of str or None, default=None
        Names, or ends of names, of modules that are trained in full, such as a new head. Their
        weights may be missing from `pretrained` or have other shapes.

    train_bias : {"none", "all", "lora_only"}, default="none"
        Which biases are trained: none, all, or those of the adapted layers.

    train_norm : bool, default=False
        Whether batch and instance normalization layers with running statistics are trained in full.
        By default, they use the statistics of the pretrained network, during training as well.

    sigma : float, default=0.1
        Size of the noise relative to the merged weight at the end of the training.

    sigma_schedule : {"cosine", "linear", "constant"} or callable, default="cosine"
        How the strength of the noise grows during the training. A callable maps the fraction of the
        training that is done to a factor of `sigma`.

    perturbation : {"weight", "local"}, default="weight"
        "weight" draws one noise on the weights for all samples of a batch. "local" draws noise on
        the outputs of linear layers for each sample, which is cheaper for small batches and has
        less variance; positions of one sample, such as tokens, then get independent noise.
        Convolutions, and layers whose weight is read instead of called, always get "weight" noise.

    store_noise : bool, default=False
        Whether to keep a noisy copy of each weight during a step, which halves the number of
        random draws.

    n_noise : int, default=1
        Number of draws of the noise per step, over which the loss is averaged.

    lora_config : peft.LoraConfig, dict or None, default=None
        Replaces the parameters from `r` to `train_bias`.

    optimizer : torch.optim.Optimizer class, default=torch.optim.Adam
        Receives only the trainable parameters. The default equals AdamW without weight decay.

    lr : float, default=1e-3
        Learning rate. Small networks need more, up to 5e-3.

    random_state : int, RandomState instance or None, default=None
        Seeds the new weights, the factors, the batches and the noise. No global generator is
        changed. Pass an int for reproducible results across calls.

    **params
        Any other parameter of :class:`~sklearn_ext.NetRegressor`, such as `max_epochs`,
        `batch_size`, `criterion`, `callbacks`, `device` or ``module__...``.

    Attributes
    ----------
    module_ : torch.nn.Module
        The network with adapters.

    lora_layers_ : dict of str to dict
        The `shape` of the weight and the rank `r` of each adapted layer.

    target_modules_ : list of str
        Names of the adapted layers.

    n_trainable_ : int
        Number of trainable parameters.

    n_total_ : int
        Number of all parameters.

    sigma_history_ : ndarray of shape (n_batches,)
        Strength of the noise in each training batch; `history_` contains it as `sigma`.

    target_ndim_ : int
        Number of dimensions of y in `fit`, which is also that of predictions.

    n_outputs_ : int
        Number of outputs of the network.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Length of the second axis of X in `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X in `fit`. Defined only if all of them are strings.

    See Also
    --------
    FlatLoRACallback : The noise alone, for any skorch net.
    FlatLoRAClassifier : The counterpart for classification.

    References
    ----------
    .. [1] T. Li, Z. He, Y. Li, Y. Wang, L. Shang, X. Huang, "Flat-LoRA: Low-Rank Adaptation over a
       Flat Loss Landscape", ICML 2025, arXiv:2409.14396.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from sklearn_ext import FlatLoRARegressor, NetRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X, y = scale(X), scale(y)
    >>> net = NetRegressor(random_state=0).fit(X[:300], y[:300])
    >>> adapted = FlatLoRARegressor(net.module_, r=2, random_state=0).fit(X[300:], 2 - y[300:])
    >>> adapted.score(X[300:], 2 - y[300:]) > 0.3
    True
    """

    def __init__(
        self,
        module: Any,
        *,
        pretrained: Any = None,
        r: int = 8,
        lora_alpha: float = 16,
        lora_dropout: float = 0.0,
        use_rslora: bool = False,
        target_modules: str | Sequence[str] = "auto",
        exclude_modules: str | Sequence[str] | None = None,
        modules_to_save: Sequence[str] | None = None,
        train_bias: str = "none",
        train_norm: bool = False,
        sigma: float = 0.1,
        sigma_schedule: str | Callable[[float], float] = "cosine",
        perturbation: str = "weight",
        store_noise: bool = False,
        n_noise: int = 1,
        lora_config: Any = None,
        optimizer: Any = torch.optim.Adam,
        lr: float = 1e-3,
        random_state: RandomState = None,
        **params: Any,
    ) -> None:
        super().__init__(module, optimizer=optimizer, lr=lr, random_state=random_state, **params)
        self.pretrained = pretrained
        self.r = r
        self.lora_alpha = lora_alpha
        self.lora_dropout = lora_dropout
        self.use_rslora = use_rslora
        self.target_modules = target_modules
        self.exclude_modules = exclude_modules
        self.modules_to_save = modules_to_save
        self.train_bias = train_bias
        self.train_norm = train_norm
        self.sigma = sigma
        self.sigma_schedule = sigma_schedule
        self.perturbation = perturbation
        self.store_noise = store_noise
        self.n_noise = n_noise
        self.lora_config = lora_config

    @classmethod
    def from_paper(cls, module: Any, **params: Any) -> Self:
        """Create an estimator with the settings of the paper's language experiments.

        The objective (eq. 4) and the increasing noise (section 3.2) are the defaults of this class.
        This method sets the remaining values to those of the paper: ``sigma=0.05``, ``r=8``,
        ``lora_alpha=16`` and ``lr=5e-4``, which decays to zero along a cosine. The paper uses
        ``sigma=0.15`` for image classification with CLIP.

        Parameters
        ----------
        module : torch.nn.Module class or instance
            The network.
        **params
            Other parameters of the constructor, which take precedence over the paper's.

        Returns
        -------
        FlatLoRARegressor
        """
        return cls(module, **_paper_params() | params)

    def set_params(self, **params: Any) -> Self:
        """Set parameters; see :meth:`skorch.NeuralNet.set_params`.

        Parameters
        ----------
        **params
            Values by name.

        Returns
        -------
        self : object
        """
        # skorch would take a name that begins with "module" for a parameter of the module.
        if "modules_to_save" in params:
            self.modules_to_save = params.pop("modules_to_save")
        super().set_params(**params)
        return self

    def get_params_for(self, prefix: str) -> dict[str, Any]:
        """Collect the constructor arguments of a part of the net.

        A module class whose constructor has parameters `n_features` or `n_outputs` receives them
        from the data, unless they are given.

        Parameters
        ----------
        prefix : str
            Name of the part, such as "module".

        Returns
        -------
        dict
        """
        params = super().get_params_for(prefix)
        if prefix != "module" or not hasattr(self, "n_outputs_"):
            return params
        return _sizes_for(self.module, self.input_shape_, self.n_outputs_) | params

    def initialize_module(self) -> Self:
        """Build the module, load the pretrained weights, freeze them, and add adapters.

        Returns
        -------
        self : object
        """
        _check_parameters(self)
        super().initialize_module()
        _insert_adapters(self, _adapter_config(self))
        return self

    def get_all_learnable_params(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the trainable parameters by name, for the optimizer and for callbacks.

        Yields
        ------
        tuple of str and torch.nn.Parameter
        """
        for name, parameter in super().get_all_learnable_params():
            if parameter.requires_grad:
                yield name, parameter

    @contextlib.contextmanager
    def _training_context(self) -> Iterator[None]:
        is_continued = self.warm_start and len(self.history_) > 0
        self._progress = TrainingProgress(self.max_epochs, is_complete=is_continued)
        with _noise_process(self) as self._noise:
            yield
        del self._progress, self._noise

    def _set_training(self, training: bool = True) -> None:
        super()._set_training(training)
        if training:
            for norm in frozen_norms(self.module_):
                norm.eval()

    def on_epoch_begin(self, net: Any, dataset_train: Any = None, **kwargs: Any) -> None:
        """Count the batches of an epoch for the schedule of the noise.

        Parameters
        ----------
        net : skorch.NeuralNet
        dataset_train : torch.utils.data.Dataset or None, default=None
        **kwargs
            Passed to the method of skorch.
        """
        super().on_epoch_begin(net, dataset_train=dataset_train, **kwargs)
        self._progress.begin_epoch(n_training_batches(self, dataset_train))

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Record the strength of the noise in the history.

        Parameters
        ----------
        net : skorch.NeuralNet
        training : bool, default=False
        **kwargs
            Passed to the method of skorch.
        """
        super().on_batch_end(net, training=training, **kwargs)
        if training:
            self._progress.end_batch()
            self.history_.record_batch("sigma", self._noise.strength)
            self.history_.record("sigma", self._noise.strength)

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute the loss of a batch and its gradients under the noise of the step.

        Parameters
        ----------
        batch : tuple
            Samples and targets.
        **fit_params
            Passed to the module.

        Returns
        -------
        dict
            The mean `loss` over the draws, and `y_pred` of the last draw.

        Raises
        ------
        ValueError
            If the loss is not finite.
        """
        self._noise.refresh(self._progress.fraction)
        return _averaged_step(self, self._noise, batch, fit_params)

    @property
    def sigma_history_(self) -> FloatArray:
        """Strength of the noise in each training batch, of shape (n_batches,)."""
        check_is_fitted(self)
        batches = (batch for epoch in self.history_ for batch in epoch["batches"])
        return np.array([batch["sigma"] for batch in batches if "sigma" in batch])

    def merge(self) -> Self:
        """Predict with the merged weights from now on, which is faster.

        The frozen weights and the factors are kept, so that :meth:`unmerge` restores the previous
        state exactly.

        Returns
        -------
        self : object
        """
        check_is_fitted(self)
        for layer in lora_layers(self.module_).values():
            layer.merge()
        return self

    def unmerge(self) -> Self:
        """Predict with the frozen weights and the factors again.

        Returns
        -------
        self : object
        """
        check_is_fitted(self)
        for layer in lora_layers(self.module_).values():
            layer.unmerge()
        return self

    def merged_module(self) -> nn.Module:
        """Return a copy of the trained network in which all layers are plain.

        Returns
        -------
        torch.nn.Module
            In evaluation mode, with all parameters trainable.
        """
        check_is_fitted(self)
        return merge_lora(copy.deepcopy(self.module_)).eval()

    def expected_sharpness(
        self, X: ArrayLike, y: ArrayLike, *, sigma: float = 0.1, n_draws: int = 20
    ) -> float:
        r"""Estimate how much noise on the merged weights raises the loss.

        The result is the mean of :math:`L(W' + \varepsilon) - L(W')` over draws of the noise. Use
        it to compare networks of the same architecture whose losses are similar.

        Parameters
        ----------
        X : array-like
            As in `fit`.
        y : array-like
            As in `fit`.
        sigma : float, default=0.1
            Size of the noise relative to the merged weights.
        n_draws : int, default=20
            Number of draws.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If `sigma` is negative or `n_draws` is less than 1.
        """
        return _sharpness(self, X, y, sigma=sigma, n_draws=n_draws)

    def save_adapter(self, path: str | os.PathLike) -> None:
        """Save the trained parameters to a folder in peft's format.

        The files are ``adapter_model.safetensors`` and ``adapter_config.json``. The first one
        also stores the shapes of the data for
        :meth:`load_adapter`; peft ignores them.

        Parameters
        ----------
        path : str or path-like
            Folder, which is created if it does not exist.
        """
        check_is_fitted(self)
        metadata = attributes_to_metadata(self, (*_SAVED_ATTRIBUTES, "target_ndim_"))
        save_adapter(self.module_, path, metadata=metadata)

    @atomic_fit
    def load_adapter(
        self, path: str | os.PathLike, X: ArrayLike | None = None, y: ArrayLike | None = None
    ) -> Self:
        """Build the network anew and load the adapters in a folder.

        The folder may have been written by :meth:`save_adapter` or by peft's ``save_pretrained``.
        Its configuration is used in place of this estimator's parameters.

        Parameters
        ----------
        path : str or path-like
            Folder.
        X : array-like or None, default=None
            Some samples, as in `fit`. They are required if peft wrote the folder and this
            estimator has not been fitted, because their shape is then unknown.
        y : array-like or None, default=None
            Targets of `X`.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        FileNotFoundError
            If a file is missing.
        ValueError
            If the adapter does not fit the network, or if the shape of the data is unknown.
        """
        _load_adapter(self, path, X, y)
        return self


def _paper_params() -> dict[str, Any]:
    return {
        "r": 8,
        "lora_alpha": 16,
        "sigma": 0.05,
        "sigma_schedule": "cosine",
        "perturbation": "weight",
        "n_noise": 1,
        "lr": 5e-4,
        "callbacks": [("learning_rate", CosineDecay(floor=0.0))],
    }


def _check_parameters(net: Any) -> None:
    params = {name: getattr(net, name) for name in _CONSTRAINTS}
    validate_parameter_constraints(_CONSTRAINTS, params, caller_name=type(net).__name__)


def _adapter_config(net: Any) -> AdapterConfig:
    if isinstance(net.lora_config, AdapterConfig):
        return net.lora_config
    if net.lora_config is not None:
        return from_lora_config(net.lora_config)
    return AdapterConfig(
        r=net.r,
        lora_alpha=net.lora_alpha,
        lora_dropout=net.lora_dropout,
        use_rslora=net.use_rslora,
        target_modules=net.target_modules,
        exclude_modules=net.exclude_modules,
        modules_to_save=tuple(net.modules_to_save or ()),
        train_bias=net.train_bias,
    )


def _noise_config(net: Any) -> NoiseConfig:
    return NoiseConfig(
        sigma=net.sigma,
        sigma_schedule=net.sigma_schedule,
        perturbation=net.perturbation,
        store_noise=net.store_noise,
        n_noise=net.n_noise,
    )


def _derived_seeds(random_state: RandomState) -> tuple[int, int]:
    """Return the seeds of the factors and of the noise; `fit` itself uses the first draw."""
    _, factors, noise = local_random_state(random_state).randint(_SEED_BOUND, size=3)
    return int(factors), int(noise)


def _sizes_for(module: Any, input_shape: tuple[int, ...], n_outputs: int) -> dict[str, int]:
    """Return the sizes of the data that the constructor of a module class has parameters for."""
    if isinstance(module, nn.Module) or not callable(module):
        return {}
    sizes = {"n_features": math.prod(input_shape), "n_outputs": n_outputs}
    names = inspect.signature(module).parameters
    return {name: size for name, size in sizes.items() if name in names}


def _insert_adapters(net: Any, config: AdapterConfig) -> None:
    """Load the pretrained weights into the module of a net and add adapters to it."""
    module = net.module_
    if net.pretrained is not None:
        replaceable = list(saved_modules(module, config))
        if net.train_norm:
            replaceable += [name for name, _ in norm_layers(module)]
        load_pretrained(module, pretrained_state(net.pretrained), replaceable)
    elif not isinstance(net.module, nn.Module) or net.get_params_for("module"):
        warn_caller("pretrained is None: the base weights are random.")
    seed, _ = _derived_seeds(net.random_state)
    inject(module, config, train_norm=net.train_norm, random_state=seed)
    layers = lora_layers(module)
    net.lora_layers_ = {
        name: {"shape": tuple(layer.base_layer.weight.shape), "r": layer.r}
        for name, layer in layers.items()
    }
    net.target_modules_ = list(layers)
    net.n_total_ = sum(p.numel() for p in module.parameters())
    net.n_trainable_ = sum(p.numel() for p in module.parameters() if p.requires_grad)


@contextlib.contextmanager
def _noise_process(net: Any) -> Iterator[NoiseProcess]:
    """Provide the noise of a training run of a net."""
    _check_parameters(net)
    layers = lora_layers(net.module_).values()
    for layer in layers:
        layer.unmerge()
    _, seed = _derived_seeds(net.random_state)
    with contextlib.closing(NoiseProcess(layers, _noise_config(net), seed=seed)) as noise:
        noise.watch(getattr(net, f"{name}_") for name in net._optimizers)
        yield noise


def _averaged_step(
    net: Any, noise: NoiseProcess, batch: Any, fit_params: Mapping[str, Any]
) -> dict[str, Any]:
    """Compute the loss and its gradients, averaged over the draws of the noise."""
    net._set_training(True)
    X, y = unpack_data(batch)
    losses = []
    for draw in range(net.n_noise):
        with noise.applied(draw):
            y_pred = net.infer(X, **fit_params)
            loss = net.get_loss(y_pred, y, X=X, training=True) / net.n_noise
            noise.check_loss(loss)
            loss.backward()
        losses.append(loss.detach())
    return {"loss": torch.stack(losses).sum(), "y_pred": y_pred}


def _sharpness(net: Any, X: ArrayLike, y: ArrayLike, *, sigma: float, n_draws: int) -> float:
    check_is_fitted(net)
    validate_parameter_constraints(
        _SHARPNESS_CONSTRAINTS,
        {"sigma": sigma, "n_draws": n_draws},
        caller_name=f"{type(net).__name__}.expected_sharpness",
    )
    X, y = validate_input(net, X, y, reset=False)
    dataset = net.get_dataset(X, net._encode(y, False, None))
    layers = lora_layers(net.module_).values()
    _, seed = _derived_seeds(net.random_state)

    def loss() -> float:
        total, n_samples = 0.0, 0
        for batch in net.get_iterator(dataset, training=False):
            size = get_len(batch[0])
            total += net.validation_step(batch)["loss"].item() * size
            n_samples += size
        return total / n_samples

    return expected_sharpness(loss, layers, sigma=sigma, n_draws=n_draws, seed=seed)


def _load_adapter(net: Any, path: str | os.PathLike, X: Any, y: Any) -> None:
    """Initialize a net with the adapters in a folder."""
    if X is not None:
        X, y = validate_input(net, X, y, reset=True)
        net._encode(y, True, None)
    else:
        attributes = attributes_from_metadata(path)
        if attributes is None and not hasattr(net, "n_outputs_"):
            raise ValueError(
                f"{str(path)!r} does not contain the shape of the data, and the estimator is not "
                "fitted: pass some samples X and their y."
            )
        for name, value in (attributes or {}).items():
            setattr(net, name, value)
    seed, _ = _derived_seeds(net.random_state)
    lora_config, net.lora_config = net.lora_config, read_config(path)
    try:
        with seeded(seed, net.device):
            net.initialize()
    finally:
        net.lora_config = lora_config
    load_lora_state_dict(net.module_, load_tensors(Path(path) / WEIGHTS_FILE))
