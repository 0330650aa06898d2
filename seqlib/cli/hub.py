"""Pretrained models: what is cached, download, verify, remove, convert, mirror, publish.

Pretrained models of the Hugging Face hub, of web addresses and of folders.

A HANDLE is hf://ORGANISATION/NAME[@REVISION], the https:// address of a file, an archive or a folder of a static hub,
or a path. SEQLIB_CACHE says where downloads are kept, HF_HOME for those of the hub; SEQLIB_OFFLINE=1 forbids the
network.
"""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click

from seqlib import bundle
from seqlib.cli.main import CONTEXT, flag, help_text, option
from seqlib.hub import handles
from seqlib.hub.convert import merged, to_safetensors
from seqlib.hub.ctranslate2 import to_ctranslate2
from seqlib.hub.formats import open_checkpoint
from seqlib.hub.load import load
from seqlib.hub.publish import to_transformers
from seqlib.hub.save import save_pretrained

HANDLE, FOLDER, TARGET = (click.Argument([name]) for name in ("handle", "folder", "target"))
FILES = option("--files", "Files of a repository that are wanted; repeatable.", multiple=True, metavar="PATTERN")

command = click.Group("hub", help=help_text(__doc__), context_settings=CONTEXT)


def part(*params: click.Parameter) -> Callable[[Callable[..., None]], None]:
    """Adds a function to the commands of this group, with its docstring for help."""

    def added(callback: Callable[..., None]) -> None:
        about = " ".join((callback.__doc__ or "").split())
        name = callback.__name__.strip("_")
        command.add_command(
            click.Command(name, callback=callback, params=list(params), help=about, context_settings=CONTEXT)
        )

    return added


@part()
def _list() -> None:
    """What is in the caches, with sizes and folders."""
    found = handles.cached()
    for handle, folder in found.items():
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        click.echo(f"{size / 1e6:10,.1f} MB  {handle}\n               {folder}")
    if not found:
        click.echo("nothing is cached")


@part(HANDLE, FILES)
def _info(handle: str, files: tuple[str, ...]) -> None:
    """Format, arrays, dtypes and sizes of a model."""
    path = handles.resolve(handle, files=files or None)
    checkpoint = open_checkpoint(path)
    dtypes = Counter(str(entry.dtype) for entry in checkpoint.entries.values())
    click.echo(f"{checkpoint.path}\nformat      {checkpoint.format}")
    click.echo(f"arrays      {len(checkpoint):,} ({', '.join(f'{n:,} {dtype}' for dtype, n in dtypes.items())})")
    click.echo(f"numbers     {sum(math.prod(shape) for shape in checkpoint.shapes.values()):,}")
    click.echo(f"bytes       {checkpoint.nbytes:,}")
    for name, shape in checkpoint.shapes.items():
        click.echo(f"  {name}  {list(shape)}  {checkpoint.entries[name].dtype}")


@part(HANDLE, FILES)
def _download(handle: str, files: tuple[str, ...]) -> None:
    """Download and verify a model; prints the folder or file."""
    click.echo(handles.resolve(handle, files=files or None))


@part(HANDLE)
def _verify(handle: str) -> None:
    """Read every file of a cached model against its digest."""
    handles.verify(handle)
    click.echo(f"{handle}: every file has its digest")


@part(HANDLE)
def _remove(handle: str) -> None:
    """Remove a model from the cache, and what an unfinished download left."""
    handles.remove(handle)


@part(
    HANDLE,
    FOLDER,
    option("--to", "What is written.", one_of=("safetensors", "transformers", "ctranslate2"), default="safetensors"),
    option("--dtype", "What floats become.", one_of=("float32", "float16", "bfloat16")),
    option("--quantization", "CTranslate2's: int8, int16, float16 …"),
    option("--merge", "Instead: the model itself, as it was, with adapters in its weights.", metavar="FILE"),
)
def _convert(handle: str, folder: str, to: str, dtype: str | None, quantization: str | None, merge: str | None) -> None:
    """Write weights of any format that is read as safetensors into FOLDER, names unchanged; or a model as what
    transformers loads (a translation model trained here, a GGUF file …), or CTranslate2 (one trained here)."""
    source, target = handles.resolve(handle), Path(folder)
    if merge is not None:
        click.echo(merged(source, Path(merge), target))
    elif to == "safetensors":
        click.echo(to_safetensors(source, target, dtype))
    elif to == "transformers":
        trained = bundle.locate(source) is not None
        click.echo(to_transformers(bundle.read(source), target) if trained else save_pretrained(load(source), target))
    else:
        click.echo(to_ctranslate2(bundle.read(source), target, quantization))


@part(HANDLE, FOLDER)
def _mirror(handle: str, folder: str) -> None:
    """Put a model into FOLDER with a manifest, for any web server to give out: its address is a handle."""
    click.echo(handles.push(handles.resolve(handle), folder))


@part(FOLDER, TARGET, flag("--private", "Make a new repository private."))
def _push(folder: str, target: str, private: bool) -> None:
    """Publish the files of FOLDER at TARGET: a repository hf://…, or a folder that a web server gives out."""
    click.echo(handles.push(Path(folder), target, private=private))
