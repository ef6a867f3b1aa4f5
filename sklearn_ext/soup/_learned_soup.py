"""Coefficients on the simplex, learned together with a temperature."""

from numbers import Integral, Real

import numpy as np
import skorch
import torch
from scipy.special import softmax
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from ._base import BaseSoup, Mixed
from ._coefficients import directions_for, learn_on_simplex_, learning_groups
from ._docs import with_common_parts
from ._mixing import Schedule
from ._prediction import net_has

_WITH_PROBABILITIES = (torch.nn.CrossEntropyLoss, torch.nn.NLLLoss)


@with_common_parts
class LearnedSoup(BaseSoup):
    r"""Learned soup: positive coefficients, and a temperature of the outputs.

    The weights of the soup are :math:`w = \sum_i \alpha_i w_i` with :math:`\alpha =
    \mathrm{softmax}(a)`, for each group of parameters; the logits a are learned by gradient
    descent on the loss on the mixing rows, together with a factor of the network's outputs. The
    published code holds all ingredients and a graph through them; here a step costs one backward
    pass of one network and its memory does not grow with their number.

    Parameters
    ----------
    {sources}

    layerwise : bool, "module" or callable, default=True
        Groups of parameters with coefficients of their own: True makes each tensor one, False all
        of them together, "module" those of each layer. A callable takes the name of a parameter
        and returns that of its group.

    max_epochs : int, default=5
        Passes over the mixing rows.

    min_steps : int, default=50
        There are more passes where they would be fewer steps than this.

    lr : float, default=0.05
        Step length of the optimiser.

    batch_size : int, default=256
        Mixing rows in a step.

    optimizer : torch.optim.Optimizer class, default=torch.optim.AdamW
        Moves the logits and the temperature, without weight decay.

    learn_temperature : bool, default=True
        Whether a classifier's outputs get a learned factor. It changes probabilities, never the
        predicted class.

    directions : {"auto", "streamed", "stored"}, default="auto"
        Whether ingredients are read at each step or kept on the device of the net, which takes as
        many models of memory. "auto" reads on the CPU only.

    {common}

    Attributes
    ----------
    {attributes}

    temperature_ : float
        Logits are divided by it in `predict_proba`; the net inside ``estimator_`` knows nothing
        of it. 1 if it was not learned.

    history_ : list of dict
        Epoch, step, loss and step length of every step.

    See Also
    --------
    MEHLSoup : Coefficients of any sign.
    GreedySoup : Equal coefficients of chosen ingredients.

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

    _parameter_constraints = {
        **BaseSoup._parameter_constraints,
        "layerwise": ["boolean", StrOptions({"module"}), callable],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "min_steps": [Interval(Integral, 0, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "optimizer": [callable],
        "learn_temperature": ["boolean"],
        "directions": [StrOptions({"auto", "streamed", "stored"})],
    }

    def __init__(
        self,
        estimator=None,
        *,
        ingredients=None,
        param_grid=None,
        n_ingredients=None,
        layerwise=True,
        max_epochs=5,
        min_steps=50,
        lr=0.05,
        batch_size=256,
        optimizer=torch.optim.AdamW,
        learn_temperature=True,
        directions="auto",
        validation_fraction=0.2,
        init_params=None,
        scoring=None,
        refresh_bn=True,
        cache_dir=None,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            estimator,
            ingredients=ingredients,
            param_grid=param_grid,
            n_ingredients=n_ingredients,
            validation_fraction=validation_fraction,
            init_params=init_params,
            scoring=scoring,
            refresh_bn=refresh_bn,
            cache_dir=cache_dir,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.layerwise = layerwise
        self.max_epochs = max_epochs
        self.min_steps = min_steps
        self.lr = lr
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learn_temperature = learn_temperature
        self.directions = directions

    def _mix(self, bench, evaluations, rng):
        groups, mixed = learning_groups(bench, self.layerwise)
        schedule = Schedule(
            max_epochs=self.max_epochs,
            min_steps=self.min_steps,
            batch_size=self.batch_size,
            lr=self.lr,
            optimizer=self.optimizer,
            warmup=None,
            clip_norm=None,
        )
        has_probabilities = isinstance(bench.net, skorch.NeuralNetClassifier) and isinstance(
            bench.net.criterion_, _WITH_PROBABILITIES
        )
        coef, history, temperature, loss_of = learn_on_simplex_(
            bench,
            mixed,
            schedule,
            rng,
            learn_temperature=self.learn_temperature and has_probabilities,
            directions=directions_for(bench.net, self.directions),
        )
        found = {"history_": history, "temperature_": temperature}
        return Mixed(coef.numpy(), groups, found, loss_of)

    @available_if(net_has("predict_proba"))
    def predict_proba(self, X):
        """Probabilities of the classes, at the learned temperature.

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
