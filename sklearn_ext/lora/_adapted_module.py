"""The network of a net: pretrained weights, frozen, with adapters."""

import dataclasses
import inspect
import math
from numbers import Integral, Real

from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from torch import nn

from ..utils._random import local_random_state
from ..utils._warnings import warn_caller
from ._config import AdapterConfig, from_lora_config
from ._injection import inject, lora_layers, norm_layers, saved_modules
from ._noise import SCHEDULES
from ._pretrained import load_pretrained, pretrained_state

_SEED_BOUND = 2**31 - 1


class AdaptedModule:
    """Mixin that builds the module of a net, and checks the parameters."""

    _parameter_constraints = {
        "r": [Interval(Integral, 1, None, closed="left")],
        "lora_alpha": [Interval(Real, 0, None, closed="neither")],
        "lora_dropout": [Interval(Real, 0, 1, closed="left")],
        "use_rslora": ["boolean"],
        "target_modules": [str, list, tuple],
        "exclude_modules": [str, list, tuple, None],
        "modules_to_save": [list, tuple, None],
        "train_bias": [StrOptions({"none", "all", "lora_only"})],
        "train_norm": ["boolean"],
        "sigma": [Interval(Real, 0, None, closed="left")],
        "sigma_schedule": [StrOptions(set(SCHEDULES)), callable],
        "perturbation": [StrOptions({"weight", "local"})],
        "store_noise": ["boolean"],
        "n_noise": [Interval(Integral, 1, None, closed="left")],
    }

    def set_params(self, **params):
        """Set parameters; see :class:`skorch.NeuralNet`.

        Parameters
        ----------
        **params
            Values by name.

        Returns
        -------
        self : object
        """
        # skorch takes what begins with "module" for an argument of the module.
        own = {name: params.pop(name) for name in ("modules_to_save",) if name in params}
        super().set_params(**params)
        vars(self).update(own)
        return self

    def get_params_for(self, prefix):
        """Collect the arguments of a part of the net.

        A class of modules whose constructor asks for `n_features` or `n_outputs` gets them from
        the data, unless they are given.

        Parameters
        ----------
        prefix : str
            Name of the part, such as "module".

        Returns
        -------
        dict
        """
        params = super().get_params_for(prefix)
        builds = callable(self.module) and not isinstance(self.module, nn.Module)
        if prefix != "module" or not builds or not hasattr(self, "n_outputs_"):
            return params
        sizes = {"n_features": math.prod(self.input_shape_), "n_outputs": self.n_outputs_}
        wanted = inspect.signature(self.module).parameters
        return {name: size for name, size in sizes.items() if name in wanted} | params

    def initialize_module(self):
        """Build the module, load the pretrained weights, freeze them, and put adapters in."""
        self._validate_own_params()
        super().initialize_module()
        given = isinstance(self.module, nn.Module) and not self.get_params_for("module")
        module = self.module_
        config = self._adapter_config()
        if self.pretrained is not None:
            replaceable = list(saved_modules(module, config))
            if self.train_norm:
                replaceable += [name for name, _ in norm_layers(module)]
            load_pretrained(module, pretrained_state(self.pretrained), replaceable)
        elif not given:
            warn_caller("pretrained is None: the base weights are random.")
        seed, _ = derived_seeds(self.random_state)
        for message in inject(module, config, train_norm=self.train_norm, random_state=seed):
            warn_caller(message)
        self._describe(module)
        return self

    def _validate_own_params(self):
        params = {name: getattr(self, name) for name in self._parameter_constraints}
        validate_parameter_constraints(
            self._parameter_constraints, params, caller_name=type(self).__name__
        )

    def _adapter_config(self):
        given = vars(self).get("_stored_config")
        if given is not None:
            return given
        if self.lora_config is not None:
            return from_lora_config(self.lora_config)
        names = [field.name for field in dataclasses.fields(AdapterConfig)]
        params = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return AdapterConfig(**params | {"modules_to_save": tuple(self.modules_to_save or ())})

    def _describe(self, module):
        layers = lora_layers(module)
        self.lora_layers_ = {
            name: {"shape": tuple(layer.base_layer.weight.shape), "r": layer.r}
            for name, layer in layers.items()
        }
        self.target_modules_ = list(layers)
        sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
        self.n_total_ = sum(size for size, _ in sizes)
        self.n_trainable_ = sum(size for size, trained in sizes if trained)

    def get_all_learnable_params(self):
        """Yield names and parameters that are trained, for the optimizer and for callbacks.

        Yields
        ------
        tuple of str and torch.nn.Parameter
        """
        for name, parameter in super().get_all_learnable_params():
            if parameter.requires_grad:
                yield name, parameter


def derived_seeds(random_state):
    """Return seeds of the factors and of the noise; the draw before them is that of new weights."""
    _, factors, noise = local_random_state(random_state).randint(_SEED_BOUND, size=3)
    return int(factors), int(noise)
