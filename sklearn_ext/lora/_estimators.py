"""Flat-LoRA as skorch nets: a classifier and a regressor around a pretrained network."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import nn

from ..neural import NetClassifier, NetRegressor, main_output
from ..utils._typing import RandomState
from . import _net_methods
from ._config import AdapterConfig


class FlatLoRAClassifier(NetClassifier):
    r"""Low-rank adaptation of a pretrained network in a flat region of the loss.

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
        The network. An instance is copied, and its weights serve as the pretrained weights. A class
        whose constructor has parameters `n_features` or `n_outputs` receives them from the data.

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
        of the three types. The ``Conv1D`` of transformers counts as linear. A list contains names
        or ends of names, also of ``Embedding`` layers. Any other string is a regular expression
        that must match the whole name.

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

    use_dora : bool, default=False
        Whether the filters of W + s B A are scaled to norms that are trained separately, as in
        DoRA. Embeddings do not support it.

    init_lora_weights : bool or {"gaussian", "pissa", "olora", "lora_ga"}, default=True
        How the factors are initialized; see :func:`lora.inject_lora`. "lora_ga" uses the gradients
        of the first eight batches.

    lr_ratio : float, default=1.0
        Ratio of the learning rate of the factors B to that of all other parameters. LoRA+ uses 16.

    sigma : float or "auto", default="auto"
        Size of the noise relative to the merged weight at the end of training. "auto" is 0.1 for 20
        epochs and more, and proportionally less for fewer; see :func:`lora.default_sigma`.

    sigma_schedule : {"cosine", "linear", "constant"} or callable, default="cosine"
        How the strength of the noise grows during training. A callable maps the completed fraction
        of the training to a factor of `sigma`.

    perturbation : {"weight", "local"}, default="weight"
        "weight" draws one noise sample for the weights, shared by all samples of a batch. "local"
        draws noise on the outputs of linear layers for each sample, which is cheaper for small
        batches and has less variance; positions of one sample, such as tokens, then get independent
        noise. Convolutions, and layers whose weight is read instead of called, always get "weight"
        noise.

    store_noise : bool, default=False
        Whether to keep a noisy copy of each weight during a step, which halves the number of
        random draws.

    n_noise : int, default=1
        Number of draws of the noise per step, over which the loss is averaged.

    lora_config : AdapterConfig, peft.LoraConfig, dict or None, default=None
        Replaces the parameters from `r` to `train_bias`, `use_dora` and `init_lora_weights`. A dict
        contains fields of peft's ``LoraConfig``; see :meth:`lora.AdapterConfig.from_peft`.

    optimizer : torch.optim.Optimizer class, default=torch.optim.Adam
        Receives only the trainable parameters. The default equals AdamW without weight decay.

    lr : float, default=1e-3
        Learning rate. Small networks need larger values, up to 5e-3.

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
        Sorted class labels.

    n_outputs_ : int
        Number of outputs of the network.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

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
        use_dora: bool = False,
        init_lora_weights: bool | str = True,
        lr_ratio: float = 1.0,
        sigma: float | str = "auto",
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
        self.use_dora = use_dora
        self.init_lora_weights = init_lora_weights
        self.lr_ratio = lr_ratio
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
            Other parameters of the constructor, which take precedence over the paper's values.

        Returns
        -------
        FlatLoRAClassifier
        """
        return cls(module, **_net_methods.paper_params() | params)

    # The adapters that `load_adapter` inserts in place of those of the parameters.
    _config_to_load: AdapterConfig | None = None

    __setattr__ = _net_methods.set_attribute
    set_params = _net_methods.set_params
    get_params_for = _net_methods.get_params_for
    initialize_module = _net_methods.initialize_module
    get_all_learnable_params = _net_methods.get_all_learnable_params
    get_params_for_optimizer = _net_methods.get_params_for_optimizer
    on_train_begin = _net_methods.on_train_begin
    _training_context = _net_methods.training_context
    _set_training = _net_methods.set_training
    on_epoch_begin = _net_methods.on_epoch_begin
    on_batch_end = _net_methods.on_batch_end
    train_step_single = _net_methods.train_step_single
    merge = _net_methods.merge
    unmerge = _net_methods.unmerge
    merged_module = _net_methods.merged_module
    expected_sharpness = _net_methods.expected_sharpness
    save_adapter = _net_methods.save_adapter
    load_adapter = _net_methods.load_adapter
    sigma_history_ = property(_net_methods.sigma_history)


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
        The network. An instance is copied, and its weights serve as the pretrained weights. A class
        whose constructor has parameters `n_features` or `n_outputs` receives them from the data.

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
        of the three types. The ``Conv1D`` of transformers counts as linear. A list contains names
        or ends of names, also of ``Embedding`` layers. Any other string is a regular expression
        that must match the whole name.

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

    use_dora : bool, default=False
        Whether the filters of W + s B A are scaled to norms that are trained separately, as in
        DoRA. Embeddings do not support it.

    init_lora_weights : bool or {"gaussian", "pissa", "olora", "lora_ga"}, default=True
        How the factors are initialized; see :func:`lora.inject_lora`. "lora_ga" uses the gradients
        of the first eight batches.

    lr_ratio : float, default=1.0
        Ratio of the learning rate of the factors B to that of all other parameters. LoRA+ uses 16.

    sigma : float or "auto", default="auto"
        Size of the noise relative to the merged weight at the end of training. "auto" is 0.1 for 20
        epochs and more, and proportionally less for fewer; see :func:`lora.default_sigma`.

    sigma_schedule : {"cosine", "linear", "constant"} or callable, default="cosine"
        How the strength of the noise grows during training. A callable maps the completed fraction
        of the training to a factor of `sigma`.

    perturbation : {"weight", "local"}, default="weight"
        "weight" draws one noise sample for the weights, shared by all samples of a batch. "local"
        draws noise on the outputs of linear layers for each sample, which is cheaper for small
        batches and has less variance; positions of one sample, such as tokens, then get independent
        noise. Convolutions, and layers whose weight is read instead of called, always get "weight"
        noise.

    store_noise : bool, default=False
        Whether to keep a noisy copy of each weight during a step, which halves the number of
        random draws.

    n_noise : int, default=1
        Number of draws of the noise per step, over which the loss is averaged.

    lora_config : AdapterConfig, peft.LoraConfig, dict or None, default=None
        Replaces the parameters from `r` to `train_bias`, `use_dora` and `init_lora_weights`. A dict
        contains fields of peft's ``LoraConfig``; see :meth:`lora.AdapterConfig.from_peft`.

    optimizer : torch.optim.Optimizer class, default=torch.optim.Adam
        Receives only the trainable parameters. The default equals AdamW without weight decay.

    lr : float, default=1e-3
        Learning rate. Small networks need larger values, up to 5e-3.

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
        Number of dimensions of y in `fit`, and of the predictions.

    n_outputs_ : int
        Number of outputs of the network.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

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
        use_dora: bool = False,
        init_lora_weights: bool | str = True,
        lr_ratio: float = 1.0,
        sigma: float | str = "auto",
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
        self.use_dora = use_dora
        self.init_lora_weights = init_lora_weights
        self.lr_ratio = lr_ratio
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
            Other parameters of the constructor, which take precedence over the paper's values.

        Returns
        -------
        FlatLoRARegressor
        """
        return cls(module, **_net_methods.paper_params() | params)

    # The adapters that `load_adapter` inserts in place of those of the parameters.
    _config_to_load: AdapterConfig | None = None

    __setattr__ = _net_methods.set_attribute
    set_params = _net_methods.set_params
    get_params_for = _net_methods.get_params_for
    initialize_module = _net_methods.initialize_module
    get_all_learnable_params = _net_methods.get_all_learnable_params
    get_params_for_optimizer = _net_methods.get_params_for_optimizer
    on_train_begin = _net_methods.on_train_begin
    _training_context = _net_methods.training_context
    _set_training = _net_methods.set_training
    on_epoch_begin = _net_methods.on_epoch_begin
    on_batch_end = _net_methods.on_batch_end
    train_step_single = _net_methods.train_step_single
    merge = _net_methods.merge
    unmerge = _net_methods.unmerge
    merged_module = _net_methods.merged_module
    expected_sharpness = _net_methods.expected_sharpness
    save_adapter = _net_methods.save_adapter
    load_adapter = _net_methods.load_adapter
    sigma_history_ = property(_net_methods.sigma_history)


class NextTokenLoss(nn.Module):
    """Mean cross-entropy of the next token, the loss of causal language models.

    Pass it to :class:`~sklearn_ext.FlatLoRARegressor` as `criterion`, with the token ids as both X
    and y. Predictions are then the logits of the next token at each position.

    Parameters
    ----------
    ignore_index : int, default=-100
        Value of `tokens` that does not count as a target, such as that of padding.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.lora import NextTokenLoss
    >>> tokens = torch.tensor([[0, 1, 2]])
    >>> logits = torch.zeros(1, 3, 4)  # four tokens with equal probabilities
    >>> NextTokenLoss()(logits, tokens).exp().round().item()
    4.0
    """

    def __init__(self, ignore_index: int = -100) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, outputs: Any, tokens: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        outputs : tensor of shape (n_samples, length, n_tokens) or output of a model
            Logits, or a model's output that contains them.
        tokens : tensor of shape (n_samples, length)
            Token ids.

        Returns
        -------
        tensor of shape ()

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        logits = main_output(outputs)
        if logits.ndim != 3 or logits.shape[:2] != tokens.shape:
            raise ValueError(
                "tokens must have one token id for each position of the logits, which have shape "
                f"{tuple(logits.shape)}, got shape {tuple(tokens.shape)}."
            )
        predicted, following = logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten().long()
        return nn.functional.cross_entropy(predicted, following, ignore_index=self.ignore_index)
