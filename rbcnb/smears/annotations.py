"""Labelled places in the files of other programs: which format a file is in, and its cells.

Each format is a function from a file to its marks, an entry of `FORMATS`; `format_of` tells them apart by content. A
box or an outline becomes a cell by the centre and the size of its bounding box: ``radius_px`` is the mean of half its
sides. Places are taken as the file has them; programs that count pixels from 1 or from their edge differ by less than a
pixel.

Libraries were tried first (docs/labels.md): none takes points and circles for cells and names each mark that was not
used with its place in the file. So small readers stand here.
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from itertools import chain
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
import pandas as pd

from rbcnb._utils.errors import SmearError, SmearWarning
from rbcnb._utils.read_files import cause_of, parse_json, parse_yaml, read_bytes, shown
from rbcnb.columns import LABEL, RADIUS, SMEAR, X, Y
from rbcnb.smears.chula import chula_label
from rbcnb.smears.decode import IMAGE_SUFFIXES
from rbcnb.smears.images import collect_or_raise, images_in, read_image
from rbcnb.smears.label_tables import (
    NEEDED,
    OUTSIDE,
    SHAPE,
    SYNONYMS,
    WHERE,
    LabelError,
    TextTable,
    columns_of,
    decoded_text,
    is_number,
    is_readings,
    labels_inside,
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
_LABELBOX = "Labelbox"
READINGS = "readings"  # our own table of them, which `rbcnb.labels.merge_readings` reads
_PER_IMAGE = (VOC, YOLO, LABELME, GEOJSON)  # a file for each image, named as it
SUFFIXES = (".json", ".geojson", ".xml", ".txt", ".csv", ".tsv", ".xls")  # of files that may hold marks
_A_FILE_PER_IMAGE = (VOC, LABELME)
_TWO_FILES = "of an image that two files name"
_LARGEST_SHARE = 1.5  # of an image that a place in it may be: tools let boxes stand over its border
_MOST_NAMES = 5  # of files that are named in a note
_CLASS_FILES = ("classes.txt", "obj.names", "labels.txt")
_AS_COCO = "export it as COCO there"
_AS_COCO_OR_BOXES = "convert it to COCO, or to a table image,label,xmin,ymin,xmax,ymax"
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
    ".ndjson": ("Labelbox, or of another program that writes lines of JSON", _AS_COCO_OR_BOXES),
    ".jsonl": ("a program that writes lines of JSON", _AS_COCO_OR_BOXES),
    ".parquet": ("a Parquet table", "save it as CSV in UTF-8"),
}
_UNREAD_XML = {
    "Annotations": ("Aperio ImageScope", "open it in QuPath and export GeoJSON"),
    "ASAP_Annotations": ("ASAP", "open it in QuPath and export GeoJSON"),
    "CellCounter_Marker_File": ("ImageJ's Cell Counter", "press Measure there and save the results as CSV"),
}
_UNREAD_LINES = {
    "KITTI": "write its columns 1 and 5 to 8 as a table image,label,xmin,ymin,xmax,ymax",
    "DOTA": "write the middle of its four corners as a table smear,x_px,y_px,label",
}
_LABEL_STUDIO, _STUDIO_COLUMNS = "Label Studio", {"annotation_id", "annotator", "lead_time"}  # of its CSV and JSON-MIN
_NO_LABELS = re.compile(r"(readme|licen[cs]e|notice|classes|labels|labelmap|obj)\b.*\.txt", re.IGNORECASE)
_YOLO_LINE = re.compile(r"\s*\d+(\s+[+-]?\d*\.?\d+(e[+-]?\d+)?){4,}\s*", re.IGNORECASE)
_CHULA_LINE = re.compile(r"\s*\d+(\.\d+)?\s+\d+(\.\d+)?\s+\d+\s*")
_QUPATH = {
    SMEAR: ("image", "image_name"),
    LABEL: ("class", "classification"),
    X: ("centroid_x_px", "centroid_x_μm", "centroid_x_um", "centroid_x_mm", "centroid_x"),
    Y: ("centroid_y_px", "centroid_y_μm", "centroid_y_um", "centroid_y_mm", "centroid_y"),
}
_SIDES = {
    "xmin": ("xmin", "x_min", "x1", "left", "xtl"),
    "ymin": ("ymin", "y_min", "y1", "top", "ytl"),
    "xmax": ("xmax", "x_max", "x2", "right", "xbr"),
    "ymax": ("ymax", "y_max", "y2", "bottom", "ybr"),
}
_BOXES = {  # the last two names are those of Open Images
    SMEAR: (*SYNONYMS[SMEAR], "imageid"),
    LABEL: (*SYNONYMS[LABEL], "labelname"),
    **_SIDES,
}
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


class _FaultError(ValueError):
    """What is wrong with a label, in words; other errors of its reading are Python's own, and say nothing to a lab."""


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
    source = Path(source)
    if layout == CHULA and (source / "Label").is_dir():
        source = source / "Label"
    files = annotation_files(source)
    if source.is_dir():
        found, others = files_by_format(files)
        files = found.pop(layout, [])
        endings, unread = {path.suffix.lower() for path in files} or {*SUFFIXES}, [*chain(*found.values())]
        for path, fault in others.items():
            if fault is not None:
                collect_or_raise(fault, errors)
            elif not _holds_no_labels(path):  # of such an ending it is damaged, and reading it says how
                (files if path.suffix.lower() in endings else unread).append(path)
        if unread:
            note = f"{source}: not read, as they hold no labels as {layout}: {_names(unread)}"
            warnings.warn(note, SmearWarning, stacklevel=2)
    table = read_files(sorted(files), layout=layout, aids=aids, errors=errors)
    if table.empty and not errors:
        raise AnnotationError(f"{source}: there is no label in it, read as {layout}; name its format with --as")
    return table


def read_files(
    paths: Sequence[Path], *, layout: str, aids: Aids | None = None, errors: list[SmearError] | None = None
) -> pd.DataFrame:
    """Reads the marks in files of one format; see `read_annotations`. Raises where none of several can be read."""
    tables, faults = {}, []
    for path in paths:
        try:
            tables[path] = _read_file(path, layout, aids or Aids(), errors)
        except SmearError as error:
            faults.append(error)
    if layout in _A_FILE_PER_IMAGE:
        faults += _of_one_image(tables, aids.images if aids else {})
    if faults and (errors is None or len(faults) == len(paths)):
        raise faults[0]
    report_faults(faults, errors, paths[0].parent if paths else "")
    none = pd.DataFrame(columns=[SMEAR, X, Y, RADIUS, LABEL, WHERE])
    return pd.concat([table for table in tables.values() if len(table)] or [none], ignore_index=True)


def _of_one_image(tables: dict[Path, pd.DataFrame], images: Mapping[str, Path]) -> list[LabelError]:
    """Takes files out of *tables* that name an image which another one names, too; and says so of each.

    Names mean one image if they are the same, or lead to the same of *images*.
    """
    named = {path: table[SMEAR].iloc[0] for path, table in tables.items() if len(table)}
    matched, _ = match_names(named.values(), images)
    files: dict[str, list[Path]] = {}
    for path, smear in named.items():
        files.setdefault(matched.get(smear, smear), []).append(path)
    faults = []
    for same in files.values():
        for path, other in zip(same, [*same[1:], same[0]], strict=True) if same[1:] else ():
            table = tables.pop(path)
            what = f"is of {table[SMEAR].iloc[0]}, and so is {other}; correct the name of the image, or drop one"
            faults.append(LabelError(f"{path}: {what}", len(table), _TWO_FILES))
    return faults


def _read_file(path: Path, layout: str, aids: Aids, errors: list[SmearError] | None) -> pd.DataFrame:
    if layout == CSV:
        return labels_of_table(read_text_table(path), errors=errors)
    try:
        return _usable_marks(path, FORMATS[layout](path, aids), aids, errors)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, SmearError):
            raise
        cause = f"it has no {error}" if isinstance(error, KeyError) else cause_of(error)
        remedy = "export it again, or take it out of the folder"
        raise AnnotationError(f"{path}: cannot be read as {layout} ({cause}); {remedy}") from error


def annotations_beside(folder: Path) -> dict[str, list[Path]]:
    """Format -> files of other programs that lie among the images of *folder*; folders within are not looked into.

    A file that is named as an image is one of its format's though it be damaged: reading it says how. What else may
    have held labels and is not read is a warning. Of tables only those count that are nobody else's.
    """
    stems = {image.stem for image in images_in(folder)}
    paths = [path for path in sorted(folder.glob("[!.]*")) if path.is_file() and path.suffix.lower() in SUFFIXES]
    all_found, others = files_by_format(paths)
    found = {layout: files for layout, files in all_found.items() if layout in {*FORMATS} - {IMAGEJ, CHULA}}
    unread = [path for layout in {*all_found} - {*found} for path in all_found[layout] if path.stem in stems]
    for path, fault in others.items():
        ending, named = path.suffix.lower(), path.stem in stems and (fault is not None or not _holds_no_labels(path))
        near = [layout for layout in found if layout in _PER_IMAGE and found[layout][0].suffix.lower() == ending]
        if named and near:
            found[near[0]] = sorted([*found[near[0]], path])
        elif named or ending in (".json", ".geojson", ".xml"):
            if fault is not None:
                warnings.warn(str(fault), SmearWarning, stacklevel=2)
            else:
                unread.append(path)
    if unread:
        note = f"{folder}: not read, as they hold no labels in a form that is known among images: {_names(unread)}"
        warnings.warn(note, SmearWarning, stacklevel=2)
    return found


def files_by_format(paths: Iterable[Path]) -> tuple[dict[str, list[Path]], dict[Path, SmearError | None]]:
    """Format -> files, as `format_of` tells; and the others, with why they cannot be read if that is known."""
    found, others = {}, {}
    for path in paths:
        try:
            layout = format_of(path)
        except SmearError as error:
            others[path] = error
            continue
        if layout is None:
            others[path] = None
        else:
            found.setdefault(layout, []).append(path)
    return found, others


def _holds_no_labels(path: Path) -> bool:
    """Whether a text is known to lie among labels and hold none: empty, a list of classes or images, a readme."""
    if path.suffix.lower() != ".txt":
        return False
    lines = decoded_text(path).split("\n")
    return bool(_NO_LABELS.fullmatch(path.name)) or all(
        not line.strip() or Path(line.strip()).suffix.lower() in IMAGE_SUFFIXES for line in lines
    )


def _names(paths: Sequence[Path]) -> str:
    names = ", ".join(sorted(path.name for path in paths)[:_MOST_NAMES])
    return names + f" and {len(paths) - _MOST_NAMES} more" * (len(paths) > _MOST_NAMES)


def annotation_files(source: str | Path) -> list[Path]:
    """The files that may hold marks: *source* itself, or those of the folder and of the folders within."""
    source = Path(source)
    if source.is_file():
        return [source]
    endings = {*SUFFIXES, *UNREAD_LABELS}
    return sorted(path for path in source.rglob("[!.]*") if path.suffix.lower() in endings and path.is_file())


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
        return _text_format(path)
    return _table_format(read_text_table(path))


def _text_format(path: Path) -> str | None:
    """The format of a text: a table's, or that of most of its lines."""
    lines = [line for line in decoded_text(path).splitlines() if line.strip()]
    for layout, line in ((YOLO, _YOLO_LINE), (CHULA, _CHULA_LINE)):
        if lines and all(map(line.fullmatch, lines)):
            return layout
    try:
        if (layout := _table_format(read_text_table(path))) is not None:
            return layout
    except AnnotationError:  # of a program that is known
        raise
    except SmearError:  # any text
        pass
    ((layout, n_lines),) = Counter(map(_line_format, lines)).most_common(1) or [(None, 0)]
    if layout in _UNREAD_LINES and 2 * n_lines >= len(lines):
        raise _unread(path, layout, _UNREAD_LINES[layout])
    return layout if 2 * n_lines >= len(lines) else None


def _line_format(line: str) -> str | None:
    """The format that one line may be of, though some of its numbers be damaged."""
    fields = line.split()
    is_word = [not any(map(str.isdecimal, field)) for field in fields]
    if len(fields) in (15, 16) and is_word[0] and sum(is_word) == 1:
        return "KITTI"
    if len(fields) in (9, 10) and is_word[8] and sum(is_word) == 1:
        return "DOTA"
    n_words = is_word.index(False) if False in is_word else len(fields)  # of the class, where it is named
    if len(fields) - n_words >= 4 + (n_words == 0) and sum(is_word[n_words:]) <= 1:
        return YOLO
    return CHULA if len(fields) == 3 and sum(is_word) <= 1 and not is_word[2] else None


def image_shapes(images: Mapping[str, Path], names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Name -> (height, width) in pixels of the *images* (file name -> path) that *names* mean.

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
        _LABELBOX: bool(keys & {"data_row", "Labeled Data", "DataRow ID"}),
        _LABEL_STUDIO: ("annotations" in keys and bool(keys & {"data", "file_upload"})) or keys >= _STUDIO_COLUMNS,
        "CreateML": "annotations" in keys and "image" in keys,
        "VIA 3": {"project", "metadata", "view"} <= keys,
    }
    for program, fits in unread.items():
        if fits:
            raise _unread(path, program, _AS_COCO_OR_BOXES if program == _LABELBOX else _AS_COCO)
    return next((layout for layout, fits in layouts.items() if fits), None)


def _table_format(table: TextTable) -> str | None:
    names = [plain_name(name) for name in table.fields.columns]
    if is_readings(table):
        return READINGS
    if "region_shape_attributes" in names:
        return VIA
    if "spatial_coordinates" in names:
        raise _unread(table.path, "VIA 3", _AS_COCO)
    if {*names} >= _STUDIO_COLUMNS:
        raise _unread(table.path, _LABEL_STUDIO, _AS_COCO)
    if {"imagenumber", "objectnumber"} <= {*names}:
        remedy = "put names of images for its ImageNumber, and name the columns smear,x_px,y_px,label"
        raise _unread(table.path, "CellProfiler", remedy)
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
    for part in ("images", "categories"):  # as where two files were put together by hand
        ids = pd.Series([entry["id"] for entry in document.get(part, [])], dtype=object)
        if (again := ids.duplicated()).any():
            raise AnnotationError(
                f"{path}: {part} has the id {shown(ids[again].iloc[0])} again, so that nobody knows which one a label "
                "means; give each its own id"
            )
    images = {image["id"]: image for image in document["images"]}
    classes = {kind["id"]: kind["name"] for kind in document.get("categories", [])}

    def marks(item: Mapping) -> Iterator[tuple]:
        image = _of_id(images, item["image_id"], "image")
        x, y, width, height = item.get("bbox") or (0, 0, 0, 0)
        outline = item.get("segmentation")
        if width < 0 or height < 0:
            raise _FaultError(f"its box has the negative width or height {width:g}, {height:g}")
        if width > 0 or height > 0:
            place = _box(x, y, x + width, y + height)
        elif isinstance(outline, dict):
            raise _FaultError("it is a mask in RLE without its bbox; add that with pycocotools.mask.toBbox")
        elif item.get("keypoints"):
            place = (*_seen_keypoints(item["keypoints"]), np.nan)
        else:
            place = _outline(np.concatenate([np.reshape(part, (-1, 2)) for part in outline]))
        yield (
            image["file_name"],
            _of_id(classes, item["category_id"], "category"),
            place,
            (image.get("height"), image.get("width")),
        )

    return Marks("annotation", document["annotations"], marks)


def _of_id(entries: Mapping, id_: object, kind: str) -> Any:
    if id_ not in entries:
        raise _FaultError(f"no {kind} of the file has the id {shown(id_)}")
    return entries[id_]


def _read_voc(path: Path, _aids: Aids) -> Marks:
    """Pascal VOC, and the outlines that LabelMe's first version, on the web, wrote in much the same way."""
    root = _parsed_xml(path)
    sizes = ("size/height", "imagesize/nrows"), ("size/width", "imagesize/ncols")
    shape = tuple(_number(root.findtext(new) or root.findtext(old) or 0) for new, old in sizes)

    def marks(item: ElementTree.Element) -> Iterator[tuple]:
        if item.findtext("deleted") == "1":
            return
        corners = [[_number(point.findtext(side)) for side in "xy"] for point in item.iter("pt")]
        sides = [f"bndbox/{side}" for side in ("xmin", "ymin", "xmax", "ymax")]
        place = _outline(np.array(corners)) if corners else _box(*(_number(item.findtext(side)) for side in sides))
        yield (root.findtext("filename") or path.stem).strip(), item.findtext("name"), place, shape

    return Marks("object", _elements(root, "object"), marks)


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
    images = _elements(_parsed_xml(path), "image")

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
            raise _FaultError(f"<{mark.tag}> has no place that is read")
        for place in places:
            yield image.get("name"), mark.get("label"), place, shape

    return Marks("mark", [(image, mark) for image in images for mark in image], marks)


def _read_yolo(path: Path, aids: Aids) -> Marks:
    lines = {row: line for row, line in enumerate(decoded_text(path).splitlines(), 1) if line.strip()}
    numbered = any(line.split()[0].isdecimal() for line in lines.values())
    classes, keypoints = _yolo_classes(path, needed=numbered)
    folder = path.parent
    beside = [Path(*("images" if part == "labels" else part for part in folder.parts)), folder.parent / "images"]
    near = [{image.name: image for image in images_in(place)} for place in (folder, *beside) if place.is_dir()]
    found = ((images, match_names([path.stem], images)[0]) for images in chain([aids.images], near))
    image = next((images[matched[path.stem]] for images, matched in found if matched), None)
    if image is None:
        known = [*aids.images, *chain(*near)]
        why = f"there is no image {path.stem} beside it or in images; name the folder of the images with --smears"
        if known:
            _, unmatched = match_names([path.stem], known)
            why = f"{path.stem} {unmatched[path.stem]}"
        raise LabelError(
            f"{path}: YOLO gives places as shares of the image, and {why}",
            len(lines),
            "of an image that is not at hand",
        )
    shape = read_image(image).shape[:2]

    def marks(line: str) -> Iterator[tuple]:
        fields = line.split()
        n_words = 1 if numbered else next((at for at, text in enumerate(fields) if is_number(text)), 1)
        name = " ".join(fields[:n_words])
        shares = np.array([_number(share) for share in fields[n_words : n_words + 4 if keypoints else None]])
        if numbered:
            if not name.isdecimal() or int(name) not in classes:
                raise _FaultError(f"there is no class {name} among the {len(classes)} that are named near it")
            name = classes[int(name)]
        elif classes and name not in classes.values():
            raise _FaultError(f"the class {shown(name)} is not among those that are named near it")
        if len(shares) < 4:
            raise _FaultError("a class and four numbers belong in a line")
        if (np.abs(shares[:4]) > _LARGEST_SHARE).any():
            raise _FaultError(f"YOLO's places are shares of the image, 0 to 1, and not {shares[:4].max():g}")
        if len(shares) > 5 and len(shares) % 2 == 0:
            place = _outline(shares.reshape(-1, 2) * (shape[1], shape[0]))
        else:
            x, y, width, height = shares[:4] * (shape[1], shape[0], shape[1], shape[0])
            place = _box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        yield image.name, name, place, shape

    return Marks("line", [*lines.values()], marks, numbers=[*lines])


def _read_chula(path: Path, _aids: Aids) -> Marks:
    """Chula RBC-12: the image of the file's name lies in ``Dataset`` beside ``Label``."""
    images = path.parent.parent.glob(f"Dataset/{escape(path.stem)}.*")
    smear = min((image.name for image in images if image.suffix.lower() in IMAGE_SUFFIXES), default=f"{path.stem}.jpg")
    lines = {row: line for row, line in enumerate(decoded_text(path).splitlines(), 1) if line.strip()}

    def marks(line: str) -> Iterator[tuple]:
        try:
            x, y, label = chula_label(line)
        except ValueError as error:
            raise _FaultError(str(error)) from None
        yield smear, label, (x, y, np.nan), (None, None)

    return Marks("line", [*lines.values()], marks, numbers=[*lines])


def _yolo_classes(path: Path, *, needed: bool) -> tuple[dict[int, str], bool]:
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
    if not needed:
        return {}, False
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
            f"{path}: VIA's regions have the attributes {', '.join(sorted(names)) or 'none'}, and it is not clear "
            "which is the class; call it label there"
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
        return parse_json(text)
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
    sides, causes = read_numbers(texts[[*_SIDES]], table.separator)
    shapes = image_shapes(aids.images, texts[SMEAR].unique())
    largest = sides.max(axis=1).dropna()
    shares = bool((largest <= _LARGEST_SHARE).mean() > 0.5) if len(largest) else False  # a box of pixels is larger
    if shares and not set(texts[SMEAR]) & set(shapes):
        raise AnnotationError(
            f"{path}: its boxes are shares of the image, and none of the images is at hand; name their folder with "
            "--smears"
        )

    def marks(row: int) -> Iterator[tuple]:
        _require_numbers(texts, sides, causes, row)
        smear, box = texts[SMEAR][row], sides.loc[row]
        height, width = shape = shapes.get(smear, (None, None))
        if shares:
            if width is None:
                raise _FaultError(f"its box is given as shares of {smear}, which is not at hand")
            if box.max() > _LARGEST_SHARE:
                raise _FaultError(f"the boxes are shares of the image, 0 to 1, and not {box.max():g}")
            box = box * [width, height, width, height]
        elif box.max() <= _LARGEST_SHARE:
            raise _FaultError(f"the boxes are in pixels, and not shares of the image such as {box.max():g}")
        yield smear, texts[LABEL][row], _box(*box), shape

    return Marks("row", list(texts.index), marks, numbers=list(texts.index), faults=list(table.faults.values()))


def _require_numbers(texts: pd.DataFrame, numbers: pd.DataFrame, causes: dict, row: int) -> None:
    """Raises ValueError where one of the *numbers* [rows, columns] of *row* is none."""
    for name in numbers.columns[numbers.loc[row].isna()]:
        raise _FaultError(f"it has {name} {shown(texts[name][row])}{causes.get((row, name), '')}, which is no number")


def _read_qupath(path: Path, aids: Aids) -> Marks:
    table = read_text_table(path)
    in_um = any(re.match(r"centroid_x_.m$", plain_name(name)) for name in table.fields.columns)
    if in_um and aids.pixel_um is None:
        raise AnnotationError(
            f"{path}: QuPath's centroids are in µm; give the side of a pixel with --pixel-um (QuPath's tab Image)"
        )
    return _read_measurements(table, _QUPATH, aids.pixel_um if in_um else 1.0, aids)


def _read_imagej(path: Path, aids: Aids) -> Marks:
    return _read_measurements(read_text_table(path), _IMAGEJ, aids.pixel_um or 1.0, aids)


def _read_measurements(table: TextTable, synonyms: dict[str, tuple[str, ...]], unit: float, aids: Aids) -> Marks:
    """The marks of a table of results; *unit* is the side of a pixel in its unit of length."""
    texts = columns_of(table, synonyms)
    if LABEL not in texts:
        raise AnnotationError(f"{table.path}: row {table.header_row} has no column for the class; add one called Class")
    if SMEAR not in texts:
        texts[SMEAR] = stem = table.path.stem
        if aids.images and not match_names([stem], aids.images)[0]:
            raise AnnotationError(
                f"{table.path}: does not say of which image it is, and no image is called {stem}; give the table the "
                'name of its image, or switch on "Display label" in ImageJ\'s Set Measurements'
            )
    texts[SMEAR] = texts[SMEAR].str.split(":").str[0]
    names = [name for name in (X, Y, "bx", "by", "width", "height") if name in texts]
    numbers, causes = read_numbers(texts[names], table.separator)
    numbers = numbers / unit
    boxes = {"bx", "by", "width", "height"} <= {*names}

    def marks(row: int) -> Iterator[tuple]:
        here = numbers.loc[row]
        place = (here[X], here[Y], np.nan) if X in names and Y in names else (np.nan,) * 3
        if boxes and not np.isnan(here["bx"]):
            of_box = _box(here["bx"], here["by"], here["bx"] + here["width"], here["by"] + here["height"])
            place = of_box if np.isnan(place[0]) else (*place[:2], of_box[2])
        if np.isnan(place[:2]).any():
            _require_numbers(texts, numbers, causes, row)
        yield texts[SMEAR][row], texts[LABEL][row], place, (None, None)

    return Marks("row", list(texts.index), marks, numbers=list(texts.index), faults=list(table.faults.values()))


def _usable_marks(path: Path, found: Marks, aids: Aids, errors: list[SmearError] | None) -> pd.DataFrame:
    """The marks of each item; those that cannot be used are named by kind and number, from 1.

    Marks are seen to lie in the image: here, if its size is in the file alone; else where the image is read.
    """
    rows, faults = [], list(found.faults)
    for number, item in zip(found.numbers or range(1, len(found.items) + 1), found.items, strict=True):
        where = f"{path}: {found.kind} {number}"
        try:
            for smear, label, (x, y, radius), shape in found.marks(item):
                if not (isinstance(smear, str) and smear.strip() and isinstance(label, str) and label.strip()):
                    raise _FaultError(f"it names the smear {shown(smear)} and the class {shown(label)}")
                if not (np.isfinite(x) and np.isfinite(y)):
                    raise _FaultError(f"its place {x:g}, {y:g} is no pair of numbers")
                if min(x, y) < -0.5:
                    message = f"{where} has its centre at {x:g}, {y:g}, outside of the image {smear}; correct it"
                    faults.append(LabelError(message, reason=OUTSIDE))
                    continue
                sized = all(isinstance(side, Real) and side > 0 for side in shape)
                place = float(x), float(y), float(radius) or np.nan
                rows.append((smear.strip(), *place, label.strip(), where, tuple(shape) if sized else None))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            if isinstance(error, _FaultError):
                cause = str(error)
            elif isinstance(error, KeyError):
                cause = f"it lacks {shown(error.args[0])}"
            else:
                cause = "its place is not written as in labels of this form"
            faults.append(LabelError(f"{where} cannot be used ({cause}); correct or remove it"))
    report_faults(faults, errors, path)
    table = pd.DataFrame(rows, columns=[SMEAR, X, Y, RADIUS, LABEL, WHERE, SHAPE])
    at_hand, _ = match_names(table[SMEAR].unique(), aids.images)
    sized = table[SHAPE].notna() & ~table[SMEAR].isin(list(at_hand))
    inside = [labels_inside(marks, shape, errors, path) for (_, shape), marks in table[sized].groupby([SMEAR, SHAPE])]
    return pd.concat([table[~sized], *inside]).sort_index()


def _box(left: float, top: float, right: float, bottom: float) -> Place:
    return (left + right) / 2, (top + bottom) / 2, (abs(right - left) + abs(bottom - top)) / 4


def _outline(points: np.ndarray) -> Place:
    return _box(*points.min(axis=0), *points.max(axis=0))


def _seen_keypoints(numbers: list[float]) -> tuple[float, float]:
    """The middle of the keypoints that are marked, x, y, visibility of each in a row."""
    points = np.array(numbers, float).reshape(-1, 3)
    if not (points[:, 2] > 0).any():
        raise _FaultError("none of its key points is marked")
    return tuple(points[points[:, 2] > 0, :2].mean(axis=0))


def _number(text: Any) -> float:
    if text is None:
        raise _FaultError("a number of its place is missing")
    try:
        return float(text)
    except ValueError:
        raise _FaultError(f"its place has {shown(text)}, which is no number") from None


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


def _elements(root: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    """The elements *tag* in *root*, in which nothing is called nearly so."""
    for child in root:
        if child.tag != tag and child.tag.casefold().rstrip("s") == tag:
            raise _FaultError(f"it has <{child.tag}> where <{tag}> belongs")
    return root.findall(tag)


def _refuse_doctype(path: Path) -> None:
    raise AnnotationError(f"{path}: has a document type (<!DOCTYPE), which is not read for safety; remove that line")


def _parsed_json(path: Path) -> Any:
    try:
        return parse_json(decoded_text(path))
    except ValueError as error:
        if isinstance(error, SmearError):
            raise
        raise AnnotationError(f"{path}: cannot be read as JSON ({cause_of(error)}); export it again") from error


def _unread(path: Path, whose: str, remedy: str) -> AnnotationError:
    return AnnotationError(f"{path}: is of {whose}, which is not read; {remedy}")


FORMATS: dict[str, Callable[[Path, Aids], Marks]] = {  # beside CSV, which `label_tables` reads
    COCO: _read_coco,
    VOC: _read_voc,
    YOLO: _read_yolo,
    CHULA: _read_chula,
    LABELME: _read_labelme,
    CVAT: _read_cvat,
    VIA: _read_via,
    QUPATH: _read_qupath,
    GEOJSON: _read_geojson,
    IMAGEJ: _read_imagej,
    BOXES: _read_boxes,
}
