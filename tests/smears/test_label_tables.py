"""Tables of labels as spreadsheets write them: read whole, or refused with file, row and cause; none is lost unseen."""

import random
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from label_variants import COLUMNS, IMAGES, ROWS, variant
from PIL import Image

from rbcnb.columns import LABEL, SMEAR, X, Y
from rbcnb.smears.images import SmearError
from rbcnb.smears.label_tables import labels_inside, read_label_table
from rbcnb.smears.smear_names import join_spellings, match_names
from rbcnb.smears.sources import folder_smears


def read(path, text, *, encoding="utf-8", names=IMAGES):
    """(table, messages of errors, notes) of a file with *text*."""
    path.write_bytes(text.encode(encoding))
    errors = []
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        table = read_label_table(path, names=names, errors=errors)
    return table, [str(error) for error in errors], [str(note.message) for note in notes]


def check(table, errors, path, spoilt, at_line):
    """Each row of ``GOOD`` is in *table* as it is, or an error names file and row."""
    for number, row in enumerate(ROWS):
        if number in spoilt:
            named = [error for error in errors if error.startswith(f"{path}: row {at_line[number]} ")]
            assert named, f"row {at_line[number]} is lost unseen: {errors}"
            assert re.search(r"has|names|fields|outside", named[0])
        else:
            there = table[(table[X] == row[1]) & (table[Y] == row[2])]
            assert [*there[COLUMNS].itertuples(index=False, name=None)] == [row]
    assert len(table) == len(ROWS) - len(spoilt)


@pytest.mark.parametrize("seed", range(8))
def test_each_of_many_variants_is_read_whole_or_says_which_row_is_lost(tmp_path, seed):
    for number in range(40):
        text, encoding, spoilt, at_line = variant(random.Random(1000 * seed + number))
        path = tmp_path / f"{number}.csv"
        check(*read(path, text, encoding=encoding)[:2], path, spoilt, at_line)


def test_the_check_of_variants_can_fail(tmp_path):
    text, _, _, at_line = variant(random.Random(3))
    path = tmp_path / "a.csv"
    table, errors, _ = read(path, text)
    with pytest.raises(AssertionError, match="lost unseen"):
        check(table, errors, path, {0}, at_line)
    with pytest.raises(AssertionError):
        check(table.iloc[1:], errors, path, set(), at_line)
    with pytest.raises(AssertionError):
        check(table.assign(label="normal"), errors, path, set(), at_line)


HEADER = "smear,x_px,y_px,label\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n", r"a\.csv: the file is empty"),
        (
            "smear;x_px;label\nP2;1;a\n",
            r"row 1 lacks y_px: its columns are smear, x_px, label, with semicolons between",
        ),
        ("P2.tif,1,2,normal\nP2.tif,3,4,normal\n", "row 1 holds values where the names of the columns belong"),
        ("smear,x_px,x_px,y_px,label\nP2,1,1,2,a\nP2,1,3,2,a\n", r"row 1 has two columns for x_px .* differ in row 3"),
        ("image,filename,x,y,class\nP2,P2,1,2,a\nP2,P3,1,3,a\n", r"two columns for smear .'image' and 'filename'"),
        (HEADER + 'P2,1,2,"normal\nP2,3,4,normal\n', r"row 2 cannot be taken apart .* open quotation mark"),
        ("smear x_px y_px label\nP2 1 2 a\n", "row 1 is 'smear x_px y_px label': no comma, semicolon or tab parts it"),
        ("PK\x03\x04", "is a workbook or an archive, not a table in text; save it as CSV"),
    ],
)
def test_what_is_no_table_of_labels_says_why(tmp_path, text, message):
    with pytest.raises(SmearError, match=message):
        read(tmp_path / "a.csv", text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEADER + "P2.tif,12,5,3,normal\n",
            "has more or fewer fields than the header: 5, not 4, with commas .* decimal point",
        ),
        (HEADER + '"P2,1,2,a\nP2",5,2,a\n', "row 2 goes on in the next line within quotation marks"),
        ("smear\tx_px\ty_px\tlabel\nP2\t1,234\t3\ta\n", "row 2 has x_px '1,234', which may be thousands"),
        (HEADER + "P3.tif,1,2,a\n", r"row 2 names the smear 'P3\.tif', which is not among the images: .* P2\.tif"),
        (
            HEADER + "b/P2.tif,1,2,a\nc/P2.tif,3,4,a\n",
            r"row 2 names the smear 'b/P2\.tif', which may mean P2\.tif, as may",
        ),
        (HEADER + "P2,1,2,a\nP2,1,2,b\n", "row 3 names the same smear and place as row 2, with another class"),
        (HEADER + 'P2,1,2,"a\nP2",3,4,a\n', "rows 2 to 3 hang together by an open quotation mark"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, text, message):
    _, errors, _ = read(tmp_path / "a.csv", text)
    assert re.search(message, errors[0])


def test_decimal_marks(tmp_path):
    text = "smear;x_px;y_px;label\nP2;1,5;1.234,5;a\nP2;2,125;30;a\n"
    table, errors, _ = read(tmp_path / "a.csv", text)
    assert errors == []
    assert table[[X, Y]].to_numpy().tolist() == [[1.5, 1234.5], [2.125, 30]]


@pytest.mark.parametrize(
    "title",
    [
        "Patient 12\n",
        "Patient 12;;;\n;;;\n\n",
        "Ward 3\nread by Anna\n",
        '"Patient, 12";;;\n',
        "Patient 12\n# made by X\n",
    ],
)
def test_titles_above_the_header_are_passed_over_with_a_note(tmp_path, title):
    rows = "smear;x_px;y_px;label\nP2;1,5;4;a\nP2;?;5;b\n"
    table, errors, notes = read(tmp_path / "a.csv", title + rows)
    assert table[[X, Y]].to_numpy().tolist() == [[1.5, 4]]
    assert f"row {title.count(chr(10)) + 3} has x_px '?'" in errors[0]  # rows keep their numbers
    first = title.splitlines()[0].strip(';"')
    assert any(f"{first}', above the names of the columns" in note for note in notes)


def test_what_a_title_has_that_may_be_a_header_is_no_title(tmp_path):
    with pytest.raises(SmearError, match="row 1 holds values"):
        read(tmp_path / "a.csv", "Patient, 12\nsmear,x_px,y_px,label\nP2,1,2,a\n")
    with pytest.raises(SmearError, match="row 1 is 'smear x_px y_px label'"):
        read(tmp_path / "a.csv", "smear x_px y_px label\nP2 1,5 4,5 a\n")
    many = "a title\n" * 6
    with pytest.raises(SmearError, match="row 1"):
        read(tmp_path / "a.csv", many + HEADER + "P2,1,2,a\n")


def test_a_remark_may_have_several_lines(tmp_path):
    table, errors, _ = read(tmp_path / "a.csv", 'smear,x,y,class,note\nP2,1,2,a,"first\nsecond"\nP2,3,4,b,\n')
    assert (table[LABEL].tolist(), errors) == (["a", "b"], [])


def test_a_header_alone_is_a_table_without_labels(tmp_path):
    table, errors, notes = read(tmp_path / "a.csv", HEADER)
    assert (len(table), errors, notes) == (0, [], [])


def test_many_faults_are_counted(tmp_path):
    _, errors, _ = read(tmp_path / "a.csv", HEADER + "".join(f"P2,a,{n},x\n" for n in range(80)))
    assert len(errors) == 51
    assert "30 labels more, unreadable, cannot be used" in errors[-1]


def test_windows_letters_are_read_and_others_refused(tmp_path):
    table, _, notes = read(tmp_path / "a.csv", HEADER + "P2,1,2,größe\n", encoding="cp1252")
    assert table[LABEL].tolist() == ["größe"]
    assert "read as Windows-1252" in notes[0]
    with pytest.raises(SmearError, match=r"row 2 is in an unknown encoding; save it as CSV in UTF-8"):
        read(tmp_path / "a.csv", HEADER + "P2,1,2,норма\n", encoding="cp1251")


def test_spellings_of_a_class_are_joined_with_a_note(tmp_path):
    text = HEADER + "P2,1,1,Normal\nP2,2,1,Normal \nP2,3,1,normal\nP2,4,1,Burr Cell\nP2,5,1,burrcell\nP2,6,1,burrcell\n"
    table, errors, notes = read(tmp_path / "a.csv", text)
    assert table[LABEL].tolist() == ["normal"] * 3 + ["burrcell"] * 3
    assert errors == []
    assert "'Normal' and 'normal' differ in capitals, spaces or" in notes[0]
    assert join_spellings(["normal", "nor\u200bmal\u00ad"]) == {"nor\u200bmal\u00ad": "normal"}  # nobody sees these
    assert match_names(["a\u200b.png"], ["a.png"]) == ({"a\u200b.png": "a.png"}, {})
    assert join_spellings(["Normal", "Normal"]) == {}
    assert join_spellings(["normal"], known=["Normal"]) == {"normal": "Normal"}


def test_names_are_matched_where_one_image_can_be_meant():
    matched, unmatched = match_names(
        ["a", "A.PNG", "x/b.png", "b.PNG", "c"], ["a.png", "b.png", "B.png", "c.tif", "c.png"]
    )
    assert matched == {"a": "a.png", "A.PNG": "a.png", "x/b.png": "b.png"}
    assert unmatched["b.PNG"].startswith("may mean b.png or B.png")
    assert unmatched["c"].startswith("may mean c.tif or c.png")


def test_labels_outside_of_the_image_are_left_out_and_swapped_ones_refused():
    labels = pd.DataFrame(
        {SMEAR: "a", X: [10.0, 90, 30], Y: [5.0, 6, 7], "where": ["f: row 2", "f: row 3", "f: row 4"]}
    )
    errors = []
    assert labels_inside(labels, (20, 50), errors, "f")[X].tolist() == [10, 30]
    assert "row 3 puts a cell at x_px 90, y_px 6, outside of the 50 x 20 image a" in str(errors[0])
    swapped = pd.DataFrame(
        {SMEAR: "a", X: [10.0, 6, 7], Y: [5.0, 40, 45], "where": ["f: row 2", "f: row 3", "f: row 4"]}
    )
    assert labels_inside(swapped, (20, 50), errors, "f").empty
    assert "none would if x_px and y_px, or width and height, were exchanged" in str(errors[-1])


@pytest.fixture
def folder(tmp_path):
    for name in IMAGES:
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", ["Labels.CSV", "labels.csv.csv", "labels.tsv", "LABELS.txt"])
def test_a_table_of_another_name_is_seen(folder, name):
    (folder / name).write_text(HEADER + "P2,1,2,a\n")
    assert [len(s.truth) for s in folder_smears(folder) if s.truth is not None] == [1]


def test_a_list_of_classes_is_no_table(folder):
    (folder / "labels.txt").write_text("normal\ncodocyte\n")
    with pytest.warns(UserWarning, match=r"labels\.txt: is not read, as it is no table of labels"):
        assert [smear.truth for smear in folder_smears(folder)] == [None, None]


def test_tables_that_cannot_be_chosen_among_are_named(folder):
    (folder / "Labels.csv").write_text(HEADER)
    (folder / "labels.tsv").write_text(HEADER)
    with pytest.raises(SmearError, match=r"any of Labels\.csv, labels\.tsv may be the table"):
        list(folder_smears(folder))
    (folder / "labels.csv").write_text(HEADER + "P2,1,2,a\n")
    with pytest.warns(UserWarning, match=r"labels\.tsv: is not read, as labels\.csv lies beside it"):
        assert len(list(folder_smears(folder))) == 2


def test_other_rows_are_done_where_one_is_outside(folder):
    (folder / "labels.csv").write_text(HEADER + "P2,1,2,a\nP2,400,2,a\nPré 1,4,5,b\n", encoding="utf-8")
    errors = []
    assert [len(s.truth) for s in folder_smears(folder, errors=errors)] == [1, 1]
    assert "row 3 puts a cell at x_px 400" in str(errors[0])


@pytest.mark.parametrize("order", [[SMEAR, X, Y, LABEL], [LABEL, Y, SMEAR, X]])
def test_names_that_begin_with_a_hash_are_no_comments(tmp_path, order):
    good = pd.DataFrame([("#7 b.png", 3.5, 4.0, "normal"), ("P2.tif", 5.0, 6.0, "#2")], columns=[SMEAR, X, Y, LABEL])
    text = "# by anna, 2026\n" + good[order].to_csv(index=False) + "# 12 cells, looked at twice, by two, readers\n"
    for separator in ",;":
        table, errors, _ = read(tmp_path / "a.csv", text.replace(",", separator), names=["#7 b.png", "P2.tif"])
        assert errors == []
        assert table[[SMEAR, X, Y, LABEL]].to_numpy().tolist() == good.to_numpy().tolist()
    # Of which a spreadsheet has taken the quotation marks, and which may be a row that was commented out.
    table, errors, _ = read(tmp_path / "a.csv", HEADER + "P2.tif,1,2,a\n#P2.tif,3,4,a\n", names=["#P2.tif", "P2.tif"])
    assert "row 3 begins with #, and may be a comment or a label; delete it" in errors[0]
    quoted = HEADER + 'P2.tif,1,2,a\n"#P2.tif",3,4,a\n'
    table, errors, _ = read(tmp_path / "a.csv", quoted, names=["#P2.tif", "P2.tif"])
    assert (table[SMEAR].tolist(), errors) == (["P2.tif", "#P2.tif"], [])


def test_a_header_may_begin_with_a_hash(tmp_path):
    for text in ("# smear,x_px,y_px,label\nP2,1,2,a\n", "# of 2026\n#smear;x_px;y_px;label\n\nP2;1;2;a\n# end\n"):
        table, errors, notes = read(tmp_path / "a.csv", text)
        assert (table[[SMEAR, X, Y, LABEL]].to_numpy().tolist(), errors, notes) == ([["P2.tif", 1, 2, "a"]], [], [])
    # A header behind it is the one that counts, and a comment's quotation marks open nothing.
    table, errors, _ = read(tmp_path / "a.csv", '# image, "x", "y" of it, "class\n# "a","b"c\n' + HEADER + "P2,1,2,a\n")
    assert (len(table), errors) == (1, [])


@pytest.mark.parametrize(
    ("known", "offer"),
    [
        (["q1.png"], "there is q1.png; "),
        (["q1.png", "w2.png"], "there are q1.png, w2.png; "),
        ([f"{letter}.png" for letter in "qwerty"], "there are q.png, w.png, e.png and 3 more; "),
    ],
)
def test_a_name_like_none_is_offered_what_there_is(known, offer):
    _, unmatched = match_names(["slide of Monday"], known)
    assert offer in unmatched["slide of Monday"]
