"""Views of smears as any microscope may show them, with the truth of every pixel, to train a finder on.

`rbcnb.smears.synthetic.render` renders smears like those of the paper. Here everything varies far more widely than any
one camera takes it: stain, light, cells' shapes and crowding, white cells, dirt, lens, field of view and file. All of
it is in one dataclass of ranges; to see what one thing does, set both ends of its range to the same value.

Lengths with the suffix ``_d`` are in diameters of a typical red cell, so that they hold at every magnification.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from rbcnb._utils.opencv import cv2
from rbcnb.columns import CODOCYTE, HYPOCHROMIA, NORMAL, RADIUS, X, Y
from rbcnb.smears.synthetic import optics
from rbcnb.smears.synthetic.debris import draw_leukocyte, draw_platelet
from rbcnb.smears.synthetic.red_cells import Disc, draw_disc, draw_outline, fill_outline

Range = tuple[float, float]
_ANGLE = np.linspace(0, 2 * np.pi, 360, endpoint=False)
_TYPICAL_UM = 1.9  # mean thickness of a dried red cell: optical density is stated for it
_LONGEST = 3.2  # of a cell's axes, longest to shortest


_TINY = 1e-6  # of ranges whose logarithm is taken
_LIMITS: dict[str, Range] = {  # what a range may hold, where not any number will do
    "diameter_px": (2, math.inf),
    "jpeg": (1, 100),
    "inclusion_share": (0, 1),
    **dict.fromkeys(("optical_density", "exposure", "tone", "noise", "native"), (_TINY, math.inf)),
    **dict.fromkeys(("cover", "anisocytosis", "shape", "squeeze", "clump", "uneven_stain"), (0, math.inf)),
    **dict.fromkeys(("polychromasia", "nuclear_density", "vignette", "slope", "haze", "saturation"), (0, math.inf)),
    **dict.fromkeys(("plasma", "leukocytes", "platelets", "dirt", "blur_d", "halo", "chromatic_d"), (0, math.inf)),
    **dict.fromkeys(("sharpen", "grain_px"), (0, math.inf)),
    "elliptic": (1, math.inf),
}


@dataclass(frozen=True)
class Variety:
    """Ranges (low, high) that each view's settings are drawn from, and chances (0 to 1) that it shows a thing at all.

    Chances are of a view, but for ``inclusion_share``, which is of its cells. Ranges are drawn from evenly, or, where
    the comment says so, evenly in the logarithm.
    """

    # Cells
    diameter_px: Range = (9.5, 46.0)  # of a typical red cell; logarithm
    cover: Range = (0.03, 0.95)  # cells' areas over the area of the view
    anisocytosis: Range = (0.03, 0.20)  # standard deviation of the logarithm of the diameter
    shape: Range = (0.0, 1.0)  # `difficulty` of `rbcnb.smears.synthetic.red_cells`: how far shapes vary
    squeeze: Range = (0.45, 1.0)  # least distance of two cells, in sums of their radii
    clump: Range = (0.0, 1.0)  # 0: cells lie anywhere; 1: in a few groups
    elliptic: Range = (1.0, 2.2)  # long axis over short, of the cells of a view with elliptic cells
    optical_density: Range = (0.06, 0.60)  # of a typical cell, in green; logarithm
    uneven_stain: Range = (0.0, 0.22)  # standard deviation of cells' densities, relative
    polychromasia: Range = (0.0, 0.25)  # standard deviation of cells' red and blue densities, relative
    empty_chance: float = 0.04  # no cell at all
    elliptic_chance: float = 0.15
    moulded_chance: float = 0.35  # cells flatten each other where they touch
    rouleaux_chance: float = 0.12
    flat_chance: float = 0.25  # cells without pallor in most of the view
    inclusion_chance: float = 0.15
    inclusion_share: Range = (0.02, 0.4)
    # Stain and light: densities of red and blue are relative to that of green
    red_density: Range = (0.02, 1.0)
    blue_density: Range = (0.15, 1.25)
    nuclear_red: Range = (0.35, 1.15)
    nuclear_blue: Range = (-0.15, 0.7)  # below 0: a camera that mixes colours shows a nucleus bluer than the background
    nuclear_density: Range = (0.25, 1.1)  # of nuclei, in green
    exposure: Range = (0.35, 1.10)  # of the background; 1 saturates; logarithm
    white_balance: Range = (-0.35, 0.35)  # logarithm of the background's red and blue over green
    vignette: Range = (0.0, 0.75)
    slope: Range = (0.0, 0.18)  # of light across the view
    haze: Range = (0.0, 0.25)  # stray light, as a share of the background's
    tone: Range = (0.65, 1.5)  # exponent of the camera's curve; logarithm
    saturation: Range = (0.4, 1.6)
    grey_chance: float = 0.05
    plasma: Range = (0.0, 0.35)  # stain of the background, in densities of a typical cell
    # What else lies there, for every 100 places of a cell
    leukocytes: Range = (0.5, 6.0)
    platelets: Range = (0.0, 30.0)
    dirt: Range = (0.0, 15.0)
    leukocyte_chance: float = 0.55
    platelet_chance: float = 0.6
    dirt_chance: float = 0.5
    bubble_chance: float = 0.05
    fibre_chance: float = 0.06
    # Lens and camera
    blur_d: Range = (0.0, 0.11)  # standard deviation of the point spread
    fringe: Range = (-1.0, 1.0)  # bright (-) or dark (+) line along the cells' edges
    halo: Range = (0.0, 0.7)
    chromatic_d: Range = (0.0, 0.06)  # shift of red against blue
    sharpen: Range = (0.0, 1.2)
    noise: Range = (0.003, 0.05)  # standard deviation at saturation; logarithm
    grain_px: Range = (0.0, 1.0)  # standard deviation of the noise's own blur
    native: Range = (0.5, 2.5)  # size of the camera's pixel image over this one's; logarithm
    jpeg: Range = (20, 98)  # quality
    # Field of view
    circle_chance: float = 0.12  # the eyepiece's edge
    circle_level: Range = (0.0, 1.0)  # grey level outside; mostly black
    margin_chance: float = 0.06
    mark_chance: float = 0.06  # writing, scale bars and pointers

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_chance"):
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                    raise ValueError(f"{field.name} must be a chance between 0 and 1, not {value!r}")
                continue
            lowest, highest = _LIMITS.get(field.name, (-math.inf, math.inf))
            if not isinstance(value, tuple) or len(value) != 2 or not all(map(math.isfinite, value)):
                raise ValueError(f"{field.name} must be a range (low, high) of numbers, not {value!r}")
            if not lowest <= value[0] <= value[1] <= highest:
                raise ValueError(
                    f"{field.name} must be a range (low, high) within {lowest:g} and {highest:g}, not {value!r}"
                )


@dataclass(frozen=True, eq=False)
class View:
    """A rendered view and its truth."""

    image: np.ndarray  # [H,W,3] uint8 RGB
    cells: pd.DataFrame  # x_px, y_px, radius_px: every red cell whose centre lies in the view and can be seen
    red: np.ndarray  # [H,W] bool: where red cells are
    other: np.ndarray  # [H,W] bool: where white cells, platelets and dirt are
    unclear: np.ndarray  # [H,W] bool: where even a reader could not say whether there is a cell
    diameter_px: float  # of a typical cell


def render_view(variety: Variety, *, side_px: int, seed: int | list[int]) -> View:
    """Renders one square view of *side_px*; the same arguments give the same bytes, on one kind of machine."""
    return _Painter(variety, side_px, np.random.default_rng(seed)).view()


class _Painter:
    """Draws one view step by step; what the steps share is kept here."""

    def __init__(self, variety: Variety, side_px: int, rng: np.random.Generator):
        self.variety, self.rng = variety, rng
        self.diameter = (self.log("diameter_px") * self.log("diameter_px")) ** 0.5  # the middle is commonest
        self.margin = int(np.ceil(1.7 * self.diameter)) + 6  # cells whose centre is inside lie on the canvas whole
        self.side = side_px
        self.canvas = side_px + 2 * self.margin
        self.density = np.zeros((self.canvas, self.canvas, 3), np.float32)
        self.red = np.zeros((self.canvas, self.canvas), np.uint8)  # how many red cells lie there
        self.other = np.zeros((self.canvas, self.canvas), bool)
        self.level = self.log("optical_density")
        red = self.draw("red_density")
        # A dye that takes red from the light takes blue as well: no stained cell is blue-green.
        self.stain = np.array([red, 1.0, self.draw("blue_density")], np.float32)
        # Of nuclei, platelets and inclusions.
        self.azure = np.array([self.draw("nuclear_red"), 1.0, self.draw("nuclear_blue")], np.float32)

    def draw(self, name: str) -> float:
        low, high = getattr(self.variety, name)
        return float(self.rng.uniform(low, high))

    def log(self, name: str) -> float:
        low, high = getattr(self.variety, name)
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def happens(self, name: str) -> bool:
        return self.rng.random() < getattr(self.variety, name)

    def view(self) -> View:
        """The view."""
        rng = self.rng
        obstacles = self._leukocytes()
        circles = self._place(obstacles)
        cells, thin = self._red_cells(circles)
        self._small_things()
        self._plasma()
        light = self._light()
        inside = slice(self.margin, self.margin + self.side)
        image, field = self._camera(light[inside, inside])
        cells[[X, Y]] -= self.margin
        red, other, thin = (mask[inside, inside] for mask in (self.red > 0, self.other, thin))
        image, marked = self._marks(image)
        unclear = thin | (field == 1) | (marked & red)
        red, other = red & (field == 2), (other & (field == 2)) | marked
        keep = cells[[X, Y]].ge(0).all(axis=1) & cells[[X, Y]].le(self.side - 1).all(axis=1)
        at = cells.loc[keep, [Y, X]].round().astype(int).to_numpy()
        keep[keep] = (field[at[:, 0], at[:, 1]] == 2) & ~marked[at[:, 0], at[:, 1]]
        if rng.random() < self.variety.grey_chance:
            image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
        cells = cells[keep & ~cells["hidden"]].drop(columns="hidden").reset_index(drop=True)
        return View(np.ascontiguousarray(image), cells, red, other, unclear, self.diameter)

    # What lies on the slide

    def _leukocytes(self) -> np.ndarray:
        """Draws white cells; [M,3] x, y, radius of what red cells keep clear of."""
        rng, placed = self.rng, []
        if not self.happens("leukocyte_chance"):
            return np.empty((0, 3))
        number = rng.poisson(self.draw("leukocytes") * self._places() / 100)
        pale, dark = rng.uniform(0.02, 0.30), self.draw("nuclear_density")
        granules = rng.uniform(0.4, 1.2)
        for _ in range(min(number, 40)):
            radius = 0.5 * self.diameter * rng.uniform(0.85, 2.4)
            x, y = rng.uniform(0, self.canvas, 2)
            if rng.random() < 0.7 and any(np.hypot(x - a, y - b) < radius + r for a, b, r in placed):
                continue
            patch, area = draw_leukocyte(
                radius,
                self.diameter,
                nucleus=dark * self.azure,
                cytoplasm=pale * (self.azure + rng.uniform(0, 1) * (self.stain - self.azure)),
                granule=granules * self.level * self.stain,
                rng=rng,
            )
            self._add(patch, x, y, area)
            placed.append((x, y, radius))
        return np.array(placed).reshape(-1, 3)

    def _places(self) -> float:
        """How many cells would cover the canvas."""
        return self.canvas**2 / (np.pi / 4 * self.diameter**2)

    def _place(self, obstacles: np.ndarray) -> np.ndarray:
        """Circles [N,3] of red cells on the canvas: apart, touching, overlapping, in rows or in groups."""
        rng = self.rng
        if self.happens("empty_chance"):
            return np.empty((0, 3))
        number = int(self.draw("cover") * self._places())
        radii = 0.5 * self.diameter * np.exp(np.clip(rng.normal(0, self.draw("anisocytosis"), number), -0.7, 0.5))
        centres = rng.uniform(0, self.canvas, (number, 2))
        if rng.random() < 0.4 and number:
            groups = rng.uniform(0, self.canvas, (max(1, number // int(rng.integers(4, 40))), 2))
            centre = groups[rng.integers(0, len(groups), number)] + rng.normal(0, 2 * self.diameter, (number, 2))
            grouped = rng.random(number) < self.draw("clump")
            centres[grouped] = centre[grouped]
        if self.happens("rouleaux_chance"):
            centres = _rouleaux(centres, self.diameter, rng)
            squeeze = min(0.6, self.draw("squeeze"))
            rounds = 4
        else:
            squeeze, rounds = self.draw("squeeze"), int(rng.integers(6, 40))
        if rng.random() < 0.5:
            squeeze = rng.uniform(max(0.85, squeeze), 1.03)
        circles = np.column_stack([centres, radii])
        circles = circles[_near(circles, 0, self.canvas)]
        circles = _push_apart(circles, obstacles, squeeze, rounds)
        seen = self.margin - 2 * circles[:, 2]  # further out not even a long cell reaches into the view
        return circles[_near(circles, seen[:, None], self.canvas - seen[:, None])]

    def _red_cells(self, circles: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
        """Draws the red cells; their table on the canvas, and where cells are too pale or too covered to be seen."""
        rng, n = self.rng, len(circles)
        shape = self.draw("shape")
        mix = rng.dirichlet([1.2, 0.35, 0.35])  # normal, hypochromic, target
        labels = rng.choice([NORMAL, HYPOCHROMIA, CODOCYTE], n, p=mix)
        flat = rng.random(n) < (rng.uniform(0.6, 1) if self.happens("flat_chance") else 0.06)
        amounts = np.exp(rng.normal(0, self.draw("uneven_stain"), n))
        if rng.random() < 0.06:  # ghosts, whose haemoglobin has leaked
            amounts[rng.random(n) < rng.uniform(0.01, 0.15)] *= rng.uniform(0.15, 0.5)
        hue = rng.normal(0, self.draw("polychromasia") * rng.random(), (n, 2))
        long = self.draw("elliptic") if self.happens("elliptic_chance") else 1.0
        elliptic = rng.random(n) < (rng.uniform(0.2, 1.0) if long > 1 else 0.04)
        common_turn = rng.uniform(0, np.pi) if rng.random() < 0.3 else None
        moulded = self.happens("moulded_chance")
        neighbours = (
            cKDTree(circles[:, :2]).query_ball_point(circles[:, :2], 2.2 * self.diameter) if moulded and n else []
        )

        heights = np.array([-1.0, 0.0, 1.0])
        size = (self.canvas, self.canvas)
        planes = np.zeros((3, *size), np.float32)
        tinted = np.zeros((2, *size), np.float32)
        areas, rows = [], []
        for i, (x, y, radius) in enumerate(circles):
            outline = draw_outline(difficulty=shape, rng=rng)
            if elliptic[i]:
                ratio = min(_LONGEST, max(1.0, rng.normal(long, 0.25)) if long > 1 else rng.uniform(1.1, 2.6))
                outline = _stretch(outline, ratio, common_turn, rng)
            if moulded:
                outline = _mould(outline, circles[i], circles[[j for j in neighbours[i] if j != i]])
            disc = _flat_disc(rng) if flat[i] else draw_disc(labels[i], difficulty=shape, rng=rng)
            left, top, patch, area = fill_outline(x, y, radius, disc, outline, difficulty=shape, rng=rng)
            patch *= np.float32(amounts[i])
            _add(planes[rng.integers(3)], patch, left, top)
            if hue[i].any():
                for plane, tint in zip(tinted, hue[i], strict=True):
                    _add(plane, patch * np.float32(tint), left, top)
            _add(self.red, area.astype(np.uint8), left, top)
            areas.append((left, top, area))
            rows.append((x, y, radius * np.sqrt(max(np.mean(outline**2), 0.05))))
        relief = rng.uniform(0, 0.8)
        self.pixel_um = 7.0 / self.diameter
        path, fringe = optics.focus(
            planes, heights * relief + rng.normal(0, 0.3), um_per_px=self.pixel_um, contrast=0.02
        )
        scale = self.level / _TYPICAL_UM
        self.density += (path * scale)[..., None] * self.stain
        for channel, plane in zip((0, 2), tinted, strict=True):
            self.density[..., channel] += plane * scale
        np.maximum(self.density, 0, out=self.density)
        strength = self.draw("fringe")
        edge = cv2.Laplacian(path, cv2.CV_32F, ksize=1) if n else np.zeros_like(path)
        edge = optics.blur(edge, 0.03 * self.diameter)
        spread = np.percentile(np.abs(edge), 99) if n else 0
        if spread > 0:
            self.density += (0.6 * strength * self.level * np.clip(edge / spread, -1.5, 1.5))[..., None]
        self.density += fringe[..., None] * 0.5
        if self.happens("inclusion_chance"):
            self._inclusions(circles)

        table = pd.DataFrame(rows, columns=[X, Y, RADIUS], dtype=float)
        thin, hidden = np.zeros(size, bool), np.zeros(n, bool)
        for i, (left, top, area) in enumerate(areas):
            rows_, columns = _window(left, top, area.shape, size)
            part = area[max(-top, 0) :, max(-left, 0) :][: rows_.stop - rows_.start, : columns.stop - columns.start]
            if not part.any():
                hidden[i] = True
                continue
            covered = np.mean(self.red[rows_, columns][part] > 1)
            under = np.mean(self.other[rows_, columns][part])
            pale = amounts[i] * self.level < 0.025
            if under > 0.5:
                hidden[i] = True
            elif covered > 0.8 or under > 0.25 or pale:
                hidden[i] = True
                thin[rows_, columns] |= part
        return table.assign(hidden=hidden), thin

    def _inclusions(self, circles: np.ndarray) -> None:
        """Parasites, Howell-Jolly bodies and platelets on cells: the cell stays a cell."""
        rng = self.rng
        for x, y, radius in circles[rng.random(len(circles)) < self.draw("inclusion_share")]:
            away, turn = radius * rng.uniform(0, 0.75), rng.uniform(0, 2 * np.pi)
            size = self.diameter * rng.uniform(0.06, 0.4)
            line = np.arange(-int(size) - 2, int(size) + 3, dtype=np.float32)
            u, v = np.meshgrid(line, line)
            distance = np.hypot(u, v * rng.uniform(0.7, 1.5)) / (size / 2)
            ring = rng.random() < 0.4
            body = np.exp(-(((distance - 0.75) / 0.28) ** 2)) if ring else np.exp(-(distance**4))
            patch = (rng.uniform(0.1, 0.7) * body)[..., None].astype(np.float32) * self.azure
            _add(self.density, patch, *_corner(patch, x + away * np.cos(turn), y + away * np.sin(turn)))

    def _small_things(self) -> None:
        """Platelets, dirt, bubbles and fibres, as far as this view has them."""
        rng, places = self.rng, self._places()
        if self.happens("platelet_chance"):
            dark = rng.uniform(0.08, 0.6)
            for _ in range(rng.poisson(self.draw("platelets") * places / 100)):
                size = self.diameter * (rng.uniform(0.15, 0.45) if rng.random() < 0.9 else rng.uniform(0.45, 0.9))
                patch, area = draw_platelet(size, dark * self.azure, rng)
                x, y = rng.uniform(0, self.canvas, 2)
                for _ in range(1 if rng.random() < 0.85 else rng.integers(2, 12)):  # a clump
                    self._add(patch, x, y, area)
                    x, y = x + rng.normal(0, size), y + rng.normal(0, size)
        if self.happens("dirt_chance"):
            for _ in range(rng.poisson(self.draw("dirt") * places / 100)):
                self._speck()
        if self.happens("bubble_chance"):
            for _ in range(rng.integers(1, 8)):
                self._bubble()
        if self.happens("fibre_chance"):
            for _ in range(rng.integers(1, 4)):
                self._fibre()

    def _speck(self) -> None:
        """Dust or precipitate: dark, of any colour, sharp or far out of focus."""
        rng = self.rng
        size = self.diameter * rng.choice([rng.uniform(0.04, 0.25), rng.uniform(0.25, 1.4)], p=[0.85, 0.15])
        half = int(np.ceil(1.3 * size)) + 2
        u, v = np.meshgrid(*(np.arange(-half, half + 1, dtype=np.float32),) * 2)
        angle = np.arctan2(v, u)
        edge = 0.5 * size * (1 + rng.uniform(0, 0.3) * np.cos(rng.integers(2, 6) * angle + rng.uniform(0, 6)))
        body = (np.hypot(u, v * rng.uniform(0.6, 1.6)) < edge).astype(np.float32)
        body = optics.blur(body, rng.choice([0.5, 0.02 * self.diameter, 0.2 * size]))
        colour = np.array([rng.uniform(0.4, 1.1), 1, rng.uniform(0.4, 1.1)], np.float32)
        strength = rng.uniform(0.05, 1.0)
        self._add(strength * body[..., None] * colour, *rng.uniform(0, self.canvas, 2), body > 0.3)

    def _bubble(self) -> None:
        """A drop of water or air: a bright or dark ring with nothing in it."""
        rng = self.rng
        size = self.diameter * rng.uniform(0.4, 4)
        half = int(np.ceil(0.7 * size)) + 3
        u, v = np.meshgrid(*(np.arange(-half, half + 1, dtype=np.float32),) * 2)
        off = np.hypot(u, v) - size / 2
        width = max(0.7, self.diameter * rng.uniform(0.02, 0.09))
        ring = np.exp(-((off / width) ** 2)) - rng.uniform(0, 1) * np.exp(-(((off + 2 * width) / width) ** 2))
        patch = (rng.uniform(0.1, 0.7) * rng.choice([-0.5, 1]) * ring)[..., None] * np.ones(3, np.float32)
        self._add(patch.astype(np.float32), *rng.uniform(0, self.canvas, 2), np.abs(off) < 1.5 * width)

    def _fibre(self) -> None:
        """A hair, a scratch or a fold across the view."""
        rng = self.rng
        canvas = np.zeros((self.canvas, self.canvas), np.uint8)
        start, turn = rng.uniform(0, self.canvas, 2), rng.uniform(0, 2 * np.pi)
        points, bend = [start], rng.normal(0, 0.15)
        for _ in range(int(rng.integers(6, 30))):
            points.append(points[-1] + 0.6 * self.diameter * np.array([np.cos(turn), np.sin(turn)]))
            turn += bend + rng.normal(0, 0.1)
        thick = max(1, round(self.diameter * rng.uniform(0.03, 0.35)))
        cv2.polylines(canvas, [np.round(points).astype(np.int32)], False, 255, thick)
        line = optics.blur(canvas.astype(np.float32) / 255, rng.uniform(0.3, 0.08 * self.diameter))
        self.density += (line * rng.uniform(0.1, 0.9) * rng.choice([-0.3, 1], p=[0.3, 0.7]))[..., None]
        self.other |= canvas > 0

    def _plasma(self) -> None:
        """Stain of the background: even, cloudy, and at times paler or darker around cells."""
        rng = self.rng
        amount = self.draw("plasma") * rng.uniform(0, 1) * self.level
        clouds = _clouds(self.canvas, self.diameter * np.exp(rng.uniform(np.log(0.4), np.log(8))), rng)
        between = 1 - np.minimum(self.red, 1) if rng.random() < 0.5 else 1
        tint = self.stain + rng.uniform(0, 1) * (self.azure - self.stain)
        self.density += (amount * np.clip(1 + clouds, 0, 3) * between)[..., None].astype(np.float32) * tint
        grain = _clouds(self.canvas, max(0.5, self.diameter * rng.uniform(0.02, 0.1)), rng)
        self.density *= (1 + np.float32(rng.uniform(0, 0.12)) * grain)[..., None]

    # Lens, lamp, camera

    def _light(self) -> np.ndarray:
        rng = self.rng
        density = self.density
        blur = self.draw("blur_d") * self.diameter * rng.choice([0.4, 1.0])
        light = optics.transmit(np.maximum(density, -0.25))
        light = optics.blur(light, np.hypot(blur, 0.35))
        light = optics.halo(
            light, sd_px=self.diameter * rng.uniform(0.04, 0.2), strength=self.draw("halo") * rng.random()
        )
        shift = self.draw("chromatic_d") * self.diameter * rng.choice([0.2, 1.0])
        if shift > 0.1:
            turn = rng.uniform(0, 2 * np.pi)
            for channel, sign in ((0, 1), (2, -1)):
                move = np.float32([[1, 0, sign * shift * np.cos(turn) / 2], [0, 1, sign * shift * np.sin(turn) / 2]])
                light[..., channel] = cv2.warpAffine(
                    light[..., channel], move, light.shape[1::-1], borderMode=cv2.BORDER_REFLECT
                )
            if rng.random() < 0.5:
                light[..., 0] = optics.blur(light[..., 0], shift / 2)
        return light

    def _camera(self, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The image, and for each pixel 2 in the field of view, 1 on its edge, 0 outside."""
        rng, shape = self.rng, light.shape[:2]
        haze = self.draw("haze") * rng.random()
        light = light * np.float32(1 - haze) + np.float32(haze)
        slope = rng.normal(0, 1, (2, 1)) * self.draw("slope") + rng.normal(0, 0.02, (2, 3))
        vignette = self.draw("vignette") * rng.random() ** 2
        light = light * np.maximum(_lamp(shape, slope, vignette, rng), 0.03)
        tint = np.exp([self.draw("white_balance"), 0, self.draw("white_balance")])
        if rng.random() < 0.5:
            tint = tint**0.3
        light = light * (self.log("exposure") * tint / tint.max() ** rng.uniform(0, 1)).astype(np.float32)
        light = np.clip(light, 0, None) ** np.float32(self.log("tone"))
        mean = light.mean(axis=2, keepdims=True)
        light = mean + (light - mean) * np.float32(self.draw("saturation"))
        field = np.full(shape, 2, np.uint8)
        if self.happens("circle_chance"):
            light, field = self._circle(light)
        elif self.happens("margin_chance"):
            light, field = self._margins(light)

        factor = self.log("native")
        if rng.random() < 0.5:
            factor = 1.0
        factor = max(factor, 4.5 / self.diameter)
        if factor != 1:
            method = cv2.INTER_AREA if factor < 1 else rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC])
            light = cv2.resize(light, None, fx=factor, fy=factor, interpolation=int(method))
        grain = self.log("noise") * rng.choice([0.3, 1.0])
        noise = optics.blur(rng.standard_normal(light.shape, dtype=np.float32), self.draw("grain_px") * max(1, factor))
        noise *= np.float32(grain / max(noise.std(), 1e-6))
        if rng.random() < 0.3:
            noise = np.repeat(noise.mean(axis=2, keepdims=True), 3, axis=2)
        light = light + noise * np.sqrt(np.clip(light, 0.05, 1))
        sharpen = self.draw("sharpen") * rng.random()
        light = optics.halo(light.astype(np.float32), sd_px=rng.uniform(0.6, 1.6) * max(1, factor), strength=sharpen)
        image = np.clip(np.rint(255 * light), 0, 255).astype(np.uint8)
        if rng.random() < 0.8:
            image = optics.compress(image, round(self.draw("jpeg") if rng.random() < 0.5 else rng.uniform(80, 98)))
        if factor != 1:
            method = cv2.INTER_AREA if factor > 1 else rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC])
            image = cv2.resize(image, shape[::-1], interpolation=int(method))
        return image, field

    def _circle(self, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The edge of the eyepiece's field, soft or sharp, on black, white or anything between."""
        rng, side = self.rng, self.side
        radius = side * rng.uniform(0.35, 1.6)
        turn = rng.uniform(0, 2 * np.pi)
        # The edge passes at this distance from the middle of the view; a small circle lies within it.
        away = max(0.0, radius - side * rng.uniform(0.0, 0.5)) if radius > 0.5 * side else rng.uniform(0, 0.15) * side
        x, y = side / 2 + away * np.cos(turn), side / 2 + away * np.sin(turn)
        columns, rows = np.meshgrid(*(np.arange(side, dtype=np.float32),) * 2)
        off = radius - np.hypot(columns - x, rows - y)
        soft = self.diameter * rng.choice([0.02, 0.15, rng.uniform(0.2, 1.5)])
        within = np.clip(off / soft + 0.5, 0, 1)[..., None]
        level = rng.choice([0.0, 1.0, rng.uniform(0, 0.15), self.draw("circle_level")], p=[0.4, 0.15, 0.35, 0.1])
        outside = np.float32(level) * (1 + rng.uniform(-0.03, 0.03, 3)).astype(np.float32)
        field = np.where(off > 0.6 * soft, 2, np.where(off > -0.5 * soft, 1, 0)).astype(np.uint8)
        return light * within + outside * (1 - within), field

    def _margins(self, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bars of one colour along one to four sides."""
        rng, side = self.rng, self.side
        light, field = light.copy(), np.full((side, side), 2, np.uint8)
        colour = rng.choice([0.0, 1.0, rng.random()]) * np.ones(3, np.float32)
        for turn in rng.permutation(4)[: rng.integers(1, 5)]:
            width = int(side * rng.uniform(0.02, 0.3))
            np.rot90(light, turn)[:width] = colour
            np.rot90(field, turn)[:width] = 0
        return light, field

    def _marks(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Writing, a scale bar or a pointer, drawn into the file."""
        rng, mask = self.rng, np.zeros(image.shape[:2], np.uint8)
        if not self.happens("mark_chance"):
            return image, mask > 0
        kind = rng.integers(3)
        start = rng.integers(0, self.side, 2)
        thick = max(1, round(self.diameter * rng.uniform(0.05, 0.3)))
        if kind == 0:
            text = "".join(rng.choice(list("0123456789umx ABCDE.:-"), rng.integers(2, 14)))
            size = self.diameter / 21 * rng.uniform(0.3, 1.6)
            cv2.putText(mask, text, start.tolist(), int(rng.integers(0, 8)), size, 255, max(1, thick // 2))
        elif kind == 1:
            end = (int(start[0] + self.side * rng.uniform(0.1, 0.5)), int(start[1]))
            cv2.rectangle(mask, start.tolist(), (end[0], end[1] + thick), 255, -1)
        else:
            turn = rng.uniform(0, 2 * np.pi)
            end = start + self.side * rng.uniform(0.1, 0.8) * np.array([np.cos(turn), np.sin(turn)])
            cv2.arrowedLine(mask, start.tolist(), np.round(end).astype(int).tolist(), 255, thick)
        image = image.copy()
        image[mask > 0] = rng.choice([0, 255, rng.integers(256)]) if rng.random() < 0.8 else rng.integers(0, 256, 3)
        return image, mask > 0

    def _add(self, patch: np.ndarray, x: float, y: float, area: np.ndarray) -> None:
        """Adds a thing that is no red cell, centred at (x, y)."""
        left, top = _corner(patch, x, y)
        _add(self.density, patch, left, top)
        _add(self.other, area, left, top)


def _stretch(outline: np.ndarray, ratio: float, turn: float | None, rng: np.random.Generator) -> np.ndarray:
    """*outline* [360] pulled long by *ratio*, at times into a drop; its area stays that of the unit circle."""
    turn = rng.uniform(0, np.pi) if turn is None else turn + rng.normal(0, 0.2)
    angle = _ANGLE - turn
    outline = outline / np.sqrt(np.cos(angle) ** 2 / ratio + np.sin(angle) ** 2 * ratio)
    if rng.random() < 0.25:
        outline = outline * (1 + rng.uniform(0.1, 0.8) * np.maximum(np.cos(angle), 0) ** rng.integers(4, 20))
    return outline / np.sqrt(np.mean(outline**2))


def _mould(outline: np.ndarray, circle: np.ndarray, others: np.ndarray) -> np.ndarray:
    """*outline* [360] cut back where it would reach over the line midway between the cell and its neighbours."""
    if not len(others):
        return outline
    offset = others[:, :2] - circle[:2]
    distance = np.hypot(*offset.T)
    share = circle[2] / (circle[2] + others[:, 2])
    along = np.cos(_ANGLE[None] - np.arctan2(offset[:, 1], offset[:, 0])[:, None])
    reach = (distance * share)[:, None] / np.maximum(along, 0.05) / circle[2]
    return np.minimum(outline, np.maximum(reach.min(axis=0), 0.35))


def _flat_disc(rng: np.random.Generator) -> Disc:
    """A cell without pallor: a spherocyte, or one that dried flat."""
    rho = np.linspace(0, 1, 257)
    dome, steep = rng.uniform(0, 0.6), rng.uniform(6, 20)
    return Disc(rng.uniform(1.6, 2.6) * (1 - dome * rho**2) * np.sqrt(1 - rho**steep))


def _rouleaux(centres: np.ndarray, diameter: float, rng: np.random.Generator) -> np.ndarray:
    """*centres* [N,2] with about half of them laid out in rows, like coins."""
    centres = centres.copy()
    i, step = 0, diameter * rng.uniform(0.25, 0.75)
    while i < len(centres) // 2:
        length, turn = int(rng.integers(2, 12)), rng.uniform(0, 2 * np.pi)
        for j in range(i + 1, min(i + length, len(centres))):
            turn += rng.normal(0, 0.15)
            centres[j] = centres[j - 1] + step * np.array([np.cos(turn), np.sin(turn)])
        i += length
    return centres


def _push_apart(circles: np.ndarray, obstacles: np.ndarray, squeeze: float, rounds: int) -> np.ndarray:
    """Circles [N,3] after *rounds* in which those closer than *squeeze* times their radii's sum push each other off."""
    if not len(circles):
        return circles
    n = len(circles)
    every = np.concatenate([circles, obstacles])
    reach = 2 * every[:, 2].max()
    for _ in range(rounds):
        pairs = cKDTree(every[:, :2]).query_pairs(reach, output_type="ndarray")
        if not len(pairs):
            break
        a, b = pairs.T
        offset = every[b, :2] - every[a, :2]
        distance = np.maximum(np.hypot(*offset.T), 1e-3)
        lack = squeeze * (every[a, 2] + every[b, 2]) - distance
        close = lack > 0
        if not close.any():
            break
        push = (0.5 * lack[close] / distance[close])[:, None] * offset[close]
        np.add.at(every[:, :2], b[close], push)
        np.add.at(every[:, :2], a[close], -push)
        every[n:, :2] = obstacles[:, :2]
    return every[:n]


def _near(circles: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """Which of *circles* [N,3] have their centre between *low* and *high*, each one number or [N,1]."""
    return ((circles[:, :2] > low) & (circles[:, :2] < high)).all(axis=1)


def _clouds(side: int, sd_px: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise [side, side] of mean 0 and standard deviation 1, whose grains are *sd_px* wide."""
    coarse = max(1, int(sd_px / 2))
    small = side // coarse + 3
    noise = optics.blur(rng.standard_normal((small, small), dtype=np.float32), sd_px / coarse)
    noise = (noise - noise.mean()) / max(float(noise.std()), 1e-6)
    return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC) if coarse > 1 else noise[:side, :side]


def _lamp(shape: tuple[int, int], slope: np.ndarray, vignette: float, rng: np.random.Generator) -> np.ndarray:
    """`optics.lamp`, of which the view is a part: the middle of the light may lie anywhere."""
    rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) + np.float32(rng.uniform(-0.7, 0.7)) for side in shape)
    rows, columns = rows[:, None, None], columns[None, :, None]
    slope = slope.astype(np.float32)
    return 1 + slope[0] * columns + slope[1] * rows - np.float32(vignette / 2) * (columns**2 + rows**2)


def _corner(patch: np.ndarray, x: float, y: float) -> tuple[int, int]:
    return round(x) - patch.shape[1] // 2, round(y) - patch.shape[0] // 2


def _window(left: int, top: int, shape: tuple[int, int], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a canvas of *size* that a patch of *shape* at (left, top) lies on."""
    rows = slice(max(top, 0), max(min(top + shape[0], size[0]), 0))
    return rows, slice(max(left, 0), max(min(left + shape[1], size[1]), 0))


def _add(canvas: np.ndarray, patch: np.ndarray, left: int, top: int) -> None:
    """Adds *patch* to *canvas* at (left, top) as far as it lies on it; of masks the union."""
    rows, columns = _window(left, top, patch.shape[:2], canvas.shape[:2])
    view = canvas[rows, columns]
    part = patch[max(-top, 0) :, max(-left, 0) :][: view.shape[0], : view.shape[1]]
    if canvas.dtype == bool:
        view |= part
    else:
        view += part.astype(canvas.dtype, copy=False)
