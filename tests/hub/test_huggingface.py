"""Repositories through huggingface_hub, against a server that speaks the hub's API."""

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
from seqlib.core.rng import Generator
from seqlib.hub import download, handles
from seqlib.hub.formats import open_checkpoint
from seqlib.hub.load import module
from seqlib.hub.save import save_pretrained
from seqlib.models.gpt2 import GPT2, GPT2Config
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


@pytest.fixture
def published(tmp_path):
    """A folder as `seqlib hub convert` leaves it, with weights that are sent as a large file."""
    folder = tmp_path / "published"
    save_pretrained(GPT2(GPT2Config(vocab=1000, layers=1, d_model=128, heads=4, max_length=64), Generator(1)), folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    (folder / "notes").mkdir()
    (folder / "notes" / "log.txt").write_text("trained")
    return folder


@pytest.fixture(params=["lfs", "lfs in parts", "xet"])
def storage(request, server, tmp_path, monkeypatch):
    """How large files are sent."""
    store(server, request.param, tmp_path, monkeypatch)
    return request.param


def store(server, kind, tmp_path, monkeypatch):
    if kind == "xet":
        pytest.importorskip("hf_xet")
        server.cas = tmp_path / "cas"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", kind != "xet")
    server.part = 300_000 if kind == "lfs in parts" else 0


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_push(server, storage, published, monkeypatch, capfd):
    server.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", server.token)
    assert main(["hub", "push", str(published), "hf://org/mine"]) == 0
    assert COMMIT in capfd.readouterr().out
    assert server.repositories["org/mine"] == contents(published)
    weights = sha256((published / "model.safetensors").read_bytes())
    assert set(server.objects) == {weights}
    parts = {"lfs": [f"/upload/{weights}"], "lfs in parts": [f"/part/{weights}/{n}" for n in range(1, 6)]}
    sent = [path for path, _ in server.seen if path.startswith(("/upload/", "/part/"))]
    assert sent == parts.get(storage, [])
    assert main(["hub", "push", str(published), "hf://org/mine"]) == 0  # what is there is not sent again
    assert sum(path.startswith(("/upload/", "/part/")) for path, _ in server.seen) == len(sent)

    folder = handles.resolve("hf://org/mine")
    assert contents(folder) == {name: text for name, text in contents(published).items() if name != "notes/log.txt"}
    handles.verify("hf://org/mine")
    found, given = module("hf://org/mine").state_dict(), module(published).state_dict()
    assert found.keys() == given.keys()
    assert all(np.array_equal(found[name], given[name]) for name in given)
    assert "hf_secret" not in "".join(capfd.readouterr())


def test_a_damaged_file_that_repositories_share(server, published, tmp_path, monkeypatch):
    store(server, "xet", tmp_path, monkeypatch)
    handles.push(published, "hf://org/mine")
    folder = handles.resolve("hf://org/mine")
    (folder / "model.safetensors").resolve().chmod(0o644)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(1000)
        file.write(b"damaged")
    with pytest.raises(HubError, match=r"model.safetensors is damaged and was removed; try again"):
        handles.verify("hf://org/mine")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    assert sha256((handles.resolve("hf://org/mine") / "model.safetensors").read_bytes()) in server.objects


def test_a_push_that_is_cut(server, published, tmp_path, monkeypatch, caplog):
    store(server, "lfs", tmp_path, monkeypatch)
    path = f"/upload/{sha256((published / 'model.safetensors').read_bytes())}"
    server.faults[path] = ["cut:200000", "hang-up", "status:503"]
    handles.push(published, "hf://org/mine")
    assert server.repositories["org/mine"] == contents(published)
    assert f"{server.cdn}{path}" in caplog.text
    assert "signature" not in caplog.text


LOGIN, RIGHTS = r"log in \(hf auth login, or HF_TOKEN\)", "what is logged in may not do that"
ROOM, CUT = "it has no room left for this", "disconnected|aborted|reset|pipe"


@pytest.mark.parametrize(
    ("where", "fault", "message"),
    [
        ("/api/repos/create", "status:401", f"the hub answers 401; {LOGIN}$"),
        ("/api/repos/create", "status:403:read-only hf_secret", rf"answers 403; {RIGHTS}; it says 'read-only …'$"),
        ("/org/mine.git/info/lfs/objects/batch", "status:403", rf"the hub answers 403; {RIGHTS}$"),
        (
            "/org/mine.git/info/lfs/objects/batch",
            "status:507:quota exceeded",
            f"507; {ROOM}; it says 'quota exceeded'$",
        ),
        ("/upload", "status:413", "the hub answers 413; a file is too large for it$"),
        ("/upload", "status:507", f"the hub answers 507; {ROOM}$"),
        ("/upload", "cut:100000", CUT),
        ("/verify", "status:500", "the hub answers 500$"),
        ("/api/models/org/mine/commit/main", "status:413", "the hub answers 413; a file is too large for it$"),
        ("/api/models/org/mine/commit/main", "hang-up", CUT),
    ],
)
def test_what_a_hub_refuses(server, published, tmp_path, monkeypatch, capfd, where, fault, message):
    store(server, "lfs", tmp_path, monkeypatch)
    server.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", server.token)
    path = f"/upload/{sha256((published / 'model.safetensors').read_bytes())}" if where == "/upload" else where
    server.faults[path] = [fault] * 20
    with pytest.raises(HubError, match=rf"^hf://org/mine: .*({message})") as caught:
        handles.push(published, "hf://org/mine")
    assert "org/mine" not in server.repositories  # a commit has all or nothing
    assert "hf_secret" not in f"{caught.value}{capfd.readouterr()}"
    server.faults.clear()
    handles.push(published, "hf://org/mine")
    assert server.repositories["org/mine"] == contents(published)


def test_a_login_that_is_not_known(server, published, tmp_path, monkeypatch):
    store(server, "lfs", tmp_path, monkeypatch)
    server.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match=f"the hub answers 401; {LOGIN}; it says 'Invalid credentials"):
        handles.push(published, "hf://org/mine")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("", "the hub has no Xet storage, which hf_xet asks for: set HF_HUB_DISABLE_XET=1$"),
        ("status:401", f"the hub answers 401; {LOGIN}$"),
        ("status:403", f"the hub answers 403; {RIGHTS}$"),
    ],
)
def test_xet_that_is_refused(server, published, monkeypatch, answer, message):
    pytest.importorskip("hf_xet")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
    server.faults["/api/models/org/mine/xet-write-token/main"] = [answer] * 9 if answer else []
    with pytest.raises(HubError, match=f"^hf://org/mine: {message}"):
        handles.push(published, "hf://org/mine")
    assert "org/mine" not in server.repositories


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
