"""A second look: how far picture and caption are apart in a model that has NOT seen this data.

The model under suspicion has learnt its poison, so poisoned pairs fit. For a model trained elsewhere a
poisoned pair is merely a wrong caption. This stage computes one number a pair, in a pass of its own over the
dataset; the vectors of the trusted model are not kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from clipscan.data import Shard
from clipscan.engine import as_rows
from clipscan.engine.arrays import Array
from clipscan.errors import RunError
from clipscan.run.earlier import forget
from clipscan.run.file_io import storable, write_array
from clipscan.run.markers import check_intact
from clipscan.run.options import Encoding
from clipscan.run.progress import Progress
from clipscan.run.run_folder import RunFolder
from clipscan.run.shards import Tick, each_shard, embed_settings, embedder
from clipscan.run.vectors import shard_rows
from clipscan.scores.local import pair_cosine

if TYPE_CHECKING:
    from clipscan.embed.embed_shard import Embedded
    from clipscan.embed.model import Encoder
    from clipscan.run.run import Run


def trusted_stage(
    run: Run,
    encoder: Encoder | None,
    encoding: Encoding,
    progress: Progress,
    overwrite: bool = False,
) -> None:
    """One column a shard, trusted/trusted_00000.npy: 1 - cosine of each embedded pair, float64, in the order
    of the vectors; NaN where this model cannot embed a pair. `encoder` is None where no model is trusted.

    Another model than that of an earlier call, or one where there was none, is refused unless `overwrite`,
    which redoes the scores and what follows from them, not the vectors and the graph.
    """
    asked = embed_settings(run, encoder, encoding) if encoder else {"model": None}
    run.ask("trusted", asked, overwrite)
    if encoder is None:
        forget(run, "trusted")
        return
    progress.stage("trusted", "images")
    with embedder(run, encoder, encoding) as embedded:

        def work(number: int, shard: Shard, tick: Tick) -> dict[str, Any]:
            column = _distances(run, number, embedded(shard, tick))
            write_array(run.trusted(number), column)
            missing = int(np.isnan(column).sum())
            return {"embedded": len(column) - missing, "bad": missing}

        each_shard(run, "trusted", asked, progress, work)
    forget(run, "trusted")


def trusted_model(run: RunFolder) -> str | None:
    """The name of the trusted model of a run, None where it has none."""
    name: str | None = run.record.get("asked", {}).get("trusted", {}).get("model")
    return name


def read_trusted(run: RunFolder) -> Array:
    """The column of all samples, [n], in the order of the vectors. RunError where it is not whole."""
    columns = []
    counts = shard_rows(run)
    check_intact(*map(run.trusted, range(len(counts))))
    for shard, count in enumerate(counts):
        path = run.trusted(shard)
        column = np.load(path, allow_pickle=False) if path.exists() else np.empty(0)
        if column.shape != (count,):
            raise RunError(
                f"{path} does not hold one number for each of {count} samples: the pass of the trusted model "
                "has not ended; scan again as before, with --trusted-model and --trusted-pretrained"
            )
        columns.append(column)
    return np.concatenate(columns)


def _distances(run: RunFolder, number: int, embedded: Embedded) -> Array:
    """Joined by (shard, key), since each model may fail on samples that the other can embed."""
    value: dict[tuple[str, str], float] = {}
    if embedded.samples:
        distance = pair_cosine(as_rows(embedded.image), as_rows(embedded.text)).tolist()
        value = {
            (storable(s.shard), storable(s.key)): d for s, d in zip(embedded.samples, distance, strict=True)
        }
    check_intact(run.metadata(number))
    table = pq.read_table(run.metadata(number), columns=["shard", "key"])
    pairs = zip(table["shard"].to_pylist(), table["key"].to_pylist(), strict=True)
    return np.array([value.get(pair, np.nan) for pair in pairs], np.float64)
