"""Labelled cells in the formats of other programs, as `rbcnb.smears.annotations` reads them.

A cell with a radius is the square around its circle, one without is a point; YOLO and Pascal VOC have no points.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import yaml

from rbcnb._utils.files import atomic_write
from rbcnb.columns import LABEL, RADIUS, SMEAR, class_names
from rbcnb.labels.formats import LabelFileError, require_places, require_stems
from rbcnb.smears.annotations import COCO, CVAT, LABELME, VOC, YOLO

Shapes = Mapping[str, tuple[int, int]]  # smear -> (height, width) of its image


def write_annotations(labels: pd.DataFrame, shapes: Shapes, out: str | Path, *, layout: str) -> None:
    """Writes *labels* as a file (COCO, CVAT) or as a folder with a file for each smear (YOLO, Pascal VOC, LabelMe).

    Args:
        labels: ``columns.FOUND`` and ``label``; ``radius_px`` NaN for points.
        shapes: of the images, in pixels.
        out: the file or folder.
        layout: a key of `WRITERS`.

    Raises:
        LabelFileError: a smear has no image, or a cell no place, or no size where the format needs one.
    """
    out = Path(out)
    require_places(labels, out)
    if missing := [smear for smear in labels[SMEAR].unique() if smear not in shapes]:
        raise LabelFileError(
            f"{out}: {layout} holds the size of each image, and the image {missing[0]} is not at hand; name the folder "
            "of the images with --smears"
        )
    if layout in (YOLO, VOC) and labels[RADIUS].isna().any():
        row = labels[labels[RADIUS].isna()].iloc[0]
        raise LabelFileError(
            f"{out}: {layout} holds boxes alone, and a cell of {row[SMEAR]} has no radius; export coco, labelme "
            "or cvat, which hold points"
        )
    if layout not in (COCO, CVAT):
        require_stems(labels, out)
    WRITERS[layout](labels, shapes, out)


def _write_coco(labels: pd.DataFrame, shapes: Shapes, out: Path) -> None:
    classes, smears = list(class_names(labels[LABEL])), list(labels[SMEAR].unique())
    images = [
        {"id": number, "file_name": smear, "height": shapes[smear][0], "width": shapes[smear][1]}
        for number, smear in enumerate(smears, 1)
    ]
    marks = []
    for number, row in enumerate(labels.itertuples(), 1):
        left, top, right, bottom = _sides(row)
        box = [left, top, right - left, bottom - top]
        mark = {"bbox": box, "area": box[2] * box[3], "iscrowd": 0, "segmentation": []}
        if pd.isna(row.radius_px):
            mark |= {"keypoints": [row.x_px, row.y_px, 2], "num_keypoints": 1}
        names = {"image_id": smears.index(row.smear) + 1, "category_id": classes.index(row.label) + 1}
        marks.append({"id": number, **names, **mark})
    kinds = [{"id": number, "name": name, "supercategory": "cell"} for number, name in enumerate(classes, 1)]
    _write_json(out, {"images": images, "categories": kinds, "annotations": marks})


def _write_voc(labels: pd.DataFrame, shapes: Shapes, out: Path) -> None:
    for smear, rows in labels.groupby(SMEAR, sort=False):
        root = ElementTree.Element("annotation")
        _add(root, filename=smear)
        _add(_add(root, size=""), width=shapes[smear][1], height=shapes[smear][0], depth=3)
        for row in rows.itertuples():
            item = _add(root, object="")
            _add(item, name=row.label, pose="Unspecified", truncated=0, difficult=0)
            _add(_add(item, bndbox=""), **dict(zip(("xmin", "ymin", "xmax", "ymax"), _sides(row), strict=True)))
        _write_xml(out / f"{Path(smear).stem}.xml", root)


def _write_yolo(labels: pd.DataFrame, shapes: Shapes, out: Path) -> None:
    classes = list(class_names(labels[LABEL]))
    for smear, rows in labels.groupby(SMEAR, sort=False):
        height, width = shapes[smear]
        lines = [
            f"{classes.index(row.label)} {row.x_px / width:.9f} {row.y_px / height:.9f} "
            f"{2 * row.radius_px / width:.9f} {2 * row.radius_px / height:.9f}\n"
            for row in rows.itertuples()
        ]
        _write_text(out / "labels" / f"{Path(smear).stem}.txt", "".join(lines))
    facts = {"path": ".", "train": "images", "val": "images", "names": dict(enumerate(classes))}
    _write_text(out / "data.yaml", yaml.safe_dump(facts, sort_keys=False, allow_unicode=True))


def _write_labelme(labels: pd.DataFrame, shapes: Shapes, out: Path) -> None:
    for smear, rows in labels.groupby(SMEAR, sort=False):
        marks = []
        for row in rows.itertuples():
            left, top, right, bottom = _sides(row)
            point = pd.isna(row.radius_px)
            points = [[row.x_px, row.y_px]] if point else [[left, top], [right, bottom]]
            kind = "point" if point else "rectangle"
            marks.append({"label": row.label, "points": points, "group_id": None, "shape_type": kind, "flags": {}})
        height, width = shapes[smear]
        image = {"imagePath": smear, "imageData": None, "imageHeight": height, "imageWidth": width}
        _write_json(out / f"{Path(smear).stem}.json", {"version": "5.0.0", "flags": {}, "shapes": marks, **image})


def _write_cvat(labels: pd.DataFrame, shapes: Shapes, out: Path) -> None:
    root = ElementTree.Element("annotations")
    _add(root, version="1.1")
    for number, (smear, rows) in enumerate(labels.groupby(SMEAR, sort=False)):
        height, width = map(str, shapes[smear])
        image = ElementTree.SubElement(root, "image", id=str(number), name=smear, width=width, height=height)
        for row in rows.itertuples():
            if pd.isna(row.radius_px):
                mark, place = "points", {"points": f"{row.x_px},{row.y_px}"}
            else:
                sides = map(str, _sides(row))
                mark, place = "box", dict(zip(("xtl", "ytl", "xbr", "ybr"), sides, strict=True))
            ElementTree.SubElement(image, mark, label=row.label, source="manual", occluded="0", z_order="0", **place)
    _write_xml(out, root)


def _sides(row: tuple) -> tuple[float, float, float, float]:
    """left, top, right, bottom of the square around a cell; of a point all sides lie in it."""
    radius = 0.0 if pd.isna(row.radius_px) else row.radius_px
    return row.x_px - radius, row.y_px - radius, row.x_px + radius, row.y_px + radius


def _add(parent: ElementTree.Element, **texts: object) -> ElementTree.Element:
    """Adds an element for each of *texts*; returns the last."""
    for name, text in texts.items():
        element = ElementTree.SubElement(parent, name)
        element.text = str(text)
    return element


def _write_json(path: Path, document: dict) -> None:
    _write_text(path, json.dumps(document, ensure_ascii=False, indent=1))


def _write_xml(path: Path, root: ElementTree.Element) -> None:
    ElementTree.indent(root)
    _write_text(path, ElementTree.tostring(root, encoding="unicode") + "\n")


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


WRITERS: dict[str, Callable[[pd.DataFrame, Shapes, Path], None]] = {
    COCO: _write_coco,
    VOC: _write_voc,
    YOLO: _write_yolo,
    LABELME: _write_labelme,
    CVAT: _write_cvat,
}
