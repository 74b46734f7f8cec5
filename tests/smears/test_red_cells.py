import numpy as np
import pytest

from rbcnb.columns import CLASSES, CODOCYTE, HYPOCHROMIA, NORMAL
from rbcnb.smears.synthetic.red_cells import biconcave_um, draw_disc, draw_outline, draw_patch

RHO = np.linspace(0, 1, 2001)


def test_evans_fung_disc():
    """Evans and Fung (1972): 0.81 um thick in the middle, 2.57 um at most, 94 um^3 for a radius of 3.91 um."""
    profile = biconcave_um(RHO)
    assert profile[0] == pytest.approx(0.81)
    assert profile[-1] == 0
    assert profile.max() == pytest.approx(2.57, abs=0.02)
    volume = np.trapezoid(profile * 2 * np.pi * RHO, RHO) * 3.91**2
    assert volume == pytest.approx(94, abs=2)


def test_evans_fung_surface():
    """The same paper: 135 um^2 of membrane, twice that of the upper half as a surface of revolution."""
    radius, z = 3.91 * RHO, biconcave_um(RHO) / 2
    strips = np.hypot(np.diff(radius), np.diff(z)) * np.pi * (radius[1:] + radius[:-1])
    assert 2 * strips.sum() == pytest.approx(135, rel=0.02)


def thickness_um(label: str, *, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    """Haemoglobin path [um] at the relative radii RHO of one randomly drawn cell."""
    disc = draw_disc(label, difficulty=difficulty, rng=rng)
    body = np.interp(RHO, np.linspace(0, 1, len(disc.body_um)), disc.body_um)
    return np.where(RHO < 1, body + disc.mound_um * np.exp(-((RHO / disc.mound_width) ** 2)), 0)


def pallor_diameter(profile: np.ndarray) -> float:
    """Width of the pale middle, as a fraction of the diameter, at half of its depth below the thickest ring."""
    top = int(np.argmax(profile))
    pale = profile[:top] < (profile[:top].min() + profile[top]) / 2
    return float(RHO[:top][pale].max()) if pale.any() else 0.0


@pytest.mark.parametrize("difficulty", [0, 0.5, 1])
def test_pallor_defines_normal_and_hypochromic_cells(difficulty):
    rng = np.random.default_rng(0)
    normal = [pallor_diameter(thickness_um(NORMAL, difficulty=difficulty, rng=rng)) for _ in range(200)]
    pale = [pallor_diameter(thickness_um(HYPOCHROMIA, difficulty=difficulty, rng=rng)) for _ in range(200)]
    assert max(normal) < 0.5 < min(pale)


@pytest.mark.parametrize("difficulty", [0, 0.5, 1])
def test_only_codocytes_have_a_mound(difficulty):
    rng = np.random.default_rng(1)
    for label in CLASSES:
        for _ in range(50):
            profile = thickness_um(label, difficulty=difficulty, rng=rng)
            inner = profile[: int(0.5 * len(RHO))]
            assert (inner[0] > 1.02 * inner.min()) == (label == CODOCYTE)
            assert profile[-1] == pytest.approx(0, abs=1e-9)
            assert profile.min() >= 0


def test_hypochromic_cells_hold_less_haemoglobin():
    rng = np.random.default_rng(2)
    volume = {
        label: np.mean([np.mean(thickness_um(label, difficulty=0.5, rng=rng) * RHO) for _ in range(100)])
        for label in CLASSES
    }
    assert volume[HYPOCHROMIA] < 0.8 * volume[NORMAL]


def test_an_unknown_class_is_named():
    with pytest.raises(ValueError, match="acanthocyte"):
        draw_disc("acanthocyte", difficulty=0.5, rng=np.random.default_rng(0))


@pytest.mark.parametrize("difficulty", [0, 1])
def test_outlines_enclose_the_unit_circles_area(difficulty):
    rng = np.random.default_rng(3)
    for _ in range(50):
        outline = draw_outline(difficulty=difficulty, rng=rng)
        corners = outline * np.exp(1j * np.linspace(0, 2 * np.pi, len(outline), endpoint=False))
        polygon = np.sum(corners.conj() * np.roll(corners, -1)).imag / 2  # shoelace
        assert polygon == pytest.approx(np.pi, rel=0.005)
        assert outline.min() > 0.4


@pytest.mark.parametrize("label", CLASSES)
@pytest.mark.parametrize("radius", [3.0, 20.0, 60.0])
def test_patches_have_the_radius_of_their_area(label, radius):
    rng = np.random.default_rng(4)
    for difficulty in (0, 0.5, 1):
        left, top, patch, area = draw_patch(100.3, 57.8, radius, label, difficulty=difficulty, rng=rng)
        assert np.sqrt(area.sum() / np.pi) == pytest.approx(radius, rel=0.01, abs=0.25)
        rows, columns = np.nonzero(area)
        assert (columns.mean() + left, rows.mean() + top) == pytest.approx((100.3, 57.8), abs=0.04 * radius + 0.3)
        assert patch.dtype == np.float32
        assert not patch[~area].any()
        assert patch.min() >= 0
        assert not area[[0, -1]].any()
        assert not area[:, [0, -1]].any()
