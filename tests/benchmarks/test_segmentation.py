"""The benchmark of finders: each layout is read to the same truth, and known finds get the scores counted by hand."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from labelled_smears import DOUBT, DatasetError, LabelledImage, box_table, halves, is_red_cell, read_dataset
from segmentation import HIT, LEFT_OUT, calibration, compare, fates, finders, score_image, summarise

from rbcnb.columns import LABEL, RADIUS, SCORE, X, Y
from rbcnb.segmentation.matching import BOX
from rbcnb.segmentation.segment import METHODS
from rbcnb.smears.synthetic.render import SmearSpec, render_smear

HEIGHT, WIDTH = 180, 240
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def smears() -> dict[str, tuple[np.ndarray, pd.DataFrame]]:
    spec = SmearSpec(HEIGHT, WIDTH, n_cells=24, diameter_px=28.0, difficulty=0.2)
    return {name: render_smear(spec, seed=i) for i, name in enumerate(NAMES)}


def sides(truth: pd.DataFrame) -> np.ndarray:
    """Boxes [N, 4] around the circles, from corner to corner of pixels, cut at the border as readers draw them."""
    x, y, radius = (truth[name].to_numpy() for name in (X, Y, RADIUS))
    boxes = np.column_stack([x - radius, y - radius, x + radius, y + radius]) + 0.5
    return boxes.clip(0, [WIDTH, HEIGHT, WIDTH, HEIGHT])


def save_images(smears: dict, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (image, _) in smears.items():
        cv2.imwrite(str(folder / f"{name}.png"), image[..., ::-1])


def write_csv(smears: dict, folder: Path, *, shares: bool, images: str, header: tuple[str, ...], ending: str) -> None:
    save_images(smears, folder / images)
    scale = [WIDTH, HEIGHT, WIDTH, HEIGHT] if shares else [1, 1, 1, 1]
    rows = [(name + ending, *box, "RBC") for name, (_, truth) in smears.items() for box in sides(truth) / scale]
    rows.append(("a" + ending, *np.divide([50, 50, 110, 110], scale), "WBC"))
    pd.DataFrame(rows, columns=header).to_csv(folder / "annotations.csv", index=False)


def write_voc(smears: dict, folder: Path) -> None:
    save_images(smears, folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    for name, (_, truth) in smears.items():
        objects = [("RBC", 0, box) for box in sides(truth)] + [("Platelets", 0, (5, 5, 9, 9))]
        text = "".join(
            f"<object><name>{label}</name><difficult>{difficult}</difficult><bndbox>"
            + "".join(f"<{side}>{value}</{side}>" for side, value in zip(BOX, box, strict=True))
            + "</bndbox></object>"
            for label, difficult, box in objects
        )
        (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")


def write_coco(smears: dict, folder: Path) -> None:
    save_images(smears, folder / "images")
    boxes = [(i, 3, box) for i, (_, truth) in enumerate(smears.values()) for box in sides(truth)]
    boxes.append((0, 7, np.array([50, 50, 110, 110])))
    content = {
        "images": [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate(smears)],
        "categories": [{"id": 3, "name": "red blood cell"}, {"id": 7, "name": "leukocyte"}],
        "annotations": [
            {"image_id": i, "category_id": kind, "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]}
            for i, kind, box in boxes
        ],
    }
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances.json").write_text(json.dumps(content))
    (folder / "info.json").write_text("{}")


LAYOUTS = {
    "csv of shares beside images": lambda smears, folder: write_csv(
        smears, folder, shares=True, images=".", header=("image", *BOX, "label"), ending=".png"
    ),
    "csv of pixels, other names": lambda smears, folder: write_csv(
        smears, folder, shares=False, images="images", header=("Filename", "x1", "y1", "x2", "y2", "class"), ending=""
    ),
    "voc": write_voc,
    "coco": write_coco,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_boxes_are_read_to_the_same_truth(layout, smears, tmp_path):
    LAYOUTS[layout](smears, tmp_path)
    dataset = read_dataset(tmp_path)
    assert dataset.complete
    assert len(dataset.images) == 3
    for labelled, (image, truth) in zip(dataset.images, smears.values(), strict=True):
        assert np.array_equal(labelled.read(), image)
        assert len(labelled.truth) == len(truth)  # neither the white cell nor the platelet
        inside = ~truth["border"].to_numpy()
        expected = truth.loc[inside, [X, Y, RADIUS]].to_numpy()
        # Equal areas: a circle of radius r fits a box of side 2 r.
        assert labelled.truth.loc[inside, [X, Y, RADIUS]].to_numpy() == pytest.approx(expected, abs=1e-3)
        assert labelled.radius_px == pytest.approx(np.median(expected[:, 2]), rel=0.05)
        assert not labelled.scored(labelled.truth, image.shape)[~inside].any()


def write_chula(smears: dict, folder: Path, *, listed: list[str] | None) -> None:
    (folder / "Dataset").mkdir()
    (folder / "Label").mkdir()
    for name, (image, truth) in smears.items():
        cv2.imwrite(str(folder / "Dataset" / f"{name}.jpg"), image[..., ::-1])
        lines = [f"{round(row[X])} {round(row[Y])} 0" for _, row in truth.iterrows()]
        (folder / "Label" / f"{name}.txt").write_text("\n".join(lines))
    if listed is not None:
        (folder / "exhaustively_labelled.json").write_text(json.dumps({"exhaustively_labelled": listed}))


def test_chulas_layout_is_points_of_the_listed_images(smears, tmp_path):
    write_chula(smears, tmp_path, listed=["a", "c"])
    dataset = read_dataset(tmp_path)
    assert [labelled.name for labelled in dataset.images] == ["a.jpg", "c.jpg"]
    assert dataset.complete
    truth = dataset.images[1].truth
    assert truth[[X, Y]].to_numpy() == pytest.approx(smears["c"][1][[X, Y]].round().to_numpy())
    assert dataset.images[1].radius_px == 20
    near, far = (pd.DataFrame({X: truth[X].head(1) + dx, Y: truth[Y].head(1)}) for dx in (-17.9, -300))
    assert dataset.images[1].match(near).tolist() != [-1]
    assert dataset.images[1].match(far).tolist() == [-1]


def test_chula_without_its_list_is_incomplete(smears, tmp_path):
    write_chula(smears, tmp_path, listed=None)
    dataset = read_dataset(tmp_path, limit=2)
    assert [labelled.name for labelled in dataset.images] == ["a.jpg", "c.jpg"]
    assert not dataset.complete


def test_halves_share_out_all_images_and_keep_twins_together(smears, tmp_path):
    twins = smears | {f"twin_{name}": smear for name, smear in smears.items()}
    write_voc(twins, tmp_path)
    parts = [{labelled.name for labelled in half.images} for half in halves(read_dataset(tmp_path))]
    assert sorted(parts[0] | parts[1]) == sorted(twins)
    for part in parts:
        assert {name.removeprefix("twin_") for name in part} == part - {f"twin_{name}" for name in NAMES}


def test_what_cannot_be_read_names_the_mend(smears, tmp_path):
    with pytest.raises(DatasetError, match="no such file"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="no layout that is known"):
        read_dataset(tmp_path)
    table = pd.DataFrame([("z", 1, 1, 9, 9, "blob")], columns=["image", *BOX, "label"])
    table.to_csv(tmp_path / "one.csv", index=False)
    with pytest.raises(DatasetError, match="--red-labels: blob"):
        read_dataset(tmp_path)
    with pytest.raises(DatasetError, match="has no image z"):
        read_dataset(tmp_path, red_labels=["Blob"])
    save_images({"z": smears["a"]}, tmp_path)
    assert len(read_dataset(tmp_path, red_labels=["Blob"]).images[0].truth) == 1
    table.to_csv(tmp_path / "two.csv", index=False)
    with pytest.raises(DatasetError, match=r"one\.csv, two\.csv; give one of the files"):
        read_dataset(tmp_path)
    assert read_dataset(tmp_path / "two.csv", red_labels=["blob"]).name == f"{tmp_path.name}/two"


@pytest.mark.parametrize(
    "label", ["rbc", "RBC", "red blood cell", "Red_Blood_Cells", "Erythrocyte", "rbc-infected", "ring"]
)
def test_names_of_red_cells(label):
    assert is_red_cell(label)


@pytest.mark.parametrize("label", ["WBC", "wbc", "Platelets", "non-RBC", "leukocyte", "ringing", "artefact", ""])
def test_names_of_other_things(label):
    assert not is_red_cell(label)


SHAPE = (200, 300, 3)
R = 10.0


def boxes_at(*centres: tuple[float, float], doubt: bool = False) -> pd.DataFrame:
    """Boxes of side 20 around centres; (0, 0) is the centre of the first pixel."""
    rows = [
        dict(zip(BOX, (x - R + 0.5, y - R + 0.5, x + R + 0.5, y + R + 0.5), strict=True))
        | {LABEL: "rbc", DOUBT: doubt, "shares": False}
        for x, y in centres
    ]
    return box_table(rows, SHAPE[1], SHAPE[0])


def finds_at(*centres: tuple[float, float]) -> pd.DataFrame:
    return pd.DataFrame(centres, columns=[X, Y], dtype=float).assign(**{RADIUS: R})


CELLS = ((50, 50), (100, 50), (100, 100), (200, 150))
AT_BORDER = ((10.5, 100), (150, 5))  # the first only nearly touches, but lies within 1.1 R


@pytest.mark.parametrize("kind", ["boxes", "points"])
@pytest.mark.parametrize(
    ("finds", "counts"),
    [
        (CELLS, (4, 4, 0)),  # perfect
        (CELLS[1:], (4, 3, 0)),  # one missed
        ((*CELLS, (250, 50)), (4, 4, 1)),  # one false, as on a white cell
        ((*CELLS, *AT_BORDER), (4, 4, 0)),  # found at the border: neither
        ((*CELLS, (12, 101)), (4, 4, 0)),  # its partner is left out, though it lies further in
        ((*CELLS, (290, 50)), (4, 4, 0)),  # nothing there, but too near to the border to be false
        ((*CELLS, (288, 50)), (4, 4, 1)),
        ((*CELLS, (52, 52)), (4, 4, 1)),  # two on one cell
        (((58, 50), *CELLS[1:]), (4, 4, 0)),  # not in the middle, still inside
        (((62, 50), *CELLS[1:]), (4, 3, 1)),
        ((), (4, 0, 0)),
    ],
)
def test_scores_of_known_finds(kind, finds, counts):
    truth = boxes_at(*CELLS, *AT_BORDER)
    labelled = LabelledImage("a", lambda: None, truth if kind == "boxes" else truth[[X, Y]], R)
    scores = score_image(finds_at(*finds), labelled, SHAPE)
    assert (scores["n_truth"], scores["n_hits"], scores["n_false"]) == counts
    fate = fates(finds_at(*finds), labelled.match(finds_at(*finds)), labelled, SHAPE)
    assert ((fate == HIT).sum(), (fate == "false").sum()) == counts[1:]


def test_a_corner_of_a_box_is_a_hit_where_the_same_distance_from_a_point_is_none():
    truth, finds = boxes_at((50, 50)), finds_at((59, 59))
    assert score_image(finds, LabelledImage("a", lambda: None, truth, R), SHAPE)["n_hits"] == 1
    assert score_image(finds, LabelledImage("a", lambda: None, truth[[X, Y]], R), SHAPE)["n_hits"] == 0


def test_boxes_that_touch_the_border_are_left_out_however_far_in_their_centre_is():
    truth = pd.concat([boxes_at((50, 50)), boxes_at((60, 100)).assign(xmin=0.2)], ignore_index=True)
    scores = score_image(finds_at((60, 100)), LabelledImage("a", lambda: None, truth, R), SHAPE)
    assert (scores["n_truth"], scores["n_hits"], scores["n_false"]) == (1, 0, 0)


def test_doubtful_boxes_are_neither_hit_nor_false():
    truth = pd.concat([boxes_at((50, 50)), boxes_at((100, 50), doubt=True)], ignore_index=True)
    labelled = LabelledImage("a", lambda: None, truth, R)
    scores = score_image(finds_at((50, 50), (100, 50)), labelled, SHAPE)
    assert (scores["n_truth"], scores["n_hits"], scores["n_false"]) == (1, 1, 0)


def test_table_of_two_finders(smears, tmp_path):
    write_voc(smears, tmp_path)
    dataset = read_dataset(tmp_path)
    truth_of = {image.tobytes(): truth for image, truth in smears.values()}

    def perfect(image):
        return truth_of[image.tobytes()][[X, Y, RADIUS]].assign(**{SCORE: 0.95})

    def blind(image):
        return perfect(image).iloc[:2] if image.tobytes() == next(iter(truth_of)) else perfect(image)

    images, finds = compare([dataset], {"paper": perfect, "blind": blind}, rounds=2)
    assert len(images) == 6
    assert len(finds) == images["n_found"].sum()
    table = summarise(images).set_index("finder")
    assert (table.loc["paper", ["R", "P", "F1"]] == 1).all()
    assert table["under_half"].to_dict() == {"paper": 0, "blind": 1}
    assert table.loc["paper", "times_paper"] == 1
    n_truth = images.loc[images["finder"] == "blind", "n_truth"]
    hits = images.loc[images["finder"] == "blind", "n_hits"]
    assert table.loc["blind", "R"] == pytest.approx(hits.sum() / n_truth.sum())
    assert table.loc["blind", "cells"] == n_truth.sum()
    assert images["true_px"].to_numpy() == pytest.approx(images["diameter_px"].to_numpy(), rel=0.1)
    marked = summarise(images, recall_only=[dataset.name])
    assert marked["P"].isna().all()
    assert marked["F1"].isna().all()
    assert marked["R"].notna().all()


def test_calibration_counts_hits_in_each_tenth():
    finds = pd.DataFrame(
        {
            "finder": "net",
            SCORE: [0.0, 0.05, 0.1, 0.95, 1.0, 0.97, 0.99],
            "fate": ["false", HIT, HIT, HIT, HIT, "false", LEFT_OUT],
        }
    )
    table = calibration(finds)
    assert table[SCORE].tolist() == ["0.0-0.1", "0.1-0.2", "0.9-1.0"]
    assert table["finds"].tolist() == [2, 1, 3]
    assert table["hits"].tolist() == pytest.approx([1 / 2, 1, 2 / 3])


def test_finders_are_those_of_the_package_and_their_peers(smears):
    methods = finders()
    assert set(METHODS) | {"hough_tutorial", "hough_tuned"} <= set(methods)
    assert next(iter(methods)) == "paper"
    empty = np.full((HEIGHT, WIDTH, 3), 230, np.uint8)
    image, truth = smears["a"]
    for name, find in methods.items():
        assert {X, Y, RADIUS} <= set(find(image).columns), name
        assert 0 < len(find(image)) < 3 * len(truth), name
        assert len(find(empty)) == 0, name
    assert list(finders(["hough_tuned"])) == ["hough_tuned"]
    with pytest.raises(ValueError, match="no finder nobody; choose from paper"):
        finders(["nobody"])
