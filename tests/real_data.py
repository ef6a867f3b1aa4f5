"""Load real data that do not ship with the dependencies, or skip the test."""

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks._data import MissingDataError


def loaded_or_skipped(load: Callable[..., Any], *args: Any) -> Any:
    """Call a loader of the benchmarks, and skip the test if the data are not available."""
    try:
        return load(*args)
    except MissingDataError as error:
        pytest.skip(str(error))
