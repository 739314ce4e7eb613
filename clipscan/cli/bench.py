"""`clipscan bench ...`: how fast is this machine?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from clipscan.cli.option_groups import grouped
from clipscan.cli.options import K, Threads
from clipscan.run.options import Encoding

app = typer.Typer(no_args_is_help=True, help="Measure this machine: the search, the way into vectors.")

OfEncoder = Annotated[Encoding, "batch_size", "device", "precision", "workers", "compile"]  # in this order


@app.command("knn")
def bench_knn(
    n: Annotated[int, typer.Option("--n", help="generated rows")] = 50_000,
    d: Annotated[int, typer.Option("--d", help="their width")] = 512,
    k: Annotated[list[str] | None, typer.Option("--k", help="neighbours, one or several: 16,64")] = None,
    data: Annotated[str, typer.Option(help="clustered | tight (the worst case)")] = "clustered",
    threads: Threads = None,
    rounds: Annotated[int, typer.Option(help="counted runs")] = 3,
    csv: Annotated[Path | None, typer.Option("--csv", help="append the rows to this file")] = None,
) -> None:
    """The exact neighbour table of generated rows: time, share of this machine's peak, recall, memory."""
    from clipscan.bench import ITSELF, KnnPlan, drive, parse_ks, report
    from clipscan.engine import cores

    plan = KnnPlan(n, d, parse_ks(k or ["16,64"]), threads or cores(), rounds, data=data)
    print(report(drive(plan, {"clipscan": ITSELF}, lambda line: print(line, file=sys.stderr)), csv))


@app.command("kernels")
def bench_kernels(
    n: Annotated[int, typer.Option("--n", help="generated rows")] = 200_000,
    d: Annotated[int, typer.Option("--d", help="their width")] = 512,
    k: K = 16,
    device: Annotated[int, typer.Option(help="number of the GPU")] = 0,
    rounds: Annotated[int, typer.Option(help="counted runs")] = 20,
    json: Annotated[Path | None, typer.Option("--json", help="add the rows to this file")] = None,
) -> None:
    """The CUDA engine's kernels one by one: time, rate, share of the GPU's matrix and copy rates."""
    from clipscan.bench import records
    from clipscan.bench.kernel_work import KernelPlan
    from clipscan.bench.kernels import measure_kernels, table

    rows = []
    plan = KernelPlan(n, d, k, device, rounds)
    for row in measure_kernels(plan, lambda line: print(line, file=sys.stderr)):
        rows.append(row)
        if json:
            records.add(json, "kernels", row)
    print(table(rows))


@app.command("embed")
@grouped
def bench_embed(
    model: Annotated[
        str, typer.Option(help="open_clip's name; random weights, nothing is fetched")
    ] = "ViT-B-32",
    n: Annotated[
        int | None, typer.Option("--n", help="generated pictures a round; default: 128, on a GPU 8192")
    ] = None,
    encoding: OfEncoder = Encoding(),
    rounds: Annotated[int, typer.Option(help="counted runs")] = 3,
    csv: Annotated[Path | None, typer.Option("--csv", help="append the rows to this file")] = None,
) -> None:
    """Pictures a second: the encoder alone, as a sum of heads, captions alone, decoding alone, all."""
    from clipscan.bench import report
    from clipscan.bench.embed import COLUMNS, EmbedPlan, measure_embedding, table

    plan = EmbedPlan(model, n, rounds=rounds, **vars(encoding))
    rows = measure_embedding(plan, lambda line: print(line, file=sys.stderr))
    print(report(rows, csv, COLUMNS, table))


@app.command("decode")
def bench_decode(
    size: Annotated[int, typer.Option("--size", help="pixels that a model wants along a side")] = 224,
    n: Annotated[int, typer.Option("--n", help="generated JPEGs of each kind")] = 4,
    rounds: Annotated[int, typer.Option(help="counted runs")] = 15,
    csv: Annotated[Path | None, typer.Option("--csv", help="append the rows to this file")] = None,
) -> None:
    """CPU time from a JPEG to a model's pixels: clipscan, Pillow and the decoders that are installed."""
    from clipscan.bench import report
    from clipscan.bench.decode import COLUMNS, DecodePlan, measure_decoding, table

    rows = measure_decoding(DecodePlan(size, n, rounds), lambda line: print(line, file=sys.stderr))
    print(report(rows, csv, COLUMNS, table))
