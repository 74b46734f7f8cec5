import numpy as np
import pytest

from rbcnb.smears.synthetic.optics import EOSIN, EOSIN_PER_UM, blur, compress, expose, focus, halo, lamp, transmit
from rbcnb.smears.synthetic.red_cells import biconcave_um

UM_PER_PX = 0.175


def disc_um(radius_px=20, size=81):
    """A biconcave disc in the middle of an empty field: thickness [size,size] float32."""
    line = np.arange(size) - size // 2
    return biconcave_um(np.hypot(line[:, None], line[None, :]) / radius_px).astype(np.float32)


def test_no_thickness_lets_all_light_pass():
    np.testing.assert_array_equal(transmit(np.zeros((2, 3), np.float32)), np.ones((2, 3)))


def test_density_is_decadic():
    np.testing.assert_allclose(transmit(np.array([1.0, 2.0, 0.30103])), [0.1, 0.01, 0.5], rtol=1e-6)


def test_densities_add_where_cells_overlap():
    rho = np.linspace(0, 1, 100)
    a, b = biconcave_um(rho) * 0.09, biconcave_um(rho[::-1]) * 0.07
    np.testing.assert_allclose(transmit(a + b), transmit(a) * transmit(b))


def test_eosin_takes_green_most_and_red_least():
    light = transmit(2.0 * EOSIN_PER_UM * EOSIN)
    assert light[1] < light[2] < light[0] < 1


@pytest.mark.parametrize("sd", [0.0, 0.4, 1.3, 4.0])
def test_point_spread_keeps_energy_and_has_its_width(sd):
    point = np.zeros((61, 61), np.float32)
    point[30, 30] = 1
    spread = blur(point, sd)
    assert spread.sum() == pytest.approx(1, rel=1e-5)
    line = np.arange(61) - 30
    # The kernel is cut at three deviations and sampled at whole pixels, which tells below one.
    assert sd < 1 or np.sqrt((spread.sum(axis=0) * line**2).sum()) == pytest.approx(sd, rel=0.05, abs=0.02)


def test_focus_keeps_haemoglobin_and_fringes_cancel():
    disc = disc_um()
    for height in (-1.0, 0.0, 0.7):
        path, fringe = focus(disc[None], np.array([height]), um_per_px=UM_PER_PX, contrast=0.03)
        assert path.sum() == pytest.approx(disc.sum(), rel=1e-4)
        assert np.abs(fringe).max() > 0.01 if height else not fringe.any()
        assert fringe.sum() == pytest.approx(0, abs=1e-4 * float(np.abs(fringe).sum()) + 1e-9)


def test_fringes_are_those_of_a_wave_that_went_on_by_a_little():
    """An independent way: the wave behind a smooth phase object, carried on through its angular spectrum."""
    line = (np.arange(256) - 128) * UM_PER_PX
    bump_um = np.exp(-(line[:, None] ** 2 + line[None, :] ** 2) / (2 * 2.5**2)).astype(np.float32)
    contrast, wavelength_um, beyond_um = 0.02, 0.55, 0.5
    wave = np.exp(2j * np.pi / wavelength_um * contrast * bump_um.astype(float))
    frequency = np.fft.fftfreq(256, UM_PER_PX)
    squared = frequency[:, None] ** 2 + frequency[None, :] ** 2
    carried = np.fft.ifft2(np.fft.fft2(wave) * np.exp(-1j * np.pi * wavelength_um * beyond_um * squared))
    expected = -np.log10(np.abs(carried) ** 2)
    fringe = focus(bump_um[None], np.array([beyond_um]), um_per_px=UM_PER_PX, contrast=contrast)[1]
    assert fringe.min() < -0.001  # a bump of glass is a lens: behind it light gathers
    np.testing.assert_allclose(fringe, expected, atol=0.03 * np.abs(expected).max())


def test_fringes_turn_over_on_the_other_side_of_focus():
    above, below = (focus(disc_um()[None], np.array([z]), um_per_px=UM_PER_PX, contrast=0.03)[1] for z in (0.5, -0.5))
    np.testing.assert_allclose(above, -below, atol=1e-7)


def test_a_point_spreads_with_its_distance_from_focus():
    """To a standard deviation of the lens's and the defocus's, 0.30 um per um, whichever way it lies."""
    point = np.zeros((1, 101, 101), np.float32)
    point[0, 50, 50] = 1
    for height, sd_um in ((0.0, 0.09), (2.0, np.hypot(0.09, 0.6)), (-2.0, np.hypot(0.09, 0.6))):
        path, _ = focus(point, np.array([height]), um_per_px=0.05, contrast=0.0)
        columns = np.arange(101) - 50
        assert np.sqrt((path.sum(axis=0) * columns**2).sum()) * 0.05 == pytest.approx(sd_um, rel=0.02)


def test_planes_add():
    """Two cells at two heights are seen as each alone would be."""
    a, b = disc_um(), np.roll(disc_um(), 9, axis=1)
    together = focus(np.stack([a, b]), np.array([-0.4, 0.9]), um_per_px=UM_PER_PX, contrast=0.02)
    alone = [
        focus(plane[None], np.array([z]), um_per_px=UM_PER_PX, contrast=0.02) for plane, z in ((a, -0.4), (b, 0.9))
    ]
    for k in range(2):
        np.testing.assert_allclose(together[k], alone[0][k] + alone[1][k], atol=1e-5)


def test_halo_moves_light_and_keeps_its_mean():
    light = transmit(np.repeat(disc_um()[..., None] * np.float32(0.09), 3, axis=-1))
    bent = halo(light, sd_px=2.0, strength=0.3)
    assert bent.mean() == pytest.approx(light.mean(), rel=1e-4)
    assert bent.max() > 1.005 > light.max()


def test_lamp_is_one_in_the_middle_and_falls_off():
    field = lamp((101, 201), slope=np.zeros((2, 3)), vignette=0.1)
    assert field.shape == (101, 201, 3)
    np.testing.assert_allclose(field[50, 100], 1)
    np.testing.assert_allclose(field[0, 0], 0.9, rtol=1e-6)
    tilted = lamp((101, 201), slope=np.array([[0.1, 0, 0], [0, 0.2, 0]]), vignette=0)
    np.testing.assert_allclose(tilted[50, [0, -1], 0], [0.9, 1.1], rtol=1e-6)
    np.testing.assert_allclose(tilted[[0, -1], 100, 1], [0.8, 1.2], rtol=1e-6)


def test_shot_noise_grows_with_the_root_of_light():
    for light in (0.2, 0.8):
        grey = expose(np.full((200, 200, 3), light, np.float32), noise=0.03, rng=np.random.default_rng(0)).astype(float)
        assert grey.mean() == pytest.approx(255 * light, abs=0.2)
        assert grey.std() == pytest.approx(255 * 0.03 * np.sqrt(light), rel=0.03)


def test_jpeg_keeps_colours_and_loses_detail_with_quality():
    flat = np.full((32, 48, 3), (200, 120, 40), np.uint8)
    assert np.abs(compress(flat, 95).astype(int) - flat).max() <= 2
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    loss = [np.abs(compress(noise, quality).astype(int) - noise).mean() for quality in (98, 80, 40)]
    assert loss == sorted(loss)
