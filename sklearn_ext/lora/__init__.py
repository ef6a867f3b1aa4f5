"""Low-rank adaptation trained under random perturbation of the merged weight (Flat-LoRA)."""

from ._adapter_files import load_adapter, lora_state_dict, save_adapter
from ._config import AdapterConfig, NoiseConfig
from ._estimators import FlatLoRAClassifier, FlatLoRARegressor, NextTokenLoss
from ._injection import (
    initialize_from_gradients,
    inject_lora,
    lora_layers,
    lora_plus_groups,
    merge_lora,
)
from ._merging import merge_adapters
from ._noise import default_sigma, noise_scale, noise_strength
from ._noise_process import NoiseProcess, expected_sharpness
from ._training_loops import FlatLoRACallback, FlatLoRATrainerCallback, flat_lora

__all__ = [
    "AdapterConfig",
    "FlatLoRACallback",
    "FlatLoRAClassifier",
    "FlatLoRARegressor",
    "FlatLoRATrainerCallback",
    "NextTokenLoss",
    "NoiseConfig",
    "NoiseProcess",
    "default_sigma",
    "expected_sharpness",
    "flat_lora",
    "initialize_from_gradients",
    "inject_lora",
    "load_adapter",
    "lora_layers",
    "lora_plus_groups",
    "lora_state_dict",
    "merge_adapters",
    "merge_lora",
    "noise_scale",
    "noise_strength",
    "save_adapter",
]
