"""Every command and option of clipscan that README.md and docs/ show in code exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from clipscan.cli import app

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md")))
OF_CLIPSCAN = re.compile(r"(?:^|-m |/|\s)clipscan((?: +[^\s#]+)+)")
OPTION = re.compile(r"^--[a-z][a-z-]*")


def commands() -> dict[tuple[str, ...], set[str]]:
    """Every command, ("heads", "fit") say -> its options, both of a pair like --flip and --no-flip."""
    found: dict[tuple[str, ...], set[str]] = {}

    def visit(command, path):
        options = [name for one in command.params for name in (*one.opts, *one.secondary_opts)]
        found[path] = {"--help", *options}
        for name, below in getattr(command, "commands", {}).items():
            visit(below, (*path, name))

    visit(typer.main.get_command(app), ())
    return found


COMMANDS = commands()
GROUPS = {path[:-1] for path in COMMANDS if path}


def shown(text: str) -> list[str]:
    """Command lines in code: fences without a language or of a shell, and spans, which may be wrapped."""
    fences = re.findall(r"^ *```(?:sh|bash|console)?\n(.*?)^ *```$", text, re.M | re.S)
    spans = re.findall(r"`([^`]+)`", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S))
    lines = [line for fence in fences for line in fence.replace("\\\n", " ").splitlines()]
    return [
        line for line in (*lines, *(" ".join(span.split()) for span in spans)) if OF_CLIPSCAN.search(line)
    ]


def mistakes(line: str) -> list[str]:
    """What a command line names and clipscan has not."""
    found = []
    for match in OF_CLIPSCAN.finditer(line):
        words = match[1].split()
        path: tuple[str, ...] = ()
        while words and (*path, words[0]) in COMMANDS:
            path = (*path, words.pop(0))
        if path in GROUPS and words and not words[0].startswith("-"):
            found.append(" ".join(("clipscan", *path, words[0])))
        options = [option[0] for word in words if (option := OPTION.match(word))]
        found += [" ".join(("clipscan", *path, one)) for one in options if one not in COMMANDS[path]]
    return found


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_what_a_page_shows_exists(page: Path) -> None:
    lines = shown(page.read_text(encoding="utf-8"))
    assert {line: wrong for line in lines if (wrong := mistakes(line))} == {}


def test_lines_are_found_and_mistakes_seen() -> None:
    readme = shown((ROOT / "README.md").read_text(encoding="utf-8"))
    assert "clipscan scan DATASET --pretrained model.safetensors --out run" in readme
    assert "clipscan export run --decisions decisions.json --add" in readme
    assert mistakes("clipscan heads scan FIT DATASET --out x --rat 0.1") == ["clipscan heads scan --rat"]
    assert mistakes("python -m clipscan scann DATA") == ["clipscan scann"]
    assert mistakes("clipscan bench knnn") == ["clipscan bench knnn"]
