"""Labelled places in the files of other programs: which format a file is in, and its cells.

Each format is a function from a file to its marks, an entry of `FORMATS`; `format_of` tells them apart by content. A
box or an outline becomes a cell by the centre and the size of its bounding box: ``radius_px`` is the mean of half its
sides. Places are taken as the file has them; programs that count pixels from 1 or from their edge differ by less than a
pixel.

Libraries were looked at first. globox 2.9 and supervision 0.31 (both MIT, kept) leave out points and circles, globox
without a word; pylabel 0.1 reads boxes of three formats; datumaro 1.13 asks for pandas 2. A lab must be told of each
mark that was not used, with its place in the file: so small readers stand here.
"""

import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
import pandas as pd

from rbcnb._utils.errors import SmearError, SmearWarning
from rbcnb._utils.read_files import cause_of, parse_yaml, read_bytes, shown
from rbcnb.columns import LABEL, RADIUS, SMEAR, X, Y
from rbcnb.smears.images import images_in, read_image
from rbcnb.smears.label_tables import (
    NEEDED,
    SYNONYMS,
    WHERE,
    LabelError,
    TextTable,
    columns_of,
    decoded_text,
    labels_of_table,
    plain_name,
    read_numbers,
    read_text_table,
    report_faults,
)
from rbcnb.smears.smear_names import match_names

COCO, VOC, YOLO, LABELME, CVAT = "coco", "voc", "yolo", "labelme", "cvat"
VIA, QUPATH, GEOJSON, IMAGEJ, BOXES = "via", "qupath", "geojson", "imagej", "boxes"
CSV, CHULA = "csv", "chula"
SUFFIXES = (".json", ".geojson", ".xml", ".txt", ".csv", ".tsv", ".xls")  # of files that may hold marks
_CLASS_FILES = ("classes.txt", "obj.names", "labels.txt")
_AS_COCO = "export it as COCO there"
UNREAD_LABELS = {  # endings of files that are not read -> whose they are and what to do
    ".xlsx": ("an Excel workbook", "save it as CSV in UTF-8"),
    ".ods": ("a workbook of LibreOffice", "save it as CSV in UTF-8"),
    ".qpdata": ("QuPath's data", "export detections there as GeoJSON, or as a table of measurements"),
    ".qpproj": ("a project of QuPath", "export detections there as GeoJSON, or as a table of measurements"),
    ".roi": ("a region of ImageJ", "measure it there (Analyze, Measure) and save the results as CSV"),
    ".zip": ("an archive, of ImageJ's regions perhaps", "unpack it; of ImageJ's regions save the results as CSV"),
    ".dcm": ("DICOM", "export the labels as COCO from the program that wrote it"),
    ".ndpa": ("NDP.view's annotations", "open them in QuPath and export GeoJSON"),
    ".tfrecord": ("TensorFlow's records", "export COCO or Pascal VOC in their place"),
    ".parquet": ("a Parquet table", "save it as CSV in UTF-8"),
}
_UNREAD_XML = {
    "Annotations": ("Aperio ImageScope", "open it in QuPath and export GeoJSON"),
    "ASAP_Annotations": ("ASAP", "open it in QuPath and export GeoJSON"),
    "CellCounter_Marker_File": ("ImageJ's Cell Counter", "press Measure there and save the results as CSV"),
}
_YOLO_LINE = re.compile(r"\s*\d+(\s+[+-]?\d*\.?\d+(e[+-]?\d+)?){4,}\s*", re.IGNORECASE)
_CHULA_LINE = re.compile(r"\s*\d+(\.\d+)?\s+\d+(\.\d+)?\s+\d+\s*")
_QUPATH = {
    SMEAR: ("image", "image_name"),
    LABEL: ("class", "classification"),
    X: ("centroid_x_px", "centroid_x_μm", "centroid_x_um", "centroid_x_mm", "centroid_x"),
    Y: ("centroid_y_px", "centroid_y_μm", "centroid_y_um", "centroid_y_mm", "centroid_y"),
}
_SIDES = {
    "left": ("xmin", "x_min", "x1", "left", "xtl"),
    "top": ("ymin", "y_min", "y1", "top", "ytl"),
    "right": ("xmax", "x_max", "x2", "right", "xbr"),
    "bottom": ("ymax", "y_max", "y2", "bottom", "ybr"),
}
_BOXES = {SMEAR: SYNONYMS[SMEAR], LABEL: SYNONYMS[LABEL], **_SIDES}
_IMAGEJ = {
    SMEAR: ("label", "image", "filename", "slice_label"),
    LABEL: ("class", "cell_type", "type", "counter", "group"),
    X: ("x", "xm"),
    Y: ("y", "ym"),
    "bx": ("bx",),
    "by": ("by",),
    "width": ("width",),
    "height": ("height",),
}

_IMAGEJ_MEASURES = {
    "area",
    "mean",
    "slice",
    "counter",
    "type",
    "bx",
    "xm",
    "feret",
}  # of which ImageJ's results have some

Place = tuple[float, float, float]  # x_px, y_px, radius_px


@dataclass(frozen=True)
class Aids:
    """What a file of labels may leave out."""

    images: Mapping[str, Path] = field(default_factory=dict)  # file name -> where it lies
    pixel_um: float | None = None  # side of a pixel


class Marks(NamedTuple):
    """What a file holds: items, and of each its marks, as (smear, class, place, (height, width) of the image)."""

    kind: str  # of an item, in messages
    items: list
    marks: Callable[[Any], Iterator[tuple]]
    numbers: Sequence[int] = ()  # of the items in messages; from 1 where there are none
    faults: Sequence[LabelError] = ()


class AnnotationError(SmearError):
    """A file of labels cannot be read; the message names it, its format and the remedy."""


def read_annotations(
    source: str | Path, *, layout: str, aids: Aids | None = None, errors: list[SmearError] | None = None
) -> pd.DataFrame:
    """Reads the marks in a file, or in the files of a folder, of one format.

    Args:
        source: the file or folder.
        layout: a key of `FORMATS`, or ``CSV``.
        aids: what the files leave out.
        errors: takes the marks that cannot be used; None raises the first.

    Returns:
        ``smear`` (as the file names it), ``x_px``, ``y_px``, ``radius_px`` (pixels; NaN of a point), ``label``,
        ``where``.

    Raises:
        SmearError: a file is of another format or cannot be read.
    """
    files = annotation_files(source)
    if Path(source).is_dir():
        files = [path for path in files if format_of(path) == layout]
    table = read_files(files, layout=layout, aids=aids, errors=errors)
    if table.empty and not errors:
        raise AnnotationError(f"{source}: there is no label in it, read as {layout}; name its format with --as")
    return table


def read_files(
    paths: Iterable[Path], *, layout: str, aids: Aids | None = None, errors: list[SmearError] | None = None
) -> pd.DataFrame:
    """Reads the marks in files of one format; see `read_annotations`."""
    tables = [pd.DataFrame(columns=[SMEAR, X, Y, RADIUS, LABEL, WHERE])]
    for path in paths:
        if layout == CSV:
            tables.append(labels_of_table(read_text_table(path), errors=errors))
            continue
        try:
            tables.append(_usable_marks(path, FORMATS[layout](path, aids or Aids()), errors))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            if isinstance(error, SmearError):
                raise
            cause = f"it has no {error}" if isinstance(error, KeyError) else cause_of(error)
            raise AnnotationError(f"{path}: cannot be read as {layout} ({cause}); export it again") from error
    return pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)


def annotations_beside(folder: Path) -> dict[str, list[Path]]:
    """Format -> files of other programs that lie among the images of *folder*; folders within are not looked into.

    A file of a program that is known and not read is a warning. Of tables only those count that are nobody else's.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("[!.]*")):
        if not path.is_file() or path.suffix.lower() not in SUFFIXES:
            continue
        try:
            layout = format_of(path)
        except SmearError as error:
            if path.suffix.lower() in (".json", ".geojson", ".xml"):
                warnings.warn(str(error), SmearWarning, stacklevel=2)
            continue
        if layout in FORMATS and layout != IMAGEJ:
            found.setdefault(layout, []).append(path)
    return found


def annotation_files(source: str | Path) -> list[Path]:
    """The files that may hold marks: *source* itself, or those of the folder and of the folders within."""
    source = Path(source)
    if source.is_file():
        return [source]
    return sorted(path for path in source.rglob("[!.]*") if path.suffix.lower() in SUFFIXES and path.is_file())


def format_of(path: Path) -> str | None:
    """The key of `FORMATS`, ``CSV`` or ``CHULA`` by the content of a file; None of what holds no labels.

    Raises:
        SmearError: the file is of a format that is known and not read, or is damaged.
    """
    if path.suffix.lower() in UNREAD_LABELS:
        raise _unread(path, *UNREAD_LABELS[path.suffix.lower()])
    if path.suffix.lower() == ".xml":
        return _xml_format(path, _parsed_xml(path))
    if path.suffix.lower() in (".json", ".geojson"):
        return _json_format(path, _parsed_json(path))
    if path.suffix.lower() == ".txt":
        lines = [line for line in decoded_text(path).splitlines() if line.strip()]
        for layout, line in ((YOLO, _YOLO_LINE), (CHULA, _CHULA_LINE)):
            if lines and all(map(line.fullmatch, lines)):
                return layout
        try:
            return _table_format(read_text_table(path))
        except SmearError:  # any text
            return None
    return _table_format(read_text_table(path))


def image_shapes(images: Mapping[str, Path], names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """name -> (height, width) in pixels of the *images* (file name -> path) that *names* mean.

    Raises:
        SmearError: an image cannot be read.
    """
    matched, _ = match_names(names, images)
    return {name: read_image(images[image]).shape[:2] for name, image in matched.items()}


def _xml_format(path: Path, root: ElementTree.Element) -> str:
    if root.tag == "annotation":
        return VOC
    if root.tag == "annotations" and root.find("track") is not None:
        raise _unread(path, "CVAT for video", "export CVAT for images there")
    if root.tag == "annotations" and root.find("ndpviewstate") is None:
        return CVAT
    raise _unread(path, *_UNREAD_XML.get(root.tag, (f"XML <{root.tag}>", "save Pascal VOC or CVAT for images")))


def _json_format(path: Path, document: Any) -> str | None:
    first = document[0] if isinstance(document, list) and document else document
    keys = set(first) if isinstance(first, dict) else set()
    within = next((value for value in first.values() if isinstance(value, dict)), {}) if keys else {}
    layouts = {
        COCO: {"images", "annotations"} <= keys,
        LABELME: "shapes" in keys,
        GEOJSON: "features" in keys or ("geometry" in keys and "type" in keys),
        VIA: "_via_img_metadata" in keys or "regions" in within,
    }
    unread = {
        "Supervisely": "objects" in keys and "size" in keys,
        "Labelbox": bool(keys & {"data_row", "Labeled Data", "DataRow ID"}),
        "Label Studio": "annotations" in keys and bool(keys & {"data", "file_upload"}),
        "CreateML": "annotations" in keys and "image" in keys,
    }
    for program, fits in unread.items():
        if fits:
            raise _unread(path, program, _AS_COCO)
    return next((layout for layout, fits in layouts.items() if fits), None)


def _table_format(table: TextTable) -> str | None:
    names = [plain_name(name) for name in table.fields.columns]
    if "region_shape_attributes" in names:
        return VIA
    if "spatial_coordinates" in names:
        raise _unread(table.path, "VIA 3", "export VIA 2's CSV or COCO")
    if any(name.startswith("centroid_x") for name in names):
        return QUPATH
    if all(set(names) & {*synonyms} for synonyms in _BOXES.values()):
        return BOXES
    if all(any(name in SYNONYMS[needed] for name in names) for needed in NEEDED):
        return CSV
    if names[0] == "" or _IMAGEJ_MEASURES & {*names}:
        return IMAGEJ
    return CSV if set(names) & {*SYNONYMS[X], *SYNONYMS[Y]} else None


def _read_coco(path: Path, _aids: Aids) -> Marks:
    document = _parsed_json(path)
    images = {image["id"]: image for image in document["images"]}
    classes = {kind["id"]: kind["name"] for kind in document.get("categories", [])}

    def marks(item: Mapping) -> Iterator[tuple]:
        image = images[item["image_id"]]
        x, y, width, height = item.get("bbox") or (0, 0, 0, 0)
        outline = item.get("segmentation")
        if width > 0 or height > 0:
            place = _box(x, y, x + width, y + height)
        elif item.get("keypoints"):
            place = (*_seen_keypoints(item["keypoints"]), np.nan)
        else:
            place = _outline(np.concatenate([np.reshape(part, (-1, 2)) for part in outline]))
        yield image["file_name"], classes[item["category_id"]], place, (image.get("height"), image.get("width"))

    return Marks("annotation", document["annotations"], marks)


def _read_voc(path: Path, _aids: Aids) -> Marks:
    root = _parsed_xml(path)
    shape = tuple(_number(root.findtext(f"size/{side}") or 0) for side in ("height", "width"))

    def marks(item: ElementTree.Element) -> Iterator[tuple]:
        sides = [_number(item.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
        yield root.findtext("filename") or path.stem, item.findtext("name"), _box(*sides), shape

    return Marks("object", root.findall("object"), marks)


def _read_labelme(path: Path, _aids: Aids) -> Marks:
    document = _parsed_json(path)
    shape = document.get("imageHeight"), document.get("imageWidth")

    def marks(item: Mapping) -> Iterator[tuple]:
        points, kind = np.array(item["points"], float).reshape(-1, 2), item.get("shape_type", "polygon")
        if kind in ("point", "points"):
            places = [(x, y, np.nan) for x, y in points]
        elif kind == "circle":
            places = [(*points[0], float(np.hypot(*(points[1] - points[0]))))]
        else:
            places = [_outline(points)]
        for place in places:
            yield document.get("imagePath") or path.stem, item["label"], place, shape

    return Marks("shape", document["shapes"], marks)


def _read_cvat(path: Path, _aids: Aids) -> Marks:
    images = _parsed_xml(path).findall("image")

    def marks(item: tuple[ElementTree.Element, ElementTree.Element]) -> Iterator[tuple]:
        image, mark = item
        shape = _number(image.get("height", 0)), _number(image.get("width", 0))
        if mark.tag == "box":
            places = [_box(*(_number(mark.get(side)) for side in ("xtl", "ytl", "xbr", "ybr")))]
        elif mark.tag == "ellipse":
            x, y, *radii = (_number(mark.get(name)) for name in ("cx", "cy", "rx", "ry"))
            places = [(x, y, sum(radii) / 2)]
        elif mark.tag == "mask":
            left, top, width, height = (_number(mark.get(name)) for name in ("left", "top", "width", "height"))
            places = [_box(left, top, left + width, top + height)]
        elif mark.tag in ("points", "polygon", "polyline"):
            points = np.array([[_number(part) for part in pair.split(",")] for pair in mark.get("points").split(";")])
            places = [(x, y, np.nan) for x, y in points] if mark.tag == "points" else [_outline(points)]
        else:
            raise ValueError(f"<{mark.tag}> has no place that is read")
        for place in places:
            yield image.get("name"), mark.get("label"), place, shape

    return Marks("mark", [(image, mark) for image in images for mark in image], marks)


def _read_yolo(path: Path, aids: Aids) -> Marks:
    classes, keypoints = _yolo_classes(path)
    folder = path.parent
    beside = [Path(*("images" if part == "labels" else part for part in folder.parts)), folder.parent / "images"]
    near = ({image.name: image for image in images_in(place)} for place in (folder, *beside) if place.is_dir())
    found = ((images, match_names([path.stem], images)[0]) for images in chain([aids.images], near))
    image = next((images[matched[path.stem]] for images, matched in found if matched), None)
    if image is None:
        raise AnnotationError(
            f"{path}: YOLO gives places as shares of the image, and no image {path.stem} is beside it or in images; "
            "name the folder of the images with --smears"
        )
    shape = read_image(image).shape[:2]
    lines = [line for line in decoded_text(path).splitlines() if line.strip()]

    def marks(line: str) -> Iterator[tuple]:
        number, *shares = line.split()
        shares = np.array([_number(share) for share in shares[: 4 if keypoints else None]])
        if len(shares) > 5 and len(shares) % 2 == 0:
            place = _outline(shares.reshape(-1, 2) * (shape[1], shape[0]))
        else:
            x, y, width, height = shares[:4] * (shape[1], shape[0], shape[1], shape[0])
            place = _box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        yield image.name, classes[int(number)], place, shape

    return Marks("line", lines, marks)


def _yolo_classes(path: Path) -> tuple[dict[int, str], bool]:
    """Number -> class from ``data.yaml`` or ``classes.txt`` in the label file's folder or one of two above.

    And whether lines end in keypoints.
    """
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        for named in sorted({*folder.glob("data*.y*ml"), *folder.glob("dataset*.y*ml")}):
            settings = parse_yaml(decoded_text(named), str(named), error=AnnotationError)
            if names := settings.get("names") if isinstance(settings, dict) else None:
                names = names if isinstance(names, dict) else dict(enumerate(names))
                return {int(number): str(name) for number, name in names.items()}, "kpt_shape" in settings
        for name in _CLASS_FILES:
            if (folder / name).is_file():
                lines = decoded_text(folder / name).rstrip().splitlines()
                return {number: line.strip() for number, line in enumerate(lines)}, False
    raise AnnotationError(
        f"{path}: YOLO numbers its classes, and neither data.yaml nor classes.txt near it names them; put the file "
        "that names them, a class in each line of classes.txt, beside it"
    )


def _read_via(path: Path, _aids: Aids) -> Marks:
    numbers = []
    if path.suffix.lower() == ".json":
        document = _parsed_json(path)
        files = document.get("_via_img_metadata", document).values()
        items = [
            (file["filename"], region["shape_attributes"], region["region_attributes"])
            for file in files
            for region in (file["regions"].values() if isinstance(file["regions"], dict) else file["regions"])
        ]
    else:
        columns = ("filename", "region_shape_attributes", "region_attributes")
        table = columns_of(read_text_table(path), {name: (name,) for name in columns})
        table = table[~table[columns[1]].isin(["", "{}"])]  # images without a region
        numbers = list(table.index)
        items = [
            (smear, *(_json_field(text, f"{path}: row {row}") for text in texts))
            for row, smear, *texts in table[[*columns]].itertuples()
        ]
    names = {name for _, _, attributes in items for name in attributes}
    usual = [name for name in names if plain_name(name) in SYNONYMS[LABEL]]
    if len(chosen := [*names] if len(names) == 1 else usual) != 1:
        raise AnnotationError(
            f"{path}: VIA's regions have the attributes {', '.join(sorted(names)) or 'none'}, and which is the class "
            "cannot be told; call it label there"
        )

    def marks(item: tuple[str, Mapping, Mapping]) -> Iterator[tuple]:
        smear, shape, attributes = item
        label = attributes[chosen[0]]
        if isinstance(label, dict):  # of check boxes
            (label,) = [name for name, ticked in label.items() if ticked]
        yield smear, label, _via_place(shape), (None, None)

    return Marks("row" if numbers else "region", items, marks, numbers=numbers)


def _json_field(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise AnnotationError(f"{where} has a field that is no JSON ({error}); export it again") from error


def _via_place(shape: Mapping) -> Place:
    kind = shape["name"]
    if kind == "rect":
        return _box(shape["x"], shape["y"], shape["x"] + shape["width"], shape["y"] + shape["height"])
    if kind in ("circle", "ellipse", "point"):
        radii = [shape[name] for name in ("r", "rx", "ry") if name in shape] or [np.nan]
        return shape["cx"], shape["cy"], sum(radii) / len(radii)
    return _outline(np.column_stack([shape["all_points_x"], shape["all_points_y"]]))


def _read_geojson(path: Path, _aids: Aids) -> Marks:
    document = _parsed_json(path)
    features = document["features"] if isinstance(document, dict) and "features" in document else document
    features = features if isinstance(features, list) else [features]

    def marks(item: Mapping) -> Iterator[tuple]:
        kind, points = item["geometry"]["type"], item["geometry"]["coordinates"]
        places = {
            "Point": lambda: [(*points[:2], np.nan)],
            "MultiPoint": lambda: [(*point[:2], np.nan) for point in points],
            "Polygon": lambda: [_outline(np.array(points[0], float))],
            "MultiPolygon": lambda: [_outline(np.concatenate([np.array(part[0], float) for part in points]))],
        }[kind]()
        label = item["properties"]["classification"]
        for place in places:
            yield path.stem, label["name"] if isinstance(label, dict) else label, place, (None, None)

    return Marks("feature", features, marks)


def _read_boxes(path: Path, aids: Aids) -> Marks:
    table = read_text_table(path)
    texts = columns_of(table, _BOXES)
    sides, _ = read_numbers(texts[[*_SIDES]], table.separator)
    shapes = image_shapes(aids.images, texts[SMEAR].unique())
    shares = len(sides) > 0 and bool((sides.max(axis=1) <= 1).all())
    if shares and not set(texts[SMEAR]) <= set(shapes):
        raise AnnotationError(
            f"{path}: its boxes are shares of the image, and not all of the images are at hand; name their folder with "
            "--smears"
        )

    def marks(row: int) -> Iterator[tuple]:
        smear = texts[SMEAR][row]
        height, width = shape = shapes.get(smear, (None, None))
        unit = [width, height, width, height] if shares else [1, 1, 1, 1]
        yield smear, texts[LABEL][row], _box(*(sides.loc[row] * unit)), shape

    return Marks("row", list(texts.index), marks, numbers=list(texts.index), faults=list(table.faults.values()))


def _read_qupath(path: Path, aids: Aids) -> Marks:
    table = read_text_table(path)
    in_um = any(re.match(r"centroid_x_.m$", plain_name(name)) for name in table.fields.columns)
    if in_um and aids.pixel_um is None:
        raise AnnotationError(
            f"{path}: QuPath's centroids are in µm; give the side of a pixel with --pixel-um (QuPath's tab Image)"
        )
    return _read_measurements(table, _QUPATH, aids.pixel_um if in_um else 1.0)


def _read_imagej(path: Path, aids: Aids) -> Marks:
    return _read_measurements(read_text_table(path), _IMAGEJ, aids.pixel_um or 1.0)


def _read_measurements(table: TextTable, synonyms: dict[str, tuple[str, ...]], unit: float) -> Marks:
    """The marks of a table of results; *unit* is the side of a pixel in its unit of length."""
    texts = columns_of(table, synonyms)
    if LABEL not in texts:
        raise AnnotationError(f"{table.path}: row {table.header_row} has no column for the class; add one called Class")
    if SMEAR not in texts:  # ImageJ names the image where its option "Display label" is on
        texts[SMEAR] = table.path.stem
    texts[SMEAR] = texts[SMEAR].str.split(":").str[0]
    names = [name for name in (X, Y, "bx", "by", "width", "height") if name in texts]
    numbers, _ = read_numbers(texts[names], table.separator)
    numbers = numbers / unit
    boxes = {"bx", "by", "width", "height"} <= {*names}

    def marks(row: int) -> Iterator[tuple]:
        here = numbers.loc[row]
        place = (here[X], here[Y], np.nan) if X in names and Y in names else (np.nan,) * 3
        if boxes and not np.isnan(here["bx"]):
            of_box = _box(here["bx"], here["by"], here["bx"] + here["width"], here["by"] + here["height"])
            place = of_box if np.isnan(place[0]) else (*place[:2], of_box[2])
        yield texts[SMEAR][row], texts[LABEL][row], place, (None, None)

    return Marks("row", list(texts.index), marks, numbers=list(texts.index), faults=list(table.faults.values()))


def _usable_marks(path: Path, found: Marks, errors: list[SmearError] | None) -> pd.DataFrame:
    """The marks of each item; those that cannot be used are named by kind and number, from 1."""
    rows, faults = [], list(found.faults)
    for number, item in zip(found.numbers or range(1, len(found.items) + 1), found.items, strict=True):
        where = f"{path}: {found.kind} {number}"
        try:
            for smear, label, (x, y, radius), (height, width) in found.marks(item):
                if not (isinstance(smear, str) and smear.strip() and isinstance(label, str) and label.strip()):
                    raise ValueError(f"it names the smear {shown(smear)} and the class {shown(label)}")
                if not (np.isfinite(x) and np.isfinite(y)):
                    raise ValueError("its place is no number")
                if min(x, y) < -0.5 or (width and height and not (x <= width and y <= height)):
                    raise ValueError(f"its centre {x:g}, {y:g} lies outside of the image {smear}")
                rows.append((smear.strip(), float(x), float(y), float(radius) or np.nan, label.strip(), where))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            cause = f"there is no {shown(error.args[0])} for it" if isinstance(error, KeyError) else cause_of(error)
            faults.append(LabelError(f"{where} cannot be used ({cause}); mend or remove it"))
    report_faults(faults, errors, path)
    return pd.DataFrame(rows, columns=[SMEAR, X, Y, RADIUS, LABEL, WHERE])


def _box(left: float, top: float, right: float, bottom: float) -> Place:
    return (left + right) / 2, (top + bottom) / 2, (abs(right - left) + abs(bottom - top)) / 4


def _outline(points: np.ndarray) -> Place:
    return _box(*points.min(axis=0), *points.max(axis=0))


def _seen_keypoints(numbers: list[float]) -> tuple[float, float]:
    """The middle of the keypoints that are marked, x, y, visibility of each in a row."""
    points = np.array(numbers, float).reshape(-1, 3)
    if not (points[:, 2] > 0).any():
        raise ValueError("none of its key points is marked")
    return tuple(points[points[:, 2] > 0, :2].mean(axis=0))


def _number(text: Any) -> float:
    if text is None:
        raise ValueError("a number of its place is missing")
    return float(text)


def _parsed_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file. A document type is refused: entities declared in it may fill the memory."""
    data = read_bytes(path, remedy="check the path", error=AnnotationError)
    try:
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = lambda *_: _refuse_doctype(path)
        parser.Parse(data, True)
        return ElementTree.fromstring(data)
    except (expat.ExpatError, ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        if isinstance(error, SmearError):
            raise
        raise AnnotationError(f"{path}: cannot be read as XML ({cause_of(error)}); export it again") from error


def _refuse_doctype(path: Path) -> None:
    raise AnnotationError(f"{path}: has a document type (<!DOCTYPE), which is not read for safety; remove that line")


def _parsed_json(path: Path) -> Any:
    try:
        return json.loads(decoded_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, SmearError):
            raise
        raise AnnotationError(f"{path}: cannot be read as JSON ({cause_of(error)}); export it again") from error


def _unread(path: Path, whose: str, remedy: str) -> AnnotationError:
    return AnnotationError(f"{path}: is of {whose}, which is not read; {remedy}")


FORMATS: dict[str, Callable[[Path, Aids], Marks]] = {  # beside CSV, which `label_tables` reads
    COCO: _read_coco,
    VOC: _read_voc,
    YOLO: _read_yolo,
    LABELME: _read_labelme,
    CVAT: _read_cvat,
    VIA: _read_via,
    QUPATH: _read_qupath,
    GEOJSON: _read_geojson,
    IMAGEJ: _read_imagej,
    BOXES: _read_boxes,
}
