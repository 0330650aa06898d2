"""Texts of many clients are computed together, and none waits for another's fault."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from seqlib.serve.batcher import Batcher, Busy, Job
from seqlib.serve.config import ServeConfig


def wait_for(condition) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("did not come to pass")


class Runs:
    """Notes batches of items; the first waits for `gate`."""

    def __init__(self, **settings) -> None:
        self.batches, self.gate = [], threading.Event()
        self.batcher = Batcher(self.run, ServeConfig(**settings))

    def run(self, jobs):
        self.batches.append([job.item for job in jobs])
        if len(self.batches) == 1:
            assert self.gate.wait(30)
        if any(job.item == "fault" for job in jobs):
            raise RuntimeError("a bug")
        return [job.item.upper() for job in jobs]

    def occupied(self) -> Job:
        """A job that the thread is at."""
        first = Job("first", None, 1)
        self.batcher.submit([first])
        wait_for(lambda: self.batches)
        return first


@pytest.fixture
def runs():
    made: list[Runs] = []

    def make(**settings) -> Runs:
        made.append(Runs(**{"max_wait_ms": 0.0, **settings}))
        return made[-1]

    yield make
    for each in made:
        each.gate.set()
        each.batcher.stop()


def test_groups_by_options_and_length_short_ones_first(runs) -> None:
    found = runs(max_batch=4)
    jobs = [Job("long", None, 900), Job("other", 1, 3), *(Job(c, None, 5) for c in "abcdef"), Job("longer", None, 1000)]
    first = found.occupied()
    found.batcher.submit(jobs)
    found.gate.set()
    assert [job.future.result(10) for job in [first, *jobs]] == [job.item.upper() for job in [first, *jobs]]
    assert found.batches == [["first"], ["other"], list("abcd"), list("ef"), ["long", "longer"]]


def test_a_long_text_does_not_wait_for_ever(runs) -> None:
    found = runs()
    found.occupied()
    long = Job("long", None, 900)
    found.batcher.submit([long])
    long.came -= 1.0  # as if it had waited for a second
    found.batcher.submit([Job("short", None, 5)])
    found.gate.set()
    long.future.result(10)
    assert found.batches[1] == ["long"]


def test_rows_and_tokens_bound_a_batch(runs) -> None:
    found = runs(max_batch=4, batch_tokens=40)
    found.occupied()
    jobs = [Job("a", 0, 15), Job("b", 0, 14), Job("c", 0, 13), Job("d", 1, 1, rows=3), Job("e", 1, 1, rows=2)]
    jobs.append(Job("huge", 2, 1, rows=9))
    found.batcher.submit(jobs)
    found.gate.set()
    for job in jobs:
        job.future.result(10)
    assert sorted(found.batches[1:]) == [["a", "b"], ["c"], ["d"], ["e"], ["huge"]]


def test_a_batch_waits_to_be_filled(runs) -> None:
    found = runs(max_batch=3, max_wait_ms=9000.0)
    found.gate.set()
    jobs = [Job(c, None, 5) for c in "abc"]
    for job in jobs:
        found.batcher.submit([job])
    assert [job.future.result(10) for job in jobs] == ["A", "B", "C"] and found.batches == [["a", "b", "c"]]


def test_a_fault_is_its_own(runs) -> None:
    found = runs()
    found.occupied()
    jobs = [Job(item, None, 5) for item in ("a", "fault", "b")]
    found.batcher.submit(jobs)
    found.gate.set()
    assert (jobs[0].future.result(10), jobs[2].future.result(10)) == ("A", "B")
    with pytest.raises(RuntimeError, match="a bug"):
        jobs[1].future.result(10)


def test_full_gone_and_stopped(runs) -> None:
    found = runs(queue=2)
    first = found.occupied()
    jobs = [Job("a", None, 5), Job("b", None, 5)]
    found.batcher.submit(jobs)
    with pytest.raises(Busy, match="2 texts wait already, at most 2 may"):
        found.batcher.submit([Job("c", None, 5)])
    jobs[0].gone = True
    last = Job("c", None, 5)
    found.batcher.submit([last])  # in the place of the one that is gone
    assert len(found.batcher.jobs) == 2
    stopping = threading.Thread(target=found.batcher.stop)
    stopping.start()
    for job in (jobs[1], last):
        with pytest.raises(Busy):
            job.future.result(10)
    found.gate.set()
    stopping.join()
    assert first.future.result(10) == "FIRST" and found.batches == [["first"]]
    with pytest.raises(Busy):
        found.batcher.submit([Job("d", None, 5)])


def test_clients_share_batches(vectors) -> None:
    model, _, client = vectors(max_batch=8)
    model.gate.clear()
    with ThreadPoolExecutor(17) as pool:
        first = pool.submit(client.post, "/embed", {"text": "first"})
        wait_for(lambda: model.batches)
        others = [pool.submit(client.post, "/embed", {"text": f"text {n:2d}"}) for n in range(16)]
        wait_for(lambda: client.get("/health")["waiting"] == 16)
        model.gate.set()
        found = [other.result() for other in others]
    assert first.result() == {"outputs": [{"embedding": [5.0, float(sum(b"first"))]}]}
    assert [one["outputs"][0]["embedding"][1] for one in found] == [sum(f"text {n:2d}".encode()) for n in range(16)]
    assert [len(batch) for batch in model.batches] == [1, 8, 8]
    health = client.get("/health")
    assert (health["texts"], health["batches"], health["waiting"]) == (17, 3, 0)


def test_many_clients_get_what_one_gets(clients, models) -> None:
    texts = [f"sentence {'of some ' * (n % 4)}number {n}" for n in range(48)]
    options = {"max_tokens": 12, "seed": 3}
    alone = {
        "translate": [models["translate"].translate([text])[0].text for text in texts],
        "generate": [models["generate"].generate([text], **options)[0].record() for text in texts],
        "classify": [models["classify"].classify([text])[0].record() for text in texts],
    }
    asked = {
        "translate": lambda text: {"q": text, "source": "en", "target": "de"},
        "generate": lambda text: {"prompt": text, **options},
        "classify": lambda text: {"text": text},
    }
    for task, client in ((task, clients[task]) for task in alone):
        before = client.get("/health")
        with ThreadPoolExecutor(16) as pool:
            found = list(
                pool.map(lambda text, client=client, task=task: client.post(f"/{task}", asked[task](text)), texts)
            )
        after = client.get("/health")
        plain = [one["translatedText"] if task == "translate" else one["outputs"][0] for one in found]
        assert plain == alone[task]
        assert after["batches"] - before["batches"] < len(texts) == after["texts"] - before["texts"]
