"""The commands after a scan, each on a Run: is it poison, how much, and a dataset without it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipscan.data import Counts, write_without
from clipscan.errors import RunError
from clipscan.report import explain as explaining
from clipscan.report.choose import choose_drops
from clipscan.report.keep_outputs import put_lists, put_page
from clipscan.report.map.layout import EPOCHS
from clipscan.report.map.map_file import MOST
from clipscan.report.map.map_file import draw_map as map_of
from clipscan.report.partition import write_partition
from clipscan.report.serve import Serving, open_server
from clipscan.report.summary import dropped_before
from clipscan.report.write_lists import DropList, Written
from clipscan.run import Compute, Run, calibrating
from clipscan.run.listing import SCAN_AGAIN
from clipscan.run.markers import write_marker
from clipscan.run.partitioning import partition_stage
from clipscan.run.places import refuse_target
from clipscan.run.scanned import Scanned, changed_since, reopened
from clipscan.scores.mixture import Partition

if TYPE_CHECKING:
    from clipscan.invert.recovery import Recovery


def report(run: Run, blur: bool = False) -> Path:
    """The page of what the run holds by now. blur: pictures are blurred until they are asked for."""
    with run.opened():
        return put_page(run, blur=blur)


def draw_map(run: Run, most: int = MOST, epochs: int = EPOCHS, seed: int = 0) -> tuple[int, Path]:
    """The map of a scored run (report/map), and the page anew: how many samples it shows, and the page."""
    with run.opened():
        return map_of(run, most, epochs, seed), put_page(run)


def serve(run: Run, port: int = 0, blur: bool = False) -> Serving:
    """The page of a scored run on a server that listens on loopback: `.url`, then `.forever()`."""
    return open_server(run, port, blur=blur)


def export(
    run: Run,
    *,
    fraction: float | None = None,
    threshold: float | None = None,
    decisions: Path | Sequence[Path] | None = None,
    apart: bool = False,
    add: bool = False,
    conflicts: str = "refuse",
) -> Written:
    """Drop and keep lists by one of four rules (report/choose.py), with `add` beside the list as it
    is; and the page that shows them. conflicts: between files of decisions (report/merge_decisions.py)."""
    with run.opened():
        before = dropped_before(run.path)
        rule: dict[str, Any] = {"fraction": fraction, "threshold": threshold, "decisions": decisions}
        written = put_lists(run, choose_drops(run.path, apart=apart, add=add, conflicts=conflicts, **rule))
        put_page(run)
    return written._replace(before=before)


def calibrate(
    run: Run, clean: Run, rate: float = 0.05, compute: Compute = Compute()
) -> calibrating.Calibrated:
    """Which samples to drop at a stated rate of mistakes, by held-out clean pairs (run/calibrating.py)."""
    with run.opened():
        _ = clean.dataset  # refused where it has changed, wherever the vectors lie
        return calibrating.calibrate(run, clean, rate, compute)


def partition(
    run: Run,
    *,
    by: str = "cosine",
    threshold: float | None = None,
    share: float | None = None,
) -> Partition:
    """Split the pairs of an embedded run into safe and risky ones, by the cosines of the model that embedded
    it or, by="trusted", of its trusted model; lists and table in RUN/partition (report/partition.py), and
    the page anew where the run has one. The drop list stays as it is.

    Rules and errors: clipscan.partition; RunError for a run without captions, or without a trusted model.
    """
    with run.opened():
        found = partition_stage(run, by=by, threshold=threshold, share=share)
        write_partition(run.path)
        write_marker(run.path, "partition", "", {})
        _renew_page(run)
    return found


def invert(run: Run, group: int | None = None, **how: Any) -> tuple[Recovery, Path | None]:
    """The trigger of a group, recovered, how: as clipscan.invert.invert takes it; and the page anew, where
    the run has one."""
    from clipscan.invert import invert as recover

    with run.opened():
        return recover(run, group, **how), _renew_page(run)


def apply(
    run: Run,
    to: str | Path,
    *,
    drop: str | Path | None = None,
    keep_bad: bool = False,
    leave_out_unscanned: bool = False,
) -> Counts:
    """Write the dataset of a run to the folder `to` without the samples on its drop list, or on that in the
    file `drop`, and, unless `keep_bad`, without those that were not embedded (bad.parquet). All others keep
    their bytes.

    Files that are new or changed since the scan are refused, or, with leave_out_unscanned, left out with all
    that is in them. RunError for these and for a target in run or dataset; DataError where a sample of the
    lists is not found. The target is made whole or not at all.
    """
    dataset, changes = reopened(run)
    refuse_target(Path(to), run.path, dataset)
    if changes and not leave_out_unscanned:
        raise RunError(
            f"{changed_since(run, changes)}. {SCAN_AGAIN}, or leave them out: --leave-out-unscanned"
        )
    drop_list = set(DropList.load(drop or run / "drop.parquet"))
    scanned = Scanned(run, dataset)
    left_out = scanned.leave_out(changes.same)
    here = {shard.name for shard in dataset.shards}
    listed = {pair for pair in drop_list if pair[0] in here or pair[0] not in scanned.names}
    counts = write_without(
        dataset, listed, to, drop_bad=not keep_bad, scanned=scanned.keys, verify=scanned.verify
    )
    return counts._replace(left_out=left_out)


def explain(run: Run, key: str) -> str:
    """What is known of one sample, as text: whether and why it is suspected, its scores with their ranks, and
    the nearest samples of the whole set.

    key: its key or file name, or "SHARD/KEY" where several have that. RunError when it is not there, or when
    the dataset is not what was scanned.
    """
    _ = run.dataset  # refused where it has changed, wherever the vectors lie
    return explaining.explain(run, key)


def _renew_page(run: Run) -> Path | None:
    """The page anew, where the run has come so far."""
    return put_page(run) if (run / "suspects.parquet").exists() else None
