"""Rendered views of any microscope: reproducible, with a truth that fits the pixels, and sturdy at extremes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rbcnb.columns import RADIUS, X, Y
from rbcnb.smears.synthetic import variety
from rbcnb.smears.synthetic.variety import Variety, render_view

SIDE = 96
PLAIN = Variety(
    diameter_px=(24.0, 24.0), anisocytosis=(0.0, 0.0), moulded_chance=0.0, empty_chance=0.0, leukocyte_chance=0.0
)


@pytest.fixture(scope="module")
def views():
    return [render_view(Variety(), side_px=SIDE, seed=seed) for seed in range(30)]


def masks_of(view):
    return view.image, view.red, view.other, view.unclear


def test_the_same_seed_gives_the_same_view_and_another_one_another(views):
    for seed in (0, 7):
        again = render_view(Variety(), side_px=SIDE, seed=seed)
        for mask, again_mask in zip(masks_of(views[seed]), masks_of(again), strict=True):
            np.testing.assert_array_equal(mask, again_mask)
        pd.testing.assert_frame_equal(views[seed].cells, again.cells)
        assert again.diameter_px == views[seed].diameter_px
    assert len({view.image.tobytes() for view in views}) == len(views)
    assert render_view(Variety(), side_px=SIDE, seed=[0, 1]).image.tobytes() != views[0].image.tobytes()


def test_the_truth_lies_in_the_view_on_red_cells(views):
    assert sum(len(view.cells) for view in views) > 200
    for view in views:
        assert view.image.shape == (SIDE, SIDE, 3)
        assert view.image.dtype == np.uint8
        for mask in masks_of(view)[1:]:
            assert mask.shape == (SIDE, SIDE)
            assert mask.dtype == bool
        assert list(view.cells.columns) == [X, Y, RADIUS]
        assert view.cells[[X, Y]].to_numpy().min(initial=0) >= 0
        assert view.cells[[X, Y]].to_numpy().max(initial=0) <= SIDE - 1
        x, y = view.cells[[X, Y]].round().astype(int).to_numpy().T
        assert view.red[y, x].all()


def test_red_cells_are_drawn_where_the_truth_says():
    """Stained pixels lie in the circles and nowhere else, in a view without anything else."""
    calm = replace(
        PLAIN, shape=(0.0, 0.0), cover=(0.2, 0.3), optical_density=(0.5, 0.5), elliptic_chance=0.0, blur_d=(0.0, 0.0),
        platelet_chance=0.0, dirt_chance=0.0, bubble_chance=0.0, fibre_chance=0.0, circle_chance=0.0,
        margin_chance=0.0, mark_chance=0.0, plasma=(0.0, 0.0), vignette=(0.0, 0.0), slope=(0.0, 0.0), fringe=(0.0, 0.0),
        noise=(0.003, 0.003), haze=(0.0, 0.0), exposure=(0.9, 0.9), flat_chance=1.0, inclusion_chance=0.0,
        tone=(1.0, 1.0), halo=(0.0, 0.0), squeeze=(1.0, 1.0), sharpen=(0.0, 0.0),
    )  # fmt: skip
    n = 0
    for seed in range(6):
        view = render_view(calm, side_px=SIDE, seed=seed)
        rows, columns = np.mgrid[:SIDE, :SIDE]
        green = view.image[..., 1].astype(float)
        plasma = np.median(green[~view.red])
        for x, y, radius in view.cells.itertuples(index=False):
            away = np.hypot(columns - x, rows - y)
            assert green[away < 0.6 * radius].mean() < 0.85 * plasma
            n += 1
        assert np.percentile(green[~view.red], 5) > 0.85 * plasma
        assert not view.other.any()
    assert n > 20


@pytest.mark.parametrize("diameter", [10.0, 24.0, 45.0])
def test_radii_are_half_the_diameter_without_anisocytosis(diameter):
    same = replace(PLAIN, diameter_px=(diameter, diameter))
    views = [render_view(same, side_px=SIDE, seed=seed) for seed in range(6)]
    assert all(view.diameter_px == pytest.approx(diameter) for view in views)
    radii = pd.concat([view.cells[RADIUS] for view in views])
    assert len(radii) > 10
    assert radii.to_numpy() == pytest.approx(diameter / 2)


def test_radii_spread_with_anisocytosis():
    for spread in (0.05, 0.15):
        views = [
            render_view(replace(PLAIN, anisocytosis=(spread, spread)), side_px=128, seed=seed) for seed in range(12)
        ]
        logs = np.log(pd.concat([view.cells[RADIUS] for view in views]) / 12)
        assert len(logs) > 80
        assert logs.mean() == pytest.approx(0, abs=0.05)
        assert logs.std() == pytest.approx(spread, rel=0.3)


@pytest.mark.parametrize("edge", ["circle", "margin"])
def test_nothing_is_true_outside_of_the_field_of_view(edge, monkeypatch):
    fields, name = [], {"circle": "_circle", "margin": "_margins"}[edge]
    draw = getattr(variety._Painter, name)

    def kept(painter, light):
        light, field = draw(painter, light)
        fields.append(field)
        return light, field

    monkeypatch.setattr(variety._Painter, name, kept)
    chances = {f"{other}_chance": float(other == edge) for other in ("circle", "margin")}
    cut = 0
    for seed in range(12):
        view = render_view(replace(Variety(), mark_chance=0.0, **chances), side_px=SIDE, seed=seed)
        outside = fields[seed] < 2
        cut += (fields[seed] == 0).mean() > 0.05
        assert not (view.red & outside).any()
        assert view.unclear[fields[seed] == 1].all()
        x, y = view.cells[[X, Y]].round().astype(int).to_numpy().T
        assert not outside[y, x].any()
    assert len(fields) == 12
    assert cut >= 6


def test_no_cell_is_true_under_a_mark():
    marks = replace(PLAIN, mark_chance=1.0, cover=(0.8, 0.9))
    views = [render_view(marks, side_px=SIDE, seed=seed) for seed in range(8)]
    assert sum(view.other.any() for view in views) >= 4
    for view in views:
        x, y = view.cells[[X, Y]].round().astype(int).to_numpy().T
        marked = view.other & view.unclear  # what is drawn into the file over red cells
        assert not marked[y, x].any()


@pytest.mark.parametrize(
    "extreme",
    [
        {"diameter_px": (4.0, 4.0)},
        {"diameter_px": (150.0, 150.0)},
        {"cover": (3.0, 3.0)},
        {"cover": (0.0, 0.0)},
        {"anisocytosis": (1.0, 1.0)},
        {"squeeze": (0.0, 0.0), "rouleaux_chance": 1.0},
        {"elliptic": (6.0, 6.0), "elliptic_chance": 1.0, "moulded_chance": 1.0},
        {"optical_density": (3.0, 3.0)},
        {"exposure": (5.0, 5.0)},
        {"tone": (6.0, 6.0)},
        {"blur_d": (1.0, 1.0), "chromatic_d": (1.0, 1.0)},
        {"noise": (0.5, 0.5), "grain_px": (8.0, 8.0)},
        {"native": (0.1, 0.1)},
        {"native": (6.0, 6.0), "jpeg": (1, 1)},
        {"leukocytes": (60.0, 60.0), "leukocyte_chance": 1.0},
        {"platelets": (200.0, 200.0), "platelet_chance": 1.0},
        {"vignette": (3.0, 3.0), "slope": (2.0, 2.0)},
        {"inclusion_share": (1.0, 1.0), "inclusion_chance": 1.0},
        {"bubble_chance": 1.0, "fibre_chance": 1.0, "mark_chance": 1.0},
        {"empty_chance": 1.0},
    ],
    ids=lambda extreme: "-".join(extreme),
)
def test_extremes_render(extreme):
    for seed in range(2):
        with np.errstate(divide="raise", invalid="raise", over="raise"):
            view = render_view(replace(Variety(), **extreme), side_px=64, seed=seed)
        assert view.image.shape == (64, 64, 3)
        assert np.isfinite(view.cells.to_numpy()).all()
        assert (view.cells[RADIUS] > 0).all()
        if "empty_chance" in extreme or extreme.get("cover") == (0.0, 0.0):
            assert len(view.cells) == 0
            assert not view.red.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"diameter_px": (20.0, 10.0)}, r"diameter_px must be a range \(low, high\)"),
        ({"cover": (float("nan"), 1.0)}, "cover must be a range"),
        ({"haze": (0.1,)}, "haze must be a range"),
        ({"jpeg": (20, 60, 90)}, "jpeg must be a range"),
        ({"empty_chance": 1.2}, "empty_chance must be a chance between 0 and 1"),
        ({"circle_chance": -0.1}, "circle_chance must be a chance"),
        ({"mark_chance": float("nan")}, "mark_chance must be a chance"),
    ],
)
def test_bad_ranges_and_chances_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Variety(**changes)
