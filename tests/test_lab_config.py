"""A config says what is to be done, or what is wrong with it: the file, the key, the remedy."""

from pathlib import Path

import numpy as np
import pytest

from clipscan.errors import InputError
from clipscan.lab.attacks.learnt.trigger_file import write_learnt
from clipscan.lab.grid.cell_scores import Asked, Key, wanted
from clipscan.lab.grid.config import read_config
from clipscan.lab.grid.config_datasets import open_lab_dataset
from clipscan.lab.grid.defences import SafeTraining
from clipscan.train.recipe import SafeClip

EXAMPLES = Path(__file__).parent.parent / "examples" / "lab"
WHOLE = """
[datasets.photos]
train = "tars"
held_out = "https://host/test.tar"
classes = ["ship", "truck"]
[defaults]
dataset = "photos"
target = "banana"
models = "clipscan-conv-32"
epochs = [10, 4]
seeds = [0, 1]
[[cases]]
attack = ["badnets", "sig"]
rates = [0.005, 0]
[[cases]]
attack = "badnets+sig"
target = "banana+lamp"
rates = 0.01
seeds = 7
epochs = 3
defences = ["drop", "safeclip"]
[safeclip]
epochs = 9
slow_rate = 1e-4
[score]
methods = ["dao", "cosine", "iforest"]
k = [16, 64]
references = ["256x8", "all"]
compat = "slof"
"""


def config(tmp_path, text=WHOLE):
    path = tmp_path / "lab.toml"
    path.write_text(text)
    return path


def test_lists_multiply_out_and_a_case_overrides_the_defaults(tmp_path):
    plan = read_config(config(tmp_path))
    cells = [work.cell for work in plan.works]
    assert len({cell.name for cell in cells}) == len(cells) == 2 * 2 * 2 + 1
    assert [(c.attack, c.rate, c.seed) for c in cells[:3]] == [
        ("badnets", 0.005, 0),
        ("badnets", 0.005, 1),
        ("badnets", 0.0, 0),
    ]
    last = plan.works[-1]
    assert last.defences == ("drop", "safeclip") and last.cell.target == "banana+lamp"
    assert plan.works[0].defences == () and cells[0].epochs == (4, 10) and last.cell.epochs == (3,)


def test_a_number_of_pairs_stands_in_the_place_of_a_rate(tmp_path):
    text = WHOLE.replace("rates = [0.005, 0]", "rates = 0\npairs = [10, 35]").replace(
        "rates = 0.01", "pairs = 10"
    )
    cells = [work.cell for work in read_config(config(tmp_path, text)).works]
    assert {(cell.rate, cell.pairs) for cell in cells} == {(0.0, None), (0.0, 10), (0.0, 35)}
    assert len({cell.name for cell in cells}) == len(cells) and "-10x-" in cells[-1].name


def test_free_captions_need_no_classes(tmp_path):
    text = WHOLE.replace('classes = ["ship", "truck"]', "free_captions = true")
    assert read_config(config(tmp_path, text)).sources["photos"].classes == ()


def test_few_of_a_kind_are_kept_by_their_word(tmp_path):
    text = WHOLE.replace("[defaults]", "few = { ship = 2, truck = 0 }\n[defaults]")
    assert read_config(config(tmp_path, text)).sources["photos"].few == {"ship": 2, "truck": 0}
    with pytest.raises(InputError, match=r"\[datasets.photos\]: few: ship must be a whole number"):
        read_config(config(tmp_path, text.replace("ship = 2", "ship = 'two'")))


def test_a_defence_has_its_own_settings_and_the_usual_ones_where_none_are_given(tmp_path):
    safe = read_config(config(tmp_path)).safe
    assert (safe.epochs, safe.lr) == (9, SafeTraining().lr)
    assert safe.safeclip == SafeClip(slow_rate=1e-4)


def test_paths_are_relative_to_the_config_and_urls_stay(tmp_path):
    source = read_config(config(tmp_path)).sources["photos"]
    assert source.train == str(tmp_path / "tars") and source.held_out == "https://host/test.tar"
    assert (source.pictures, source.batch_size) == (None, 256)


def test_a_cell_that_two_cases_ask_for_is_one_cell(tmp_path):
    text = WHOLE + "[[cases]]\nattack='badnets'\nrates=0.005\nseeds=1\ndefences='drop'\n"
    plan = read_config(config(tmp_path, text))
    again = [work for work in plan.works if work.defences]
    assert len(plan.works) == 9 and [(w.cell.attack, w.cell.seed) for w in again] == [
        ("badnets", 1),
        ("badnets+sig", 7),
    ]


def test_scores_multiply_with_what_they_take(tmp_path):
    keys = wanted(read_config(config(tmp_path)).asked)
    assert set(keys) == {
        *(Key("dao", k, reference) for k in (16, 64) for reference in ("256x8", "all")),
        Key("cosine", 0, ""),
        *(Key("iforest", 0, reference) for reference in ("256x8", "all")),
        Key("slof", 16, "batch 2048", "detect-clip"),
    }
    assert len(keys) == 8
    assert len(wanted(Asked().checked())) > 10


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("rates = [0.005, 0]", "rate = 0.005", "case 1: rates is missing; 'rate' is there"),
        ("rates = 0.01", "rates = 0.01\nrepeat = 3", "case 2: unknown key 'repeat'"),
        ("epochs = 3", "epoch = 3", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("[score]", "[scores]", "unknown key 'scores'; did you mean 'score'?"),
        ("rates = 0.01", "rates = '1 %'", "rates must be a number, got '1 %'"),
        ("rates = 0.01", "rates = true", "rates must be a number, got True"),
        ("seeds = 7", "seeds = 7.5", "seeds must be a whole number"),
        ("seeds = 7", "seeds = []", "asks for nothing"),
        ("rates = 0.01", "rates = 1", "not a share"),
        ("rates = 0.01", "pairs = 0", "for a clean control use rates = 0"),
        ("rates = 0.01", "pairs = 1.5", "pairs must be a whole number"),
        ("rates = 0.01", "", "case 2: rates is missing"),
        ('classes = ["ship", "truck"]', "free_captions = 1", "free_captions must be true or false"),
        ("epochs = 3", "epochs = 0", "after 1 epoch at the earliest"),
        ('attack = "badnets+sig"', 'attack = "badnet+sig"', "case 2: no attack named 'badnet'"),
        ('attack = "badnets+sig"', 'attack = "../x"', "no slashes"),
        ('"safeclip"]', '"luck"]', "case 2: no defence 'luck'; there are: drop, safeclip"),
        ("epochs = 9", "epochs = 3", "[safeclip]: safeclip takes 5 epochs of warm-up"),
        ("slow_rate", "slowrate", "unknown key 'slowrate'; did you mean 'slow_rate'"),
        ('defences = ["drop", "safeclip"]', "options = {alpha = 1}", "has no option alpha"),
        ('defences = ["drop", "safeclip"]', 'dataset = "photo"', "no [datasets.photo]; there are: photos"),
        ('classes = ["ship", "truck"]', "", "[datasets.photos]: classes is missing"),
        ('methods = ["dao"', 'methods = ["dau"', "[score]: no score 'dau'"),
        ('references = ["256x8"', 'references = ["256*8"', "'256*8' is none of"),
        ('compat = "slof"', 'compat = "lof"', "the released code has kdist, lid"),
        ("[[cases]]", "[cases]", "begin each with [[cases]]"),
        ("[datasets.photos]", "[datasets", "is not TOML"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, old, new, said):
    assert old in WHOLE
    text = WHOLE.replace(old, new, 1)
    if old == "[[cases]]":
        text = text.partition("[[cases]]")[0]
    with pytest.raises(InputError) as refused:
        read_config(config(tmp_path, text))
    assert said in str(refused.value) and "lab.toml" in str(refused.value)


def test_heads_are_tried_with_classes_only(tmp_path):
    text = WHOLE.replace('classes = ["ship", "truck"]', "free_captions = true").replace(
        "seeds = 7", "heads = 0.1"
    )
    with pytest.raises(InputError, match="case 2: heads needs classes"):
        read_config(config(tmp_path, text))


def test_a_config_that_is_not_there_is_an_error_that_says_where_examples_are(tmp_path):
    with pytest.raises(InputError, match="examples/lab"):
        read_config(tmp_path / "lab.toml")


def test_generated_pictures_are_named_by_number_and_seed():
    assert sum(stop - start for *_, (start, stop) in open_lab_dataset("scenes:1200:3").shards) == 1200
    with pytest.raises(InputError, match="scenes:N:SEED"):
        open_lab_dataset("scenes:many")


@pytest.mark.parametrize("name", ["smoke", "cifar10"])
def test_the_examples_are_sound(name):
    plan = read_config(EXAMPLES / f"{name}.toml")
    assert plan.works and any(work.defences for work in plan.works)
    assert any(work.cell.rate == 0 for work in plan.works)


def test_the_example_on_real_captions_is_sound_and_has_clean_controls():
    plan = read_config(EXAMPLES / "flickr8k.toml")
    clean = {work.cell.dataset for work in plan.works if work.cell.rate == 0 and work.cell.pairs is None}
    assert clean == set(plan.sources) and not any(source.classes for source in plan.sources.values())


def write_patch(path, patch):
    write_learnt(path, {"patch": patch}, {"attack": "badclip", "share": 0.25, "place": "middle"})


def test_the_example_beside_which_a_crafted_trigger_must_lie_is_sound(tmp_path):
    write_patch(tmp_path / "badclip-ship.safetensors", np.zeros((4, 4, 3), np.uint8))
    text = (EXAMPLES / "heads.toml").read_text()
    works = read_config(config(tmp_path, text)).works
    assert all(work.heads for work in works) and {work.cell.base for work in works} == {0, 10}


def learnt_cell(folder, patch):
    """The one cell of a config beside whose folder a learnt patch lies; None: no such file."""
    folder.mkdir(exist_ok=True)
    if patch is not None:
        write_patch(folder / "patch.safetensors", patch)
    text = WHOLE.replace('["badnets", "sig"]', '"badclip"').replace("[0.005, 0]", "0.005")
    text = text.replace("rates = 0.005", 'rates = 0.005\nseeds = 0\noptions = { file = "patch.safetensors" }')
    return read_config(config(folder, text)).works[0].cell


def test_a_learnt_trigger_is_known_by_what_is_in_its_file_not_by_where_it_lies(tmp_path):
    grey, white = (np.full((4, 4, 3), value, np.uint8) for value in (128, 255))
    cell = learnt_cell(tmp_path / "a", grey)
    assert cell.options == {"file": str(tmp_path / "a" / "patch.safetensors")}
    assert cell.name == learnt_cell(tmp_path / "b", grey).name
    assert cell.name != learnt_cell(tmp_path / "c", white).name


def test_a_learnt_trigger_that_is_missing_is_said_before_anything_is_computed(tmp_path):
    with pytest.raises(
        InputError, match=r"case 1: cannot read .*patch\.safetensors.*clipscan lab craft badclip"
    ):
        learnt_cell(tmp_path / "a", None)
