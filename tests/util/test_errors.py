from seqlib.util.errors import (
    BundleError,
    DataError,
    DtypeError,
    SeqlibError,
    ShapeError,
    TraceError,
    UsageError,
    nearest,
    unknown,
)


def test_every_error_is_a_seqlib_error() -> None:
    for kind in (BundleError, DataError, DtypeError, ShapeError, TraceError, UsageError):
        assert issubclass(kind, SeqlibError)
    assert issubclass(ShapeError, ValueError)
    assert issubclass(DtypeError, TypeError)


def test_nearest_puts_the_best_first() -> None:
    options = ["translate_bulletin_ende", "translate_multi30k_ende", "translate_multi30k_deen", "lm_pydoc"]
    assert nearest("translate-bulletn-ende", options)[0] == "translate_bulletin_ende"
    assert nearest("TRANSLATE_MULTI30K_EN", options)[0] == "translate_multi30k_ende"
    assert nearest("zzz", options) == []
    assert nearest("x", []) == []


def test_nearest_finds_a_part_and_counts() -> None:
    assert nearest("lr", ["optim.lr", "seed"]) == ["optim.lr"]
    assert len(nearest("abcd", ["abcde", "abcdf", "abcdg", "abcdh"], n=2)) == 2


def test_unknown_names_the_nearest_and_a_short_list() -> None:
    message = str(unknown("problem", "bulletn", ["bulletin", "other"]))
    assert message == "unknown problem 'bulletn'; did you mean bulletin? Known: bulletin, other"
    assert str(unknown("model", "zz", ["a", "b"])) == "unknown model 'zz'; known: a, b"
    assert str(unknown("model", "zz", [])) == "unknown model 'zz'; there is no model to choose from"
    many = [f"name_{i:02}_{'x' * i}" for i in range(40)]
    assert "known" not in str(unknown("model", "qqqq", many)).lower().replace("unknown", "")
