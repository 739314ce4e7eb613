"""Blocks x heads as an SVG that needs nothing else: how far terms fall short of those of clean pictures."""

from __future__ import annotations

from clipscan.heads.statistics import Doubles

CELL = 26  # side of a square
LEFT, TOP, BOTTOM, GAP = 74, 62, 64, 10  # room for block numbers, title, legend; before the MLP's column
LEAST = 480  # width that the title and the legend need
FULL = 4.0  # standard deviations at which the colour is full; more at the largest value
WHITE, RED, BLUE = (250, 250, 248), (178, 24, 43), (33, 102, 172)


def draw(shortfall: Doubles, of: str) -> str:
    """shortfall [L, H + 1] in standard deviations of clean pictures, the MLPs last; `of`: whose mean it is.
    Block 1 stands at the bottom. Red: terms align less than clean ones; blue: more."""
    layers, columns = shortfall.shape
    full = max(FULL, float(abs(shortfall).max()))
    width = max(LEFT + columns * CELL + GAP + 20, LEAST)
    height = TOP + layers * CELL + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11" fill="#333">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="20" font-size="13">Shortfall of heads and MLPs, mean of {of}</text>',
    ]
    parts += [_label(_left(column, columns) + CELL / 2, TOP - 8, name) for column, name in _names(columns)]
    for block in range(layers):
        top = TOP + (layers - 1 - block) * CELL
        parts.append(_label(LEFT - 10, top + CELL / 2 + 4, f"block {block + 1}", "end"))
        for column in range(columns):
            value = float(shortfall[block, column])
            what = "MLP" if column == columns - 1 else f"head {column + 1}"
            title = f"<title>block {block + 1}, {what}: {value:+.2f}</title>"
            parts.append(
                f'<rect x="{_left(column, columns)}" y="{top}" width="{CELL - 1}" height="{CELL - 1}" '
                f'fill="{_colour(value / full)}">{title}</rect>'
            )
    return "\n".join([*parts, *_legend(height, full), "</svg>", ""])


def _names(columns: int) -> list[tuple[int, str]]:
    return [*((column, str(column + 1)) for column in range(columns - 1)), (columns - 1, "MLP")]


def _left(column: int, columns: int) -> int:
    return LEFT + column * CELL + (GAP if column == columns - 1 else 0)


def _label(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{text}</text>'


def _legend(height: int, full: float) -> list[str]:
    steps, top = 21, height - 44
    boxes = [
        f'<rect x="{LEFT + 10 * i}" y="{top}" width="10" height="12" fill="{_colour(i / 10 - 1)}"/>'
        for i in range(steps)
    ]
    ends = [(LEFT + 5, f"{-full:.1f}"), (LEFT + 105, "0"), (LEFT + 205, f"+{full:.1f}")]
    words = "standard deviations of clean pictures; red: less like them"
    return [*boxes, *(_label(x, top + 25, text) for x, text in ends), _label(LEFT, top + 40, words, "start")]


def _colour(share: float) -> str:
    """-1 blue, 0 white, 1 red."""
    end = RED if share > 0 else BLUE
    red, green, blue = (round(w + abs(share) * (e - w)) for w, e in zip(WHITE, end, strict=True))
    return f"#{red:02x}{green:02x}{blue:02x}"
