"""Single red cells: how thick each class is, what outline it has, and the patch of thickness that both make.

Classes differ in where their haemoglobin sits (`draw_disc`):

- normal: the biconcave disc of Evans and Fung (1972), more or less flattened by drying, its pallor under half of the
  diameter;
- hypochromia: a thin rim around a pallor wider than half of the diameter;
- codocyte (target cell): such a rim, with a mound of haemoglobin in the middle of the pallor.
"""

from dataclasses import dataclass

import numpy as np

from rbcnb._utils.opencv import cv2
from rbcnb.columns import CLASSES, CODOCYTE, HYPOCHROMIA, NORMAL

# Evans and Fung (1972), Microvascular Research 4: thickness of a red cell at 300 mosmol, in um, rho = r / R.
EVANS_FUNG_UM = (0.81, 7.83, -4.39)
_RHO = np.linspace(0, 1, 257)
_ANGLE = np.linspace(0, 2 * np.pi, 360, endpoint=False)
_WAVES = np.arange(2, 6)  # of an outline, to the round


@dataclass(frozen=True, eq=False)
class Disc:
    """Where one cell's haemoglobin sits: a body over the relative radius, and a Gaussian mound on top of it."""

    body_um: np.ndarray  # at 257 relative radii from 0 to 1
    mound_um: float = 0.0
    mound_width: float = 0.3  # relative radius at which the mound has fallen to 1 / e


def draw_disc(label: str, *, difficulty: float, rng: np.random.Generator) -> Disc:
    """One randomly drawn cell of class *label*.

    Every cell is drawn between the textbook form of its class and the border to its neighbour: a normal cell's pallor
    grows towards half of the diameter, a hypochromic one's shrinks towards it, a codocyte's mound fades. *difficulty*
    sets how many come near the border; none crosses it.

    Raises ValueError for a class without an optical model.
    """
    u, amount = rng.random(), np.exp(rng.normal(0, 0.04 + 0.10 * difficulty))
    edge = _edge(rng.uniform(6, 10 + 10 * difficulty))
    if label == NORMAL:
        doubt = u ** (1 / max(difficulty, 1e-3))
        centre = rng.uniform(1.1, 2.1 + 0.5 * difficulty) * (1 - doubt) + 0.7 * doubt
        spread = 1 + 0.3 * difficulty * rng.random()
        top = np.argmax(biconcave_um(_RHO, centre_um=centre))
        # Drying pulls the round edge down to a step: outside of its thickest ring the cell is as thick as there.
        body = biconcave_um(np.minimum(_RHO**spread, _RHO[top]), centre_um=centre)
        if rng.random() < 0.5:  # and at times leaves a pallor with a border, as if punched
            half, depth = rng.uniform(0.10, 0.32) * (1 - doubt) + 0.40 * doubt, 1 - centre / body[-1]
            body = body[-1] * (1 - depth * (1 - _step(half, rng.uniform(0.12, 0.35))))
        return Disc(amount * 0.88 * body * edge)
    doubt = u ** (0.8 / max(difficulty, 1e-3))
    half = rng.uniform(0.60, 0.72) * (1 - doubt) + 0.52 * doubt
    if label == HYPOCHROMIA:
        floor = rng.uniform(0.02, 0.15 + 0.10 * difficulty) + 0.10 * doubt
        body = edge * (floor + (1 - floor) * _step(half, rng.uniform(0.25, 0.40 + 0.2 * difficulty)))
        return Disc(amount * rng.uniform(1.9 - 0.7 * difficulty, 2.3) * body)
    if label == CODOCYTE:
        floor = rng.uniform(0.12, 0.25 + 0.2 * difficulty) + 0.15 * doubt
        body = edge * (floor + (1 - floor) * _step(half, rng.uniform(0.25, 0.40) + 0.1 * doubt))
        height = (1 - floor) * (rng.uniform(0.6, 1.0) * (1 - doubt) + 0.22 * doubt)
        amount *= rng.uniform(1.7 - 0.3 * difficulty, 2.4)
        return Disc(amount * body, amount * height, rng.uniform(0.20, 0.36))
    raise ValueError(f"no optical model for class {label!r}; classes are {', '.join(CLASSES)}")


def biconcave_um(rho: np.ndarray, *, centre_um: float = EVANS_FUNG_UM[0]) -> np.ndarray:
    """Thickness [um] of the Evans-Fung disc at relative radius *rho*, 0 at the edge; drying lifts ``centre_um``."""
    t = np.clip(rho, 0, 1) ** 2
    return np.sqrt(1 - t) * (centre_um + EVANS_FUNG_UM[1] * t + EVANS_FUNG_UM[2] * t**2)


def draw_outline(*, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    """Relative radius of a cell's outline at 360 angles from 0; the area within it is exactly that of the unit circle.

    An ellipse with a few waves; now and then a crenated cell has more and sharper ones.
    """
    ratio = 1 + min(abs(rng.normal(0, 0.05 + 0.11 * difficulty)), 0.6)
    angle = _ANGLE + rng.uniform(0, 2 * np.pi)
    outline = 1 / np.sqrt(np.cos(angle) ** 2 / ratio + np.sin(angle) ** 2 * ratio)
    sizes = rng.normal(0, (0.012 + 0.020 * difficulty) / _WAVES)
    outline += sizes @ np.cos(_WAVES[:, None] * angle + rng.uniform(0, 2 * np.pi, (len(_WAVES), 1)))
    if rng.random() < 0.12 * difficulty:
        waves = rng.integers(8, 16)
        outline += rng.uniform(0.01, 0.04) * np.cos(waves * angle + 2 * np.sin(angle + rng.uniform(0, 2 * np.pi)))
    return outline / np.sqrt(np.mean(outline**2))


def draw_patch(
    x: float, y: float, radius_px: float, label: str, *, difficulty: float, rng: np.random.Generator
) -> tuple[int, int, np.ndarray, np.ndarray]:
    """One cell around (x, y): column and row of its patch's corner, thickness [um] float32 [S,S], and its area [S,S].

    The area is where the cell is, also where its middle holds no haemoglobin; it is that of a circle of *radius_px*.
    Pallor and mound sit off centre and have outlines of their own, and a tilted cell is thicker on one side.
    """
    disc = draw_disc(label, difficulty=difficulty, rng=rng)
    outline = draw_outline(difficulty=difficulty, rng=rng)
    return fill_outline(x, y, radius_px, disc, outline, difficulty=difficulty, rng=rng)


def fill_outline(
    x: float,
    y: float,
    radius_px: float,
    disc: Disc,
    outline: np.ndarray,
    *,
    difficulty: float,
    rng: np.random.Generator,
) -> tuple[int, int, np.ndarray, np.ndarray]:
    """Like `draw_patch`, for a given *disc* and *outline* [360], relative to *radius_px*."""
    outline = outline * radius_px
    half = int(np.ceil(outline.max())) + 1
    left, top = round(x) - half, round(y) - half
    line = np.arange(2 * half + 1, dtype=np.float32)
    u, v = np.meshgrid(line + np.float32(left - x), line + np.float32(top - y))
    distance, angle = cv2.cartToPolar(u, v)
    sector = (angle * np.float32(len(_ANGLE) / (2 * np.pi))).astype(np.int32) % len(_ANGLE)
    rho = distance / outline.astype(np.float32)[sector]
    area = rho < 1
    if not area.any():  # a cell of under a pixel
        area[half, half] = True

    # Towards the middle the pallor's own shape takes over, while the outline stays where it is.
    inside = np.clip(1 - rho * rho, 0, 1)
    shape = np.log(draw_outline(difficulty=min(1.0, 0.3 + difficulty), rng=rng)).astype(np.float32)
    rough, off = np.float32(rng.uniform(1, 2)), rng.normal(0, 0.03 + 0.06 * difficulty, 2) * radius_px
    du, dv = u - np.float32(off[0]) * inside, v - np.float32(off[1]) * inside
    inner = cv2.magnitude(du, dv) / outline.astype(np.float32)[sector] * np.exp(rough * shape[sector] * inside)
    level = np.minimum(inner * (len(_RHO) - 1), len(_RHO) - 1).astype(np.int32)
    patch = disc.body_um.astype(np.float32)[level]
    if disc.mound_um:
        patch += _mound(disc, du, dv, radius_px, difficulty, rng)
    if rng.random() < 0.05 + 0.20 * difficulty:
        patch *= _refractile(u, v, radius_px, rng)
    tilt = rng.normal(0, 0.03 + 0.07 * difficulty, 2) / radius_px
    patch *= np.maximum(1 + np.float32(tilt[0]) * u + np.float32(tilt[1]) * v, np.float32(0.3))
    return left, top, np.where(area, patch, np.float32(0)), area


def _edge(power: float) -> np.ndarray:
    """Thickness by radius: 1 inside, falling to 0 at the rim, more sharply for a greater *power*."""
    return np.sqrt(1 - _RHO**power)


def _step(half: float, width: float) -> np.ndarray:
    """A smooth rise from 0 to 1 that passes 1/2 at relative radius *half*."""
    t = np.clip((_RHO - half) / width + 0.5, 0, 1)
    return t**2 * (3 - 2 * t)


def _mound(
    disc: Disc, u: np.ndarray, v: np.ndarray, radius_px: float, difficulty: float, rng: np.random.Generator
) -> np.ndarray:
    """The mound of a target cell, off centre, oblong, at times a bridge that reaches for the rim."""
    turn, off = rng.uniform(0, np.pi), rng.normal(0, 0.02 + 0.05 * difficulty, 2)
    if rng.random() < 0.3 * difficulty:  # leant on the rim: the pallor becomes a crescent
        off *= 0.25 / np.hypot(*off)
    long = np.exp(abs(rng.normal(0, 0.1 + 0.25 * difficulty)))
    a, b = ((u / radius_px - off[0]) / disc.mound_width, (v / radius_px - off[1]) / disc.mound_width)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    squared = ((a * cos + b * sin) / long) ** 2 + (b * cos - a * sin) ** 2
    return np.float32(disc.mound_um) * np.exp(-squared).astype(np.float32)


def _refractile(u: np.ndarray, v: np.ndarray, radius_px: float, rng: np.random.Generator) -> np.ndarray:
    """Fraction of the stain that is left around a small hollow, where water dried late."""
    off, size = rng.normal(0, 0.15, 2) * radius_px, rng.uniform(0.05, 0.13) * radius_px
    squared = ((u - off[0]) ** 2 + (v - off[1]) ** 2) / size**2
    return (1 - rng.uniform(0.3, 0.9) * np.exp(-(squared**2))).astype(np.float32)
