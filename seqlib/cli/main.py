"""The command `seqlib`: finds the command's file, runs it, and turns what a user can mend into one line.

Every module in this folder but this one and `flags` is a command: it offers `command`, a `click.Command`, and the
first line of its docstring is its line in `seqlib --help`, which is read without importing it; the rest is its help.

Exit codes: 0 done, 1 where what a command checks is not as it should be, 2 for anything the user can mend, 130 when
interrupted.
"""

import ast
import contextlib
import errno
import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

import seqlib
from seqlib.util.errors import SeqlibError, UsageError, nearest, unknown

# '-' equals '_' in every flag and command name.
CONTEXT = {
    "token_normalize_func": lambda token: token.replace("-", "_"),
    "help_option_names": ["-h", "--help"],
    "max_content_width": 110,
}


def option(names: str, help: str, *, least: int | None = None, one_of: Sequence[str] = (), **more: Any) -> click.Option:
    """An option: its flag, and behind it the parameter's name where that is another. Its value is a whole number of at
    least `least`, or `one_of` some words; `more` is as in `click.Option`. A default is shown in the help."""
    if least is not None:
        more["type"] = click.IntRange(min=least)
    elif one_of:
        more["type"] = click.Choice(one_of)
    return click.Option(names.split(), help=help, show_default=bool(more.get("default")), **more)


def flag(names: str, help: str) -> click.Option:
    """An option without a value."""
    return option(names, help, is_flag=True)


def help_text(doc: str | None) -> str:
    """A command's help: what stands in the docstring of its file below the line for the list, or else that line."""
    first, _, more = (doc or "").partition("\n\n")
    return more or first


def file_command(*params: click.Parameter) -> Callable[[Callable[..., Any]], click.Command]:
    """Makes a function the command that its file is named for, with the help in the file's docstring."""

    def made(callback: Callable[..., Any]) -> click.Command:
        name, text = named_for(callback)
        return click.Command(name, callback=callback, params=list(params), help=text, context_settings=CONTEXT)

    return made


def named_for(callback: Callable[..., Any]) -> tuple[str, str]:
    """Name and help of the command of a function's file."""
    return callback.__module__.rpartition(".")[2], help_text(sys.modules[callback.__module__].__doc__)


def loaded(use: str, handles: Sequence[str], options: dict[str, Any]) -> Any:
    """The model of a folder or handle (or of several folders) with what `options` say of model, device, precision and
    adapter, which are taken out of them. Raises UsageError for one that has no method `use`."""
    from seqlib.hub.load import load
    from seqlib.nn.lora import load_adapter

    how = {name: options.pop(name) for name in ("model", "device", "precision") if name in options}
    found, adapter = load(*handles, **how), options.pop("adapter", None)
    if not hasattr(found, use):
        raise UsageError(f"{handles[0]}: does not {use}; `seqlib inspect {handles[0]}` says what it is for")
    if adapter is not None:
        load_adapter(found.model, adapter)
    return found


DEVICES = ("auto", "cpu", "cuda")
FOLDER = click.Argument(["folder"], metavar="DIR")

OWN_MODEL = option("--model", "Where the code of a model of your own is now; it is run.", metavar="FILE.py:NAME")
"""For commands that read a saved model."""

OWN_PROBLEM = option("--problem", "Where the code of a problem of your own is now; it is run.", metavar="FILE.py:NAME")
"""For commands that read the data of a saved model or a run."""

DEVICE = (
    option("--device", "Where to compute; auto: on the GPU where there is one.", one_of=DEVICES, default="auto"),
    option(
        "--precision",
        "Arithmetic; auto: bf16 on a GPU that has it, else fp32; int8: on the CPU.",
        one_of=("auto", "fp32", "bf16", "fp16", "int8"),
        default="auto",
    ),
)
"""For commands that run a model."""


def _use_threads(ctx: click.Context, param: click.Parameter, value: int | None) -> None:
    if value is not None:
        os.environ["SEQLIB_THREADS"] = str(value)


THREADS = option(
    "--threads",
    "Threads of the CPU's kernels.  [SEQLIB_THREADS, else all processors]",
    least=1,
    expose_value=False,
    callback=_use_threads,
)
"""For all commands."""

_ADVICE = {
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.EROFS: "name a place that can be written",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or name another place",
    errno.ENOSPC: "free some space and try again",
    errno.EDQUOT: "free some space and try again",
}

_NOT_COMMANDS = {"__init__", "main", "flags"}


def typed(told: str) -> Iterator[str]:
    """Say on stderr what is to be typed, and give the lines that hold something, until Ctrl-D or Ctrl-C."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # arrow keys and earlier lines in `input`
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    click.echo(told, err=True)
    while True:
        try:
            line = input("> ")
        except (EOFError, KeyboardInterrupt):
            click.echo(err=True)
            return
        if line.strip():
            yield line


class Commands(click.Group):
    """A group whose commands are the files of this folder, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        stems = (path.stem for path in Path(__file__).parent.glob("*.py"))
        return sorted(stem for stem in stems if stem not in _NOT_COMMANDS and not stem.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"seqlib.cli.{cmd_name}").command
        if THREADS not in command.params:
            command.params.append(THREADS)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0].replace("-", "_")
        if args[0].startswith("-"):
            return super().resolve_command(ctx, args)  # an unknown flag
        if name not in self.list_commands(ctx):
            raise unknown("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, [name, *args[1:]])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, _first_line(name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _first_line(command: str) -> str:
    source = Path(__file__).with_name(f"{command}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").split("\n")[0]


group = Commands(
    name="seqlib",
    help="Train, evaluate and use translation models. `seqlib COMMAND --help` explains one command.",
    context_settings=CONTEXT,
)
click.version_option(seqlib.__version__, prog_name="seqlib", message="%(prog)s %(version)s")(group)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (by default the process's) and return its exit code."""
    try:
        result = group.main(list(argv) if argv is not None else None, "seqlib", standalone_mode=False)
        sys.stdout.flush()
    except SeqlibError as error:
        return _fail(str(error))
    except click.exceptions.NoSuchOption as error:
        return _fail(_unknown_flag(error), error.ctx)
    except click.UsageError as error:
        return _fail(error.format_message(), error.ctx)
    except click.ClickException as error:
        return _fail(error.format_message())
    except click.Abort as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            return 130
        return _fail("the input ended where an answer was expected")
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT):
            # What is left in the buffer has nowhere to go, at exit neither. A reader that left (`| head`) is no error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0 if error.errno == errno.EPIPE else _fail(f"standard output: {_reason(error)}")
        if error.filename is None:
            raise  # no file of the user's
        return _fail(f"{error.filename}: {_reason(error)}")
    return result if isinstance(result, int) else 0


def _fail(message: str, ctx: click.Context | None = None) -> int:
    where = f"\nTry `{ctx.command_path} --help`." if ctx is not None else ""
    print(f"error: {message}{where}", file=sys.stderr)
    return 2


def _reason(error: OSError) -> str:
    """What the system says, and what to do about it."""
    advice = _ADVICE.get(error.errno or 0)
    return f"{error.strerror}; {advice}" if advice else str(error.strerror)


def _unknown_flag(error: click.exceptions.NoSuchOption) -> str:
    """The message for a flag that does not exist: first those with the same last part, then the nearest names."""
    name = error.option_name.lstrip("-").replace("-", "_")
    flags: list[str] = []
    if error.ctx is not None:
        for param in error.ctx.command.get_params(error.ctx):
            if isinstance(param, click.Option):
                flags += [flag.lstrip("-") for flag in (*param.opts, *param.secondary_opts)]
    same_end = [flag for flag in flags if flag.rpartition(".")[2] == name]
    near = list(dict.fromkeys([*same_end, *nearest(name, flags)]))[:3]
    hint = f"; did you mean {' or '.join('--' + flag for flag in near)}?" if near else ""
    return f"unknown flag {error.option_name!r}{hint}"
