"""What can be done with trained adapters: merge, store, and measure."""

import copy
import json
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from safetensors import safe_open
from sklearn.utils._param_validation import Interval, validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted
from skorch.dataset import get_len

from ..neural import load_tensors, seeded, validate_input
from ..utils._atomic import atomic_fit
from ._adapted_module import derived_seeds
from ._adapters import WEIGHTS_FILE, load_lora_state_dict, read_config, save_adapter
from ._injection import lora_layers, merge_lora
from ._sharpness import expected_sharpness

_METADATA = "sklearn_ext"
_SHARPNESS_CONSTRAINTS = {
    "sigma": [Interval(Real, 0, None, closed="left")],
    "n_draws": [Interval(Integral, 1, None, closed="left")],
}


class TrainedAdapters:
    """Mixin with the methods of a fitted net with adapters."""

    def merge(self):
        """Compute with the merged weights from now on, which saves the products of the update.

        The weights and the factors are kept, so that :meth:`unmerge` restores them bit for bit.

        Returns
        -------
        self : object
        """
        check_is_fitted(self)
        for layer in lora_layers(self.module_).values():
            layer.merge()
        return self

    def unmerge(self):
        """Compute with the frozen weights and the factors again.

        Returns
        -------
        self : object
        """
        for layer in lora_layers(self.module_).values():
            layer.unmerge()
        return self

    def merged_module(self):
        """Return a copy of the trained network with plain layers only.

        Returns
        -------
        torch.nn.Module
            In evaluation mode, with all parameters trainable.
        """
        check_is_fitted(self)
        return merge_lora(copy.deepcopy(self.module_)).eval()

    def expected_sharpness(self, X, y, *, sigma=0.1, n_draws=20):
        r"""Rise of the loss under noise on the merged weights of the adapted layers.

        The mean of :math:`L(W' + \varepsilon) - L(W')` over draws, with the noise of the training
        at a strength of `sigma`. It compares networks of one architecture whose losses are alike.

        Parameters
        ----------
        X : array-like
            As in `fit`.
        y : array-like
            As in `fit`.
        sigma : float, default=0.1
        n_draws : int, default=20

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If `sigma` is negative or there are no draws.
        """
        check_is_fitted(self)
        validate_parameter_constraints(
            _SHARPNESS_CONSTRAINTS,
            {"sigma": sigma, "n_draws": n_draws},
            caller_name=f"{type(self).__name__}.expected_sharpness",
        )
        X, y = validate_input(self, X, y, reset=False)
        dataset = self.get_dataset(X, self._encode(y, False, None))
        layers = lora_layers(self.module_).values()
        _, seed = derived_seeds(self.random_state)
        return expected_sharpness(
            lambda: self._mean_loss(dataset), layers, sigma=sigma, n_draws=n_draws, seed=seed
        )

    def _mean_loss(self, dataset):
        total, n = 0.0, 0
        for batch in self.get_iterator(dataset, training=False):
            n_rows = get_len(batch[0])
            total += self.validation_step(batch)["loss"].item() * n_rows
            n += n_rows
        return total / n

    def save_adapter(self, path):
        """Write what was trained to a folder, in peft's format.

        The files are ``adapter_model.safetensors`` and ``adapter_config.json``. Classes and
        shapes are kept beside the weights for :meth:`load_adapter`; peft does not mind them.

        Parameters
        ----------
        path : str or path-like
            Folder, made if it is not there.
        """
        check_is_fitted(self)
        facts = json.dumps({name: self._fact(name) for name in self._fact_names()})
        save_adapter(self.module_, path, metadata={_METADATA: facts})

    @atomic_fit
    def load_adapter(self, path, X=None, y=None):
        """Build the network anew and put the adapters of a folder in.

        The folder may be of :meth:`save_adapter` or of peft's ``save_pretrained``; its
        configuration takes the place of the parameters of this net.

        Parameters
        ----------
        path : str or path-like
            Folder.
        X : array-like or None, default=None
            Some rows, as in `fit`: their shape is what a net that was never fitted lacks if the
            folder is of peft.
        y : array-like or None, default=None
            Targets of `X`; of a classifier, labels among which all classes are.

        Returns
        -------
        self : object
            The net, fitted.

        Raises
        ------
        FileNotFoundError
            If a file is missing.
        ValueError
            If the adapter does not fit the network, or shapes are unknown.
        """
        self._stored_config = read_config(path)
        self._learn_facts(path, X, y)
        try:
            seed, _ = derived_seeds(self.random_state)
            with seeded(seed, self.device):
                self.initialize()
        finally:
            del self._stored_config
        load_lora_state_dict(self.module_, load_tensors(Path(path) / WEIGHTS_FILE))
        return self

    def _learn_facts(self, path, X, y):
        if X is not None:
            X, y = validate_input(self, X, y, reset=True)
            self._encode(y, True, None)
            return
        with safe_open(Path(path) / WEIGHTS_FILE, framework="pt") as file:
            facts = (file.metadata() or {}).get(_METADATA)
        if facts is not None:
            for name, value in json.loads(facts).items():
                setattr(self, name, self._restored(name, value))
        elif not hasattr(self, "n_outputs_"):
            raise ValueError(
                f"{str(path)!r} does not tell the shape of the data, and the net is not fitted: "
                "pass some rows X and their y."
            )

    def _fact_names(self):
        names = ("input_shape_", "n_features_in_", "feature_names_in_", "n_outputs_")
        return [name for name in (*names, *self._own_facts) if hasattr(self, name)]

    def _fact(self, name):
        value = getattr(self, name)
        return value.tolist() if isinstance(value, np.ndarray) else value

    def _restored(self, name, value):
        if name == "feature_names_in_":
            return np.asarray(value, dtype=object)
        if name == "input_shape_":
            return tuple(value)
        return np.asarray(value) if isinstance(value, list) else value
