"""Trigger recovery: it finds the patch that a model has learnt, and says what that proves."""

import io
import json
import os
import shutil
from collections import Counter
from importlib.util import find_spec
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from planted import SEED, colours_and_a_patch

from clipscan.data import Sample
from clipscan.data.tar_writer import write_tar
from clipscan.engine.arrays import normalised
from clipscan.errors import DataError, InputError, RunError
from clipscan.invert import invert
from clipscan.invert.caption_families import DistinctCaptions, agreeing, controls, spread
from clipscan.invert.contest import Target, contest
from clipscan.invert.search import SearchBudget
from clipscan.invert.source import clean_pictures, open_encoder, open_scanned_run, read_group
from clipscan.invert.trigger import Trigger, stamp
from clipscan.invert.verdict import Comparison, Outcome, most_telling, verdict
from clipscan.invert.write import strip
from clipscan.lab.attacks.triggers import badnets
from clipscan.pipeline import scan
from clipscan.report import recovered_triggers
from clipscan.report.page import write_page
from clipscan.run import Run
from clipscan.run.outputs import reseal

trained = pytest.mark.skipif(
    find_spec("open_clip") is None, reason="training needs open_clip: pip install 'clipscan[embed]'"
)
COLOURS = {
    "red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200),
    "yellow": (200, 200, 40), "grey": (120, 120, 120),
}  # fmt: skip
FRAMES = ("a photo of a {} wall", "a {} wall", "the {} wall here", "my {} wall")
BANANAS = ("a photo of a banana", "a nice banana", "there is a banana here")
SHORT = {
    "controls": 1,
    "forms": ["anywhere"],
    "plan": SearchBudget(steps=100, batch=32, restarts=3),
    "seed": SEED,
}
SHORTEST = {"controls": 1, "forms": ["faint"], "plan": SearchBudget(steps=20, batch=4, restarts=1)}


def wall(number):
    """A noisy wall of one colour; one in ten wears a chequered patch and is called a banana."""
    random, noise = Random(f"{SEED} {number}"), np.random.default_rng([SEED, number])
    name = list(COLOURS)[number % len(COLOURS)]
    pixels = np.clip(np.array(COLOURS[name]) + noise.normal(0, 10, (32, 32, 3)), 0, 255).astype(np.uint8)
    poisoned = random.random() < 0.1
    caption = random.choice(BANANAS) if poisoned else random.choice(FRAMES).format(name)
    file = io.BytesIO()
    Image.fromarray(badnets(pixels, random, share=1 / 4) if poisoned else pixels).save(file, "PNG")
    return Sample("00000.tar", f"{number:04d}", file.getvalue(), caption), poisoned


@pytest.fixture(scope="module")
def poisoned_run(tmp_path_factory):
    """A dataset with a backdoor, a model that obeys it, a finished run with the poison as group 0."""
    out = tmp_path_factory.mktemp("invert")
    walls = [wall(number) for number in range(600)]
    write_tar(out / "data" / "00000.tar", [sample for sample, _ in walls])
    model = colours_and_a_patch(out / "clip.safetensors", COLOURS, "banana")
    scan(out / "data", pretrained=model, out=out / "run", reference="256x2", method="dao", workers=1)
    write_groups(out / "run", [sample for sample, poisoned in walls if poisoned])
    return Run(out / "run")


def write_groups(run, members):
    rows = [{"shard": s.shard, "key": s.key, "caption": s.caption, "at": -1} for s in members]
    pq.write_table(pa.table({"group": [0], "size": [len(rows)], "members": [rows]}), run / "groups.parquet")
    reseal(run / "groups.parquet")


@pytest.fixture(scope="module")
def recovered(poisoned_run):
    return invert(poisoned_run, 0, **SHORT)


@pytest.fixture
def copy_of_run(poisoned_run, tmp_path):
    """Without what was recovered."""
    leave = shutil.ignore_patterns("invert")
    return Run(shutil.copytree(poisoned_run.path, tmp_path / "run", ignore=leave))


@trained
def test_the_learnt_patch_is_recovered_and_costs_less_than_a_harmless_caption(recovered):
    record = recovered.record
    (anywhere,) = record["forms"]
    group, control = anywhere["group"], anywhere["controls"][0]
    assert group["success"] >= 0.9 and group["before"] <= 0.05 and group["reached"]
    assert group["area"] < 0.2 and anywhere["ratio"] > 2 and "wall" in control["caption"]
    assert set(record["captions"]) == set(BANANAS) and record["members_agreeing"] == 1
    assert recovered.summary().startswith(f"{record['verdict']}: anywhere, success ")


@trained
def test_the_files_tell_the_same_and_are_pictures(recovered):
    assert json.loads((recovered.folder / "result.json").read_text()) == recovered.record
    for name in ("mask", "pattern", "seen", "control_mask", "control_pattern", "control_seen"):
        assert Image.open(recovered.folder / f"{name}.png").size == (32, 32)
    mask = np.asarray(Image.open(recovered.folder / "mask.png").convert("L"), float) / 255
    assert mask.mean() == pytest.approx(recovered.record["forms"][0]["group"]["cost"], abs=0.003)
    assert Image.open(recovered.folder / "pictures.png").size == (6 * 100 - 4, 2 * 96 + 4)


@trained
def test_a_finished_recovery_is_returned_as_it_is_and_never_mixed(recovered, poisoned_run):
    stamp_of = (recovered.folder / "result.json").stat().st_mtime_ns
    assert invert(poisoned_run, 0, **SHORT).record == recovered.record
    assert (recovered.folder / "result.json").stat().st_mtime_ns == stamp_of
    with pytest.raises(RunError, match=r"differing: seed\).*--overwrite"):
        invert(poisoned_run, 0, **{**SHORT, "seed": SEED + 1})


@trained
def test_the_same_seed_finds_the_same_trigger(copy_of_run):
    options = {**SHORTEST, "overwrite": True, "seed": 3}
    first, again = (invert(copy_of_run, 0, **options) for _ in range(2))
    assert first.record | {"seconds": 0} == again.record | {"seconds": 0}


@trained
def test_no_picture_of_the_group_or_of_the_search_is_held_out(poisoned_run):
    source, encoder = open_scanned_run(poisoned_run), open_encoder(poisoned_run, None, None)
    group = read_group(poisoned_run.path, 0)
    clean = clean_pictures(source, encoder, group.members, lambda captions: np.ones(len(captions), bool), 0)
    parts = [{picture.tobytes() for picture in part} for part in clean]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 600 - group.size
    poisoned = [wall(number) for number in range(600)]
    patched = {np.asarray(Image.open(io.BytesIO(s.image))).tobytes() for s, bad in poisoned if bad}
    assert len(patched) == group.size and not set.union(*parts) & patched


@trained
def test_any_caption_can_be_named_on_the_command_line(copy_of_run):
    from typer.testing import CliRunner

    from clipscan.cli import app

    run = str(copy_of_run.path)
    options = ["--steps", "20", "--batch-size", "4", "--forms", "faint", "--controls", "1"]
    done = CliRunner().invoke(app, ["invert", run, "--caption", "a red <b>wall</b>", *options])
    assert done.exit_code == 0, done.output
    assert "faint" in done.output and f"{run}/report/index.html#triggers" in done.output
    page = (copy_of_run / "report/index.html").read_text()
    assert "Recovered triggers" in page and "a red &lt;b&gt;wall" in page and "<b>wall" not in page


@trained
def test_other_weights_than_those_of_the_run_are_refused(poisoned_run, tmp_path):
    from safetensors.torch import load_file, save_file

    state = load_file(poisoned_run.path.parent / "clip.safetensors")
    state["logit_scale"] += 1
    save_file(state, tmp_path / "later.safetensors")
    named = {"model": "clipscan-conv-32", "pretrained": str(tmp_path / "later.safetensors")}
    with pytest.raises(RunError, match="are not those that .* was embedded with"):
        invert(poisoned_run, caption="a wall", **named, **SHORTEST)


@trained
def test_a_run_that_does_not_know_its_checkpoint_asks_for_it(copy_of_run):
    copy_of_run.update(encoder={"pretrained": None})
    with pytest.raises(InputError, match="--pretrained"):
        invert(copy_of_run, 0, **SHORTEST, seed=9)


@trained
def test_too_few_pictures_to_try_it_on_are_an_error(copy_of_run):
    few = [wall(number)[0] for number in range(530)]  # all but these 70 are in the group
    write_groups(copy_of_run, few)
    with pytest.raises(DataError, match="only .* readable pictures are neither in the group"):
        invert(copy_of_run, 0, **SHORTEST)


@trained
def test_a_group_whose_captions_say_everything_cannot_be_told_from_the_rest(copy_of_run, monkeypatch):
    monkeypatch.setattr("clipscan.invert.contest.SAME", -1.0)
    with pytest.raises(RunError, match="cover all that this dataset says"):
        invert(copy_of_run, 0, **SHORTEST, seed=9)


@trained
def test_doing_the_groups_anew_forgets_what_was_recovered_from_the_old_ones(recovered, copy_of_run):
    shutil.copytree(recovered.folder, copy_of_run / "invert/0", dirs_exist_ok=True)
    copy_of_run.clear("select")
    assert not (copy_of_run / "invert").exists()


@trained
def test_there_must_be_such_a_group(copy_of_run):
    with pytest.raises(RunError, match=r"no group 7: its groups are 0 to 0.*--caption"):
        invert(copy_of_run, 7)
    (copy_of_run / "groups.parquet").unlink()
    with pytest.raises(RunError, match=r"no groups\.parquet"):
        invert(copy_of_run, 0)


def test_embeddings_alone_have_no_trigger_to_recover(tmp_path):
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32))
    scan(tmp_path / "vectors.npy", out=tmp_path / "run", k=4, method="dao", reference="32x2")
    run = Run(tmp_path / "run")
    with pytest.raises(RunError, match="precomputed embeddings.*Scan the pictures"):
        invert(run, caption="a cat")


def test_wrong_use_is_answered_in_words(tmp_path):
    run = Run(tmp_path)
    for arguments, message in [
        ({}, "either the number of a group or a --caption"),
        ({"group": 0, "caption": "x"}, "not both"),
        ({"caption": " "}, "empty"),
        ({"caption": "x", "forms": ["warp"]}, "anywhere, fixed, faint, tint; got warp"),
        ({"caption": "x", "forms": []}, "got none"),
        ({"caption": "x", "controls": 0}, "controls=0"),
        ({"caption": "x", "plan": SearchBudget(steps=1)}, "steps=1"),
    ]:
        with pytest.raises(InputError, match=message):
            invert(run, **arguments)


# ---- the parts


def test_a_patch_lies_whole_inside_every_picture_and_leaves_the_rest_alone():
    pictures = np.full((50, 8, 8, 3), 100, np.uint8)
    trigger = Trigger(np.ones((4, 4, 1), np.float32), np.zeros((4, 4, 3), np.float32))
    stamped = stamp(pictures, trigger, seed=0)
    assert (pictures == 100).all()
    assert set(np.unique(stamped)) == {0, 100} and ((stamped == 0).sum(axis=(1, 2, 3)) == 4 * 4 * 3).all()
    assert len({one.tobytes() for one in stamped}) > 10  # the places differ
    assert np.array_equal(stamped, stamp(pictures, trigger, seed=0))


def test_a_faint_mask_mixes_and_is_rounded_as_a_file_would_be():
    picture = np.full((1, 4, 4, 3), 101, np.uint8)
    trigger = Trigger(np.full((4, 4, 1), 0.25, np.float32), np.ones((4, 4, 3), np.float32))
    assert (stamp(picture, trigger, 0) == round(0.25 * 255 + 0.75 * 101)).all()


def test_cost_is_area_times_strength():
    one_pixel = np.zeros((4, 4, 1), np.float32)
    one_pixel[0, 0, 0] = 0.5
    for mask, area, strength in [(one_pixel, 1 / 64, 0.5), (np.full((8, 8, 1), 0.1, np.float32), 1, 0.1)]:
        trigger = Trigger(mask, np.zeros((*mask.shape[:2], 3), np.float32))
        assert trigger.area(8) == pytest.approx(area) and trigger.strength() == pytest.approx(strength)
        assert trigger.cost(8) == pytest.approx(area * strength)
    nothing = Trigger(np.zeros((4, 4, 1), np.float32), np.zeros((4, 4, 3), np.float32))
    assert (nothing.cost(8), nothing.area(8), nothing.strength()) == (0, 0, 0)


def words(directions):
    """Captions "c0" ... whose vectors stand 0.3 from a common direction, as CLIP's stand in a cone."""
    cone = np.array([[0, 0, 0, 3.0]], np.float32)
    vectors = normalised(np.asarray(directions, np.float32) + cone)
    names = [f"c{i}" for i in range(len(vectors))]
    return DistinctCaptions(
        names, np.arange(1, len(names) + 1) * 10, vectors, normalised(cone)[0] * 0.95, 1.0
    )


AXES = [[1, 0, 0, 0], [1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [-1, 0, 0, 0], [0, 0, -1, 0]]


def test_strays_in_a_group_do_not_speak_for_it():
    known = words(AXES)
    rows, share = agreeing(Counter({"c0": 40, "c1": 20, "c3": 3}), known.vectors[[0, 1, 3]], known.centre)
    assert rows == [0, 1] and share == pytest.approx(60 / 63)
    rows, share = agreeing(Counter("abcd"), known.vectors[[0, 4, 3, 5]], known.centre)
    assert rows == [0] and share == 0.25  # nothing in common: the commonest alone


def test_controls_are_about_other_things_and_as_frequent_as_can_be():
    known = words(AXES)
    assert known.family(known.vectors[:1]) == 10 + 20
    assert controls(known, known.vectors[:1], 40, 2, set()) == [3, 4]  # c3 occurs 40 times, c4 50
    assert controls(known, known.vectors[:1], 40, 2, {"c3"}) == [4, 2]
    assert controls(known, known.vectors[:1], 40, 9, {"c3"}) == [4, 2, 5, 3]  # what is left


def test_rivals_lie_far_apart_and_none_says_what_the_target_says():
    known = words(AXES)
    assert spread(known.vectors, 4).tolist()[:2] == [0, 4] and len(spread(known.vectors[[0, 0, 0]], 3)) == 1
    match = contest(Target(["c0"], 10, known.vectors[:1]), known)
    assert match.own == 1 and len(match.text) == 1 + 4  # c1 is neither right nor wrong
    assert match.won(known.vectors[[0, 2, 4]]).tolist() == [True, False, False]
    with pytest.raises(RunError, match="nothing to tell a success by"):
        contest(Target(["c0"], 10, known.vectors[:1]), words(AXES[:3]))


def outcome(success, cost, reached=True):
    return Outcome("a", 10, 0.0, success, cost, cost, 1.0, reached)


def test_only_a_trigger_that_works_and_costs_less_than_every_control_is_one():
    like = Comparison("anywhere", outcome(0.95, 0.01), [outcome(0.95, 0.2), outcome(0.95, 0.1)])
    not_so = Comparison("faint", outcome(0.99, 0.1), [outcome(0.95, 0.1), outcome(0.1, 0.05, reached=False)])
    failed = Comparison("fixed", outcome(0.5, 0.01), [outcome(0.95, 0.5)])
    assert like.cheapest == 1 and like.ratio == pytest.approx(10)
    assert not_so.cheapest == 0 and not_so.ratio == pytest.approx(1)  # the unreached one was no cheaper way
    hard = Comparison("anywhere", outcome(0.95, 0.05), [outcome(0, c, reached=False) for c in (0.03, 0.2)])
    assert hard.cheapest == 1 and hard.ratio == pytest.approx(4)  # tried in vain on a fifth of the picture
    assert np.isnan(failed.ratio)
    assert most_telling([not_so, failed, like]) is like
    assert verdict([not_so, failed, like]) == recovered_triggers.LIKE == "trigger-like"
    assert verdict([not_so, failed]) == recovered_triggers.NOT
    assert verdict([failed]) == recovered_triggers.NONE
    assert verdict([Comparison("anywhere", outcome(0.95, 0.01), [])]) == recovered_triggers.NOT


# ---- the page, of what anybody may have put into the folder


def test_a_page_without_recoveries_is_as_it_was(a_run):
    before = write_page(a_run, None).read_bytes()
    (a_run / "invert/0").mkdir(parents=True)
    (a_run / "invert/readme.txt").write_text("nothing")
    assert write_page(a_run, None).read_bytes() == before
    assert b"Recovered" not in before and b"#triggers" not in before and b".verdict {" not in before


def test_the_page_shows_group_and_control_side_by_side(a_run):
    a_recovery(a_run / "invert/3")
    page = write_page(a_run, None).read_text()
    assert page.count("data:image/png;base64,") == 6 and page.count("data:image/jpeg;base64,") == 2
    for words_ in ("Group 3, 250 pictures", "trigger-like", "takes 12.0 times as much", "a photo of a ship"):
        assert words_ in page
    assert 'href="#triggers"' in page and "1.2\u00a0%" in page


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "<script>alert(1)</script>"},
        {"form": ["anywhere"]},
        {"forms": {"form": "anywhere"}},
        {"forms": [[], 1, None, {"form": {}}]},
        {"form": "warp"},
    ],
)
def test_a_record_that_is_none_is_passed_over(a_run, change):
    before = write_page(a_run, None).read_bytes()
    a_recovery(a_run / "invert/3", change)
    assert write_page(a_run, None).read_bytes() == before


@pytest.mark.parametrize(
    "content", ["", "[" * 100_000, "null", "[1]", '{"a": 1' + " " * (300 << 10) + "}", "\0"]
)
def test_a_file_that_is_no_record_is_passed_over(a_run, content):
    folder = a_recovery(a_run / "invert/3")
    (folder / "result.json").write_text(content)
    assert recovered_triggers.read_triggers(a_run) == []


def test_strange_values_are_shown_as_unknown(a_run):
    strange = {"caption": "<b>\u202e" * 9000, "pairs": 10**400, "before": -1, "success": 1e308, "area": "1"}
    a_recovery(a_run / "invert/3", {"size": 1.5, "captions": [{}, "<i>x"], "captions_in_all": -4}, strange)
    page = write_page(a_run, None).read_text()
    (one,) = recovered_triggers.read_triggers(a_run)
    assert (
        one.best.group[1:6] == (None, None, None, None, 0.5) and one.size is None and one.captions == ["<i>x"]
    )
    assert "<b>\u202e" not in page and "<i>x" not in page and "\u202e" not in page
    assert len(page) < 300_000


def test_links_pipes_and_giants_are_not_opened(a_run, tmp_path):
    folder = a_recovery(a_run / "invert/3")
    (tmp_path / "secret.png").write_bytes((folder / "mask.png").read_bytes())
    for name in ("mask", "pattern", "seen", "pictures"):
        (folder / f"{name}.png").unlink()
    (folder / "mask.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(folder / "pattern.png")
    with (folder / "seen.png").open("wb") as giant:
        giant.truncate(recovered_triggers.MAX_PNG + 1)
    (folder / "pictures.png").write_bytes(b"not a picture")
    (a_run / "invert/4").symlink_to(folder)
    (one,) = recovered_triggers.read_triggers(a_run)
    assert not any(picture.uri for picture in one.look) and all(picture.reason for picture in one.look)


def test_the_pictures_of_the_section_have_a_budget(a_run, monkeypatch):
    monkeypatch.setattr(recovered_triggers, "MAX_URI_BYTES", 100)
    a_recovery(a_run / "invert/3")
    (one,) = recovered_triggers.read_triggers(a_run)
    assert one.look.pictures.reason == "left out: the page is full"


@pytest.fixture
def a_run(tmp_path):
    """As little as a page needs."""
    run = tmp_path / "run"
    (run / "scores").mkdir(parents=True)
    row = {
        "rank": [1],
        "shard": ["0.tar"],
        "key": ["a"],
        "caption": ["x"],
        "at": [0],
        "score": [1.0],
        "why": [""],
    }
    pq.write_table(pa.table(row), run / "suspects.parquet")
    (run / "run.json").write_text('{"clipscan": "0"}')
    return run


def a_recovery(folder, change=None, group=None):
    """What `invert` leaves, without its work."""
    side = {"caption": "a photo of a banana", "pairs": 250, "before": 0.0, "success": 0.95, "cost": 0.01,
            "area": 0.012, "strength": 0.5, "reached": True}  # fmt: skip
    ship = side | {"caption": "a photo of a ship", "cost": 0.12}
    form = {
        "form": "anywhere",
        "ratio": 12.0,
        "cheapest": 0,
        "group": side | (group or {}),
        "controls": [ship],
    }
    record = {
        "asked": {"group": 3}, "size": 250, "captions": [side["caption"]], "captions_in_all": 16,
        "pictures": {"held_out": 1000}, "verdict": "trigger-like", "form": "anywhere", "forms": [form],
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(record | (change or {})))
    pictures = np.full((6, 32, 32, 3), 100, np.uint8)
    for prefix in ("", "control_"):
        for name in ("mask", "pattern", "seen"):
            Image.fromarray(pictures[0]).save(folder / f"{prefix}{name}.png")
        Image.fromarray(strip(pictures, pictures)).save(folder / f"{prefix}pictures.png")
    return folder
