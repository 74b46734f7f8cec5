"""The runner's bookkeeping, without running a notebook: what is stale, what it costs, what it reports."""

import json
import platform
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from rbcnb._utils.duration import duration
from rbcnb.cli import main
from rbcnb.columns import NORMAL
from rbcnb.paper import TABLE2
from rbcnb.plotting.sliders import with_picture
from rbcnb.smears.images import SmearError
from rbcnb.study.imbalance_lesson import SURE_FACTOR, SURE_SHARE
from rbcnb.study.ladder import ladder_counts
from rbcnb.study.protocols import METHODS, images_per_fit, in_folds, settings_of
from rbcnb.training.splits import SplitError
from rbcnb.training.trial import Trial
from rbcnb.workflow import cost, notebooks
from rbcnb.workflow.cost import Expected, check_enough, study_images
from rbcnb.workflow.fingerprints import file_stamp, fingerprints, source_stamp
from rbcnb.workflow.notebook_parameters import ParameterError
from rbcnb.workflow.report import write_report
from rbcnb.workflow.run import Run

VALUES = {
    "protocol": "both", "architectures": ["small"], "alphas": [0.5, 1.5], "gamma": 2.0, "learning_rates": [1e-3, 1e-2],
    "epochs": 4, "n_folds": 3, "n_seeds": 2, "n_tries": 2, "gammas": [2.0], "weight_decays": [0.0],
    "label_smoothings": [0.0], "methods": list(METHODS), "ladder_methods": ["focal", "cross_entropy"], "n_draws": 2,
    "rival_draws": 0,
    "arms": ["table2"], "n_outer": 3, "n_splits": 1, "leakage_repeats": 0, "learning_rate": 1e-3, "batch_size": 32,
    "pretrained": False, "seed": 0, "schedule": "cosine", "augment": "flips_turns", "first_split_methods": [],
    "small_epochs": 0, "precision": "float32", "rhos": TABLE2["rho"].tolist(), "ladder_splits": 0,
    "imbalance_methods": ["focal", "ldam"], "imbalance_seeds": 0, "imbalance_epochs": 5,
}  # fmt: skip
COUNTS = {"codocyte": 345, "hypochromia": 356, "normal": 2691}


def stamps(parameters: dict, *, source: str = "synthetic") -> dict[str, str]:
    return fingerprints(notebooks.find_notebooks(), parameters, source=source)


@pytest.fixture
def parameters():
    return {path.stem: {"run": "/a", "jobs": 1, "seed": 0} for path in notebooks.find_notebooks()}


def test_a_new_reading_makes_stale_what_uses_labels(parameters, tmp_path):
    paths, file = notebooks.find_notebooks(), tmp_path / "readings.csv"
    before = fingerprints(paths, parameters, source="synthetic", readings=file_stamp(file))
    assert before == stamps(parameters)
    file.write_text("a reading")
    after = fingerprints(paths, parameters, source="synthetic", readings=file_stamp(file))
    assert [name[:2] for name in before if before[name] != after[name]] == ["02", "04", "05", "06"]


def test_the_six_notebooks_stand_in_order():
    names = [path.stem for path in notebooks.find_notebooks()]
    assert [name[:2] for name in names] == ["01", "02", "03", "04", "05", "06"]
    assert [path.stem for path in notebooks.find_notebooks(["03", "01_segmentation"])] == [names[0], names[2]]
    with pytest.raises(ParameterError, match="no notebook 09"):
        notebooks.find_notebooks(["09"])


def test_a_change_makes_later_notebooks_stale_and_no_earlier_one(parameters):
    before = stamps(parameters)
    assert before == stamps(parameters)
    changed = stamps(parameters | {"04_cv_tuning": {**parameters["04_cv_tuning"], "seed": 1}})
    stale = {name for name in before if before[name] != changed[name]}
    assert stale == {"04_cv_tuning", "05_final_evaluation", "06_imbalance_study"}


def test_place_and_speed_make_nothing_stale_and_other_smears_make_all_but_the_lesson(parameters):
    moved = {name: {**values, "run": "/b", "jobs": 7, "scheduler": "tcp://c:1"} for name, values in parameters.items()}
    assert stamps(moved) == stamps(parameters)
    other = stamps(parameters, source="else")
    same = {name for name, stamp in stamps(parameters).items() if other[name] == stamp}
    assert same == {"03_loss_exploration"}


def test_the_stamp_of_a_folder_follows_its_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"1")
    (tmp_path / "runs").mkdir()
    before = source_stamp(str(tmp_path), "")
    (tmp_path / "runs" / "cells.csv").write_text("a run inside the folder is none of its smears")
    assert before == source_stamp(str(tmp_path), "")
    (tmp_path / "labels.csv").write_text("smear,x_px,y_px,label\n")
    assert before != source_stamp(str(tmp_path), "")
    (tmp_path / "labels.csv").unlink()
    (tmp_path / "b.png").write_bytes(b"2")
    assert source_stamp(str(tmp_path), "") != before
    assert source_stamp("synthetic", "") == "synthetic"


def test_the_files_of_a_segmented_folder_are_no_strange_labels(tmp_path):
    for name in ("cells.csv", "smears.csv", "finder.json", "scale.json"):
        (tmp_path / name).write_text("{}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = source_stamp(str(tmp_path), "")
    (tmp_path / "cells.csv").write_text("others")
    assert source_stamp(str(tmp_path), "") != before


def test_what_is_left_alone_counts_as_it_was_last_run(parameters):
    """--only 05 after a change builds on the old 04; a later full run must see that 05 is stale."""
    first = stamps(parameters)
    planned = {name: {**values, "seed": 1} for name, values in parameters.items()}
    paths = notebooks.find_notebooks()
    recorded = {name: stamp for name, stamp in first.items() if not name.startswith("05")}
    only_05 = fingerprints(paths, planned, source="synthetic", recorded=recorded)
    assert {name for name in first if only_05[name] != first[name]} == {"05_final_evaluation"}
    assert only_05["05_final_evaluation"] != stamps(planned)["05_final_evaluation"]


def test_done_means_that_the_results_are_there_too(tmp_path):
    name = "01_segmentation"
    run = Run.at(tmp_path, notebook=name)
    done = {name: {"fingerprint": "f", "file": "notebooks/01_segmentation.ipynb"}}
    made = ["cells.csv", "truth.csv", "crops.npy", "finder.json", "smear.png"]
    assert run.missing_results(name) == made
    for file in (*made, done[name]["file"]):
        assert not notebooks._is_done(run, name, done, {name: "f"})
        (tmp_path / file).parent.mkdir(exist_ok=True)
        run.save_text("x", file)
    assert notebooks._is_done(run, name, done, {name: "f"})
    assert not notebooks._is_done(run, name, done, {name: "g"})
    for file in (*made, done[name]["file"]):
        (tmp_path / file).write_text("y")
        assert not notebooks._is_done(run, name, done, {name: "f"}), "it is not as it was written"
        run.save_text("x", file)
    (tmp_path / "manifest.json").unlink()
    assert not notebooks._is_done(run, name, done, {name: "f"}), "nothing vouches for what is there"


@pytest.mark.slow
def test_one_at_a_time_fills_a_run(tmp_path, monkeypatch, capsys):
    code = (
        "import sys, time; from rbcnb.workflow import notebooks\n"
        "notebooks._execute = lambda *_, **__: (print('at work', flush=True), time.sleep(600))\n"
        "notebooks.reproduce(out=sys.argv[1], profile='smoke')\n"
    )
    command = ["reproduce", "--profile", "smoke", "--out", str(tmp_path / "run")]
    with subprocess.Popen([sys.executable, "-c", code, command[-1]], stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout.readline() == "at work\n"
            assert main(command) == 2
            printed = capsys.readouterr().err
            assert f"{command[-1]}: another process (pid {first.pid} on {platform.node()}) is at work there" in printed
        finally:
            first.kill()
    monkeypatch.setattr(notebooks, "_execute", lambda *_, **__: None)
    assert main(command) == 0  # what was killed holds nothing


def expected(n_smears: int, **per_smear: int) -> Expected:
    """Smears that each have so many cells of each class."""
    rows = [(f"{i}.png", f"{i}.png", name) for i in range(n_smears) for name, n in per_smear.items() for _ in range(n)]
    cells = pd.DataFrame(rows, columns=["smear", "group", "label"]).reset_index(names="cell")
    return Expected(cells, n_smears, image_px=1e5)


def test_too_little_is_said_before_anything_runs():
    few, values = expected(6, normal=8, codocyte=2, stomatocyte=1), {**VALUES, "smears": "x"}
    with pytest.raises(SplitError, match=r"only 4 smears \(groups\): 5 folds need 5\. .* or say --set n_folds=4\. For"):
        check_enough(few, {**values, "n_folds": 5})
    check_enough(few, {"protocol": "paper", "n_folds": 5, "smears": "x"})
    check_enough(few, {**values, "n_folds": 4})
    with pytest.raises(ValueError, match="the ladder asks for ldam: add that to methods"):
        check_enough(few, {**values, "ladder_methods": ["ldam", "focal"]})
    with pytest.raises(SplitError, match="n_splits 4 must be at most n_outer, 3, or whole repetitions"):
        check_enough(few, {**values, "n_splits": 4})
    assert few.studied == {"normal": 48, "codocyte": 12}
    rare = r"two classes of at least 10 labelled cells, and there are 48 normal, 6 codocyte; label more"
    with pytest.raises(SmearError, match=rare):
        check_enough(expected(6, normal=8, codocyte=1), values)
    with pytest.raises(SmearError, match="x: no smear has labelled cells"):
        check_enough(expected(6), {"protocol": "paper", "n_folds": 5, "smears": "x"})


@pytest.mark.parametrize("n_smears", [1, 2, 3, 4, 5, 6, 9])
@pytest.mark.parametrize("only", [9, 3, 2])  # smears that have codocytes
def test_a_remedy_for_too_few_smears_does_not_fail_itself(n_smears, only):
    few, values = expected(n_smears, normal=20, codocyte=12), {**VALUES, "n_folds": 5, "n_splits": 3, "smears": "x"}
    late = few.cells["smear"].isin([f"{i}.png" for i in range(only, 9)]) & (few.cells["label"] == "codocyte")
    few = replace(few, cells=few.cells[~late])
    if n_smears == only == 9:
        check_enough(few, values)
        return
    with pytest.raises(SplitError) as refused:
        check_enough(few, values)
    assert str(refused.value).endswith("For a model to count with, these smears will do: rbcnb train")
    if settings := dict(re.findall(r"--set (\w+)=(\d+)", str(refused.value))):
        check_enough(few, values | {name: int(n) for name, n in settings.items()})
        return
    for n_outer, n_folds in ((2, 2), (3, 2), (2, 3)):  # none is offered where there is none
        with pytest.raises(SplitError):
            check_enough(few, values | {"n_outer": n_outer, "n_splits": n_outer, "n_folds": n_folds})


@pytest.mark.parametrize(
    ("seconds", "words"), [(4, "4 s"), (89, "89 s"), (120, "2 min"), (3 * 3600, "3.0 h"), (10 * 86400, "10 days")]
)
def test_durations_are_said_as_a_person_would(seconds, words):
    assert duration(seconds) == words


def test_where_others_are_at_work_a_run_is_expected_to_take_longer(monkeypatch):
    clock = iter(range(0, 1000, 3))  # between two looks at the thread's clock, three seconds pass on the wall's
    used = iter(range(1000))
    monkeypatch.setattr(cost.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(cost.time, "thread_time", lambda: float(next(used)))
    assert cost.measure_contention(at_least_s=1.0) == pytest.approx(3.0)
    monkeypatch.undo()
    values = {"smears": "synthetic", "data": "", "n_smears": 2, "cells_per_smear": 5, "seed": 0, "types": [NORMAL]}
    values |= {"size_px": 24, "diameter_px": 0.0, "upscale": "none"}
    seconds = {}
    for slowness in (1.0, 3.0):
        monkeypatch.setattr(cost, "measure_contention", lambda slowness=slowness: slowness)
        seconds[slowness] = cost.estimate(values, notebooks=["01", "03"], jobs=1)
    assert seconds[3.0] == pytest.approx({name: 3 * quiet_s for name, quiet_s in seconds[1.0].items()})


def test_time_left_follows_this_run():
    expected = {"01": 10.0, "02": 20.0, "04": 60.0}
    assert notebooks.time_left(expected, {}) == "at least 2 min left"
    assert notebooks.time_left(expected, {"01": 40.0}) == "about 5 min left"  # four times as slow as estimated
    assert notebooks.time_left(expected, {"01": 40.0, "02": 20.0}) == "about 2 min left"  # 60 s in place of 30
    assert notebooks.time_left(expected, {"01": 10.0}, running="02", running_s=15.0) == "about 65 s left"
    late = notebooks.time_left(expected, {"01": 10.0}, running="02", running_s=60.0)
    assert late == "60 s so far, longer than the 20 s expected; at least 3 min for the notebooks after it"
    first = notebooks.time_left(expected, {}, running="01", running_s=20.0)
    assert first == "20 s so far, longer than the 10 s expected; at least 3 min for the notebooks after it"
    last = notebooks.time_left(expected, {"01": 10.0, "02": 20.0}, running="04", running_s=600.0)
    assert last == "10 min so far, longer than the 60 s expected"


def test_a_notebook_that_takes_too_long_says_so_now_and_then(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(notebooks.time, "perf_counter", lambda: now[0])
    look = notebooks._overdue({"01": 10.0, "02": 20.0}, {}, "01_segmentation")
    for now[0] in (5.0, 10.5, 12.0, 13.0, 20.0, 25.0, 30.0):
        look()
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" so far")[0] for line in lines] == ["01_segmentation: 12 s", "01_segmentation: 25 s"]


def widget_output(**more: str) -> nbformat.NotebookNode:
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "m", "version_major": 2, "version_minor": 0}}
    return nbformat.v4.new_output("display_data", view | {"text/plain": "VBox(children=(…"} | more)


def test_an_executed_notebook_keeps_pictures_of_its_widgets_and_no_bar(tmp_path):
    words = "A picture with sliders"
    data, _ = with_picture({"text/plain": "VBox(children=(…"}, b"png", words)
    figure = nbformat.v4.new_output("display_data", {"image/png": "aa", "text/plain": "<Figure>"})
    shown = nbformat.v4.new_code_cell("explore()", outputs=[widget_output(), widget_output(**data), figure])
    injected = nbformat.v4.new_code_cell("seed = 1", metadata={"tags": ["injected-parameters"]})
    state = {"application/vnd.jupyter.widget-state+json": {"state": {"m": {}}, "version_major": 2, "version_minor": 0}}
    path = tmp_path / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[injected, shown], metadata={"widgets": state}), path)
    notebooks._make_still(path)
    still = nbformat.read(path, as_version=4)
    assert "widgets" not in still.metadata
    assert still.cells[0].metadata["slideshow"] == {"slide_type": "skip"}
    assert [sorted(output.data) for output in still.cells[1].outputs] == [
        ["application/vnd.jupyter.widget-view+json", "image/png", "text/html", "text/plain"],
        ["image/png", "text/plain"],
    ]
    page, _ = pytest.importorskip("nbconvert").HTMLExporter().from_notebook_node(still)
    assert f'<img alt="{words}" src="data:image/png;base64,' in page
    assert "VBox(children" not in page
    assert "html-manager" not in page  # the code that draws widgets, from elsewhere


def test_cost_adds_up_every_fit():
    images = study_images(VALUES, COUNTS)
    expected = 0.0
    for protocol in ("paper", "honest"):
        trials = in_folds(settings_of(Trial(protocol=protocol, epochs=4), VALUES), 3)
        expected += sum(images_per_fit(trial, COUNTS, n_folds=3) for trial in trials)
    assert images["04"]["small"] == pytest.approx(expected)
    # Paper: five finals; honest: four methods at two seeds. No finals on folds.
    dev = 0.7 * 3392 * 4
    under, over = 0.7 * 345 * 3 * 4, 0.7 * 2691 * 3 * 4
    assert images["05"]["small"] == pytest.approx((3 * dev + under + over) + 2 * (2 * dev + under + over))
    leaking = study_images({**VALUES, "leakage_repeats": 2}, COUNTS)
    fold = 0.7 * 3392 * 4 * (2 / 3 + 1 / 9)
    assert leaking["05"]["small"] - images["05"]["small"] == pytest.approx(2 * 2 * 3 * fold)
    thrice = study_images({**VALUES, "protocol": "honest", "n_splits": 3}, COUNTS)
    once = study_images({**VALUES, "protocol": "honest"}, COUNTS)
    assert all(thrice[name]["small"] == pytest.approx(3 * once[name]["small"]) for name in ("04", "05", "06"))
    first = study_images({**VALUES, "protocol": "honest", "n_splits": 3, "ladder_splits": 1}, COUNTS)
    assert first == {**thrice, "06": once["06"]}
    rivals = study_images({**VALUES, "protocol": "honest", "rival_draws": 1}, COUNTS)
    assert rivals["06"]["small"] > once["06"]["small"]  # under- and over-sampling climb as well
    alone = study_images({**VALUES, "protocol": "paper"}, COUNTS)
    # The paper's ladder: both losses once on every rung; the whole data set has been fitted before.
    rungs = [counts for counts in ladder_counts(COUNTS).values() if counts != COUNTS]
    assert len(rungs) == 6
    assert alone["06"]["small"] == pytest.approx(2 * 4 * 0.7 * sum(sum(counts.values()) for counts in rungs))
    # The honest one keeps the same shares of the training cells, twice; but for rounding that is twice the paper's.
    assert once["06"]["small"] == pytest.approx(2 * alone["06"]["small"], rel=2e-3)
    assert images["06"]["small"] == pytest.approx(alone["06"]["small"] + once["06"]["small"])
    more = study_images({**VALUES, "protocol": "honest", "n_draws": 3}, COUNTS)
    whole = 0.7 * sum(COUNTS.values()) * 4  # a third draw has not been fitted on the whole data set
    assert more["06"]["small"] == pytest.approx(1.5 * once["06"]["small"] + 2 * whole)


def test_cost_counts_the_lesson_on_imbalance_in_its_own_network():
    values = {**VALUES, "architectures": ["resnet18"], "protocol": "honest"}
    without, images = (study_images({**values, "imbalance_seeds": n}, COUNTS) for n in (0, 4))
    assert "small" not in without["06"]
    assert {name: images[name].pop("small") for name in ("04", "05")} == {"04": 0, "05": 0}
    rung = 71 / 345 * 0.7 * (345 + 356) + 0.7 * 2691  # Table 2's last, of the training cells
    sure = SURE_FACTOR * SURE_SHARE * 5  # of one method, in epochs of the rung
    assert images["06"].pop("small") == pytest.approx(4 * 3 * (3 * 5 + sure) * rung, rel=2e-3)
    assert images == without
    assert study_images({**values, "protocol": "paper", "imbalance_seeds": 4}, COUNTS)["06"]["small"] == 0


def test_the_report_opens_offline_and_holds_everything(tmp_path):
    import pandas as pd

    from rbcnb.plotting import plot_focal_curves

    run = Run.at(tmp_path / "mine")
    run.save_table(pd.DataFrame({"claim": ["a < b & c"], "verdict": ["inconclusive"]}), "verdict")
    run.save_table(pd.DataFrame({"x": [1.5]}), "table1")
    for name in ("fig09_honest", "fig09_paper", "fig01"):
        run.save_figure(plot_focal_curves(), name)
    run.save_table(pd.DataFrame(), "empty")
    (run.folder / "figures" / ".fig02.77.part.png").write_bytes(b"half of a")  # what a killed run leaves behind
    (run.folder / "tables" / ".table2.77.part.csv").write_text("half of a")
    run.save_record({
        "profile": "smoke",
        "parameters": {"01_segmentation": {"smears": "synthetic"}, "02_labelling_audit": {}},
        "notebooks": {"01_segmentation": {"seconds": 3.2, "file": "notebooks/01_segmentation.ipynb"}},
    })  # fmt: skip
    page = write_report(run).read_text()
    assert "a &lt; b &amp; c" in page
    assert page.index("has not compared the losses yet") < page.index("inconclusive") < page.index("tables/table1.csv")
    assert page.index("tables/table1.csv") < page.index("data:image/webp;base64,") < page.index("<dt>macro F1")
    assert "://" not in page
    assert ".part" not in page
    assert page.index("Fig. 1. ") < page.index("Fig. 9 paper. ") < page.index("Fig. 9 honest. ")
    assert page.index("not what is true of dogs") < page.index("inconclusive")
    assert "3 s" in page
    assert "not done" in page
    (run.folder / "tables" / "table1.csv").write_bytes(b"\xff\xfe")
    (run.folder / "figures" / "fig01.png").write_bytes(b"no picture")
    page = write_report(run).read_text()
    assert "table1.csv: cannot be read as a table" in page
    assert "fig01.png: cannot be read" in page
    assert "inconclusive" in page


def test_pictures_of_smears_make_no_heavy_report(tmp_path):
    import numpy as np

    run, rng = Run.at(tmp_path), np.random.default_rng(0)
    run.save_image(rng.integers(100, 160, (600, 800, 3)).astype(np.uint8), "figures/fig05")
    assert (run.folder / "figures" / "fig05.png").stat().st_size > 900_000
    assert write_report(run).stat().st_size < 700_000


def test_skipped_files_are_remembered(tmp_path):
    import pandas as pd

    run = Run.at(tmp_path)
    assert notebooks.skipped_files(run) == []
    run.save_table(pd.DataFrame({"error": ["x.png: torn"]}), "skipped")
    assert notebooks.skipped_files(run) == ["x.png: torn"]


def test_notebooks_are_committed_without_outputs_and_short():
    for path in notebooks.find_notebooks():
        cells = json.loads(Path(path).read_text())["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        # The lesson has eight explorers, the stills of each, and four exercises.
        assert len(code) <= (30 if path.stem == "03_loss_exploration" else 24)
        assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
        for cell in code:
            assert "import *" not in "".join(cell["source"])


@pytest.mark.parametrize("path", notebooks.find_notebooks(), ids=lambda path: path.stem)
def test_as_slides_a_notebook_tells_one_thing_at_a_time(path):
    """Every cell says where it belongs; a slide begins with its text, and no reader scrolls through many cells."""
    cells = nbformat.read(path, as_version=4).cells
    kinds = [cell.metadata.get("slideshow", {}).get("slide_type") for cell in cells]
    assert set(kinds) <= {"slide", "subslide", "fragment", "skip", "-"}
    assert kinds[0] == "slide"
    assert "skip" in [
        kind for cell, kind in zip(cells, kinds, strict=True) if cell.metadata.get("tags") == ["parameters"]
    ]
    length = 0
    for cell, kind in zip(cells, kinds, strict=True):
        if cell.cell_type == "markdown" and re.match("#{1,2} ", cell.source):
            assert kind == "slide", cell.source
        if kind in ("slide", "subslide"):
            assert cell.cell_type == "markdown", cell.source
            length = 0
        length += kind != "skip"
        assert length <= 4, cell.source
