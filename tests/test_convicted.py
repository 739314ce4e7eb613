"""Convicted populations in words: what found them, how many pictures, how sure; nothing that is not known."""

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.report.convicted import KINDS, Convicted, convicted_of, estimate_words
from clipscan.scores.estimate import NOBODY, Estimate

TRAIT = {"kind": "trait", "number": 90, "pictures": 80, "misfit": 3.21, "null_share": 0.1}


def a_run(folder, populations, labels, method="consensus"):
    groups = {"group": range(len(labels)), "size": [60] * len(labels), "population": pa.array(labels)}
    pq.write_table(pa.table({name: pa.array(list(column)) for name, column in groups.items()}),
                   folder / "groups.parquet")  # fmt: skip
    score = {"method": method, "populations": populations}
    (folder / "run.json").write_text(json.dumps({"clipscan": "0", "score": score}))
    return folder


def test_a_population_is_told_by_its_kind_its_pictures_and_its_precision():
    whole = Convicted(0, "trait", 90, 90, 80, 3.21, 0.1)
    said = "80 distinct pictures; mean misfit 3.2 (1 is usual), estimated precision 90 %"
    assert whole.words() == f"group 0, 90 pairs: {KINDS['trait']}; {said}"


def test_no_clean_picture_seen_among_few_is_no_certainty():
    assert Convicted(0, "trait", 50, 50, 50, 3.0, 0.0).figures.endswith("estimated precision above 96 %")
    assert Convicted(0, "trait", 50, 50, 50, 3.0, 0.04).figures.endswith("estimated precision 96 %")


def test_what_is_left_of_a_population_found_twice_says_so():
    assert Convicted(1, "density", 2, 47, 47, 3.0, 0.1).figures.startswith(
        "of a population of 47, the others in groups before; 47 distinct pictures"
    )


def test_without_captions_there_is_no_precision(tmp_path):
    blind = TRAIT | {"kind": "density", "misfit": None, "null_share": None}
    (one,) = convicted_of(a_run(tmp_path, [blind], [0, -1]))
    assert math.isnan(one.misfit) and math.isnan(one.clean)
    assert "precision" not in one.words() and "no captions" in one.words()


def test_a_group_knows_its_population_by_number(tmp_path):
    found = convicted_of(a_run(tmp_path, [TRAIT, TRAIT | {"kind": "captions"}], [1, -1, -1]))
    assert [(one.group, one.kind, one.size, one.number) for one in found] == [(0, "captions", 60, 90)]


def test_a_run_json_that_somebody_edited_costs_figures_not_the_page(tmp_path):
    found = convicted_of(a_run(tmp_path, [{"kind": 7, "pictures": "many"}, None], [0, 1, 2]))
    assert [(one.group, one.pictures) for one in found] == [(0, 0), (1, 0)]
    assert all(one.words() for one in found)


def test_no_other_score_convicts(tmp_path):
    assert convicted_of(a_run(tmp_path, [TRAIT], [-1], "lof")) is None


def test_the_number_to_drop_is_said_by_what_made_it():
    some, one = Estimate(47, 43, 59, 40.0), Convicted(0, "trait", 47, 47, 40, 3.0, 0.1)
    assert estimate_words(some, [one]) == (
        "47 pairs are convicted, in 1 population (43 of them surely; 12 more may belong there)"
    )
    assert estimate_words(NOBODY, []) == "no pairs are convicted"
    assert estimate_words(some, None) == some.words() == "about 47 rows stand apart (43 to 59)"
