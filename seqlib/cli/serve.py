"""Serve a model over HTTP, in batches of many clients' texts.

Serve the model in DIR, a folder or a handle: /translate, /generate, /classify or /embed, by what it does,
TensorFlow Serving's /v1/models/NAME:predict, /health, and at / a page to try it. The address is printed once requests
are taken; SIGTERM and Ctrl-C end the server after the requests in flight.

\b
  seqlib serve runs/mine
  seqlib serve runs/mine --port 0 --max_batch 64 --limits.characters 2000
"""

from importlib.util import find_spec
from pathlib import Path

import click

from seqlib.cli.flags import config_file_command
from seqlib.cli.main import FOLDER, OWN_MODEL
from seqlib.serve.config import ServeConfig
from seqlib.util.errors import UsageError


@config_file_command(ServeConfig, FOLDER, OWN_MODEL)
def command(config: ServeConfig, folder: str, model: str | None) -> None:
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise UsageError(f"serve needs {' and '.join(missing)}: pip install '.[serve]' in the checkout")
    from seqlib.hub.load import load
    from seqlib.serve.server import Server

    loaded = load(folder, model=model, device=config.device, precision=config.precision)
    server = Server(loaded, config, Path(folder.rpartition("://")[2]).resolve().name)
    server.run(lambda: click.echo(server.url))
