"""The README's numbers of the replication are those of the committed results."""

from pathlib import Path

import pandas as pd
import pytest

from rbcnb.columns import readable

ROOT = Path(__file__).parents[1]
METHODS = ("cross_entropy", "focal", "over_sampling")
RESULTS = {name: ROOT / "results" / name for name in ("replication_all_smears", "replication", "replication_resnet18")}


def told(row: pd.Series, *, decided: bool = True) -> str:
    text = f"{row['mean']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    return f"{text}, *{row['verdict']}* (p {row['p_deciding']:.2g} {row['decided_by']})" if decided else text


def column(folder: Path) -> dict[str, str]:
    """What the README's table says of one replication."""
    fits = pd.read_csv(folder / "final_trials.csv").query("protocol == 'honest'")
    of_seeds = fits.groupby(["method", "seed"])["macro_f1"].mean()  # over outer folds
    scores = of_seeds.groupby("method").agg(["mean", "std"])
    rows = {readable(name): "{mean:.3f} ± {std:.3f}".format(**scores.loc[name]) for name in METHODS}
    differences = pd.read_csv(folder / "tables" / "differences.csv").query("protocol == 'honest'")
    whole = differences[differences["rho"].isna()].set_index("claim")
    rows["focal loss − cross entropy"] = told(whole.loc["focal_beats_ce"])
    rows["over-sampling − focal loss"] = told(whole.loc["over_sampling_in_line"])
    rows["change of focal loss − cross entropy from ρ 2 to 38"] = told(whole.loc["gain_grows_with_rho"])
    return rows


def test_the_table_of_the_replication_is_that_of_the_results():
    columns = [column(folder) for folder in RESULTS.values()]
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for name in columns[0]:
        assert f"| {name} | " + " | ".join(one[name] for one in columns) + " |" in lines


@pytest.mark.parametrize(("name", "unit"), [("replication_all_smears", " macro F1 ["), ("replication_resnet18", " [")])
def test_the_first_screen_tells_the_answer_of_the_results(name, unit):
    differences = pd.read_csv(RESULTS[name] / "tables" / "differences.csv")
    row = differences.query("protocol == 'honest' and claim == 'focal_beats_ce' and rho != rho").iloc[0]
    first = (ROOT / "README.md").read_text(encoding="utf-8").split("Pasupa et al.")[0]
    assert f"**{told(row, decided=False).replace(' [', unit)}**" in first
