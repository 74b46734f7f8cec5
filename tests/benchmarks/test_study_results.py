"""The study's answer over all of its runs: one primary family, whichever run a network is in."""

import pandas as pd
import pytest
from study_results import primary_rows, published, secondary_table

ROW = {
    "claim": "focal_beats_ce",
    "question": "gain",
    "score": "macro_f1",
    "protocol": "honest",
    "rho": float("nan"),
    "prevalence": "natural",
    "first": "focal",
    "second": "cross_entropy",
    "mean": 0.03,
    "low": 0.01,
    "high": 0.05,
    "p_tost": 0.9,
    "p_against": 0.9,
    "verdict": "supported",
}


@pytest.fixture
def results(tmp_path):
    """Two published runs: two networks in one, a third in the other, whose p is small by itself."""
    runs = {"study": {"small": 0.5, "resnet50": 0.04}, "study_pretrained": {"efficientnet_lite0": 0.02}}
    for name, networks in runs.items():
        folder = tmp_path / name / "tables"
        folder.mkdir(parents=True)
        rows = pd.DataFrame([{**ROW, "architecture": network, "p": p} for network, p in networks.items()])
        other = rows.assign(prevalence="balanced", claim="", p=1e-9)
        pd.concat([rows, other]).to_csv(folder / "differences_base.csv", index=False)
        rows.assign(score="auprc", p_adjusted=[0.2, 0.01][: len(rows)]).to_csv(folder / "secondary.csv", index=False)
    (tmp_path / "replication" / "tables").mkdir(parents=True)
    return tmp_path


def test_the_primary_family_is_that_of_all_networks_of_all_runs(results):
    rows = primary_rows(published(results)).set_index("architecture")
    # Holm of 0.02, 0.04 and 0.5: three times the least, twice the next, and the last.
    assert rows["p_adjusted"].to_dict() == pytest.approx({"small": 0.5, "resnet50": 0.08, "efficientnet_lite0": 0.06})
    assert set(rows["verdict"]) == {"inconclusive"}  # alone in its run, the third would have been supported


def test_a_network_that_is_not_there_yet_is_left_out(results):
    (results / "study_pretrained" / "tables" / "differences_base.csv").rename(results / "elsewhere.csv")
    (results / "study_pretrained" / "tables" / "secondary.csv").unlink()
    (results / "study_pretrained" / "tables").rmdir()
    assert set(primary_rows(published(results))["architecture"]) == {"small", "resnet50"}


def test_secondary_questions_stand_beside_each_other_by_network(results):
    table = secondary_table(published(results))
    assert len(table) == 1
    assert table.shape[1] == 4
    assert table.iloc[0].tolist()[1:] == [
        "+0.030 [+0.010, +0.050]",
        "**+0.030 [+0.010, +0.050]**",
        "+0.030 [+0.010, +0.050]",
    ]
