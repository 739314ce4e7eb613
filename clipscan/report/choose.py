"""Which rows to drop: the most suspicious share, all above a threshold, or what a reviewer decided."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.errors import InputError, RunError
from clipscan.report.convicted import convicts
from clipscan.report.drop_schema import DROP_SCHEMA, Pair, listed, pairs_of, together
from clipscan.report.find_sample import SampleFinder
from clipscan.report.glossary import label
from clipscan.report.identities import batches, embedded, identities, not_scored
from clipscan.report.merge_decisions import REFUSE, Merged, merge_decisions
from clipscan.report.rule import with_rule
from clipscan.run.markers import check_intact, complete
from clipscan.run.run_folder import run_record
from clipscan.scores.result import count_of


def choose_drops(
    folder: Path,
    *,
    fraction: float | None = None,
    threshold: float | None = None,
    decisions: Path | Sequence[Path] | None = None,
    apart: bool = False,
    add: bool = False,
    conflicts: str = REFUSE,
) -> pa.Table:
    """Rows to drop (DROP_SCHEMA), most suspicious first: suspects.parquet and, where it ends early, scores/.

    Exactly one of
    - fraction: share of the embedded samples in 0..1, rounded up to whole samples;
    - threshold: every score above it;
    - apart: those that consensus convicted, or that stand apart at the suspicious end of another score,
      perhaps none: run.json's estimate of their number;
    - decisions: files, each CSV, parquet or JSON lines with key, decision (drop | keep) and, where a key is
      in several shards, shard; or what the page saved. In the order of the files. Samples they do not name
      are kept, except those above a border that the page's file names.
    conflicts: what becomes of samples that one file drops and another keeps (merge_decisions.py).
    add: to the run's drop list as it is, whose rows come first; what decisions keep is taken off it.
    The first two are the rules of ScoreResult.flag. Equal scores keep the order of suspects.parquet; past its
    end, that of the rows. A NaN score is dropped by a decision only.
    Errors: InputError for arguments, RunError for a run without scores or a decision about an unknown sample.
    """
    asked = {"fraction": fraction, "threshold": threshold, "decisions": decisions, "apart": apart or None}
    given = [f"--{name}" for name, value in asked.items() if value is not None]
    if len(given) != 1:
        raise InputError(
            "say by which rule to drop, with exactly one of --fraction 0.01, --threshold SCORE, --decisions "
            f"FILE and --apart; given: {', '.join(given) or 'none'}"
        )
    if decisions is not None:
        files = [Path(decisions)] if isinstance(decisions, str | Path) else [*map(Path, decisions)]
        return _by_decision(folder, files, conflicts, add)
    chosen = _by_rule(folder, fraction, threshold, apart)
    return together(listed(folder), chosen) if add else chosen


def _by_rule(folder: Path, fraction: float | None, threshold: float | None, apart: bool) -> pa.Table:
    if apart:
        return _apart(folder)
    if fraction is not None:
        return _by_share(folder, fraction)
    assert threshold is not None
    return _by_threshold(folder, threshold)


class Ranked(NamedTuple):
    """Rows by descending score: pairs [m], score [m]."""

    pairs: list[Pair]
    score: np.ndarray[Any, np.dtype[np.float64]]

    def first(self, count: int) -> Ranked:
        return Ranked(self.pairs[:count], self.score[:count])


def method_of(run_json: dict[str, Any]) -> str:
    """The name of the score that ranks; "score" where run.json does not say."""
    method = run_json.get("score", {}).get("method", "score")
    return str(method[0] if isinstance(method, list) and method else method)


def ranking(folder: Path, columns: Iterable[str]) -> str:
    """The column of the scores that ranks. RunError where they have none of the name that run.json says."""
    method = method_of(run_record(folder))
    if method not in columns:
        raise RunError(
            f"{folder / 'run.json'} names {method!r} as the score that ranks, and no such score was made; "
            "clipscan score (or scan), called as before, writes it anew"
        )
    return method


def _apart(folder: Path) -> pa.Table:
    record = run_record(folder)
    if "estimate" not in record:
        raise RunError(f"{folder} has no estimate of how many to drop; make one: clipscan score {folder}")
    number = int(record["estimate"]["number"])
    chosen = _suspects(folder).first(number)
    method = method_of(record)
    apart = "are convicted" if convicts(record) else "stand apart"
    reasons = [f"rank {rank} by {method}, of {number} that {apart}" for rank in range(1, number + 1)]
    return _rows(folder, chosen, reasons, {"apart": number})


def _by_share(folder: Path, fraction: float) -> pa.Table:
    if not 0 <= fraction <= 1:
        raise InputError(f"fraction is a share of the samples in 0..1, got {fraction!r}")
    n = embedded(folder)
    count = count_of(fraction, n)
    ranked = _suspects(folder)
    if len(ranked.pairs) < count:
        ranked = _all_scored(folder, ranked)
    chosen = ranked.first(count)
    method = method_of(run_record(folder))
    reasons = [f"rank {rank} of {n} by {method}" for rank in range(1, len(chosen.pairs) + 1)]
    return _rows(folder, chosen, reasons, {"fraction": fraction})


def _by_threshold(folder: Path, threshold: float) -> pa.Table:
    if math.isnan(threshold):
        raise InputError("threshold is NaN; give a number on the scale of the score")
    ranked = _suspects(folder)
    if not len(ranked.score) or ranked.score[-1] > threshold:  # the cut lies below the last suspect
        ranked = _all_scored(folder, ranked)
    above = ranked.first(int((ranked.score > threshold).sum()))
    method = method_of(run_record(folder))
    reasons = [f"{label(method)} {score:.6g} is above {threshold:g}" for score in above.score]
    return _rows(folder, above, reasons, {"threshold": threshold})


def _by_decision(folder: Path, files: list[Path], conflicts: str, add: bool) -> pa.Table:
    """What reviewers drop, and without what they keep the list before (with `add`) and what is above their
    border."""
    merged = merge_decisions(files, SampleFinder(folder), conflicts)
    base = listed(folder) if add else None
    if merged.border is not None:
        above = _by_threshold(folder, merged.border)
        base = above if base is None else together(base, above)
    dropped = _dropped(folder, ", ".join(file.name for file in files), merged)
    if base is None:
        return dropped
    stays = [merged.drop.get(pair, True) for pair in pairs_of(base)]
    return together(base.filter(pa.array(stays, pa.bool_())), dropped)


def _dropped(folder: Path, files: str, merged: Merged) -> pa.Table:
    scores = _all_scored(folder, Ranked([], np.empty(0)))
    of = dict(zip(scores.pairs, scores.score.tolist(), strict=True))
    drop = [pair for pair, dropped in merged.drop.items() if dropped]
    rows = Ranked(drop, np.array([of.get(pair, math.nan) for pair in drop]))
    return _rows(folder, rows, [f"decided in {merged.source[pair]}" for pair in drop], {"decisions": files})


def _suspects(folder: Path) -> Ranked:
    path = folder / "suspects.parquet"
    check_intact(path)
    if not path.exists():
        raise RunError(not_scored(folder))
    table = pq.read_table(path, columns=["rank", "shard", "key", "score"]).sort_by("rank")
    return Ranked(pairs_of(table), table["score"].to_numpy())


def _all_scored(folder: Path, suspects: Ranked) -> Ranked:
    """The suspects, then all others by descending score, equal ones in row order; NaN left out."""
    complete(folder, "score")
    files = sorted((folder / "scores").glob("*.parquet"))
    if not files:
        raise RunError(not_scored(folder))
    method = ranking(folder, pq.read_schema(files[0]).names)
    table = pa.Table.from_batches(list(batches(files, ["shard", "key", method])))
    pairs, score = pairs_of(table), table.column(2).to_numpy().astype(np.float64)
    order = np.argsort(-score, kind="stable")  # NaN comes last
    order = order[: len(score) - int(np.isnan(score).sum())]
    first = set(suspects.pairs)
    rest = [row for row in order.tolist() if pairs[row] not in first]
    return Ranked(
        suspects.pairs + [pairs[row] for row in rest], np.concatenate([suspects.score, score[rest]])
    )


def _rows(folder: Path, ranked: Ranked, reasons: list[str], rule: dict[str, Any]) -> pa.Table:
    """The rows with their uids, looked up in the metadata."""
    uid = dict.fromkeys(ranked.pairs, "")
    for batch in identities(folder):
        for pair, of in zip(pairs_of(batch), batch.column("uid").to_pylist(), strict=True):
            if pair in uid:
                uid[pair] = of
    shards, keys = [pair[0] for pair in ranked.pairs], [pair[1] for pair in ranked.pairs]
    columns = [shards, keys, list(uid.values()), reasons, ranked.score]
    return pa.table(columns, schema=with_rule(DROP_SCHEMA, rule))
