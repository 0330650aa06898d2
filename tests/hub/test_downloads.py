"""Downloads over HTTP against a server with every fault: what is cached is whole, or it is not there."""

import errno
import io
import multiprocessing
import os
import sys
import tarfile
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from seqlib.cli.main import main
from seqlib.hub import download, handles, web
from seqlib.hub.formats import open_checkpoint
from seqlib.util.errors import HubError, SeqlibError, UsageError

sys.path.insert(0, str(Path(__file__).parent))
import samples
from server import serving, sha256


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SEQLIB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "cache" / "hub"


@pytest.fixture
def server():
    with serving() as state:
        yield state


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The pauses that were asked for; none is made."""
    found = []
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=found.append))
    return found


@pytest.fixture
def weights(tmp_path):
    """A file of some 600 kB: what arrives is kept in pieces of 64 kB."""
    arrays = samples.arrays() | {"large": np.random.default_rng(0).standard_normal(150_000).astype(np.float32)}
    samples.save_file(arrays, tmp_path / "w.safetensors")
    return (tmp_path / "w.safetensors").read_bytes()


def entries(cache):
    """What the cache holds, locks left out."""
    return sorted(path.name for path in cache.glob("*") if path.suffix != ".lock")


def test_a_file(server, cache, weights):
    server.files["/a/model.safetensors"] = weights
    url = f"{server.url}/a/model.safetensors"
    path = handles.resolve(url)
    assert path.read_bytes() == weights
    assert len(open_checkpoint(path)) == 5
    asked = len(server.seen)
    assert handles.resolve(url) == path
    assert len(server.seen) == asked  # what is cached is not asked for again
    assert handles.cached()[url] == path.parent
    assert not list(cache.glob("*.partial"))


def test_cut_at_random_points(server, weights):
    draw = np.random.default_rng(0)
    for number in range(12):
        cuts = [f"cut:{n}" for n in draw.integers(70_000, len(weights) // 3, 3)]
        server.files[f"/{number}.safetensors"] = weights
        server.faults[f"/{number}.safetensors"] = cuts
        server.etags = number % 2 == 0
        path = handles.resolve(f"{server.url}/{number}.safetensors#sha256={sha256(weights)}")
        assert path.read_bytes() == weights
    ranges = [headers.get("Range") for headers in server.requests("/0.safetensors")]
    assert ranges[0] is None
    assert all(found.startswith("bytes=") for found in ranges[2:])


def test_it_is_resumed_by_a_later_call(server, weights):
    url, path = f"{server.url}/m.safetensors", "/m.safetensors"
    server.files[path] = weights
    server.faults[path] = ["cut:100000"] + ["hang-up"] * 5
    with pytest.raises(HubError, match=r"given up after 5 attempts. 65,536 bytes have arrived and are kept"):
        handles.resolve(url)
    assert handles.resolve(url).read_bytes() == weights
    assert server.requests(path)[-1]["Range"] == "bytes=65536-"


def test_another_content_is_not_appended(server, weights):
    """The file changes between two attempts: its ETag tells."""
    url, path = f"{server.url}/m.safetensors", "/m.safetensors"
    server.files[path] = bytes(len(weights))
    server.faults[path] = ["cut:100000"] + ["hang-up"] * 5
    with pytest.raises(HubError):
        handles.resolve(url)
    server.files[path] = weights
    assert handles.resolve(url).read_bytes() == weights


def test_without_etag_and_digest_it_starts_anew(server, weights):
    server.etags = False
    server.files["/m.safetensors"] = weights
    server.faults["/m.safetensors"] = ["cut:100000", "cut:200000"]
    assert handles.resolve(f"{server.url}/m.safetensors").read_bytes() == weights
    assert all("Range" not in headers for headers in server.requests("/m.safetensors"))


def test_a_server_without_ranges(server, weights):
    server.files["/m.safetensors"] = weights
    server.faults["/m.safetensors"] = ["cut:100000", "no-range"]
    assert handles.resolve(f"{server.url}/m.safetensors").read_bytes() == weights


def test_a_busy_server(server, weights, waits):
    server.files["/m.safetensors"] = weights
    server.faults["/m.safetensors"] = ["status:503", "status:429:7", "status:500", "status:503:9999"]
    assert handles.resolve(f"{server.url}/m.safetensors").read_bytes() == weights
    assert waits == [1, 7, 4, 60]


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (["status:503"] * 5, r"the server answers 503 \(Service Unavailable\); given up after 5 attempts"),
        (["status:401"], "the server answers 401: it wants a login; put one for 127.0.0.1 into ~/.netrc"),
        (["status:403"], "the server answers 403: it wants a login"),
        (["status:404"], r"the server answers 404 \(Not Found\)"),
        (["html"], "a web page came in place of the file"),
        (["sly-html"], "a web page came in place of the file"),
        (["wrong"], r"arrived with the sha256 [0-9a-f]{12}…, expected is .*: it was changed on the way"),
        (["short:50"], "arrived with the sha256"),
        (["hang-up"] * 5, "the connection failed"),
    ],
)
def test_what_is_refused(server, cache, weights, faults, message):
    server.files["/m.safetensors"] = weights
    server.faults["/m.safetensors"] = faults
    url = f"{server.url}/m.safetensors#sha256={sha256(weights)}"
    with pytest.raises(HubError, match=message):
        handles.resolve(url)
    assert handles.cached() == {}
    assert handles.resolve(url).read_bytes() == weights  # the next call finds a server in order


def test_a_resumed_download_with_a_wrong_beginning(server, weights):
    """Half of the file came damaged, the rest is right: the digest tells, and it is downloaded anew."""
    url, path = f"{server.url}/m.safetensors#sha256={sha256(weights)}", "/m.safetensors"
    server.etags = False
    server.files[path] = bytes(len(weights))
    server.faults[path] = ["cut:200000"] + ["hang-up"] * 5
    with pytest.raises(HubError):
        handles.resolve(url)
    server.files[path] = weights
    assert handles.resolve(url).read_bytes() == weights


def test_secrets_in_addresses_are_not_told(server, cache, capfd, weights):
    server.files["/m.safetensors"] = weights
    server.faults["/m.safetensors"] = ["status:503"]
    url = server.url.replace("http://", "http://me:secret@") + "/m.safetensors?token=secret"
    handles.resolve(url)
    server.faults["/m.safetensors"] = ["status:404"]
    with pytest.raises(HubError) as error:
        handles.resolve(url + "2")
    kept = "".join(path.read_text() for path in cache.glob("*.json")) + "".join(handles.cached())
    assert "secret" not in str(error.value) + "".join(capfd.readouterr()) + kept


# -- a static hub ------------------------------------------------------------------------------------------------------


@pytest.fixture
def mirrored(server, tmp_path, weights):
    """The address of a model of a static hub."""
    source = tmp_path / "source"
    (source / "extra").mkdir(parents=True)
    (source / "model.safetensors").write_bytes(weights)
    (source / "config.json").write_text('{"model_type": "none"}')
    (source / "extra" / "notes.txt").write_text("x" * 1000)
    assert main(["hub", "mirror", str(source), str(tmp_path / "www" / "m")]) == 0
    for path in (tmp_path / "www").rglob("*"):
        if path.is_file():
            server.files["/" + path.relative_to(tmp_path / "www").as_posix()] = path.read_bytes()
    return f"{server.url}/m"


def test_a_folder_of_a_static_hub(mirrored, server, weights):
    folder = handles.resolve(mirrored)
    assert (folder / "model.safetensors").read_bytes() == weights
    assert (folder / "extra" / "notes.txt").read_text() == "x" * 1000
    handles.verify(mirrored)
    handles.remove(mirrored)
    assert not folder.exists()
    with pytest.raises(HubError, match="is not in the cache"):
        handles.remove(mirrored)


def test_faults_of_a_static_hub(mirrored, server, cache):
    for fault, message in [("wrong", "arrived with the sha256"), ("short:9", "expected are"), ("html", "a web page")]:
        server.faults["/m/extra/notes.txt"] = [fault]
        with pytest.raises(HubError, match=message):
            handles.resolve(mirrored)
        assert handles.cached() == {}
    handles.resolve(mirrored)
    assert len(server.requests("/m/config.json")) == 1  # it had arrived before, and was kept
    assert entries(cache) == [f"{web.entry_of(mirrored).name}{suffix}" for suffix in ("", ".json")]


def test_a_damaged_cache_is_mended(mirrored, server):
    folder = handles.resolve(mirrored)
    (folder / "config.json").unlink()
    done = len(server.requests("/m/model.safetensors"))
    assert (handles.resolve(mirrored) / "config.json").read_text() == '{"model_type": "none"}'
    assert len(server.requests("/m/model.safetensors")) == done
    (folder / "extra" / "notes.txt").write_text("y" * 1000)  # the size tells nothing
    with pytest.raises(HubError, match=r"notes.txt: is damaged: .* it was removed"):
        handles.verify(mirrored)
    with pytest.raises(HubError, match="is not in the cache"):
        handles.verify(mirrored)
    assert (handles.resolve(mirrored) / "extra" / "notes.txt").read_text() == "x" * 1000


@pytest.mark.parametrize("what", ["model.safetensors", "manifest.json"])
def test_a_damaged_file_of_the_cache_is_downloaded_again(server, weights, what):
    server.files["/model.safetensors"] = weights
    url = f"{server.url}/model.safetensors"
    path = handles.resolve(url)
    (path.parent / what).write_bytes(b"{")
    assert handles.resolve(url).read_bytes() == weights
    assert len(server.requests("/model.safetensors")) == 2
    assert handles.resolve(url) == path  # and is whole again
    assert len(server.requests("/model.safetensors")) == 2
    handles.verify(url)


def test_a_model_that_was_published_anew(mirrored, server):
    server.faults["/m/extra/notes.txt"] = ["cut:10"] + ["hang-up"] * 5
    with pytest.raises(HubError):
        handles.resolve(mirrored)
    changed = server.files["/m/manifest.json"].replace(b"extra/notes.txt", b"extra/other.txt")
    server.files |= {"/m/manifest.json": changed, "/m/extra/other.txt": server.files["/m/extra/notes.txt"]}
    folder = handles.resolve(mirrored)
    assert sorted(path.name for path in folder.rglob("*.*")) == [
        "config.json",
        "manifest.json",
        "model.safetensors",
        "other.txt",
    ]
    handles.verify(mirrored)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b"[]", "is none of a static hub"),
        (b'{"format_version": 9, "files": {}}', "is of version 9"),
        (
            b'{"format_version": 1, "files": {"../x": {"bytes": 1, "sha256": ""}}}',
            "'../x' is not the name of a file below",
        ),
        (b'{"format_version": 1, "files": {"/etc/x": {"bytes": 1, "sha256": ""}}}', "is not the name of a file below"),
        (
            b'{"format_version": 1, "files": {"a": {"bytes": 99999999999999999, "sha256": ""}}}',
            "the server answers 404",
        ),
    ],
)
def test_manifests_that_are_none(server, manifest, message):
    server.files["/m/manifest.json"] = manifest
    with pytest.raises(HubError, match=message):
        handles.resolve(f"{server.url}/m")
    assert handles.cached() == {}


def test_an_address_of_neither(server):
    with pytest.raises(
        HubError, match=r"/nothing/manifest.json: the server answers 404 .*, or of a folder that `seqlib hub"
    ):
        handles.resolve(f"{server.url}/nothing")


# -- archives ----------------------------------------------------------------------------------------------------------


def zipped(names):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(names, kind=tarfile.REGTYPE, mode="w:gz"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size, member.type = (len(content), kind) if kind == tarfile.REGTYPE else (0, kind)
            member.linkname = "/etc/passwd"
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize("top", ["", "model-1.0/"])
def test_archives(server, weights, suffix, top):
    names = {f"{top}model.safetensors": weights, f"{top}sub/config.json": b"{}"}
    server.files[f"/m{suffix}"] = zipped(names) if suffix == ".zip" else tarred(names)
    folder = handles.resolve(f"{server.url}/m{suffix}")
    assert (folder / "model.safetensors").read_bytes() == weights
    assert (folder / "sub" / "config.json").read_bytes() == b"{}"
    assert len(open_checkpoint(folder)) == 5


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".zip", zipped({"../evil": b"x"}), "'../evil' is not the name of a file below its folder"),
        (".zip", zipped({"a/../../evil": b"x"}), "is not the name of a file below its folder"),
        (".tar.gz", tarred({"/evil": b"x"}), "is not the name of a file below its folder"),
        (".tar.gz", tarred({"c:evil": b"x"}), "is not the name of a file below its folder"),
        (".tar.gz", tarred({"link": b""}, tarfile.SYMTYPE), "'link' is a link or a device"),
        (".tar.gz", tarred({"link": b""}, tarfile.LNKTYPE), "is damaged|is a link"),
        (".tar.gz", tarred({"dev": b""}, tarfile.CHRTYPE), "'dev' is a link or a device"),
        (".tar.gz", tarred({"zeros": bytes(50_000_000)}), "unpacks to more than fits or than is plausible"),
        (".zip", zipped({"a": b"x" * 1000})[:-30], "is damaged or incomplete"),
        (".tar.gz", tarred({"a": os.urandom(10_000)})[:-3000], "is damaged or incomplete"),
        (".zip", zipped({"a": b"x", "a/b": b"x"}), "is damaged or incomplete"),
        (".tar.xz", b"nothing", "is damaged or incomplete"),
    ],
)
def test_archives_that_are_refused(server, cache, tmp_path, suffix, content, message):
    server.files[f"/m{suffix}"] = content
    with pytest.raises(HubError, match=message):
        handles.resolve(f"{server.url}/m{suffix}")
    assert handles.cached() == {}
    assert not list(tmp_path.rglob("*evil*"))
    assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


# -- the machine -------------------------------------------------------------------------------------------------------


def _resolve(url, results):
    results.put(str(handles.resolve(url)))


def test_two_processes_at_once(server, weights):
    server.files["/m.safetensors"] = weights * 4
    url, context = f"{server.url}/m.safetensors", multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_resolve, args=(url, results)) for _ in range(2)]
    for process in processes:
        process.start()
    found = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert len(found) == 1
    assert Path(found.pop()).read_bytes() == weights * 4
    assert len(server.requests("/m.safetensors")) == 1


def test_threads_at_once(server, weights):
    server.files["/m.safetensors"] = weights * 4
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(handles.resolve(f"{server.url}/m.safetensors"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(server.requests("/m.safetensors")) == 1


def test_a_full_disk(server, weights, monkeypatch):
    server.files["/m.safetensors"] = weights
    url = f"{server.url}/m.safetensors"
    usage = SimpleNamespace(free=100)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: usage)
        with pytest.raises(HubError, match=rf"no space left: {len(weights):,} bytes are to come, 100 bytes are free"):
            handles.resolve(url)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("requests.Response.iter_content", full)
        with pytest.raises(HubError, match=r"no space left: [\d,]+ bytes are free in"):
            handles.resolve(url)
    assert handles.cached() == {}
    assert handles.resolve(url).read_bytes() == weights


def test_a_cache_that_cannot_be_written(server, weights, tmp_path, monkeypatch):
    server.files["/m.safetensors"] = weights
    url = f"{server.url}/m.safetensors"
    (tmp_path / "file").write_text("")
    with monkeypatch.context() as patch:
        patch.setenv("SEQLIB_CACHE", str(tmp_path / "file" / "cache"))
        with pytest.raises(HubError, match=r"the cache can't be written .*; set SEQLIB_CACHE to a folder that can"):
            handles.resolve(url)
    path = handles.resolve(url)

    def read_only(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("filelock.FileLock.acquire", read_only)
        assert handles.resolve(url) == path  # what is there can be used
        server.files["/n.safetensors"] = weights
        with pytest.raises(HubError, match="the cache can't be written"):
            handles.resolve(f"{server.url}/n.safetensors")


@pytest.mark.parametrize("variable", ["SEQLIB_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(server, weights, monkeypatch, variable):
    server.files["/m.safetensors"] = weights
    url = f"{server.url}/m.safetensors"
    monkeypatch.setenv(variable, "1")
    with pytest.raises(HubError, match=r"is not in the cache .*, and this is offline mode"):
        handles.resolve(url)
    assert server.seen == []
    monkeypatch.delenv(variable)
    path = handles.resolve(url)
    monkeypatch.setenv(variable, "1")
    assert handles.resolve(url) == path


def test_no_handles(tmp_path):
    assert handles.resolve(tmp_path) == tmp_path
    for handle, message in [
        ("missing/folder", r"there is no such file or folder \(a repository is hf://ORGANISATION/NAME\)"),
        ("s3://bucket/x", "known are hf://, https://"),
        ("hf://a/b/c", "is no handle of a repository"),
        ("hf://../b", "is no handle of a repository"),
        ("hf://", "is no handle of a repository"),
    ]:
        with pytest.raises(SeqlibError, match=message):
            handles.resolve(handle)
    for action in (handles.verify, handles.remove):
        with pytest.raises(UsageError, match="is a path; the cache holds"):
            action(str(tmp_path))
    with pytest.raises(UsageError, match="a web server can't be written to"):
        handles.push(tmp_path, "https://host/x")
    with pytest.raises(UsageError, match="files can be chosen of a repository"):
        handles.resolve(tmp_path, files=["*.gguf"])
    with pytest.raises(HubError, match="has no files"):
        handles.push(tmp_path, str(tmp_path / "out"))
