"""Files of tensors."""

import pytest
import torch

from sklearn_ext.neural import (
    LazyTensors,
    load_tensors,
    save_tensors,
)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_tensors_round_trip_through_a_file(tmp_path, name):
    tensors = {"a": torch.randn(3, 2).T, "b.c": torch.arange(4)}
    path = tmp_path / name
    if path.suffix == ".pt":
        torch.save(tensors, path)
    else:
        save_tensors(path, tensors, {"made": "here"})
    assert [p.name for p in tmp_path.iterdir()] == [name]
    for key, tensor in load_tensors(path).items():
        assert torch.equal(tensor, tensors[key])
    lazy = LazyTensors(path)
    assert list(lazy) == list(lazy.keys())
    assert set(lazy) == set(tensors)
    with pytest.raises(KeyError):
        lazy["d"]


class Malicious:
    def __reduce__(self):
        return (pytest.fail, ("executed",))


def test_bad_files_are_rejected_without_running_code(tmp_path):
    with pytest.raises(ValueError, match=r"end with '.safetensors'"):
        save_tensors(tmp_path / "w.npz", {})
    with pytest.raises(ValueError, match="end with one of"):
        load_tensors(tmp_path / "w.npz")
    with pytest.raises(FileNotFoundError, match="no file"):
        load_tensors(tmp_path / "w.pt")
    torch.save({"a": Malicious()}, tmp_path / "malicious.pt")
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    save_tensors(tmp_path / "whole.safetensors", {"a": torch.ones(100)})
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-50])
    (tmp_path / "noise.pt").write_bytes(whole)
    for name in ("malicious.pt", "list.pt", "cut.safetensors", "noise.pt"):
        with pytest.raises(ValueError, match="not a readable file of named tensors"):
            load_tensors(tmp_path / name)
