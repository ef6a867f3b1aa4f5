"""Out-of-distribution detection by regenerating rows with a diffusion model."""

from numbers import Integral, Real

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted

from ..generative import ConditionalDDPM
from ..neural import encode_labels
from ..utils._random import local_random_state
from ._classifier_outputs import fitted_outputs, is_fitted
from ._comparison import TERMS, Comparison, available_terms
from ._denoiser_choice import fit_denoiser
from ._detector import BaseOODDetector
from ._diffusion_settings import settings_of
from ._disparities import calibrate, combine
from ._docs import with_common_parts
from ._regenerator import Regenerator

_POSITIVE = Interval(Integral, 1, None, closed="left")


@with_common_parts
class DiffusionOODDetector(BaseOODDetector):
    r"""Out-of-distribution detector that holds a row against its regeneration (DDoS).

    Noise is added to a row, and a diffusion model of the training rows takes it away again. An
    ordinary row comes back much as it was; a strange one comes back as something ordinary. How
    far it has moved, in pixels (or features of the input), in features of a classifier and in
    the probabilities of its classes, is the score. No outliers are needed.

    Parameters
    ----------
    classifier : classifier or None, default=None
        The classifier whose features and probabilities are compared. A fitted one is copied (give
        it in a :class:`~sklearn.frozen.FrozenEstimator` where the detector will be cloned), one
        that is not is cloned and fitted. A net (:class:`skorch.NeuralNetClassifier`) gives features
        and probabilities, any other classifier of scikit-learn probabilities only. None trains a
        :class:`~sklearn_ext.NetClassifier`, or does without a classifier if `fit` gets no classes
        or only one.

    diffusion : "empirical", "ddpm", ConditionalDDPM or callable, default="empirical"
        The diffusion model. "empirical" is the best denoiser that there is for the training rows,
        in closed form. "ddpm" trains a :class:`~sklearn_ext.ConditionalDDPM` with a cosine
        schedule. One of your own is cloned and trained, or taken as it is if it is fitted (in a
        :class:`~sklearn.frozen.FrozenEstimator` where the detector will be cloned); then its
        schedule is the one that `noise_level` counts on, and its units replace `scale`.
        A callable ``noise = diffusion(x_t, t, y)`` estimates the noise in rows ``x_t`` (float32,
        shaped as X, in units of `scale`) at time t in [0, 1]; y holds positions in ``classes_`` or
        is None. It may bring a schedule as an attribute ``signal_level(t)``, by default the cosine
        schedule.

    noise_level : float in (0, 1], default=0.2
        The time from which a row is regenerated. Near 0 it returns as the nearest training row,
        near 1 as their mean.

    n_steps : int, default=1
        Steps back from there.

    n_repeats : int, default=4
        Regenerations of each row, from different noise. Disparities are averaged over them.

    conditional : bool, default=False
        Whether rows are regenerated as members of the class that the classifier sees in them.

    guidance : float, default=1.0
        How much the class is exaggerated; 0 takes it as it is.

    disparity : "auto", "pixel", "feature", "probability" or tuple of them, default="auto"
        What is compared. The logs of several disparities are standardised and added up. "auto"
        is pixels and features for a net, pixels and probabilities for another classifier, and
        pixels without a classifier.

    feature_metric : {"cosine", "l2", "unit_l1"}, default="cosine"
        Distance of features: one minus the cosine, Euclidean, or the sum of absolute differences
        of the unit vectors.

    probability_metric : {"jeffreys", "kl", "kl_rev", "js", "logit_l1"}, default="jeffreys"
        Divergence of probabilities: Kullback and Leibler's from the row to its regeneration, the
        reverse, their sum, Jensen and Shannon's, or the absolute differences of the logits, which
        only a net has.

    anomaly_removal : {"both", "generation", "none"}, default="both"
        Whose abnormally large features are clipped before they are compared [2]_.

    clip_quantile : float in (0, 1], default=0.9
        They are clipped at this quantile of all features of training rows.

    preset : "paper" or None, default=None
        "paper" compares features (Euclidean) and probabilities (Kullback and Leibler), with
        anomalies removed from the regeneration, whatever the four parameters say, and takes
        "ddpm" in place of "empirical".

    n_prototypes : int or None, default=5000
        Training rows that the empirical denoiser keeps, at random with every class in proportion.
        None keeps all.

    scale : {"minmax", "standard"} or (float, float), default="minmax"
        The units in which noise is added: the range of the training rows becomes -1 to 1, or
        their mean and standard deviation 0 and 1; a pair is a fixed range that becomes -1 to 1.
        Features have ranges of their own, all pixels of images share one.

    head : str or None, default=None
        Name of the linear layer of a net that turns features into logits; None is the last one.

    outlier_label : object, default=-1
        Rows with this label are left out; the detector does not learn from outliers.

    {rejection}

    validation_fraction : float in (0, 1), default=0.2
        Share of the rows that the denoiser never sees. They standardise the disparities and set
        the threshold.

    batch_size : int, default=1024
        Rows that are regenerated at a time.

    random_state : int, RandomState instance or None, default=None
        Seeds the choice of rows, the training of a classifier, and the noise, which is drawn once
        in `fit`: a row's score depends neither on other rows nor on their order.

    Attributes
    ----------
    classifier_ : classifier or None
        The fitted classifier; None for a detector without classes.

    classes_ : ndarray of shape (n_classes,)
        Labels of the classes. Not there without a classifier.

    denoiser_ : object
        The diffusion model: ``predict_noise(x_t, t, y=None)`` and ``signal_level(t)``.

    noise_ : ndarray of shape (n_repeats, ...)
        The noise that every row meets, of the shape of one row each.

    scale_ : object
        The units of the path, ``center``, ``width``, ``lower`` and ``upper``.

    disparity_ : tuple of str
        What is compared.

    clip_value_ : float
        Where features are clipped; infinite where there are none.

    calibration_ : dict of str to (float, float)
        Mean and standard deviation of each log disparity on held-out rows.

    offset_ : float
        Threshold of `predict` on the scores.

    {facts}

    See Also
    --------
    OrthLossOODDetector : Trains the classifier itself to separate outliers.

    Notes
    -----
    With the empirical denoiser a score costs :math:`4 R S m d` operations for R repeats, S steps,
    m stored rows and d features, as products of matrices, and R + 1 passes of the classifier.

    The method [1]_ leaves choices open, and ``preset="paper"`` is one reading of it. Clipping the
    regeneration alone moves ordinary rows, too, where their own features exceed the clip value;
    clipping both, the default, never raises a Euclidean distance.

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
    >>> bool((detector.predict(new) == 1).mean() > 0.85)
    True
    >>> bool((detector.predict(unknown) == -1).mean() > 0.85)
    True
    >>> sorted(detector.disparities(unknown))
    ['feature', 'pixel', 'probability']
    """

    _parameter_constraints: dict = {
        **BaseOODDetector._parameter_constraints,
        "classifier": [HasMethods("fit"), None],
        "diffusion": [
            StrOptions({"empirical", "ddpm"}),
            ConditionalDDPM,
            FrozenEstimator,
            callable,
        ],
        "noise_level": [Interval(Real, 0, 1, closed="right")],
        "n_steps": [_POSITIVE],
        "n_repeats": [_POSITIVE],
        "conditional": ["boolean"],
        "guidance": [Interval(Real, 0, None, closed="left")],
        "disparity": [StrOptions({"auto", *TERMS}), tuple, list],
        "feature_metric": [StrOptions({"cosine", "l2", "unit_l1"})],
        "probability_metric": [StrOptions({"jeffreys", "kl", "kl_rev", "js", "logit_l1"})],
        "anomaly_removal": [StrOptions({"both", "generation", "none"})],
        "clip_quantile": [Interval(Real, 0, 1, closed="right")],
        "preset": [StrOptions({"paper"}), None],
        "n_prototypes": [_POSITIVE, None],
        "scale": [StrOptions({"minmax", "standard"}), tuple, list],
        "head": [str, None],
        "batch_size": [_POSITIVE],
    }

    def __init__(
        self,
        classifier=None,
        *,
        diffusion="empirical",
        noise_level=0.2,
        n_steps=1,
        n_repeats=4,
        conditional=False,
        guidance=1.0,
        disparity="auto",
        feature_metric="cosine",
        probability_metric="jeffreys",
        anomaly_removal="both",
        clip_quantile=0.9,
        preset=None,
        n_prototypes=5000,
        scale="minmax",
        head=None,
        outlier_label=-1,
        id_rejection_rate=0.05,
        validation_fraction=0.2,
        batch_size=1024,
        random_state=None,
    ):
        super().__init__(
            outlier_label=outlier_label,
            id_rejection_rate=id_rejection_rate,
            validation_fraction=validation_fraction,
            random_state=random_state,
        )
        self.classifier = classifier
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
        self.preset = preset
        self.n_prototypes = n_prototypes
        self.scale = scale
        self.head = head
        self.batch_size = batch_size

    def _needs_labels(self):
        return False

    def _fewest_classes(self):
        return 1

    def _fit_detector(self, rows, rng):
        self._reading = self._fit_classifier(rows, rng)
        settings = settings_of(self, self._reading)
        self.disparity_ = settings.terms
        self.denoiser_, self.scale_ = self._fit_denoiser(settings.diffusion, rows, rng)
        self.noise_ = rng.standard_normal((self.n_repeats, *rows.X.shape[1:])).astype(np.float32)
        self.clip_value_ = np.inf
        if "feature" in available_terms(self._reading):
            features = self._reading.compute(rows.X)
            self.clip_value_ = float(np.quantile(features, self.clip_quantile))
        self._regenerator = Regenerator(
            self.denoiser_, self.scale_, self.noise_, self.noise_level, self.n_steps, self.guidance
        )
        self._comparison = Comparison(
            self.scale_,
            self._reading,
            settings.feature_metric,
            settings.probability_metric,
            settings.anomaly_removal,
            self.clip_value_,
        )
        self._is_conditional = self.conditional
        held_out = self._disparities_of(rows.X_held_out, self.disparity_)
        self.calibration_ = {term: calibrate(values) for term, values in held_out.items()}

    def _fit_classifier(self, rows, rng):
        self.classifier_ = None
        n_classes = 0 if rows.y is None else len(np.unique(rows.y))
        if n_classes < 2 and not is_fitted(self.classifier):
            found = "y has one class" if n_classes else "y is None"
            if self.classifier is not None:
                raise ValueError(f"classifier={self.classifier!r} is not fitted, and {found}.")
            if self.conditional:
                raise ValueError(f"conditional=True needs classes: classifier is None, {found}.")
            return None
        reading = fitted_outputs(self.classifier, rows.X, rows.y, head=self.head, rng=rng)
        self.classifier_, self.classes_ = reading.classifier, reading.classes
        return reading

    def _fit_denoiser(self, diffusion, rows, rng):
        codes = None
        if self._reading is not None:
            given = rows.y is not None
            codes = encode_labels(rows.y, self.classes_) if given else self._reading.codes(rows.X)
        return fit_denoiser(
            diffusion,
            rows.X,
            codes,
            None if codes is None else self.classes_,
            scale=self.scale,
            conditional=self.conditional,
            n_prototypes=self.n_prototypes,
            rng=rng,
        )

    def _regenerations(self, X, n_repeats=None):
        """Yield blocks of rows and their regenerations."""
        for batch in gen_batches(len(X), self.batch_size):
            codes = self._reading.codes(X[batch]) if self._is_conditional else None
            yield X[batch], self._regenerator.regenerate(X[batch], codes, n_repeats)

    def _disparities_of(self, X, terms):
        blocks = [
            self._comparison.disparities(rows, rows_hat, terms)
            for rows, rows_hat in self._regenerations(X)
        ]
        return {term: np.concatenate([block[term] for block in blocks]) for term in terms}

    def _score_rows(self, X):
        return -combine(self._disparities_of(X, self.disparity_), self.calibration_)

    def disparities(self, X):
        """Tell in which respect rows are strange.

        Parameters
        ----------
        X : array-like
            Rows shaped as in `fit`.

        Returns
        -------
        dict of str to ndarray of shape (n_samples,)
            Means over the regenerations of every disparity that there is, whether the scores use
            it or not: "pixel", and as far as the classifier has them "feature" and "probability".
            Zero for a row that comes back as it was.
        """
        check_is_fitted(self)
        return self._disparities_of(
            self._check_rows(X, reset=False), available_terms(self._reading)
        )

    def regenerate(self, X, *, n_repeats=None):
        """Return what rows have become after noise was added and taken away again.

        Parameters
        ----------
        X : array-like
            Rows shaped as in `fit`.
        n_repeats : int or None, default=None
            How many regenerations; None is all that the scores use.

        Returns
        -------
        float32 ndarray of shape (n_repeats, n_samples, ...)
            In the units of X.

        Raises
        ------
        ValueError
            If `n_repeats` is none of 1, 2, ... up to the detector's own.
        """
        check_is_fitted(self)
        X = self._check_rows(X, reset=False)
        if n_repeats is not None and not 1 <= n_repeats <= len(self.noise_):
            raise ValueError(
                f"n_repeats must be from 1 to {len(self.noise_)}, the detector's own n_repeats, "
                f"got {n_repeats!r}."
            )
        blocks = [rows_hat for _, rows_hat in self._regenerations(X, n_repeats)]
        return np.concatenate(blocks, axis=1)

    @validate_params(
        {"n_samples": [_POSITIVE], "y": "no_validation", "n_steps": [_POSITIVE]},
        prefer_skip_nested_validation=True,
    )
    def sample(self, n_samples=1, y=None, *, n_steps=50):
        """Draw rows from the diffusion model.

        The empirical denoiser knows no other rows than those that it has stored: its draws are
        copies of them, or nearly so.

        Parameters
        ----------
        n_samples : int, default=1
        y : label or array-like of shape (n_samples,), default=None
            Classes of the rows; None draws from all.
        n_steps : int, default=50
            Steps from pure noise to a row.

        Returns
        -------
        float32 ndarray of shape (n_samples, ...)
            In the units of X.

        Raises
        ------
        ValueError
            If a class is unknown.
        """
        check_is_fitted(self)
        codes = None
        if y is not None:
            if self.classifier_ is None:
                raise ValueError("y is given, but the detector was fitted without classes.")
            codes = encode_labels(np.broadcast_to(np.asarray(y), (n_samples,)), self.classes_)
        shape = (n_samples, *self.input_shape_)
        noise = local_random_state(self.random_state).standard_normal(shape).astype(np.float32)
        return self._regenerator.sample(noise, n_steps, codes)
