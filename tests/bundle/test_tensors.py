"""seqlib.save and seqlib.load of modules and trees of tensors."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import seqlib
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Tensor
from seqlib.optim import AdamW
from seqlib.util.errors import DataError, SeqlibError, UsageError


def _linear(seed: int) -> seqlib.nn.Linear:
    with use_generator(Generator(seed)):
        return seqlib.nn.Linear(3, 2)


def test_a_module_and_its_optimizer(tmp_path: Path) -> None:
    model, other = _linear(0), _linear(1)
    seqlib.save(tmp_path / "new/model.safetensors", model)
    assert set(load_file(tmp_path / "new/model.safetensors")) == {"weight", "bias"}  # as other tools see it
    other.load(seqlib.load(tmp_path / "new/model.safetensors"))
    assert np.array_equal(other.weight.numpy(), model.weight.numpy())
    optimizer, fresh = (AdamW(m.trainable_parameters(), lr=0.5) for m in (model, other))
    optimizer.update({name: seqlib.ones(p.shape) for name, p in model.named_parameters().items()})
    seqlib.save(tmp_path / "optimizer.safetensors", optimizer)
    fresh.load(seqlib.load(tmp_path / "optimizer.safetensors"))
    for name, value in optimizer.state_dict().items():
        assert np.array_equal(fresh.state_dict()[name], value)


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    half = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    tree = {
        "a": [seqlib.tensor([1.0, 2.0]), (np.array(3, np.int64), half)],
        "empty": [{}, (), np.zeros((0, 3), np.float32)],
        "plain": {"step": 7, "rate": 0.1, "name": "x", "done": True, "none": None, "nan": float("inf")},
        "bool": np.array([True, False]),
        "strided": np.arange(6.0).reshape(2, 3).T,
    }
    seqlib.save(tmp_path / "tree", tree)
    found = seqlib.load(tmp_path / "tree")
    assert found["plain"] == tree["plain"] and found["plain"]["done"] is True
    assert isinstance(found["a"][0], Tensor) and found["a"][0].tolist() == [1, 2]
    assert isinstance(found["a"][1], tuple) and found["a"][1][0].item() == 3 and found["a"][1][0].dtype == np.int64
    assert found["a"][1][1].dtype == half.dtype and np.array_equal(found["a"][1][1].numpy(), half)
    assert found["empty"][:2] == [{}, ()] and found["empty"][2].shape == (0, 3)
    assert found["bool"].tolist() == [True, False] and np.array_equal(found["strided"].numpy(), tree["strided"])
    seqlib.save(tmp_path / "one", seqlib.tensor(2.0))
    assert seqlib.load(tmp_path / "one").item() == 2.0
    save_file({"w": np.ones(2, np.float32)}, tmp_path / "theirs")
    assert seqlib.load(tmp_path / "theirs")["w"].tolist() == [1, 1]


def test_what_cannot_be_saved_is_named_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "t"
    seqlib.save(path, {"x": np.ones(2)})
    for tree, message in (
        ({"a": [1, {2}]}, r"save: a\.1 is a set"),
        ({"a": {1: 2}}, "save: a: the keys of a dict should be strings"),
        ({"a.b": np.ones(1), "a": {"b": np.ones(1)}}, r"two tensors of the tree have the name 'a\.b'"),
    ):
        with pytest.raises(UsageError, match=message):
            seqlib.save(path, tree)
    with seqlib.meta():
        hollow = _linear(0)
    with pytest.raises(SeqlibError, match=r"made under meta\(\)"):
        seqlib.save(path, hollow)
    assert seqlib.load(path)["x"].tolist() == [1, 1] and [p.name for p in tmp_path.iterdir()] == ["t"]


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "t"
    seqlib.save(path, [np.arange(100)])
    content = path.read_bytes()
    for damaged in (content[:50], content[:-8], b"", b"hello"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"t: is no safetensors file, or damaged"):
            seqlib.load(path)
    with pytest.raises(SeqlibError, match="nothing"):
        seqlib.load(tmp_path / "nothing")
