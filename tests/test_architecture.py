"""Imports point down, and only where a room may import at all."""

import ast
from pathlib import Path

import clipscan

ROOT = Path(clipscan.__file__).parent
FLOORS = [
    ["errors", "_core"],
    ["engine", "data"],
    ["scores", "embed", "train", "kernels"],
    ["run", "sklearn", "pyod"],
    ["report"],
    ["heads", "invert"],
    ["pipeline"],
    ["lab", "bench"],
    ["doctor"],
    ["cli"],
    ["__main__", "__init__"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# A training needs the encoders' models and decoding; SafeCLIP's the mixture of the pairs' cosines. PyOD's
# detectors are scikit-learn's estimators.
BESIDE = {("train", "embed"), ("train", "scores"), ("pyod", "sklearn")}
NO_TORCH = {"engine", "data", "scores", "run", "report", "pipeline", "cli", "errors"}


# Within the laboratory; demo joins all, poison and metrics are old names.
LAB = [["scenes"], ["attacks"], ["grid"], ["tables"], ["demo", "poison", "metrics"], ["__init__"]]
LAB_FLOOR = {package: number for number, packages in enumerate(LAB) for package in packages}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (
                [f"clipscan.{n.name}" for n in node.names] if node.module == "clipscan" else [node.module]
            )
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def rooms():
    for path in sorted(ROOT.rglob("*.py")):
        yield path, path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_every_room_has_a_floor():
    assert {room for _, room in rooms()} <= set(FLOOR)


def test_imports_point_down():
    for path, room in rooms():
        if room == "__init__":
            continue
        for name in imports(path):
            if name.startswith("clipscan."):
                other = name.split(".")[1]
                allowed = FLOOR.get(other, 0) < FLOOR[room] or other == room or (room, other) in BESIDE
                assert allowed, f"{path.name} in {room} imports {name}"


def test_imports_within_the_laboratory_point_down():
    for path, room in rooms():
        if room != "lab":
            continue
        package = path.relative_to(ROOT / "lab").parts[0].removesuffix(".py")
        for name in imports(path):
            if name.startswith("clipscan.lab."):
                other = name.split(".")[2]
                allowed = LAB_FLOOR[other] < LAB_FLOOR[package] or other == package
                assert allowed, f"{path.name} in lab/{package} imports {name}"


def test_torch_is_imported_in_its_rooms_only():
    for path, room in rooms():
        if room in NO_TORCH:
            assert not {n.split(".")[0] for n in imports(path)} & {
                "torch",
                "open_clip",
                "torchvision",
                "timm",
            }, path


def test_an_adapter_alone_imports_the_library_that_it_adapts_to():
    for path, room in rooms():
        adapted = {n.split(".")[0] for n in imports(path)} & {"sklearn", "pyod"}
        assert adapted <= {room, "sklearn" if room == "pyod" else room}, path


def test_only_the_command_line_knows_typer():
    for path, room in rooms():
        if room != "cli":
            assert "typer" not in {n.split(".")[0] for n in imports(path)}, path


def test_a_package_hands_names_on_and_holds_no_bodies():
    for path, room in rooms():
        if path.name != "__init__.py" or room in ("__init__", "cli"):
            continue  # names found on first use; the command itself
        for node in ast.parse(path.read_text()).body:
            named = isinstance(node, ast.Assign) and [ast.unparse(one) for one in node.targets] == ["__all__"]
            handed = isinstance(node, ast.Expr | ast.Import | ast.ImportFrom) or named
            assert handed, f"{path.relative_to(ROOT)} line {node.lineno}"


def test_no_test_hides_another_of_its_name():
    for path in sorted(Path(__file__).parent.glob("*.py")):
        body = ast.parse(path.read_text()).body
        names = [one.name for one in body if isinstance(one, ast.FunctionDef | ast.ClassDef)]
        assert len(names) == len(set(names)), path.name
