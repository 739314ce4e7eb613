"""All rows of one or several runs of the laboratory, and what kind of evidence each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from clipscan.errors import InputError
from clipscan.lab.attacks.campaigns import CLEAN_LABEL, ONE_PICTURE, WORDS_ONLY
from clipscan.lab.grid.cell_scores import DEFAULT, RELEASED
from clipscan.lab.grid.result_rows import TABLES, read_rows
from clipscan.lab.tables.markdown import Row
from clipscan.scores import DEFAULT_K, DEFAULT_REFERENCE
from clipscan.scores.table import VARIANTS

LEARNT, UNLEARNT = 0.9, 0.6  # attack success from which, and below which
BANDS = ("learnt", "half learnt", "little or not learnt")
BACKDOOR = "backdoor"
HIGH = 0.01  # rates above are a question of their own
ALIKE = ("kdist (released)", "lid (released)", "slof (released)")  # dao's shows how the released code fares
ORDER = ("kdist", "lof", "slof", "dao", "logdao", "lid", "lid_mom", "iforest", "cosine", "agree", "cross")


@dataclass(frozen=True)
class LabRows:
    """All rows: of scores (of models with poison), of models, of defences, of their partitions, and of models
    that were taken apart."""

    scores: list[Row]
    models: list[Row]
    defended: list[Row]
    partitions: list[Row]
    heads: list[Row]

    @classmethod
    def read(cls, folders: Sequence[Path]) -> LabRows:
        """Those of several folders; of what is in two of them, the later one's."""
        if not folders:
            raise InputError("tables need at least one folder of `clipscan lab run`")
        scores = _latest(folders, "rows", ("score", "k", "reference", "compat"))
        return cls(
            [row for row in scores if row["auroc"] is not None], _latest(folders, "models"),
            _latest(folders, "defended", ("defence",)), _latest(folders, "partitions", ("defence",)),
            _latest(folders, "heads"),
        )  # fmt: skip

    @cached_property
    def headline(self) -> list[Row]:
        """One row for each model and score: at clipscan's own k and reference where it was computed there,
        else at the first setting in the rows."""
        best: dict[str, tuple[Any, ...]] = {}
        for row in self.scores:
            if label(row) not in best or _own(row):
                best[label(row)] = (row["k"], row["reference"])
        return [row for row in self.scores if best[label(row)] == (row["k"], row["reference"])]

    @cached_property
    def names(self) -> list[str]:
        """The scores as tables show them: clipscan's default, then as in ORDER; the released code's last."""
        return sorted({label(row) for row in self.headline}, key=_place)

    @cached_property
    def main(self) -> list[str]:
        """The scores that tables of many lines show: without variants that rank like another."""
        return [name for name in self.names if name.split()[0] not in VARIANTS and name not in ALIKE]

    def backdoors(self, learnt: str, high: bool) -> list[Row]:
        """The headline rows of one of BANDS, of rates above HIGH or of the others."""
        return [r for r in self.headline if is_backdoor(r, learnt) and (r["rate"] > HIGH) == high]


def kind(row: Row) -> str:
    """BACKDOOR, or what else was planted: "clean-label", or an attack that puts a trigger into no picture."""
    attack: str = row["attack"]
    if attack in ONE_PICTURE or attack in WORDS_ONLY:
        return attack
    return CLEAN_LABEL if attack.startswith(CLEAN_LABEL) else BACKDOOR


def band(row: Row) -> str:
    """How far a poison was learnt, one of BANDS; "" where no trigger can tell."""
    success = row["success"]
    if success is None:
        return ""
    return BANDS[0] if success >= LEARNT else BANDS[2] if success < UNLEARNT else BANDS[1]


def is_backdoor(row: Row, learnt: str) -> bool:
    return kind(row) == BACKDOOR and band(row) == learnt


def label(row: Row) -> str:
    """A score's name in tables and plots."""
    return f"{row['score']} (released)" if row["compat"] == RELEASED else str(row["score"])


def _own(row: Row) -> bool:
    return row["k"] in (0, DEFAULT_K) and row["reference"] in ("", DEFAULT_REFERENCE)


def _place(name: str) -> tuple[bool, bool, int, str]:
    score = name.split()[0]
    return " " in name, score != DEFAULT, ORDER.index(score) if score in ORDER else len(ORDER), name


def _latest(folders: Sequence[Path], name: str, more: Sequence[str] = ()) -> list[Row]:
    rows = [row for folder in folders for row in read_rows(folder, name, TABLES[name])]
    return list(
        {tuple(row[key] for key in ("dataset", "cell", "epoch", *more)): row for row in rows}.values()
    )
