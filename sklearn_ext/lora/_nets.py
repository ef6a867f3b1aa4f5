"""Flat-LoRA as skorch nets: an estimator around a pretrained network."""

from ..neural import NetClassifier, NetRegressor
from ..utils._shared_docs import INPUT_FACTS
from ._adapted_net import AdaptedNet

_DOC = r"""{summary}

    Freezes a pretrained network, puts low-rank updates :math:`s B A` beside its layers, and trains
    them on the loss averaged over Gaussian noise on the *merged* weight,

    .. math::
        \min_{{A, B}} E_\varepsilon\, L(W + s B A + \varepsilon), \qquad
        \varepsilon_{{ij}} \sim N(0, \sigma_t^2 \lVert W'_{{i,:}} \rVert^2 / n) .

    The noise steers towards weights around which the loss is flat in every direction, not only in
    the low-rank ones, for one forward and one backward pass a step. ``sigma=0`` is plain LoRA.

    Parameters
    ----------
    module : torch.nn.Module class or instance
        The network. An instance is copied and its weights are the pretrained ones; a class whose
        constructor asks for `n_features` or `n_outputs` gets them from the data.

    pretrained : str, path-like, dict, torch.nn.Module, fitted skorch net or None, default=None
        Weights of the backbone, loaded at every fit: a ``.safetensors`` or ``.pt`` file, which is
        mapped into memory, or tensors by name, or where to take them from.

    r : int, default=8
        Rank of the updates, at most the smaller side of a weight.

    lora_alpha : float, default=16
        The scaling s is ``lora_alpha / r``.

    lora_dropout : float in [0, 1), default=0.0
        Dropout on the input of the updates.

    use_rslora : bool, default=False
        Whether s is ``lora_alpha / sqrt(r)``.

    target_modules : {{"auto", "all-linear", "all"}}, list of str or str, default="auto"
        Which layers are adapted. "auto": every ``Linear``, ``Conv1d`` and ``Conv2d`` except the
        last layer with parameters; "all-linear": every ``Linear``; "all": every one of the three.
        A list holds names or ends of names; another string is a regular expression.

    exclude_modules : list of str or str or None, default=None
        Layers that are left out.

    modules_to_save : list of str or None, default=None
        Modules that are trained as they are, such as a new head. Their weights may be missing
        from `pretrained`, or be of other shapes.

    train_bias : {{"none", "all", "lora_only"}}, default="none"
        Which biases are trained: of no layer, of all, or of those with an update.

    train_norm : bool, default=False
        Whether batch normalisations are trained along. By default their statistics are those of
        the pretrained network, in training too.

    sigma : float, default=0.1
        Norm of the noise relative to the norm of the weight, at the end of the training.

    sigma_schedule : {{"cosine", "linear", "constant"}} or callable, default="cosine"
        Growth of the noise with the share of the training that is done, which a callable maps to
        a factor of `sigma`.

    perturbation : {{"weight", "local"}}, default="weight"
        "weight" draws one noise on the weights for all rows of a batch. "local" draws the noise of
        the outputs of linear layers for each row, which is cheaper for small batches and has less
        variance; rows that meet later, such as tokens, then have independent noise. Convolutions,
        and layers whose weight is read instead of called, have "weight" noise in either case.

    store_noise : bool, default=False
        Whether a noisy copy of the weights is kept during a step: half the random numbers.

    n_noise : int, default=1
        Draws of the noise in a step, over which the loss is averaged.

    lora_config : peft.LoraConfig, dict or None, default=None
        Takes the place of the parameters from `r` to `train_bias`.

    optimizer : torch.optim.Optimizer class, default=torch.optim.Adam
        Gets the trained parameters only. The default is AdamW without weight decay.

    lr : float, default=1e-3
        Learning rate. Small networks want more, up to 5e-3.

    random_state : int, RandomState instance or None, default=None
        Draws new weights, factors, batches and noise. No global generator is changed.

    **params
        All else that :class:`{parent}` takes: `max_epochs`, `batch_size`, `optimizer`, `criterion`,
        `callbacks`, `device`, ``module__...``, ...

    Attributes
    ----------
    module_ : torch.nn.Module
        The network with adapters.

    lora_layers_ : dict of str to dict
        The `shape` of the weight and the rank `r` of each adapted layer.

    target_modules_ : list of str
        Names of the adapted layers.

    n_trainable_ : int
        Number of parameters that are trained.

    n_total_ : int
        Number of all parameters.

    sigma_history_ : ndarray of shape (n_batches,)
        Strength of the noise at each batch; in `history_` as `sigma`.

{attributes}
    n_outputs_ : int
        Number of outputs of the network.

    input_shape_ : tuple of int
        Shape of one row of X.

    {input_facts}

    See Also
    --------
    FlatLoRACallback : The noise alone, for any skorch net.
    {other} : {other_summary}

    References
    ----------
    .. [1] T. Li, Z. He, Y. Li, Y. Wang, L. Shang, X. Huang, "Flat-LoRA: Low-Rank Adaptation over a
       Flat Loss Landscape", ICML 2025, arXiv:2409.14396.

    Examples
    --------
{example}
    """

_CLASSES = """\
    classes_ : ndarray of shape (n_classes,)
        The labels.
"""

_TARGETS = """\
    target_ndim_ : int
        Dimensions of y in `fit`, and so of predictions.
"""

_CLASSIFIER_EXAMPLE = """\
    A network for digits is adapted to digits that are turned by 90 degrees:

    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import FlatLoRAClassifier, NetClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> turned = np.rot90(X.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64)
    >>> net = NetClassifier(max_epochs=10, random_state=0).fit(X[:900], y[:900])
    >>> net.score(turned[1200:], y[1200:]) < 0.3
    True
    >>> adapted = FlatLoRAClassifier(net.module_, r=4, lr=1e-2, max_epochs=20, random_state=0)
    >>> adapted.fit(turned[900:1200], y[900:1200]).score(turned[1200:], y[1200:]) > 0.8
    True
    >>> adapted.n_trainable_, adapted.n_total_
    (1792, 27914)"""

_REGRESSOR_EXAMPLE = """\
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from sklearn_ext import FlatLoRARegressor, NetRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X, y = scale(X), scale(y)
    >>> net = NetRegressor(random_state=0).fit(X[:300], y[:300])
    >>> adapted = FlatLoRARegressor(net.module_, r=2, random_state=0).fit(X[300:], 2 - y[300:])
    >>> adapted.score(X[300:], 2 - y[300:]) > 0.3
    True"""


class FlatLoRAClassifier(AdaptedNet, NetClassifier):
    __doc__ = _DOC.format(
        summary="Low-rank adaptation of a pretrained network, over a flat part of the loss.",
        parent="~sklearn_ext.NetClassifier",
        attributes=_CLASSES,
        input_facts=INPUT_FACTS.strip(),
        other="FlatLoRARegressor",
        other_summary="The same for targets.",
        example=_CLASSIFIER_EXAMPLE,
    )
    _own_facts = ("classes_inferred_",)


class FlatLoRARegressor(AdaptedNet, NetRegressor):
    __doc__ = _DOC.format(
        summary="Low-rank adaptation of a pretrained network for regression.",
        parent="~sklearn_ext.NetRegressor",
        attributes=_TARGETS,
        input_facts=INPUT_FACTS.strip(),
        other="FlatLoRAClassifier",
        other_summary="The same for labels.",
        example=_REGRESSOR_EXAMPLE,
    )
    _own_facts = ("target_ndim_",)
