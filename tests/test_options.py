"""What a scan or a training can be asked has each default once: in run/options.py, train/options.py."""

import inspect
from dataclasses import fields

import pytest
import typer.main

import clipscan
from clipscan.cli import app
from clipscan.cli.option_groups import OPTIONS, grouped
from clipscan.cli.options import K
from clipscan.run.options import Compute, Encoding, Models, Ranking, Reading
from clipscan.train import SafeClip, train_clip
from clipscan.train.options import Monitoring, Resources, Training

GROUPS = (Models, Ranking, Reading, Encoding, Compute)
DEFAULTS = {field.name: field.default for group in GROUPS for field in fields(group)}


def test_no_two_groups_have_a_field_of_one_name():
    assert len(DEFAULTS) == sum(len(fields(group)) for group in GROUPS)


def test_a_scan_has_the_defaults_of_its_options_each_with_its_type():
    parameters = inspect.signature(clipscan.scan).parameters
    taken = {name: one.default for name, one in parameters.items() if name in DEFAULTS}
    assert taken == {name: default for name, default in DEFAULTS.items() if name != "max_memory"}
    assert all(one.annotation is not inspect.Parameter.empty for one in parameters.values())
    assert {*parameters} - {*DEFAULTS} == {"source", "out", "overwrite", "progress"}


@pytest.mark.parametrize("name", ["scan", "embed", "score"])
def test_a_command_has_the_defaults_of_its_options(name):
    options = {one.name: one for one in typer.main.get_command(app).commands[name].params}
    assert {*options} & {*DEFAULTS}
    for option in options.keys() & DEFAULTS.keys():
        assert (options[option].default or None) == (DEFAULTS[option] or None), option


def test_a_training_has_the_defaults_of_its_options():
    known = {one.name: one.default for group in (Training, Resources, Monitoring) for one in fields(group)}
    parameters = inspect.signature(train_clip).parameters
    assert {name: one.default for name, one in parameters.items() if name in known} == known
    assert {*parameters} - {*known} == {"dataset", "out", "resume"}


def test_the_command_train_has_the_defaults_of_its_options():
    options = {one.name: one.default for one in typer.main.get_command(app).commands["train"].params}
    for group in (Training, SafeClip, Resources):
        for name in OPTIONS[group]:
            assert options[name] == getattr(group, name), name


def test_a_training_is_handed_what_it_was_asked_whichever_way(monkeypatch, tmp_path):
    from clipscan.train import train

    asked = {
        "model": "m", "init": tmp_path, "epochs": 9, "batch_size": 8, "lr": 0.5, "weight_decay": 0.25,
        "warmup": 0.125, "seed": 7, "flip": False, "safeclip": SafeClip(1),
        "device": "cpu", "workers": 3, "cache_bytes": 11, "snapshots": (2,), "watch": len, "log": print,
    }  # fmt: skip
    monkeypatch.setattr(train, "train_with", lambda dataset, out, *groups: groups)
    *groups, resume = train_clip(None, tmp_path, resume=False, **asked)
    assert vars(groups[0]) | vars(groups[1]) | vars(groups[2]) == asked and resume is False


def test_a_command_may_have_some_options_of_a_group_and_defaults_of_its_own():
    params = typer.main.get_command(app).commands["heads"].commands["scan"].params
    options = {one.name: one.default for one in params}
    assert options["batch_size"] == 64 and "precision" not in options and "compile" not in options


def test_a_command_is_handed_whole_groups():
    def command(k: K = 3, encoding: Encoding = Encoding(batch_size=64)) -> None:
        told.append((k, encoding))

    told: list = []
    flat = grouped(command)
    assert [*inspect.signature(flat).parameters] == ["k", *OPTIONS[Encoding]]
    asked = {"device": "cpu", "precision": "fp32", "compile": False, "workers": None, "batch_size": 64}
    flat(k=5, **asked)
    assert told == [(5, Encoding(**asked))]
