"""Labelled smears of many microscopes, read from the layouts in which they are published.

`read_dataset` takes a folder, or the file of annotations itself. Layouts:

- Chula's: `Dataset/*.jpg` and `Label/*.txt`, a clicked point per cell. Only the images that
  `exhaustively_labelled.json` names are read; without this file all are, and the set counts as incomplete.
- VOC: an XML file per image, in `Annotations/` or beside the images.
- COCO: a JSON file with `images`, `annotations` and `categories`.
- CSV: a row per box, columns found by name (`CSV_COLUMNS`). Boxes are shares of the sides where all numbers lie within
  0 to 1, else pixels.

Images of the last three are looked for beside the annotations and in `images/` or `JPEGImages/`. The label decides
what a red cell is (`is_red_cell`); white cells, platelets and dirt are no truth, so that a find on them is false. Boxes
marked as doubtful (VOC's `difficult`, COCO's `iscrowd`, a label "difficult") are left out: neither hit nor false.
"""

import csv
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from PIL import Image

from rbcnb.columns import LABEL, RADIUS, X, Y
from rbcnb.segmentation.matching import BOX, interior, match_boxes, match_cells
from rbcnb.smears.chula import CHULA_TYPES, read_chula_labels
from rbcnb.smears.images import IMAGE_SUFFIXES, images_in, read_image
from rbcnb.smears.sources import synthetic_smears

MATCH_RADII = 0.9  # from a point to the find that hits it, in typical radii
BORDER_RADII = 1.1  # what lies nearer to an edge is left out
CHULA_RADIUS_PX = 20.0
FEWEST_BOXES = 5  # an image with fewer whole boxes takes its typical radius from the set
CSV_COLUMNS = {
    "image": ("image", "filename", "file_name", "file", "image_name", "image_path", "path", "image_id", "img"),
    "xmin": ("xmin", "x_min", "x1", "left"),
    "ymin": ("ymin", "y_min", "y1", "top"),
    "xmax": ("xmax", "x_max", "x2", "right"),
    "ymax": ("ymax", "y_max", "y2", "bottom"),
    LABEL: ("label", "class", "class_name", "name", "category", "cell_type"),
}
RED_CELLS = re.compile(
    r"(?<!non )\b(rbcs?|red (blood )?(cell|corpuscle)s?|erythrocytes?)\b"
    r"|^(ring|trophozoite|schizont|gametocyte)s?$"  # what a red cell with malaria is called
)
DOUBTFUL = ("difficult", "unsure", "ignore")  # labels of what may be a cell or not
DOUBT = "doubt"  # column of the truth: True where a find is neither hit nor false
ORIENTATION = 0x0112  # EXIF's tag; from 5 on the image is shown with its sides exchanged


class DatasetError(ValueError):
    """A data set cannot be read; the message names the place and the mend."""


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One smear and its true red cells: points (``x_px``, ``y_px``), and ``BOX`` where boxes were drawn."""

    name: str
    read: Callable[[], np.ndarray]  # -> [H, W, 3] uint8 RGB
    truth: pd.DataFrame
    radius_px: float  # typical radius of a whole cell; NaN where the set holds none
    path: Path | None = None

    @property
    def has_boxes(self) -> bool:
        return set(BOX) <= set(self.truth.columns)

    def match(self, cells: pd.DataFrame) -> np.ndarray:
        """Row number in the truth of each found cell's partner, -1 for none, by the rule that the image has."""
        if self.has_boxes:
            return match_boxes(cells, self.truth)
        return match_cells(cells, self.truth, max_distance=MATCH_RADII * self.radius_px)

    def scored(self, table: pd.DataFrame, image_shape: tuple[int, ...]) -> np.ndarray:
        """Which rows of the truth, or of found cells, take part: far enough from the border, not in doubt: [N] bool."""
        inside = interior(table, image_shape, BORDER_RADII * self.radius_px if self.radius_px > 0 else 0.0)
        if set(BOX) <= set(table.columns):
            inside = inside & ~touches_border(table, *image_shape[1::-1])
        return inside & ~table[DOUBT].to_numpy(bool) if DOUBT in table else inside


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images of one source. Where it is not complete, cells have no label, and only recall has a meaning."""

    name: str
    images: list[LabelledImage]
    complete: bool = True


def is_red_cell(label: str, also: Collection[str] = ()) -> bool:
    """Whether a label names a red blood cell: "RBC", "red_blood_cell", a type of Chula's, ..., or a name in *also*."""
    name = plain_name(label)
    return bool(RED_CELLS.search(name)) or name in map(plain_name, (*CHULA_TYPES.values(), *also))


def plain_name(label: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", label.lower()))


def read_dataset(place: str | Path, *, limit: int | None = None, red_labels: Collection[str] = ()) -> Dataset:
    """Reads the truth of a data set; images are decoded only when asked for.

    Args:
        place: a folder in one of the layouts above, or its CSV or JSON file.
        limit: read this many images, spread evenly over the set.
        red_labels: names of red cells beside those that are known.

    Raises:
        DatasetError: no layout is recognised, an image is missing, or no label names a red cell.
    """
    place = Path(place)
    if not place.exists():
        raise DatasetError(f"{place}: no such file or folder; check the path")
    folder = place if place.is_dir() else place.parent
    if place.is_dir() and (place / "Dataset").is_dir() and (place / "Label").is_dir():
        return read_chula(place, limit=limit)
    name = folder.resolve().name if place.is_dir() else f"{folder.resolve().name}/{place.stem}"
    boxes = boxes_by_image(place)
    names = spread_evenly(sorted(boxes), limit)
    labels = {row[LABEL] for rows in boxes.values() for row in rows}
    red = {label for label in labels if is_red_cell(label, red_labels)}
    if not red:
        raise DatasetError(
            f"{place}: no label names a red cell; name some with --red-labels: {', '.join(sorted(labels))}"
        )
    paths = {image: find_image(image, folder) for image in names}
    truths, whole = {}, {}
    for image in names:
        width, height = image_size(paths[image])
        truths[image] = box_table([row for row in boxes[image] if row[LABEL] in red or row[DOUBT]], width, height)
        whole[image] = truths[image].loc[~touches_border(truths[image], width, height), RADIUS]
    of_set = pd.concat(whole.values()).median()
    images = [
        LabelledImage(
            image,
            partial(read_image, paths[image]),
            truths[image],
            float(whole[image].median() if len(whole[image]) >= FEWEST_BOXES else of_set),
            paths[image],
        )
        for image in names
    ]
    return Dataset(name, images)


def read_chula(root: Path, *, limit: int | None = None, every: bool = False) -> Dataset:
    """Chula RBC-12: the images in which every cell is labelled, or with *every* all that have a label file."""
    listed = root / "exhaustively_labelled.json"
    complete = listed.exists() and not every
    if complete:
        names = json.loads(listed.read_text())["exhaustively_labelled"]
    else:
        names = [path.stem for path in images_in(root / "Dataset") if (root / "Label" / f"{path.stem}.txt").exists()]
    images = []
    for name in spread_evenly(names, limit):
        path = root / "Dataset" / f"{name}.jpg"
        truth = read_chula_labels(root / "Label" / f"{name}.txt")
        images.append(LabelledImage(path.name, partial(read_image, path), truth, CHULA_RADIUS_PX, path))
    return Dataset(root.resolve().name, images, complete)


def rendered(n: int) -> list[Dataset]:
    """Rendered smears of three difficulties, *n* of each; the truth is points, and typical is the median radius."""
    return [
        Dataset(
            f"rendered {difficulty}",
            [
                labelled(smear.name, smear.image, smear.truth)
                for smear in synthetic_smears(n, seed=1, difficulty=difficulty)
            ],
        )
        for difficulty in (0.2, 0.5, 0.8)
    ]


def labelled(name: str, image: np.ndarray, truth: pd.DataFrame) -> LabelledImage:
    """A rendered smear whose truth knows each cell's radius."""
    return LabelledImage(name, lambda: image, truth, float(truth[RADIUS].median()))


def halves(dataset: Dataset) -> list[Dataset]:
    """The set in two, by the digest of each file, so that byte-identical twins stay together."""
    return [
        replace(
            dataset,
            name=f"{dataset.name} half {half}",
            images=[
                image
                for image in dataset.images
                if int(hashlib.sha256(image.path.read_bytes()).hexdigest()[:8], 16) % 2 == half
            ],
        )
        for half in (0, 1)
    ]


def boxes_by_image(place: Path) -> dict[str, list[dict]]:
    """Image name -> its boxes of every label (keys ``BOX``, ``label``, ``doubt``, ``shares``), in whatever layout."""
    files = [place] if place.is_file() else sorted([*place.glob("*"), *place.glob("[aA]nnotations/*")])
    by_kind = {kind: [path for path in files if path.suffix.lower() == kind] for kind in (".xml", ".json", ".csv")}
    if by_kind[".xml"]:
        return dict(map(read_voc, by_kind[".xml"]))
    coco = {path: content for path in by_kind[".json"] if (content := coco_content(path))}
    tables = [path for path in by_kind[".csv"] if csv_columns(path)]
    if len(found := [*(coco or tables)]) > 1:
        raise DatasetError(f"{place}: has boxes in {', '.join(path.name for path in found)}; give one of the files")
    if coco:
        return read_coco(*coco.values())
    if tables:
        return read_csv(*tables)
    raise DatasetError(
        f"{place}: no layout that is known: Chula's (Dataset, Label), VOC (Annotations/*.xml), COCO (a .json with "
        "images, annotations and categories), or a .csv with image, xmin, ymin, xmax, ymax and label"
    )


def box_row(sides: Iterable[float], label: str, *, doubt: bool = False, shares: bool = False) -> dict:
    doubt = doubt or plain_name(label) in DOUBTFUL
    return dict(zip(BOX, map(float, sides), strict=True)) | {LABEL: label, DOUBT: doubt, "shares": shares}


def read_voc(path: Path) -> tuple[str, list[dict]]:
    """(image name, boxes) of one XML file."""
    return path.stem, [
        box_row(
            (item.findtext(f"bndbox/{side}", "nan") for side in BOX),
            item.findtext("name", ""),
            doubt=item.findtext("difficult", "0").strip() == "1",
        )
        for item in ElementTree.parse(path).getroot().iter("object")
    ]


def coco_content(path: Path) -> dict | None:
    content = json.loads(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) and {"images", "annotations", "categories"} <= set(content) else None


def read_coco(content: dict) -> dict[str, list[dict]]:
    labels = {category["id"]: category["name"] for category in content["categories"]}
    names = {image["id"]: image["file_name"] for image in content["images"]}
    boxes: dict[str, list[dict]] = {name: [] for name in names.values()}
    for item in content["annotations"]:
        x, y, width, height = item["bbox"]
        row = box_row((x, y, x + width, y + height), labels[item["category_id"]], doubt=bool(item.get("iscrowd")))
        boxes[names[item["image_id"]]].append(row)
    return boxes


def csv_columns(path: Path) -> dict[str, str]:
    """Our name -> the file's, for the columns of boxes; empty where one of them is missing (the label may be)."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        header = {name.strip().lower(): name for name in next(csv.reader(file), [])}
    found = {
        ours: header[names[0]]
        for ours, candidates in CSV_COLUMNS.items()
        if (names := [name for name in candidates if name in header])
    }
    return found if {"image", *BOX} <= set(found) else {}


def read_csv(path: Path) -> dict[str, list[dict]]:
    """Image name -> boxes; without a column of labels every box is a red cell."""
    table = pd.read_csv(path, encoding="utf-8-sig")
    table = table.rename(columns={theirs: ours for ours, theirs in csv_columns(path).items()})
    if LABEL not in table:
        table[LABEL] = "rbc"
    sides = table[list(BOX)].to_numpy(float)
    shares = bool(((sides >= 0) & (sides <= 1)).all())
    boxes: dict[str, list[dict]] = {}
    for name, label, row in zip(table["image"].astype(str), table[LABEL].astype(str), sides, strict=True):
        boxes.setdefault(name, []).append(box_row(row, label, shares=shares))
    return boxes


def box_table(rows: Iterable[dict], width: int, height: int) -> pd.DataFrame:
    """Boxes -> truth: centre, radius (half the root of the area) and sides, in pixels; (0, 0) is a pixel's centre."""
    rows = list(rows)
    sides = np.array([[row[side] for side in BOX] for row in rows], float).reshape(-1, 4)
    scale = np.array([(width, height) * 2 if row["shares"] else (1, 1, 1, 1) for row in rows], float).reshape(-1, 4)
    sides = sides * scale - 0.5
    xmin, ymin, xmax, ymax = sides.T
    return pd.DataFrame(
        {
            X: (xmin + xmax) / 2,
            Y: (ymin + ymax) / 2,
            RADIUS: np.sqrt((xmax - xmin) * (ymax - ymin)) / 2,
            LABEL: pd.Series([row[LABEL] for row in rows], dtype=object),
            DOUBT: pd.Series([row[DOUBT] for row in rows], dtype=bool),
            **dict(zip(BOX, sides.T, strict=True)),
        }
    )


def touches_border(boxes: pd.DataFrame, width: int, height: int) -> np.ndarray:
    """Which boxes come within a pixel and a half of an edge (some count pixels from 1, some from 0): [N] bool."""
    xmin, ymin, xmax, ymax = boxes[list(BOX)].to_numpy().T
    return (xmin < 1) | (ymin < 1) | (xmax > width - 2) | (ymax > height - 2)


def find_image(name: str, folder: Path) -> Path:
    """The file of an image that annotations call *name*, with or without an ending or a folder before it."""
    names = [name, Path(name).name]
    for sub in (".", "images", "JPEGImages", "..", "../images"):
        for candidate in names:
            path = folder / sub / candidate
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                return path
            for suffix in IMAGE_SUFFIXES:
                for ending in (suffix, suffix.upper()):
                    if (found := path.with_name(path.name + ending)).is_file():
                        return found
    raise DatasetError(f"{folder}: has no image {name}; put it beside the boxes, or into images/")


def image_size(path: Path) -> tuple[int, int]:
    """Width and height as `read_image` gives them, without decoding."""
    with Image.open(path) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(ORIENTATION, 1) >= 5 else (width, height)


def spread_evenly(names: list[str], limit: int | None) -> list[str]:
    """*limit* of the names, evenly spaced; all where there are no more."""
    if limit is None or len(names) <= limit:
        return names
    return [names[round(i)] for i in np.linspace(0, len(names) - 1, limit)]
