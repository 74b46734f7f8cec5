"""Figures made of images: Figs. 5 to 8 of the paper, contact sheets, and the picture that opens the README.

Images are uint8 arrays, [H,W,3] RGB or [H,W] grey; crops are [N,S,S,3].
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.transforms import blended_transform_factory

from rbcnb.columns import LABEL, PRED, RADIUS, TARGET, X, Y, class_names, readable
from rbcnb.evaluation.metrics import PROBABILITY
from rbcnb.plotting.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    Picture,
    bare,
    colours_of,
    new_figure,
    png,
    rc,
)
from rbcnb.segmentation.matching import FALSE, FOUND, MERGED, MISSED, SPLIT, classify_matches

_NO_LABEL = "no label"  # of a found cell, where not every cell was labelled
# How `plot_finders` shows what became of cells, in words.
_LOOKS = {
    FOUND: "blue ring",
    SPLIT: "purple dashed ring",
    FALSE: "orange-red dotted ring",
    _NO_LABEL: "grey dotted ring",
    MISSED: "orange-red cross",
    MERGED: "black triangle",
}


def show_image(ax: Axes, image: np.ndarray, title: str = "", **options) -> None:
    """Show an image on *ax*: grey arrays in grey from 0 to 255, so that contrast is the image's own."""
    image = np.asarray(image)
    if image.ndim not in (2, 3):
        raise ValueError(f"an image must be [H,W] or [H,W,3], got shape {image.shape}")
    grey = {"cmap": "gray", "vmin": 0, "vmax": 255 if image.dtype == np.uint8 else 1} if image.ndim == 2 else {}
    bare(ax).imshow(image, **grey, **options)
    ax.set_title(title)


def draw_circles(ax: Axes, cells: pd.DataFrame, *, scale: float = 1.0, colour: str = ORANGE) -> None:
    """Draw the *cells* on an image that is *scale* times as large as the one they were found in.

    With a ``label`` column each class has its own colour, and cells without a label are grey. Pixel centres are whole
    numbers, hence the half pixels.
    """
    centres = (cells[[X, Y]].to_numpy(float) + 0.5) * scale - 0.5
    colours = colours_of(class_names(cells[LABEL])) if LABEL in cells else {}
    edges = [colours.get(label, GREY) for label in cells[LABEL]] if LABEL in cells else colour
    circles = [Circle(centre, radius * scale) for centre, radius in zip(centres, cells[RADIUS], strict=True)]
    # Circles that leave the image are cut off there; they must not widen the axes.
    ax.add_collection(PatchCollection(circles, facecolor="none", edgecolor=edges, linewidth=1.4), autolim=False)


def plot_smears(images: Sequence[np.ndarray], names: Sequence[str]) -> Figure:
    """Fig. 5: whole smears in a grid, each under its name.

    Args:
        images: uint8 [H, W, 3] each.
        names: one for each image.

    Raises:
        ValueError: there is no image, or not one name for each.
    """
    if not len(images) or len(images) != len(names):
        raise ValueError(f"one name per smear is needed, got {len(images)} smears and {len(names)} names")
    columns = min(3, len(images))
    rows = -(-len(images) // columns)
    aspect = max(image.shape[0] / image.shape[1] for image in images)
    width = 9.0 / 3 * max(columns, 2)
    with rc():
        figure, axes = new_figure(width, rows * (width / columns * aspect + 0.3), rows, columns)
        for ax in axes.flat[len(images) :]:
            ax.set_axis_off()
        for ax, image, name in zip(axes.flat, images, names, strict=False):
            show_image(ax, image)
            ax.set_title(name, fontsize=9)
    return figure


def plot_upscaling(native_patch: np.ndarray, bicubic: np.ndarray, waifu2x: np.ndarray | None) -> Figure:
    """Fig. 6: a patch of a smear as taken, (a) upscaled bicubically, (b) by Waifu2x.

    Args:
        native_patch: uint8 [H, W, 3].
        bicubic: the patch enlarged, uint8.
        waifu2x: the same by Waifu2x; None leaves its panel out.
    """
    panels = [("as taken", native_patch), ("(a) bicubic", bicubic), ("(b) Waifu2x", waifu2x)]
    panels = [(title, image) for title, image in panels if image is not None]
    aspect = native_patch.shape[0] / native_patch.shape[1]
    with rc():
        figure, axes = new_figure(3.2 * len(panels), 3.2 * aspect + 0.4, 1, len(panels))
        for ax, (title, image) in zip(axes.flat, panels, strict=True):
            # Native pixels stay visible as squares; resampling them smoothly would be a third upscaling.
            show_image(ax, image, f"{title}, {image.shape[1]} × {image.shape[0]} px", interpolation="nearest")
    return figure


def plot_segmentation_steps(
    original: np.ndarray,
    equalised: np.ndarray,
    cells: pd.DataFrame,
    crop: np.ndarray,
    padded: np.ndarray,
    *,
    step: str = "equalised",
) -> Figure:
    """Fig. 7, Algorithm 1 step by step: (a) smear, (b) equalised, (c) circles found, (d) one cell, (e) zero-padded.

    (d) and (e) share one scale, so that the padding shows.

    Args:
        original: the smear, uint8 [H, W, 3].
        equalised: what was made of it, perhaps enlarged.
        cells: found circles, in pixels of *original*: ``x_px``, ``y_px``, ``radius_px``.
        crop: one cell, uint8 [S, S, 3].
        padded: its crop with zeros around, uint8 [S, S, 3].
        step: name of what was made of the smear.
    """
    scale = equalised.shape[1] / original.shape[1]
    aspect = original.shape[0] / original.shape[1]
    with rc():
        figure, axes = new_figure(12.0, 2.9 * aspect + 0.6, 1, 5, width_ratios=[2, 2, 2, 1, 1])
        a, b, c, d, e = axes.flat
        show_image(a, original, "(a) smear")
        show_image(b, equalised, f"(b) {step}")
        show_image(c, equalised, f"(c) {len(cells)} circles found")
        draw_circles(c, cells, scale=scale)
        height, width = padded.shape[:2]
        for ax, image, title in ((d, crop, "(d) one cell"), (e, padded, "(e) padded")):
            show_image(ax, image, f"{title},\n{image.shape[1]} × {image.shape[0]} px")
            margin_x, margin_y = (width - image.shape[1]) / 2, (height - image.shape[0]) / 2
            ax.set_xlim(-0.5 - margin_x, image.shape[1] - 0.5 + margin_x)
            ax.set_ylim(image.shape[0] - 0.5 + margin_y, -0.5 - margin_y)
            ax.spines[:].set(visible=True, color="#BBBBBB", linestyle=":")
    return figure


def picture_of_detections(
    image: np.ndarray,
    cells: pd.DataFrame,
    truth: pd.DataFrame | None = None,
    *,
    max_distance: float,
    exhaustive: bool = True,
    title: str = "",
) -> Picture:
    """`plot_finders` of one finder, for sliders: no letter is in the picture, and its legend is in words.

    Args:
        image: the smear, uint8 [H, W, 3].
        cells: found cells, in its pixels.
        truth: its true cells; None where they are not known.
        max_distance: pixels from a found centre to a true one that it hits.
        exhaustive: whether *truth* has every cell, so that a found cell without a partner is false.
        title: of the picture.
    """
    with rc():
        figure, axes = new_figure(7.2, 7.2 * image.shape[0] / image.shape[1], layout=None)
        ax = axes[0, 0]
        ax.set_position((0, 0, 1, 1))
        show_image(ax, image)
        handles = _draw_detections(ax, cells, truth, max_distance=max_distance, exhaustive=exhaustive)
        ax.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
    words = (f"{handle.get_label()}: {_LOOKS[handle.get_label().partition(' (')[0]]}" for handle in handles)
    return Picture(title, "; ".join(words), png(figure))


def plot_finders(
    image: np.ndarray,
    found: Mapping[str, pd.DataFrame],
    truth: pd.DataFrame | None = None,
    *,
    max_distance: float,
    exhaustive: bool = True,
) -> Figure:
    """The cells *found* in *image* by each finder, against *truth*: found, false, split, missed and merged.

    Marks differ in colour, line and shape, so that colour alone tells nothing.

    Args:
        image: [H, W, 3] uint8, a smear.
        found: finder's name -> its cells, a panel each.
        truth: ``x_px``, ``y_px`` of the true cells; without it all circles are alike.
        max_distance: of a hit, in pixels.
        exhaustive: whether every cell has a label; else one that was found without it is no mistake.
    """
    if not found:
        raise ValueError("no finder's cells are given")
    aspect = image.shape[0] / image.shape[1]
    with rc():
        figure, axes = new_figure(7.2 * len(found), 7.2 * aspect + 0.6, 1, len(found))
        for ax, (title, cells) in zip(axes.flat, found.items(), strict=True):
            show_image(ax, image, title)
            shown = _draw_detections(ax, cells, truth, max_distance=max_distance, exhaustive=exhaustive)
            ax.legend(handles=shown, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=len(shown))
            ax.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
    return figure


def _draw_detections(
    ax: Axes, cells: pd.DataFrame, truth: pd.DataFrame | None, *, max_distance: float, exhaustive: bool
) -> list[Line2D]:
    """Draws what became of *cells* on *ax*; returns what is for its legend."""
    empty = pd.DataFrame(columns=[X, Y], dtype=float)
    names, fates = classify_matches(cells, empty if truth is None else truth, max_distance=max_distance)
    if truth is None:
        names[:] = FOUND
    circles = {FOUND: (BLUE, "-"), SPLIT: (PURPLE, "--"), FALSE: (VERMILLION, ":")}
    crosses = {MISSED: (VERMILLION, "x"), MERGED: (BLACK, "^")}
    handles = []
    for name, (colour, line) in circles.items():
        chosen = cells[names == name]
        if name == FALSE and not exhaustive:
            name, colour = _NO_LABEL, GREY
        draw_circles(ax, chosen.drop(columns=LABEL, errors="ignore"), colour=colour)
        ax.collections[-1].set(linestyle=line, linewidth=2.4 if name in (SPLIT, FALSE) else 1.4)
        handles.append(Line2D([], [], color=colour, ls=line, label=f"{name} ({len(chosen)})"))
    for name, (colour, mark) in crosses.items() if truth is not None else ():
        points = truth.loc[fates == name, [X, Y]].to_numpy(float)
        style = {"color": colour, "marker": mark, "ls": "", "ms": 9, "mew": 2.4, "mfc": "none"}
        ax.plot(*points.T, **style, label=f"{name} ({len(points)})")
        handles.append(ax.lines[-1])
    return handles if truth is not None else handles[:1]


def plot_class_examples(crops: np.ndarray, labels: Sequence[str], *, per_class: int = 6, seed: int) -> Figure:
    """Up to *per_class* random crops of each class, a row per class (Fig. 8).

    Headings give each class's number and share of the labelled cells; the title gives the imbalance ratio, Eq. (5).

    Args:
        crops: uint8 [N, S, S, 3].
        labels: class names [N], empty or NaN for none.
        per_class: crops in a row.
        seed: of the draw, which is without replacement.

    Raises:
        ValueError: the lengths differ, or no crop has a label.
    """
    labels = np.asarray(labels, dtype=object)
    if len(labels) != len(crops):
        raise ValueError(f"one label per crop is needed, got {len(crops)} crops and {len(labels)} labels")
    names = class_names(labels)
    if not names:
        raise ValueError("no crop has a label, so there is no class to show")
    rng = np.random.default_rng(seed)
    n_cells = int(np.isin(labels, names).sum())
    with rc():
        figure, axes = new_figure(1.15 * per_class + 0.4, 1.42 * len(names) + 0.3, len(names), per_class)
        for ax in axes.flat:
            bare(ax)
        for row, name in zip(axes, names, strict=True):
            members = np.flatnonzero(labels == name)
            chosen = rng.choice(members, size=min(per_class, len(members)), replace=False)
            for ax, index in zip(row, chosen, strict=False):
                show_image(ax, crops[index])
            heading = f"{readable(name)}: {len(members):,} cells, {len(members) / n_cells:.1%}"
            # No title, which would widen the first column to its own middle.
            row[0].text(0, 1.06, heading, transform=row[0].transAxes, fontsize=11).set_in_layout(False)
        figure.get_layout_engine().set(hspace=0.2)
        if len(names) > 1:
            sizes = [int((labels == name).sum()) for name in names]
            figure.suptitle(
                f"{n_cells:,} cells, imbalance ratio ρ = {max(sizes) / min(sizes):.2f}\n", x=0.01, ha="left"
            )
    return figure


def plot_contact_sheet(crops: np.ndarray, titles: Sequence[str] | None = None, *, columns: int = 12) -> Figure:
    """Crops side by side in reading order, each under its title; one mosaic image, so that many stay quick.

    Args:
        crops: uint8 [N, S, S, 3].
        titles: one for each crop, of one or several lines; None for none.
        columns: crops in a row, at most.

    Raises:
        ValueError: there is no crop, or not one title for each.
    """
    crops = np.asarray(crops)
    if crops.ndim != 4 or not len(crops):
        raise ValueError(f"crops must be [N,S,S,3] with at least one crop, got shape {crops.shape}")
    if titles is not None and len(titles) != len(crops):
        raise ValueError(f"one title per crop is needed, got {len(crops)} crops and {len(titles)} titles")
    columns = min(columns, len(crops))
    rows, size = -(-len(crops) // columns), crops.shape[1]
    lines = max((str(title).count("\n") + 1 for title in titles), default=0) if titles is not None else 0
    head = round(size * 0.2 * lines)  # room for titles: a crop is 0.9 inch wide, a line of 9 points 0.15 inch high
    gap = max(1, size // 16)
    sheet = np.full((rows * (head + size + gap), columns * (size + gap), 3), 255, np.uint8)
    with rc():
        # No layout engine: it would measure every title and draw twice, seconds for a thousand crops.
        height = 0.95 * sheet.shape[0] / (size + gap)
        figure, axes = new_figure(0.95 * columns + 0.1, height + 0.1, layout=None)
        ax = axes[0, 0]
        ax.set_position((0, 0, 1, 1))
        for index, crop in enumerate(crops):
            top, left = index // columns * (head + size + gap) + head, index % columns * (size + gap)
            sheet[top : top + size, left : left + size] = crop
            if titles is not None:
                ax.text(left + size / 2, top - size * 0.03, str(titles[index]), ha="center", va="bottom", fontsize=9)
        show_image(ax, sheet)
    return figure


def draw_class_strip(axes: np.ndarray, crops: Mapping[str, np.ndarray]) -> None:
    """Fill the rows of *axes* with the first crops of each class, the class named above in its colour."""
    colours = colours_of(crops)
    for row, (name, members) in zip(axes, crops.items(), strict=True):
        for ax in row:
            bare(ax)
        for ax, crop in zip(row, members, strict=False):
            show_image(ax, crop)
        row[0].set_title(readable(name), color=colours[name])


def class_legend(ax: Axes, names: Sequence[str]) -> None:
    """A legend of circles, one per class, under *ax*."""
    colours = colours_of(names)
    marks = [Line2D([], [], marker="o", ls="", mfc="none", mew=1.5, color=colours.get(name, BLACK)) for name in names]
    ax.legend(
        marks, [readable(name) for name in names], loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=len(names)
    )


def plot_mistakes(crops: np.ndarray, mistakes: pd.DataFrame) -> Figure:
    """Mistakes as pictures: the label given, then what was predicted and how surely.

    Args:
        crops: uint8 [M, S, S, 3], of the rows of *mistakes*, in their order.
        mistakes: of `rbcnb.evaluation.confident_mistakes`; without rows, the figure says that there is none.
    """
    if mistakes.empty:
        with rc():
            figure, axes = new_figure(4.0, 0.8)
            bare(axes[0, 0]).text(0.5, 0.5, "no mistake among the held-out cells", ha="center", va="center")
        return figure
    titles = [f"{readable(row.target)}\n→{readable(row.pred)}\n{row.probability:.2f}" for row in mistakes.itertuples()]
    return plot_contact_sheet(crops, titles, columns=8)


def plot_heat(crops: np.ndarray, heat: np.ndarray, examples: pd.DataFrame, *, classes: Sequence[str]) -> Figure:
    """What speaks for the predicted class: a row per true class, right calls on the left and wrong ones on the right.

    Each example is shown twice, bare and under its heat (dark red is 1); above it the predicted class, and its
    probability.

    Args:
        crops: uint8 [M, S, S, 3], of the rows of *examples*, in their order.
        heat: of `rbcnb.training.grad_cam`, [M, S, S], 0 to 1.
        examples: of `rbcnb.evaluation.examples_by_class`.
        classes: the rows of the figure.

    Raises:
        ValueError: the lengths differ.
    """
    if not len(crops) == len(heat) == len(examples):
        raise ValueError(f"one crop, heat and row each are needed, got {len(crops)}, {len(heat)} and {len(examples)}")
    per_side = int(examples.groupby([TARGET, "right"]).size().max())
    with rc():
        height = 2.55 * len(classes) + 0.4
        widths = [1] * per_side + [0.15] + [1] * per_side  # a gap between the halves
        figure, axes = new_figure(2.3 * per_side + 1.2, height, 2 * len(classes), 2 * per_side + 1, width_ratios=widths)
        for ax in axes.flat:
            bare(ax).set_box_aspect(1)
        for ax in axes[:, per_side]:
            ax.remove()
        figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.4 / height))
        for start, right in ((0, True), (per_side + 1, False)):
            # Above the half's first column, wherever that comes to lie, and as wide as it likes.
            place = blended_transform_factory(axes[0, start].transAxes, figure.transFigure)
            text = f"{'right' if right else 'wrong'} calls, surest first"
            axes[0, start].text(0, 1 - 0.12 / height, text, transform=place, va="top", fontsize=12).set_in_layout(False)
            for i, name in enumerate(classes):
                top, bottom = axes[2 * i, start:], axes[2 * i + 1, start:]
                chosen = np.flatnonzero((examples[TARGET] == name) & (examples["right"] == right))
                for j, row in enumerate(chosen):
                    example = examples.iloc[row]
                    show_image(top[j], crops[row])
                    top[j].set_title(f"{readable(example[PRED])}\n{example[PROBABILITY]:.2f}", fontsize=8)
                    show_image(bottom[j], crops[row])
                    bottom[j].imshow(heat[row], cmap="turbo", vmin=0, vmax=1, alpha=0.45)
                if not len(chosen):
                    top[0].text(0, 0.5, "none", fontsize=9, transform=top[0].transAxes)
                if right:
                    top[0].set_ylabel(readable(name), fontsize=11, fontweight="bold")
    return figure
