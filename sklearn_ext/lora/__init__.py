"""Low-rank adaptation trained under random perturbation of the merged weight (Flat-LoRA)."""

from ._adapters import load_adapter, lora_state_dict, save_adapter
from ._callback import FlatLoRACallback
from ._injection import inject_lora, lora_layers, merge_lora
from ._nets import FlatLoRAClassifier, FlatLoRARegressor

__all__ = [
    "FlatLoRACallback",
    "FlatLoRAClassifier",
    "FlatLoRARegressor",
    "inject_lora",
    "load_adapter",
    "lora_layers",
    "lora_state_dict",
    "merge_lora",
    "save_adapter",
]
