"""A limit on the accuracy that an unlearner may lose on the retained samples."""

from dataclasses import dataclass

import numpy as np
import torch

from ...utils._warnings import warn_caller
from ..steps import Record
from ._net_data import NetData
from .labels import draw_samples

_WATCHED_RETAINED_SAMPLES = 500
_WATCHED_FORGET_SAMPLES = 250
_FRACTIONS = (0.5, 0.25, 0.125, 0.0)  # of a change, tried in turn if all of it loses too much


@dataclass(frozen=True)
class RetainedLimit:
    """A limit on the accuracy that an unlearner may lose on the retained samples.

    Parameters
    ----------
    tolerance : float or None, default=0.05
        Largest loss of accuracy on the retained samples. None means no limit.
    on_loss : {"warn", "raise"}, default="warn"
        Whether to warn or to raise an error at the end if more is lost.

    Examples
    --------
    >>> from sklearn_ext.unlearning.networks import RetainedLimit
    >>> RetainedLimit(tolerance=0.01, on_loss="raise").tolerance
    0.01
    """

    tolerance: float | None = 0.05
    on_loss: str = "warn"


DEFAULT_LIMIT = RetainedLimit()


class TrustRegion:
    """Watches retained samples, and takes back changes of a network that lose too much on them.

    Parameters
    ----------
    data : NetData
        The original network, not changed yet, and its samples.
    limit : RetainedLimit
        The limit.
    rng : numpy.random.RandomState
        Draws the samples to watch.

    Attributes
    ----------
    rate : float
        Factor of the learning rate; it halves with every change that was too large.
    inside : bool
        Whether the last accuracy that was measured is within the limit.
    """

    def __init__(self, data: NetData, limit: RetainedLimit, rng: np.random.RandomState) -> None:
        self._data = data
        self._limit = limit
        self._retained = draw_samples(data.retain, _WATCHED_RETAINED_SAMPLES, rng)
        self._forget = draw_samples(data.forget, _WATCHED_FORGET_SAMPLES, rng)
        self._first = self._last = self._retained_accuracy()
        self._safe = self._state()
        self.rate = 1.0
        self.inside = True

    def forget_accuracy(self) -> float:
        """Return the present accuracy on the samples to forget that are watched."""
        return self._accuracy(self._forget)

    def check(self, *, step_back: bool = True) -> Record:
        """Measure the network, and shorten its change if it has lost too much.

        The change is everything since the last check that found the network within the limit.
        After `start_anew`, no change is shortened until a check has found the network within the
        limit again.

        Parameters
        ----------
        step_back : bool, default=True
            Whether to shorten the change now. Otherwise only `rate` is halved.

        Returns
        -------
        dict
            The accuracies "FA" on samples to forget and "RA" on retained samples, and the fraction
            "kept" of the change.
        """
        kept = 1.0
        self._last = self._retained_accuracy()
        if self._allowed():
            self.inside = True
            self._safe = self._state()
        elif step_back and self._safe is not None:
            self.rate /= 2
            changed = self._state()
            for kept in _FRACTIONS:
                self._interpolate(changed, kept)
                self._last = self._retained_accuracy()
                if self._allowed():
                    break
            self.inside = self._allowed()
            self._safe = self._state()
        else:
            self.rate /= 2
            self.inside = False
        return {"FA": self.forget_accuracy(), "RA": self._last, "kept": kept}

    def start_anew(self) -> None:
        """Accept the present weights, which may be new, whatever accuracy they have."""
        self._safe = None
        self.inside = False

    def close(self) -> None:
        """Warn or raise if the network has lost more than allowed.

        Raises
        ------
        ValueError
            If it has, and `on_loss` of the limit is "raise".
        """
        if self._allowed():
            return
        message = (
            f"The accuracy on {len(self._retained)} retained samples fell from "
            f"{100 * self._first:.1f} to {100 * self._last:.1f} %, which is more than "
            f"retained_tolerance={self._limit.tolerance} allows. Use smaller steps, such as a "
            "smaller learning_rate, or retrain."
        )
        if self._limit.on_loss == "raise":
            raise ValueError(message)
        warn_caller(message)

    def _allowed(self) -> bool:
        tolerance = self._limit.tolerance
        return tolerance is None or self._last >= self._first - tolerance

    def _accuracy(self, index: torch.Tensor) -> float:
        hits = self._data.outputs(index).argmax(dim=1) == self._data.codes[index]
        return hits.double().mean().item()

    def _retained_accuracy(self) -> float:
        return self._accuracy(self._retained)

    def _state(self) -> dict[str, torch.Tensor] | None:
        if self._limit.tolerance is None:
            return None
        return {name: v.detach().clone() for name, v in self._data.module.state_dict().items()}

    @torch.no_grad()
    def _interpolate(self, changed: dict[str, torch.Tensor] | None, fraction: float) -> None:
        if changed is None or self._safe is None:
            return
        for name, value in self._data.module.state_dict().items():
            if value.is_floating_point() or value.is_complex():
                value.copy_(self._safe[name] + fraction * (changed[name] - self._safe[name]))
