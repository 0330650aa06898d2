"""The one grammar of flags: every path of a msgspec.Struct tree is a flag, a key of the config file, and of its dump.

`optim.lr` is `--optim.lr 3e-4`, and `optim: {lr: 3e-4}` in the file given by `--config`; `--dump_config` writes
that file. A list is `a,b,c`, a dictionary `key=value,key=value`, a truth value `--name` or `--no_name`, None is
`none`. `-` equals `_`. A flag wins over the file, the file over the defaults.
"""

import ast
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click
import msgspec

from seqlib.cli.main import CONTEXT, named_for
from seqlib.train.config import nested
from seqlib.util.errors import UsageError, hint, unknown


@dataclass(frozen=True)
class Leaf:
    """One value of a Struct tree: its path, its type (`kind`), its default, and the Struct class that declares it."""

    path: str
    kind: Any
    default: Any
    owner: type[msgspec.Struct]

    @property
    def is_flag(self) -> bool:
        """True when the value is a truth value, so that its flag takes no word."""
        return self.kind is bool or set(_options(self.kind)) == {bool, type(None)}


def leaves(struct_type: type[msgspec.Struct], prefix: str = "") -> Iterator[Leaf]:
    """Every value of the tree in order of declaration; nested Structs (also `Struct | None`) are walked into."""
    for field in msgspec.structs.fields(struct_type):
        nested = _struct(field.type)
        if nested is not None:
            yield from leaves(nested, f"{prefix}{field.encode_name}.")
            continue
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        yield Leaf(f"{prefix}{field.encode_name}", field.type, default, struct_type)


def parse(leaf: Leaf, value: Any, name: str) -> Any:
    """`value` (text from a flag, anything from a file) as the leaf's type; `name` stands in the UsageError."""
    kinds, text = _options(leaf.kind), value
    if isinstance(value, str):
        if type(None) in kinds and value.casefold() in ("none", "null"):
            return None
        value = _split(value, kinds, name)
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if isinstance(value, str) and choices and value not in map(str, choices) and str not in kinds:
        raise unknown(f"value of {name}:", value, map(str, choices))
    try:
        return msgspec.convert(value, leaf.kind, strict=False)
    except msgspec.ValidationError as error:
        reason = str(error).partition(", got")[0].partition(" - at")[0]
        if reason.startswith(("Expected `", "Invalid")) and ">" not in reason and "<" not in reason:
            reason = f"Expected {type_name(leaf.kind)}"
        raise UsageError(f"{name}: {reason[:1].lower()}{reason[1:]}, got {text!r}") from error


def read_config(path: str, struct_type: type[msgspec.Struct]) -> dict[str, Any]:
    """The values of a YAML or JSON file by path (`{"optim.lr": 0.001}`), converted to the tree's types.

    Keys may be nested or dotted. Raises UsageError, naming the file and the key, for a file that can't be read, an
    unknown key (with the nearest ones) and a value of the wrong type.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"--config: can't read {path}: {error.strerror}") from error
    try:
        decode = msgspec.json.decode if path.endswith(".json") else msgspec.yaml.decode
        tree = decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        kind = "JSON" if path.endswith(".json") else "YAML"
        raise UsageError(f"--config: {path} is not {kind}: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UsageError(f"--config: {path}: expected a mapping of settings, got {type(tree).__name__}")
    known = {leaf.path: leaf for leaf in leaves(struct_type)}
    found: dict[str, Any] = {}
    for key, value in _flatten(tree, known):
        if key not in known:
            raise UsageError(f"--config: {path}: unknown setting {key!r}{hint(key, known)}")
        found[key] = parse(known[key], value, f"{path}: {key}")
    return found


def config_command(
    name: str,
    struct_type: type[msgspec.Struct],
    handler: Callable[..., Any],
    *,
    help: str,
    aliases: Mapping[str, str] | None = None,
    build: Callable[..., msgspec.Struct] | None = None,
    params: Sequence[click.Parameter] = (),
) -> click.Command:
    """A command whose flags are the paths of `struct_type`, plus `--config FILE` and `--dump_config`.

    `aliases` maps further flag names to paths. `params` are the command's own arguments and options; their values
    go to `build` and `handler` by name. `build(tree, **values)` turns what the user gave, a nested dictionary of
    converted values, into the whole configuration (a preset below it, a saved run's); by default the Struct's own
    defaults are taken. Then `handler(config, **values)` runs, unless `--dump_config` asked for the file.
    """
    found = {leaf.path: leaf for leaf in leaves(struct_type)}
    further: dict[str, list[str]] = {path: [] for path in found}
    for alias, path in (aliases or {}).items():
        if path not in found:
            raise ValueError(f"alias {alias!r} of command {name!r} stands for {path!r}, which is no path")
        further[path].append(alias)
    own = [
        click.Option(["--config"], metavar="FILE", help="Read settings from a YAML or JSON file; flags win."),
        click.Option(["--dump_config"], is_flag=True, help="Print the whole configuration as YAML and exit."),
    ]

    def run(config: str | None, dump_config: bool, **values: Any) -> Any:
        given = read_config(config, struct_type) if config is not None else {}
        for path, leaf in found.items():
            value = values.pop(_parameter(path))
            if value is not None:
                given[path] = value if leaf.is_flag else parse(leaf, value, f"--{path}")
        tree = nested(given)
        whole = build(tree, **values) if build is not None else _convert(tree, struct_type)
        if dump_config:
            click.echo(msgspec.yaml.encode(whole).decode(), nl=False)
            return None
        return handler(whole, **values)

    options = [_ConfigOption(leaf, further[path]) for path, leaf in found.items()]
    return _ConfigCommand(name, callback=run, params=[*params, *own, *options], help=help, context_settings=CONTEXT)


def config_file_command(
    struct_type: type[msgspec.Struct], *params: click.Parameter, **how: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """Makes a function the `config_command` that its file is named for, with the help in the file's docstring."""

    def made(handler: Callable[..., Any]) -> click.Command:
        name, text = named_for(handler)
        return config_command(name, struct_type, handler, help=text, params=params, **how)

    return made


class _ConfigCommand(click.Command):
    """Lets a truth value's flag also be written `--name=true` and `--name=false`, and groups the flags in its help."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's own options, then those of each Struct of the tree, under what it is about."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            title = "Options"
            if isinstance(param, _ConfigOption):
                group = param.leaf.path.rpartition(".")[0]
                about = (param.leaf.owner.__doc__ or "").split("\n")[0].rstrip(".")
                title = f"{group}: {about}" if group else about
            groups.setdefault(title, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = (param for param in self.params if isinstance(param, _ConfigOption) and param.leaf.is_flag)
        flags = {opt for option in options for opt in option.opts}
        stop = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [_plain_flag(arg, flags) for arg in args[:stop]] + args[stop:])


def _plain_flag(arg: str, flags: set[str]) -> str:
    name, equals, value = arg.partition("=")
    name = "--" + name[2:].replace("-", "_")
    if not equals or not arg.startswith("--") or name not in flags:
        return arg
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if value.casefold() not in words:
        raise UsageError(f"{name}: expected true or false, got {value!r}")
    return name if words[value.casefold()] else f"--no_{name[2:]}"


class _ConfigOption(click.Option):
    """A flag for one leaf. Its help is the text below the field in the Struct's source, read when it is shown."""

    def __init__(self, leaf: Leaf, aliases: Sequence[str]) -> None:
        names = [leaf.path, *aliases]
        if leaf.is_flag:
            declarations = [f"--{name}/--no_{name}" for name in names]
            super().__init__([*declarations, _parameter(leaf.path)], default=None)
        else:
            declarations = [f"--{name}" for name in names]
            metavar = type_name(leaf.kind)
            super().__init__([*declarations, _parameter(leaf.path)], metavar=metavar, default=None, type=str)
        self.leaf = leaf

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        if record is None:
            return None
        text = _field_docs(self.leaf.owner).get(self.leaf.path.rpartition(".")[2], "")
        if self.leaf.default is not msgspec.NODEFAULT and self.leaf.default not in ("", None, (), {}, [], False):
            text += f"  [{_show(self.leaf.default)}]"
        return record[0], text.strip()


def type_name(kind: Any) -> str:
    """A type as a user reads it: `float`, `int,int`, `a|b`, `text`, `key=value,...`."""
    kinds = [k for k in _options(kind) if k is not type(None)]
    if len(kinds) > 1:
        return "|".join(dict.fromkeys(type_name(k) for k in kinds))
    (kind,) = kinds
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "|".join(str(choice) for choice in arguments)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return ",".join(type_name(argument) for argument in arguments)
    if origin in (tuple, list, set, frozenset):
        return f"{type_name(arguments[0])},..."
    if origin is dict or kind is dict:
        return "key=value,..."
    return {str: "text"}.get(kind, getattr(kind, "__name__", str(kind)))


def _options(kind: Any) -> tuple[Any, ...]:
    """The members of a union; a type alone is its only member. `Annotated` is looked through."""
    if hasattr(kind, "__metadata__"):
        kind = kind.__origin__
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(option for member in get_args(kind) for option in _options(member))
    return (kind,)


def _struct(kind: Any) -> type[msgspec.Struct] | None:
    """The Struct class behind `Struct` or `Struct | None`."""
    kinds = [k for k in _options(kind) if k is not type(None)]
    if len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], msgspec.Struct):
        return kinds[0]
    return None


def _split(text: str, kinds: tuple[Any, ...], name: str) -> Any:
    """Text for a list or a dictionary in its parts, and numbers where a type wants numbers; other text as it is."""
    origins = {get_origin(kind) or kind for kind in kinds}
    if dict in origins:
        found: dict[str, Any] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            key, equals, value = item.partition("=")
            if not equals or not key.strip():
                raise UsageError(f"{name}: expected key=value pairs separated by commas, got {item!r}")
            found[key.strip()] = _scalar(value.strip())
        return found
    if origins & {tuple, list, set, frozenset}:
        members = {member for kind in kinds for argument in get_args(kind) for member in _options(argument)}
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return [_scalar(part) for part in parts] if members & {int, float} else parts
    return _scalar(text) if origins & {int, float} else text


def _scalar(text: str) -> Any:
    """A number or truth value, recognised by its look; the rest is text."""
    if text.casefold() in ("true", "false"):
        return text.casefold() == "true"
    if text[:1].isdigit() or text[:1] in ("+", "-", "."):
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                continue
    return text


def _convert(tree: dict[str, Any], struct_type: type[msgspec.Struct]) -> msgspec.Struct:
    try:
        return msgspec.convert(tree, struct_type)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$")
        path = where.rstrip("`").lstrip(".")
        if text.startswith("Object missing required field"):
            field = text.split("`")[1]
            raise UsageError(f"--{path + '.' if path else ''}{field} is required") from error
        raise UsageError(f"--{path}: {text}" if path else text) from error


def _flatten(tree: Mapping[str, Any], known: Mapping[str, Leaf], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        path = prefix + str(key).replace("-", "_")
        group = any(name.startswith(path + ".") for name in known)
        if isinstance(value, Mapping) and group and path not in known:
            yield from _flatten(value, known, path + ".")
        elif value is None and group:
            continue  # a heading with nothing below it
        else:
            yield path, value


def _parameter(path: str) -> str:
    return "config__" + path.replace(".", "__")


def _show(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


@cache
def _field_docs(owner: type[msgspec.Struct]) -> dict[str, str]:
    """The string literals below the fields of a class, by field name."""
    try:
        source = textwrap.dedent(inspect.getsource(owner))
    except (OSError, TypeError):  # a class made at a prompt has no source
        return {}
    body = ast.parse(source).body[0]
    docs: dict[str, str] = {}
    if isinstance(body, ast.ClassDef):
        for field, below in zip(body.body, body.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                docs[field.target.id] = " ".join(str(below.value.value).split())
    return docs
