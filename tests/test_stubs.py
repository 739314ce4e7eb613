"""What a type checker is told of the compiled modules is what they hold."""

import ast
import re
from pathlib import Path

import pytest

import clipscan

MODULES = ["_core", "_cuda"]
PARAMETER = re.compile(r"(\w+): |\*\*(\w+)")
SPECIAL = ("__init__", "__dlpack__", "__dlpack_device__")


def of_stub(body):
    """name -> its parameters, "" for those that go by position only; of a class what it holds; else None."""
    found = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = of_stub(node.body)
        elif isinstance(node, ast.FunctionDef) and not node.decorator_list:
            named = [*node.args.args, *filter(None, [node.args.kwarg])]
            unnamed = [one for one in node.args.posonlyargs if one.arg != "self"]
            found[node.name] = [""] * len(unnamed) + [one.arg for one in named if one.arg != "self"]
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = None  # a property
        elif isinstance(node, ast.AnnAssign):
            found[node.target.id] = None
    return found


def of_module(holder):
    """The same of what is built, as pybind11 says it: `name(self: Device, arg0: int, k: int) -> int`."""
    found = {}
    for name, thing in vars(holder).items():
        if name.startswith("_") and name not in SPECIAL:
            continue
        if isinstance(thing, type):
            found[name] = of_module(thing)
        elif not callable(thing):
            found[name] = None
        elif (said := thing.__doc__.partition("\n")[0]).startswith(f"{name}("):  # else nobody can make one
            names = ["".join(pair) for pair in PARAMETER.findall(said)]
            found[name] = ["" if re.fullmatch(r"arg\d+", one) else one for one in names if one != "self"]
    return found


@pytest.mark.parametrize("name", MODULES)
def test_a_stub_names_what_the_module_holds_and_takes(name):
    module = pytest.importorskip(f"clipscan.{name}", reason="needs _cuda: build with nvcc 12.4 or later")
    stub = Path(clipscan.__file__).with_name(f"{name}.pyi")
    assert of_stub(ast.parse(stub.read_text()).body) == of_module(module)


def test_the_comparison_tells_names_and_parameters_apart():
    class Module:
        def search(self):
            """search(self: Module, arg0: int, k: int, **kwargs) -> int"""

    def stub(text):
        return of_stub(ast.parse(text).body)

    right = "def search(self, row: int, /, k: int, **kwargs: int) -> int: ..."
    assert stub(right) == of_module(Module) == {"search": ["", "k", "kwargs"]}
    for wrong in (right.replace("k:", "m:"), right.replace("search", "find"), right.replace(" /,", "")):
        assert stub(wrong) != of_module(Module)
