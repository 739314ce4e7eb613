"""Pages about scores: how well each finds the poison, by how far it is learnt, rate, setting and model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from clipscan.lab.grid.cell_scores import DEFAULT
from clipscan.lab.grid.result_rows import RECALL
from clipscan.lab.tables.lab_rows import BANDS, HIGH, LEARNT, UNLEARNT, LabRows, is_backdoor, label
from clipscan.lab.tables.markdown import (
    CASE,
    CASE_HEAD,
    Row,
    about,
    cases,
    mean,
    page,
    section,
    table,
    with_interval,
)
from clipscan.scores.table import PUBLISHED

RECALLED = "Recall: of the poison, when twice its share is removed, at least 1 %."
HOW = (
    "AUROC: mean over the seeds; in brackets the lowest lower and the highest upper end of their 95 % "
    f"bootstrap intervals (the poison redrawn). {RECALLED} Bold: the best of a row. Variants of a score that "
    "rank alike are left out."
)


def learnt(figures: LabRows) -> str:
    what = f"Attack success of at least {LEARNT:g}, at most 1 % poison. {HOW}"
    return page("Poison that the model has learnt", what, scored(figures, figures.backdoors(BANDS[0], False)))


def unlearnt(figures: LabRows) -> str:
    what = f"At most 1 % poison; half learnt: attack success from {UNLEARNT:g} to below {LEARNT:g}. {HOW}"
    parts = [_by_case(figures, name, high=False) for name in BANDS[1:]]
    return page("Poison that the model has learnt half or not", what, *parts)


def high_rates(figures: LabRows) -> str:
    what = f"More than 1 % poison: its rows are one another's neighbours. {HOW}"
    return page("High rates", what, *(_by_case(figures, name, high=True) for name in BANDS))


def published(figures: LabRows) -> str:
    """The default score against the best published ones, which cannot be told beforehand."""
    own = cases(row for row in figures.headline if label(row) == DEFAULT and row["success"] is not None)
    head = [
        *CASE_HEAD,
        "success",
        DEFAULT,
        "best published, same setting",
        "difference",
        "at any",
        "difference",
    ]
    body = []
    for rows in own.values():
        value = fmean(row["auroc"] for row in rows)
        line = [*about(rows[0]), mean(rows, "success"), f"{value:.3f}"]
        for known in (figures.headline, figures.scores):
            name, best = best_published(known, rows[0])
            line += [f"{name} {best:.3f}" if name else "", f"{value - best:+.3f}" if name else ""]
        body.append(line)
    what = (
        f"`{DEFAULT}`, clipscan's default, against the best of {', '.join(PUBLISHED)} in each case: at "
        "clipscan's own k and reference, and at any k and reference in the rows. Mean AUROC over the seeds."
    )
    return page("The default score against published ones", what, table(head, body))


def k_and_reference(figures: LabRows) -> str:
    parts = [
        section(
            f"{name.capitalize()}, {'above' if high else 'at most'} 1 % poison",
            _settings(
                [r for r in figures.scores if is_backdoor(r, name) and (r["rate"] > HIGH) == high],
                figures.names,
            ),
        )
        for high in (False, True)
        for name in BANDS
    ]
    what = (
        "Mean AUROC over all models, in brackets the lowest; bold: the best reference of a line. Where there "
        "is no k, the score takes none; own: it chooses its references itself."
    )
    return page("Which k, which reference", what, *parts)


def encoders(figures: LabRows) -> str:
    poison = [name for name in CASE if name not in ("model", "epoch")]
    several = [
        row
        for rows in cases(figures.headline, poison).values()
        if len({row["model"] for row in rows}) > 1
        for row in rows
    ]
    return page(
        "Encoders compared", f"The same poison in models of several kinds. {HOW}", scored(figures, several)
    )


PAGES: dict[str, Callable[[LabRows], str]] = {
    "learnt": learnt,
    "unlearnt": unlearnt,
    "high-rates": high_rates,
    "published": published,
    "k-and-reference": k_and_reference,
    "encoders": encoders,
}


def contents(figures: LabRows, pages: Sequence[str], plots: Sequence[str]) -> str:
    """The first page: every score in one line, the plots, and where the rest is."""
    bands = {(name, high): figures.backdoors(name, high) for high in (False, True) for name in BANDS}
    used = {at: rows for at, rows in bands.items() if rows}
    head = ["score", *(f"{name}, {'above' if high else 'at most'} 1 % poison" for name, high in used)]
    body = [
        [name, *(_glance([row for row in rows if label(row) == name]) for rows in used.values())]
        for name in figures.names
    ]
    what = "Mean AUROC / the lowest / mean recall over all models, at clipscan's own k and reference."
    links = "\n".join(f"- [{name}]({name}.md)" for name in pages)
    pictures = "\n\n".join(f"![{name.removesuffix('.svg')}]({name})" for name in plots)
    return page("Tables", what, table(head, body) if used else "", links, pictures)


def scored(figures: LabRows, rows: list[Row]) -> str:
    """Two tables with a line a case and a column a score: AUROC, and recall."""
    names = [name for name in figures.main if name in {label(row) for row in rows}]
    auroc, recall = [], []
    for group in cases(rows).values():
        by = {name: [row for row in group if label(row) == name] for name in names}
        models = list({row["cell"]: row for row in group}.values())
        facts = [str(len(models)), mean(models, "success"), mean(models, "accuracy")]
        share = removed(group[0]["rate"])
        auroc.append([*about(group[0]), *facts, *map(with_interval, by.values())])
        recall.append(
            [*about(group[0]), f"{share:.0%}", *(mean(by[name], RECALL[share], 2) for name in names)]
        )
    first = table([*CASE_HEAD, "seeds", "success", "accuracy", *names], auroc, len(CASE_HEAD) + 3)
    second = table([*CASE_HEAD, "removed", *names], recall, len(CASE_HEAD) + 1)
    return f"AUROC\n\n{first}\n\nRecall\n\n{second}" if rows else ""


def removed(rate: float) -> float:
    """The share to remove: twice the poison's, at least 1 %, as far as the rows go."""
    return next((share for share in RECALL if share >= max(0.01, 2 * rate) - 1e-9), max(RECALL))


def best_published(rows: Sequence[Row], of: Row) -> tuple[str, float]:
    """The published score of the highest mean AUROC among the rows of the case of a row, and that mean;
    ("", NaN) where there is none."""
    case = [of[name] for name in CASE]
    there = [r for r in rows if r["score"] in PUBLISHED and not r["compat"] and [r[n] for n in CASE] == case]
    means = {
        setting: fmean(row["auroc"] for row in group)
        for setting, group in cases(there, ("score", "k", "reference")).items()
    }
    best = max(means, key=lambda setting: means[setting], default=None)
    return (best[0], means[best]) if best else ("", float("nan"))


def _by_case(figures: LabRows, name: str, high: bool) -> str:
    return section(name.capitalize(), scored(figures, figures.backdoors(name, high)))


def _settings(rows: list[Row], names: Sequence[str]) -> str:
    """A line a score and k, a column a reference; scores that take none of both stand aside."""
    plain = [row for row in rows if not row["compat"] and (row["k"] or row["reference"])]
    references = sorted({row["reference"] for row in plain}, key=_size)
    body = []
    for name in names:
        for (k,), group in cases((row for row in plain if label(row) == name), ("k",)).items():
            by = [[row["auroc"] for row in group if row["reference"] == r] for r in references]
            cells = [f"{fmean(values):.3f} ({min(values):.3f})" if values else "" for values in by]
            body.append([name, str(k or ""), *cells])
    return table(["score", "k", *(reference or "own" for reference in references)], body, 2)


def _size(reference: str) -> tuple[float, str]:
    """Sorts "", "256x8", "1024x8", "all"."""
    rows = reference.partition("x")[0]
    return (float(rows) if rows.isdigit() else float("inf") if reference else 0.0), reference


def _glance(rows: list[Row]) -> str:
    if not rows:
        return ""
    values = [row["auroc"] for row in rows]
    recall = fmean(row[RECALL[removed(row["rate"])]] for row in rows)
    return f"{fmean(values):.3f} / {min(values):.3f} / {recall:.2f}"
