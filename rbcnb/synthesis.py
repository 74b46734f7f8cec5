"""Blood smears rendered from optical density, with the truth of every cell known.

A stained cell absorbs light by Beer and Lambert: what passes is ``10 ** -(absorption x thickness)``, separately in each
colour channel. Along a ray densities add, so two overlapping cells are darker by the product of what each lets through.
A smear is therefore the sum of the cells' thickness maps, seen through one stain, one lamp, one lens and one sensor.

Cells differ in where their haemoglobin sits (``thickness_um``):

- normal: the biconcave disc of Evans and Fung (1972), more or less flattened by drying, its pallor under half of the
  diameter;
- hypochromia: a thin rim around a pallor wider than half of the diameter;
- codocyte (target cell): such a rim, with a mound of haemoglobin in the middle of the pallor.

``difficulty`` moves the classes' shapes towards each other and adds overlap, blur and noise; labels stay exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from rbcnb.columns import BORDER, CLASSES, CODOCYTE, HYPOCHROMIA, LABEL, NORMAL, RADIUS, X, Y

OVERLAP = "overlap"  # fraction of the cell's own area that other cells cover
PAPER_COUNTS = (345, 356, 2691)  # Table 2 of the paper, in the order of CLASSES

# Evans and Fung (1972), Microvascular Research 4: thickness of a red cell at 300 mosmol, in um, rho = r / R.
EVANS_FUNG_UM = (0.81, 7.83, -4.39)

# Decadic absorption per um of dried cell, for red, green and blue: eosin takes green most, red least.
EOSIN = np.array([0.022, 0.082, 0.060])
PLATELET = np.array([0.100, 0.190, 0.070])  # azure granules: purple
DUST = np.array([0.160, 0.160, 0.165])  # neutral


@dataclass(frozen=True)
class SmearSpec:
    """What a synthetic smear shows; the same spec and seed give the same bytes.

    ``class_ratio`` holds weights over ``columns.CLASSES``; ``render_smear`` shares ``n_cells`` out by largest
    remainder, so weights that sum to ``n_cells`` are exact counts. ``n_cells`` counts the cells whose centre lies
    inside the image; slivers of further cells enter over the border, as under a microscope, and have no truth.
    ``difficulty`` runs from 0 (textbook cells in focus) to 1.
    """

    height_px: int = 600
    width_px: int = 800
    n_cells: int = 154  # 3392 cells on 22 smears in the paper
    diameter_px: float = 40.0
    class_ratio: tuple[float, ...] = PAPER_COUNTS
    difficulty: float = 0.5

    def __post_init__(self) -> None:
        if self.height_px < 1 or self.width_px < 1 or self.n_cells < 0:
            raise ValueError(f"height_px and width_px must be at least 1 and n_cells at least 0, not {self}")
        if not self.diameter_px >= 4:
            raise ValueError(f"diameter_px must be at least 4, not {self.diameter_px}: smaller cells have no inside")
        if not 0 <= self.difficulty <= 1:
            raise ValueError(f"difficulty must lie in 0..1, not {self.difficulty}")
        ratio = self.class_ratio
        if len(ratio) != len(CLASSES) or min(ratio) < 0 or not np.isfinite(sum(ratio)) or not sum(ratio) > 0:
            raise ValueError(f"class_ratio needs one weight >= 0 for each of {CLASSES}, not all 0, not {ratio}")


def render_smear(spec: SmearSpec, *, seed: int | Sequence[int]) -> tuple[np.ndarray, pd.DataFrame]:
    """Render one smear: image [H,W,3] uint8 RGB and its truth, one row per cell whose centre lies in the image.

    The truth's columns: ``x_px``, ``y_px`` (centre; pixel (0, 0) has its centre at 0, 0), ``radius_px`` (of the circle
    of the cell's area), ``label``, ``border`` (that circle leaves the image), ``overlap`` (fraction of the cell's own
    area that other cells cover).
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(CLASSES, largest_remainder(spec.n_cells, spec.class_ratio)))
    spread = np.clip(rng.normal(0, 0.05 + 0.05 * spec.difficulty, spec.n_cells), -0.3, 0.3)
    radii = 0.5 * spec.diameter_px * np.exp(spread)
    centres = _place(radii, spec, rng)
    outer_centres, outer_radii = _cells_over_the_border(spec, rng)
    outer_labels = rng.choice(CLASSES, size=len(outer_radii), p=np.divide(spec.class_ratio, sum(spec.class_ratio)))

    margin = int(np.ceil(3 * spec.diameter_px))  # so that whole cells fit, and blur meets no edge
    canvas = (spec.height_px + 2 * margin, spec.width_px + 2 * margin)
    path_um, count, masks = np.zeros(canvas), np.zeros(canvas, np.int32), []
    for (x, y), radius, label in zip(
        np.concatenate([centres, outer_centres]),
        np.concatenate([radii, outer_radii]),
        np.concatenate([labels, outer_labels]),
        strict=True,
    ):
        left, top, patch = _cell_patch(x + margin, y + margin, radius, str(label), spec, rng)
        window = (slice(top, top + patch.shape[0]), slice(left, left + patch.shape[1]))
        inside = patch > 0
        # Cells lie at different heights: some are out of focus where their neighbours are sharp.
        defocus = abs(rng.normal(0, 0.3 + 2.0 * spec.difficulty)) * spec.diameter_px / 40
        path_um[window] += gaussian_filter(patch, defocus, truncate=3, mode="constant")
        count[window] += inside
        masks.append((window, inside))
    overlap = [np.mean(count[window][inside] > 1) for window, inside in masks[: spec.n_cells]]

    density = path_um[..., None] * _stain(rng, spec)
    density += _distractors(canvas, margin, spec, rng)
    image = _expose(density, margin, spec, rng)

    x, y = centres.T if spec.n_cells else (np.zeros(0), np.zeros(0))
    out = (x - radii < 0) | (y - radii < 0) | (x + radii > spec.width_px - 1) | (y + radii > spec.height_px - 1)
    truth = pd.DataFrame({X: x, Y: y, RADIUS: radii, LABEL: labels.astype(object), BORDER: out, OVERLAP: overlap})
    return image, truth


def thickness_um(rho: np.ndarray, label: str, *, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    """Effective haemoglobin path [um] at relative radius *rho* of one randomly drawn cell of class *label*; 0 outside.

    Every cell is drawn between the textbook form of its class and the border to its neighbour: a normal cell's pallor
    grows towards half of the diameter, a hypochromic one's shrinks towards it, a codocyte's mound fades. *difficulty*
    sets how many come near the border; none crosses it.
    """
    u = rng.random()
    amount = np.exp(rng.normal(0, 0.04 + 0.18 * difficulty))
    if label == NORMAL:
        doubt = u ** (1 / max(difficulty, 1e-3))
        centre = rng.uniform(1.5, 2.1) * (1 - doubt) + 0.7 * doubt
        spread = 1 + 0.3 * doubt * rng.random()
        return amount * 0.88 * biconcave_um(np.clip(rho, 0, 1) ** spread, centre_um=centre)
    doubt = u ** (0.5 / max(difficulty, 1e-3))
    floor = rng.uniform(0.15, 0.25) + 0.2 * doubt
    half = rng.uniform(0.66, 0.76) * (1 - doubt) + 0.52 * doubt
    rim = _rim(rho, floor=floor, half=half, width=rng.uniform(0.25, 0.35) + 0.15 * doubt)
    if label == HYPOCHROMIA:
        return amount * rng.uniform(1.9, 2.3) * rim
    if label == CODOCYTE:
        height = rng.uniform(0.7, 1.0) * (1 - doubt) + 0.08 * doubt
        mound = height * (1 - floor) * np.exp(-((rho / rng.uniform(0.22, 0.36)) ** 2))
        return amount * rng.uniform(1.7, 2.4) * np.where(rho < 1, rim + mound, 0)
    raise ValueError(f"no optical model for class {label!r}; classes are {', '.join(CLASSES)}")


def biconcave_um(rho: np.ndarray, *, centre_um: float = EVANS_FUNG_UM[0]) -> np.ndarray:
    """Thickness [um] of the Evans-Fung disc at relative radius *rho*, 0 at the edge; drying lifts ``centre_um``."""
    t = np.clip(rho, 0, 1) ** 2
    return np.sqrt(1 - t) * (centre_um + EVANS_FUNG_UM[1] * t + EVANS_FUNG_UM[2] * t**2)


def transmit(density: np.ndarray) -> np.ndarray:
    """Beer-Lambert: the fraction of light that passes an optical density (decadic)."""
    return 10.0**-density


def largest_remainder(total: int, weights: Sequence[float]) -> np.ndarray:
    """Share *total* out by *weights* into whole numbers that sum to it, each within 1 of its exact share."""
    share = total * np.asarray(weights, float) / np.sum(weights)
    counts = np.floor(share + 1e-9).astype(int)
    counts[np.argsort(counts - share, kind="stable")[: total - counts.sum()]] += 1
    return counts


def _rim(rho: np.ndarray, *, floor: float, half: float, width: float) -> np.ndarray:
    step = np.clip((rho - half) / width + 0.5, 0, 1)
    edge = np.sqrt(1 - np.clip(rho, 0, 1) ** 6)
    return edge * (floor + (1 - floor) * step**2 * (3 - 2 * step))


def _place(radii: np.ndarray, spec: SmearSpec, rng: np.random.Generator, tries: int = 60) -> np.ndarray:
    """Centres [N,2]: most cells apart, some touching or overlapping another; where there is no room, the best try."""
    size = np.array([spec.width_px - 1, spec.height_px - 1], float)
    centres = np.zeros((len(radii), 2))
    for i, radius in enumerate(radii):
        attached = i > 0 and rng.random() < 0.15 + 0.2 * spec.difficulty
        best, best_gap = None, -np.inf
        for _ in range(tries):
            others = np.ones(i, bool)
            if attached:
                partner = rng.integers(i)
                reach = (radius + radii[partner]) * rng.uniform(0.9 - 0.3 * spec.difficulty, 1.0)
                angle = rng.uniform(0, 2 * np.pi)
                centre = centres[partner] + reach * np.array([np.cos(angle), np.sin(angle)])
                others[partner] = False
                if (centre < 0).any() or (centre > size).any():
                    continue
            else:
                centre = rng.uniform(0, size)
            distance = np.hypot(*(centres[:i][others] - centre).T)
            gap = np.min(distance / (radii[:i][others] + radius), initial=np.inf)
            if gap > best_gap:
                best, best_gap = centre, gap
            if gap >= 1.02:
                break
        centres[i] = rng.uniform(0, size) if best is None else best
    return centres


def _cells_over_the_border(spec: SmearSpec, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cells of the same density in the strip of one radius around the image: centres [M,2] outside it, radii [M]."""
    radius = 0.5 * spec.diameter_px
    strip = (spec.width_px + 2 * radius) * (spec.height_px + 2 * radius) / (spec.width_px * spec.height_px) - 1
    number = rng.poisson(0.5 * spec.n_cells * strip)
    centres = rng.uniform(0, [spec.width_px - 1, spec.height_px - 1], (number, 2))
    side, depth = rng.integers(0, 4, number), rng.uniform(0.3, 1.0, number) * radius
    centres[:, 0] = np.select([side == 0, side == 1], [-depth, spec.width_px - 1 + depth], centres[:, 0])
    centres[:, 1] = np.select([side == 2, side == 3], [-depth, spec.height_px - 1 + depth], centres[:, 1])
    return centres, np.full(number, radius)


def _cell_patch(
    x: float, y: float, radius: float, label: str, spec: SmearSpec, rng: np.random.Generator
) -> tuple[int, int, np.ndarray]:
    """One cell's thickness map [um] and the canvas position of its left top corner."""
    d = spec.difficulty
    stretch = np.sqrt(
        1 + min(abs(rng.normal(0, 0.06 + 0.10 * d)), 0.5)
    )  # axes radius * stretch and radius / stretch: same area
    rotation, phases = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0, 2 * np.pi, 3)
    bumps = rng.normal(0, 0.008 + 0.014 * d, 3)
    half = int(np.ceil(radius * stretch * 1.15 + 0.1 * spec.diameter_px)) + 2  # room for blur
    left, top = round(x) - half, round(y) - half
    dy, dx = np.mgrid[top : top + 2 * half + 1, left : left + 2 * half + 1] - np.array([y, x]).reshape(2, 1, 1)
    cos, sin = np.cos(rotation[0]), np.sin(rotation[0])
    u = (dx * cos + dy * sin) / (radius * stretch)
    v = (dy * cos - dx * sin) * stretch / radius
    angle = np.arctan2(v, u)
    outline = 1 + sum(b * np.cos((k + 2) * angle + p) for k, (b, p) in enumerate(zip(bumps, phases, strict=True)))
    outline /= np.sqrt(1 + np.sum(bumps**2) / 2)  # keeps the area that radius_px states
    rho = np.hypot(u, v) / outline
    # The pallor and the mound may sit off centre, while the outline stays where it is.
    off = rng.normal(0, 0.03 + 0.05 * d, 2) * np.clip(1 - rho**2, 0, 1)[..., None]
    inner = np.where(rho < 1, np.minimum(np.hypot(u - off[..., 0], v - off[..., 1]) / outline, 1), 1)
    patch = thickness_um(inner, label, difficulty=d, rng=rng)
    tilt = rng.normal(0, 0.04 + 0.08 * d)
    patch = patch * np.clip(1 + tilt * (u * np.cos(rotation[1]) + v * np.sin(rotation[1])), 0.2, None)
    return left, top, np.where(rho < 1, np.maximum(patch, 1e-6), 0)


def _stain(rng: np.random.Generator, spec: SmearSpec) -> np.ndarray:
    """Absorption per um of this smear's stain: strength and hue drift from slide to slide."""
    return EOSIN * np.exp(
        rng.normal(0, 0.02 + 0.28 * spec.difficulty) + rng.normal(0, 0.02 + 0.10 * spec.difficulty, 3)
    )


def _distractors(canvas: tuple[int, int], margin: int, spec: SmearSpec, rng: np.random.Generator) -> np.ndarray:
    """Density [H,W,3] of a few platelets (purple, granular) and specks of dust (neutral, soft)."""
    density = np.zeros((*canvas, 3))
    unit = spec.diameter_px
    for number, absorption, size in (
        (rng.poisson(spec.n_cells / 25), PLATELET, (0.08, 0.14)),
        (rng.poisson(spec.n_cells / 60), DUST, (0.03, 0.07)),
    ):
        for _ in range(number):
            sd = unit * rng.uniform(*size)
            x, y = rng.uniform(margin, [canvas[1] - margin, canvas[0] - margin])
            half = int(np.ceil(3.5 * sd)) + 1
            rows, columns = np.ogrid[round(y) - half : round(y) + half + 1, round(x) - half : round(x) + half + 1]
            squared = ((rows - y) ** 2 + (columns - x) ** 2) / sd**2
            grain = gaussian_filter(rng.normal(0, 1, squared.shape), 0.04 * unit)
            blob = np.exp(-((squared / 2) ** 2)) * np.clip(1 + 0.3 * grain / (grain.std() + 1e-9), 0.2, None)
            window = (slice(rows[0, 0], rows[-1, 0] + 1), slice(columns[0, 0], columns[0, -1] + 1))
            density[window] += (rng.uniform(1.0, 2.2) * blob)[..., None] * absorption
    return density


def _expose(density: np.ndarray, margin: int, spec: SmearSpec, rng: np.random.Generator) -> np.ndarray:
    """Light through the density, lens, lamp and sensor: image [H,W,3] uint8, the margin cut off."""
    d = spec.difficulty
    sd = spec.diameter_px / 40 * rng.uniform(0.6, 0.9 + 1.1 * d)
    halo = rng.uniform(0, 0.35)  # light bent at the edge of a cell gathers around it
    light = transmit(density)
    inside = (slice(margin, -margin), slice(margin, -margin))
    sharp, wide = (
        np.stack([gaussian_filter(light[..., c], width, truncate=3)[inside] for c in range(3)], axis=-1)
        for width in (sd, 2.5 * sd)
    )
    light = (1 + halo) * sharp - halo * wide

    rows = np.linspace(-1, 1, spec.height_px)[:, None]
    columns = np.linspace(-1, 1, spec.width_px)[None, :]
    slope_x, slope_y = rng.normal(0, 0.02 + 0.04 * d, 2)
    vignette = rng.uniform(0, 0.06 + 0.08 * d)
    lamp = 1 + slope_x * columns + slope_y * rows - vignette * (columns**2 + rows**2) / 2
    white = (
        (0.86 + rng.uniform(-1, 1) * (0.02 + 0.08 * d))
        * np.array([1.0, 0.975, 0.965])
        * np.exp(rng.normal(0, 0.015 + 0.02 * d, 3))
    )
    light = light * lamp[..., None] * white

    noise = rng.normal(0, 1, light.shape) * (0.006 + 0.010 * d) * np.sqrt(np.clip(light, 0.02, None))
    return np.clip(np.rint(255 * (light + noise)), 0, 255).astype(np.uint8)
