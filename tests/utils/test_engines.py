import pytest

from sklearn_ext.utils._validation import computes_with_numba


@pytest.mark.parametrize("device", [None, "cpu"])
def test_auto_is_numba_on_the_cpu(device):
    assert computes_with_numba("auto", device)
    assert computes_with_numba("numba", device)
    assert not computes_with_numba("torch", device)


@pytest.mark.parametrize("device", ["cuda", "mps", "auto"])
def test_other_devices_select_torch(device):
    assert not computes_with_numba("auto", device)
    with pytest.raises(ValueError, match=f"CPU only, got device='{device}'"):
        computes_with_numba("numba", device)
