"""`clipscan lab tables`: the rows of one or several runs of the laboratory as Markdown pages and plots.

A page a question (goals_page.py, score_pages.py, model_pages.py, alerts_page.py), tables.md to find them,
plots (score_plots.py, defence_plots.py). The same rows give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import clipscan
from clipscan.data.atomic import write_bytes
from clipscan.lab.tables import defence_plots, model_pages, score_pages, score_plots
from clipscan.lab.tables.alerts_page import alerts
from clipscan.lab.tables.goals_page import goals
from clipscan.lab.tables.lab_rows import LabRows
from clipscan.lab.tables.plot_style import save, style


def write_pages(folders: Sequence[Path], to: Path) -> list[Path]:
    """Write all pages that the rows have something for, and the plots; their paths. RunError without rows,
    ImportError without matplotlib."""
    figures = LabRows.read(folders)
    every = {"goals": goals, **score_pages.PAGES, **model_pages.PAGES, "alerts": alerts}
    texts = {name: text for name, page in every.items() if (text := page(figures))}
    with style():
        drawn = {name: plot(figures) for name, plot in {**score_plots.PLOTS, **defence_plots.PLOTS}.items()}
        pictures = [save(figure, to / f"{name}.svg") for name, figure in drawn.items() if figure]
    texts["tables"] = score_pages.contents(figures, list(texts), [path.name for path in pictures])
    for name, text in texts.items():
        write_bytes(to / f"{name}.md", f"{text}\n\n{_foot(figures)}\n".encode())
    return [*(to / f"{name}.md" for name in texts), *pictures]


def _foot(figures: LabRows) -> str:
    codes = sorted({row["code"] for row in [*figures.scores, *figures.models]})
    mixed = f" Scored by {len(codes)} states of the code: {', '.join(codes)}." if len(codes) > 1 else ""
    return (
        f"*Made by `clipscan lab tables` of clipscan {clipscan.__version__} from {len(figures.scores):,} "
        f"rows of {len(figures.models):,} models.{mixed}*"
    )
