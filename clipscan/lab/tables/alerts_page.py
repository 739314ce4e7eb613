"""The page for users who act on single alerts: false positives, a budget, what a drop is worth."""

from __future__ import annotations

from clipscan.lab.grid.cell_scores import DEFAULT
from clipscan.lab.grid.evaluate import ALERTS
from clipscan.lab.grid.result_rows import RECALL
from clipscan.lab.tables.lab_rows import LabRows, label
from clipscan.lab.tables.markdown import CASE_HEAD, Row, about, cases, mean, page, section, table

BUDGET = RECALL[ALERTS]
BUDGET_WORDS = f"recall at {ALERTS:.1%}"


def alerts(figures: LabRows) -> str:
    what = (
        "FPR at 95 % and 100 % TPR: the share of clean pairs that rank above the lowest of that part of the "
        f"planted. {BUDGET_WORDS.capitalize()}: the planted among the first {ALERTS:.1%} of all pairs, an "
        "alert each. Precision: the planted among what a scan drops unasked, where it drops any. Retrieval, "
        "where captions are free and there are no classes: held-out pictures whose own caption is among the "
        "10 nearest of 1,000. Means over the seeds."
    )
    parts = [section(f"`{DEFAULT}` and the drop", _default(figures))]
    parts += [
        section("FPR at 95 % TPR, score by score", _by_score(figures, "fpr_95")),
        section(f"{BUDGET_WORDS.capitalize()}, score by score", _by_score(figures, BUDGET, compare=True)),
    ]
    return page("Alerts", what, *parts)


def _default(figures: LabRows) -> str:
    head = [*CASE_HEAD, "seeds", "success", "accuracy", "retrieval", "FPR at 100 %", "at 95 %", BUDGET_WORDS,
            "dropped", "precision", "of the planted"]  # fmt: skip
    own = cases(row for row in figures.headline if label(row) == DEFAULT)
    body = []
    for case, models in cases(row for row in figures.models if row["poisoned"]).items():
        behaved = [mean(models, name) for name in ("success", "accuracy", "retrieval")]
        ranked = [mean(own.get(case, []), name) for name in ("false_positive_share", "fpr_95", BUDGET)]
        drop = [mean(models, "flagged", 0), mean(models, "precision"), mean(models, "planted_dropped")]
        body.append([*about(models[0]), str(len(models)), *behaved, *ranked, *drop])
    return table(head, body)


def _by_score(figures: LabRows, column: str, compare: bool = False) -> str:
    """A line a case, a column a score; compare: the highest of a line is bold."""
    body = []
    for rows in cases(figures.headline).values():
        by: dict[str, list[Row]] = {
            name: [row for row in rows if label(row) == name] for name in figures.main
        }
        body.append([*about(rows[0]), *(mean(found, column) for found in by.values())])
    return table([*CASE_HEAD, *figures.main], body, len(CASE_HEAD) if compare else None)
