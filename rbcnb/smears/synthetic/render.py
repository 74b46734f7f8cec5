"""Blood smears rendered from optical density, with the truth of every cell known.

Optical densities add along a ray, so a smear is a sum: the thickness of every red cell
(`rbcnb.smears.synthetic.red_cells`) times a stain's absorption, and what else lies there
(`rbcnb.smears.synthetic.debris`), seen through one lens, lamp, sensor and file (`rbcnb.smears.synthetic.optics`). A
typical cell's diameter is 7 um, a dog's, at any ``diameter_px``.

``difficulty`` moves the classes' shapes towards each other, spreads stain, light and focus from smear to smear, and
adds overlap, dirt, blur and noise; labels stay exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rbcnb.columns import BORDER, CLASSES, LABEL, RADIUS, X, Y
from rbcnb.smears.synthetic import optics
from rbcnb.smears.synthetic.debris import KINDS, draw_debris
from rbcnb.smears.synthetic.placement import cells_over_the_border, overlap_fractions, place_cells
from rbcnb.smears.synthetic.red_cells import draw_patch

DIAMETER_UM = 7.0  # of a dog's red cell
OVERLAP = "overlap"  # fraction of the cell's own area that other cells cover
KIND = "kind"
PAPER_COUNTS = (345, 356, 2691)  # Table 2 of the paper, in the order of CLASSES


@dataclass(frozen=True)
class SmearSpec:
    """What a synthetic smear shows; the same spec and seed give the same bytes, on one kind of machine.

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

    @property
    def um_per_px(self) -> float:
        """Size of a pixel, from the diameter of a typical cell."""
        return DIAMETER_UM / self.diameter_px


@dataclass(frozen=True, eq=False)
class Slide:
    """How one smear was stained, lit, focused and photographed."""

    stain_per_um: np.ndarray  # [3], density of 1 um of red cell
    white: np.ndarray  # [3], what the sensor reads where nothing absorbs; 1 saturates
    lamp_slope: np.ndarray  # [2,3], along x and y
    vignette: float
    focus_um: float  # signed distance of the smear from the plane in focus
    relief_um: float  # standard deviation of the cells' own heights
    refraction: float  # index of a cell minus that of what surrounds it
    halo: float
    mottle: float  # standard deviation of the stain within a cell, relative
    noise: float
    quality: int  # of the JPEG file


@dataclass(frozen=True, eq=False)
class Scene:
    """A rendered smear with all that is known of it."""

    image: np.ndarray  # [H,W,3] uint8 RGB
    truth: pd.DataFrame  # x_px, y_px, radius_px, label, border, overlap: one row per red cell
    debris: pd.DataFrame  # x_px, y_px, radius_px, kind: white cells, platelets and so on


def render_smear(spec: SmearSpec, *, seed: int | Sequence[int]) -> tuple[np.ndarray, pd.DataFrame]:
    """Render one smear: image [H,W,3] uint8 RGB and its truth, one row per cell whose centre lies in the image.

    The truth's columns: ``x_px``, ``y_px`` (centre; pixel (0, 0) has its centre at 0, 0), ``radius_px`` (of the circle
    of the cell's area), ``label``, ``border`` (that circle leaves the image), ``overlap`` (fraction of the cell's own
    area that other cells cover).
    """
    scene = render_scene(spec, seed=seed)
    return scene.image, scene.truth


def render_scene(spec: SmearSpec, *, seed: int | Sequence[int]) -> Scene:
    """Like `render_smear`, with the debris beside it."""
    rng = np.random.default_rng(seed)
    slide = draw_slide(spec.difficulty, rng)
    size = (spec.width_px, spec.height_px)
    debris = _draw_debris_table(spec, rng)
    obstacles = debris.loc[debris[KIND] == "white_cell", [X, Y, RADIUS]].to_numpy()

    labels = rng.permutation(np.repeat(CLASSES, largest_remainder(spec.n_cells, spec.class_ratio)))
    spread = np.clip(rng.normal(0, 0.05 + 0.06 * spec.difficulty, spec.n_cells), -0.3, 0.3)
    radii = 0.5 * spec.diameter_px * np.exp(spread)
    centres = place_cells(radii, size, difficulty=spec.difficulty, obstacles=obstacles, rng=rng)
    outer_centres, outer_radii = cells_over_the_border(spec.n_cells, spec.diameter_px, size, rng)
    outer_labels = rng.choice(CLASSES, size=len(outer_radii), p=np.divide(spec.class_ratio, sum(spec.class_ratio)))

    circles = pd.DataFrame(
        {
            X: np.concatenate([centres[:, 0], outer_centres[:, 0]]),
            Y: np.concatenate([centres[:, 1], outer_centres[:, 1]]),
            RADIUS: np.concatenate([radii, outer_radii]),
            LABEL: np.concatenate([labels, outer_labels]).astype(object),
        }
    )
    margin = int(np.ceil(spec.diameter_px)) + 8  # cells whose centre is inside lie on the canvas whole
    path, fringe, areas = _red_cells(circles, margin, slide, spec, rng)
    overlap = overlap_fractions(areas, path.shape)[: spec.n_cells]
    density = path[..., None] * slide.stain_per_um.astype(np.float32)
    density += fringe[..., None]
    for thing in debris.itertuples(index=False):
        patch = draw_debris(thing.kind, 2 * thing.radius_px, um_per_px=spec.um_per_px, rng=rng)
        _add(
            density,
            patch,
            round(thing.x_px) + margin - patch.shape[1] // 2,
            round(thing.y_px) + margin - patch.shape[0] // 2,
        )
    image = _photograph(density, margin, slide, spec, rng)

    truth = circles[: spec.n_cells].copy()
    x, y = truth[X], truth[Y]
    truth[BORDER] = (x - radii < 0) | (y - radii < 0) | (x + radii > size[0] - 1) | (y + radii > size[1] - 1)
    truth[OVERLAP] = overlap
    return Scene(image, truth, debris)


def draw_slide(difficulty: float, rng: np.random.Generator) -> Slide:
    """One slide; at difficulty 0 well stained, evenly lit and in focus, at 1 anything a laboratory may send.

    The ranges hold what was read off Chula RBC-12's images as a population (benchmarks/population.py compares them).
    """
    d = difficulty
    strength = optics.EOSIN_PER_UM * np.exp(np.clip(rng.normal(-0.15 * d, 0.02 + 0.38 * d), -1.0, 0.7))
    hue = np.array([rng.uniform(-0.26, 0.38) * d, 0, rng.uniform(-0.22, 0.14) * d])
    exposure = rng.uniform(0.84, 0.90) * np.exp(rng.uniform(-0.6, 0.1) * d)
    tint = np.exp([rng.uniform(-0.24, 0.12) * d, 0, rng.uniform(-0.20, 0.14) * d])
    slope = rng.normal(0, 0.01 + 0.02 * d, (2, 1)) + rng.normal(0, 0.003 + 0.007 * d, (2, 3))
    return Slide(
        stain_per_um=strength * (optics.EOSIN + hue),
        white=np.minimum(exposure * np.array([1.0, 0.985, 0.975]) * tint, 1.0),
        lamp_slope=slope,
        vignette=rng.uniform(0, 0.04 + 0.08 * d),
        focus_um=rng.normal(0, 0.05 + 0.24 * d),
        relief_um=0.05 + 0.22 * d * rng.random(),
        refraction=rng.uniform(0.0, 0.02),
        halo=rng.uniform(0, 0.3),
        mottle=rng.uniform(0, 0.02 + 0.08 * d),
        noise=rng.uniform(0.006, 0.012 + 0.010 * d),
        quality=int(rng.integers(97 - round(20 * d), 99)),
    )


def largest_remainder(total: int, weights: Sequence[float]) -> np.ndarray:
    """Share *total* out by *weights* into whole numbers that sum to it, each within 1 of its exact share."""
    share = total * np.asarray(weights, float) / np.sum(weights)
    counts = np.floor(share + 1e-9).astype(int)
    counts[np.argsort(counts - share, kind="stable")[: total - counts.sum()]] += 1
    return counts


def _draw_debris_table(spec: SmearSpec, rng: np.random.Generator) -> pd.DataFrame:
    """What lies between the cells, with as many of each kind as chance has it; dirtier as it gets more difficult."""
    rows = []
    for kind, (rate, diameters_um) in KINDS.items():
        dirt = 1.0 if kind in ("white_cell", "platelet") else 0.3 + 1.4 * spec.difficulty
        for _ in range(rng.poisson(dirt * rate * spec.n_cells)):
            x, y = rng.uniform(0, [spec.width_px - 1, spec.height_px - 1])
            rows.append((x, y, rng.uniform(*diameters_um) / spec.um_per_px / 2, kind))
    return pd.DataFrame(rows, columns=[X, Y, RADIUS, KIND]).astype({X: float, Y: float, RADIUS: float, KIND: object})


def _red_cells(
    circles: pd.DataFrame, margin: int, slide: Slide, spec: SmearSpec, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, np.ndarray]]]:
    """Thickness and fringe density [H,W] of all cells on a canvas with a margin, and each cell's area on it."""
    # Cells lie at different heights, here in five planes: some are out of focus where their neighbours are sharp.
    steps = np.linspace(-1.6, 1.6, 5)
    planes = np.zeros((len(steps), spec.height_px + 2 * margin, spec.width_px + 2 * margin), np.float32)
    nearest = np.abs(rng.normal(0, 1, (len(circles), 1)) - steps).argmin(axis=1)
    areas = []
    for cell, plane in zip(circles.itertuples(index=False), nearest, strict=True):
        left, top, patch, area = draw_patch(
            cell.x_px + margin, cell.y_px + margin, cell.radius_px, cell.label, difficulty=spec.difficulty, rng=rng
        )
        _add(planes[plane], patch, left, top)
        areas.append((left, top, area))
    heights = slide.focus_um + slide.relief_um * steps
    path, fringe = optics.focus(planes, heights, um_per_px=spec.um_per_px, contrast=slide.refraction)
    grain = optics.blur(rng.standard_normal(path.shape, dtype=np.float32), 0.3 / spec.um_per_px)
    path *= 1 + np.float32(slide.mottle / grain.std()) * grain
    return np.maximum(path, 0, out=path), fringe, areas


def _photograph(
    density: np.ndarray, margin: int, slide: Slide, spec: SmearSpec, rng: np.random.Generator
) -> np.ndarray:
    """Image [H,W,3] uint8 of the canvas, the margin cut off."""
    light = optics.halo(optics.transmit(density), sd_px=0.4 / spec.um_per_px, strength=slide.halo)
    light = light[margin:-margin, margin:-margin]
    light = light * optics.lamp(light.shape[:2], slope=slide.lamp_slope, vignette=slide.vignette)
    light *= slide.white.astype(np.float32)
    return optics.compress(optics.expose(light, noise=slide.noise, rng=rng), slide.quality)


def _add(canvas: np.ndarray, patch: np.ndarray, left: int, top: int) -> None:
    """Adds *patch* to *canvas* at (left, top) as far as it lies on it."""
    row, column = max(-top, 0), max(-left, 0)
    view = canvas[max(top, 0) : max(top + patch.shape[0], 0), max(left, 0) : max(left + patch.shape[1], 0)]
    view += patch[row : row + view.shape[0], column : column + view.shape[1]]
