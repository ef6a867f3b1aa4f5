"""The record of a request to delete samples."""

import html
import json
from dataclasses import asdict, dataclass, field
from typing import Any

NOT_CLAIMED = (
    "Copies and backups of the model or the data that were made before the request are unchanged.",
    "Storage hardware may keep overwritten blocks; files are rewritten by compact().",
    "Parameters that people chose after looking at the samples, such as those found by a search, "
    "are not chosen again.",
    "Predictions and intervals given out before the request are not recalled.",
)
_PINNED = "{} pinned samples stay: {} learned from them. Their ids are in pinned_."


@dataclass(frozen=True)
class DeletionCertificate:
    """The record of a deletion: the work that was done, and the limits of the claim.

    Parameters
    ----------
    request : int
        Number of the request since the pipeline was fitted, from one.
    ids : list
        Ids of the deleted samples.
    time : str
        Time of the request in UTC, in ISO format.
    n_retained : int
        Number of samples left after the request.
    model_before, model_after : str
        Hashes of the fitted model, before and after the request.
    work : list of str
        The steps that were updated or fitted again, and why they were.
    seconds : float
        Time that this took, without writing the request to the disk.
    durable : bool
        Whether the request was on disk when it returned.
    audit : dict or None, default=None
        Result of the audit: the number of outputs that were compared, and the largest absolute
        difference to a pipeline fitted without the samples, divided by the largest output.
    not_claimed : list of str
        Limits of the certificate, in sentences.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext import ForgettingPipeline
    >>> X = np.arange(20.0).reshape(10, 2)
    >>> pipeline = ForgettingPipeline().fit(X, X.sum(axis=1))
    >>> certificate = pipeline.forget([3, 5]).certificate(audit=True)
    >>> certificate.ids, certificate.n_retained, certificate.audit["difference"] < 1e-9
    ([3, 5], 8, True)
    """

    request: int
    ids: list[Any]
    time: str
    n_retained: int
    model_before: str
    model_after: str
    work: list[str]
    seconds: float
    durable: bool
    audit: dict[str, float] | None = None
    not_claimed: list[str] = field(default_factory=lambda: list(NOT_CLAIMED))

    def to_json(self) -> str:
        """Return the certificate as JSON.

        Returns
        -------
        str
        """
        return json.dumps(asdict(self), indent=2)

    def __str__(self) -> str:
        lines = [f"{name.replace('_', ' ')}: {value}" for name, value in asdict(self).items()]
        return "Deletion certificate\n" + "\n".join(lines)

    def _repr_html_(self) -> str:
        def cell(value: Any) -> str:
            if isinstance(value, list):
                return "<br>".join(html.escape(str(item)) for item in value)
            return html.escape(str(value))

        rows = "".join(
            f"<tr><th style='text-align: left'>{name.replace('_', ' ')}</th>"
            f"<td style='text-align: left'>{cell(value)}</td></tr>"
            for name, value in asdict(self).items()
        )
        return f"<table><caption>Deletion certificate</caption>{rows}</table>"


def not_claimed(n_pinned: int, learned: list[str]) -> list[str]:
    """Return the limits of a certificate, in sentences."""
    pinned = [_PINNED.format(n_pinned, ", ".join(learned))] if learned else []
    return [*pinned, *NOT_CLAIMED]
