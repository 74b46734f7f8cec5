"""Many smears become one table, whoever does the work."""

import numpy as np
import pandas as pd
import pytest

from rbcnb.labels.assign import label_cells
from rbcnb.segmentation.segment import FinderSpec, segment_smear
from rbcnb.segmentation.segment_many import segment_smears
from rbcnb.smears.images import Smear
from rbcnb.smears.sources import synthetic_smears

SPEC = FinderSpec(upscale="none", size_px=24)


@pytest.fixture(scope="module")
def smears():
    return list(synthetic_smears(3, seed=0, n_cells=12))


def test_cells_crops_and_truth_stand_in_one_order(smears):
    found = segment_smears(smears, SPEC)
    assert found.cells["crop"].tolist() == list(range(len(found.crops)))
    for smear in smears:
        alone = segment_smear(smear.image, SPEC)
        rows = found.cells[found.cells["smear"] == smear.name]
        np.testing.assert_array_equal(found.crops[rows["crop"]], alone.crops)
        np.testing.assert_array_equal(rows[["x_px", "y_px"]], alone.cells[["x_px", "y_px"]])
    assert found.truth.groupby("smear").size().to_dict() == {smear.name: 12 for smear in smears}
    assert found.smears["cells"].sum() == len(found.cells)
    # Nearly every cell of these sparse smears is found, and takes its label.
    assert label_cells(found.cells, found.truth)["label"].notna().mean() > 0.9


@pytest.mark.slow
def test_the_result_does_not_depend_on_jobs(smears):
    serial, parallel = (segment_smears(smears, SPEC, jobs=jobs) for jobs in (1, 2))
    pd.testing.assert_frame_equal(serial.cells, parallel.cells, check_exact=True)
    np.testing.assert_array_equal(serial.crops, parallel.crops)


def test_smears_without_truth_and_without_cells(smears):
    blank = Smear("blank.png", np.full((60, 60, 3), 220, np.uint8), None, "blank.png")
    found = segment_smears([blank, smears[0]], SPEC)
    assert found.smears["cells"].tolist()[0] == 0
    assert set(found.truth["smear"]) == {smears[0].name}
    with pytest.raises(ValueError, match="no cell was found in any of 1 smears"):
        segment_smears([blank], SPEC)
    with pytest.raises(ValueError, match="no smears"):
        segment_smears([], SPEC)
