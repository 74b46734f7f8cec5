"""Each figure draws its input: lines, texts and pixels are read back from the Figure and compared with the tables."""

import base64
import html
import io
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from PIL import Image
from sklearn.metrics import auc, roc_auc_score, roc_curve

from rbcnb import plotting
from rbcnb.columns import CLASSES
from rbcnb.evaluation.relative_gain import relative_improvement
from rbcnb.paper import CONFUSION, TABLE1, TABLE3
from rbcnb.plotting.evaluation import plot_roc
from rbcnb.plotting.style import THIN, colours_of, show_current_figure
from rbcnb.study import load_study_answer
from rbcnb.study.protocols import METHODS, RIVALS

RNG = np.random.default_rng(0)
FOCAL, OTHERS = TABLE1[TABLE1["method"] == "focal"], TABLE1[TABLE1["method"] != "focal"]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def line_of(ax, label):
    """The line that the legend calls *label*; seaborn labels an empty stand-in of the same colour instead of it."""
    handles, labels = ax.get_legend_handles_labels()
    colour = mpl.colors.to_rgba(handles[labels.index(label)].get_color())
    return next(line for line in ax.lines if mpl.colors.to_rgba(line.get_color()) == colour and len(line.get_ydata()))


def smear(height=60, width=80):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def found_cells():
    return pd.DataFrame({"x_px": [10.0, 40.0], "y_px": [20.0, 30.0], "radius_px": [5.0, 7.0]})


def predictions(n=200):
    target = RNG.choice(CLASSES, n, p=[0.2, 0.2, 0.6])
    logits = RNG.normal(size=(n, 3)) + 1.5 * (target[:, None] == np.array(CLASSES))
    prob = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return pd.DataFrame(prob, columns=[f"prob_{name}" for name in CLASSES]).assign(target=target)


def training_curves():
    rows = [
        {"architecture": a, "method": m, "epoch": e, "train_loss": scale / e, "train_ce": 1 / e}
        for a in ("resnet50", "densenet121")
        for m, scale in (("focal", 0.25), ("cross_entropy", 1.0))
        for e in (1, 2, 3)
    ]
    return pd.DataFrame(rows)


def differences():
    return pd.DataFrame(
        {
            "contrast": ["focal - cross entropy", "focal - over-sampling"],
            "mean": [0.03, -0.01],
            "low": [0.01, -0.03],
            "high": [0.05, 0.01],
            "verdict": ["supported", "inconclusive"],
        }
    )


def block():
    return pd.DataFrame(
        {
            "branch": ["main", "main", "shortcut", "sum"],
            "layer": ["conv 1x1", "batch norm", "projection 1x1", "add, ReLU"],
            "shape": ["64x56x56", "64x56x56", "256x56x56", "256x56x56"],
            "parameters": [4096, 128, 16384, 0],
        }
    )


def stages(kind="Bottleneck", repeat=3):
    return pd.DataFrame(
        {
            "stage": ["conv1", "relu", "layer1", "fc"],
            "kind": ["Conv2d", "ReLU", kind, "Linear"],
            "repeat": [1, 1, repeat, 1],
            "layers": ["7x7 64", "", "1x1 64, 3x3 64", "linear 3"],
            "out_channels": [64, 64, 256, 3],
            "out_size_px": [112, 112, 56, 1],
            "parameters": [9408, 0, 215808, 6147],
        }
    )


def process(protocol="honest"):
    methods = pd.DataFrame(
        {
            "architecture": ["resnet50", "resnet50"],
            "method": ["focal", "cross_entropy"],
            "settings": [7, 1],
            "trials": [35, 5],
            "alpha": [1.5, np.nan],
            "epochs": [88, 75],
        }
    )
    return plotting.plot_process(
        methods, n_smears=22, n_cells=3392, n_dev=2374, n_test=1018, n_folds=5, protocol=protocol
    )


def summary():
    crops = {name: RNG.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8) for name in CLASSES}
    cells = found_cells().assign(label=["normal", "codocyte"])
    return plotting.plot_summary(crops, smear(), cells, differences=differences(), margin=0.02)


CROPS = RNG.integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
LABELS = ["normal", "codocyte", "normal", "normal", "codocyte", "normal", "hypochromia"]
DRAWN = {
    "study_answer": lambda: plotting.plot_study_answer(
        load_study_answer().query("method == 'focal' and score == 'macro_f1'"), margin=0.02
    ),
    "fig01": plotting.plot_focal_curves,
    "fig02": lambda: plotting.plot_residual_block(block()),
    "fig03": lambda: plotting.plot_resnet(stages()),
    "fig04": lambda: plotting.plot_densenet(stages("_DenseLayer", 6)),
    "fig05": lambda: plotting.plot_smears([smear(), smear()], ["a.png", "b.png"]),
    "fig06": lambda: plotting.plot_upscaling(smear(10, 10), smear(50, 50), smear(50, 50)),
    "detections": lambda: plotting.plot_finders(smear(), {"learned": found_cells()}, found_cells()[:1], max_distance=5),
    "finders": lambda: plotting.plot_finders(
        smear(), {"learned": found_cells(), "paper": found_cells()[1:]}, found_cells(), max_distance=5
    ),
    "fig07": lambda: plotting.plot_segmentation_steps(
        smear(), smear(180, 240)[..., 0], found_cells(), smear(20, 20), smear(22, 22)
    ),
    "fig08": lambda: plotting.plot_class_examples(CROPS, LABELS, per_class=3, seed=0),
    "fig09": process,
    "fig10": lambda: plot_roc({"resnet50": [predictions()], "densenet121": [predictions(), predictions()]}),
    "fig11": lambda: plotting.plot_confusion({" ".join(key): counts for key, counts in CONFUSION.items()}),
    "fig12": lambda: plotting.plot_training_loss(training_curves()),
    "fig13": lambda: plotting.plot_relative_improvement(relative_improvement(TABLE3)),
    "alpha": lambda: plotting.plot_alpha_sweep(FOCAL, OTHERS),
    "rho": lambda: plotting.plot_scores_by_rho(TABLE3),
    "differences": lambda: plotting.plot_differences(differences(), 0.02),
    "contact": lambda: plotting.plot_contact_sheet(CROPS, LABELS, columns=3),
    "counts": lambda: plotting.plot_class_counts(pd.DataFrame({"dev": [3, 4], "test": [1, 2]}, index=CLASSES[:2])),
    "summary": summary,
}


@pytest.mark.parametrize("name", DRAWN)
def test_figures_keep_text_inside_legible_and_leave_no_traces(name):
    settings = dict(mpl.rcParams)
    figure = DRAWN[name]()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert dict(mpl.rcParams) == settings
    page = figure.bbox
    for text in figure.findobj(mpl.text.Text):
        if not text.get_text().strip() or not text.get_visible():
            continue
        assert text.get_fontsize() >= 9, text
    for part in [*figure.axes, *figure.legends]:
        box = part.get_tightbbox(canvas.get_renderer())
        if box is None:
            continue
        assert box.x0 >= page.x0 - 1, "clipped on the left"
        assert box.x1 <= page.x1 + 1, "clipped on the right"
        assert box.y0 >= page.y0 - 1, "clipped below"
        assert box.y1 <= page.y1 + 1, "clipped above"


def test_figures_show_themselves_as_png():
    image = DRAWN["counts"]()._repr_png_()
    pixels = mpl.image.imread(io.BytesIO(image), format="png")
    assert pixels.shape[0] > 300
    assert pixels[..., :3].min() < 0.5 < pixels[..., :3].max()


def test_figures_have_words_for_those_who_cannot_see_them():
    drawn = DRAWN["counts"]()
    shown = drawn._repr_mimebundle_()
    assert base64.b64decode(shown["image/png"])[1:4] == b"PNG"
    assert shown["text/plain"] == "number of cells"  # of its axes, where nobody gave it any
    drawn.alt = 'Cells of each class, "normal" < all'
    drawn.set_heading("SIMULATED: smears")
    words = 'SIMULATED: smears. Cells of each class, "normal" < all'
    shown = drawn._repr_mimebundle_()
    assert shown["text/plain"] == words
    assert f'<img alt="{html.escape(words)}"' in shown["text/html"]


def test_a_figure_of_another_library_gets_words_and_is_shown_once(capsys):
    from matplotlib import pyplot

    pyplot.figure(figsize=(1, 1)).subplots().plot([0, 1])
    show_current_figure("A rising line.")
    assert capsys.readouterr().out.count("A rising line.") == 2  # as HTML, and as the text that stands in
    assert not pyplot.get_fignums()


def test_importing_figures_loads_no_learning_library_and_no_pyplot():
    code = """
import io, sys
from rbcnb import plotting
plotting.plot_focal_curves().savefig(io.BytesIO())
print(*{"torch", "fastai", "sklearn", "matplotlib.pyplot"} & set(sys.modules))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_figure_1_is_equation_4_and_cross_entropy_is_solid():
    gammas = (2, 0, 0.5)
    ax = plotting.plot_focal_curves(gammas).axes[0]
    assert [line.get_label() for line in ax.lines] == ["γ = 2", "γ = 0 (cross entropy)", "γ = 0.5"]
    assert [line.get_linestyle() == "-" for line in ax.lines] == [False, True, False]
    for line, gamma in zip(ax.lines, gammas, strict=True):
        p_t = line.get_xdata()
        assert (p_t.min(), p_t.max()) == (1e-3, 1)
        np.testing.assert_allclose(line.get_ydata(), -((1 - p_t) ** gamma) * np.log(p_t), rtol=1e-12, atol=1e-15)


def test_the_studys_answer_is_a_line_per_network_in_their_order():
    table = pd.DataFrame(
        {"architecture": ["resnet50", "small"], "mean": [-0.1, 0.1], "low": [-0.2, 0], "high": [0, 0.3]}
    )
    ax = plotting.plot_study_answer(table, margin=0.02).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["lesson net", "ResNet-50"]  # from below
    bars = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 2.4]
    np.testing.assert_allclose(bars, [[0, 0.3], [-0.2, 0]])
    assert texts(ax)[1:] == ["+0.100 [+0.000, +0.300]", "−0.100 [−0.200, +0.000]"]
    assert ax.get_xlim()[1] > 0.3


def test_figure_1_can_be_read_on_a_phone():
    figure = plotting.plot_focal_curves()
    on_phone = min(1, 358 / figure.bbox.width)  # a page of 390 pixels has margins
    sizes = [text.get_fontsize() * figure.dpi / 72 * on_phone for text in figure.findobj(mpl.text.Text)]
    assert min(sizes) >= 12


def test_residual_block_shows_every_layer_and_sums_parameters():
    shown = "\n".join(texts(plotting.plot_residual_block(block()).axes[0]))
    assert "64 × 56 × 56, 4,096 parameters" in shown
    assert "projection 1×1" in shown
    assert f"{4096 + 128 + 16384:,} parameters in all" in shown
    assert "identity" not in shown
    main_only = block().query("branch != 'shortcut'")
    assert "identity" in texts(plotting.plot_residual_block(main_only).axes[0])
    with pytest.raises(ValueError, match="main"):
        plotting.plot_residual_block(block().query("branch == 'sum'"))


@pytest.mark.parametrize(("repeat", "dense", "links"), [(3, False, 3), (6, True, 21)])
def test_stages_draw_their_connections_and_parameters(repeat, dense, links):
    plot = plotting.plot_densenet if dense else plotting.plot_resnet
    ax = plot(stages(repeat=repeat)).axes[0]
    # A dense block of n layers has n (n + 1) / 2 connections, a residual stage one shortcut per block.
    (arcs,) = ax.collections
    assert len(arcs.get_segments()) == links
    shown = texts(ax)
    assert f"layer1: {repeat} × Bottleneck\n1×1 64, 3×3 64" in shown
    assert "256 × 56 × 56" in shown
    assert f"{9408 + 215808 + 6147:,} in all" in shown
    bars = [patch.get_width() for patch in ax.patches if patch.get_height() == pytest.approx(0.18)]
    assert bars[2] / bars[0] == pytest.approx(215808 / 9408)


def test_smears_are_shown_under_their_names():
    images = [smear(), smear(), smear(), smear()]
    figure = plotting.plot_smears(images, list("abcd"))
    shown = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title(loc="left") for ax in shown] == list("abcd")
    for ax, image in zip(shown, images, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), image)
    with pytest.raises(ValueError, match="one name per smear"):
        plotting.plot_smears(images, ["a"])


def test_upscaling_leaves_out_what_cannot_run():
    patch, large = smear(10, 10), smear(50, 50)
    assert len(plotting.plot_upscaling(patch, large, large).axes) == 3
    assert [ax.images[0].get_array().shape[0] for ax in plotting.plot_upscaling(patch, large, None).axes] == [10, 50]


@pytest.mark.parametrize("scale", [2, 3])
def test_segmentation_steps_draw_circles_in_upscaled_pixels(scale):
    cells = found_cells()
    upscaled = smear(60 * scale, 80 * scale)[..., 0]
    figure = plotting.plot_segmentation_steps(smear(), upscaled, cells, smear(20, 20), smear(22, 22))
    (circles,) = [c for c in figure.axes[2].collections if isinstance(c, PatchCollection)]
    boxes = [path.get_extents() for path in circles.get_paths()]
    # Pixel 10 covers 9.5 to 10.5, so its centre lies at 10.5 pixels from the edge, at -0.5 on the axis.
    assert [(b.x0 + b.x1) / 2 for b in boxes] == pytest.approx((cells["x_px"] + 0.5) * scale - 0.5)
    assert [(b.y0 + b.y1) / 2 for b in boxes] == pytest.approx((cells["y_px"] + 0.5) * scale - 0.5)
    assert [b.width / 2 for b in boxes] == pytest.approx(cells["radius_px"] * scale, rel=1e-3)
    # The crop and the padded crop share one scale: axes equally wide, in pixels.
    spans = [np.ptp(figure.axes[i].get_xlim()) for i in (3, 4)]
    assert spans == [22, 22]


def test_circles_that_leave_the_smear_do_not_widen_it():
    cells = found_cells().assign(x_px=[0.0, 79.0])
    figure = plotting.plot_segmentation_steps(smear(), smear()[..., 0], cells, smear(20, 20), smear(22, 22))
    figure.savefig(io.BytesIO())
    assert figure.axes[2].get_xlim() == (-0.5, 79.5)


def test_class_examples_are_of_their_class_and_drawn_by_seed():
    def chosen(seed):
        figure = plotting.plot_class_examples(CROPS, LABELS, per_class=3, seed=seed)
        rows = np.array(figure.axes).reshape(3, 3)
        return [[ax.images[0].get_array() for ax in row if ax.images] for row in rows]

    for name, row in zip(CLASSES, chosen(0), strict=True):
        members = [crop for crop, label in zip(CROPS, LABELS, strict=True) if label == name]
        assert len(row) == min(3, len(members))
        assert all(any(np.array_equal(image, member) for member in members) for image in row)
    assert all(
        np.array_equal(a, b) for x, y in zip(chosen(1), chosen(1), strict=True) for a, b in zip(x, y, strict=True)
    )
    assert any(not np.array_equal(chosen(0)[2], chosen(seed)[2]) for seed in range(1, 5))
    with pytest.raises(ValueError, match="one label per crop"):
        plotting.plot_class_examples(CROPS, ["normal"], seed=0)


def test_contact_sheet_holds_every_crop_in_reading_order():
    sheet = plotting.plot_contact_sheet(CROPS, columns=3).axes[0].images[0].get_array()
    tile = sheet.shape[1] // 3
    for index, crop in enumerate(CROPS):
        top, left = index // 3 * tile, index % 3 * tile
        np.testing.assert_array_equal(sheet[top : top + 16, left : left + 16], crop)
    assert texts(plotting.plot_contact_sheet(CROPS, LABELS).axes[0]) == LABELS
    with pytest.raises(ValueError, match="one title per crop"):
        plotting.plot_contact_sheet(CROPS, ["x"])


def test_process_tells_the_studys_numbers():
    shown = " ".join(texts(process().axes[0]))
    for fact in ("22 smears", "3,392 cells", "dev: 2,374", "test: 1,018", "5 folds", "35", "α = 1.5, 88 epochs"):
        assert fact in shown
    assert "test set" not in shown  # the honest protocol chooses nothing there
    assert "on the test set" in " ".join(texts(process("paper").axes[0]))
    with pytest.raises(ValueError, match="protocol"):
        process("other")


def test_roc_areas_are_scikit_learns():
    table = predictions()
    ax = plot_roc({"resnet50": [table]}).axes[0]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    expected = [f"{c}: {roc_auc_score(table['target'] == c, table[f'prob_{c}']):.3f}" for c in CLASSES]
    assert labels == expected
    for label, name in zip(labels, CLASSES, strict=True):
        line = line_of(ax, label)
        area = auc(line.get_xdata(), line.get_ydata())
        assert area == pytest.approx(roc_auc_score(table["target"] == name, table[f"prob_{name}"]))


def test_roc_of_several_seeds_is_their_mean_in_a_band_that_holds_them():
    informed = predictions()
    ignorant = informed.sample(frac=1, random_state=0).assign(target=informed["target"].to_numpy())  # knows nothing
    ax = plot_roc({"resnet50": [informed, ignorant]}).axes[0]
    for name, label, band in zip(CLASSES, ax.get_legend().get_texts(), ax.collections, strict=True):
        areas = [roc_auc_score(table["target"] == name, table[f"prob_{name}"]) for table in (informed, ignorant)]
        assert label.get_text() == f"{name}: {np.mean(areas):.3f} ± {np.std(areas, ddof=1):.3f}"
        line = line_of(ax, label.get_text())
        assert auc(line.get_xdata(), line.get_ydata()) == pytest.approx(np.mean(areas), abs=0.005)
        edge = band.get_paths()[0].vertices
        for table in (informed, ignorant):
            fpr, tpr, _ = roc_curve(table["target"] == name, table[f"prob_{name}"])
            at = np.interp(0.5, fpr, tpr)
            there = edge[np.isclose(edge[:, 0], 0.5), 1]
            assert there.min() - 1e-9 <= at <= there.max() + 1e-9


def test_roc_without_a_class_says_so():
    table = predictions().query("target != 'codocyte'")
    ax = plot_roc({"resnet50": [table]}).axes[0]
    assert ax.get_legend().get_texts()[0].get_text() == "codocyte: no ROC (0 cells)"
    with pytest.raises(ValueError, match="prob_"):
        plot_roc({"resnet50": [table[["target"]]]})


def test_confusion_prints_what_the_paper_prints():
    figure = plotting.plot_confusion({"a": CONFUSION["densenet121", "cross_entropy"]})
    # Fig. 11 (a), row by row and margins included, as printed in the paper.
    at = {}
    for text in figure.axes[0].texts:
        x, y = text.get_position()
        at.setdefault((round(y), round(x)), []).append(text.get_text())
    assert at[0, 0] == ["87", "8.5%"]
    assert at[0, 2] == ["13", "1.3%"]
    assert at[1, 0] == ["7", "0.7%"]
    assert at[2, 2] == ["746", "73.3%"]
    assert [at[i, 3] for i in range(3)] == [["87.0%", "13.0%"], ["76.2%", "23.8%"], ["94.2%", "5.8%"]]
    assert [at[3, j] for j in range(3)] == [["71.9%", "28.1%"], ["83.5%", "16.5%"], ["95.4%", "4.6%"]]
    assert at[3, 3] == ["91.3%", "8.7%"]


def test_confusion_of_a_class_never_met_has_no_recall():
    names = ["a", "b"]
    shown = texts(plotting.plot_confusion({"m": pd.DataFrame([[3, 0], [0, 0]], names, names)}).axes[0])
    assert shown.count("–") == 4  # recall and precision of b, each with its complement
    with pytest.raises(ValueError, match="rows and columns differ"):
        plotting.plot_confusion({"m": pd.DataFrame([[3, 0], [0, 0]], names, ["b", "a"])})


def test_training_loss_draws_own_loss_and_cross_entropy():
    curves = training_curves()
    figure = plotting.plot_training_loss(curves)
    assert len(figure.axes) == 4
    for i, architecture in enumerate(("resnet50", "densenet121")):
        for j, column in enumerate(("train_loss", "train_ce")):
            for method, label in (("focal", "focal loss"), ("cross_entropy", "cross entropy")):
                rows = curves[(curves["architecture"] == architecture) & (curves["method"] == method)]
                line = line_of(figure.axes[2 * i + j], label)
                np.testing.assert_array_equal(line.get_ydata(), rows[column])
                high = rows[["train_loss", "train_ce"]].to_numpy().max()
                assert figure.axes[2 * i + j].get_ylim()[0] == 0
                assert figure.axes[2 * i + j].get_ylim()[1] > high  # of both panels, which share the axis
    with pytest.raises(ValueError, match="missing: train_ce"):
        plotting.plot_training_loss(curves.drop(columns="train_ce"))


def test_alpha_sweep_draws_each_alpha_and_the_other_methods():
    figure = plotting.plot_alpha_sweep(FOCAL, OTHERS)
    for ax, architecture in zip(figure.axes, ("densenet121", "resnet50"), strict=True):
        expected = FOCAL[FOCAL["architecture"] == architecture]
        points = next(line for line in ax.get_lines() if line.get_marker() == "o")
        np.testing.assert_allclose(points.get_xydata(), expected[["alpha", "macro_f1"]])
        rest = OTHERS[OTHERS["architecture"] == architecture].set_index("method")
        assert line_of(ax, "cross entropy").get_ydata()[0] == rest.loc["cross_entropy", "macro_f1"]


def test_the_legend_of_the_alpha_sweep_stays_on_the_figure():
    methods = [method for method in (*METHODS, *RIVALS) if method != "focal"]
    many = pd.concat([OTHERS[OTHERS["method"] == "cross_entropy"].assign(method=method) for method in methods])
    for architectures in (1, 2):
        names = list(FOCAL["architecture"].unique()[:architectures])
        rows, others = (table[table["architecture"].isin(names)] for table in (FOCAL, many))
        figure = plotting.plot_alpha_sweep(rows, others)
        figure.draw_without_rendering()
        legend = figure.legends[0].get_window_extent()
        assert legend.x0 >= 0
        assert legend.x1 <= figure.bbox.width


def test_alpha_sweep_averages_seeds_and_shows_their_reach():
    rows = pd.concat([FOCAL.assign(macro_f1=0.5), FOCAL.assign(macro_f1=0.7)])
    ax = plotting.plot_alpha_sweep(rows, OTHERS).axes[0]
    (container,) = ax.containers
    points, _, (bars,) = container
    np.testing.assert_allclose(points.get_ydata(orig=False), 0.6)
    np.testing.assert_allclose(np.array([segment[:, 1] for segment in bars.get_segments()]), [[0.5, 0.7]] * 7)


def test_relative_improvement_draws_published_beside_ours():
    ours = relative_improvement(TABLE3)
    published = ours.assign(macro_f1=1.0)
    intervals = pd.DataFrame({"rho": 2.03, "score": ["macro_f1", "auroc"], "low": [-1.0, -2.0], "high": [3.0, 300.0]})
    left, right = plotting.plot_relative_improvement(ours, published, intervals=intervals).axes
    assert (left.get_title(loc="left"), right.get_title(loc="left")) == ("published", "this run")
    np.testing.assert_allclose(line_of(left, "macro F1").get_ydata(), 1.0)
    np.testing.assert_allclose(line_of(right, "macro F1").get_xydata(), ours[["rho", "macro_f1"]])
    drawn = [segment.tolist() for bars in right.collections for segment in bars.get_segments()]
    assert drawn[0] == [[2.03, -1.0], [2.03, 3.0]]
    beside = line_of(right, "AUROC").get_xdata()[0]
    assert drawn[1:] == [[[beside, -2.0], [beside, 100.0]]]
    assert beside > 2.03 == line_of(left, "AUROC").get_xdata()[0]


def test_scores_by_rho_draw_table3():
    ax = plotting.plot_scores_by_rho(TABLE3, score="auroc").axes[1]
    expected = TABLE3.query("architecture == 'resnet50' and method == 'focal'")
    np.testing.assert_allclose(line_of(ax, "focal loss").get_xydata(), expected[["rho", "auroc"]])


def test_of_scores_by_rho_the_primary_methods_alone_have_bands():
    draws = pd.concat([TABLE3, TABLE3.assign(auroc=TABLE3["auroc"] - 0.1)])
    resnet = draws.query("architecture == 'resnet50'")
    third = resnet.query("method == 'focal'").assign(method="ldam")
    ax = plotting.plot_scores_by_rho(pd.concat([resnet, third]), score="auroc").axes[0]
    assert len(ax.collections) == 2
    for band, method in zip(ax.collections, ("focal", "cross_entropy"), strict=True):
        reach = resnet[resnet["method"] == method]["auroc"]
        assert (band.get_datalim(ax.transData).y0, band.get_datalim(ax.transData).y1) == (reach.min(), reach.max())
    assert line_of(ax, "LDAM").get_linewidth() == THIN["lw"] < line_of(ax, "focal loss").get_linewidth()


def test_differences_draw_interval_mean_and_verdict():
    rows = differences()
    ax = plotting.plot_differences(rows, 0.02).axes[0]
    intervals = [line.get_xdata().tolist() for line in ax.get_lines() if line.get_linewidth() == 2.4]
    assert intervals == rows[["low", "high"]].to_numpy().tolist()
    means = [line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() == "o"]
    assert means == rows["mean"].tolist()
    assert texts(ax) == ["+0.030 [+0.010, +0.050]\nsupported", "−0.010 [−0.030, +0.010]\ninconclusive"]
    band = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((-0.02, 0.02))
    decided = rows.assign(p_deciding=[0.0004, np.nan], decided_by=["of no difference", ""])
    adjusted = plotting.plot_differences(decided, 0.02).axes[0]
    wanted = ["supported, p < 0.001 of no difference", "inconclusive"]
    assert [text.splitlines()[1] for text in texts(adjusted)] == wanted


def test_class_counts_are_bar_lengths():
    table = pd.DataFrame({"dev": [3, 4000], "test": [1, 2]}, index=CLASSES[:2])
    ax = plotting.plot_class_counts(table).axes[0]
    assert [patch.get_width() for patch in ax.patches] == [3, 4000, 1, 2]
    assert texts(ax) == ["3", "4,000", "1", "2"]


def test_summary_shows_the_cells_in_their_colours_and_the_answer():
    figure = summary()
    (circles,) = [c for ax in figure.axes for c in ax.collections if isinstance(c, PatchCollection)]
    colours = colours_of(CLASSES)
    expected = [mpl.colors.to_rgba(colours[name]) for name in ("normal", "codocyte")]
    np.testing.assert_allclose(circles.get_edgecolor(), expected)
    assert texts(figure.axes[-1]) == texts(plotting.plot_differences(differences(), 0.02).axes[0])


def test_colours_stay_with_their_names():
    assert colours_of(["focal", "x"])["focal"] == colours_of(["y", "x", "focal"])["focal"]
    assert len(set(colours_of([*CLASSES, "echinocyte", "elliptocyte"]).values())) == 5


def test_a_picture_of_detections_has_its_legend_in_words():
    image, truth = np.full((60, 80, 3), 200, np.uint8), pd.concat([found_cells()[:1], found_cells()[:1] + 30])
    shown = plotting.picture_of_detections(image, found_cells(), truth, max_distance=5, title="mine")
    assert shown.title == "mine"
    assert shown.words == (
        "found (1): blue ring; split (0): purple dashed ring; false (1): orange-red dotted ring; "
        "missed (1): orange-red cross; merged (0): black triangle"
    )
    pixels = np.asarray(Image.open(io.BytesIO(shown.file)).convert("RGB"))
    assert pixels.shape[1] / pixels.shape[0] == pytest.approx(80 / 60, rel=0.01)
    x, y = (np.array([10.0, 20.0]) + 0.5) * pixels.shape[1] / 80  # the found cell
    left = pixels[int(y), int(x - 5 / 80 * pixels.shape[1])]
    assert left[2] > left[0] + 50  # its ring is blue
    partly = plotting.picture_of_detections(image, found_cells(), truth, max_distance=5, exhaustive=False)
    assert "no label (1): grey dotted ring" in partly.words
    alone = plotting.picture_of_detections(image, found_cells(), max_distance=5)
    assert alone.words == "found (2): blue ring"
