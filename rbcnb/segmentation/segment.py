"""From a smear to crops of single cells: by Algorithm 1 of the paper, or by the learned finder.

Coordinates and radii in tables are pixels of the smear's own image; (0, 0) is the centre of its first pixel, as in
OpenCV and matplotlib. Magnification keeps the image's corner in place: a centre x moves to scale * (x + 0.5) - 0.5.
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rbcnb._utils.errors import InputError
from rbcnb._utils.opencv import cv2
from rbcnb._utils.read_files import read_json, shown
from rbcnb._utils.sealed import DIGEST, is_whole
from rbcnb.columns import BORDER, CELL, RADIUS, SCORE, X, Y
from rbcnb.segmentation import upscaling
from rbcnb.segmentation.crops import crop_cells, magnified, upscaled_crops
from rbcnb.segmentation.diameter import estimate_diameter
from rbcnb.segmentation.learned import Finds, find_learned, on_white_cells, read_maps
from rbcnb.smears.segmented import FINDER_JSON, is_segmented

METHODS = ("learned", "paper")
UPSCALERS = (*upscaling.METHODS, "none")
PLACES = ("smear", "crops")
LEAST_TRUST = 0.82  # of the learned finder in its finds, without a note
LEAST_STAINED = 0.7  # share of the cells' circles that looks like red cells, without a note
LEAST_EXPLAINED = 0.6  # share of what looks like red cells that lies in cells, without a note
MAX_UPSCALED_PIXELS = 2**30 // 3  # of a whole smear: 1 GiB


@dataclass(frozen=True)
class FinderSpec:
    """How cells are found. Lengths are relative to the cell diameter, so one spec serves every magnification.

    The paper names the steps of its method but none of their parameters; those below were tuned on Chula RBC-12.
    """

    method: str = "paper"  # a name in METHODS
    upscale: str = "waifu2x"  # "waifu2x", "bicubic", or "none": cells are found in the smear as it is
    upscale_where: str | None = None  # "smear", "crops"; None: "smear" for the paper's method, "crops" for "learned"
    diameter_px: float | None = None  # CellDiameter, in pixels of the smear; None: estimated from each image
    size_px: int = 224  # ExpectedCellDiameter: side of a crop
    # Of "learned" alone:
    min_score: float = 0.4  # least score of a cell: the share of such finds that are cells
    expected_px: float | None = None  # diameter of cells in other images of the microscope; kept to where it fits
    # Of "paper" alone:
    white_cells: bool = True  # keep circles on white cells, as the paper does; else the learned finder tells them
    clahe_clip: float = 2.0
    clahe_tile: float = 4.0  # side of a CLAHE tile, in diameters
    working_px: float = 40.0  # cell diameter at which circles are sought
    blur: float = 0.04  # Gaussian sigma before the Hough transform, in diameters
    min_distance: float = 0.75  # between two centres, in diameters
    edge: float = 50.0  # Canny's upper threshold, in grey levels of Sobel's 3x3 response at the working diameter
    votes: float = 0.3  # accumulator threshold, in edge pixels per pixel of diameter
    radius_min: float = 0.6  # of half a diameter
    radius_max: float = 1.15

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"unknown method {shown(self.method)}: choose one of {', '.join(METHODS)}")
        if self.upscale not in UPSCALERS:
            raise InputError(f"unknown upscale {shown(self.upscale)}: choose one of {', '.join(UPSCALERS)}")
        if self.upscale_where not in (None, *PLACES):
            raise InputError(
                f"unknown upscale_where {shown(self.upscale_where)}: choose one of {', '.join(PLACES)}, or None"
            )
        if self.method == "learned" and self.upscale_where == "smear":
            raise InputError("upscale_where 'smear' is of the paper's method; with 'learned' only crops are upscaled")
        for name in ("diameter_px", "expected_px"):
            value = getattr(self, name)
            if value is not None and not 2 <= value < float("inf"):
                raise InputError(f"{name} must be at least 2 pixels, or None to estimate it, not {shown(value)}")
        if isinstance(self.size_px, bool) or not isinstance(self.size_px, int) or self.size_px < 8:
            raise InputError(f"size_px must be a whole number of at least 8 pixels, not {shown(self.size_px)}")
        for name in ("clahe_clip", "clahe_tile", "min_distance", "edge", "votes", "radius_min"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{name} must be a positive number, not {shown(getattr(self, name))}")
        if not 0 <= self.min_score <= 1:
            raise InputError(f"min_score must lie between 0 and 1, not {shown(self.min_score)}")
        if not 0 <= self.blur < float("inf"):
            raise InputError(f"blur must be zero or a positive number, not {shown(self.blur)}")
        if not 8 <= self.working_px < float("inf"):
            raise InputError(f"working_px must be at least 8 pixels, not {shown(self.working_px)}")
        if not self.radius_min < self.radius_max < float("inf"):
            raise InputError(
                f"radius_max {shown(self.radius_max)} must be greater than radius_min {shown(self.radius_min)}"
            )

    @property
    def uses_learned_finder(self) -> bool:
        """Whether the learned finder's weights have a say in which cells are found."""
        return self.method == "learned" or not self.white_cells

    @property
    def upscales_smear(self) -> bool:
        """Whether the whole smear is upscaled before cells are sought, as in the paper."""
        return self.method == "paper" and self.upscale != "none" and self.upscale_where != "crops"


def finder_spec(folder: str | Path) -> FinderSpec:
    """How the cells of *folder* were found, as `rbcnb segment` or a run wrote it there (``finder.json``).

    Raises:
        InputError: it is missing, damaged, or of another version of this package.
    """
    path = Path(folder) / FINDER_JSON
    try:
        facts = read_json(path, remedy="")
        if DIGEST in facts and not is_whole(facts):  # a run's has its digest in the manifest
            raise ValueError
        return FinderSpec(**{name: value for name, value in facts.items() if name != DIGEST})
    except (ValueError, TypeError, AttributeError):
        raise InputError(
            f"{path}: missing, damaged, or of another version of this package; find the cells again, with rbcnb "
            "segment --replace or notebook 01, which leaves readings alone"
        ) from None


def spec_for(source: str, **settings: Any) -> FinderSpec:
    """The spec of *settings* for the smears of *source*; where `rbcnb segment` has found their cells, the one that did.

    Args:
        source: "synthetic", "chula", or the path of a folder of images, or of one that `rbcnb segment` filled.
        **settings: fields of `FinderSpec`. Where cells are found already only ``size_px`` and ``upscale`` count, by
            which crops are cut.

    Raises:
        InputError: a setting has an impossible value, or how the cells were found cannot be read (`finder_spec`).
        TypeError: a setting is no field of `FinderSpec`.
    """
    spec = FinderSpec(**settings)
    return replace(finder_spec(source), upscale=spec.upscale, size_px=spec.size_px) if is_segmented(source) else spec


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a finder makes of one smear."""

    cells: pd.DataFrame  # cell, x_px, y_px, radius_px, border, of "learned" score: one row per cell, in smear's pixels
    crops: np.ndarray  # [N, size_px, size_px, 3] uint8 RGB, in the order of cells
    diameter_px: float  # CellDiameter used: given or estimated; NaN where nothing could be estimated
    trust: float = math.nan  # of "learned": the F1 score that the finder expects of itself
    explained: float = math.nan  # of "learned": share of what looks like red cells that lies in a cell
    stained: float = math.nan  # of "learned": share of the cells' circles that looks like red cells
    dark_field: bool = False  # whether "learned" read the smear with its colours inverted
    notes: tuple[str, ...] = ()  # of "learned": why the cells may be wrong
    # If kept: "upscaled", "grey", "equalised" (Figs. 6, 7), or of "learned" its maps "centre", "red_cell" and "other".
    stages: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def read(self) -> bool:
        """Whether cells were found that the finder does not doubt as a whole ("paper" has no doubts)."""
        doubts = self.trust < LEAST_TRUST or self.explained < LEAST_EXPLAINED or self.stained < LEAST_STAINED
        return len(self.cells) > 0 and not doubts


def segment_smear(image: np.ndarray, spec: FinderSpec | None = None, *, keep: bool = False) -> Segmentation:
    """Find and crop the cells of one smear.

    Crops are cut in colour from the upscaled image, before grey and equalisation: the cells of Fig. 8 have their
    natural colours. ``upscale_where="smear"`` is the paper's order: the whole smear is upscaled, then cells are sought
    in it. With "crops" they are sought in the smear as it is, and only what the crops show is upscaled: for the same
    circles the same crops, sooner and in bounded memory. The learned finder always does so. With ``upscale="none"``
    cells are found in the smear as it is, and each crop alone is enlarged bicubically.

    Args:
        image: [H, W, 3] uint8 RGB.
        keep: also return the images between, for Figs. 6 and 7 (several times the memory); "upscaled" where there is
            one.

    Raises:
        ValueError: the image is no [H, W, 3] uint8 image, or would be over 1 GiB when upscaled as a whole.
        rbcnb._utils.errors.WeightsError: the learned finder is used, and its weights cannot be read.
    """
    spec = spec or FinderSpec()
    found, upscaled = _find(image, spec)
    cells = found.cells
    if len(cells) and spec.upscales_smear:  # lines 7 to 15
        ratio = spec.size_px / found.diameter_px
        crops = crop_cells(upscaled, cells, spec.size_px, scale=ratio)
    else:
        crops = crops_of(image, cells, spec, diameter_px=found.diameter_px)
    stages = found.stages if keep else {}
    if keep and spec.method == "learned" and len(cells):
        stages = read_maps(255 - image if found.dark_field else image, diameter_px=found.diameter_px)
    return replace(found, crops=crops, stages=stages)


def crops_of(image: np.ndarray, cells: pd.DataFrame, spec: FinderSpec, *, diameter_px: float) -> np.ndarray:
    """The crops uint8 [N, size_px, size_px, 3] of cells that were found, from the smear as it is.

    Args:
        image: [H, W, 3] uint8 RGB.
        cells: ``x_px``, ``y_px``, ``radius_px``.
        spec: its ``size_px`` and ``upscale``.
        diameter_px: of a typical cell of the smear.
    """
    if not len(cells):
        return np.empty((0, spec.size_px, spec.size_px, 3), np.uint8)
    ratio = spec.size_px / diameter_px
    if spec.upscale == "none":
        return crop_cells(image, cells, spec.size_px, enlarge=ratio)
    return upscaled_crops(image, cells, spec.size_px, ratio, method=spec.upscale)


def _find(image: np.ndarray, spec: FinderSpec) -> tuple[Segmentation, np.ndarray]:
    """Lines 1 to 6 of Algorithm 1, or what the learned finder does instead: all but the crops; the image to crop."""
    _check_image(image)
    none = np.empty((0, spec.size_px, spec.size_px, 3), np.uint8)
    if spec.method == "learned":
        found = find_learned(
            image, diameter_px=spec.diameter_px, expected_px=spec.expected_px, min_score=spec.min_score
        )
        cells = _cells_table(np.column_stack([found.circles, found.score]), image.shape)
        facts = {name: getattr(found, name) for name in ("diameter_px", "trust", "explained", "stained", "dark_field")}
        return Segmentation(cells, none, **facts, notes=tuple(_doubts(found, spec))), image
    diameter_px = spec.diameter_px
    if diameter_px is None:
        try:
            diameter_px = estimate_diameter(image)
        except ValueError:  # nothing that looks like a cell: an empty field is no error
            return Segmentation(_cells_table(np.empty((0, 3)), image.shape), none, float("nan")), image

    scale, upscaled, stages = 1.0, image, {}
    if spec.upscales_smear:  # lines 2 and 3
        scale = spec.size_px / diameter_px
        if (n_pixels := math.prod(upscaling.output_size(image, scale))) > MAX_UPSCALED_PIXELS:
            raise ValueError(
                f"upscaled as a whole it would have {n_pixels // 10**6} million pixels; upscale its crops alone "
                "(upscale_where='crops', or --upscale-where crops)"
            )
        upscaled = upscaling.upscale(image, scale, method=spec.upscale)
        stages["upscaled"] = upscaled
    circles, steps = hough_cells(upscaled, spec, diameter_px=diameter_px * scale)  # lines 4 to 6
    circles = magnified(circles, 1 / scale)
    if not spec.white_cells:
        circles = circles[~on_white_cells(image, circles, diameter_px=diameter_px)]
    return Segmentation(_cells_table(circles, image.shape), none, diameter_px, stages=stages | steps), upscaled


def _doubts(found: Finds, spec: FinderSpec) -> list[str]:
    """Why the cells that were *found* may be wrong, each a note for whoever reads the tables."""
    if not len(found.circles):
        return ["no cell was found"]
    notes = []
    if found.trust < LEAST_TRUST:
        notes.append(
            f"read with doubt: the finder expects an F1 score of {found.trust:.2f} of itself; look at the rings"
        )
    if found.explained < LEAST_EXPLAINED:
        notes.append(f"cells cover only {found.explained:.0%} of what looks like red cells; some may be missed")
    if found.stained < LEAST_STAINED:
        notes.append(f"only {found.stained:.0%} of its rings look like red cells; some may lie on nothing")
    size, expected = found.found_px, spec.diameter_px or spec.expected_px
    if expected and size > 0 and not 0.75 < size / expected < 1.33:  # NaN where too few cells tell their size
        whose = "those of its folder have" if spec.diameter_px is None else "they were said to have"
        notes.append(f"its cells have about {size:.0f} px, {whose} {expected:.0f} px: another magnification?")
    return notes


def find_cells(image: np.ndarray, spec: FinderSpec | None = None) -> pd.DataFrame:
    """The cells of one smear: cell, x_px, y_px, radius_px, border (of "learned" also score), in pixels of *image*.

    Rows go from top to bottom, by ``y_px``. ``border`` is True where the circle leaves the image. An empty field, or
    with ``diameter_px=None`` one where no diameter can be estimated, gives an empty table.

    Args:
        image: [H, W, 3] uint8 RGB.
        spec: how cells are found; None: `FinderSpec` as it is by default, the paper's method.

    Raises:
        ValueError: the image is no [H, W, 3] uint8 image, or would be over 1 GiB when upscaled as a whole.
        rbcnb._utils.errors.WeightsError: the learned finder is used, and its weights cannot be read.
    """
    return _find(image, spec or FinderSpec())[0].cells


def hough_cells(upscaled: np.ndarray, spec: FinderSpec, *, diameter_px: float) -> tuple[np.ndarray, dict]:
    """Lines 4 to 6 of Algorithm 1: grey, contrast-limited adaptive histogram equalisation, Hough circle transform.

    The upscaled image is equalised at its full size. The Hough transform reads that image reduced to cells of
    ``working_px``: it thresholds gradients per pixel, which shrink by the scale, so that the thresholds that serve at
    40 px a cell find nothing at 224 px.

    Returns circles [N, 3] float (x, y, radius; pixels of *upscaled*) and the stages "grey" and "equalised".
    """
    grey = cv2.cvtColor(upscaled, cv2.COLOR_RGB2GRAY)
    tiles = [max(1, round(side / (spec.clahe_tile * diameter_px))) for side in (grey.shape[1], grey.shape[0])]
    equalised = cv2.createCLAHE(clipLimit=spec.clahe_clip, tileGridSize=tuple(tiles)).apply(grey)

    working = upscaling.bicubic(equalised, spec.working_px / diameter_px)
    if spec.blur:
        working = cv2.GaussianBlur(working, (0, 0), spec.blur * spec.working_px)
    found = cv2.HoughCircles(
        working,
        cv2.HOUGH_GRADIENT,
        dp=1,
        minDist=spec.min_distance * spec.working_px,
        param1=spec.edge,
        param2=spec.votes * spec.working_px,
        minRadius=round(spec.radius_min * spec.working_px / 2),
        maxRadius=round(spec.radius_max * spec.working_px / 2),
    )
    circles = np.empty((0, 3)) if found is None else found.reshape(-1, found.shape[-1])[:, :3].astype(float)
    # The reduced image has whole sides, so the factor is not exactly the one asked for, nor the same along both.
    factors = np.divide(grey.shape[::-1], working.shape[::-1])
    return magnified(circles, factors), {"grey": grey, "equalised": equalised}


def _cells_table(circles: np.ndarray, shape: tuple[int, ...]) -> pd.DataFrame:
    """Circles [N, 3], or [N, 4] with scores, in pixels of the smear -> the table of cells, in reading order."""
    circles = circles[np.lexsort((circles[:, 0], circles[:, 1]))]
    x, y, radius, *more = circles.T
    border = (x < radius) | (y < radius) | (x + radius > shape[1] - 1) | (y + radius > shape[0] - 1)
    cells = pd.DataFrame({CELL: np.arange(len(circles)), X: x, Y: y, RADIUS: radius, BORDER: border})
    return cells.assign(**{SCORE: more[0]}) if more else cells


def _check_image(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"expected a non-empty RGB image [H, W, 3] uint8, got {image.dtype} {image.shape}")
