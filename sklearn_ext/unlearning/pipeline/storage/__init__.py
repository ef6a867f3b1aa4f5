"""Pipelines in files: a folder with a log of requests, and estimators without pickle."""

from ._folder import LockedError, RequestFolder
from ._serialization import NotStorableError, Tensors, decode, encode
from ._snapshot import (
    decoded_model,
    decoded_request,
    encoded_model,
    encoded_request,
    hash_of_head,
    hash_of_steps,
)

__all__ = [
    "LockedError",
    "NotStorableError",
    "RequestFolder",
    "Tensors",
    "decode",
    "decoded_model",
    "decoded_request",
    "encode",
    "encoded_model",
    "encoded_request",
    "hash_of_head",
    "hash_of_steps",
]
