"""The command `clipscan`. Options are named as in open_clip where it has them, and become arguments, no more.

Exit codes: 0 done, 1 failed (the message names the file, the row and the remedy), 2 wrong use.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import clipscan
from clipscan.cli import after, bench, heads, lab, serving, stages, tools, training
from clipscan.cli.flags import as_flags
from clipscan.data.atomic import REFUSALS
from clipscan.data.text import printable
from clipscan.errors import ClipscanError, InputError

INTERRUPTED = 130  # how typer exits after Ctrl-C: 128 + SIGINT


def _version(asked: bool) -> None:
    if asked:
        print(f"clipscan {clipscan.__version__}")
        raise typer.Exit


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    stages.scan, stages.embed, stages.knn, stages.score,
    after.report, serving.serve, serving.map, after.invert, after.status, after.explain, after.export,
    after.calibrate, after.partition, after.apply,
    training.train, tools.demo, tools.doctor,
):  # fmt: skip
    app.command()(command)
app.add_typer(heads.app, name="heads")
app.add_typer(lab.app, name="lab")
app.add_typer(bench.app, name="bench")


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Find the poisoned pairs in an image-text dataset before a CLIP model learns from them."""


def main() -> None:
    """Entry point: errors that clipscan raises on purpose become one line and exit code 1."""
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print(
                "clipscan: interrupted; what is finished is kept, and the same command goes on from there",
                file=sys.stderr,
            )
        raise
    except (ClipscanError, ImportError) as error:
        message = (
            as_flags(str(error), typer.main.get_command(app)) if isinstance(error, InputError) else error
        )
        lines = map(printable, str(message).split("\n"))  # names in it are a dataset's
        print("clipscan: " + "\n".join(lines), file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except BrokenPipeError:  # the reader of a pipe left early
        os._exit(1)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        print(f"clipscan: {error}", file=sys.stderr)
        sys.exit(1)
