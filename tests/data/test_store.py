"""The token store: what goes in comes out, and damage is noticed."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqlib.data.store import TokenStore, write_store
from seqlib.util.errors import DataError

IDS = st.lists(st.integers(0, 99), max_size=9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(pairs=st.lists(st.tuples(IDS, IDS), max_size=20))
@pytest.mark.parametrize(("vocab", "dtype"), [(100, "<u2"), (70_000, "<i4")])
def test_round_trip(tmp_path_factory, vocab: int, dtype: str, pairs) -> None:
    folder = tmp_path_factory.mktemp("store") / "s"
    write_store(folder, iter(pairs), vocab)
    store = TokenStore.open(folder)
    assert len(store) == len(pairs)
    assert store.tokens.dtype.str == dtype
    assert store.lengths().tolist() == [[len(source), len(target)] for source, target in pairs]
    assert store.lengths().dtype == np.int32
    for place, pair in enumerate(pairs):
        found = store.pair(place)
        assert [ids.tolist() for ids in found] == list(pair)
        assert all(ids.dtype == np.int32 for ids in found)


def test_reading_copies_nothing(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", [([1, 2], [3])], 10)
    assert isinstance(store.tokens, np.memmap)
    assert isinstance(store.offsets, np.memmap)
    assert not store.tokens.flags.writeable


def test_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import seqlib.data.store as module

    pairs = [([n % 50] * (n % 7), [n % 3]) for n in range(100)]
    whole = write_store(tmp_path / "a", pairs, 100)
    monkeypatch.setattr(module, "_BLOCK", 8)
    cut = write_store(tmp_path / "b", pairs, 100)
    assert (whole.tokens == cut.tokens).all()
    assert (whole.offsets == cut.offsets).all()


def test_digest_names_the_content(tmp_path: Path) -> None:
    made = [
        write_store(tmp_path / str(n), pairs, 100).digest
        for n, pairs in enumerate([[([1], [2])], [([1], [2])], [([1, 2], [])], [([1], [3])], []])
    ]
    assert made[0] == made[1]
    assert len(set(made)) == 4


def test_out_of_range(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", [([1], [2])], 10)
    for place in (-1, 1):
        with pytest.raises(IndexError, match="of a store of 1"):
            store.pair(place)
    for ids in ([10], [-1]):
        with pytest.raises(DataError, match="leave the vocabulary of 10"):
            write_store(tmp_path / f"bad{ids[0]}", [(ids, [])], 10)


def test_damage(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_store(folder, [([1, 2], [3]), ([4], [5])], 10)
    good = {path.name: path.read_bytes() for path in folder.iterdir()}

    def damaged(name: str, data: bytes | None, message: str) -> None:
        if data is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(data)
        with pytest.raises(DataError, match=message):
            TokenStore.open(folder)
        (folder / name).write_bytes(good[name])

    damaged("tokens.bin", good["tokens.bin"][:-2], r"tokens\.bin: 8 bytes, expected 10: cut short or damaged")
    damaged("tokens.bin", None, r"tokens\.bin: cannot be read")
    damaged("offsets.bin", good["offsets.bin"] + b"\0", r"offsets\.bin: 41 bytes, expected 40")
    damaged("offsets.bin", np.array([0, 3, 2, 4, 5], "<i8").tobytes(), r"offsets\.bin: the token store is damaged")
    damaged("offsets.bin", np.array([0, 1, 2, 4, 9], "<i8").tobytes(), r"offsets\.bin: the token store is damaged")
    damaged("meta.json", None, r"meta\.json: cannot be read")
    damaged("meta.json", b"{", r"meta\.json: is damaged")
    damaged("meta.json", json.dumps({**json.loads(good["meta.json"]), "format": 2}).encode(), "format 2")
    TokenStore.open(folder)
