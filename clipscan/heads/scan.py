"""A dataset against a Fit: one row a sample, and a picture of where flagged pictures deviate."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.data import Dataset
from clipscan.data.atomic import replacing
from clipscan.errors import DataError, InputError
from clipscan.heads.fit import check_same, refuse_vectors
from clipscan.heads.picture import draw
from clipscan.heads.read_terms import BATCH, TermBatch, read_terms
from clipscan.heads.statistics import Doubles, Fit, Judgement, align, judge
from clipscan.heads.tower import check_tower
from clipscan.run import Progress, Silent
from clipscan.run.embedding import bad_table
from clipscan.run.file_io import storable
from clipscan.run.progress import ShardMeter

if TYPE_CHECKING:
    from clipscan.embed.model import Encoder

SCHEMA = pa.schema(
    [
        ("shard", pa.string()), ("key", pa.string()), ("infected_heads", pa.int32()),
        ("head_score", pa.float64()), ("mlp_score", pa.float64()), ("branch", pa.string()),
        ("flagged", pa.bool_()),
    ]
)  # fmt: skip


@dataclass
class HeadScan:
    """What a scan counted. `branches` of the flagged pictures; the sums are over [L, H + 1] shortfalls."""

    pictures: int = 0
    bad: int = 0
    branches: Counter[str] = field(default_factory=Counter)
    all_sum: Doubles | float = 0.0
    flagged_sum: Doubles | float = 0.0

    @property
    def flagged(self) -> int:
        return sum(self.branches.values())

    def add(self, judged: Judgement) -> None:
        self.pictures += len(judged.flagged)
        self.branches.update(judged.branch[judged.flagged].tolist())
        self.all_sum = self.all_sum + judged.shortfall.sum(axis=0)
        self.flagged_sum = self.flagged_sum + judged.shortfall[judged.flagged].sum(axis=0)


def scan_heads(
    encoder: Encoder,
    fit: Fit,
    dataset: Dataset,
    out: Path,
    *,
    batch_size: int = BATCH,
    workers: int | None = None,
    progress: Progress | None = None,
) -> HeadScan:
    """Write `out` (parquet: shard, key, infected_heads, head_score, mlp_score, branch, flagged), beside it
    the same name with .bad.parquet, what could not be read, and with .svg, a map of blocks x heads.

    One pass, bounded memory; the files appear together at its end. InputError for another suffix or a fit of
    another encoder, DataError where not one sample could be read.
    """
    from clipscan.embed.decode_pool import DecodePool

    if out.suffix != ".parquet":
        raise InputError(f"--out {out}: the rows are a parquet file; give it a name that ends in .parquet")
    refuse_vectors(dataset)
    check_tower(encoder)
    check_same(fit, encoder)
    found = HeadScan()
    progress = progress or Silent()
    progress.stage("heads", "images")
    meter = ShardMeter(progress, [shard.size for shard in dataset.shards])
    places = (out, out.with_suffix(".bad.parquet"), out.with_suffix(".svg"))
    with replacing(*places) as drafts, DecodePool(workers) as pool:
        with (
            pq.ParquetWriter(drafts[0], SCHEMA, compression="zstd") as rows,
            pq.ParquetWriter(drafts[1], bad_table([]).schema, compression="zstd") as bad,
        ):
            for shard in dataset.shards:
                count = 0
                for batch in read_terms(dataset.read(shard), encoder, pool, batch_size):
                    _add(batch, fit, found, rows, bad)
                    count += len(batch.samples) + len(batch.bad)
                    meter.tick(len(batch.samples) + len(batch.bad))
                meter.finish(count)
        if not found.pictures:
            raise DataError(f"{dataset.describe()}: not one readable picture, {found.bad:,} were refused")
        drafts[2].write_text(_picture(found), encoding="utf-8")
    return found


def _add(batch: TermBatch, fit: Fit, found: HeadScan, rows: Any, bad: Any) -> None:
    if batch.bad:
        bad.write_table(bad_table(batch.bad))
        found.bad += len(batch.bad)
    if batch.terms is not None:
        judged = judge(fit, align(batch.terms, fit.prototype))
        found.add(judged)
        rows.write_table(_table(batch, judged))


def _table(batch: TermBatch, judged: Judgement) -> pa.Table:
    columns = {
        "shard": [storable(sample.shard) for sample in batch.samples],
        "key": [storable(sample.key) for sample in batch.samples],
        "infected_heads": judged.infected_heads,
        "head_score": judged.head_score,
        "mlp_score": judged.mlp_score,
        "branch": judged.branch.tolist(),
        "flagged": judged.flagged,
    }
    return pa.table({name: pa.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names})


def _picture(found: HeadScan) -> str:
    """The mean shortfall of the flagged pictures; of all where none is flagged."""
    if found.flagged:
        return draw(np.asarray(found.flagged_sum) / found.flagged, f"{found.flagged:,} flagged pictures")
    return draw(np.asarray(found.all_sum) / found.pictures, f"all {found.pictures:,} pictures, none flagged")
