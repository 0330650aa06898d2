from pathlib import Path
from typing import Annotated, Any, Literal

import click
import msgspec
import pytest

from seqlib.cli.flags import config_command, leaves
from seqlib.cli.main import group, main


class Optim(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    lr: float = 1e-3
    """Learning
    rate."""
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: Annotated[int, msgspec.Meta(ge=0)] = 10


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    problem: str
    optim: Optim = Optim()
    spare: Optim | None = None
    files: tuple[str, ...] = ()
    limit: int | None = 5
    every: int | str = 100
    mode: Literal["fast", "exact"] = "fast"
    hparams: dict[str, int | float | bool | str] = {}
    shuffle: bool = True
    train_steps: int = 0


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """Calls of the handler of a command `train` over `Run`."""
    calls: list[tuple[Any, dict[str, Any]]] = []
    command = config_command(
        "train",
        Run,
        lambda config, **values: calls.append((config, values)),
        help="Train.",
        aliases={"learning_rate": "optim.lr", "lr": "optim.lr"},
        params=[click.Option(["--dry_run"], is_flag=True)],
    )
    monkeypatch.setattr(group, "get_command", lambda ctx, name: command)
    monkeypatch.setattr(group, "list_commands", lambda ctx: ["train"])
    return calls


def run(seen: list[tuple[Any, dict[str, Any]]], *argv: str) -> Run:
    assert main(["train", "--problem", "p", *argv]) == 0
    return seen[-1][0]


def test_leaves_are_paths_in_order() -> None:
    found = [leaf.path for leaf in leaves(Run)]
    assert found[:5] == ["problem", "optim.lr", "optim.betas", "optim.warmup", "spare.lr"]


def test_defaults(seen: list) -> None:
    assert run(seen) == Run(problem="p")
    assert seen[-1][1] == {"dry_run": False}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--optim.lr", "3e-4"], Run(problem="p", optim=Optim(lr=3e-4))),
        (["--learning-rate=3e-4"], Run(problem="p", optim=Optim(lr=3e-4))),
        (["--lr", ".5"], Run(problem="p", optim=Optim(lr=0.5))),
        (["--lr", "1", "--lr", "2"], Run(problem="p", optim=Optim(lr=2.0))),
        (["--optim.betas", "0.5, .9"], Run(problem="p", optim=Optim(betas=(0.5, 0.9)))),
        (["--spare.warmup", "3"], Run(problem="p", spare=Optim(warmup=3))),
        (["--files", "a.en,b.de"], Run(problem="p", files=("a.en", "b.de"))),
        (["--files", ""], Run(problem="p")),
        (["--limit", "none"], Run(problem="p", limit=None)),
        (["--every", "5m"], Run(problem="p", every="5m")),
        (["--every", "5"], Run(problem="p", every=5)),
        (["--mode", "exact"], Run(problem="p", mode="exact")),
        (["--hparams", "d=1,p=.5,x=relu,t=True"], Run(problem="p", hparams={"d": 1, "p": 0.5, "x": "relu", "t": True})),
        (["--no_shuffle"], Run(problem="p", shuffle=False)),
        (["--no-shuffle", "--shuffle"], Run(problem="p")),
        (["--shuffle=False"], Run(problem="p", shuffle=False)),
        (["--train-steps", "7"], Run(problem="p", train_steps=7)),
        (["--train_steps", "-7"], Run(problem="p", train_steps=-7)),
    ],
)
def test_every_path_is_a_flag(seen: list, argv: list[str], expected: Run) -> None:
    assert run(seen, *argv) == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--optim.lr", "abc"], "--optim.lr: expected float, got 'abc'"),
        (["--lr", "abc"], "--optim.lr: expected float, got 'abc'"),
        (["--optim.betas", "1"], "--optim.betas: expected float,float, got '1'"),
        (["--optim.warmup", "-1"], "--optim.warmup: expected `int` >= 0, got '-1'"),
        (["--train_steps", "1.5"], "--train_steps: expected int, got '1.5'"),
        (["--mode", "exactly"], "unknown value of --mode: 'exactly'; did you mean exact?"),
        (["--hparams", "d"], "--hparams: expected key=value pairs separated by commas, got 'd'"),
        (["--shuffle=maybe"], "--shuffle: expected true or false, got 'maybe'"),
        (["--optm.lr", "1"], "unknown flag '--optm.lr'; did you mean --optim.lr"),
        (["--warmup", "1"], "unknown flag '--warmup'; did you mean --optim.warmup"),
        (["--lr"], "requires an argument"),
    ],
)
def test_mistakes_name_the_flag(seen: list, capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    assert main(["train", "--problem", "p", *argv]) == 2
    assert message in capsys.readouterr().err
    assert not seen


def test_a_required_value_is_asked_for(seen: list, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    assert "--problem is required" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.yaml",
            "problem: q\noptim:\n  lr: 3e-4\n  betas: [0.5, 0.9]\nlimit: null\ntrain-steps: 2\nhparams: {d: 1}\n",
        ),
        ("a.yaml", "problem: q\noptim.lr: 0.0003\noptim.betas: 0.5,0.9\nlimit: none\ntrain_steps: 2\nhparams: d=1\n"),
        (
            "a.json",
            '{"problem": "q", "optim": {"lr": 3e-4, "betas": [0.5, 0.9]}, "limit": null, "train_steps": 2,'
            ' "hparams": {"d": 1}}',
        ),
    ],
)
def test_config_files_use_the_same_paths(seen: list, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert main(["train", "--config", str(tmp_path / name), "--train_steps", "9"]) == 0
    optim = Optim(lr=3e-4, betas=(0.5, 0.9))
    assert seen[-1][0] == Run(problem="q", optim=optim, limit=None, train_steps=9, hparams={"d": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {lrr: 1}", "unknown setting 'optim.lrr'; did you mean optim.lr"),
        ("optim: {lr: fast}", "a.yaml: optim.lr: expected float, got 'fast'"),
        ("optim: 3", "unknown setting 'optim'"),
        ("a: [", "is not YAML"),
        ("[1]", "expected a mapping of settings, got list"),
    ],
)
def test_config_mistakes_name_the_file(
    seen: list, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert main(["train", "--config", str(tmp_path / "a.yaml")]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "a.yaml" in err
    assert main(["train", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: No such file" in capsys.readouterr().err


def test_the_dump_reads_back(seen: list, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--lr", "3e-4", "--spare.lr", "1", "--files", "a,b", "--hparams", "d=1,x=true", "--no_shuffle"]
    expected = run(seen, *argv)
    assert main(["train", "--problem", "p", *argv, "--dump-config"]) == 0
    assert len(seen) == 1
    (tmp_path / "dump.yaml").write_text(capsys.readouterr().out)
    assert main(["train", "--config", str(tmp_path / "dump.yaml")]) == 0
    assert seen[-1][0] == expected


def test_help_shows_type_default_and_docstring(seen: list, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--optim.lr, --learning_rate, --lr float Learning rate. [0.001]" in text
    assert "--mode fast|exact" in text
    assert "--optim.betas float,float [0.9,0.98]" in text


def test_build_gets_what_was_given_and_the_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def build(tree: dict[str, Any], resume: str | None) -> Run:
        given.append((tree, resume))
        return Run(problem="built")

    command = config_command(
        "train",
        Run,
        lambda config, resume: given.append(config),
        help="",
        build=build,
        params=[click.Option(["--resume"])],
    )
    monkeypatch.setattr(group, "get_command", lambda ctx, name: command)
    monkeypatch.setattr(group, "list_commands", lambda ctx: ["train"])
    assert main(["train", "--resume", "dir", "--optim.lr", "1", "--no_shuffle"]) == 0
    assert given == [({"optim": {"lr": 1.0}, "shuffle": False}, "dir"), Run(problem="built")]


def test_an_alias_of_nothing_is_a_defect() -> None:
    with pytest.raises(ValueError, match="is no path"):
        config_command("train", Run, print, help="", aliases={"x": "optim.x"})


def test_precisions_that_commands_offer_are_those_there_are() -> None:
    from seqlib.cli.main import DEVICE
    from seqlib.nn.precision import PRECISIONS

    assert tuple(DEVICE[1].type.choices) == (*PRECISIONS, "int8")  # pyright: ignore[reportAttributeAccessIssue]


def test_help_groups_flags_by_what_they_are_about(capsys: pytest.CaptureFixture[str]) -> None:
    from seqlib.cli.main import main as command_line
    from seqlib.train.config import ALIASES, paths

    assert command_line(["train", "--help"]) == 0
    text = capsys.readouterr().out
    headings = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    names = [heading.partition(":")[0] for heading in headings]
    assert names == ["Options", "One training run", "data", "optim", "batch", "decode"]
    flags = [*paths(), *ALIASES, "resume", "trust", "dry_run", "config", "dump_config"]
    assert all(f"--{flag}" in text for flag in flags)
    below = text[text.index("Options:") :]
    optim = below.index("optim: The optimizer, its rate over time, and the loss:")
    assert below.index("--resume") < below.index("--train_steps") < optim < below.index("--optim.lr")
