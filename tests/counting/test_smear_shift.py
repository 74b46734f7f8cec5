import re
from functools import cache

import cv2
import numpy as np
import pytest

from rbcnb.counting.smear_shift import MEANING, look_of_smear, reference_of, unlike, warning_of
from rbcnb.segmentation.segment import FinderSpec, segment_smear
from rbcnb.smears.sources import synthetic_smears

SPEC = FinderSpec(method="paper", upscale="none", size_px=48)


def look(image):
    found = segment_smear(image, SPEC)
    return look_of_smear(found.crops, found.cells, diameter_px=found.diameter_px)


@cache
def smears():
    return [smear.image for smear in synthetic_smears(24, seed=5, n_cells=30)]


@cache
def reference():
    """Of the first 18 smears; the others are held out."""
    return reference_of([look(image) for image in smears()[:18]])


def restained(image, *factors):
    """What absorbs red, green and blue that many times as much looks like."""
    return (255 * (image / 255.0) ** np.array(factors)).astype(np.uint8)


CHANGES = {
    "negative": lambda image: 255 - image,
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 5),
    "other stain": lambda image: restained(image, 1.0, 1.0, 1.6),
    "half the light": lambda image: image // 2,
    "twice the size": lambda image: cv2.resize(image, None, fx=2, fy=2),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_what_looks_different_is_warned_of(change):
    for image in smears()[18:20]:
        assert unlike(look(CHANGES[change](image)), reference())


def test_held_out_smears_of_the_kind_are_not_warned_of():
    assert sum(bool(unlike(look(image), reference())) for image in smears()[18:]) <= 1


def test_the_warning_says_what_is_different():
    beyond = unlike(look(CHANGES["blurred"](smears()[18])), reference())
    assert next(iter(beyond)) == "edge"
    assert re.match(r"unlike the training smears \(\d+\.\d times the limit\): less sharp", warning_of(beyond))
    assert "less red in the light" in warning_of(unlike(look(smears()[18] // 2), reference()))
    assert "larger cells" in warning_of(unlike(look(CHANGES["twice the size"](smears()[18])), reference()))
    assert warning_of({}) == ""


def random_looks(n, rng):
    return [dict(zip(MEANING, rng.standard_t(5, len(MEANING)), strict=True)) for _ in range(n)]


def test_false_alarms_are_one_in_as_many_smears_as_there_were():
    """Heavy-tailed numbers of like smears: of S training smears about 1 in S + 1 new ones are warned of."""
    rng = np.random.default_rng(0)
    alarms = [
        bool(unlike(new, learnt))
        for _ in range(150)
        for learnt in [reference_of(random_looks(22, rng))]
        for new in random_looks(5, rng)
    ]
    assert 0.02 <= np.mean(alarms) <= 0.08  # 1 / 23 is 0.043


def test_a_network_that_is_less_sure_is_warned_of_and_one_that_is_surer_is_not():
    rng = np.random.default_rng(0)
    looks = [others | {"confidence": float(rng.normal(1, 0.1))} for others in random_looks(5, rng)]
    of_five = reference_of(looks)
    beside_one = looks[0] | {"confidence": 1.0}
    assert not unlike(beside_one | {"confidence": 4.0}, of_five)
    assert next(iter(unlike(beside_one | {"confidence": -4.0}, of_five))) == "confidence"
    assert warning_of(unlike(beside_one | {"confidence": -4.0}, of_five)).endswith("the network is less sure")


def test_numbers_that_never_occur_together_are_unlike():
    """Two stains, each with its light: the stain of one under the light of the other is unlike both."""
    rng = np.random.default_rng(2)
    both = [
        dict.fromkeys(MEANING, 0.0) | {"density": side + rng.normal(0, 0.05), "light_red": side + rng.normal(0, 0.05)}
        for side in (-1, 1)
        for _ in range(12)
    ]
    crossed = dict.fromkeys(MEANING, 0.0) | {"density": 1.0, "light_red": -1.0}
    assert set(list(unlike(crossed, reference_of(both)))[:2]) == {"density", "light_red"}


def test_odd_smears_among_many_do_not_set_the_limit():
    rng = np.random.default_rng(1)
    looks = random_looks(120, rng)
    strange = dict.fromkeys(MEANING, 100.0)
    assert unlike(strange, reference_of([*looks, strange]))
    assert reference_of([*looks, strange]).limit < 20


def test_cells_cut_off_and_the_padding_around_small_ones_do_not_count():
    found = segment_smear(smears()[0], SPEC)
    look = look_of_smear(found.crops, found.cells, diameter_px=found.diameter_px)
    spoilt = found.crops.copy()
    spoilt[found.cells["border"]] = 255
    assert look_of_smear(spoilt, found.cells, diameter_px=found.diameter_px) == look
    padded = np.pad(found.crops, ((0, 0), (8, 8), (8, 8), (0, 0)))
    again = look_of_smear(padded[:, 8:-8, 8:-8], found.cells, diameter_px=found.diameter_px)
    assert again == look


def test_too_few_cells_or_smears_tell_nothing():
    found = segment_smear(smears()[0], SPEC)
    few = found.cells.index[~found.cells["border"]][:4]
    assert look_of_smear(found.crops[few], found.cells.loc[few], diameter_px=40) is None
    with pytest.raises(ValueError, match="3 are needed"):
        reference_of(random_looks(2, np.random.default_rng(0)))
