"""Layers with low-rank updates: our own, and those of peft.

Names in this folder are for this package only.
"""

from ._frozen import (
    AdaptableLayer as AdaptableLayer,
    is_linear as is_linear,
    noisy_output as noisy_output,
)
from ._low_rank import (
    LoRAConv1d as LoRAConv1d,
    LoRAConv2d as LoRAConv2d,
    LoRAEmbedding as LoRAEmbedding,
    LoRALayer as LoRALayer,
    LoRALinear as LoRALinear,
    with_low_rank_update as with_low_rank_update,
)
from ._peft import PeftLayer as PeftLayer, is_peft_layer as is_peft_layer
from ._selection import (
    check_names as check_names,
    fused_attention as fused_attention,
    is_within as is_within,
    norm_layers as norm_layers,
    saved_modules as saved_modules,
    target_layers as target_layers,
    tied_weights as tied_weights,
)
