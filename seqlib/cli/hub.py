"""Pretrained models: what is cached, download, verify, remove, convert, mirror, publish."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import click

from seqlib import bundle
from seqlib.cli.main import CONTEXT
from seqlib.hub import handles
from seqlib.hub.convert import to_safetensors
from seqlib.hub.ctranslate2 import to_ctranslate2
from seqlib.hub.formats import open_checkpoint
from seqlib.hub.publish import to_transformers

HANDLE = click.Argument(["handle"])
FILES = click.Option(
    ["--files"], multiple=True, metavar="PATTERN", help="Files of a repository that are wanted; repeatable."
)
HELP = """Pretrained models of the Hugging Face hub, of web addresses and of folders.

A HANDLE is hf://ORGANISATION/NAME[@REVISION], the https:// address of a file, an archive or a folder of a static hub,
or a path. SEQLIB_CACHE says where downloads are kept, HF_HOME for those of the hub; SEQLIB_OFFLINE=1 forbids the
network.
"""


def _list() -> None:
    found = handles.cached()
    for handle, folder in found.items():
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        click.echo(f"{size / 1e6:10,.1f} MB  {handle}\n               {folder}")
    if not found:
        click.echo("nothing is cached")


def _info(handle: str, files: tuple[str, ...]) -> None:
    path = handles.resolve(handle, files=files or None)
    checkpoint = open_checkpoint(path)
    dtypes = Counter(str(entry.dtype) for entry in checkpoint.entries.values())
    click.echo(f"{checkpoint.path}\nformat      {checkpoint.format}")
    click.echo(f"arrays      {len(checkpoint):,} ({', '.join(f'{n:,} {dtype}' for dtype, n in dtypes.items())})")
    click.echo(f"numbers     {sum(math.prod(shape) for shape in checkpoint.shapes.values()):,}")
    click.echo(f"bytes       {checkpoint.nbytes:,}")
    for name, shape in checkpoint.shapes.items():
        click.echo(f"  {name}  {list(shape)}  {checkpoint.entries[name].dtype}")


def _download(handle: str, files: tuple[str, ...]) -> None:
    click.echo(handles.resolve(handle, files=files or None))


def _verify(handle: str) -> None:
    handles.verify(handle)
    click.echo(f"{handle}: every file has its digest")


def _remove(handle: str) -> None:
    handles.remove(handle)


def _convert(handle: str, folder: str, to: str, dtype: str | None, quantization: str | None) -> None:
    source, target = handles.resolve(handle), Path(folder)
    if to == "safetensors":
        click.echo(to_safetensors(source, target, dtype))
    elif to == "transformers":
        click.echo(to_transformers(bundle.read(source), target))
    else:
        click.echo(to_ctranslate2(bundle.read(source), target, quantization))


def _mirror(handle: str, folder: str) -> None:
    click.echo(handles.push(handles.resolve(handle), folder))


def _push(folder: str, target: str, private: bool) -> None:
    click.echo(handles.push(Path(folder), target, private=private))


def _command(name: str, callback: object, help: str, *params: click.Parameter) -> click.Command:
    return click.Command(name, callback=callback, params=list(params), help=help, context_settings=CONTEXT)  # pyright: ignore[reportArgumentType]


FOLDER = click.Argument(["folder"])

command = click.Group(
    "hub",
    help=HELP,
    context_settings=CONTEXT,
    commands=[
        _command("list", _list, "What is in the caches, with sizes and folders."),
        _command("info", _info, "Format, arrays, dtypes and sizes of a model.", HANDLE, FILES),
        _command("download", _download, "Download and verify a model; prints the folder or file.", HANDLE, FILES),
        _command("verify", _verify, "Read every file of a cached model against its digest.", HANDLE),
        _command("remove", _remove, "Remove a model from the cache, and what an unfinished download left.", HANDLE),
        _command(
            "convert",
            _convert,
            "Write weights of any format that is read as safetensors into FOLDER, names unchanged; or a translation "
            "model trained here as what transformers or CTranslate2 loads.",
            HANDLE,
            FOLDER,
            click.Option(
                ["--to"],
                type=click.Choice(["safetensors", "transformers", "ctranslate2"]),
                default="safetensors",
                show_default=True,
                help="What is written.",
            ),
            click.Option(
                ["--dtype"], type=click.Choice(["float32", "float16", "bfloat16"]), help="What floats become."
            ),
            click.Option(["--quantization"], help="CTranslate2's: int8, int16, float16 …"),
        ),
        _command(
            "mirror",
            _mirror,
            "Put a model into FOLDER with a manifest, for any web server to give out: its address is a handle.",
            HANDLE,
            FOLDER,
        ),
        _command(
            "push",
            _push,
            "Publish the files of FOLDER at TARGET: a repository hf://…, or a folder that a web server gives out.",
            FOLDER,
            click.Argument(["target"]),
            click.Option(["--private"], is_flag=True, help="Make a new repository private."),
        ),
    ],
)
