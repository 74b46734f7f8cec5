"""Red-cell finders on smears of many microscopes: python benchmarks/segmentation.py [DATASET ...]

Prints a table with one row per data set and finder: images, cells, recall (R), precision (P), F1, images in which less
than half of the cells was found, cells found per second, and this speed as a multiple of that of `paper`. DATASET is a
folder of labelled smears in Chula's layout, or with boxes as VOC, COCO or CSV (see benchmarks/labelled_smears.py);
without one, rendered smears of three difficulties take its place.

Finders: every method of rbcnb, nothing upscaled; `hough_tutorial`, Hough circles with the settings of OpenCV's tutorial
(minDist rows / 16, param1 100, param2 30, radius 1 to 30); `hough_tuned`, Hough circles tuned on Chula's and rendered
smears; and, where scikit-image is installed, its `watershed` (Otsu's threshold on green, holes filled, peak_local_max
of the distance) and `log_blobs`, Laplacian of Gaussian. The last three are given the diameter that rbcnb's
`estimate_diameter` finds, so that they meet a new microscope no worse prepared than `paper`; their time includes it.

Matching: one to one, as many pairs as possible. Where cells are boxes, a find hits the box that holds its centre; where
they are points, one within 0.9 R (Chula: 18 px). R is the typical radius: the median of half the root of the area of
the image's boxes that do not touch the border (of the set's, where the image has fewer than five), 20 px for Chula, the
median true radius of a rendered smear. Left out are true cells nearer than 1.1 R to the border, boxes that touch it,
and finds without a partner that near; a find whose partner is left out is neither hit nor false. A find on a white cell
or on dirt is false.

Truth has limits. Chula's centres were clicked by hand, about 5 px off, 7 % of them over half a radius, and cells
without a click count as false. Of a set in which many cells have no box (BCCD) only recall has a meaning: name it with
--recall-only, and P and F1 are left empty.

Speed is cells found per second of processor time, one thread, images decoded before: each image's median over rounds in
which the finders take turns.

--per-image FILE.csv: one row per image and finder. --scores: of finders that give a score, how many finds of each score
are hits. --halves: each set in two halves by the digest of the file (the README's table of Chula). --rare: recall of
codocytes and hypochromic cells over all labelled images of Chula. --axes: F1 of `learned` along each axis of the
renderer, on views where one thing is set and the rest varies, also beyond what it was trained on, and where it falls
below 0.9 (benchmarks/axes.py). --changes: whether `learned` finds the same cells behind a circle, in margins, larger,
smaller or in other colours (benchmarks/changed_smears.py). --diameters: how often the estimated diameter is within 10 %
of the truth, on rendered smears of 12 to 120 px a cell that cover 10 to 75 %, and on Chula of twice the median radius
of the circles that rbcnb's finder, given 40 px, pairs with labels.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from axes import along_axes
from changed_smears import under_changes
from labelled_smears import Dataset, DatasetError, LabelledImage, halves, read_chula, read_dataset, rendered

from rbcnb.columns import BORDER, CODOCYTE, HYPOCHROMIA, LABEL, RADIUS, SCORE, X, Y
from rbcnb.segmentation.diameter import estimate_diameter
from rbcnb.segmentation.matching import score_counts, scores_of_pairs
from rbcnb.segmentation.segment import METHODS, FinderSpec, find_cells
from rbcnb.smears.synthetic.render import SmearSpec, render_smear

Finder = Callable[[np.ndarray], pd.DataFrame]
BASELINE = "paper"
COUNTS = ["n_truth", "n_hits", "n_false", "n_found"]
HIT, LEFT_OUT, FALSE = "hit", "left out", "false"


def rbcnb_finder(method: str, **settings) -> Finder:
    return partial(find_cells, spec=FinderSpec(method=method, upscale="none", size_px=8, **settings))


def circles(values: np.ndarray) -> pd.DataFrame:
    """Circles [N, 3] as the table that every finder returns."""
    return pd.DataFrame(np.asarray(values, float).reshape(-1, 3), columns=[X, Y, RADIUS])


def diameter_of(image: np.ndarray) -> float:
    """The diameter that rbcnb estimates; NaN where it sees no cell."""
    try:
        return estimate_diameter(image)
    except ValueError:
        return float("nan")


def given_diameter(find: Callable[[np.ndarray, float], pd.DataFrame]) -> Finder:
    """A finder that needs a diameter, as one that estimates it; it finds nothing where there is none."""

    def found(image: np.ndarray) -> pd.DataFrame:
        diameter = diameter_of(image)
        return find(image, diameter) if diameter > 0 else circles([])

    return found


def hough(image: np.ndarray, **settings) -> pd.DataFrame:
    grey = cv2.medianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 5)
    found = cv2.HoughCircles(grey, cv2.HOUGH_GRADIENT, dp=1, **settings)
    return circles([] if found is None else found.reshape(-1, found.shape[-1])[:, :3])


def tutorial_hough(image: np.ndarray) -> pd.DataFrame:
    return hough(image, minDist=image.shape[0] / 16, param1=100, param2=30, minRadius=1, maxRadius=30)


def tuned_hough(image: np.ndarray, diameter: float) -> pd.DataFrame:
    low, high = round(0.3 * diameter), round(0.575 * diameter)
    return hough(
        image, minDist=0.75 * diameter, param1=50, param2=max(1, 0.3 * diameter), minRadius=low, maxRadius=high
    )


def watershed(image: np.ndarray, diameter: float) -> pd.DataFrame:
    from scipy.ndimage import binary_fill_holes, center_of_mass, distance_transform_edt
    from skimage.feature import peak_local_max
    from skimage.filters import gaussian, threshold_otsu
    from skimage.segmentation import watershed as flood

    green = gaussian(image[..., 1], 1)
    mask = binary_fill_holes(green < threshold_otsu(green))
    distance = gaussian(distance_transform_edt(mask), 1)
    peaks = peak_local_max(distance, min_distance=round(0.35 * diameter), labels=mask.astype(int))
    if not len(peaks):
        return circles([])
    markers = np.zeros(mask.shape, int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = flood(-distance, markers, mask=mask)
    centres = np.array(center_of_mass(mask, labels, np.arange(1, len(peaks) + 1)))[:, ::-1]
    areas = np.bincount(labels.ravel(), minlength=len(peaks) + 1)[1:]
    return circles(np.column_stack([centres, np.sqrt(areas / np.pi)]))


def log_blobs(image: np.ndarray, diameter: float) -> pd.DataFrame:
    from skimage.feature import blob_log

    sigma = diameter / 2 / np.sqrt(2)
    blobs = blob_log(255 - image[..., 1], min_sigma=0.6 * sigma, max_sigma=1.15 * sigma, num_sigma=5, threshold=0.05)
    return circles(np.column_stack([blobs[:, 1::-1], blobs[:, 2] * np.sqrt(2)]))


def finders(names: Sequence[str] | None = None) -> dict[str, Finder]:
    """The finders that can be run here, or those of them that are named, `paper` first.

    Raises ValueError for a name that is not among them.
    """
    known: dict[str, Finder] = {name: rbcnb_finder(name) for name in sorted(METHODS, key=lambda name: name != BASELINE)}
    known |= {"hough_tutorial": tutorial_hough, "hough_tuned": given_diameter(tuned_hough)}
    try:
        import skimage  # noqa: F401
    except ImportError:
        print("scikit-image is not installed: its watershed and LoG blobs are left out", file=sys.stderr)
    else:
        known |= {"watershed": given_diameter(watershed), "log_blobs": given_diameter(log_blobs)}
    if unknown := [name for name in names or () if name not in known]:
        raise ValueError(f"no finder {', '.join(unknown)}; choose from {', '.join(known)}")
    return {name: find for name, find in known.items() if names is None or name in names}


def fates(found: pd.DataFrame, partner: np.ndarray, labelled: LabelledImage, shape: tuple[int, ...]) -> np.ndarray:
    """What each find is, by its *partner* in the truth: "hit", "false" or "left out": [N] object."""
    truth_scored = labelled.scored(labelled.truth, shape)
    hit = np.zeros(len(found), bool)
    hit[partner >= 0] = truth_scored[partner[partner >= 0]]
    false = (partner < 0) & labelled.scored(found[[X, Y]], shape)
    return np.where(hit, HIT, np.where(false, FALSE, LEFT_OUT)).astype(object)


def score_image(found: pd.DataFrame, labelled: LabelledImage, shape: tuple[int, ...]) -> dict[str, float]:
    """n_truth, n_hits, n_false, precision, recall, f1_score of what was found in an image of *shape* (H, W, ...)."""
    return scores_of_pairs(
        labelled.match(found),
        scored_cells=labelled.scored(found[[X, Y]], shape),
        scored_truth=labelled.scored(labelled.truth, shape),
    )


def compare(
    datasets: Iterable[Dataset], methods: dict[str, Finder], *, rounds: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs every finder on every image.

    Returns:
        One row per image and finder: ``dataset``, ``image``, ``finder``, the scores of `score_image`, ``n_found``,
        ``seconds`` (median over *rounds*), ``diameter_px`` (twice the median radius found), ``estimated_px`` (what
        `estimate_diameter` says) and ``true_px`` (twice the typical radius).
        One row per find of the finders that give scores: ``dataset``, ``image``, ``finder``, ``score``, ``fate``.
    """
    rows, finds, warm = [], [], set()
    for dataset in datasets:
        for labelled in dataset.images:
            image = labelled.read()
            for name in set(methods) - warm:  # what a first call loads is not its time
                methods[name](image)
                warm.add(name)
                if "torch" in sys.modules:
                    sys.modules["torch"].set_num_threads(1)
            seconds: dict[str, list[float]] = {name: [] for name in methods}
            cells = {}
            for _, (name, find) in product(range(rounds), methods.items()):
                start = time.process_time()
                cells[name] = find(image)
                seconds[name].append(time.process_time() - start)
            sizes = {"estimated_px": diameter_of(image), "true_px": 2 * labelled.radius_px}
            for name, found in cells.items():
                where = {"dataset": dataset.name, "image": labelled.name, "finder": name}
                rows.append(
                    where
                    | score_image(found, labelled, image.shape)
                    | {"n_found": len(found), "seconds": float(np.median(seconds[name]))}
                    | {"diameter_px": 2 * found[RADIUS].median()}
                    | sizes
                )
                if SCORE in found:
                    fate = fates(found, labelled.match(found), labelled, image.shape)
                    finds.append(pd.DataFrame({SCORE: found[SCORE], "fate": fate}).assign(**where))
    scored = ["dataset", "image", "finder", SCORE, "fate"]
    return pd.DataFrame(rows), pd.concat(finds)[scored] if finds else pd.DataFrame(columns=scored)


def summarise(images: pd.DataFrame, *, recall_only: Iterable[str] = ()) -> pd.DataFrame:
    """The printed table, one row per data set and finder, from the rows of `compare`."""
    rows = []
    for (dataset, finder), group in images.groupby(["dataset", "finder"], sort=False):
        n_truth, n_hits, n_false, n_found = (int(group[name].sum()) for name in COUNTS)
        scores = score_counts(n_truth, n_hits, n_false)
        known = dataset not in set(recall_only)
        rows.append(
            {
                "dataset": dataset,
                "finder": finder,
                "images": len(group),
                "cells": n_truth,
                "R": scores["recall"],
                "P": scores["precision"] if known else np.nan,
                "F1": scores["f1_score"] if known else np.nan,
                "under_half": int((group["recall"] < 0.5).sum()),
                "cells_per_s": n_found / group["seconds"].sum(),
            }
        )
    table = pd.DataFrame(rows)
    baseline = table[table["finder"] == BASELINE].set_index("dataset")["cells_per_s"]
    return table.assign(times_paper=table["cells_per_s"] / table["dataset"].map(baseline))


def calibration(finds: pd.DataFrame) -> pd.DataFrame:
    """Of each finder and tenth of the score: ``finds`` that are hit or false, and the share of ``hits`` among them."""
    counted = finds[finds["fate"] != LEFT_OUT]
    tenth = (counted[SCORE].astype(float) * 10).clip(0, 9).astype(int)
    hits = (counted["fate"] == HIT).groupby([counted["finder"], tenth], sort=True)
    table = hits.agg(finds="size", hits="mean").reset_index()
    score = table.pop(SCORE)
    table.insert(1, SCORE, [f"{i / 10:.1f}-{(i + 1) / 10:.1f}" for i in score])
    return table


def rare_recall(root: Path, methods: dict[str, Finder]) -> pd.DataFrame:
    """Recall of the rare classes over every labelled image of Chula; recall needs no exhaustive labels."""
    classes = (CODOCYTE, HYPOCHROMIA)
    counts = {(name, kind): np.zeros(2, int) for name in methods for kind in classes}
    for labelled in read_chula(root, every=True).images:
        if not labelled.truth[LABEL].isin(classes).any():
            continue
        image = labelled.read()
        inside = labelled.scored(labelled.truth, image.shape)
        for name, find in methods.items():
            hit = np.isin(np.arange(len(labelled.truth)), labelled.match(find(image)))
            for kind in classes:
                chosen = (labelled.truth[LABEL] == kind) & inside
                counts[name, kind] += chosen.sum(), (chosen & hit).sum()
    return pd.DataFrame(
        [{"finder": name, "class": kind, "cells": n, "recall": k / n} for (name, kind), (n, k) in counts.items()]
    )


def synthetic_diameters() -> Iterator[tuple[str, np.ndarray, float]]:
    """Smears and the diameter of their median cell."""
    settings = product((0.2, 0.5, 0.8), (12, 18, 26, 40, 60, 85, 120), (0.1, 0.4, 0.75))
    for i, (difficulty, diameter, cover) in enumerate(settings):
        n_cells = 14 if diameter > 80 else 45
        height = int((0.75 * n_cells * np.pi / 4 * diameter**2 / cover) ** 0.5)
        spec = SmearSpec(height, int(height / 0.75), n_cells, diameter, difficulty=difficulty)
        image, truth = render_smear(spec, seed=[5, i])
        yield f"synthetic, cover {cover}", image, 2 * truth[RADIUS].median()


def chula_diameters(root: Path) -> Iterator[tuple[str, np.ndarray, float]]:
    find = rbcnb_finder(next(name for name in METHODS if name != BASELINE), diameter_px=40.0)
    for half in halves(read_chula(root)):
        for labelled in half.images:
            image = labelled.read()
            cells = find(image)
            yield half.name, image, 2 * cells.loc[(labelled.match(cells) >= 0) & ~cells[BORDER], RADIUS].median()


def diameter_errors(smears: Iterable[tuple[str, np.ndarray, float]]) -> pd.DataFrame:
    rows = [(source, estimate_diameter(image) / diameter - 1) for source, image, diameter in smears]
    errors = pd.DataFrame(rows, columns=["smears", "error"]).groupby("smears")["error"]
    return errors.agg(
        images="size",
        within_10_percent=lambda e: (e.abs() <= 0.1).mean(),
        median="median",
        largest=lambda e: e.abs().max(),
    ).reset_index()


def is_chula(place: Path) -> bool:
    return (place / "Dataset").is_dir() and (place / "Label").is_dir()


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="*", type=Path, metavar="DATASET", help="a folder, or its .csv or .json")
    parser.add_argument("--limit", type=int, metavar="N", help="N images of each set, spread evenly (default: all)")
    parser.add_argument("--smears", type=int, default=4, help="rendered smears per difficulty (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of timing (default 3)")
    parser.add_argument("--finders", help="names of finders, with commas between (default: all)")
    parser.add_argument("--red-labels", default="", help="more labels that name red cells, with commas between")
    parser.add_argument(
        "--recall-only", action="append", default=[], metavar="SET", help="name of a set in which many cells lack a box"
    )
    parser.add_argument("--halves", action="store_true", help="each set in two halves by the digest of its files")
    parser.add_argument("--per-image", type=Path, metavar="FILE.csv", help="write a row per image and finder")
    parser.add_argument("--scores", action="store_true", help="also the share of hits by score")
    parser.add_argument("--rare", action="store_true", help="also the recall of rare classes over all of Chula RBC-12")
    parser.add_argument("--axes", action="store_true", help="only F1 along each axis of the renderer, of one finder")
    parser.add_argument("--changes", action="store_true", help="only whether one finder minds changes of the images")
    parser.add_argument("--diameters", action="store_true", help="only how well the cell diameter is estimated")
    return parser


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for what is loaded from here on
    chula = [place for place in options.datasets if is_chula(place)]
    if options.diameters:
        smears = chain(synthetic_diameters(), *map(chula_diameters, chula))
        print(diameter_errors(smears).round(3).to_string(index=False))
        return
    try:
        methods = finders(options.finders.split(",") if options.finders else None)
        red = [name for name in options.red_labels.split(",") if name]
        datasets = [read_dataset(place, limit=options.limit, red_labels=red) for place in options.datasets]
    except (DatasetError, ValueError) as error:
        parser.error(str(error))
    if options.changes:
        (find,) = finders([options.finders or "learned"]).values()
        for dataset in datasets:
            print(dataset.name)
            show(under_changes(dataset.images, find, score_image))
        return
    if options.axes:
        (find,) = finders([options.finders or "learned"]).values()

        def score(view: LabelledImage) -> dict[str, float]:
            image = view.read()
            return score_image(find(image), view, image.shape)

        show(along_axes(score))
        return
    names = [dataset.name for dataset in datasets]
    if len(set(names)) < len(names):
        parser.error(f"two data sets have the same name among {', '.join(names)}; rename a folder")
    if unknown := set(options.recall_only) - set(names):
        parser.error(f"--recall-only {', '.join(sorted(unknown))}: the sets are {', '.join(names)}")
    recall_only = {
        part.name
        for dataset in datasets
        if not dataset.complete or dataset.name in options.recall_only
        for part in (dataset, *halves(dataset))
    }
    if options.halves:
        datasets = [half for dataset in datasets for half in halves(dataset)]
    images, finds = compare(datasets or rendered(options.smears), methods, rounds=options.rounds)
    if options.per_image:
        images.to_csv(options.per_image, index=False)
    show(summarise(images, recall_only=recall_only))
    if options.scores:
        show(calibration(finds[~finds["dataset"].isin(recall_only)]))
    for root in chula if options.rare else ():
        show(rare_recall(root, {name: find for name, find in methods.items() if name in METHODS}))


def show(table: pd.DataFrame) -> None:
    digits = {"cells_per_s": 0, "times_paper": 2}
    digits |= dict.fromkeys(("R", "P", "F1", "F1 before", "hits", "recall", "kept"), 3)
    formats = {name: f"{{:.{n}f}}".format for name, n in digits.items()}
    print(table.to_string(index=False, formatters=formats, na_rep="", line_width=200))


if __name__ == "__main__":
    main()
