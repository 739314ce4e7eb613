"""Pages about models: what a scan gives, what it drops, what defences do, where planted groups stand."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from clipscan.lab.grid.cell_scores import DEFAULT
from clipscan.lab.grid.result_rows import RECALL
from clipscan.lab.tables.lab_rows import BACKDOOR, LabRows, kind, label
from clipscan.lab.tables.markdown import CASE, CASE_HEAD, Row, about, cases, mean, page, section, table
from clipscan.lab.tables.score_pages import HOW, RECALLED, best_published, removed, scored

PLACES = (
    "Group: the place on the page of the group of suspects that holds most of what was planted, seed by "
    "seed; - where no group is mostly that."
)
FACTOR = 2  # how far a number to drop may be from the number of poisons


def summary(figures: LabRows) -> str:
    """A line a case: what a scan without options gives, and the best that was possible."""
    head = [*CASE_HEAD, "seeds", "success", DEFAULT, "recall", "best published", "planted", "dropped",
            "of the planted"]  # fmt: skip
    own = cases(row for row in figures.headline if label(row) == DEFAULT)
    body = []
    for case, models in cases(row for row in figures.models if row["poisoned"]).items():
        rows = own.get(case, [])
        name, best = best_published(figures.headline, models[0])
        found = fmean(row["flagged_poison"] / row["poisoned"] for row in models)
        body.append([
            *about(models[0]), str(len(models)), mean(models, "success"), mean(rows, "auroc"),
            mean(rows, RECALL[removed(models[0]["rate"])], 2), f"{name} {best:.3f}" if name else "",
            mean(models, "poisoned", 0), mean(models, "flagged", 0), f"{found:.2f}",
        ])  # fmt: skip
    what = (
        f"What a scan gives with default options: AUROC and recall of `{DEFAULT}`, how many pairs it "
        "drops and how many of the planted these are; and the AUROC of the published score that is the best "
        f"of the case, which cannot be known beforehand. {RECALLED} Means over the seeds."
    )
    return page("In short", what, table(head, body))


def duplicates(figures: LabRows) -> str:
    models = [row for row in figures.models if kind(row) != BACKDOOR and row["poisoned"]]
    head = [*CASE_HEAD, "seeds", "success", "planted", "group", "of", "holds of it"]
    body = [
        [*about(rows[0]), str(len(rows)), mean(rows, "success"), mean(rows, "poisoned", 0), _places(rows),
         mean(rows, "groups", 0), mean(rows, "group_share", 2)]
        for rows in cases(models).values()
    ]  # fmt: skip
    scores = scored(figures, [row for row in figures.headline if kind(row) != BACKDOOR])
    what = f"{PLACES} {HOW}"
    title = "Clean labels, one picture under many captions, captions alone, natural duplicates"
    return page(title, what, section("Groups", table(head, body)), section("Scores", scores))


def dropping(figures: LabRows) -> str:
    clean = [row for row in figures.models if not row["poisoned"]]
    head = ["data", "model, epochs", "seeds", "accuracy", "pairs", "dropped", "share", "highest share"]
    body = [
        [data, f"{model}, {epoch}", str(len(rows)), mean(rows, "accuracy"), mean(rows, "pairs", 0),
         mean(rows, "flagged", 0), f"{fmean(row['flagged_share'] for row in rows):.2%}",
         f"{max(row['flagged_share'] for row in rows):.2%}"]
        for (data, model, epoch), rows in cases(clean, ("dataset", "model", "epoch")).items()
    ]  # fmt: skip
    what = f"What clipscan drops of a dataset with default options. Means over the seeds. {PLACES}"
    none, some = section("Nothing planted", table(head, body)), section("Poison planted", _estimates(figures))
    return page("How many to drop", what, none, some)


def defences(figures: LabRows) -> str:
    head = [*CASE_HEAD, "defence", "seeds", "planted", "left out", "planted and left", "success before",
            "after", "without trigger", "accuracy before", "after"]  # fmt: skip
    columns = (("poisoned", 0), ("dropped", 0), ("poison_left", 0), ("success", 3), ("success_after", 3),
               ("false_alarm_after", 3), ("accuracy", 3), ("accuracy_after", 3))  # fmt: skip
    body = [
        [*about(rows[0]), rows[0]["defence"], str(len(rows)),
         *(mean(rows, name, digits) for name, digits in columns)]
        for rows in cases(figures.defended, (*CASE, "defence")).values()
    ]  # fmt: skip
    what = (
        "The same data, trained again with a defence. drop: the same training on what is left when clipscan "
        "has dropped what it drops. safeclip: SafeCLIP on everything; left out is what it took for risky in "
        "its last epoch. Without trigger: how often the defended model gives the target to the same pictures "
        "as they are; a word that it never saw is a word like any other to it. Means over the seeds."
    )
    return page("Training in spite of poison", what, table(head, body))


def heads(figures: LabRows) -> str:
    groups = list(cases(figures.heads).values())
    by = ["heads repaired", "MLPs repaired", "by the rule"]
    head = [*CASE_HEAD, "seeds", "success", *by, "accuracy", *by]
    columns = [f"{name}{by}" for name in ("success", "accuracy") for by in ("", "_head", "_mlp", "_auto")]
    body = [[*about(rows[0]), str(len(rows)), *(mean(rows, name) for name in columns)] for rows in groups]
    filters = ["infected_heads", "head", "mlp", "larger"]
    filter_head = [*CASE_HEAD, "infected heads", "head score", "MLP score", "larger", "flagged: clean",
                   "triggered", "through heads", "blocks: heads/MLP", "last heads"]  # fmt: skip
    filter_columns = [*(f"auroc_{name}" for name in filters),
                      "flagged_clean", "flagged_triggered", "through_heads"]  # fmt: skip
    filter_body = [
        [
            *about(rows[0]),
            *(mean(rows, name) for name in filter_columns),
            rows[0]["blocks"],
            rows[0]["last_heads"],
        ]
        for rows in groups
    ]
    what = (
        "`clipscan heads` (He et al. 2025), fitted on every fifth held-out picture, tried on the others with "
        "the trigger. Infected heads or late MLPs replaced by their clean means: in every picture, or in "
        "flagged ones, by the rule that a user has. Then AUROC of triggered against clean pictures, and the "
        "same block by block, and head by head in the last one, of the first seed. Means over the seeds. "
        "+N: fine-tuned from a clean training of N epochs."
    )
    tables = section("Repaired", table(head, body)), section("Filtered", table(filter_head, filter_body))
    return page("Heads and MLPs", what, *tables)


PAGES: dict[str, Callable[[LabRows], str]] = {
    "summary": summary,
    "duplicates": duplicates,
    "dropping": dropping,
    "defences": defences,
    "heads": heads,
}


def _places(rows: list[Row]) -> str:
    return ", ".join("-" if row["group_rank"] is None else str(row["group_rank"]) for row in rows)


def _estimates(figures: LabRows) -> str:
    planted = [row for row in figures.models if row["poisoned"] and kind(row) == BACKDOOR]
    head = [*CASE_HEAD, "seeds", "success", "planted", "dropped", "interval", "of the planted",
            f"within a factor of {FACTOR}", "group"]  # fmt: skip
    body = [
        [*about(rows[0]), str(len(rows)), mean(rows, "success"), mean(rows, "poisoned", 0),
         mean(rows, "flagged", 0), _interval(rows),
         f"{fmean(row['flagged_poison'] / row['poisoned'] for row in rows):.2f}",
         f"{sum(map(within_factor, rows))} of {len(rows)}", _places(rows)]
        for rows in cases(planted).values()
    ]  # fmt: skip
    if not body:
        return ""
    near = sum(map(within_factor, planted))
    return f"{near} of {len(planted)} within a factor of {FACTOR}.\n\n{table(head, body)}"


def _interval(rows: list[Row]) -> str:
    """The lowest lower and the highest upper end."""
    return f"{min(row['flagged_low'] for row in rows):,}–{max(row['flagged_high'] for row in rows):,}"


def within_factor(row: Row) -> bool:
    """Whether what is dropped is at least half and at most twice as much as what was planted."""
    planted: int = row["poisoned"]
    return planted <= FACTOR * row["flagged"] and row["flagged"] <= FACTOR * planted
