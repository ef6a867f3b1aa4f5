"""Out-of-distribution detection by regenerating samples with a diffusion model."""

import dataclasses
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import _fit_context
from sklearn.frozen import FrozenEstimator
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted
from torch.utils.data import Dataset

from ...generative import ConditionalDDPM, DiffusionModel
from ...neural import (
    AnySamples,
    check_form,
    encode_labels,
    n_samples_of,
    resolve_device,
    sample_shape,
    select_samples,
    stacked,
    validate_input,
)
from ...utils._atomic import atomic_fit
from ...utils._random import local_random_state
from ...utils._typing import FloatArray, RandomState
from ...utils.compat import with_callbacks
from .._classifier_outputs import ClassifierOutputs, fitted_outputs, is_fitted
from .._detector import BaseOODDetector, TrainingSamples
from ._diffusion_disparities import (
    TERMS,
    DiffusionOODConfig,
    available_terms,
    batch_of,
    chosen_terms,
    diffusion_disparities,
)
from ._disparity_formulas import calibrate, combine
from ._fit_denoiser import N_TRIED, chosen_noise_level, fit_denoiser
from ._regeneration import draw_from_noise, regenerate

_POSITIVE = Interval(Integral, 1, None, closed="left")
_STEPS = ("classifier", "diffusion model", "calibration")
_PAPER = {
    "diffusion": "ddpm",
    "disparity": ("feature", "probability"),
    "feature_metric": "l2",
    "probability_metric": "kl",
    "anomaly_removal": "generation",
}


class DiffusionOODDetector(BaseOODDetector):
    r"""Out-of-distribution detector that compares a sample with its regeneration (DDoS).

    Noise is added to a sample, and a diffusion model of the training samples removes it again. An
    ordinary sample comes back with little change; an unusual one comes back as something
    ordinary. The score measures how far the sample has moved, in pixels (or features of the input),
    in features of a classifier and in the probabilities of its classes. Training needs no outliers.

    Parameters
    ----------
    estimator : classifier or None, default=None
        The classifier whose features and probabilities are compared. A fitted classifier is copied;
        pass it in a :class:`~sklearn.frozen.FrozenEstimator` if the detector will be cloned, as
        searches and cross-validation do. An unfitted classifier is cloned and fitted. A net
        (:class:`skorch.NeuralNetClassifier`) gives features and probabilities; any other
        scikit-learn classifier gives probabilities only. None trains a
        :class:`~sklearn_ext.NetClassifier`, or uses no classifier if y is None or has only one
        class.

    diffusion : "empirical", "ddpm", diffusion model or callable, default="empirical"
        The diffusion model. "empirical" is the best denoiser for the training samples, in closed
        form (:class:`~sklearn_ext.ood.EmpiricalDenoiser`). "ddpm" trains a
        :class:`~sklearn_ext.ConditionalDDPM` with a cosine schedule. A ConditionalDDPM of your own
        is cloned and trained. If it is fitted, it is copied (pass it in a
        :class:`~sklearn.frozen.FrozenEstimator` if the detector will be cloned); `noise_level`
        then refers to its schedule, and its units replace `scale`. A trained network of your own
        works in the same way in a :class:`~sklearn_ext.generative.DiffusionModel`. A callable
        ``noise = diffusion(x_t, t, y)`` estimates the noise in samples ``x_t`` (float32, shaped
        as X, in units of `scale`) at time t in [0, 1]; y holds indices into ``classes_`` or is
        None. Its schedule is its attribute ``signal_level(t)``, by default the cosine schedule.

    noise_level : float in (0, 1] or "auto", default="auto"
        The time from which a sample is regenerated. Near 0 it comes back as the nearest training
        sample, and near 1 as the mean of all training samples. "auto" is 0.2 or, for the empirical
        denoiser, the largest of 0.2, 0.15, 0.1, 0.05 and 0.02 at which half of the held-out samples
        come back as a mean of at most 1.5 training samples, by their effective number
        (:meth:`~sklearn_ext.ood.EmpiricalDenoiser.effective_samples`).

    n_steps : int, default=1
        Number of steps from `noise_level` back to 0.

    n_repeats : int, default=4
        Number of regenerations of each sample, from different noise. Disparities are averaged
        over them.

    conditional : bool, default=False
        Whether samples are regenerated as members of the class that the classifier predicts.

    guidance : float, default=1.0
        Weight of classifier-free guidance, which exaggerates the class; 0 uses the class as it
        is. It has no effect unless `conditional` is True.

    disparity : "auto", "pixel", "feature", "probability" or tuple of them, default="auto"
        The disparities to compute. The logs of several disparities are standardized and added up.
        "auto" means pixels and features for a net, pixels and probabilities for another classifier,
        and pixels without a classifier.

    feature_metric : {"cosine", "l2", "unit_l1"}, default="cosine"
        Distance of features: one minus the cosine, the Euclidean distance, or the sum of absolute
        differences of the unit vectors.

    probability_metric : {"jeffreys", "kl", "kl_rev", "js", "logit_l1"}, default="jeffreys"
        Divergence of probabilities: "kl" is the Kullback-Leibler divergence from the sample to
        its regeneration, "kl_rev" the reverse, "jeffreys" their sum, "js" the Jensen-Shannon
        divergence, and "logit_l1" the sum of absolute differences of the logits, which requires
        a net.

    anomaly_removal : {"both", "generation", "none"}, default="both"
        Which abnormally large features are clipped before they are compared [2]_: those of the
        sample and its regeneration, of the regeneration alone, or of neither.

    clip_quantile : float in (0, 1], default=0.9
        Features are clipped at this quantile of all features of training samples.

    n_prototypes : int or None, default=5000
        Number of training samples that the empirical denoiser stores, chosen at random from each
        class in proportion to its size. None stores all.

    scale : {"minmax", "standard"} or (float, float), default="minmax"
        The units in which noise is added. "minmax" maps the range of the training samples to
        [-1, 1], "standard" their mean and standard deviation to 0 and 1, and a pair is a fixed
        range that becomes [-1, 1]. Each feature has its own range; all pixels of images share one.

    head : str or None, default=None
        Name of the linear layer that returns the logits. By default, it is the last such layer.

    outlier_label : int or str, default=-1
        Label in y that means "belongs to no class". Samples with this label are left out.

    id_rejection_rate : float in (0, 1), default=0.05
        Fraction of new in-distribution samples that may be predicted as outliers.

    validation_fraction : float in (0, 1), default=0.2
        Fraction of the samples that the denoiser is not fitted on. They standardize the
        disparities and set the threshold.

    batch_size : int, default=1024
        Number of samples that are regenerated at a time.

    device : str, torch.device or None, default=None
        Where the diffusion models "empirical" and "ddpm" compute: "cpu", "cuda", "mps", or "auto"
        for the best device available. None means the CPU. Networks that you pass have their own
        devices.

    random_state : int, RandomState instance or None, default=None
        Seed of the choice of samples, of the training of a classifier, and of the noise. The
        noise is drawn once in `fit`, so that a sample's score depends neither on other samples
        nor on their order.

    verbose : int, default=0
        If positive, each step of `fit` is printed, and so is the loss of a diffusion model that
        "ddpm" trains. The method ``set_callbacks`` takes callbacks of scikit-learn.

    Attributes
    ----------
    classifier_ : classifier or None
        The fitted classifier; None for a detector without classes.

    classes_ : ndarray of shape (n_classes,)
        Class labels. It does not exist without a classifier.

    denoiser_ : object
        The diffusion model, with ``predict_noise(x_t, t, y=None)`` and ``signal_level(t)``.

    noise_ : ndarray of shape (n_repeats, ...)
        The noise that is added to every sample. Each draw has the shape of one sample.

    scale_ : object
        The units of the denoiser, with the attributes ``center``, ``width``, ``lower`` and
        ``upper``.

    disparity_ : tuple of str
        Names of the disparities that enter the scores.

    noise_level_ : float
        The noise level of the scores.

    clip_value_ : float
        Value at which features are clipped; infinite without features.

    calibration_ : dict of str to (float, float)
        Mean and standard deviation of each log disparity on held-out samples.

    offset_ : float
        Threshold of `predict` on the scores.

    held_out_scores_ : ndarray of shape (n_held_out,)
        Sorted scores of the held-out samples.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    OrthLossOODDetector : Trains the classifier itself to separate outliers.

    Notes
    -----
    With the empirical denoiser a score costs :math:`4 R S m d` operations for R repeats, S steps,
    m stored samples and d features, as matrix products, and R + 1 passes of the classifier.

    The paper [1]_ leaves choices open; :meth:`from_paper` says which of its settings the paper
    fixes. Clipping only the features of the regeneration moves ordinary samples as well, if their
    own features exceed the clip value. Clipping both, the default, never increases a Euclidean
    distance.

    References
    ----------
    .. [1] K. Fang, Q. Tao, Z. Yang, X. Huang, J. Yang, "Beyond Perceptual Distances: Rethinking
       Disparity Assessment for Out-of-Distribution Detection with Diffusion Models",
       arXiv:2409.10094, 2024.
    .. [2] Y. Sun, C. Guo, Y. Li, "ReAct: Out-of-distribution Detection With Rectified
       Activations", NeurIPS 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import DiffusionOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> known = y < 8
    >>> detector = DiffusionOODDetector(random_state=0).fit(X[known][:800], y[known][:800])
    >>> new, unknown = X[known][800:], X[~known]
    >>> detector.predict(new[:4]), detector.predict(unknown[:4])
    (array([1, 1, 1, 1]), array([-1, -1, -1, -1]))
    >>> {term: values[:2].round(1) for term, values in detector.disparities(unknown).items()}
    {'pixel': array([3.7, 3.9]), 'feature': array([0.2, 0.1]), 'probability': array([2.3, 0. ])}
    """

    _takes_any_form: ClassVar[bool] = True
    _parameter_constraints: dict[str, Any] = {
        **BaseOODDetector._parameter_constraints,
        "estimator": [HasMethods("fit"), None],
        "diffusion": [
            StrOptions({"empirical", "ddpm"}),
            ConditionalDDPM,
            DiffusionModel,
            FrozenEstimator,
            callable,
        ],
        "noise_level": [Interval(Real, 0, 1, closed="right"), StrOptions({"auto"})],
        "n_steps": [_POSITIVE],
        "n_repeats": [_POSITIVE],
        "conditional": ["boolean"],
        "guidance": [Interval(Real, 0, None, closed="left")],
        "disparity": [StrOptions({"auto", *TERMS}), tuple, list],
        "feature_metric": [StrOptions({"cosine", "l2", "unit_l1"})],
        "probability_metric": [StrOptions({"jeffreys", "kl", "kl_rev", "js", "logit_l1"})],
        "anomaly_removal": [StrOptions({"both", "generation", "none"})],
        "clip_quantile": [Interval(Real, 0, 1, closed="right")],
        "n_prototypes": [_POSITIVE, None],
        "scale": [StrOptions({"minmax", "standard"}), tuple, list],
        "head": [str, None],
        "batch_size": [_POSITIVE],
        "device": "no_validation",
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        diffusion: Any = "empirical",
        noise_level: float | str = "auto",
        n_steps: int = 1,
        n_repeats: int = 4,
        conditional: bool = False,
        guidance: float = 1.0,
        disparity: str | tuple[str, ...] = "auto",
        feature_metric: str = "cosine",
        probability_metric: str = "jeffreys",
        anomaly_removal: str = "both",
        clip_quantile: float = 0.9,
        n_prototypes: int | None = 5000,
        scale: str | tuple[float, float] = "minmax",
        head: str | None = None,
        outlier_label: Any = -1,
        id_rejection_rate: float = 0.05,
        validation_fraction: float = 0.2,
        batch_size: int = 1024,
        device: Any = None,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            outlier_label=outlier_label,
            id_rejection_rate=id_rejection_rate,
            validation_fraction=validation_fraction,
            random_state=random_state,
        )
        self.estimator = estimator
        self.diffusion = diffusion
        self.noise_level = noise_level
        self.n_steps = n_steps
        self.n_repeats = n_repeats
        self.conditional = conditional
        self.guidance = guidance
        self.disparity = disparity
        self.feature_metric = feature_metric
        self.probability_metric = probability_metric
        self.anomaly_removal = anomaly_removal
        self.clip_quantile = clip_quantile
        self.n_prototypes = n_prototypes
        self.scale = scale
        self.head = head
        self.batch_size = batch_size
        self.device = device
        self.verbose = verbose

    @classmethod
    def from_paper(cls, **params: Any) -> Self:
        """Return a detector with the settings of its paper.

        It sets ``diffusion="ddpm"``, a trained diffusion model; ``disparity=("feature",
        "probability")`` with ``feature_metric="l2"`` and ``probability_metric="kl"``, since the
        paper measures disparities in the feature and the probability space of the classifier; and
        ``anomaly_removal="generation"``, since it removes anomalies from the features of the
        generation. The paper's abstract fixes the spaces and the side of the removal, but not the
        metrics.

        Parameters
        ----------
        **params
            Parameters of the constructor, which take precedence.

        Returns
        -------
        DiffusionOODDetector
        """
        return cls(**{**_PAPER, **params})

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: AnySamples, y: ArrayLike | None = None) -> Self:
        """Fit the classifier and the diffusion model, and set the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width), tensor, or Dataset
            Training samples. A map-style :class:`torch.utils.data.Dataset` of pairs (sample, label)
            is read batch by batch, and in one pass for its range; the samples of an `estimator`
            that is not a net become one array.
        y : array-like of shape (n_samples,), default=None
            Class labels. Samples labeled `outlier_label` are left out. None takes those inside a
            dataset. Without labels, the detector has the classes that a fitted `estimator`
            predicts, or none.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            If the input is not finite or has a wrong shape, all samples are labeled as outliers, a
            parameter is out of range, or `estimator` or `conditional` needs classes that y does
            not name.
        TypeError
            If X is a dict, a data loader, an iterable-style dataset, or a dataset whose samples are
            not single arrays, or if `diffusion` or `estimator` cannot be used.
        """
        resolve_device(self.device)
        data = {"X": X, "y": y, "metadata": None}
        samples, rng = self._start_fit(X, y)
        context = self._init_callback_context(max_subtasks=len(_STEPS))
        context.call_on_fit_task_begin(estimator=self, **data)
        step = self._begin(context, "classifier")
        self._outputs = self._fit_classifier(samples, rng)
        step.call_on_fit_task_end(estimator=self, **data)
        self._check_metric_and_scale()
        terms = chosen_terms(self.disparity, self._outputs)
        self.disparity_ = terms
        codes = None
        if self._outputs is not None and samples.y is None:
            codes = self._outputs.codes(samples.X)
        elif self._outputs is not None and samples.y is not None:
            codes = encode_labels(samples.y, self.classes_)
        step = self._begin(context, "diffusion model")
        self.denoiser_, self.scale_ = fit_denoiser(
            self.diffusion,
            samples.X,
            codes,
            None if codes is None else self.classes_,
            scale=self.scale,
            conditional=self.conditional,
            n_prototypes=self.n_prototypes,
            rng=rng,
            device=self.device,
            verbose=self.verbose,
            training=step.propagate_callback_context,
        )
        step.call_on_fit_task_end(estimator=self, **data)
        step = self._begin(context, "calibration")
        noise = rng.standard_normal((self.n_repeats, *self.input_shape_))
        self.noise_ = noise.astype(np.float32)
        self.noise_level_ = self._resolve_noise_level(samples.X_held_out)
        self._config = self._build_config(terms)
        self.clip_value_ = np.inf
        if self._outputs is not None and self._outputs.has_features:
            features = self._outputs.compute(samples.X)
            self.clip_value_ = float(np.quantile(features, self.clip_quantile))
        held_out = diffusion_disparities(samples.X_held_out, **self._fitted_parts())
        self.calibration_ = {term: calibrate(values) for term, values in held_out.items()}
        self._set_offset(samples)
        for task in (step, context):
            task.call_on_fit_task_end(estimator=self, reconstruction_attributes=lambda: {}, **data)
        return self

    def _begin(self, context: Any, step: str) -> Any:
        """Report the beginning of a step to callbacks, print it, and return its context."""
        if self.verbose:
            number = f"{1 + _STEPS.index(step)}/{len(_STEPS)}"
            print(f"[{type(self).__name__}] step {number}, {step}")
        return context.subcontext(step).call_on_fit_task_begin(estimator=self)

    def _check_samples(self, X: AnySamples, y: Any = "no_validation", *, reset: bool) -> Any:
        check_form(X)
        if isinstance(X, Mapping) and not issparse(X):
            raise TypeError(
                "X must be an array, a tensor or a map-style dataset, because a diffusion model "
                f"takes samples that are single arrays, got {type(X).__name__}."
            )
        checked = validate_input(self, X, y, reset=reset, any_form=isinstance(X, Dataset))
        if isinstance(X, Dataset) and sample_shape(X) is None:
            raise TypeError("Each sample in X must be a single array or tensor.")
        return checked

    def _needs_labels(self) -> bool:
        return False

    def _fewest_classes(self) -> int:
        return 1

    def _fit_classifier(
        self, samples: TrainingSamples, rng: np.random.RandomState
    ) -> ClassifierOutputs | None:
        self.classifier_ = None
        n_classes = 0 if samples.y is None else len(np.unique(samples.y))
        if n_classes < 2 and not is_fitted(self.estimator):
            found = "y is None" if samples.y is None else "y has one class"
            if self.estimator is not None:
                raise ValueError(
                    f"estimator={self.estimator!r} is not fitted and cannot be fitted: {found}."
                )
            if self.conditional:
                raise ValueError(
                    f"conditional=True needs classes, but estimator is None and {found}."
                )
            return None
        outputs = fitted_outputs(self.estimator, samples.X, samples.y, head=self.head, rng=rng)
        self.classifier_, self.classes_ = outputs.classifier, outputs.classes
        return outputs

    def _resolve_noise_level(self, X_held_out: AnySamples) -> float:
        if not isinstance(self.noise_level, str):
            return float(self.noise_level)
        n_tried = min(N_TRIED, n_samples_of(X_held_out))
        samples, codes = stacked(select_samples(X_held_out, np.arange(n_tried))), None
        if self.conditional and self._outputs is not None:
            codes = self._outputs.codes(samples)
        x = self.scale_.to_path(samples)
        return chosen_noise_level(self.denoiser_, x, self.noise_[0], codes)

    def _check_metric_and_scale(self) -> None:
        has_logits = self._outputs is None or self._outputs.has_features
        if self.probability_metric == "logit_l1" and not has_logits:
            raise ValueError(
                "probability_metric='logit_l1' needs the logits of a skorch.NeuralNetClassifier, "
                f"got estimator={self.estimator!r}."
            )
        scale = self.scale
        if not isinstance(scale, str) and (len(scale) != 2 or not scale[0] < scale[1]):
            raise ValueError(
                "scale must be 'minmax', 'standard' or a pair (low, high) with low < high, "
                f"got {scale!r}."
            )

    def _build_config(self, terms: tuple[str, ...]) -> DiffusionOODConfig:
        return DiffusionOODConfig(
            terms=terms,
            noise_level=self.noise_level_,
            n_steps=self.n_steps,
            conditional=self.conditional,
            guidance=self.guidance,
            feature_metric=self.feature_metric,
            probability_metric=self.probability_metric,
            anomaly_removal=self.anomaly_removal,
        )

    def _fitted_parts(self) -> dict[str, Any]:
        """Return the arguments of `diffusion_disparities` that `fit` has set."""
        return {
            "denoiser": self.denoiser_,
            "noise": self.noise_,
            "config": self._config,
            "scale": self.scale_,
            "outputs": self._outputs,
            "clip_value": self.clip_value_,
            "batch_size": self.batch_size,
        }

    def _score_samples(self, X: AnySamples) -> FloatArray:
        return -combine(diffusion_disparities(X, **self._fitted_parts()), self.calibration_)

    def disparities(self, X: AnySamples) -> dict[str, FloatArray]:
        """Measure in what respects samples are unusual.

        Parameters
        ----------
        X : array-like
            Samples of the same shape as in `fit`.

        Returns
        -------
        dict of str to ndarray of shape (n_samples,)
            Mean over the regenerations of every available disparity, whether or not the scores use
            it: "pixel", and "feature" and "probability" if the classifier provides them. A
            disparity is zero for a sample that comes back unchanged.
        """
        check_is_fitted(self)
        samples = self._check_samples(X, reset=False)
        parts = self._fitted_parts()
        parts["config"] = dataclasses.replace(self._config, terms=available_terms(self._outputs))
        return diffusion_disparities(samples, **parts)

    def regenerate(self, X: AnySamples, *, n_repeats: int | None = None) -> FloatArray:
        """Return samples after noise was added and removed again.

        Parameters
        ----------
        X : array-like
            Samples of the same shape as in `fit`.
        n_repeats : int or None, default=None
            Number of regenerations per sample. By default, it is the number that the scores use.

        Returns
        -------
        float32 ndarray of shape (n_repeats, n_samples, ...)
            The regenerations, in the units of X.

        Raises
        ------
        ValueError
            If `n_repeats` is not between 1 and the detector's own `n_repeats`.
        """
        check_is_fitted(self)
        samples = self._check_samples(X, reset=False)
        if n_repeats is not None and not 1 <= n_repeats <= len(self.noise_):
            raise ValueError(
                f"n_repeats must be between 1 and {len(self.noise_)}, the detector's own "
                f"n_repeats, got {n_repeats!r}."
            )
        config, outputs, blocks = self._config, self._outputs, []
        for batch in gen_batches(n_samples_of(samples), self.batch_size):
            x = batch_of(samples, batch)
            x_hat = regenerate(
                self.scale_.to_path(x),
                self.noise_[:n_repeats],
                self.denoiser_,
                noise_level=config.noise_level,
                n_steps=config.n_steps,
                guidance=config.guidance,
                codes=outputs.codes(x) if config.conditional and outputs is not None else None,
                bounds=self.scale_.bounds,
            )
            blocks.append(self.scale_.from_path(x_hat))
        return np.concatenate(blocks, axis=1)

    @validate_params(
        {"n_samples": [_POSITIVE], "y": "no_validation", "n_steps": [_POSITIVE]},
        prefer_skip_nested_validation=True,
    )
    def sample(self, n_samples: int = 1, y: Any = None, *, n_steps: int = 50) -> FloatArray:
        """Draw samples from the diffusion model.

        The empirical denoiser can only reproduce the samples that it has stored: its draws are
        copies of them, or nearly so.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.
        y : label or array-like of shape (n_samples,), default=None
            Classes of the samples; None draws from all classes.
        n_steps : int, default=50
            Number of steps from pure noise to a sample.

        Returns
        -------
        float32 ndarray of shape (n_samples, ...)
            The samples, in the units of X.

        Raises
        ------
        ValueError
            If a class is unknown, or the detector was fitted without classes.
        """
        check_is_fitted(self)
        codes = None
        if y is not None:
            if self.classifier_ is None:
                raise ValueError("y must be None for a detector that was fitted without classes.")
            codes = encode_labels(np.broadcast_to(np.asarray(y), (n_samples,)), self.classes_)
        shape = (n_samples, *self.input_shape_)
        noise = local_random_state(self.random_state).standard_normal(shape).astype(np.float32)
        x = draw_from_noise(
            noise,
            self.denoiser_,
            n_steps=n_steps,
            guidance=self._config.guidance,
            codes=codes,
            bounds=self.scale_.bounds,
        )
        return self.scale_.from_path(x)
