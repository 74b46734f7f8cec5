"""What lies on a smear besides red cells: white cells, platelets, stain precipitate, dust and fibres.

Each drawer returns the density of one thing as a patch [S,S] or [S,S,3], sizes in pixels; the caller places it.
"""

import cv2
import numpy as np

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
    """x and y, each [S,S] float32, of a square that reaches *half* pixels and one more each way from its middle."""
    line = np.arange(-int(np.ceil(half)) - 1, int(np.ceil(half)) + 2, dtype=np.float32)
    return tuple(np.meshgrid(line, line))


def _grain(shape: tuple[int, int], sd_px: float, contrast: float, rng: np.random.Generator) -> np.ndarray:
    """Positive multiplicative texture of mean about 1."""
    noise = blur(rng.standard_normal(shape, dtype=np.float32), max(sd_px, 0.5))
    return np.maximum(1 + np.float32(contrast) * noise / (noise.std() + np.float32(1e-6)), np.float32(0.1))
