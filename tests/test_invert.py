"""Trigger recovery: it finds the patch that a model has learnt, and says what that proves."""

import io
import json
import shutil
from importlib.util import find_spec
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from disturbance import SEED
from PIL import Image
from planted import colours_and_a_patch

from clipscan.data import Sample
from clipscan.data.tar_writer import write_tar
from clipscan.errors import DataError, InputError, RunError
from clipscan.invert import invert
from clipscan.invert.search import SearchBudget
from clipscan.invert.source import clean_pictures, open_encoder, open_scanned_run, read_group
from clipscan.lab.attacks.triggers import badnets
from clipscan.pipeline import scan
from clipscan.run import Run
from clipscan.run.markers import reseal

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
