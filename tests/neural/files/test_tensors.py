"""Files of tensors."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from sklearn_ext.neural import LazyTensors, load_tensors, save_tensors
from sklearn_ext.neural.files import read_file
from tests.files import damaged, killed_at


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_tensors_round_trip_through_a_file(tmp_path, name):
    tensors = {"a": torch.randn(3, 2).T, "b.c": torch.arange(4)}
    path = tmp_path / name
    if path.suffix == ".pt":
        torch.save(tensors, path)
    else:
        save_tensors(path, tensors, {"made": "here"})
        assert LazyTensors(path).metadata["made"] == "here"
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
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_tensors(tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"type of the tensor 'a' must be .* got torch.complex128"):
        save_tensors(tmp_path / "w.safetensors", {"a": torch.ones(1, dtype=torch.complex128)})
    torch.save({"a": Malicious()}, tmp_path / "malicious.pt")
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    save_tensors(tmp_path / "whole.safetensors", {"a": torch.ones(100)})
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-50])
    (tmp_path / "noise.pt").write_bytes(whole)
    for name in ("malicious.pt", "list.pt", "cut.safetensors", "noise.pt"):
        with pytest.raises(ValueError, match="not a readable file"):
            load_tensors(tmp_path / name)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64,
        torch.bfloat16,
        torch.float16,
        torch.float8_e4m3fn,
        torch.int8,
        torch.uint16,
        torch.bool,
        torch.complex64,
    ],
)
def test_files_equal_those_of_the_safetensors_library(tmp_path, dtype):
    tensors = {
        "b": torch.arange(6).reshape(2, 3).to(dtype),
        "scalar": torch.ones(()).to(dtype),
        "empty": torch.zeros(0, 3, dtype=dtype),
        "a": torch.ones(3, dtype=torch.uint8),
    }
    save_tensors(tmp_path / "ours.safetensors", tensors)
    assert (tmp_path / "ours.safetensors").stat().st_mode & 0o400
    loaded = safetensors.torch.load_file(tmp_path / "ours.safetensors")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(
            loaded[name].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)
        )


def test_tensors_that_share_memory_are_stored_in_full(tmp_path):
    shared = torch.arange(6.0)
    tensors = {"a": shared, "tied": shared, "part": shared[2:4], "expanded": shared[:1].expand(3)}
    save_tensors(tmp_path / "w.safetensors", tensors)
    for name, tensor in load_tensors(tmp_path / "w.safetensors").items():
        assert torch.equal(tensor, tensors[name])


def test_old_files_of_torch_are_read(tmp_path):
    torch.save({"w": torch.eye(2)}, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(load_tensors(tmp_path / "w.pt")["w"], torch.eye(2))


def test_damaged_files_raise_or_have_the_right_content(tmp_path):
    path, rng = tmp_path / "w.safetensors", np.random.default_rng(0)
    tensors = {"a": torch.randn(20, 3), "b": torch.arange(7)}
    save_tensors(path, tensors, {"made": "here"})
    whole = path.read_bytes()
    n_loaded = 0
    for _ in range(300):
        path.write_bytes(damaged(whole, rng))
        try:
            loaded, _ = read_file(path)
        except ValueError:
            continue
        n_loaded += 1
        assert all(torch.equal(tensor, loaded[name]) for name, tensor in tensors.items())
    assert n_loaded < 30


def write_and_read(path, k):
    for _ in range(20):
        save_tensors(path, {"a": torch.full((1000,), float(k))})
        (value,) = load_tensors(path)["a"].unique().tolist()
        assert value in range(4)


def test_threads_that_write_one_file_do_not_interfere(tmp_path):
    path, errors = tmp_path / "w.safetensors", []

    def write(k):
        try:
            write_and_read(path, k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_processes_that_write_one_file_do_not_interfere(tmp_path):
    path, children = tmp_path / "w.safetensors", []
    for k in range(4):
        children.append(os.fork())
        if children[-1] == 0:
            status = 1
            try:
                write_and_read(path, k)
                status = 0
            finally:
                os._exit(status)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert list(tmp_path.iterdir()) == [path]


def test_drafts_of_killed_processes_are_deleted(tmp_path):
    path = tmp_path / "w [1].safetensors"
    save_tensors(path, {"a": torch.zeros(3)})
    assert killed_at("fsync", lambda: save_tensors(path, {"a": torch.ones(3)}))
    assert torch.equal(load_tensors(path)["a"], torch.zeros(3))
    assert len(list(tmp_path.iterdir())) == 2
    other = tmp_path / ".other.safetensors.00.part"
    other.write_bytes(b"")  # the draft of another file
    save_tensors(path, {"a": torch.ones(3)})
    assert set(tmp_path.iterdir()) == {path, other}


def test_a_failed_write_leaves_no_draft(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="full"):
        save_tensors(tmp_path / "w.safetensors", {"a": torch.zeros(3)})
    assert list(Path(tmp_path).iterdir()) == []
