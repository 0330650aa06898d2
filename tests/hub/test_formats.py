"""Weights of other tools: what is read, and what is answered to files that are not what they should be."""

import json
import pickle
import re
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import seqlib
from seqlib.hub.formats import open_checkpoint
from seqlib.util.errors import DataError, UsageError

sys.path.insert(0, str(Path(__file__).parent))
import samples
from samples import FILES


def same(found, expected):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


def test_safetensors(tmp_path):
    checkpoint = open_checkpoint(samples.safetensors_file(tmp_path / "model.safetensors"))
    assert checkpoint.format == "safetensors"
    assert checkpoint.metadata == {"format": "pt"}
    for name, array in samples.arrays().items():
        same(checkpoint[name], array)
        assert checkpoint.shapes[name] == array.shape
    assert checkpoint["low"].dtype == ml_dtypes.bfloat16
    assert checkpoint["low"].astype(np.float32).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert checkpoint.nbytes == sum(array.nbytes for array in samples.arrays().values()) + 12
    checkpoint["embed.weight"][0] = 1  # a map of its own: neither the file nor another reading sees it
    same(checkpoint["embed.weight"], samples.arrays()["embed.weight"])


def test_loading_into_a_module(tmp_path):
    layer = seqlib.nn.Linear(3, 2)
    seqlib.save(tmp_path / "layer.safetensors", layer)
    with seqlib.meta():
        other = seqlib.nn.Linear(3, 2)
    other.load(open_checkpoint(tmp_path / "layer.safetensors"))
    for one, two in zip(layer.parameters(), other.parameters()):
        same(two.numpy(), one.numpy())
        assert isinstance(two.data.base, np.memmap)  # loaded without a copy
    before = (tmp_path / "layer.safetensors").read_bytes()
    other.weight.assign(np.zeros(other.weight.shape, np.float32))
    other.bias.storage()[:] = 1
    assert (tmp_path / "layer.safetensors").read_bytes() == before
    assert float(seqlib.sum(other(np.ones((1, 3), np.float32)))) == 2


def test_an_array_of_the_users_own_is_copied():
    with seqlib.meta():
        layer = seqlib.nn.Linear(3, 2)
    mine = {name: np.ones(p.shape, np.float32) for name, p in layer.named_parameters().items()}
    layer.load(mine)
    mine["weight"][:] = 5
    assert layer.weight.numpy().max() == 1


def sharded(folder, **changed):
    weight_map = {}
    for number in (1, 2):
        file = samples.safetensors_file(folder / f"model-0000{number}-of-00002.safetensors", seed=number)
        content = {f"{number}.{name}": array for name, array in samples.arrays(number).items()}
        samples.save_file(content, file)
        weight_map |= dict.fromkeys(content, file.name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map | changed}))
    return index


def test_sharded(tmp_path):
    sharded(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    assert len(checkpoint) == 8
    for number in (1, 2):
        for name, array in samples.arrays(number).items():
            same(checkpoint[f"{number}.{name}"], array)


def test_a_shard_is_missing_or_wrong(tmp_path):
    sharded(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(DataError, match=r"00002-of-00002.safetensors: is missing; model.safetensors.index.json names"):
        open_checkpoint(tmp_path)
    sharded(tmp_path, extra="../../etc/passwd")
    with pytest.raises(DataError, match=r"names '../../etc/passwd', which is not a file beside it"):
        open_checkpoint(tmp_path)
    sharded(tmp_path, extra="model-00001-of-00002.safetensors")
    with pytest.raises(DataError, match="it has no 'extra'"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
def test_npz(tmp_path, compressed):
    path = samples.npz_file(tmp_path / "w.npz", compressed, columns=np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    checkpoint = open_checkpoint(path)
    assert checkpoint.format == "npz"
    assert checkpoint.metadata == {"config": "{}"}
    for name, array in samples.arrays().items():
        same(checkpoint[name], array)
    assert checkpoint["columns"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_npz_with_objects_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", evil=np.array([{}], object))
    with pytest.raises(DataError, match="'evil' has the dtype object; only arrays of numbers"):
        open_checkpoint(tmp_path / "w.npz")


def test_an_npz_member_that_claims_too_much(tmp_path):
    path = samples.npz_file(tmp_path / "w.npz")
    path.write_bytes(path.read_bytes().replace(b"(6, 8)", b"(6e9,)"[:6]).replace(b"(3,)", b"(9,)"))
    with pytest.raises(DataError, match="is damaged or incomplete"):
        open_checkpoint(path)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_pytorch(kind):
    checkpoint = open_checkpoint(FILES / f"weights_{kind}.pt")
    base = np.arange(24, dtype=np.float32).reshape(4, 6) / 8
    expected = {
        "base": base,
        "transposed": base.T,
        "part": base[1:3, ::2],
        "half": np.array([1.5, -2], np.float16),
        "bf16": np.array([[1.5, -3]], ml_dtypes.bfloat16),
        "long": np.array([1, -(2**40)]),
        "flags": np.array([True, False]),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 5), np.float32),
        "parameter": np.array([4], np.float32),
    }
    assert list(checkpoint) == list(expected)
    for name, array in expected.items():
        same(checkpoint[name], array)


def test_the_weights_of_a_pytorch_training():
    """Arguments, paths, devices and an optimizer's numbers lie beside the weights: they are passed over."""
    checkpoint = open_checkpoint(FILES / "training.pt")
    assert checkpoint.shapes == {"model.steps": (), "model.linear.weight": (2, 3), "model.linear.bias": (2,)}


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (exec, (f"open({str(self.marker)!r}, 'w')",))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_code_in_a_pickle_is_not_run(tmp_path, protocol):
    payload = pickle.dumps({"w": Evil(tmp_path / "ran")}, protocol)
    pickle.loads(payload)
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    assert len(open_checkpoint(samples.pickled(tmp_path / "evil.pt", payload))) == 0
    (tmp_path / "evil.bin").write_bytes(payload)
    with pytest.raises(DataError, match=r"it is a pickle, but none of PyTorch's"):
        open_checkpoint(tmp_path / "evil.bin")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\x80\x02ccollections\nOrderedDict\n(lp0\ntR.", "the instruction LIST at byte"),
        (b"\x80\x02K\x01\x86.", "tuple has too few"),
        (b"\x80\x02})\x85K\x01s.", "a dict has a key of type tuple"),
        (b"\x80\x02r\xff\xff\xff\xff.", "index out of range"),
        (b"\x80\x02j\xff\xff\xff\xff.", "4294967295"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x00\x00.", "expected 281474976710655 bytes"),
        (b"\x80\x02}", "pickle exhausted"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "expected 2147483647 bytes"),
    ],
)
def test_pickles_that_are_none(tmp_path, payload, message):
    with pytest.raises(DataError, match=message):
        open_checkpoint(samples.pickled(tmp_path / "w.pt", payload))


NEST = b")" + b"q\x00h\x00\x86" * 100  # a tuple of the tuple before, twice: neither hash nor repr of it ends


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"}" + NEST + b"K\x01s.", "a dict has a key of type tuple"),
        (b"ccollections\nOrderedDict\n]](" + NEST + b"K\x01ea\x85R.", None),
        (b"(X\x07\0\0\0storage" + NEST + b"X\x01\0\0\0" + b"0X\x03\0\0\0cpuK\x04tQ.", "storage is of the kind ''"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00" + NEST + b")tR.", "has no storage"),
        (b"ctorch\nSize\n" + NEST + b"\x85R.", None),
        (NEST + NEST + b"QR.", "storage is of the kind|unpack"),
        (b"]" + NEST + b"a.", None),
    ],
)
def test_pickles_that_would_not_end(tmp_path, payload, message):
    path = samples.pickled(tmp_path / "w.pt", b"\x80\x02" + payload)
    if message is None:
        assert len(open_checkpoint(path)) == 0
    else:
        with pytest.raises(DataError, match=message):
            open_checkpoint(path)


def rebuilt(tmp_path, storage, *args):
    """A file whose only tensor is made with `args` of the storage `storage`, 4 floats."""

    def number(value):
        return b"J" + value.to_bytes(4, "little", signed=True)

    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    ident = b"(X\x07\0\0\0storagectorch\n" + storage + b"\nX\x01\0\0\0" + b"0X\x03\0\0\0cpuK\x04tQ"
    offset, shape, strides = args
    tensor = ident + number(offset) + numbers(shape) + numbers(strides) + b"\x89})R"
    payload = b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(" + tensor.replace(b"})R", b"}tR") + b"s."
    path = samples.pickled(tmp_path / "w.pt", payload)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/0", np.arange(4, dtype=np.float32).tobytes())
    return path


def test_a_view_stays_within_its_storage(tmp_path):
    assert open_checkpoint(rebuilt(tmp_path, b"FloatStorage", 1, (3,), (1,)))["w"].tolist() == [1, 2, 3]
    for args in [(2, (3,), (1,)), (0, (2, 3), (4, 1)), (0, (1000, 1000), (0, 0)), (-1, (2,), (1,)), (0, (2,), (-1,))]:
        with pytest.raises(DataError, match=r"'w' (of|has the) shape"):
            open_checkpoint(rebuilt(tmp_path, b"FloatStorage", *args))
    with pytest.raises(DataError, match="a tensor's storage is of the kind 'ComplexFloatStorage'"):
        open_checkpoint(rebuilt(tmp_path, b"ComplexFloatStorage", 0, (2,), (1,)))
    with pytest.raises(DataError, match="needs 32 bytes, there are 16"):
        open_checkpoint(rebuilt(tmp_path, b"DoubleStorage", 0, (2,), (1,)))


def test_marian_binary(tmp_path):
    checkpoint = open_checkpoint(samples.marian_file(tmp_path / "model.intgemm.alphas.bin"))
    assert checkpoint.format == "marian"
    assert checkpoint.metadata == {"type": "transformer", "dim-emb": 8, "dim-vocabs": [6, 6]}
    for name, array in samples.marian_arrays().items():
        assert checkpoint.shapes[name] == array.shape
        if name.endswith("bq"):
            same(checkpoint[name], array)
        else:
            whole, scale = samples.quantised(array)
            same(np.ascontiguousarray(checkpoint[name]), whole.astype(np.float32) / scale)


def test_marian_npz(tmp_path):
    np.savez(tmp_path / "model.npz", **{"special:model.yml": np.frombuffer(samples.YML, np.int8), "Wemb": np.ones(3)})
    checkpoint = open_checkpoint(tmp_path)
    assert (checkpoint.format, list(checkpoint), checkpoint.metadata["dim-emb"]) == ("marian", ["Wemb"], 8)


def test_marian_settings_that_are_none(tmp_path):
    for yml, message in [
        (b"a: &x [1]\nb: *x", "not a list of settings"),
        (b"- a", "not a mapping"),
        (b"a: [", "its special"),
    ]:
        with pytest.raises(DataError, match=message):
            open_checkpoint(samples.marian_file(tmp_path / "model.bin", yml))


def test_gguf(tmp_path):
    pytest.importorskip("gguf")
    path, expected = samples.gguf_file(tmp_path / "model.gguf")
    checkpoint = open_checkpoint(path)
    assert checkpoint.format == "gguf"
    assert checkpoint.metadata["general.architecture"] == "llama"
    assert checkpoint.metadata["tokenizer.ggml.tokens"] == ["<s>", "▁a", "b"]
    assert checkpoint.metadata["tokenizer.ggml.scores"] == [0, -1, -2.5]
    assert checkpoint.shapes == {name: array.shape for name, array in expected.items()}
    for name, array in expected.items():
        assert np.array_equal(checkpoint[name].astype(np.float32), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html><head>", "is a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "is a Git LFS pointer"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), r"is HDF5 \(Keras\)"),
        (b"", "is not of a known format"),
        (b"hello", "is not of a known format: safetensors, PyTorch"),
        (b"PK\x03\x04" + bytes(50), "is damaged or incomplete"),
        ((2**40).to_bytes(8, "little") + b"{}", "is not of a known format"),
    ],
)
def test_other_files(tmp_path, content, message):
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(DataError, match=f"^{re.escape(str(tmp_path / 'model.bin'))}: {message}"):
        open_checkpoint(tmp_path)


def test_folders_without_weights_or_with_several(tmp_path):
    with pytest.raises(UsageError, match=r"has no weights; looked for model.safetensors"):
        open_checkpoint(tmp_path)
    for name in ("a", "b"):
        samples.safetensors_file(tmp_path / f"{name}.safetensors")
    with pytest.raises(UsageError, match=r"several files of weights \(a.safetensors, b.safetensors\); name the one"):
        open_checkpoint(tmp_path)
    with pytest.raises(DataError, match="there is no such file"):
        open_checkpoint(tmp_path / "missing.safetensors")


def test_a_file_that_shrinks_while_it_is_open(tmp_path):
    path = samples.safetensors_file(tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="has become shorter since it was opened"):
        [checkpoint[name] for name in checkpoint]
