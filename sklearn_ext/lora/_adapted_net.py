"""What the classifier and the regressor have in common: a skorch net that trains adapters."""

import torch

from ._adapted_module import AdaptedModule
from ._noisy_training import NoisyTraining
from ._trained_adapters import TrainedAdapters


class AdaptedNet(NoisyTraining, AdaptedModule, TrainedAdapters):
    """Mixin for a net of :mod:`sklearn_ext.neural`, before it in the order of bases."""

    def __init__(
        self,
        module,
        *,
        pretrained=None,
        r=8,
        lora_alpha=16,
        lora_dropout=0.0,
        use_rslora=False,
        target_modules="auto",
        exclude_modules=None,
        modules_to_save=None,
        train_bias="none",
        train_norm=False,
        sigma=0.1,
        sigma_schedule="cosine",
        perturbation="weight",
        store_noise=False,
        n_noise=1,
        lora_config=None,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        random_state=None,
        **params,
    ):
        super().__init__(module, optimizer=optimizer, lr=lr, random_state=random_state, **params)
        self.pretrained = pretrained
        self.r = r
        self.lora_alpha = lora_alpha
        self.lora_dropout = lora_dropout
        self.use_rslora = use_rslora
        self.target_modules = target_modules
        self.exclude_modules = exclude_modules
        self.modules_to_save = modules_to_save
        self.train_bias = train_bias
        self.train_norm = train_norm
        self.sigma = sigma
        self.sigma_schedule = sigma_schedule
        self.perturbation = perturbation
        self.store_noise = store_noise
        self.n_noise = n_noise
        self.lora_config = lora_config
