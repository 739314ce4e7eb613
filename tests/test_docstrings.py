"""What clipscan hands out says what it is: purpose, shapes of arrays, errors. Those of commands are help.

Walked: `clipscan.__all__`, `clipscan.engine.__all__` and the classes that they give back, with their public
methods, and every command. Rules hold of what the source says: annotations, and each `raise` in a body, in
the functions of its module and in the methods of its class that it calls.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

import clipscan
import clipscan.engine
from clipscan import errors
from clipscan.cli import app
from clipscan.pipeline import Scan
from clipscan.scores.estimate import Estimate
from clipscan.scores.mixture import Mixture, Partition
from clipscan.sklearn import ConsensusDetector, ExactKNeighborsTransformer, LocalOutlierFactor

SHAPE = re.compile(r"\[[a-z0-9][\w ,+*/()-]*\]")  # [n, d], [stop - start, d]
IN_ARRAYS = re.compile(r"\b(Array|ArrayLike|NDArray|Rows|Neighbors)\b")
ESTIMATORS = (ConsensusDetector, ExactKNeighborsTransformer, LocalOutlierFactor)
ANY = {"embeddings", "queries", "text", "pictures", "X"}  # arrays of any library
ANY_SHAPE = {"clipscan.engine.numpy_of"}  # takes and gives whatever shape
FEWEST_WORDS = 3
ERRORS = {name for name, of in vars(errors).items() if isinstance(of, type) and issubclass(of, Exception)}
SPECIAL = {"__call__", "__contains__", "__getitem__"}  # methods with a meaning of their own here
MAKES = ("__init__", "__post_init__")  # whose errors the class tells


class Public(NamedTuple):
    """A name that is handed out; `of`: the class that it is a method of."""

    name: str
    thing: Any
    of: type | None = None

    @property
    def doc(self) -> str:
        """Its docstring; "" for the one that Python makes of the fields of a dataclass or a NamedTuple."""
        doc = inspect.cleandoc(self.thing.__doc__ or "")
        return "" if doc.startswith(f"{self.thing.__name__}(") else doc

    @property
    def in_arrays(self) -> bool:
        """Whether arrays go in or come out, or are its fields."""
        told = inspect.get_annotations(self.thing)
        if isinstance(self.thing, type) and not (
            dataclasses.is_dataclass(self.thing) or hasattr(self.thing, "_fields")
        ):
            return False
        return any(
            IN_ARRAYS.search(str(kind)) or (name in ANY and str(kind) == "Any") for name, kind in told.items()
        )

    @property
    def errors(self) -> set[str]:
        """Those of clipscan that it raises."""
        if not isinstance(self.thing, type):
            return raised(self.thing, self.of, set())
        made_by = [vars(self.thing)[name] for name in MAKES if name in vars(self.thing)]
        written = [one for one in made_by if inspect.getmodule(one.__code__) is inspect.getmodule(self.thing)]
        return set().union(*(raised(one, self.thing, set()) for one in written))


def handed_out() -> Iterator[Public]:
    things = {
        getattr(module, name): module for module in (clipscan, clipscan.engine) for name in module.__all__
    }
    things |= {one: inspect.getmodule(one) for one in (Scan, Partition, Mixture, Estimate, *ESTIMATORS)}
    for thing, module in things.items():
        place = f"{module.__name__}.{thing.__name__}"
        yield Public(place, thing)
        yield from methods(place, thing)


def methods(place: str, of: Any) -> Iterator[Public]:
    for name, member in vars(of).items() if isinstance(of, type) else ():
        function = getattr(member, "__func__", getattr(member, "fget", member))
        if inspect.isfunction(function) and (name in SPECIAL or name == function.__name__.lstrip("_")):
            yield Public(f"{place}.{name}", function, of)


def commands(group: Any = app, before: str = "clipscan") -> Iterator[Public]:
    for command in group.registered_commands:
        name = command.name or command.callback.__name__
        yield Public(f"{before} {name}", command.callback)
    for below in group.registered_groups:
        yield from commands(below.typer_instance, f"{before} {below.name}")


def raised(function: Any, of: type | None, seen: set[Any]) -> set[str]:
    """Names of clipscan's errors that a function, or a method `of` a class, raises."""
    seen.add(function)
    found = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Raise) and node.exc is not None:
            found |= {getattr(one, "id", getattr(one, "attr", "")) for one in ast.walk(node.exc)} & ERRORS
        called = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called = vars(inspect.getmodule(function)).get(node.func.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            called = getattr(of, node.attr, None)
        if inspect.isfunction(called) and called.__module__ == function.__module__ and called not in seen:
            found |= raised(called, of, seen)
    return found


def without_purpose(several: list[Public]) -> list[str]:
    return [one.name for one in several if len(re.findall(r"\w+", one.doc)) < FEWEST_WORDS]


def without_shape(several: list[Public]) -> list[str]:
    return [
        one.name
        for one in several
        if one.in_arrays and one.name not in ANY_SHAPE and not SHAPE.search(one.doc)
    ]


def without_errors(several: list[Public]) -> list[str]:
    return [f"{one.name}: {name}" for one in several for name in sorted(one.errors) if name not in one.doc]


LIBRARY, COMMANDS = list(handed_out()), list(commands())


def test_everything_public_says_what_it_is_for() -> None:
    assert without_purpose([*LIBRARY, *COMMANDS]) == []


def test_whatever_takes_or_gives_arrays_says_their_shape() -> None:
    assert without_shape(LIBRARY) == []


def test_whatever_raises_an_error_of_ours_names_it() -> None:
    assert without_errors(LIBRARY) == []


def test_the_walk_meets_functions_methods_and_commands() -> None:
    met = {one.name for one in [*LIBRARY, *COMMANDS]}
    assert {"clipscan.score", "clipscan.engine.Rows.take", "clipscan.DropList.load"} <= met
    assert {"clipscan scan", "clipscan heads fit", "clipscan lab poison", "clipscan bench knn"} <= met


def test_what_is_missing_is_found() -> None:
    class Bare:
        def lonely(self, rows: clipscan.engine.Rows) -> None:
            self._check(rows)

        def _check(self, rows: clipscan.engine.Rows) -> None:
            raise errors.InputError("no rows")

    several = list(methods("Bare", Bare))
    assert without_purpose(several) == without_shape(several) == ["Bare.lonely"]
    assert without_errors(several) == ["Bare.lonely: InputError"]
