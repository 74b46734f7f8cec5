"""A data card: what a run's labels are, where they come from, how far readers agree, and what is known to be wrong.

Every number is computed from the tables that it is given; what cannot be computed, such as who took the smears, is
left to be filled in, and says so.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from rbcnb.agreement import Compared
from rbcnb.columns import CELL, GROUP, KIND, LABEL, READER, REVISION, SESSION, SMEAR, TIME, class_names
from rbcnb.flaws import known_flaws
from rbcnb.labels import MATCH_RADII, labels_per_smear
from rbcnb.readings import KINDS
from rbcnb.splits import imbalance_ratio

LONGEST = 40  # smears that are listed one by one


def readers_table(readings: pd.DataFrame) -> pd.DataFrame:
    """Who read: a row per reader with readings, cells, how many of each kind, corrections, first and last day."""
    rows = []
    for reader, own in readings.groupby(READER, sort=False):
        n_cells = len(own[[SMEAR, CELL]].drop_duplicates())
        kinds = own[KIND].value_counts()
        rows.append(
            {
                READER: reader,
                "readings": len(own),
                "cells": n_cells,
                **{kind: int(kinds.get(kind, 0)) for kind in KINDS},
                "again": int((own[REVISION] > 1).sum()),
                "sessions": own[SESSION].nunique(),
                "from": own[TIME].min().date().isoformat(),
                "to": own[TIME].max().date().isoformat(),
            }
        )
    return pd.DataFrame(rows, columns=[READER, "readings", "cells", *KINDS, "again", "sessions", "from", "to"])


def source_text(smears: str, data: str = "") -> str:
    """Where the smears come from and under what licence, read off the licence file beside them."""
    if smears == "synthetic":
        return (
            "Rendered by rbcnb from optical density (`rbcnb.synthesis`), with labels known to the renderer: figures of "
            "a rendering, not of animals. Licence: rbcnb's own, MIT."
        )
    folder = Path(data if smears == "chula" else smears)
    told = f"The images in the folder `{folder.name}`."
    if smears == "chula":
        told = (
            "Chula RBC-12 (Naruenatthanaset et al., 2021, arXiv:2012.01321): human blood, labelled by points; "
            "get it with `rbcnb fetch chula`."
        )
    licences = sorted(path for path in folder.glob("LICEN[CS]E*") if path.is_file())
    if not licences:
        return f"{told} Licence: no file LICENSE beside them; ask whose they are before passing anything on."
    lines = [line.strip() for line in licences[0].read_text(encoding="utf-8", errors="replace").splitlines()]
    return f"{told} Licence: {'; '.join([line for line in lines if line][:2])} (`{licences[0].name}`)."


def data_card(
    *,
    title: str,
    source: str,
    cells: pd.DataFrame,
    truth: pd.DataFrame,
    smears: pd.DataFrame,
    drawn: pd.DataFrame,
    readings: pd.DataFrame,
    compared: Compared,
    agreement: pd.DataFrame,
    match_radii: float = MATCH_RADII,
    more: Mapping[str, pd.DataFrame | str] | None = None,
) -> str:
    """The card as Markdown.

    Args:
        title: what the card is of, such as the run and the digest of its data.
        source: `source_text`.
        cells: every found cell, with the label that stands, and ``border``.
        truth: labels that came with the smears.
        smears: ``smear`` and ``group`` of every smear.
        drawn: the cells that the study takes.
        readings: as of `rbcnb.readings.load_readings`.
        compared: whose readings were compared, and *agreement* their `rbcnb.agreement.agreement_table`.
        match_radii: as used to give found cells their labels.
        more: further sections, heading -> table or text.
    """
    labelled, groups = cells.dropna(subset=[LABEL]), smears[GROUP].nunique()
    parts = {
        "Sources": source,
        "Cells": (
            f"{len(smears)} smears in {groups} groups; {len(cells)} cells found, {len(labelled)} of them labelled; "
            f"{len(drawn)} drawn for the study. Imbalance ratio, Eq. (5): {imbalance_ratio(labelled[LABEL]):.2f} of "
            f"the labelled, {imbalance_ratio(drawn[LABEL]):.2f} of the drawn cells.\n\n"
            + _table(_class_table(truth, labelled, drawn))
        ),
        "Labelled cells per smear": _smears_text(labels_per_smear(cells)),
        "Readers": (
            _table(readers_table(readings))
            + f"\n\n{KINDS[0]} to {KINDS[-1]}: kinds of readings; again: of a cell that the reader had read before."
            if len(readings)
            else "Nobody has read cells in this run: its labels came with the smears."
        ),
        "Agreement": f"Of {compared.source}; 95 % intervals over smears.\n\n{_table(_agreement_text(agreement))}",
        "Known flaws": _table(known_flaws(cells, truth, smears, readings, match_radii=match_radii)),
        **{head: text if isinstance(text, str) else _table(text) for head, text in (more or {}).items()},
        "What this card cannot know": (
            "Which animals or patients the smears are of and who chose them, stain, microscope and pixel size, the "
            "readers' training, and consent. Tell these beside it."
        ),
    }
    return "\n\n".join([f"# {title}", *(f"## {head}\n\n{text}" for head, text in parts.items())]) + "\n"


def _class_table(truth: pd.DataFrame, labelled: pd.DataFrame, drawn: pd.DataFrame) -> pd.DataFrame:
    names = list(class_names([*truth[LABEL], *labelled[LABEL]]))
    columns = {
        "came with the smears": truth[LABEL].value_counts(),
        "on found cells": labelled[LABEL].value_counts(),
        "in smears": labelled.groupby(LABEL)[SMEAR].nunique(),
        "drawn": drawn[LABEL].value_counts(),
    }
    table = pd.DataFrame({head: counts.reindex(names, fill_value=0).astype(int) for head, counts in columns.items()})
    return (
        table.assign(share=(table["drawn"] / table["drawn"].sum()).map("{:.1%}".format))
        .rename_axis("class")
        .reset_index()
    )


def _smears_text(per_smear: pd.DataFrame) -> str:
    if len(per_smear) <= LONGEST:
        return _table(per_smear)
    spread = per_smear.drop(columns=SMEAR).describe().loc[["min", "50%", "mean", "max"]].round(1)
    spread = spread.rename(index={"50%": "median"}).rename_axis("of all smears").reset_index()
    return f"{len(per_smear)} smears; each one: `tables/labels_per_smear.csv`.\n\n{_table(spread)}"


def _agreement_text(agreement: pd.DataFrame) -> pd.DataFrame:
    def interval(row: pd.Series) -> str:
        return "not known" if math.isnan(row["low"]) else f"{row['low']:.2f} to {row['high']:.2f}"

    return pd.DataFrame(
        {
            "statistic": agreement["statistic"],
            "value": agreement["value"].map("{:.2f}".format),
            "interval": agreement.apply(interval, axis=1),
            "cells": agreement["n_cells"],
            "smears": agreement["n_smears"],
        }
    )


def _table(table: pd.DataFrame) -> str:
    """*table* in Markdown: text to the left, numbers to the right."""
    rules = [":--" if table[name].dtype.kind not in "iuf" else "--:" for name in table]
    rows = [list(table.columns), rules, *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(str(value).replace("|", "\\|") for value in row) + " |" for row in rows)
