"""Where the cells of a smear lie: apart, touching, overlapping, in rouleaux, and cut by the border."""

from collections.abc import Sequence

import numpy as np

_TRIES = 60
_APART = 1.02  # of the sum of two radii


def place_cells(
    radii: np.ndarray,
    size_px: tuple[int, int],
    *,
    difficulty: float,
    obstacles: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Centres [N,2] (x, y) inside of an image of *size_px* (width, height) for cells of *radii* [N].

    Most cells lie apart; some touch or overlap another; a few carry on a row like coins (rouleaux). Where there is no
    room, the best of the tries stays. *obstacles* [M,3] (x, y, radius) are kept clear of, where possible.
    """
    edge = np.array(size_px, float) - 1
    there = np.concatenate([obstacles, np.zeros((len(radii), 3))])
    first = len(obstacles)
    row_left, row_angle = 0, 0.0  # cells that the present rouleau still takes, and where it goes
    for i, radius in enumerate(radii, start=first):
        others = np.arange(i)
        if row_left and i > first:
            partner, angles = i - 1, row_angle + rng.normal(0, 0.15, _TRIES)
            reach = rng.uniform(0.4, 0.75, _TRIES)
        elif i > first and rng.random() < 0.06 + 0.10 * difficulty:
            partner, angles = int(rng.integers(first, i)), rng.uniform(0, 2 * np.pi, _TRIES)
            reach = rng.uniform(0.95 - 0.25 * difficulty, 1.01, _TRIES)
            if rng.random() < 0.10 * difficulty:
                row_left, row_angle = int(rng.integers(2, 5)), angles[0]
        else:
            partner = None
        row_left -= row_left > 0
        tries = rng.uniform(0, edge, (_TRIES, 2))
        if partner is not None:
            way = np.column_stack([np.cos(angles), np.sin(angles)])
            attached = there[partner, :2] + (reach * (radius + there[partner, 2]))[:, None] * way
            inside = ((attached >= 0) & (attached <= edge)).all(axis=1)
            if inside.any():
                tries, others = attached[inside], others[others != partner]
        there[i] = *_roomiest(tries, radius, there[others]), radius
    return there[first:, :2]


def cells_over_the_border(
    n_cells: int, diameter_px: float, size_px: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cells of the same density in the strip of one radius around the image: centres [M,2] outside it, radii [M]."""
    width, height = size_px
    radius = 0.5 * diameter_px
    strip = (width + 2 * radius) * (height + 2 * radius) / (width * height) - 1
    number = rng.poisson(0.5 * n_cells * strip)
    centres = rng.uniform(0, [width - 1, height - 1], (number, 2))
    side, depth = rng.integers(0, 4, number), rng.uniform(0.3, 1.0, number) * radius
    centres[:, 0] = np.select([side == 0, side == 1], [-depth, width - 1 + depth], centres[:, 0])
    centres[:, 1] = np.select([side == 2, side == 3], [-depth, height - 1 + depth], centres[:, 1])
    return centres, np.full(number, radius)


def overlap_fractions(areas: Sequence[tuple[int, int, np.ndarray]], shape: tuple[int, int]) -> np.ndarray:
    """Fraction of each cell's own area that the others cover: [N]; NaN for an area without a pixel on the canvas.

    *areas*: column and row of each mask's corner on a canvas of *shape* (H, W), and the mask [S,T] bool.
    """
    count, overlap = np.zeros(shape, np.uint16), np.full(len(areas), np.nan)
    views = []
    for left, top, mask in areas:
        rows, columns = (
            slice(max(top, 0), max(top + mask.shape[0], 0)),
            slice(max(left, 0), max(left + mask.shape[1], 0)),
        )
        view = count[rows, columns]
        mask = mask[max(-top, 0) :, max(-left, 0) :][: view.shape[0], : view.shape[1]]
        view += mask
        views.append((view, mask))
    for i, (view, mask) in enumerate(views):
        if mask.any():
            overlap[i] = np.mean(view[mask] > 1)
    return overlap


def _roomiest(tries: np.ndarray, radius: float, others: np.ndarray) -> np.ndarray:
    """The first of *tries* [T,2] that keeps a cell of *radius* clear of *others* [M,3], else the one closest to it."""
    best, best_room = tries[0], -np.inf
    for some in np.array_split(tries, -(-len(tries) // 6)):  # a few at a time: mostly the first already has room
        offsets = some[:, None] - others[None, :, :2]
        gaps = np.hypot(offsets[..., 0], offsets[..., 1]) / (others[:, 2] + radius)
        room = np.minimum(gaps.min(axis=1, initial=np.inf), _APART)
        first = np.argmax(room)
        if room[first] > best_room:
            best, best_room = some[first], room[first]
        if best_room >= _APART:
            break
    return best
