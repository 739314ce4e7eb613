"""The page of aims: in how many cases each is reached, and the case furthest from it."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import NamedTuple

from clipscan.lab.attacks.campaigns import WORDS_ONLY
from clipscan.lab.grid.cell_scores import DEFAULT
from clipscan.lab.grid.defences import DEFENCES
from clipscan.lab.grid.result_rows import RECALL
from clipscan.lab.tables.lab_rows import BACKDOOR, HIGH, LEARNT, UNLEARNT, LabRows, kind, label
from clipscan.lab.tables.markdown import Row, about, cases, page, table
from clipscan.lab.tables.model_pages import within_factor
from clipscan.lab.tables.score_pages import best_published, removed
from clipscan.scores.table import PUBLISHED

Worth = Callable[[list[Row]], float]


class Aim(NamedTuple):
    """`worth` of the rows of a case (its seeds) should be at least `least`."""

    words: str
    rows: list[Row]
    worth: Worth
    least: float
    show: Callable[[float], str] = "{:.3f}".format


def goals(figures: LabRows) -> str:
    head = ["aim", "reached in", "furthest from it", "there"]
    body = [_line(aim) for aim in _aims(figures) if aim.rows]
    what = (
        f"`{DEFAULT}`, clipscan's default. A case is an attack at a rate on a dataset, and a model after so "
        "many epochs; its figure is the mean over its seeds. Recall is asked for as on the other pages."
    )
    return page("What is aimed at, and reached", what, table(head, body))


def _aims(figures: LabRows) -> list[Aim]:
    own = [row for row in figures.headline if label(row) == DEFAULT and kind(row) == BACKDOOR]
    learnt = [row for row in own if row["success"] >= LEARNT and 0.002 <= row["rate"] <= HIGH]
    unlearnt = [row for row in own if row["success"] < UNLEARNT and row["rate"] <= HIGH]
    rivals = {row["cell"] for row in figures.headline if row["score"] in PUBLISHED and not row["compat"]}
    rivalled = [row for row in own if row["cell"] in rivals]
    many = [row for row in own if row["rate"] > HIGH]
    planted = [row for row in figures.models if row["poisoned"]]
    grouped = [row for row in planted if kind(row) not in (BACKDOOR, "placeholder", *WORDS_ONLY)]
    again, safeclip = ([row for row in figures.defended if row["defence"] == name] for name in DEFENCES)
    obeyed = [row for row in safeclip if row["success"] is not None and row["success"] >= LEARNT]
    return [
        Aim("learnt poison, 0.2 % to 1 %: AUROC at least 0.99", learnt, _mean("auroc"), 0.99),
        Aim("the same: recall at least 0.95", learnt, _recall, 0.95),
        Aim(f"success below {UNLEARNT:g}, at most 1 %: AUROC at least 0.97", unlearnt, _mean("auroc"), 0.97),
        Aim("the same: recall at least 0.6", unlearnt, _recall, 0.6),
        Aim("more than 1 %: AUROC at least 0.95", many, _mean("auroc"), 0.95),
        Aim("at most 0.005 below the best published score, same setting", rivalled, _lead(figures), -0.005,
            "{:+.3f}".format),
        Aim("clean labels, targeted, copies: among the first 10 groups", grouped, _mostly(_first_ten), 1.0),
        Aim("number to drop within a factor of 2 for most seeds (80 % of the cases)",
            [row for row in planted if kind(row) == BACKDOOR], _mostly(within_factor), 0.5),
        Aim("nothing planted: at most 0.2 % dropped", [row for row in figures.models if not row["poisoned"]],
            lambda rows: -max(row["flagged_share"] for row in rows), -0.002, _share),
        Aim("trained again: attack success at most 2 % beyond that without the trigger",
            [row for row in again if row["success_after"] is not None], _after, -0.02, _share),
        Aim("trained again: at most 0.5 points of accuracy lost", again, _gain, -0.005, "{:+.3f}".format),
        Aim(f"SafeCLIP, success {LEARNT:g} without it: at most 5 % likewise", obeyed, _after, -0.05, _share),
        Aim("SafeCLIP: at most 2 points of accuracy lost", safeclip, _gain, -0.02, "{:+.3f}".format),
    ]  # fmt: skip


def _line(aim: Aim) -> list[str]:
    worth = {case: (aim.worth(rows), rows[0]) for case, rows in cases(aim.rows).items()}
    reached = sum(value >= aim.least - 1e-9 for value, _ in worth.values())
    value, row = min(worth.values(), key=lambda one: one[0])
    return [aim.words, f"{reached} of {len(worth)} cases", ", ".join(about(row)), aim.show(value)]


def _mean(name: str) -> Worth:
    return lambda rows: fmean(row[name] for row in rows)


def _after(rows: list[Row]) -> float:
    """What the trigger still does, beyond what the model says of the same pictures without it."""
    return _mean("false_alarm_after")(rows) - _mean("success_after")(rows)


def _gain(rows: list[Row]) -> float:
    return _mean("accuracy_after")(rows) - _mean("accuracy")(rows)


def _recall(rows: list[Row]) -> float:
    return fmean(row[RECALL[removed(row["rate"])]] for row in rows)


def _mostly(holds: Callable[[Row], bool]) -> Worth:
    return lambda rows: fmean(holds(row) for row in rows)


def _first_ten(row: Row) -> bool:
    return row["group_rank"] is not None and row["group_rank"] <= 10


def _share(negative: float) -> str:
    return f"{-negative:.2%}"


def _lead(figures: LabRows) -> Worth:
    def lead(rows: list[Row]) -> float:
        return _mean("auroc")(rows) - best_published(figures.headline, rows[0])[1]

    return lead
