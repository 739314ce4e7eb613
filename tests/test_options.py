"""What a scan can be asked has each default once: in run/options.py."""

import inspect
from dataclasses import fields

import pytest
import typer.main

import clipscan
from clipscan.cli import app
from clipscan.cli.option_groups import OPTIONS, grouped
from clipscan.cli.options import K
from clipscan.run.options import Compute, Encoding, Models, Ranking, Reading

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
