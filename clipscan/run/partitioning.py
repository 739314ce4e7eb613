"""Safe and risky pairs of an embedded run, by the cosines of its pairs (scores/mixture.py).

    RUN/partition/partition.parquet    shard, key, uid, cosine, posterior, safe of every embedded sample
    RUN/partition/partition.json       what was asked, the mixture, counts; written last

The posterior is null where the mixture does not separate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from clipscan.engine.arrays import Array
from clipscan.errors import InputError, RunError
from clipscan.run.file_io import write_json, write_table
from clipscan.run.trusted import read_trusted, trusted_model
from clipscan.scores.local import pair_cosine
from clipscan.scores.mixture import THRESHOLD, Partition, partition

if TYPE_CHECKING:
    from clipscan.run.run import Run

FOLDER = "partition"
BY = ("cosine", "trusted")  # whose cosines: of the model that embedded the run, or of the trusted one


def partition_stage(
    run: Run,
    *,
    by: str = "cosine",
    threshold: float | None = None,
    share: float | None = None,
) -> Partition:
    """Split the pairs of an embedded run; an earlier partition is replaced.

    Raises RunError for a run without caption vectors, or without a trusted model where that is asked, and
    InputError as scores.mixture.partition does and, unless a share decides, where the cosines do not
    separate; nothing is changed then.
    """
    cosine = _cosines(run, by)
    found = partition(cosine, threshold=threshold, share=share)
    if share is None and not found.separated:
        raise InputError(
            f"{run.path}: {found.finding()}. To take a share of the pairs for safe all the same: --share 0.85"
        )
    (run / FOLDER / "partition.json").unlink(missing_ok=True)
    table = run.names("shard", "key", "uid")
    columns = {"cosine": cosine, "posterior": found.posterior, "safe": found.safe}
    for name, column in columns.items():
        table = table.append_column(name, pa.array(column, from_pandas=True))  # NaN becomes null
    write_table(run / FOLDER / "partition.parquet", table)
    write_json(run / FOLDER / "partition.json", _record(found, by, threshold, share))
    return found


def _cosines(run: Run, by: str) -> Array:
    """Cosine of every pair, [n], in the order of the vectors."""
    if by not in BY:
        raise InputError(f"by={by!r}: whose cosines? There are: {', '.join(BY)}")
    if by == "trusted":
        if trusted_model(run) is None:
            raise RunError(
                f"{run.path} has no trusted model; add one: clipscan embed --trusted-model NAME "
                "--trusted-pretrained TAG"
            )
        return 1.0 - read_trusted(run)
    image, text, _ = run.vectors
    if text is None:
        raise RunError(
            f"{run.path} has no caption vectors: a partition compares pictures with captions; "
            "embed the dataset with its captions"
        )
    return 1.0 - pair_cosine(image, text)


def _record(found: Partition, by: str, threshold: float | None, share: float | None) -> dict[str, Any]:
    threshold = THRESHOLD if threshold is None else threshold
    rule = {"threshold": threshold} if share is None else {"share": share}
    counts = {"pairs": len(found.safe), "safe": int(found.safe.sum())}
    return {"by": by, **rule, **counts, "mixture": found.mixture.record() if found.mixture else None}
