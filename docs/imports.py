#!/usr/bin/env python
"""Draws docs/imports.svg, which folder of the package imports which, as they are now: python docs/imports.py."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DRAWING = Path(__file__).with_name("imports.svg")
COLUMN = {  # where a folder stands; its height follows from what it imports
    **dict.fromkeys(("smears", "segmentation", "labels"), 0),
    **dict.fromkeys(("evaluation", "plotting", "study"), 1),
    **dict.fromkeys(("losses", "training", "counting", "workflow"), 2),
}
WIDTH, HEIGHT, BOX_WIDTH, BOX_HEIGHT = 170, 90, 132, 42  # of a place, and of the box in it


def imports() -> dict[str, set[str]]:
    """Folder -> the folders that it imports from, anywhere in its modules."""
    found: dict[str, set[str]] = {name: set() for name in COLUMN}
    for path in (ROOT / "rbcnb").glob("[!_]*/**/*.py"):
        folder = path.relative_to(ROOT / "rbcnb").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rbcnb."):
                found[folder].add(node.module.split(".")[1])
    return {name: (others & found.keys()) - {name} for name, others in found.items()}


def reached(name: str, graph: dict[str, set[str]]) -> set[str]:
    """All folders that *name* imports from, directly or through others."""
    return graph[name].union(*(reached(other, graph) for other in graph[name]))


def drawing() -> str:
    """The text of the SVG file; an arrow that follows from two others is left out."""
    graph = imports()
    arrows = {name: others - set().union(*(reached(room, graph) for room in others)) for name, others in graph.items()}
    level: dict[str, int] = {}
    for name in sorted(graph, key=lambda room: len(reached(room, graph))):
        level[name] = 1 + max((level[other] for other in graph[name]), default=-1)
    top = max(level.values())
    place = {name: (COLUMN[name] * WIDTH + WIDTH // 2, (top - level[name]) * HEIGHT + HEIGHT // 2) for name in COLUMN}
    lines, boxes, height = [], [], (top + 1) * HEIGHT
    for name, (x, y) in place.items():
        for other in sorted(arrows[name]):
            to_x, to_y = place[other]
            lines.append(f'<line x1="{x}" y1="{y + BOX_HEIGHT // 2}" x2="{to_x}" y2="{to_y - BOX_HEIGHT // 2 - 3}"/>')
        corner = f'x="{x - BOX_WIDTH // 2}" y="{y - BOX_HEIGHT // 2}"'
        boxes.append(
            f'<rect {corner} width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/><text x="{x}" y="{y + 6}">{name}</text>'
        )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{3 * WIDTH}" viewBox="0 0 {3 * WIDTH} {height}">',
            "<style>text { font: 18px sans-serif; text-anchor: middle; fill: #111 }",
            "rect { fill: #e8f1f8; stroke: #0072b2 }",
            "line { stroke: #555; stroke-width: 1.6; marker-end: url(#head) }</style>",
            '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            '<path d="M0 0L8 4L0 8z" fill="#555"/></marker>',
            '<path d="M0 0h9999v9999h-9999z" fill="#fff"/>',
            *lines,
            *boxes,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    DRAWING.write_text(drawing(), encoding="utf-8")
    print(DRAWING)
