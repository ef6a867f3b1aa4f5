"""What an adapter is made of, in the words of peft's LoraConfig."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

# Fields of a LoraConfig that say nothing about what is computed here.
_BOOKKEEPING = {
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
}
_BIAS = ("none", "all", "lora_only")


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """Adapters of a network.

    Attributes
    ----------
    r, lora_alpha, lora_dropout, use_rslora
        As in :class:`~sklearn_ext.lora._layers.LoRALayer`.
    target_modules, exclude_modules
        As in :func:`~sklearn_ext.lora.inject_lora`.
    modules_to_save : tuple of str
        Suffixes of the names of modules that are trained as they are.
    train_bias : {"none", "all", "lora_only"}
    rank_pattern, alpha_pattern : dict of str to number
        Ranks and alphas of layers whose name, or whose name's end, matches the regular expression.
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

    def __post_init__(self):
        for r in (self.r, *self.rank_pattern.values()):
            _require(isinstance(r, Integral) and r >= 1, "r", r, "an integer of at least 1")
        for alpha in (self.lora_alpha, *self.alpha_pattern.values()):
            allowed = isinstance(alpha, Real) and 0 < alpha < math.inf
            _require(allowed, "lora_alpha", alpha, "a positive number")
        p = self.lora_dropout
        _require(isinstance(p, Real) and 0 <= p < 1, "lora_dropout", p, "in [0, 1)")
        _require(self.train_bias in _BIAS, "train_bias", self.train_bias, f"one of {_BIAS}")

    def layer_params(self, name):
        """Arguments of the adapted layer of a name."""
        return {
            "r": _by_pattern(self.rank_pattern, name, self.r),
            "lora_alpha": _by_pattern(self.alpha_pattern, name, self.lora_alpha),
            "lora_dropout": self.lora_dropout,
            "use_rslora": self.use_rslora,
        }


def _require(condition, name, value, allowed):
    if not condition:
        raise ValueError(f"{name} must be {allowed}, got {value!r}.")


def _by_pattern(pattern, name, default):
    matching = (key for key in pattern if re.match(rf"(.*\.)?({key})$", name))
    return next((pattern[key] for key in matching), default)


def from_lora_config(config: Any) -> AdapterConfig:
    """Read a peft ``LoraConfig``, or a dict of its fields.

    Parameters
    ----------
    config : peft.LoraConfig or mapping

    Returns
    -------
    AdapterConfig
        Fields that are not there are as in peft: ``lora_alpha`` is 8.

    Raises
    ------
    ValueError
        If it is of another type than LoRA, or a field asks for what is not supported.
    """
    fields = dict(config if isinstance(config, Mapping) else config.to_dict())
    kind = fields.get("peft_type", "LORA")
    kind = getattr(kind, "value", kind)
    if kind != "LORA":
        raise ValueError(f"The adapter must be of peft_type 'LORA', got {kind!r}.")
    fields = {name: value for name, value in fields.items() if name not in _BOOKKEEPING}
    if fields.pop("init_lora_weights", True) is not True:
        raise ValueError("init_lora_weights must be True: A is drawn and B is zero.")
    targets = fields.pop("target_modules", None)
    known = {
        "r": fields.pop("r", 8),
        "lora_alpha": fields.pop("lora_alpha", 8),
        "lora_dropout": fields.pop("lora_dropout", 0.0),
        "use_rslora": fields.pop("use_rslora", False),
        "target_modules": "auto" if targets is None else _names(targets),
        "exclude_modules": _names(fields.pop("exclude_modules", None)),
        "modules_to_save": tuple(_names(fields.pop("modules_to_save", None)) or ()),
        "train_bias": fields.pop("bias", "none"),
        "rank_pattern": fields.pop("rank_pattern", None) or {},
        "alpha_pattern": fields.pop("alpha_pattern", None) or {},
    }
    unsupported = sorted(name for name, value in fields.items() if value)
    if unsupported:
        raise ValueError(
            f"These fields of the LoRA configuration are not supported: {unsupported}."
        )
    return AdapterConfig(**known)


def _names(value):
    return value if value is None or isinstance(value, str) else sorted(value)
