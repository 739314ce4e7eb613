"""Pages say what the rows say: means over seeds, learnt and unlearnt apart; plots are the same twice."""

import sys
import xml.etree.ElementTree as xml

import pytest

from clipscan.errors import RunError
from clipscan.lab.grid.result_rows import RECALL, TABLES, write_rows
from clipscan.lab.tables.lab_rows import LabRows
from clipscan.lab.tables.markdown import table
from clipscan.lab.tables.write_pages import write_pages

pytest.importorskip("matplotlib", reason="plots need matplotlib: pip install 'clipscan[lab]'")

CASE = {
    "dataset": "photos", "attack": "badnets", "target": "banana", "options": "", "rate": 0.005, "seed": 0,
    "model": "small", "epoch": 10, "pairs": 1000, "poisoned": 5, "success": 0.95, "accuracy": 0.8,
    "false_alarm": 0.0, "cell": "c", "code": "abc",
}  # fmt: skip


AFTER = {
    "drop": {"defence": "drop", "dropped": 8, "poison_left": 1, "success_after": 0.01,
             "accuracy_after": 0.79, "false_alarm_after": 0.004},
    "safeclip": {"defence": "safeclip", "dropped": 150, "poison_left": 0, "success_after": 0.06,
                 "accuracy_after": 0.77, "false_alarm_after": 0.05},
}  # fmt: skip


def row(score, auroc, **more):
    found = {"score": score, "k": 16, "reference": "1024x8", "compat": "", "auroc": auroc}
    found |= {"auroc_low": auroc - 0.01, "auroc_high": min(1, auroc + 0.01), "average_precision": 0.5}
    found |= {"fpr_95": 1 - auroc, "false_positive_share": 0.5}
    found |= {name: share for share, name in RECALL.items()}  # recall of what is removed: the share itself
    return CASE | found | {"flagged": 10, "flagged_share": 0.01} | more


def model(**more):
    found = {"flagged": 8, "flagged_share": 0.008, "flagged_low": 4, "flagged_high": 9, "flagged_poison": 4}
    found |= {"precision": 0.5, "planted_dropped": 0.8}
    return CASE | found | {"groups": 3, "train_seconds": 1.0} | more


def written(folder, rows, models, defended=(), parts=(), heads=()):
    for name, found in zip(TABLES, (rows, models, defended, parts, heads), strict=True):
        write_rows(folder, name, found, TABLES[name])
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Name -> text of the pages of a few models."""
    seeds = [{"seed": seed, "cell": f"c{seed}"} for seed in (0, 1)]
    faint = {"attack": "sig", "success": 0.1, "cell": "s"}
    many = {"rate": 0.05, "poisoned": 50, "cell": "m"}
    half = {"attack": "blend", "success": 0.7, "cell": "b", "options": '{"alpha": 0.1}'}
    twice = {"attack": "copies", "success": None, "cell": "t"}
    other = {"model": "vit", "cell": "v"}
    rows = [
        *(
            row(name, value, **seeds[0])
            for name, value in (("consensus", 0.98), ("dao", 0.90), ("kdist", 0.99))
        ),
        *(row(name, value, **seeds[1]) for name, value in (("consensus", 0.96), ("dao", 0.94))),
        row("dao", 0.7, reference="all", **seeds[0]),
        row("dao", 0.97, compat="detect-clip", reference="batch 2048", **seeds[0]),
        row("cosine", 0.93, k=0, reference="", **faint),
        row("dao", 0.51, **faint),
        row("dao", 0.41, **many),
        row("dao", 0.75, **half),
        row("dao", 0.6, **twice),
        row("dao", 0.85, **other),
        CASE | {"score": "", "auroc": None, "flagged_share": 0.002, "rate": 0.0, "poisoned": 0, "cell": "z"},
    ]
    defended = [
        CASE | seeds[0] | AFTER["drop"],
        CASE | seeds[0] | AFTER["safeclip"],
    ]
    models = [
        model(**seeds[0]),
        model(**seeds[1], flagged=11, group_rank=3, group_share=0.8),
        model(**twice, group_rank=2, group_share=0.6),
        model(rate=0.0, poisoned=0, cell="z", flagged_share=0.002),
        model(rate=0.0, poisoned=0, cell="y", seed=1, flagged_share=0.004),
    ]
    taken = {"success_head": 0.9, "success_mlp": 0.2, "success_auto": 0.3, "accuracy_head": 0.8}
    taken |= {"accuracy_mlp": 0.7, "accuracy_auto": 0.75, "auroc_infected_heads": 0.6, "auroc_head": 0.61}
    taken |= {"auroc_mlp": 0.99, "auroc_larger": 0.98, "flagged_clean": 0.01, "flagged_triggered": 0.9}
    taken |= {"through_heads": 0.1, "blocks": "0.50/0.60 0.70/0.99", "last_heads": "0.70 0.71"}
    apart = [CASE | {"model": "vit +20"} | taken]
    folder = written(tmp_path_factory.mktemp("rows"), rows, models, defended, heads=apart)
    paths = write_pages([folder], folder / "out")
    return {path.name: path.read_text() for path in paths}


def lines(text, *words):
    return [line for line in text.splitlines() if all(word in line for word in words)]


def test_seeds_are_averaged_and_their_intervals_spanned(pages):
    first, *_ = lines(pages["learnt.md"], "| badnets |", "small, 10")
    assert "| 2 | 0.950 | 0.800 |" in first
    assert "0.970 (0.950–0.990)" in first and "0.920 (0.890–0.950)" in first


def test_the_best_of_a_row_is_bold_and_the_default_comes_first(pages):
    (head, *_), (first, *_) = lines(pages["learnt.md"], "accuracy"), lines(pages["learnt.md"], "small, 10")
    assert head.index("consensus") < head.index("kdist") < head.index("| dao") < head.index("dao (released)")
    assert "**0.990 (0.980–1.000)**" in first and first.count("**") == 2


def test_learnt_half_learnt_and_unlearnt_stand_apart(pages):
    assert "sig" not in pages["learnt.md"] and "blend" not in pages["learnt.md"]
    half, little = pages["unlearnt.md"].split("## Little or not learnt")
    assert "blend (alpha 0.1)" in half and "sig" in little and "badnets" not in half + little
    assert "0.410" in pages["high-rates.md"] and "0.410" not in pages["learnt.md"]


def test_recall_is_asked_at_twice_the_poison_and_at_least_one_per_cent(pages):
    assert lines(pages["learnt.md"], "small, 10", "| 1% |", "0.01")
    assert lines(pages["high-rates.md"], "| 10% |", "0.10")


def test_other_settings_stand_on_their_own_page_only(pages):
    assert "0.700" not in pages["learnt.md"]
    assert lines(pages["k-and-reference.md"], "| score | k | 1024x8 | all |")
    assert lines(pages["k-and-reference.md"], "| dao | 16 | **0.897 (0.850)** | 0.700 (0.700) |")


def test_the_default_is_held_against_the_best_published_score(pages):
    (found,) = lines(pages["published.md"], "small, 10")
    assert "| 0.970 | kdist 0.990 | -0.020 | kdist 0.990 | -0.020 |" in found


def test_the_summary_holds_default_number_and_best_published_score_side_by_side(pages):
    (found,) = lines(pages["summary.md"], "| badnets |")
    assert "| 2 | 0.950 | 0.970 | 0.01 | kdist 0.990 | 5 | 10 | 0.80 |" in found
    (other,) = lines(pages["summary.md"], "| copies |")
    assert "|  |  |  | dao 0.600 |" in other  # no success, no default score in its rows


def test_duplicates_dropping_defences_and_encoders_have_their_figures(pages):
    assert lines(pages["duplicates.md"], "| copies |", "| 5 | 2 | 3 | 0.60 |")
    assert lines(pages["dropping.md"], "| photos | small, 10 | 2 |", "0.30% | 0.40% |")
    assert "2 of 3" not in pages["dropping.md"] and "1 of 2 within a factor of 2" in pages["dropping.md"]
    assert lines(pages["dropping.md"], "| badnets |", "| 1 of 2 | -, 3 |")
    assert lines(pages["defences.md"], "| drop | 1 | 5 | 8 | 1 | 0.950 | 0.010 | 0.004 | 0.800 | 0.790 |")
    assert lines(
        pages["defences.md"], "| safeclip | 1 | 5 | 150 | 0 | 0.950 | 0.060 | 0.050 | 0.800 | 0.770 |"
    )
    assert lines(
        pages["heads.md"], "vit +20, 10", "| 0.950 | 0.900 | 0.200 | 0.300 | 0.800 | 0.800 | 0.700 |"
    )
    assert lines(pages["heads.md"], "| 0.600 | 0.610 | 0.990 | 0.980 |", "| 0.50/0.60 0.70/0.99 |")
    assert lines(pages["encoders.md"], "vit, 10", "0.850") and "sig" not in pages["encoders.md"]


def test_alerts_have_false_positives_a_budget_and_what_a_drop_is_worth(pages):
    (found,) = lines(pages["alerts.md"].split("score by score")[0], "| badnets |", "small, 10", "0.5 %")
    assert "| 2 | 0.950 | 0.800 |  | 0.500 | 0.030 | 0.002 | 10 | 0.500 | 0.800 |" in found
    by_score = pages["alerts.md"].split("FPR at 95 % TPR, score by score")[1].split("## ")[0]
    assert lines(by_score, "| badnets |", "small, 10", "0.5 %", "| 0.030 | 0.010 | 0.080 |")


def test_aims_are_counted_by_case_and_the_furthest_is_named(pages):
    (auroc,) = lines(pages["goals.md"], "learnt poison, 0.2 % to 1 %: AUROC at least 0.99")
    assert "| 0 of 1 cases | badnets, banana, 0.5 %, photos, small, 10 | 0.970 |" in auroc
    assert lines(pages["goals.md"], "below the best published", "| 0 of 1 cases |", "| -0.020 |")
    assert lines(pages["goals.md"], "nothing planted", "| 0 of 1 cases |", "0.40%")
    assert lines(pages["goals.md"], "copies: among the first 10 groups", "| 1 of 1 cases |", "| 1.000 |")
    assert lines(pages["goals.md"], "attack success at most 2 %", "| 1 of 1 cases |", "0.60%")
    assert lines(pages["goals.md"], "SafeCLIP, success 0.9 without it", "| 1 of 1 cases |", "1.00%")
    assert lines(pages["goals.md"], "points of accuracy lost", "| 0 of 1 cases |", "-0.010")


def test_the_first_page_leads_to_all_others_and_shows_the_plots(pages):
    linked = {part.partition(")")[0] for part in pages["tables.md"].split("](")[1:]}
    assert linked == set(pages) - {"tables.md"}
    assert lines(pages["tables.md"], "| dao |", "0.897 / 0.850 / 0.01")


def test_plots_are_the_same_bytes_twice_without_a_date(pages, tmp_path):
    rows = [
        row("dao", 0.9 - rate * 8, rate=rate, success=success, cell=f"{rate} {success}")
        for rate in (0.002, 0.005, 0.02)
        for success in (0.2, 0.95)
    ]
    defended = [CASE | after for after in AFTER.values()]
    parts = [
        CASE | {"epoch": epoch, "model": name, "defence": "safeclip", "share": 0.1, "poison_rate": 0.001}
        for epoch in (3, 4)
        for name in ("small", "other")
    ]
    folder = written(tmp_path, rows, [model()], defended, parts)
    first, second = (
        {path.name: path.read_bytes() for path in write_pages([folder], folder / name)} for name in "ab"
    )
    assert first == second
    plots = [name for name in first if name.endswith(".svg")]
    assert plots == [
        "auroc-by-success.svg", "auroc-by-rate.svg", "recall-by-score.svg", "defences.svg", "safe-set.svg",
    ]  # fmt: skip
    for name in plots:
        assert xml.fromstring(first[name]).tag.endswith("svg") and b"<dc:date>" not in first[name]


def test_of_a_cell_in_two_folders_the_later_one_counts(tmp_path):
    for name, value in (("a", 0.5), ("b", 0.9)):
        written(tmp_path / name, [row("dao", value)], [model()])
    figures = LabRows.read([tmp_path / "a", tmp_path / "b"])
    assert [one["auroc"] for one in figures.scores] == [0.9] and len(figures.models) == 1


def test_figures_of_several_states_of_the_code_are_said_to_be(tmp_path):
    folder = written(
        tmp_path, [row("dao", 0.9, code="old"), row("kdist", 0.9, code="new")], [model(code="new")]
    )
    write_pages([folder], folder / "out")
    assert "2 states of the code: new, old" in (folder / "out" / "tables.md").read_text()


def test_names_cannot_break_a_table():
    assert table(["a"], [["x | y"]]).splitlines()[-1] == "| x \\| y |"


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    folder = written(tmp_path, [row("dao", 0.9)], [model()])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"clipscan\[lab\]"):
        write_pages([folder], folder / "out")


def test_a_folder_without_rows_is_refused(tmp_path):
    with pytest.raises(RunError, match="clipscan lab run"):
        write_pages([tmp_path], tmp_path / "out")
