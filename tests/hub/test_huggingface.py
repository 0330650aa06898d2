"""Repositories through huggingface_hub, against a server that speaks the hub's API."""

import base64
import errno
import multiprocessing
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.utils import _http

from seqlib.cli.main import main
from seqlib.hub import download, handles
from seqlib.hub.formats import open_checkpoint
from seqlib.util.errors import HubError, UsageError

sys.path.insert(0, str(Path(__file__).parent))
import samples
from server import COMMIT, serving, sha256

MODEL = "hf://org/model"
CONTENT = {"config.json": b'{"model_type": "none"}', "tokenizer.json": b"{}", "README.md": b"# A model"}


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLIB_CACHE", str(tmp_path / "cache"))
    for name in ("SEQLIB_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda _: None, time=_http.time.time))
    with serving() as state:
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        arrays = samples.arrays() | {"large": np.random.default_rng(0).standard_normal(150_000).astype(np.float32)}
        samples.save_file(arrays, tmp_path / "w.safetensors")
        weights = (tmp_path / "w.safetensors").read_bytes()
        state.repositories["org/model"] = CONTENT | {"model.safetensors": weights, "pytorch_model.bin": b"other"}
        yield state


def weights_path(server):
    content = server.repositories["org/model"]["model.safetensors"]
    return f"/cdn/org/model/model.safetensors/{sha256(content)}"


def test_a_repository(server):
    folder = handles.resolve(MODEL)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*CONTENT, "model.safetensors"])
    assert folder.name == COMMIT
    assert len(open_checkpoint(folder)) == 5
    asked = len(server.requests(weights_path(server)))
    assert handles.resolve(MODEL) == folder
    assert len(server.requests(weights_path(server))) == asked
    assert handles.cached() == {MODEL: folder}
    handles.verify(MODEL)
    assert handles.resolve(f"{MODEL}@{COMMIT}") == folder
    assert handles.resolve(f"{MODEL}@v1") == folder
    handles.remove(MODEL)
    assert not folder.exists()


def test_files_can_be_chosen(server):
    server.repositories["org/model"] = {"a-Q4.gguf": b"GGUF4", "a-Q8.gguf": b"GGUF8", "config.json": b"{}"}
    with pytest.raises(
        UsageError, match=r"several files of weights \(a-Q4.gguf, a-Q8.gguf\); name those you want: --files"
    ):
        handles.resolve(MODEL)
    folder = handles.resolve(MODEL, files=["*Q4.gguf"])
    assert [path.name for path in folder.iterdir()] == ["a-Q4.gguf"]


def test_cut_and_busy(server):
    draw = np.random.default_rng(1)
    size = len(server.repositories["org/model"]["model.safetensors"])
    server.faults[weights_path(server)] = [
        *(f"cut:{n}" for n in draw.integers(1, size // 2, 3)),
        "status:503",
        "status:429:1",
    ]
    folder = handles.resolve(MODEL)
    assert (folder / "model.safetensors").read_bytes() == server.repositories["org/model"]["model.safetensors"]


@pytest.mark.parametrize("fault", ["wrong", "html", "short:1000"])
def test_what_is_not_the_file(server, fault):
    server.faults[weights_path(server)] = [fault]
    try:
        found = handles.resolve(MODEL)
    except HubError as error:
        assert str(error).startswith(f"{MODEL}: ")
        found = handles.resolve(MODEL)
    assert (found / "model.safetensors").read_bytes() == server.repositories["org/model"]["model.safetensors"]


def test_a_damaged_file_in_the_cache(server):
    folder = handles.resolve(MODEL)
    (folder / "config.json").resolve().write_bytes(CONTENT["config.json"].replace(b"none", b"gone"))
    with pytest.raises(HubError, match=r"config.json is damaged and was removed; try again"):
        handles.verify(MODEL)
    assert (handles.resolve(MODEL) / "config.json").read_bytes() == CONTENT["config.json"]


@pytest.mark.parametrize(
    ("handle", "message"),
    [
        ("hf://org/missing", "hf://org/missing: (there is no such repository, or it is private|the hub answers 404)"),
        ("hf://org/model@none", "there is no revision 'none'"),
    ],
)
def test_what_is_not_there(server, handle, message):
    with pytest.raises(HubError, match=message):
        handles.resolve(handle)


def test_a_private_repository(server, monkeypatch, capfd):
    server.token = "hf_secret"
    with pytest.raises(HubError, match=r"there is no such repository, or it is private: log in"):
        handles.resolve(MODEL)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    handles.resolve(MODEL)
    assert all("Authorization" not in headers or "hf_secret" in str(headers) for _, headers in server.seen)
    assert "hf_secret" not in "".join(capfd.readouterr())


def test_offline(server, monkeypatch):
    monkeypatch.setenv("SEQLIB_OFFLINE", "1")
    with pytest.raises(
        HubError, match=r"it is not in the cache, and the hub can't be reached \(or this is offline mode\)"
    ):
        handles.resolve(MODEL)
    assert server.seen == []
    monkeypatch.delenv("SEQLIB_OFFLINE")
    folder = handles.resolve(MODEL)
    asked = len(server.seen)
    monkeypatch.setenv("SEQLIB_OFFLINE", "1")
    assert handles.resolve(MODEL) == folder
    assert len(server.seen) == asked


def _resolve(results):
    results.put(str(handles.resolve(MODEL)))


def test_two_processes_at_once(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_resolve, args=(results,)) for _ in range(2)]
    for process in processes:
        process.start()
    found = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert {Path(one) for one in found} == {handles.resolve(MODEL)}
    handles.verify(MODEL)
    assert sum("Range" not in headers for headers in server.requests(weights_path(server))) <= 2  # and a HEAD


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "no space left in .*; HF_HOME names"), (errno.EROFS, "the cache can't be written: .*; HF_HOME")],
)
def test_a_disk_that_takes_nothing(server, monkeypatch, number, message):
    def fails(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.http_get", fails)
        with pytest.raises(HubError, match=f"^{MODEL}: {message}"):
            handles.resolve(MODEL)
    folder = handles.resolve(MODEL)
    assert (folder / "model.safetensors").read_bytes() == server.repositories["org/model"]["model.safetensors"]
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.http_get", fails)
        assert handles.resolve(MODEL) == folder  # what is there can be used


def test_a_cache_that_cannot_be_made(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hf"))
    with pytest.raises(HubError, match=r"the cache can't be written: .*file/hf; HF_HOME names another place"):
        handles.resolve(MODEL)


def test_the_hub_is_down(server):
    server.down = True
    with pytest.raises(HubError, match=r"^hf://org/model: "):
        handles.resolve(MODEL)
    server.down = False
    folder = handles.resolve(MODEL)
    server.down = True
    assert handles.resolve(MODEL) == folder  # what is cached can be used


def test_mirror_and_command_line(server, tmp_path, capsys):
    assert main(["hub", "list"]) == 0
    assert "nothing is cached" in capsys.readouterr().out
    assert main(["hub", "mirror", MODEL, str(tmp_path / "www" / "m")]) == 0
    for path in (tmp_path / "www").rglob("*.*"):
        server.files["/" + path.relative_to(tmp_path / "www").as_posix()] = path.read_bytes()
    capsys.readouterr()
    assert main(["hub", "download", f"{server.url}/m"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / "model.safetensors").read_bytes() == server.repositories["org/model"]["model.safetensors"]
    assert main(["hub", "verify", MODEL]) == main(["hub", "verify", f"{server.url}/m"]) == 0
    assert main(["hub", "list"]) == 0
    out = capsys.readouterr().out
    assert MODEL in out
    assert f"{server.url}/m\n" in out
    assert main(["hub", "info", MODEL]) == 0
    out = capsys.readouterr().out
    assert "format      safetensors" in out
    assert "arrays      5 (" in out
    assert "3 float32" in out
    assert "  embed.weight  [6, 8]  float32" in out
    assert main(["hub", "download", f"{MODEL}@v1"]) == 0  # a second name of the same commit
    assert main(["hub", "remove", f"{MODEL}@v1"]) == main(["hub", "remove", f"{server.url}/m"]) == 0
    assert main(["hub", "download", MODEL]) == main(["hub", "remove", f"{MODEL}@{COMMIT}"]) == 0
    capsys.readouterr()
    assert main(["hub", "remove", MODEL]) == 2
    assert "error: hf://org/model: is not in the cache" in capsys.readouterr().err


def test_push(server, tmp_path, capsys):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    samples.save_file(samples.arrays(), model / "model.safetensors")
    assert main(["hub", "push", str(model), "hf://org/mine"]) == 0
    (sent,) = server.uploads.values()
    files = {line["value"]["path"]: line["value"]["content"] for line in sent if line["key"] == "file"}
    assert set(files) == {"config.json", "model.safetensors"}
    assert COMMIT in capsys.readouterr().out
    server.repositories["org/mine"] = {name: base64.b64decode(content) for name, content in files.items()}
    found, given = open_checkpoint(handles.resolve("hf://org/mine")), open_checkpoint(model)
    assert found.shapes == given.shapes
    assert all(np.array_equal(found[name], given[name]) for name in given)


def test_convert(tmp_path, capsys):
    source = tmp_path / "source"
    source.mkdir()
    (source / "pytorch_model.bin").write_bytes((samples.FILES / "weights_zip.pt").read_bytes())
    (source / "config.json").write_text("{}")
    assert main(["hub", "convert", str(source), str(tmp_path / "out"), "--dtype", "float16"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]
    old, new = open_checkpoint(source), open_checkpoint(tmp_path / "out")
    assert new.shapes == old.shapes
    for name, array in old.items():
        wanted = np.float16 if array.dtype.kind in "fV" else array.dtype
        assert np.array_equal(new[name], array.astype(wanted))
        assert new[name].dtype == wanted
