"""Files of learnt triggers: drawn without torch, faint where they must be, read without trust."""

import json
import struct
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clipscan.errors import InputError
from clipscan.lab.attacks.learnt import badclip, blto, generator, trigger_file
from clipscan.lab.attacks.learnt.trigger_file import TRIGGER_KEY, read_learnt, write_learnt

pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")

pictures = hnp.arrays(np.uint8, st.tuples(st.integers(1, 90), st.integers(1, 90), st.just(3)))


@pytest.fixture(scope="module")
def wild(tmp_path_factory):
    """A generator that wants far more than it may have: random weights, large ones."""
    draw = np.random.default_rng(0)
    shapes = generator.shapes(4, 10)
    weights = {name: draw.normal(0, 3, shape).astype(np.float32) for name, shape in shapes.items()}
    path = tmp_path_factory.mktemp("wild") / "wild.safetensors"
    return str(write_learnt(path, weights, {"attack": "blto"}))


# ---- what they do to a picture


@settings(deadline=None, max_examples=60)
@given(picture=pictures)
def test_no_value_changes_by_more_than_eight_in_a_picture_of_any_size(wild, picture):
    before = picture.copy()
    marked = blto(picture, Random(0), file=wild)
    assert marked.shape == picture.shape and marked.dtype == np.uint8
    assert np.abs(marked.astype(int) - picture).max() <= 8
    assert (picture == before).all() and (blto(picture, Random(1), file=wild) == marked).all()


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (700, 20)])
def test_a_strip_is_no_more_work_than_its_pixels(wild, shape):
    picture = np.full((*shape, 3), 100, np.uint8)
    marked = blto(picture, Random(0), file=wild)
    assert marked.shape == picture.shape and 0 < np.abs(marked.astype(int) - 100).max() <= 8


def test_the_perturbation_differs_from_picture_to_picture(wild):
    first, second = (np.random.default_rng(i).integers(60, 200, (24, 24, 3), np.uint8) for i in range(2))
    changes = [blto(picture, Random(0), file=wild).astype(int) - picture for picture in (first, second)]
    assert (changes[0] != changes[1]).any()


@settings(deadline=None, max_examples=40)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    where=st.sampled_from(trigger_file.PLACES),
    seed=st.integers(0, 9),
)
def test_a_patch_changes_one_square_and_nothing_else(tmp_path_factory, size, where, seed):
    file = tmp_path_factory.getbasetemp() / f"patch-{where}.safetensors"
    about = {"attack": "badclip", "share": 0.25, "place": where}
    write_learnt(file, {"patch": np.full((8, 8, 3), 255, np.uint8)}, about)
    picture = np.zeros((*size, 3), np.uint8)
    marked = badclip(picture, Random(seed), file=str(file))
    rows, columns = np.nonzero(marked.any(axis=2))
    side = max(1, round(min(size) / 4))
    assert not picture.any() and (marked == 255).sum() == 3 * side * side
    assert np.ptp(rows) == np.ptp(columns) == side - 1
    if where != "random":
        ends = [size[0] - side, size[1] - side]
        assert [rows.min(), columns.min()] == (ends if where == "corner" else [end // 2 for end in ends])


# ---- hostile files


def raw(tensors, metadata):
    """A safetensors file from its parts: name -> (type, shape, bytes)."""
    header, body = {"__metadata__": metadata}, b""
    for name, (kind, shape, data) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


ABOUT = {TRIGGER_KEY: json.dumps({"attack": "badclip", "share": 0.25, "place": "middle"})}
PATCH = {"patch": ("U8", [2, 2, 3], bytes(12))}


def about(**changes):
    return {TRIGGER_KEY: json.dumps({"attack": "badclip", "share": 0.25, "place": "middle", **changes})}


HOSTILE_PATCHES = {
    "empty": b"",
    "not safetensors": b"PK\x03\x04" * 50,
    "a header longer than the file": struct.pack("<Q", 1 << 60) + b"{}",
    "no metadata": raw(PATCH, {}),
    "metadata is no JSON": raw(PATCH, {TRIGGER_KEY: "{"}),
    "metadata is a list": raw(PATCH, {TRIGGER_KEY: "[1]"}),
    "metadata is deep": raw(PATCH, {TRIGGER_KEY: "[" * 100_000}),
    "another attack": raw(PATCH, about(attack="blto")),
    "attack is no word": raw(PATCH, about(attack=["badclip"])),
    "no share": raw(PATCH, about(share=None)),
    "share is a word": raw(PATCH, about(share="0.25")),
    "share is nothing": raw(PATCH, about(share=0.0)),
    "share is NaN": raw(PATCH, about(share=float("nan"))),
    "share is huge": raw(PATCH, about(share=1e300)),
    "place is unknown": raw(PATCH, about(place="left")),
    "place is a list": raw(PATCH, about(place=[])),
    "no patch": raw({}, ABOUT),
    "patch of floats": raw({"patch": ("F32", [2, 2, 3], bytes(48))}, ABOUT),
    "patch of a type NumPy lacks": raw({"patch": ("BF16", [2, 2, 3], bytes(24))}, ABOUT),
    "patch is no square": raw({"patch": ("U8", [2, 1, 3], bytes(6))}, ABOUT),
    "patch is flat": raw({"patch": ("U8", [12], bytes(12))}, ABOUT),
    "patch is empty": raw({"patch": ("U8", [0, 0, 3], b"")}, ABOUT),
    "patch is too large": raw({"patch": ("U8", [1025, 1025, 3], bytes(1025 * 1025 * 3))}, ABOUT),
    "more than a patch": raw({**PATCH, "extra": ("U8", [1], b"x")}, ABOUT),
}


@pytest.mark.parametrize("case", HOSTILE_PATCHES)
def test_a_hostile_patch_is_refused_by_name_with_a_remedy(case, tmp_path):
    file = tmp_path / "hostile.safetensors"
    file.write_bytes(HOSTILE_PATCHES[case])
    with pytest.raises(InputError, match=r"hostile\.safetensors.*clipscan lab craft badclip"):
        badclip(np.zeros((8, 8, 3), np.uint8), Random(0), file=str(file))


@pytest.mark.parametrize(
    "harm",
    [
        lambda w: w.pop("last.bias"),
        lambda w: w.update(extra=np.zeros(1, np.float32)),
        lambda w: w.update({"canvas": np.zeros((3, 8, 9), np.float32)}),
        lambda w: w.update({"canvas": np.float32(1)}),
        lambda w: w.update({"canvas": np.zeros((3, 0, 0), np.float32)}),
        lambda w: w.update({"fine.bias": np.zeros(0, np.float32)}),
        lambda w: w.update({"first.weight": w["first.weight"].astype(np.float64)}),
        lambda w: w["last.weight"].__setitem__((0, 0, 0, 0), np.nan),
        lambda w: w["canvas"].__setitem__((0, 0, 0), np.inf),
        lambda w: w.update({n: np.zeros(s, np.float32) for n, s in generator.shapes(65, 8).items()}),
        lambda w: w.update({n: np.zeros(s, np.float32) for n, s in generator.shapes(4, 1025).items()}),
    ],
)
def test_a_hostile_generator_is_refused(harm, tmp_path):
    weights = {name: np.zeros(shape, np.float32) for name, shape in generator.shapes(4, 8).items()}
    picture = np.full((8, 8, 3), 9, np.uint8)
    fine = write_learnt(tmp_path / "fine.safetensors", weights, {"attack": "blto"})
    assert (blto(picture, Random(0), file=str(fine)) == picture).all()
    harm(weights)
    file = write_learnt(tmp_path / "hostile.safetensors", weights, {"attack": "blto"})
    with pytest.raises(InputError, match=r"hostile\.safetensors.*clipscan lab craft blto"):
        blto(picture, Random(0), file=str(file))


@settings(deadline=None, max_examples=150)
@given(changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_file_is_refused_or_still_a_trigger(wild, tmp_path_factory, changes):
    data = bytearray(Path(wild).read_bytes())
    for at, value in changes:
        data[at] = value  # most of it header
    file = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    file.unlink(missing_ok=True)
    file.write_bytes(data)
    picture = np.full((9, 9, 3), 100, np.uint8)
    try:
        marked = blto(picture, Random(0), file=str(file))
    except InputError as error:
        assert "damaged.safetensors" in str(error)
    else:
        assert np.abs(marked.astype(int) - picture).max() <= 8


def test_a_file_that_is_missing_or_too_large_is_refused_and_a_changed_one_is_read_again(
    tmp_path, monkeypatch
):
    file = tmp_path / "patch.safetensors"
    with pytest.raises(InputError, match="cannot read"):
        read_learnt(file, "badclip")
    with pytest.raises(InputError, match="cannot read"):
        read_learnt("a\0b", "badclip")
    where = {"attack": "badclip", "share": 1.0, "place": "corner"}
    for value in (1, 2):
        write_learnt(file, {"patch": np.full((1 + value, 1 + value, 3), value, np.uint8)}, where)
        assert (badclip(np.zeros((4, 4, 3), np.uint8), Random(0), file=str(file)) == value).all()
    monkeypatch.setattr(trigger_file, "MAX_BYTES", 100)
    write_learnt(file, {"patch": np.zeros((9, 9, 3), np.uint8)}, where)
    with pytest.raises(InputError, match="more than 100"):
        read_learnt(file, "badclip")


def test_the_triggers_know_no_torch():
    import ast

    for module in ("__init__", "learnt_triggers", "trigger_file", "generator"):
        tree = ast.parse((Path(trigger_file.__file__).parent / f"{module}.py").read_text())
        names = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert not {name for name in names if name.startswith(("torch", "clipscan.embed", "clipscan.train"))}
