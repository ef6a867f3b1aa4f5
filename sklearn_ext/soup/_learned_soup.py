"""Coefficients on the simplex, learned together with a temperature."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import skorch
import torch
from scipy.special import softmax
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from ..neural import log_probabilities, loss_of_outputs, main_output
from ..neural.files import KeyMap
from ..utils._typing import FloatArray, RandomState
from ._base import BaseSoup, Mixed, net_has
from .ingredients import Evaluation, SoupNetwork
from .recipes import (
    LAYERWISE_CONSTRAINT,
    GroupingRule,
    LearnedConfig,
    learn_simplex_coefficients,
)

_WITH_PROBABILITIES = (torch.nn.CrossEntropyLoss, torch.nn.NLLLoss)


class LearnedSoup(BaseSoup):
    r"""Learned soup: positive coefficients and a temperature for the outputs.

    The weights of the soup are :math:`w_g = \sum_i \alpha_{gi} w_{ig}` with :math:`\alpha_g =
    \mathrm{softmax}(z_g)` for each group g of parameters. The logits z are learned by gradient
    descent on the loss over the mixing samples, together with a scale factor for the network's
    outputs. The published code differentiates through all ingredients at once. Here, a step costs
    one backward pass through one network, and memory does not grow with the number of ingredients.

    Parameters
    ----------
    estimator : skorch.NeuralNet, FrozenEstimator or None, default=None
        The network, with its loss, optimizer and device. The soup of a classifier is a classifier,
        and the soup of a regressor is a regressor. A fitted net is copied with its classes, and its
        weights are the common start of ingredients that are trained here. None uses the net of the
        first ingredient or, without ingredients, a :class:`~sklearn_ext.NetClassifier` with 10
        epochs.

    ingredients : list, str, path-like or None, default=None
        Trained networks of one architecture that were fine-tuned from the same weights, head
        included: fitted skorch nets, :class:`~sklearn.frozen.FrozenEstimator` around them, torch
        modules, state dicts, or paths; or a folder or glob pattern of paths. A path is a file or
        folder that :class:`~sklearn_ext.neural.LazyTensors` reads, such as a checkpoint of the
        Hugging Face libraries. `fit` then takes the **mixing samples**. Do not use samples
        that the ingredients were trained on, because they favor the most overfitted ingredient.
        None trains the ingredients in `fit`.

    param_grid : dict, list of dicts or None, default=None
        Parameters of `estimator` that vary between ingredients: lists of values, as for
        :class:`~sklearn.model_selection.GridSearchCV`, or distributions. None trains all
        ingredients with the estimator's own parameters, so that they differ only in their seeds and
        thus in the order of the samples.

    n_ingredients : int or None, default=None
        Number of ingredients to train. None trains one for each point of a grid of lists, or 3
        otherwise.

    layerwise : bool, "module" or callable, default=True
        How parameters are divided into groups, each with its own coefficients. True makes each
        tensor a group, False puts all of them in one group, and "module" groups tensors by the
        module that owns them. A callable takes the name of a parameter and returns the name of its
        group.

    max_epochs : int, default=5
        Passes over the mixing samples.

    min_iter : int, default=50
        Minimum number of steps. If `max_epochs` passes take fewer steps, further passes follow.

    learning_rate : float, default=0.05
        Learning rate of the optimizer.

    batch_size : int, default=256
        Number of mixing samples per step.

    optimizer : torch.optim.Optimizer class, default=torch.optim.AdamW
        Optimizer of the logits and the temperature. Its weight decay is set to 0.

    learn_temperature : bool, default=True
        Whether to learn a scale factor for the outputs of a classifier. It changes the
        probabilities but never the predicted class.

    directions : {"auto", "streamed", "stored"}, default="auto"
        Whether ingredients are read at each step ("streamed") or kept on the device of the net
        ("stored"), which needs memory for all of them. "auto" streams on the CPU, and
        on a GPU if they do not fit into half of its free memory.

    validation_fraction : float in (0, 1) or cross-validation splitter, default=0.2
        Fraction of the samples to hold out from training, for mixing and evaluation. The first
        split of a splitter is used. If `ingredients` are given, all samples are mixing samples.

    init_params : source of weights or None, default=None
        Weights from which all ingredients are trained: anything that may be an element of
        `ingredients`. None starts from the weights of a fitted `estimator`, or else from random
        weights that are drawn with `random_state`.

    key : str or None, default=None
        Entry with the weights in training checkpoints from ``torch.save``; dots separate nested
        names. None takes the first of "model", "state_dict", "model_state_dict", "module" and "ema"
        that a checkpoint has.

    key_map : dict, callable or None, default=None
        New names for stored tensors whose names differ from those of the network; None as a name
        leaves a tensor out. Prefixes that wrappers add, such as ``"module."``, need no entry.

    scoring : str, callable or None, default=None
        Score on the mixing samples. None uses the score of the net: accuracy or R2.

    refresh_bn : bool, default=True
        Whether to re-estimate the running statistics of batch normalization for each soup: on the
        training samples if the ingredients are trained here, and on the mixing samples otherwise.

    cache_dir : str, path-like or None, default=None
        Folder for trained ingredients. A later `fit` with the same data, parameters, start and seed
        trains only the missing ones. None keeps the ingredients only during `fit`.

    n_jobs : int or None, default=None
        Number of ingredients to train in parallel, each with one thread. It does not affect the
        results.

    random_state : int, RandomState instance or None, default=None
        Seeds the initial weights, the split, the training and the mixing. Pass an int for
        reproducible results across calls.

    verbose : int, default=0
        If positive, `fit` prints the scores of the ingredients and of the soups.

    Attributes
    ----------
    estimator_ : skorch.NeuralNet
        The soup as one fitted net, which you can use alone.

    coef_ : ndarray of shape (n_groups, n_ingredients)
        Coefficients of the ingredients in each group of parameters. Each row sums to 1.

    groups_ : dict of str to list of str
        Names of the parameters in each group, by name of the group.

    ingredients_ : list or None
        Paths or networks. None if the ingredients were trained without `cache_dir`.

    ingredient_names_ : list of str
        Names of the ingredients, as `coef_frame` shows them.

    ingredient_params_ : list of dict
        Parameters with which each ingredient was trained. The dicts are empty if `ingredients` were
        given.

    ingredient_scores_ : ndarray of shape (n_ingredients,)
        Score of each ingredient on the mixing samples.

    ingredient_losses_ : ndarray of shape (n_ingredients,)
        Mean loss of each ingredient on the mixing samples.

    soup_scores_ : dict of str to float
        Scores of ``"best_single"``, ``"uniform"`` and ``"soup"`` on the mixing samples.
        Coefficients are chosen or learned on these samples, so evaluate the soup on others.

    soup_losses_ : dict of str to float
        Losses of the same three networks.

    classes_ : ndarray of shape (n_classes,)
        Class labels. Defined only for a classifier.

    input_shape_ : tuple of int or None
        Shape of one sample. None if X was not an array.

    n_features_in_ : int
        Number of features seen during fit. Defined only when X is an array.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    temperature_ : float
        Divisor of the logits in `predict_proba`, which the net in ``estimator_`` does not apply. It
        is 1 if it was not learned.

    history_ : list of dict
        Epoch, step, loss and learning rate of each step.

    See Also
    --------
    MEHLSoup : Learned coefficients of any sign.
    GreedySoup : Equal coefficients of selected ingredients.
    learn_simplex_coefficients : The algorithm as a function.

    References
    ----------
    .. [1] M. Wortsman et al., "Model Soups: Averaging Weights of Multiple Fine-tuned Models
       Improves Accuracy without Increasing Inference Time", ICML 2022, arXiv:2203.05482.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import LearnedSoup
    >>> X, y = load_iris(return_X_y=True)
    >>> soup = LearnedSoup(layerwise=False, n_ingredients=3, random_state=0).fit(X, y)
    >>> bool((soup.coef_ > 0).all())
    True
    """

    _parameter_constraints: dict[str, Any] = {
        **BaseSoup._parameter_constraints,
        "layerwise": LAYERWISE_CONSTRAINT,
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "min_iter": [Interval(Integral, 0, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "optimizer": [callable],
        "learn_temperature": ["boolean"],
        "directions": [StrOptions({"auto", "streamed", "stored"})],
    }
    _recipe_attributes = ("history_", "temperature_")

    def __init__(
        self,
        estimator: Any = None,
        *,
        ingredients: Any = None,
        param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        n_ingredients: int | None = None,
        layerwise: GroupingRule = True,
        max_epochs: int = 5,
        min_iter: int = 50,
        learning_rate: float = 0.05,
        batch_size: int = 256,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
        learn_temperature: bool = True,
        directions: str = "auto",
        validation_fraction: Any = 0.2,
        init_params: Any = None,
        key: str | None = None,
        key_map: KeyMap | None = None,
        scoring: str | Callable[..., float] | None = None,
        refresh_bn: bool = True,
        cache_dir: str | os.PathLike[str] | None = None,
        n_jobs: int | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            estimator,
            ingredients=ingredients,
            param_grid=param_grid,
            n_ingredients=n_ingredients,
            validation_fraction=validation_fraction,
            init_params=init_params,
            key=key,
            key_map=key_map,
            scoring=scoring,
            refresh_bn=refresh_bn,
            cache_dir=cache_dir,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.layerwise = layerwise
        self.max_epochs = max_epochs
        self.min_iter = min_iter
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learn_temperature = learn_temperature
        self.directions = directions

    @classmethod
    def from_paper(cls, **params: Any) -> Self:
        """Make a learned soup with the settings of the published code.

        This sets ``min_iter=0``, so that the soup makes exactly five passes over the mixing
        samples. All other settings are the defaults, which are those of the published code: AdamW
        with a learning rate of 0.05, batches of 256 samples, and a learned temperature. Pass
        ``layerwise=False`` for one coefficient per ingredient.

        Parameters
        ----------
        **params : dict
            Further parameters. They take precedence over the settings of the paper.

        Returns
        -------
        LearnedSoup
        """
        return cls(**{"min_iter": 0, **params})

    def _mix(
        self, network: SoupNetwork, evaluations: Sequence[Evaluation], rng: np.random.RandomState
    ) -> Mixed:
        has_probabilities = isinstance(network.net, skorch.NeuralNetClassifier) and isinstance(
            network.net.criterion_, _WITH_PROBABILITIES
        )
        config = LearnedConfig(
            layerwise=self.layerwise,
            max_epochs=self.max_epochs,
            min_iter=self.min_iter,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            learn_temperature=self.learn_temperature and has_probabilities,
            directions=self.directions,
        )
        learned = learn_simplex_coefficients(
            network.net.module_,
            network.store.ingredients,
            network.mixing.X,
            network.mixing.targets,
            partial(_loss, network.net),
            config=config,
            rng=rng,
            after_step=network.after_step,
        )
        network.refresh_buffers_(range(len(network.store)))
        fitted = {"history_": learned.history, "temperature_": 1.0}
        if learned.log_factor is None:
            return Mixed(learned.coef.numpy(), learned.groups, fitted)
        fitted["temperature_"] = float(torch.exp(-learned.log_factor))
        loss_of = partial(_loss, network.net, log_factor=learned.log_factor)
        return Mixed(learned.coef.numpy(), learned.groups, fitted, loss_of)

    @available_if(net_has("predict_proba"))
    def predict_proba(self, X: Any) -> FloatArray:
        """Predict class probabilities at the learned temperature.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or anything that the net takes

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        probabilities = super().predict_proba(X)
        if self.temperature_ == 1.0:
            return probabilities
        tiny = np.finfo(probabilities.dtype).tiny
        return softmax(np.log(probabilities + tiny) / self.temperature_, axis=1)


def _loss(
    net: skorch.NeuralNet,
    inputs: Any,
    targets: torch.Tensor,
    log_factor: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the loss of a net on a batch, with its logits multiplied by ``exp(log_factor)``."""
    outputs = net.infer(inputs)
    if log_factor is not None:
        scaled = log_probabilities(net, main_output(outputs)) * log_factor.exp()
        returns_logits = isinstance(net.criterion_, torch.nn.CrossEntropyLoss)
        outputs = scaled if returns_logits else scaled.softmax(dim=1)
    return loss_of_outputs(net, outputs, targets, X=inputs)
