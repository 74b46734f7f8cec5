"""Labels of other programs: what their own documentation shows is read, our exports come back, the rest is named."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rbcnb.cli_arguments import _LAYOUTS, _OUT_LAYOUTS
from rbcnb.columns import FOUND, LABEL, RADIUS, SMEAR, X, Y
from rbcnb.labels.annotation_writers import WRITERS, write_annotations
from rbcnb.labels.import_export import LAYOUTS, OUT_LAYOUTS, export_labels, import_labels
from rbcnb.labels.readings import append_readings
from rbcnb.smears.annotations import Aids, format_of, read_annotations
from rbcnb.smears.images import SmearError
from rbcnb.smears.sources import folder_smears, label_files

# After the examples in each program's documentation, with the smears and classes of a lab.
COCO = {
    "info": {"year": 2026, "version": "1.0"},
    "licenses": [],
    "images": [{"id": 7, "width": 640, "height": 480, "file_name": "a.png"}],
    "categories": [{"id": 3, "name": "normal", "supercategory": "cell"}, {"id": 5, "name": "codocyte"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 40, 36], "area": 1440, "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 5, "segmentation": [[100, 50, 140, 50, 140, 90, 100, 90]]},
        {"id": 3, "image_id": 7, "category_id": 5, "keypoints": [300, 200, 2], "num_keypoints": 1},
    ],
}
VOC = """<annotation><folder>s</folder><filename>a.png</filename><source><database>Unknown</database></source>
<size><width>640</width><height>480</height><depth>3</depth></size><segmented>0</segmented>
<object><name>normal</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>
<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>50</xmax><ymax>56</ymax></bndbox></object></annotation>"""
LABELME = {
    "version": "5.4.1",
    "flags": {},
    "shapes": [
        {"label": "normal", "points": [[10, 20], [50, 56]], "group_id": None, "shape_type": "rectangle", "flags": {}},
        {"label": "codocyte", "points": [[100, 50], [140, 50], [120, 90]], "shape_type": "polygon"},
        {"label": "codocyte", "points": [[200, 200], [200, 220]], "shape_type": "circle"},
        {"label": "normal", "points": [[300, 200]], "shape_type": "point"},
    ],
    "imagePath": "..\\smears\\a.png",
    "imageData": None,
    "imageHeight": 480,
    "imageWidth": 640,
}
CVAT = """<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task><id>4</id></task></meta>
<image id="0" name="s/a.png" width="640" height="480">
<box label="normal" occluded="0" source="manual" xtl="10.0" ytl="20.0" xbr="50.0" ybr="56.0" z_order="0"></box>
<polygon label="codocyte" points="100.0,50.0;140.0,50.0;120.0,90.0" z_order="0"></polygon>
<points label="normal" points="300.0,200.0;310.5,220.0" z_order="0"></points>
<ellipse label="normal" cx="200" cy="200" rx="20" ry="18"></ellipse></image></annotations>"""
VIA_CSV = """filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes
a.png,1,{},2,0,"{""name"":""rect"",""x"":10,""y"":20,""width"":40,""height"":36}","{""cell"":""normal""}"
a.png,1,{},2,1,"{""name"":""circle"",""cx"":200,""cy"":200,""r"":20}","{""cell"":""codocyte""}"
b.png,1,{},0,0,{},{}
"""
VIA_JSON = {
    "a.png1": {
        "filename": "a.png",
        "size": 1,
        "regions": [
            {"shape_attributes": {"name": "point", "cx": 30, "cy": 38}, "region_attributes": {"cell": "normal"}},
            {
                "shape_attributes": {"name": "polygon", "all_points_x": [100, 140, 120], "all_points_y": [50, 50, 90]},
                "region_attributes": {"cell": "codocyte"},
            },
        ],
        "file_attributes": {},
    }
}
QUPATH_PX = (
    "Image\tName\tClass\tParent\tROI\tCentroid X px\tCentroid Y px\n"
    "a.png\tPathCell\tnormal\tImage\tPolygon\t30\t38\n"
    "a.png\tPathCell\tcodocyte\tImage\tPolygon\t120.5\t70\n"
)
QUPATH_UM = QUPATH_PX.replace(" px", " µm")
GEOJSON = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": "1f",
            "geometry": {"type": "Polygon", "coordinates": [[[10, 20], [50, 20], [50, 56], [10, 56], [10, 20]]]},
            "properties": {"objectType": "detection", "classification": {"name": "normal", "color": [200, 0, 0]}},
        },
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [300, 200]},
            "properties": {"classification": {"name": "codocyte"}},
        },
    ],
}
IMAGEJ = " \tLabel\tArea\tX\tY\tClass\n1\ta.png:0001-0030\t1200\t30\t38\tnormal\n2\ta.png\t1300\t120.5\t70\tcodocyte\n"
IMAGEJ_BOX = " ,Label,BX,BY,Width,Height,Type\n1,a.png,10,20,40,36,1\n"
CELL = (30, 38, 19, "normal")
NAN = np.nan

DOCUMENTED = [
    ("a.json", COCO, "coco", [CELL, (120, 70, 20, "codocyte"), (300, 200, NAN, "codocyte")]),
    ("a.xml", VOC, "voc", [CELL]),
    (
        "a.json",
        LABELME,
        "labelme",
        [CELL, (120, 70, 20, "codocyte"), (200, 200, 20, "codocyte"), (300, 200, NAN, "normal")],
    ),
    (
        "a.xml",
        CVAT,
        "cvat",
        [
            CELL,
            (120, 70, 20, "codocyte"),
            (300, 200, NAN, "normal"),
            (310.5, 220, NAN, "normal"),
            (200, 200, 19, "normal"),
        ],
    ),
    ("a.csv", VIA_CSV, "via", [CELL, (200, 200, 20, "codocyte")]),
    ("a.csv", f"#{VIA_CSV}", "via", [CELL, (200, 200, 20, "codocyte")]),  # as VIA 1.0 writes it
    ("a.json", VIA_JSON, "via", [(30, 38, NAN, "normal"), (120, 70, 20, "codocyte")]),
    (
        "a.json",
        {"_via_settings": {}, "_via_img_metadata": VIA_JSON},
        "via",
        [(30, 38, NAN, "normal"), (120, 70, 20, "codocyte")],
    ),
    ("a.tsv", QUPATH_PX, "qupath", [(30, 38, NAN, "normal"), (120.5, 70, NAN, "codocyte")]),
    ("a.tsv", QUPATH_UM, "qupath", [(120, 152, NAN, "normal"), (482, 280, NAN, "codocyte")]),
    ("a.geojson", GEOJSON, "geojson", [CELL, (300, 200, NAN, "codocyte")]),
    ("Results.xls", IMAGEJ, "imagej", [(30, 38, NAN, "normal"), (120.5, 70, NAN, "codocyte")]),
    ("Results.csv", IMAGEJ_BOX, "imagej", [(30, 38, 19, "1")]),
]


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "content", "layout", "cells"), DOCUMENTED)
def test_the_programs_examples_are_read(tmp_path, name, content, layout, cells):
    path = write(tmp_path / name, content)
    assert format_of(path) == layout
    table = read_annotations(path, layout=layout, aids=Aids(pixel_um=0.25 if "µm" in content else None))
    assert {re.split(r"[/\\]", smear)[-1] for smear in table[SMEAR]} <= {"a.png", "a"}
    expected = pd.DataFrame(cells, columns=[X, Y, RADIUS, LABEL])
    pd.testing.assert_frame_equal(table[[X, Y, RADIUS, LABEL]], expected, check_dtype=False)


BOXES = "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,640,480,normal,10,20,50,56\n"  # TensorFlow's order


def test_boxes_in_a_table_are_read_in_pixels_or_shares(tmp_path):
    images = tmp_path / "smears"
    images.mkdir()
    Image.new("RGB", (640, 480)).save(images / "a.png")
    (tmp_path / "pixels.csv").write_text(BOXES + "a.png,640,480,codocyte,630,20,680,56\na.png,640,480,normal,x,1,2,3\n")
    rows = "image;x1;y1;x2;y2;label\na.png;0,1;0,2;0,3;0,5;normal\n"
    (tmp_path / "shares.csv").write_text(rows)
    aids = Aids({"a.png": images / "a.png"})
    errors = []
    table = read_annotations(tmp_path / "pixels.csv", layout="boxes", aids=aids, errors=errors)
    assert table[[SMEAR, X, Y, RADIUS, LABEL]].to_numpy().tolist() == [["a.png", 30.0, 38.0, 19.0, "normal"]]
    assert ["row 3" in str(errors[0]), "outside of the image" in str(errors[0])] == [True, True]
    assert "row 4" in str(errors[1])
    assert format_of(tmp_path / "shares.csv") == "boxes"
    table = read_annotations(tmp_path / "shares.csv", layout="boxes", aids=aids)
    assert table[[X, Y]].to_numpy() == pytest.approx(np.array([[0.2 * 640, 0.35 * 480]]))
    with pytest.raises(SmearError, match="shares of the image, and not all of the images are at hand"):
        read_annotations(tmp_path / "shares.csv", layout="boxes")

    (images / "labels.csv").write_text(BOXES)  # in place of points, beside the images
    (smear,) = folder_smears(images)
    assert smear.truth[[X, Y, RADIUS, LABEL]].to_numpy().tolist() == [[30.0, 38.0, 19.0, "normal"]]


def test_a_box_of_which_x_and_y_may_be_the_corner_is_not_guessed(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("image,x,y,width,height,label\na.png,10,20,8,8,normal\n")
    with pytest.raises(SmearError, match=r"row 1 has x, y, width and height, .* the corner of a box or its centre"):
        list(folder_smears(tmp_path))


@pytest.mark.parametrize("classes", ["data.yaml", "classes.txt"])
def test_yolo_is_read_with_the_size_of_the_image(tmp_path, classes):
    for folder in ("images/train", "labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (640, 480)).save(tmp_path / "images/train/a.png")
    lines = "0 0.046875 0.0791667 0.0625 0.075\n1 0.15625 0.104167 0.21875 0.104167 0.1875 0.1875\n"
    (tmp_path / "labels/train/a.txt").write_text(lines)
    names = {
        "data.yaml": "train: images/train\nnames:\n  0: normal\n  1: codocyte\n",
        "classes.txt": "normal\ncodocyte\n",
    }
    with pytest.raises(SmearError, match=r"YOLO numbers its classes, .* classes\.txt, beside it"):
        read_annotations(tmp_path, layout="yolo")
    (tmp_path / classes).write_text(names[classes])
    table = read_annotations(tmp_path, layout=format_of(tmp_path / "labels/train/a.txt"))
    assert table[[X, Y, RADIUS]].to_numpy() == pytest.approx(np.array([[30, 38, 19], [120, 70, 20]]), abs=1e-3)
    assert table[LABEL].tolist() == ["normal", "codocyte"]
    (tmp_path / "images/train/a.png").unlink()
    with pytest.raises(SmearError, match=r"no image a is beside it or in images; name the folder .* --smears"):
        read_annotations(tmp_path, layout="yolo")


@pytest.fixture
def readings(tmp_path):
    """readings.csv over two smears, and the folder of the smears."""
    smears = tmp_path / "smears"
    smears.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for name in ("b 1.png", "é.jpg"):
        Image.new("RGB", (320, 240)).save(smears / name)
        rows += [(name, n, *rng.uniform(20, 220, 2), rng.uniform(8, 12)) for n in range(4)]
    table = pd.DataFrame(rows, columns=list(FOUND)).assign(label=["normal", "burr cell", "normal", "Zelle <ß>"] * 2)
    append_readings(tmp_path / "readings.csv", table.assign(reader="anna"))
    return tmp_path / "readings.csv", smears, table


@pytest.mark.parametrize("layout", WRITERS)
def test_an_export_comes_back(readings, tmp_path, layout):
    source, smears, table = readings
    out = tmp_path / ("out.json" if layout == "coco" else "out.xml" if layout == "cvat" else "out")
    with pytest.raises(
        SmearError, match=r"the image b 1\.png is not at hand; name the folder of the images with --smears"
    ):
        export_labels(source, out, layout=layout)
    assert "8 labels written" in export_labels(source, out, layout=layout, smears=smears)
    assert f"({layout})" in import_labels(out, tmp_path / "back.csv", reader="bo", smears=smears)
    back = pd.read_csv(tmp_path / "back.csv")
    assert back[SMEAR].tolist() == table[SMEAR].tolist()
    assert back[LABEL].tolist() == table[LABEL].tolist()
    assert back[[X, Y, RADIUS]].to_numpy() == pytest.approx(table[[X, Y, RADIUS]].to_numpy(), abs=1e-5)


def test_images_are_found_where_segment_says_that_they_lie(readings, tmp_path):
    source, smears, table = readings
    names = table[SMEAR].unique()
    files = pd.DataFrame({SMEAR: names, "file": [smears / name for name in names]})
    files.to_csv(tmp_path / "smears.csv", index=False)
    assert "8 labels written" in export_labels(source, tmp_path / "out", layout="yolo")
    outside = "smear,x_px,y_px,label\nb 1,5,6,normal\nb 1,5,600,normal\n"
    errors = []
    import_labels(write(tmp_path / "a.csv", outside), source, reader="bo", errors=errors)
    assert "row 3 puts a cell at x_px 5, y_px 600, outside of the 320 x 240 image b 1.png" in str(errors[0])


@pytest.mark.parametrize("layout", WRITERS)
def test_points_come_back_or_are_refused(tmp_path, layout):
    points = pd.DataFrame({SMEAR: "a.png", X: [3.5, 8.0], Y: [4.0, 9.0], RADIUS: NAN, LABEL: ["normal", "codocyte"]})
    out = tmp_path / ("out.json" if layout == "coco" else "out.xml" if layout == "cvat" else "out")
    if layout in ("voc", "yolo"):
        with pytest.raises(SmearError, match="holds boxes alone"):
            write_annotations(points, {"a.png": (20, 30)}, out, layout=layout)
        return
    write_annotations(points, {"a.png": (20, 30)}, out, layout=layout)
    back = read_annotations(out, layout=layout)
    pd.testing.assert_frame_equal(back[points.columns], points, check_dtype=False)


def test_files_of_one_program_serve_in_place_of_labels_csv(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (640, 480)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no labels at all")
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "results.csv").write_text("x,y\n1,2\n")
    before = label_files(tmp_path)
    write(tmp_path / "anything.json", COCO)
    assert [path.name for path in label_files(tmp_path) if path not in before] == ["anything.json"]
    truth, none = (smear.truth for smear in folder_smears(tmp_path))
    assert none is None
    assert truth[[X, Y, LABEL]].to_numpy().tolist() == [
        [30, 38, "normal"],
        [120, 70, "codocyte"],
        [300, 200, "codocyte"],
    ]
    write(tmp_path / "a.xml", VOC)
    with pytest.raises(SmearError, match=r"holds labels as voc, coco .a\.xml, anything\.json.; keep one"):
        list(folder_smears(tmp_path))
    (tmp_path / "labels.csv").write_text("smear,x_px,y_px,label\nb,1,2,normal\n")
    assert [smear.truth is None for smear in folder_smears(tmp_path)] == [True, False]


def places_of(document, path=()):
    """The keys that lead to each value of a JSON document."""
    inside = (
        document.items() if isinstance(document, dict) else enumerate(document if isinstance(document, list) else ())
    )
    for key, value in inside:
        yield (*path, key)
        yield from places_of(value, (*path, key))


@pytest.mark.parametrize(
    ("name", "document"), [("coco", COCO), ("labelme", LABELME), ("via", VIA_JSON), ("geojson", GEOJSON)]
)
def test_whatever_stands_in_a_document_is_read_or_named(tmp_path, name, document):
    for place in places_of(document):
        for strange in (None, "x", -1, []):
            changed = within = json.loads(json.dumps(document))
            for key in place[:-1]:
                within = within[key]
            within[place[-1]] = strange
            path = write(tmp_path / "a.json", changed)
            errors = []
            try:
                table = read_annotations(path, layout=name, errors=errors)
            except SmearError as error:
                errors.append(error)
            else:
                assert np.isfinite(table[[X, Y]].to_numpy(float)).all()
            assert all(str(error).startswith(str(path)) for error in errors)


def test_a_mark_that_cannot_be_used_is_named_and_the_others_are_done(tmp_path):
    bad = {"id": 4, "image_id": 8, "category_id": 3, "bbox": [1, 1, 2, 2]}, {"id": 5, "image_id": 7, "category_id": 3}
    outside = {"id": 6, "image_id": 7, "category_id": 3, "bbox": [700, 20, 40, 36]}
    path = write(tmp_path / "a.json", COCO | {"annotations": [*COCO["annotations"], *bad, outside]})
    errors = []
    assert len(read_annotations(path, layout="coco", errors=errors)) == 3
    assert [re.search(r"annotation \d", str(error))[0] for error in errors] == [
        "annotation 4",
        "annotation 5",
        "annotation 6",
    ]
    assert "lies outside of the image a.png" in str(errors[2])
    assert "3 left out" in import_labels(path, tmp_path / "r.csv", reader="anna", errors=[])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.json",
            {"description": "", "size": {"height": 1}, "objects": []},
            "is of Supervisely, which is not read; export",
        ),
        ("a.json", [{"data_row": {"id": "c"}, "projects": {}}], "is of Labelbox"),
        ("a.json", [{"id": 1, "data": {}, "annotations": []}], "is of Label Studio"),
        ("a.xml", "<annotations><track/></annotations>", "is of CVAT for video"),
        ("a.xml", "<Annotations><Annotation/></Annotations>", "is of Aperio ImageScope.*GeoJSON"),
        ("a.xml", "<annotation><object></annotation>", "cannot be read as XML"),
        ("a.json", "{", "cannot be read as JSON"),
        ("a.xlsx", "PK", "is of an Excel workbook, which is not read; save it as CSV"),
        ("a.qpdata", "", "is of QuPath's data"),
        ("RoiSet.zip", "PK", "ImageJ's regions"),
        ("a.csv", "x,y,label\n1,2,normal\n", "row 1 lacks smear: its columns are x, y, label"),
        ("a.txt", "nothing of the kind\n", "row 1 is .nothing of the kind.: no comma"),
        ("a.json", "{}", "holds no labels in a form that is known"),
        ("a.dcm", "", "is of DICOM"),
    ],
)
def test_a_format_that_is_not_read_is_named(tmp_path, name, content, message):
    with pytest.raises(SmearError, match=message):
        import_labels(write(tmp_path / name, content), tmp_path / "r.csv", reader="anna")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_of_xml_are_refused(tmp_path, encoding):
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "boo"}">' for n in range(30))
    text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE annotation [{bomb}]><annotation>&e29;</annotation>'
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    with pytest.raises(SmearError, match="has a document type"):
        format_of(tmp_path / "a.xml")


def test_what_a_format_leaves_open_is_asked_for(tmp_path):
    with pytest.raises(SmearError, match=r"centroids are in µm; .* --pixel-um"):
        read_annotations(write(tmp_path / "a.tsv", QUPATH_UM), layout="qupath")
    with pytest.raises(SmearError, match="no column for the class"):
        read_annotations(write(tmp_path / "b.csv", " ,Area,X,Y\n1,4,5,6\n"), layout="imagej")
    two = VIA_CSV.replace('""cell"":', '""stain"":""x"",""cell"":')
    with pytest.raises(SmearError, match="attributes cell, stain, and which is the class cannot be told"):
        read_annotations(write(tmp_path / "c.csv", two), layout="via")


def test_the_command_offers_what_there_is():
    assert set(_LAYOUTS) == set(LAYOUTS)
    assert set(_OUT_LAYOUTS) == set(OUT_LAYOUTS)
