"""The lists and the page of a run as tasks: kept while they are whole, made again where they are not.

drop.parquet is the truth, the other lists follow from it. A person may have decided what is on it, so it is
never made anew while it is whole; where it is lost, by the rule it was made by, which its marker keeps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.errors import RunError
from clipscan.report.choose import choose_drops
from clipscan.report.drop_schema import DROP_SCHEMA, together
from clipscan.report.page import write_page
from clipscan.report.rule import Rule, rule_of
from clipscan.report.write_lists import Written, write_lists
from clipscan.run.markers import Damaged, begin_marker, check_intact, read_marker, write_marker
from clipscan.run.run import Run
from clipscan.run.run_folder import RunFolder, fingerprint

LISTS, PAGE = "lists", "page"
AGAIN = "clipscan export {run} --decisions FILE writes it again; --apart in its place takes clipscan's rule"


def put_lists(run: RunFolder, rows: pa.Table) -> Written:
    """The four lists of the rows to drop; the marker holds the rule from before the first rename on."""
    begin_marker(run.path, LISTS, {"rule": rule_of(rows.schema)})
    written = write_lists(run.path, rows)
    counts = {"kept": written.kept, "dropped": written.dropped}
    write_marker(run.path, LISTS, _made_of(run), {"rule": rule_of(rows.schema), **counts})
    run.update(counts=counts)
    return written


def keep_lists(run: RunFolder, otherwise: Rule) -> None:
    """Keep whole lists; make others again from drop.parquet or, if that is lost, by the rule that it was made
    by, `otherwise` where there was none.

    RunError where what is lost was decided by a person.
    """
    marker = run.finished(LISTS, _made_of(run))
    if marker:
        run.update(counts={name: marker[name] for name in ("kept", "dropped")})
        return
    marker = read_marker(run.path, LISTS)
    drop = run / "drop.parquet"
    rows, rule = _rows(drop), marker.get("rule") or otherwise
    if rows is not None:
        rule = rule_of(rows.schema)
        stale = marker.get("fingerprint") not in (None, _made_of(run))  # of other scores
        rows = _by(run, rule) if stale and _by_scores(rule) else rows
    elif _by_scores(rule):
        rows = _by(run, rule)
    else:
        raise RunError(
            f"{drop} is damaged or gone, and was decided on by a person: {AGAIN.format(run=run.path)}"
        )
    put_lists(run, rows)


def put_page(run: Run, *, blur: bool = False) -> Path:
    """The page of what the run holds by now. blur: its pictures are blurred until they are asked for."""
    page = write_page(run.path, run.dataset, blur=blur)
    write_marker(run.path, PAGE, _shown(run), {})
    return page


def keep_page(run: Run) -> None:
    """Write the page unless it is whole and shows what the run holds."""
    if not run.finished(PAGE, _shown(run)):
        put_page(run)


def _made_of(run: RunFolder) -> str:
    """Digest of the samples and scores that the lists are made of."""
    return fingerprint(run.contents("embed", "embeddings/metadata"), *map(run.contents, ("score", "select")))


def _shown(run: RunFolder) -> str:
    stages = ("embed", "score", "select", LISTS, "partition")
    return fingerprint(run.record, *map(run.contents, stages))


def _rows(drop: Path) -> pa.Table | None:
    """The rows of a drop list, None where it is lost or damaged."""
    try:
        check_intact(drop)
        table = pq.read_table(drop)
        return table.select(DROP_SCHEMA.names)
    except (Damaged, OSError, ValueError, KeyError):  # pyarrow's own errors are of the last three
        return None


def _by_scores(rule: Rule) -> bool:
    """Whether the rule gives the same rows again from the scores alone."""
    return bool(rule) and all(one.keys() <= {"apart", "fraction", "threshold"} for one in _single(rule))


def _by(run: RunFolder, rule: Rule) -> pa.Table:
    first, *others = (_selected(run.path, one) for one in _single(rule))
    for other in others:
        first = together(first, other)
    return first


def _single(rule: Rule) -> list[Rule]:
    joined: Any = rule.get("joined", [rule])
    return [one for one in joined if isinstance(one, dict)] if isinstance(joined, list) else [rule]


def _selected(folder: Path, rule: Rule) -> pa.Table:
    return choose_drops(folder, apart=True) if "apart" in rule else choose_drops(folder, **rule)
