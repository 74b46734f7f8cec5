"""The data card: every number on it is counted here by other means; what is not known it does not tell."""

import numpy as np
import pandas as pd
import pytest

from rbcnb.labels.agreement import agreement_table, compared_readers
from rbcnb.labels.assign import label_cells, labels_per_smear
from rbcnb.labels.data_card import audit_text, data_card_text, known_flaws, readers_table, source_text
from rbcnb.labels.readings import Reading, append_readings, load_readings
from rbcnb.labels.second_look import compare_second_look, error_estimate


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    """Six smears, the last two identical, of eight cells: clicked 3 px beside, one missed, one without a label."""
    places = [(40.0 * i + 15, 30.0) for i in range(8)]
    names = ["codocyte", "normal", "normal", "normal", "hypochromia", "normal", "normal"]
    smears = [f"{i}.png" for i in range(6)]
    groups = {name: "4.png" if name == "5.png" else name for name in smears}
    cells = pd.DataFrame([(smear, n, *place, 15.0) for smear in smears for n, place in enumerate(places)])
    cells.columns = ["smear", "cell", "x_px", "y_px", "radius_px"]
    clicks = [
        (smear, groups[smear], x + 3, y, label)
        for smear in smears
        for (x, y), label in zip([*places[:6], (40, 200)], names, strict=True)
    ]
    truth = pd.DataFrame(clicks, columns=["smear", "group", "x_px", "y_px", "label"])
    truth.loc[truth.index[-3], "label"] = "normal"  # the hypochromic cell of the second twin
    return {
        "cells": label_cells(cells.assign(border=cells["cell"] == 0), truth),
        "truth": truth,
        "smears": pd.DataFrame({"smear": smears, "group": groups.values()}),
    }


def flaws_of(tables: dict[str, pd.DataFrame], readings: pd.DataFrame) -> pd.Series:
    return known_flaws(**tables, readings=readings).set_index("flaw")["measured"]


def test_flaws_are_measured(tables, tmp_path):
    readings = load_readings(tmp_path / "none.csv")
    flaws = flaws_of(tables, readings)
    assert flaws["labels beside the centre"] == "median 3.0 px = 0.20 radii; 95 % within 0.20 radii"
    assert flaws["labels without a found cell"] == "6 of 42 (14.3%)"
    assert flaws["found cells without a label"] == "12 of 48 (25.0%)"
    assert flaws["cells cut by the border"] == "6 of 48 (12.5%); 6 of 36 (16.7%) of the labelled"
    assert flaws["identical images"] == "1 groups of 2 smears, of 6"
    assert flaws["rarest class: hypochromia"] == "5 cells in 5 of 6 smears; 20% of them in one"
    readings = [
        Reading(smear="0.png", cell=0, label=label, reader=reader)
        for reader, label in (("anna", "normal"), ("bo", "codocyte"))
    ]
    readings += [Reading(smear="0.png", cell=n, kind=kind, reader="anna") for n, kind in ((1, "unsure"), (2, "skip"))]
    append_readings(tmp_path / "readings.csv", readings)
    flaws = flaws_of(tables, load_readings(tmp_path / "readings.csv"))
    assert flaws["cells read and left open"] == "1 disputed, 1 unsure, 0 strike, 1 skip"


def test_without_labels_nothing_is_said_of_them(tables, tmp_path):
    bare = tables | {"truth": tables["truth"].iloc[:0], "cells": tables["cells"].assign(label=np.nan)}
    flaws = flaws_of(bare, load_readings(tmp_path / "none.csv"))
    assert flaws["found cells without a label"] == "48 of 48 (100.0%)"
    assert not any(name.startswith(("labels beside", "rarest")) for name in flaws.index)


def test_readers_are_counted_by_kind(tmp_path):
    path = tmp_path / "readings.csv"
    for session, cells in (("one", [0, 1]), ("two", [1, 2])):
        append_readings(
            path, [Reading(smear="a", cell=n, label="normal", reader="anna", session=session) for n in cells]
        )
    append_readings(path, [Reading(smear="a", cell=2, kind="undo", reader="anna", session="two")])
    row = readers_table(load_readings(path)).iloc[0]
    assert row[["readings", "cells", "label", "undo", "again", "sessions"]].tolist() == [5, 3, 4, 1, 2, 2]


def test_the_card_tells_who_was_compared_and_counts_every_class(tables, tmp_path):
    readings = load_readings(tmp_path / "none.csv")
    labelled = tables["cells"].dropna(subset=["label"])
    compared = compared_readers(readings, tables["truth"], labelled, error=0.1, seed=0)
    assert compared.source.startswith("two readings of 1 images")
    agreement = agreement_table(compared.ratings, compared.smears)
    assert agreement["value"][0] == pytest.approx(6 / 7)  # the missed cell was clicked in both
    card = data_card_text(
        title="T", source=source_text("synthetic"), drawn=labelled, readings=readings, compared=compared,
        agreement=agreement, more={"Doubts": pd.DataFrame({"a|b": [1]})}, **tables,
    )  # fmt: skip
    assert "| agreement | 0.86 | not known | 7 | 1 |" in card
    assert "| codocyte | 6 | 6 | 6 | 6 | 16.7% |" in card
    assert "Nobody has read cells" in card
    assert "## Doubts\n\n| <code>a&#124;b</code> |\n| --: |\n| 1 |" in card
    per_smear = labels_per_smear(tables["cells"])
    assert per_smear["labelled"].sum() == len(labelled)
    for row in per_smear.itertuples(index=False):
        assert "| " + " | ".join(map(str, row)) + " |" in card
    alone = tables["truth"][tables["truth"]["smear"] != "5.png"]
    simulated = compared_readers(readings, alone, labelled, error=0.1, seed=0)
    assert simulated.simulated
    assert "SIMULATED" in simulated.source
    assert "simulated" not in card.lower()
    agreement = agreement_table(simulated.ratings, simulated.smears).assign(simulated="readers and smears")
    marked = data_card_text(
        title="T", source="S", drawn=labelled, readings=readings, compared=simulated, agreement=agreement,
        more={"Doubts": pd.DataFrame({"a": [1]})}, simulated="smears", **tables,
    )  # fmt: skip
    heads = [line for line in marked.splitlines() if line.startswith("## ")]
    assert "## Agreement (SIMULATED: readers and smears)" in heads
    assert all(head.endswith(" (SIMULATED: smears)") for head in heads if "Agreement" not in head)
    rows = [line for line in marked.splitlines() if line.startswith("| ")]
    assert all(row.endswith((" smears |", " simulated |", " :-- |")) for row in rows)
    assert "| a | simulated |\n| --: | :-- |\n| 1 | smears |" in marked


def test_what_the_audit_found_is_told_and_no_more():
    pairs = pd.DataFrame({"identical": [True, False]})
    assert audit_text(pairs) == (
        "2 pairs of drawn cells look the same, 1 of them to the byte (`duplicates.csv`). "
        "Nobody has looked at doubted labels and controls again, blinded."
    )
    key = pd.DataFrame({"smear": "a", "cell": range(40), "label": "normal", "suggested": "codocyte", "doubt": 0.9})
    key = key.assign(role=["suspect", "control"] * 20)
    issues = key.assign(issue=key["role"] == "suspect")
    second_labels = key.assign(label=["codocyte", "normal"] * 10 + ["normal"] * 20)
    text = audit_text(pairs, issues, error_estimate(compare_second_look(key, second_labels)))
    assert "doubt 20 of 40 (50.0%) of the labels" in text
    assert "changed 10 of 20 doubted labels and 0 of 20 controls: about 10 (5 to 14) of the doubted" in text
    planted = audit_text(pairs, issues, error_estimate(compare_second_look(key, second_labels)), planted=True)
    assert planted == f"{text} Those are of a copy, with SIMULATED errors planted among its labels."
    unread = error_estimate(compare_second_look(key, second_labels.head(0)))
    assert "Nobody has looked" in audit_text(pairs, issues, unread)


def test_readers_go_before_twins(tables, tmp_path):
    path, labelled = tmp_path / "readings.csv", tables["cells"].dropna(subset=["label"])
    for reader in ("anna", "bo"):
        append_readings(path, labelled[["smear", "cell", "label"]].assign(reader=reader))
    compared = compared_readers(load_readings(path), tables["truth"], labelled, error=0.1, seed=0)
    assert compared.source == "the readers anna and bo"
    # Identical images count as one smear.
    assert agreement_table(compared.ratings, compared.smears)["n_smears"][0] == 5


def test_the_licence_is_read_where_there_is_one(tmp_path):
    assert "no file LICENSE" in source_text(str(tmp_path))
    (tmp_path / "LICENSE.txt").write_text("Some Licence\n\n Copyright (c) 2026 A Lab \nmore\n")
    assert "Licence: Some Licence; Copyright (c) 2026 A Lab (`LICENSE.txt`)." in source_text(str(tmp_path))
    assert "Chula RBC-12" in source_text("chula", str(tmp_path))
