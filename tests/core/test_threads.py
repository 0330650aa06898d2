"""The pool: spans cover the work once, errors come through, nested and busy calls run inline, BLAS is split."""

import threading

import numpy as np
import pytest

from seqlib.core.backends import threads
from seqlib.core.backends.threads import INLINE, set_threads, single_blas, spread
from seqlib.core.ops.product_numpy import product


@pytest.fixture(params=[1, 2, 5])
def count(request: pytest.FixtureRequest):
    set_threads(request.param)
    yield request.param
    set_threads(None)


@pytest.mark.parametrize("total", [0, 1, 7, 1023])
@pytest.mark.parametrize("multiple", [1, 48])
def test_spans_cover_everything_once(count: int, total: int, multiple: int) -> None:
    seen = np.zeros(total, int)
    spans: list[tuple[int, int]] = []

    def mark(first: int, last: int) -> None:
        seen[first:last] += 1
        spans.append((first, last))

    spread(mark, total, INLINE, multiple=multiple)
    assert (seen == 1).all() and len(spans) <= count
    assert all(first % multiple == 0 for first, _ in spans)


def test_little_work_stays_with_the_caller(count: int) -> None:
    names: set[str] = set()
    spread(lambda first, last: names.add(threading.current_thread().name), 100, INLINE - 1)
    assert names == {threading.current_thread().name}


def test_the_pool_takes_part(count: int) -> None:
    names: set[str] = set()
    barrier = threading.Barrier(min(count, 2), timeout=10)

    def work(first: int, last: int) -> None:
        names.add(threading.current_thread().name)
        if first < 2:
            barrier.wait()

    spread(work, count, INLINE)
    assert len(names) >= min(count, 2)


def test_an_error_in_any_span_is_raised_and_the_pool_goes_on(count: int) -> None:
    def fail(first: int, last: int) -> None:
        if last == 1000:
            raise ZeroDivisionError("in the last span")

    for _ in range(3):
        with pytest.raises(ZeroDivisionError, match="last span"):
            spread(fail, 1000, INLINE)
    done: list[int] = []
    spread(lambda first, last: done.append(last - first), 1000, INLINE)
    assert sum(done) == 1000


def test_a_kernel_inside_a_kernel_runs_inline(count: int) -> None:
    total = [0] * 8

    def outer(first: int, last: int) -> None:
        for i in range(first, last):

            def inner(a: int, b: int, i: int = i) -> None:
                total[i] += b - a

            spread(inner, 100, INLINE)

    spread(outer, 8, INLINE)
    assert total == [100] * 8


def test_two_callers_at_once_are_both_served(count: int) -> None:
    results: list[float] = []

    def call() -> None:
        for _ in range(50):
            out = np.zeros(4096)
            spread(lambda first, last, out=out: out[first:last].__iadd__(1), 4096, INLINE)
            results.append(float(out.sum()))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for c in callers:
        c.start()
    for c in callers:
        c.join()
    assert results == [4096.0] * 200


@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [((1000, 300), (300, 77)), ((77, 300), (300, 1000)), ((6, 70, 90), (6, 90, 80)), ((1, 200, 90), (3, 1, 90, 80))],
)
def test_products_are_the_same_for_any_number_of_threads(
    count: int, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=a_shape).astype(np.float32), rng.normal(size=b_shape).astype(np.float32)
    expected = np.matmul(a.astype(np.float64), b.astype(np.float64))
    out = np.empty(expected.shape, np.float32)
    with single_blas():
        product(a, b, out)
    np.testing.assert_allclose(out, expected, atol=1e-3)
    transposed = np.empty_like(out)
    with single_blas():
        product(np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2), b, transposed)
    np.testing.assert_allclose(transposed, expected, atol=1e-3)


@pytest.mark.parametrize("shape", [(320, 160, 640), (77, 300, 1000), (64, 1050, 256), (1000, 300, 77), (512, 64, 2048)])
@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
def test_nor_do_their_bits_depend_on_it(shape: tuple[int, int, int], turned: str) -> None:
    (m, k, n), rng = shape, np.random.default_rng(1)
    a = rng.normal(size=(k, m)).T if "a" in turned else rng.normal(size=(m, k))
    b = rng.normal(size=(n, k)).T if "b" in turned else rng.normal(size=(k, n))
    found = set()
    try:
        for threads_now in (1, 2, 3, 4, 7):
            set_threads(threads_now)
            out = np.empty((m, n), np.float32)
            with single_blas():
                product(a.astype(np.float32, order="K"), b.astype(np.float32, order="K"), out)
            found.add(out.tobytes())
    finally:
        set_threads(None)
    assert len(found) == 1


def test_blas_threads_are_given_back() -> None:
    before = [library.get_num_threads() for library in threads._blas()]
    with single_blas():
        assert all(library.get_num_threads() == 1 for library in threads._blas())
    assert [library.get_num_threads() for library in threads._blas()] == before


def test_blas_is_held_in_any_thread_until_the_last_one_leaves() -> None:
    libraries = threads._blas()
    before = [library.get_num_threads() for library in libraries]
    entered, leave, seen = threading.Event(), threading.Event(), []

    def other() -> None:
        with single_blas():
            seen.append([library.get_num_threads() for library in libraries])
            entered.set()
            leave.wait(10)

    try:
        for library in libraries:
            library.set_num_threads(2)
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(10)
        with single_blas():
            pass
        seen.append([library.get_num_threads() for library in libraries])
        leave.set()
        thread.join()
        assert seen == [[1] * len(before)] * 2
        assert [library.get_num_threads() for library in libraries] == [2] * len(before)
    finally:
        for library, count in zip(libraries, before, strict=True):
            library.set_num_threads(count)


def test_set_threads_refuses_none_at_all() -> None:
    with pytest.raises(ValueError, match="at least 1 thread"):
        set_threads(0)


def test_the_setting_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQLIB_THREADS", "3")
    assert threads.threads() == 3
    monkeypatch.setenv("SEQLIB_THREADS", "")
    assert threads.threads() == threads.available()
