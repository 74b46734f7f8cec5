"""What lies on a smear besides red cells: white cells, platelets, stain precipitate, dust and fibres.

Each drawer returns the density of one thing as a patch [S,S] or [S,S,3], sizes in pixels; the caller places it.
"""

import numpy as np

from rbcnb._utils.opencv import cv2
from rbcnb.smears.synthetic.optics import AZURE, NEUTRAL, blur

# kind -> number for every red cell, range of diameters in um. White cells are about as rare as in a sick dog's smear.
KINDS: dict[str, tuple[float, tuple[float, float]]] = {
    "white_cell": (1 / 450, (10.0, 15.0)),
    "platelet": (1 / 22, (1.2, 3.2)),
    "precipitate": (1 / 200, (2.0, 6.0)),
    "dust": (1 / 55, (0.4, 1.8)),
    "fibre": (1 / 2000, (15.0, 50.0)),
}


def draw_debris(kind: str, diameter_px: float, *, um_per_px: float, rng: np.random.Generator) -> np.ndarray:
    """Density [S,S,3] float32 of one thing of a kind in ``KINDS``, centred, 0 at the patch's border."""
    return {
        "white_cell": _white_cell,
        "platelet": _platelet,
        "precipitate": _precipitate,
        "dust": _dust,
        "fibre": _fibre,
    }[kind](diameter_px, um_per_px, rng)


def _white_cell(diameter_px: float, um_per_px: float, rng: np.random.Generator) -> np.ndarray:
    """Pale granular cytoplasm around a dark nucleus of one to five lobes."""
    radius = diameter_px / 2
    u, v = _grid(1.15 * radius)
    angle = np.arctan2(v, u)
    edge = radius * (1 + 0.05 * np.cos(2 * angle + rng.uniform(0, 6)) + 0.03 * np.cos(3 * angle + rng.uniform(0, 6)))
    cytoplasm = np.clip((edge - np.hypot(u, v)) / (0.06 * radius) + 0.5, 0, 1)
    nucleus = np.zeros_like(cytoplasm)
    lobes, turn = rng.integers(1, 6), rng.uniform(0, 2 * np.pi)
    for lobe in range(lobes):
        where = turn + lobe * rng.uniform(0.9, 1.5)
        away = 0.42 * radius if lobes > 1 else rng.uniform(0, 0.2) * radius
        size = radius * (rng.uniform(0.24, 0.36) if lobes > 1 else rng.uniform(0.55, 0.85))
        distance = np.hypot(u - away * np.cos(where), (v - away * np.sin(where)) * rng.uniform(0.85, 1.2))
        nucleus = np.maximum(nucleus, np.clip((size - distance) / (0.10 * radius) + 0.5, 0, 1))
    pale = rng.uniform(0.06, 0.16) * _grain(u.shape, 0.25 / um_per_px, 0.25, rng) * cytoplasm
    dark = rng.uniform(0.45, 0.75) * _grain(u.shape, 0.5 / um_per_px, 0.15, rng) * nucleus
    granules = np.array([rng.uniform(0.3, 0.7), 1.0, rng.uniform(0.4, 0.7)])
    return (pale[..., None] * granules + (dark * cytoplasm)[..., None] * AZURE).astype(np.float32)


def _platelet(diameter_px: float, um_per_px: float, rng: np.random.Generator) -> np.ndarray:
    """A granular purple speck with a soft edge."""
    u, v = _grid(diameter_px)
    long = rng.uniform(1, 1.35)
    squared = ((u * long) ** 2 + (v / long) ** 2) / (diameter_px / 2) ** 2
    body = np.exp(-(squared**2)) * _grain(u.shape, 0.2 / um_per_px, 0.35, rng)
    return (rng.uniform(0.10, 0.45) * body)[..., None].astype(np.float32) * AZURE.astype(np.float32)


def _precipitate(diameter_px: float, um_per_px: float, rng: np.random.Generator) -> np.ndarray:
    """A heap of dark grains of stain that fell out."""
    u, v = _grid(0.8 * diameter_px)
    heap = np.zeros_like(u)
    for _ in range(rng.integers(3, 25)):
        x, y = rng.normal(0, 0.2 * diameter_px, 2)
        size = rng.uniform(0.15, 0.45) / um_per_px
        heap += np.exp(-((u - x) ** 2 + (v - y) ** 2) / size**2)
    dark = rng.uniform(0.3, 0.9) * np.minimum(heap, 1.3)
    return (dark[..., None] * (AZURE + rng.uniform(0, 1) * (NEUTRAL - AZURE))).astype(np.float32)


def _dust(diameter_px: float, um_per_px: float, rng: np.random.Generator) -> np.ndarray:
    """A neutral speck, in focus or far from it."""
    soft = rng.choice([0.1, 0.3, 1.0], p=[0.5, 0.3, 0.2]) / um_per_px
    u, v = _grid(0.7 * diameter_px + 3 * soft)
    speck = (np.hypot(u, v * rng.uniform(0.6, 1.6)) < diameter_px / 2).astype(np.float32)
    return (rng.uniform(0.15, 0.8) * blur(speck, soft))[..., None] * NEUTRAL.astype(np.float32)


def _fibre(diameter_px: float, um_per_px: float, rng: np.random.Generator) -> np.ndarray:
    """A hair or the eyepiece's pointer: a straight dark line, out of focus."""
    side, soft = 2 * int(0.6 * diameter_px) + 1, rng.uniform(0.15, 0.5) / um_per_px
    canvas, middle = np.zeros((side, side), np.uint8), side // 2
    turn, reach = rng.uniform(0, np.pi), 0.45 * diameter_px
    step = np.array([np.cos(turn), np.sin(turn)]) * reach
    ends = [tuple(int(c) for c in middle + sign * step) for sign in (-1, 1)]
    thick = max(1, int(rng.uniform(0.3, 1.6) / um_per_px))
    cv2.line(canvas, *ends, 255, thick)
    line = blur(canvas.astype(np.float32) / 255, soft)
    return (rng.uniform(0.2, 0.8) * line)[..., None] * NEUTRAL.astype(np.float32)


def _grid(half: float) -> tuple[np.ndarray, np.ndarray]:
    """The x and y, each [S,S] float32, of a square that reaches *half* pixels and one more each way from its middle."""
    line = np.arange(-int(np.ceil(half)) - 1, int(np.ceil(half)) + 2, dtype=np.float32)
    return tuple(np.meshgrid(line, line))


def _grain(shape: tuple[int, int], sd_px: float, contrast: float, rng: np.random.Generator) -> np.ndarray:
    """Positive multiplicative texture of mean about 1."""
    noise = blur(rng.standard_normal(shape, dtype=np.float32), max(sd_px, 0.5))
    return np.maximum(1 + np.float32(contrast) * noise / (noise.std() + np.float32(1e-6)), np.float32(0.1))


def draw_leukocyte(
    radius_px: float,
    diameter_px: float,
    *,
    nucleus: np.ndarray,
    cytoplasm: np.ndarray,
    granule: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """A white cell of any kind: density [S,S,3] float32, centred, and its area [S,S] bool.

    Args:
        radius_px: of the whole cell.
        diameter_px: of a red cell, for the size of granules.
        nucleus: density [3] of the nucleus; *cytoplasm* and *granule* likewise.
        rng: draws the kind (lymphocyte, monocyte, granulocyte with its granules, smudge) and its form.
    """
    u, v = _grid(1.25 * radius_px)
    angle, distance = np.arctan2(v, u), np.hypot(u, v)
    waves = sum(rng.uniform(0, 0.08) * np.cos(k * angle + rng.uniform(0, 6)) for k in (2, 3, 4, 5))
    soft = max(1.0, radius_px * rng.uniform(0.04, 0.15))
    body = np.clip((radius_px * (1 + waves) - distance) / soft + 0.5, 0, 1)
    kind = rng.choice(["lymphocyte", "monocyte", "granulocyte", "smudge"], p=[0.38, 0.15, 0.38, 0.09])
    core = np.zeros_like(body)
    lobes = {"granulocyte": int(rng.integers(2, 6)), "monocyte": int(rng.integers(1, 3))}.get(kind, 1)
    size = (
        radius_px
        * {
            "lymphocyte": rng.uniform(0.65, 0.95),
            "monocyte": rng.uniform(0.45, 0.7),
            "granulocyte": rng.uniform(0.26, 0.44),
            "smudge": rng.uniform(0.6, 1.0),
        }[kind]
    )
    turn, away = rng.uniform(0, 2 * np.pi), max(0.0, min(radius_px - size, rng.uniform(0.35, 0.55) * radius_px))
    if lobes == 1:
        away *= rng.uniform(0, 1)
    last = None
    for _ in range(lobes):
        x, y = away * np.cos(turn), away * np.sin(turn)
        squash, lean = rng.uniform(0.7, 1.0), rng.uniform(0, np.pi)
        a, b = (u - x) * np.cos(lean) + (v - y) * np.sin(lean), (v - y) * np.cos(lean) - (u - x) * np.sin(lean)
        lobe = np.clip((size * rng.uniform(0.8, 1.1) - np.hypot(a, b / squash)) / soft + 0.5, 0, 1)
        core = np.maximum(core, lobe)
        if last is not None:  # a bridge between two lobes
            for t in (0.33, 0.67):
                step = np.hypot(u - (x * t + last[0] * (1 - t)), v - (y * t + last[1] * (1 - t)))
                core = np.maximum(core, np.clip((0.45 * size - step) / soft + 0.5, 0, 1))
        last, turn = (x, y), turn + rng.uniform(0.8, 1.7)
    if kind == "monocyte" or (kind == "lymphocyte" and rng.random() < 0.2):  # an indented nucleus
        bite = np.hypot(u - size * np.cos(turn), v - size * np.sin(turn))
        core *= np.clip((bite - 0.5 * size) / soft + 0.5, 0, 1)
    if kind == "smudge":
        body, core = core, blur(core * _grain(core.shape, 0.2 * radius_px, 0.4, rng), 0.12 * radius_px)
    chromatin = _grain(u.shape, max(0.5, diameter_px * rng.uniform(0.03, 0.12)), rng.uniform(0.02, 0.35), rng)
    density = (body * _grain(u.shape, 0.05 * diameter_px, 0.2, rng))[..., None] * cytoplasm
    density = density + (core * chromatin)[..., None] * nucleus
    if kind == "granulocyte" and rng.random() < 0.5:
        grain_px, spots = diameter_px * rng.uniform(0.05, 0.17), np.zeros_like(body)
        colour = granule if rng.random() < 0.6 else nucleus * rng.uniform(0.4, 1.0)
        for _ in range(int(rng.uniform(15, 70))):
            reach, where = radius_px * np.sqrt(rng.uniform(0, 0.85)), rng.uniform(0, 2 * np.pi)
            spot = np.hypot(u - reach * np.cos(where), v - reach * np.sin(where)) / (grain_px / 2)
            spots = np.maximum(spots, np.exp(-(spot**4)))
        density = density + (spots * body * rng.uniform(0.5, 1.2) * (1 - 0.7 * core))[..., None] * colour
    return density.astype(np.float32), body > 0.5


def draw_platelet(size_px: float, density: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A platelet of *size_px*, with colours' *density* [3], at times with a pale rim: density [S,S,3], area [S,S]."""
    u, v = _grid(0.9 * size_px)
    long, lean = rng.uniform(1, 1.6), rng.uniform(0, np.pi)
    a, b = u * np.cos(lean) + v * np.sin(lean), v * np.cos(lean) - u * np.sin(lean)
    squared = ((a / long) ** 2 + (b * long) ** 2) / (size_px / 2) ** 2
    body = np.exp(-(squared ** rng.uniform(1, 3)))
    patch = rng.uniform(0.4, 1.1) * body * _grain(u.shape, max(0.5, 0.12 * size_px), rng.uniform(0.1, 0.5), rng)
    return (patch[..., None] * density).astype(np.float32), body > 0.4
