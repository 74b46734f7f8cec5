"""Labels of other programs: what their own documentation shows is read, our exports come back, the rest is named."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rbcnb._utils.errors import SmearWarning
from rbcnb.cli import main
from rbcnb.columns import FOUND, LABEL, LAYOUTS, OUT_LAYOUTS, RADIUS, SMEAR, X, Y
from rbcnb.labels.annotation_writers import WRITERS, write_annotations
from rbcnb.labels.import_export import export_labels, import_labels
from rbcnb.labels.readings import append_readings, load_readings
from rbcnb.smears.annotations import FORMATS, Aids, format_of, read_annotations, read_files
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
LABELME_ONLINE = """<annotation><filename>
a.png
</filename><folder>s</folder><source><sourceImage>LabelMe</sourceImage></source><imagesize><nrows>480</nrows>
<ncols>640</ncols></imagesize><object><name>normal</name><deleted>0</deleted><verified>0</verified><date>1-Jan-2010</date>
<polygon><username>x</username><pt><x>10</x><y>20</y></pt><pt><x>50</x><y>30</y></pt><pt><x>30</x><y>56</y></pt></polygon>
</object><object><name>codocyte</name><deleted>1</deleted><polygon><pt><x>1</x><y>2</y></pt></polygon></object></annotation>"""
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
    ("a.xml", LABELME_ONLINE, "voc", [CELL]),
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
    summary = import_labels(tmp_path / "pixels.csv", tmp_path / "r.csv", reader="bo", smears=images, errors=errors)
    assert "from 3 labels" in summary
    assert summary.endswith("; 2 left out: 1 unreadable, 1 outside of the image")
    table = load_readings(tmp_path / "r.csv")
    assert table[[SMEAR, X, Y, RADIUS, LABEL]].to_numpy().tolist() == [["a.png", 30.0, 38.0, 19.0, "normal"]]
    assert "row 4 cannot be used (it has xmin 'x', which is no number)" in str(errors[0])
    assert "row 3 puts a cell at x_px 655, y_px 38, outside of the 640 x 480 image" in str(errors[1])
    assert format_of(tmp_path / "shares.csv") == "boxes"
    table = read_annotations(tmp_path / "shares.csv", layout="boxes", aids=aids)
    assert table[[X, Y]].to_numpy() == pytest.approx(np.array([[0.2 * 640, 0.35 * 480]]))
    with pytest.raises(SmearError, match="shares of the image, and none of the images is at hand"):
        read_annotations(tmp_path / "shares.csv", layout="boxes")

    (images / "labels.csv").write_text(BOXES)  # in place of points, beside the images
    (smear,) = folder_smears(images)
    assert smear.truth[[X, Y, RADIUS, LABEL]].to_numpy().tolist() == [[30.0, 38.0, 19.0, "normal"]]


def test_boxes_as_shares_are_read_where_the_image_is_at_hand(tmp_path):
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    rows = ["a.png,0.1,0.2,0.3,0.4,normal", "a.png,0.9,0.2,1.01,0.4,codocyte", "b.png,0.1,0.2,0.3,0.4,normal"]
    rows += ["a.png,0.1,0.2,30,0.4,normal"]
    (tmp_path / "boxes.csv").write_text("\n".join(["image,xmin,ymin,xmax,ymax,label", *rows]))
    errors = []
    files = [tmp_path / "boxes.csv"]
    table = read_files(files, layout="boxes", aids=Aids({"a.png": tmp_path / "a.png"}), errors=errors)
    assert table[[SMEAR, LABEL]].to_numpy().tolist() == [["a.png", "normal"], ["a.png", "codocyte"]]
    assert table[[X, Y]].to_numpy() == pytest.approx(np.array([[0.2 * 640, 0.3 * 480], [0.955 * 640, 0.3 * 480]]))
    assert "row 4 cannot be used (its box is given as shares of b.png, which is not at hand)" in str(errors[0])
    assert "row 5 cannot be used (the boxes are shares of the image, 0 to 1, and not 30)" in str(errors[1])


def test_boxes_of_open_images_are_read(tmp_path):
    """As its documentation shows them: names without an ending, x before y, shares, further columns."""
    Image.new("RGB", (640, 480)).save(tmp_path / "0a1b.png")
    head = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated\n"
    (tmp_path / "boxes.csv").write_text(head + "0a1b,xclick,/m/01g317,1,0.1,0.3,0.2,0.4,0,0\n")
    table = read_files([tmp_path / "boxes.csv"], layout="boxes", aids=Aids({"0a1b.png": tmp_path / "0a1b.png"}))
    assert format_of(tmp_path / "boxes.csv") == "boxes"
    assert table[[X, Y, LABEL]].to_numpy().tolist() == [[pytest.approx(128), pytest.approx(144), "/m/01g317"]]


def test_a_share_among_boxes_in_pixels_is_named(tmp_path):
    (tmp_path / "boxes.csv").write_text(
        "image,xmin,ymin,xmax,ymax,label\na.png,0.1,0.2,0.3,0.4,a\na.png,10,20,30,40,b\n"
    )
    errors = []
    table = read_files([tmp_path / "boxes.csv"], layout="boxes", errors=errors)
    assert table[LABEL].tolist() == ["b"]
    assert "row 2 cannot be used (the boxes are in pixels, and not shares of the image such as 0.4)" in str(errors[0])


def test_yolo_of_a_name_that_no_image_has_is_offered_the_nearest(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "smear_1.png")
    (tmp_path / "classes.txt").write_text("normal\n")
    (tmp_path / "smear1.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    for images in ({}, {"smear_1.png": tmp_path / "smear_1.png"}):
        with pytest.raises(SmearError, match=r"smear1 is not among .* nearest name is smear_1\.png") as error:
            read_files([tmp_path / "smear1.txt"], layout="yolo", aids=Aids(images), errors=None)
        assert "--smears" not in str(error.value)


def test_two_files_of_one_image_are_both_left_out_and_named(tmp_path):
    for name, image in (("a", "a.png"), ("b", "a.png"), ("c", "c.png")):
        (tmp_path / f"{name}.json").write_text(json.dumps(LABELME | {"imagePath": image}))
    errors = []
    table = read_files(sorted(tmp_path.glob("*.json")), layout="labelme", errors=errors)
    assert set(table[SMEAR]) == {"c.png"}
    (tmp_path / "b.json").write_text(json.dumps(LABELME | {"imagePath": "A.png"}))  # another image, on most systems
    assert set(read_files(sorted(tmp_path.glob("*.json")), layout="labelme")[SMEAR]) == {"a.png", "A.png", "c.png"}
    (tmp_path / "b.json").write_text(json.dumps(LABELME | {"imagePath": "a"}))  # the same image, if it is there
    aids = Aids({name: tmp_path / name for name in ("a.png", "c.png")})
    files, again = sorted(tmp_path.glob("*.json")), []
    assert set(read_files(files, layout="labelme", aids=aids, errors=again)[SMEAR]) == {"c.png"}
    assert len(again) == 2
    (tmp_path / "b.json").write_text(json.dumps(LABELME | {"imagePath": "a.png"}))
    assert [error.n_labels for error in errors] == [len(table)] * 2
    for error, (path, rival) in zip(errors, [("a", "b"), ("b", "a")], strict=True):
        assert str(error).startswith(f"{tmp_path / path}.json: is of ")
        assert f"and so is {tmp_path / rival}.json; correct the name of the image" in str(error)
    with pytest.raises(SmearError, match="and so is"):
        read_files(sorted(tmp_path.glob("*.json")), layout="labelme")


def test_a_table_of_results_that_names_no_image_is_of_the_image_of_its_name(tmp_path):
    for name in ("Results.csv", "a.csv"):
        (tmp_path / name).write_text(" ,Area,X,Y,Class\n1,4,5,6,normal\n")
    aids = Aids({"a.png": tmp_path / "a.png"})
    assert read_files([tmp_path / "a.csv"], layout="imagej", aids=aids)[SMEAR].tolist() == ["a"]
    with pytest.raises(
        SmearError, match=r"does not say of which image it is, and no image is called Results; .*Display"
    ):
        read_files([tmp_path / "Results.csv"], layout="imagej", aids=aids)


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
    with pytest.raises(SmearError, match=r"no image a beside it or in images; name the folder .* --smears"):
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
    bad = *bad, {"id": 7, "image_id": 7, "category_id": 3, "bbox": [90, 90, -20, 20]}
    outside = {"id": 6, "image_id": 7, "category_id": 3, "bbox": [700, 20, 40, 36]}
    path = write(tmp_path / "a.json", COCO | {"annotations": [*COCO["annotations"], *bad, outside]})
    errors = []
    assert len(read_annotations(path, layout="coco", errors=errors)) == 3
    assert [re.search(r"annotation \d", str(error))[0] for error in errors] == [
        "annotation 4",
        "annotation 5",
        "annotation 6",
        "annotation 7",
    ]
    assert "its box has the negative width or height -20, 20" in str(errors[2])
    assert "outside of the 640 x 480 image a.png" in str(errors[3])
    assert "4 left out" in import_labels(path, tmp_path / "r.csv", reader="anna", errors=[])


VIA3_CSV = """# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)
# - spatial_coordinates of [2,10,20,50,80] denotes a rectangle (shape_id=2) of size 50x80 placed at (10,20)
# ATTRIBUTE = {"1":{"aname":"cell","anchor_id":"FILE1_Z0_XY1","type":4,"options":{"0":"normal"}}}
# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata
"1_ab","[""a.png""]",0,"[]","[2,10,20,40,36]","{""1"":""0""}"
"""
KITTI = "Truck 0.00 0 -1.57 599.41 156.40 629.75 189.25 2.85 2.63 12.34 0.47 1.49 69.44 -1.56\n"


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
        (
            "a.json",
            [{"image": "a.png", "label": [], "annotator": 1, "annotation_id": 2, "lead_time": 3}],
            "Label Studio",
        ),
        ("a.csv", "annotation_id,annotator,id,image,label,lead_time\n2,1,1,a.png,[],3.5\n", "is of Label Studio.*COCO"),
        ("a.csv", "ImageNumber,ObjectNumber,Location_Center_X\n1,1,10\n", "is of CellProfiler.*names of images for"),
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
        ("a.ndjson", '{"data_row": {}}\n{"data_row": {}}\n', "is of Labelbox.*convert it to COCO, or to a table"),
        ("a.json", {"project": {}, "config": {}, "file": {}, "metadata": {}, "view": {}}, "is of VIA 3.*as COCO"),
        ("a.csv", VIA3_CSV, "is of VIA 3, which is not read; export it as COCO there"),
        ("a.txt", KITTI, "is of KITTI, which is not read; write its columns 1 and 5 to 8 as a table"),
        ("a.txt", "5 6 9 6 9 8 5 8 ship 0\n1 2 3 2 3 4 1 4 ship 1\n", "is of DOTA, .* write the middle of its four"),
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
    with pytest.raises(SmearError, match="attributes cell, stain, and it is not clear which is the class"):
        read_annotations(write(tmp_path / "c.csv", two), layout="via")


def test_the_command_offers_what_there_is():
    assert set(LAYOUTS) == {"folder", "csv", *FORMATS}
    assert set(OUT_LAYOUTS) == {"folder", "csv", "chula", *WRITERS}


def test_a_form_of_labels_that_there_is_not_is_refused(tmp_path):
    table = write(tmp_path / "labels.csv", "smear,x_px,y_px,label\na.png,3,4,normal\n")
    with pytest.raises(SmearError, match=r"layout 'cocoa': no form of labels .*folder, chula, csv, coco,"):
        import_labels(table, tmp_path / "readings.csv", reader="Ann", layout="cocoa")
    import_labels(table, tmp_path / "readings.csv", reader="Ann")
    with pytest.raises(SmearError, match=r"layout 'via': no form of labels .*cvat$"):
        export_labels(tmp_path / "readings.csv", tmp_path / "out", layout="via")
    assert not (tmp_path / "out").exists()


GOOD_TXT = "0 0.25 0.5 0.1 0.1\n1 0.75 0.5 0.1 0.1\n"
RENAMED = {{"shapes": "Shapes"}.get(name, name): value for name, value in LABELME.items()}
HEADER = "smear,x_px,y_px,label\n"
DAMAGED = {  # a good file and a damaged one, of which some labels may be taken: the message and how many
    "numbers": ("txt", GOOD_TXT, GOOD_TXT + "\n0 0.5 O.5 0.1 0.1\n", r"line 4 .*'O\.5'", 2),
    "decimal commas": ("txt", GOOD_TXT, "0 0,5 0,5 0,1 0,1\n", r"line 1 .*'0,5'", 0),
    "a class that is none": ("txt", GOOD_TXT, "O 0.5 0.5 0.1 0.1\n", "line 1 .*class 'O' is not among", 0),
    "a number that is none": ("txt", GOOD_TXT, "7 0.5 0.5 0.1 0.1\n", "line 1 .*no class 7 among the 2", 0),
    "pixels": ("txt", GOOD_TXT, "0 20 30 40 40\n", "line 1 .* shares of the image, 0 to 1, and not 40", 0),
    "a key": ("json", LABELME, RENAMED, "cannot be read as labelme .it has no 'shapes'.; export it again", 0),
    "half": ("json", LABELME, json.dumps(LABELME)[:200], "cannot be read as JSON", 0),
    "a header": (
        "csv",
        HEADER + "a.png,3,4,normal\n",
        "smear,xx,y_px,label\nb.png,3,4,normal\n",
        "row 1 lacks x_px",
        0,
    ),
    "a type": (
        "Label",
        "30 40 0\n50 60 4\n",
        "30 40 0\n50 60 99\n",
        "line 2 cannot be used .'50 60 99'; it must be",
        1,
    ),
    "an element": ("xml", VOC, VOC.replace("object>", "Object>"), "it has <Object> where <object> belongs", 0),
    "another program": ("json", LABELME, {"objects": [], "size": {}}, "is of Supervisely, which is not read", 0),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_among_good_ones_is_named(tmp_path, what, capsys):
    ending, good, bad, message, n_left = DAMAGED[what]
    smears, labels = tmp_path / "smears", tmp_path / "labels"
    folder = labels / "Label" if ending == "Label" else labels
    for path in (smears, folder):
        path.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (640, 480)).save(smears / name)
    if ending == "txt":
        (labels / "classes.txt").write_text("normal\ncodocyte\n")
        (labels / "README.dataset.txt").write_text("0 of 1 of 2 of 3 of 4 of our cells\n")
        (labels / "train.txt").write_text("images/a.png\nimages/b.png\n")
        (labels / "empty.txt").write_text("\n")
    ending = "txt" if ending == "Label" else ending
    write(folder / f"a.{ending}", good)
    write(folder / f"b.{ending}", bad)
    there = tmp_path / "good.csv"
    import_labels(
        write(tmp_path / f"a.{ending}", good), there, reader="bo", smears=smears
    ) if ending == "json" else None
    command = ["import-labels", str(labels), str(tmp_path / "r.csv"), "--reader", "bo", "--smears", str(smears)]
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert re.search(rf"left out: {re.escape(str(folder))}/b\.{ending}: .*{message}", err), err
    assert len(err.splitlines()) == 1
    assert "1 left out: 1 unreadable" in out or "files that cannot be read: 1" in out
    read = load_readings(tmp_path / "r.csv")[SMEAR].value_counts()
    assert (read["a.png"] > 0, read.get("b.png", 0)) == (True, n_left)
    # Alone, too, the file is named, and no label of it is made up.
    alone = ["import-labels", str(folder / f"b.{ending}"), str(tmp_path / "s.csv"), *command[3:]]
    assert main(alone) == (1 if n_left or "line" in message else 2)
    assert f"b.{ending}" in capsys.readouterr().err
    assert len(load_readings(tmp_path / "s.csv")) == n_left


@pytest.mark.parametrize("what", ["numbers", "decimal commas", "a key", "half"])
def test_a_damaged_file_among_images_is_named(tmp_path, what):
    ending, good, bad, message, n_left = DAMAGED[what]
    for name in ("a.png", "b.png"):
        Image.new("RGB", (640, 480)).save(tmp_path / name)
    (tmp_path / "classes.txt").write_text("normal\ncodocyte\n")
    write(tmp_path / f"b.{ending}", bad)
    if what == "a key":  # which nothing tells from the files of a microscope
        with pytest.warns(
            SmearWarning, match=r"not read, as they hold no labels in a form that is known among images: b\.json"
        ):
            assert [smear.truth for smear in folder_smears(tmp_path)] == [None, None]
    write(tmp_path / f"a.{ending}", good)
    errors = []
    a, b = (smear.truth for smear in folder_smears(tmp_path, errors=errors))
    assert len(a) > 1
    assert (0 if b is None else len(b)) == n_left
    (error,) = errors
    assert re.search(rf"b\.{ending}: .*{message}", str(error))
    with pytest.raises(SmearError, match=rf"b\.{ending}"):
        list(folder_smears(tmp_path))


def test_what_lies_beside_an_image_under_its_name_and_is_not_read_is_noted(tmp_path):
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(b"\xff\xd8\x81 0.5\n")
    write(tmp_path / "a.csv", IMAGEJ)
    with pytest.warns(SmearWarning) as notes:
        assert [smear.truth for smear in folder_smears(tmp_path)] == [None]
    assert any("a.txt: row 1 is in an unknown encoding" in str(note.message) for note in notes)
    assert any(str(note.message).endswith("known among images: a.csv") for note in notes)


def test_a_folder_of_damaged_files_alone_says_so(tmp_path):
    write(tmp_path / "a.json", RENAMED)
    with pytest.raises(SmearError, match=r"a\.json: cannot be read as labelme .it has no 'shapes'"):
        import_labels(tmp_path, tmp_path / "out" / "r.csv", reader="bo", layout="labelme")
    with pytest.raises(SmearError, match=r"holds no labels in a form that is known .a\.json.; see docs/labels\.md"):
        import_labels(tmp_path, tmp_path / "out" / "r.csv", reader="bo")


def test_yolo_lines_may_name_their_classes(tmp_path):
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("burr cell 0.5 0.25 0.1 0.1\n\ntype2 0.75 0.5 0.1 0.1\n")
    table = read_annotations(tmp_path / "a.txt", layout=format_of(tmp_path / "a.txt"))
    assert table[[X, Y, LABEL]].to_numpy().tolist() == [[320, 120, "burr cell"], [480, 240, "type2"]]
    assert table["where"].tolist() == [f"{tmp_path}/a.txt: line 1", f"{tmp_path}/a.txt: line 3"]


def test_the_image_tells_which_size_is_right(tmp_path, capsys):
    """A file may exchange width and height, or its labels be for another size: the image shows it."""
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    marks = [
        {"label": "normal", "points": [[x, 9], [x + 20, 29]], "shape_type": "rectangle"} for x in range(250, 600, 50)
    ]
    for size, smears, code, message in (
        ((480, 640), ["--smears", str(tmp_path)], 0, ""),
        (
            (480, 640),
            [],
            1,
            "2 of 7 labels of a.png are outside of its 480 x 640 pixels, and none would if x_px",
        ),
        (
            (1280, 960),
            ["--smears", str(tmp_path)],
            1,
            "for an image a.png of 1280 x 960 pixels, and that has 640 x 480",
        ),
    ):
        width, height = size
        document = {"shapes": marks, "imagePath": "a.png", "imageWidth": width, "imageHeight": height}
        path, out = write(tmp_path / "a.json", document), tmp_path / f"{width} {len(smears)}.csv"
        assert main(["import-labels", str(path), str(out), "--reader", "bo", *smears]) == code
        printed = capsys.readouterr()
        assert message in printed.err
        assert ("from 7 labels" in printed.out, "7 left out" in printed.out) == (True, code == 1)
        assert len(load_readings(out)) == (0 if code else 7)


def test_a_mask_without_its_box_says_what_to_do(tmp_path):
    mask = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": {"size": [480, 640], "counts": "Y`0"}}
    errors = []
    read_annotations(write(tmp_path / "a.json", COCO | {"annotations": [mask]}), layout="coco", errors=errors)
    assert "annotation 1 cannot be used (it is a mask in RLE without its bbox; add that with pycoco" in str(errors[0])


@pytest.mark.parametrize("part", ["images", "categories"])
def test_an_id_of_coco_that_stands_twice_means_nothing(tmp_path, part):
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 90, "height": 90}],
        "categories": [{"id": 1, "name": "normal"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20]}],
    }
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(document))
    assert read_annotations(path, layout="coco")["label"].tolist() == ["normal"]
    document[part].append(document[part][0] | {"file_name": "b.png", "name": "burr cell"})
    path.write_text(json.dumps(document))
    with pytest.raises(SmearError, match=f"{part} has the id 1 again"):
        read_annotations(path, layout="coco")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bbox": None}, "it lacks 'segmentation'|its place is not written as in labels of this form"),
        ({"bbox": ["a", 1, 2, 3]}, "its place is not written as in labels of this form"),
        ({"image_id": 9}, "no image of the file has the id 9"),
        ({"category_id": "1"}, "no category of the file has the id '1'"),
        ({"bbox": [1, 2]}, "its place is not written as in labels of this form"),
    ],
)
def test_what_is_wrong_with_a_label_is_said_in_words_of_a_lab(tmp_path, change, words):
    good = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20]}
    document = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "normal"}],
        "annotations": [good, good | {"id": 2} | change],
    }
    path, errors = tmp_path / "labels.json", []
    path.write_text(json.dumps(document))
    assert len(read_annotations(path, layout="coco", errors=errors)) == 1
    assert len(errors) == 1
    assert re.search(rf"annotation 2 cannot be used \(({words})\); correct or remove it", str(errors[0]))
