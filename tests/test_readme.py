"""The README's and the results page's numbers are those of the committed results."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from safetensors.numpy import load_file
from study_results import RUNS, answer_table, page_tables, primary_rows, published

from rbcnb.study import load_study_answer
from rbcnb.training.models import build_model, count_parameters

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PRINTED = {
    "densenet121": "DenseNet-121",
    "resnet50": "ResNet-50",
    "small": "a small net",
    "efficientnet_lite0": "ImageNet's weights",
}

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_first_screen_tells_the_answer_of_the_results():
    first = (ROOT / "README.md").read_text(encoding="utf-8").split("## Two commands")[0]
    rows = primary_rows(published(RESULTS)).set_index("architecture")
    assert set(PRINTED) <= set(rows.index)
    for network, name in PRINTED.items():
        mean, low, high = rows.loc[network, ["mean", "low", "high"]]
        assert re.search(rf"{name}\s+\*\*{re.escape(f'{mean:+.3f} [{low:+.3f}, {high:+.3f}]')}\*\*", first)
        assert high < 0.02  # "a gain of 0.02 is excluded for each"
        assert rows.loc[network, "verdict"] == "not supported"
    assert (rows.loc[["densenet121", "resnet50"], "p_adjusted"] < 0.05).all()  # "focal loss is worse"
    assert (rows.loc[["densenet121", "resnet50"], "high"] < 0).all()
    seeds, smears = rows["n_seeds"].unique(), rows["n_groups"].unique()
    assert f"{smears.item():.0f} smears" in first
    assert f"{seeds.item():.0f} seeds" in first


def test_the_lesson_ends_with_the_answer_of_the_results():
    cells = json.loads((ROOT / "notebooks" / "03_loss_exploration.ipynb").read_text(encoding="utf-8"))["cells"]
    text = " ".join("".join(cell["source"]) for cell in cells)
    assert "no network gained by focal loss, and the two largest lost" in text
    pd.testing.assert_frame_equal(load_study_answer(), answer_table(published(RESULTS)).round(4))
    rows = primary_rows(published(RESULTS)).set_index("architecture")
    assert (rows["mean"] < 0).all()
    assert (rows.loc[["densenet121", "resnet50"], "high"] < 0).all()
    table1 = pd.concat(pd.read_csv(RESULTS / run / "tables" / "table1.csv") for run in RUNS)
    for method in ("focal", "cross_entropy"):  # "scored highest with either loss"
        scores = table1[(table1["protocol"] == "honest") & (table1["method"] == method)].set_index("architecture")
        assert scores["macro_f1"].idxmax() == "efficientnet_lite0"
    divided = pd.concat(pd.read_csv(RESULTS / run / "tables" / "secondary.csv") for run in RUNS)
    divided = divided[(divided["first"] == "cross_entropy_priors_out") & (divided["second"] == "cross_entropy")]
    assert (divided.loc[divided["score"] == "balanced_accuracy", "low"] > 0).all()
    assert (divided.loc[divided["score"] == "macro_f1", "high"] < 0).all()


def test_the_readme_is_one_screen():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert len(text.split()) <= 900


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_of_the_pages_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    anchors = {
        page: {re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in lines if line[:1] == "#"}
        for page, lines in ((page, page.read_text(encoding="utf-8").splitlines()) for page in PAGES)
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text)):
        name, _, anchor = target.partition("#")
        if name.startswith(("http:", "https:")):
            continue
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), target
        assert not anchor or anchor in anchors[there], target


@pytest.mark.slow
def test_the_tables_of_the_results_page_are_those_of_the_results():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for name, table in page_tables(RESULTS).items():
        assert f"<!-- {name} -->\n{table}\n<!-- end of {name} -->" in page


def test_the_weights_that_pages_count_are_there():
    weights = load_file(ROOT / "rbcnb" / "segmentation" / "finder.safetensors").values()
    finder, lesson = sum(array.size for array in weights), count_parameters(build_model("small", 3))
    assert f"with {lesson:,} weights" in (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert f"U-Net of {round(finder, -3):,} weights" in (ROOT / "docs" / "finder.md").read_text(encoding="utf-8")


def test_what_the_results_page_says_of_the_cost_is_what_the_fits_took():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    tables = [pd.read_csv(RESULTS / run / f"{name}.csv") for run in RUNS for name in ("final_trials", "fold_trials")]
    hours = pd.concat(tables).drop_duplicates("key").groupby("architecture")["seconds"].sum() / 3600
    names = {"resnet50": "ResNet-50", "densenet121": "DenseNet-121", "small": "the lesson net"}
    for network, name in (names | {"efficientnet_lite0": "EfficientNet-Lite0:"}).items():
        assert f"{name} {hours[network]:.1f} h" in page.replace("\n", " ")
