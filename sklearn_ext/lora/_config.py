"""Configuration of the adapters, with the names of peft's LoraConfig, and of the noise."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Self, TypeVar

from ..neural.files import matches_name
from ._noise import SCHEDULES

# Fields of a LoraConfig that do not affect the results here.
_IGNORED_FIELDS = {
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "fan_in_fan_out",  # the type of a layer determines the layout of its weight
    "inference_mode",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
}
_Number = TypeVar("_Number", int, float)
_BIAS = ("none", "all", "lora_only")
_PERTURBATIONS = ("weight", "local")
INITIAL_WEIGHTS = (True, False, "gaussian", "pissa", "olora", "lora_ga")


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """Configuration of the adapters of a network.

    The fields have the meaning of the parameters of :func:`inject_lora`, and the names of peft's
    ``LoraConfig``, except that its `bias` is `train_bias` here.

    Parameters
    ----------
    r : int, default=8
        Rank of the updates.
    lora_alpha : float, default=16
        The scaling of the updates is ``lora_alpha / r``.
    lora_dropout : float in [0, 1), default=0.0
        Dropout rate on the input of the updates, in training mode.
    use_rslora : bool, default=False
        Whether the scaling is ``lora_alpha / sqrt(r)`` instead.
    target_modules : {"auto", "all-linear", "all"}, list of str or str, default="auto"
        The layers to adapt.
    exclude_modules : list of str or str or None, default=None
        Layers that are not adapted.
    modules_to_save : tuple of str, default=()
        Names, or ends of names, of modules that are trained in full.
    train_bias : {"none", "all", "lora_only"}, default="none"
        Which biases are trained.
    rank_pattern : dict of str to int, default={}
        Ranks for layers whose name, or the end of it, matches the regular expression.
    alpha_pattern : dict of str to float, default={}
        Values of `lora_alpha` for layers that match in the same way.
    use_dora : bool, default=False
        Whether the norms of the filters are trained separately.
    init_lora_weights : bool or {"gaussian", "pissa", "olora", "lora_ga"}, default=True
        How the factors are initialized.

    Raises
    ------
    ValueError
        If a value is out of its range.

    See Also
    --------
    FlatLoRAClassifier : Takes the config as `lora_config`.

    Examples
    --------
    >>> from sklearn_ext.lora import AdapterConfig
    >>> AdapterConfig(r=4, modules_to_save=("head",)).lora_alpha
    16
    """

    r: int = 8
    lora_alpha: float = 16
    lora_dropout: float = 0.0
    use_rslora: bool = False
    target_modules: str | Sequence[str] = "auto"
    exclude_modules: str | Sequence[str] | None = None
    modules_to_save: tuple[str, ...] = ()
    train_bias: str = "none"
    rank_pattern: Mapping[str, int] = dataclasses.field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = dataclasses.field(default_factory=dict)
    use_dora: bool = False
    init_lora_weights: bool | str = True

    def __post_init__(self) -> None:
        for name, r in _with_patterns("r", self.r, "rank_pattern", self.rank_pattern):
            allowed = isinstance(r, Integral) and not isinstance(r, bool) and r >= 1
            _require(allowed, name, r, "a positive integer")
        alphas = _with_patterns("lora_alpha", self.lora_alpha, "alpha_pattern", self.alpha_pattern)
        for name, alpha in alphas:
            allowed = isinstance(alpha, Real) and 0 < alpha < math.inf
            _require(allowed, name, alpha, "a positive number")
        p = self.lora_dropout
        _require(isinstance(p, Real) and 0 <= p < 1, "lora_dropout", p, "in [0, 1)")
        _require(isinstance(self.use_rslora, bool), "use_rslora", self.use_rslora, "a bool")
        _require(isinstance(self.use_dora, bool), "use_dora", self.use_dora, "a bool")
        init = self.init_lora_weights
        allowed = isinstance(init, bool | str) and init in INITIAL_WEIGHTS
        _require(allowed, "init_lora_weights", init, f"one of {INITIAL_WEIGHTS}")
        _require(self.train_bias in _BIAS, "train_bias", self.train_bias, f"one of {_BIAS}")

    @classmethod
    def from_peft(cls, config: Any) -> Self:
        """Read a peft ``LoraConfig``, or a dict of its fields.

        Parameters
        ----------
        config : peft.LoraConfig or mapping
            Missing fields get the default values of peft, where ``lora_alpha`` is 8.

        Returns
        -------
        AdapterConfig

        Raises
        ------
        ValueError
            If the configuration is not of type LoRA, or if a field requests an unsupported feature.
        """
        fields = dict(config if isinstance(config, Mapping) else config.to_dict())
        kind = fields.get("peft_type", "LORA")
        kind = getattr(kind, "value", kind)
        if kind != "LORA":
            raise ValueError(f"peft_type must be 'LORA', got {kind!r}.")
        fields = {name: value for name, value in fields.items() if name not in _IGNORED_FIELDS}
        targets = fields.pop("target_modules", None)
        known = {
            "r": fields.pop("r", 8),
            "lora_alpha": fields.pop("lora_alpha", 8),
            "lora_dropout": fields.pop("lora_dropout", 0.0),
            "use_rslora": fields.pop("use_rslora", False),
            "target_modules": "auto" if targets is None else _names("target_modules", targets),
            "exclude_modules": _names("exclude_modules", fields.pop("exclude_modules", None)),
            "modules_to_save": _modules_to_save(fields.pop("modules_to_save", None)),
            "train_bias": fields.pop("bias", "none"),
            "rank_pattern": _pattern("rank_pattern", fields.pop("rank_pattern", None)),
            "alpha_pattern": _pattern("alpha_pattern", fields.pop("alpha_pattern", None)),
            "use_dora": fields.pop("use_dora", False),
            "init_lora_weights": fields.pop("init_lora_weights", True),
        }
        unsupported = sorted(name for name, value in fields.items() if value)
        if unsupported:
            raise ValueError(
                f"These fields of the LoRA configuration are not supported: {unsupported}."
            )
        return cls(**known)

    def layer_params(self, name: str) -> dict[str, Any]:
        """Return the parameters of the LoRA layer that replaces the named layer.

        Parameters
        ----------
        name : str
            Full name of the layer.

        Returns
        -------
        dict of str to object
        """
        return {
            "r": _by_pattern(self.rank_pattern, name, self.r),
            "lora_alpha": _by_pattern(self.alpha_pattern, name, self.lora_alpha),
            "lora_dropout": self.lora_dropout,
            "use_rslora": self.use_rslora,
            "use_dora": self.use_dora,
            "init_lora_weights": self.init_lora_weights,
        }


@dataclasses.dataclass(frozen=True)
class NoiseConfig:
    """Configuration of the noise of Flat-LoRA.

    Parameters
    ----------
    sigma : float, default=0.1
        Size of the noise relative to the merged weight at the end of training.
    sigma_schedule : {"cosine", "linear", "constant"} or callable, default="cosine"
        How the strength grows during training; see :func:`noise_strength`.
    perturbation : {"weight", "local"}, default="weight"
        Whether the noise is drawn on the weights, or on the outputs of linear layers, independently
        for each sample.
    store_noise : bool, default=False
        Whether to keep a noisy copy of each weight during a step.
    n_noise : int, default=1
        Number of draws of the noise per step.

    Raises
    ------
    ValueError
        If a value is out of its range.

    Examples
    --------
    >>> from sklearn_ext.lora import NoiseConfig
    >>> NoiseConfig(sigma=0.05).sigma_schedule
    'cosine'
    """

    sigma: float = 0.1
    sigma_schedule: str | Callable[[float], float] = "cosine"
    perturbation: str = "weight"
    store_noise: bool = False
    n_noise: int = 1

    def __post_init__(self) -> None:
        allowed = isinstance(self.sigma, Real) and 0 <= self.sigma < math.inf
        _require(allowed, "sigma", self.sigma, "a non-negative number")
        schedule = self.sigma_schedule
        allowed = callable(schedule) or schedule in SCHEDULES
        _require(allowed, "sigma_schedule", schedule, f"a callable or one of {tuple(SCHEDULES)}")
        allowed = self.perturbation in _PERTURBATIONS
        _require(allowed, "perturbation", self.perturbation, f"one of {_PERTURBATIONS}")
        allowed = isinstance(self.n_noise, Integral) and self.n_noise >= 1
        _require(allowed, "n_noise", self.n_noise, "a positive integer")


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{name} must be {allowed}, got {value!r}.")


def _with_patterns(
    name: str, value: _Number, field: str, pattern: Mapping[str, _Number]
) -> list[tuple[str, _Number]]:
    """Return a value and those of a pattern for single layers, with their names in messages."""
    named: list[tuple[str, _Number]] = [(name, value)]
    named += [(f"{field}[{key!r}]", each) for key, each in pattern.items()]
    return named


def _by_pattern(pattern: Mapping[str, Any], name: str, default: Any) -> Any:
    matching = (key for key in pattern if pattern_matches(key, name))
    return next((pattern[key] for key in matching), default)


def pattern_matches(pattern: str, name: str) -> bool:
    """Return whether the name of a layer, or its end, matches a regular expression."""
    return matches_name(rf"(.*\.)?({pattern})", name)


def _names(field: str, value: Any) -> str | list[str] | None:
    if value is None or isinstance(value, str):
        return value
    valid = isinstance(value, Iterable) and all(isinstance(name, str) for name in value)
    _require(valid and not isinstance(value, Mapping), field, value, "a string or a list of them")
    return sorted(value)


def _modules_to_save(value: Any) -> tuple[str, ...]:
    _require(not isinstance(value, str), "modules_to_save", value, "a list of strings")
    return tuple(_names("modules_to_save", value) or ())


def _pattern(field: str, value: Any) -> dict[str, Any]:
    value = {} if value is None else value
    valid = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    _require(valid, field, value, "a mapping of patterns to numbers")
    return dict(value)
