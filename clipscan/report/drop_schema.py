"""The rows of drop.parquet as a table: its columns, the one that a run has, and two of them joined."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.report.rule import joined, rule_of, with_rule
from clipscan.run.markers import check_intact

DROP_SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("key", pa.string()),
        ("uid", pa.string()),
        ("reason", pa.string()),
        ("score", pa.float64()),
    ]
)

Pair = tuple[str, str]


def listed(folder: Path) -> pa.Table:
    """The drop list of the run as it is; an empty one where there is none."""
    path = folder / "drop.parquet"
    check_intact(path)
    table = pq.read_table(path) if path.exists() else DROP_SCHEMA.empty_table()
    return table.select(DROP_SCHEMA.names).cast(with_rule(DROP_SCHEMA, rule_of(table.schema)))


def together(first: pa.Table, second: pa.Table) -> pa.Table:
    """Both lists; a sample is named once, as the first names it."""
    before = set(pairs_of(first))
    fresh = second.filter(pa.array([pair not in before for pair in pairs_of(second)], pa.bool_()))
    rule = joined(rule_of(first.schema), rule_of(second.schema))
    both = pa.concat_tables([first.replace_schema_metadata(None), fresh.replace_schema_metadata(None)])
    return both.cast(with_rule(DROP_SCHEMA, rule))


def pairs_of(table: pa.Table | pa.RecordBatch) -> list[Pair]:
    """(shard, key) of every row."""
    return list(zip(table.column("shard").to_pylist(), table.column("key").to_pylist(), strict=True))
