"""Networks, skorch nets and files shared by all estimators that use torch.

Names outside `__all__` are for this package only.
"""

from ..utils._random import draw_seed as draw_seed
from ._batches import (
    LabeledDataset as LabeledDataset,
    NetSamples as NetSamples,
    TensorBatches,
    loader_params as loader_params,
    minibatches as minibatches,
    n_minibatches as n_minibatches,
    read_batches as read_batches,
)
from ._conventional_net import (
    ConventionalNet as ConventionalNet,
    StopTraining as StopTraining,
    copied_net as copied_net,
    interrupts_raised as interrupts_raised,
)
from ._device import (
    PRECISIONS as PRECISIONS,
    TorchArrays as TorchArrays,
    mixed_precision as mixed_precision,
    resolve_device,
    seeded as seeded,
    torch_generator as torch_generator,
)
from ._fitted_nets import (
    class_codes as class_codes,
    class_labels as class_labels,
    fitted_copy as fitted_copy,
    is_fitted_net as is_fitted_net,
    loss_of_outputs as loss_of_outputs,
)
from ._input import (
    AnySamples as AnySamples,
    check_form as check_form,
    concatenated as concatenated,
    module_inputs as module_inputs,
    n_samples_of as n_samples_of,
    sample_and_target as sample_and_target,
    sample_shape as sample_shape,
    select_samples as select_samples,
    stacked as stacked,
    takes_integers as takes_integers,
    targets_in as targets_in,
    validate_input as validate_input,
)
from ._modules import (
    MLP,
    SmallCNN,
    copied_module as copied_module,
    default_module as default_module,
    device_of as device_of,
    has_finite_parameters as has_finite_parameters,
    parameter_dict as parameter_dict,
    uncompiled as uncompiled,
)
from ._nets import (
    NetClassifier,
    NetRegressor,
    encode_labels as encode_labels,
    net_from_module,
)
from ._outputs import (
    Head,
    checked_head,
    head_of as head_of,
    head_parameters as head_parameters,
    in_single_precision as in_single_precision,
    infer_with_features as infer_with_features,
    log_probabilities as log_probabilities,
    main_output as main_output,
    outputs_and_features as outputs_and_features,
    penultimate as penultimate,
    predict_logits as predict_logits,
    raw_outputs as raw_outputs,
)
from ._schedules import CosineDecay, cosine_decay as cosine_decay
from .files import LazyTensors, load_tensors, save_tensors

__all__ = [
    "MLP",
    "CosineDecay",
    "Head",
    "LazyTensors",
    "NetClassifier",
    "NetRegressor",
    "SmallCNN",
    "TensorBatches",
    "checked_head",
    "load_tensors",
    "net_from_module",
    "resolve_device",
    "save_tensors",
]
