"""Real data that are not shipped: tests on them run where the folder is, and say so where not."""

import pytest

from benchmarks._data import MissingDataError


def loaded_or_skipped(load, *args):
    """Call a loader of the benchmarks; skip the test with its words if the data are not there."""
    try:
        return load(*args)
    except MissingDataError as error:
        pytest.skip(str(error))
