"""What the parameters of a detector by regeneration come to: presets, and what cannot be."""

from dataclasses import dataclass
from typing import Any

from ._comparison import available_terms, chosen_terms

_PRESETS = {
    None: {},
    "paper": {
        "disparity": ("feature", "probability"),
        "feature_metric": "l2",
        "probability_metric": "kl",
        "anomaly_removal": "generation",
    },
}


@dataclass(frozen=True)
class DiffusionSettings:
    """Parameters of a detector, its preset applied.

    Attributes
    ----------
    diffusion : {"empirical", "ddpm"}, ConditionalDDPM, FrozenEstimator or callable
    terms : tuple of str
        The disparities that are compared.
    feature_metric, probability_metric, anomaly_removal : str
    """

    diffusion: Any
    terms: tuple[str, ...]
    feature_metric: str
    probability_metric: str
    anomaly_removal: str


def settings_of(detector, reading):
    """Apply the preset of a detector, and check what no single parameter can tell.

    Parameters
    ----------
    detector : DiffusionOODDetector
    reading : NetReading, ProbabilityReading or None
        Of its classifier.

    Returns
    -------
    DiffusionSettings

    Raises
    ------
    ValueError
        If the reading does not allow the disparities or their metric, or if `scale` is no range.
    """
    names = "disparity", "feature_metric", "probability_metric", "anomaly_removal"
    chosen = {name: getattr(detector, name) for name in names} | _PRESETS[detector.preset]
    terms = chosen_terms(chosen.pop("disparity"), reading)
    _check_probability_metric(chosen["probability_metric"], detector.classifier, reading)
    _check_scale(detector.scale)
    diffusion = detector.diffusion
    if detector.preset == "paper" and isinstance(diffusion, str):
        diffusion = "ddpm"
    return DiffusionSettings(diffusion, terms, **chosen)


def _check_probability_metric(metric, classifier, reading):
    if metric == "logit_l1" and available_terms(reading) == ("pixel", "probability"):
        raise ValueError(
            "probability_metric='logit_l1' needs the logits of a skorch.NeuralNetClassifier, "
            f"got classifier={classifier!r}."
        )


def _check_scale(scale):
    is_pair = not isinstance(scale, str)
    if is_pair and (len(scale) != 2 or not scale[0] < scale[1]):
        raise ValueError(
            "scale must be 'minmax', 'standard' or a pair (low, high) with low < high, "
            f"got {scale!r}."
        )
