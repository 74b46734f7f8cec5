"""A data card: what a run's labels are, where they come from, how far readers agree, and what is known to be wrong.

Every number is computed from the tables that it is given; what cannot be computed, such as who took the smears, is
left to be filled in, and says so.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from rbcnb._utils.markdown import code, in_markdown
from rbcnb._utils.read_files import read_bytes
from rbcnb.columns import (
    BORDER,
    CELL,
    GROUP,
    KIND,
    LABEL,
    READER,
    REVISION,
    SESSION,
    SIMULATED,
    SMEAR,
    TIME,
    UNSURE,
    class_names,
)
from rbcnb.labels.agreement import Compared
from rbcnb.labels.assign import MATCH_RADII, click_offsets, count_classes, imbalance_ratio, labels_per_smear, matched
from rbcnb.labels.consensus import DISPUTED, current_labels
from rbcnb.labels.readings import KINDS, SKIPPED, STRUCK

FLAWS = ("flaw", "measured", "meaning")
LONGEST = 40  # smears that are listed one by one


def known_flaws(
    cells: pd.DataFrame,
    truth: pd.DataFrame,
    smears: pd.DataFrame,
    readings: pd.DataFrame,
    *,
    match_radii: float = MATCH_RADII,
) -> pd.DataFrame:
    """What is known to be wrong with the labels, measured: ``FLAWS``.

    Args:
        cells: found cells with ``label`` and ``border``.
        truth: labels that came with the smears.
        smears: ``smear`` and ``group`` of every smear.
        readings: as of `rbcnb.labels.load_readings`.
        match_radii: as used to give found cells their labels.
    """
    rows = []
    if len(truth):
        offsets = click_offsets(cells, truth, match_radii=match_radii)
        middle, far = offsets["offset_radii"].quantile([0.5, 0.95])
        rows.append(
            (
                "labels beside the centre",
                f"median {offsets['offset_px'].median():.1f} px = {middle:.2f} radii; 95 % within {far:.2f} radii",
                "the place of a label, or of a circle, is no measure of the cell's centre",
            )
        )
        n_missed = len(truth) - len(matched(cells, truth, match_radii=match_radii)[1])
        rows.append(("labels without a found cell", _of(n_missed, len(truth)), "missing from all that follows"))
    bare = cells[cells[LABEL].isna()]
    rows.append(
        (
            "found cells without a label",
            _of(len(bare), len(cells)),
            "no cell, a type that is not asked for, or one that nobody labelled; not trained on",
        )
    )
    cut, labelled = cells[cells[BORDER]], cells.dropna(subset=[LABEL])
    rows.append(
        (
            "cells cut by the border",
            f"{_of(len(cut), len(cells))}; {_of(int(labelled[BORDER].sum()), len(labelled))} of the labelled",
            "part of the cell is not in its picture",
        )
    )
    sizes = smears.groupby(GROUP).size()
    rows.append(
        (
            "identical images",
            f"{int((sizes > 1).sum())} groups of {int(sizes[sizes > 1].sum())} smears, of {len(smears)}",
            "one group stands on one side of an honest split",
        )
    )
    kinds = current_labels(readings)[KIND].value_counts()
    left_open = ", ".join(f"{int(kinds.get(kind, 0))} {kind}" for kind in (DISPUTED, UNSURE, STRUCK, SKIPPED))
    rows.append(("cells read and left open", left_open, "disputed, unsure and struck cells lose their label"))
    if len(labelled):
        per_smear = labels_per_smear(cells)
        rarest = count_classes(labelled)["n_cells"].idxmin()
        holders = int((per_smear[rarest] > 0).sum())
        most = per_smear[rarest].max() / per_smear[rarest].sum()
        rows.append(
            (
                f"rarest class: {rarest}",
                f"{per_smear[rarest].sum()} cells in {holders} of {len(smears)} smears; {most:.0%} of them in one",
                "what is learnt of it may be of that smear",
            )
        )
    return pd.DataFrame(rows, columns=list(FLAWS))


def audit_text(
    pairs: pd.DataFrame,
    issues: pd.DataFrame | None = None,
    estimate: pd.DataFrame | None = None,
    *,
    planted: bool = False,
) -> str:
    """What the audit found among the drawn cells, in sentences.

    Args:
        pairs: of `rbcnb.labels.duplicate_cells`.
        issues: of `rbcnb.labels.find_label_issues`, unless errors were planted.
        estimate: of `rbcnb.labels.error_estimate`, if a reader took the second look.
        planted: the reader looked at labels of which some had been made wrong.
    """
    identical = int(pairs["identical"].sum())
    text = [f"{len(pairs)} pairs of drawn cells look the same, {identical} of them to the byte (`duplicates.csv`)."]
    if issues is not None:
        doubted = _of(int(issues["issue"].sum()), len(issues))
        text.append(f"Nets that had not seen the cell's smear doubt {doubted} of the labels (`label_issues.csv`).")
    if estimate is None or pd.isna(estimate["errors"].iloc[-1]):
        text.append("Nobody has looked at doubted labels and controls again, blinded.")
    else:
        row = estimate.iloc[-1]
        text.append(
            f"A blinded second look changed {row['suspects_changed']:.0f} of {row['suspects']:.0f} doubted labels and "
            f"{row['controls_changed']:.0f} of {row['controls']:.0f} controls: about {row['errors']:.0f} "
            f"({row['errors_low']:.0f} to {row['errors_high']:.0f}) of the doubted are wrong."
        )
        text += ["Those are of a copy, with SIMULATED errors planted among its labels."] * planted
    return " ".join(text)


def readers_table(readings: pd.DataFrame) -> pd.DataFrame:
    """Who read: a row per reader with readings, cells, how many of each kind, corrections, first and last day."""
    rows = []
    for reader, reader_rows in readings.groupby(READER, sort=False):
        n_cells = len(reader_rows[[SMEAR, CELL]].drop_duplicates())
        kinds = reader_rows[KIND].value_counts()
        rows.append(
            {
                READER: reader,
                "readings": len(reader_rows),
                "cells": n_cells,
                **{kind: int(kinds.get(kind, 0)) for kind in KINDS},
                "again": int((reader_rows[REVISION] > 1).sum()),
                "sessions": reader_rows[SESSION].nunique(),
                "from": reader_rows[TIME].min().date().isoformat(),
                "to": reader_rows[TIME].max().date().isoformat(),
            }
        )
    return pd.DataFrame(rows, columns=[READER, "readings", "cells", *KINDS, "again", "sessions", "from", "to"])


def source_text(smears: str, data: str = "") -> str:
    """Where the smears come from and under what licence, read off the licence file beside them.

    Args:
        smears: "synthetic", "chula", or the path of a folder of images.
        data: folder of Chula RBC-12; other sources need none.

    Returns:
        Markdown: the source, and of the first file LICENSE* or LICENCE* in the folder the first two lines that are not
        empty, with its name; where there is none, a sentence that says so.

    Raises:
        InputError: the licence file cannot be read.
    """
    if smears == "synthetic":
        return (
            "Rendered by rbcnb from optical density (`rbcnb.smears.synthetic`), with labels known to the renderer: "
            "figures of a rendering, not of animals. Licence: rbcnb's own, MIT."
        )
    folder = Path(data if smears == "chula" else smears)
    source = f"The images in the folder {code(folder.name)}."
    if smears == "chula":
        source = (
            "Chula RBC-12 (Naruenatthanaset et al., 2021, arXiv:2012.01321): human blood, labelled by points; "
            "get it with `rbcnb fetch chula`."
        )
    licences = sorted(path for path in folder.glob("LICEN[CS]E*") if path.is_file())
    if not licences:
        return f"{source} Licence: no file LICENSE beside them; ask whose they are before passing anything on."
    licence = read_bytes(licences[0], remedy="put it right, or take it away").decode("utf-8", "replace")
    lines = [line.strip() for line in licence.splitlines()]
    terms = in_markdown("; ".join([line for line in lines if line][:2]))
    return f"{source} Licence: {terms} ({code(licences[0].name)})."


def data_card_text(
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
    simulated: str = "",
) -> str:
    """The card as Markdown.

    Headings and tables say what is simulated: *simulated*, and of agreement what its own column says.

    Args:
        title: what the card is of, such as the run and the digest of its data.
        source: `source_text`.
        cells: every found cell, with the label that stands, and ``border``.
        truth: labels that came with the smears.
        smears: ``smear`` and ``group`` of every smear.
        drawn: the cells that the study takes.
        readings: as of `rbcnb.labels.load_readings`.
        compared: whose readings were compared, and *agreement* their `rbcnb.labels.agreement_table`.
        match_radii: as used to give found cells their labels.
        more: further sections, heading -> table or text.
        simulated: what is invented of all there is, in words of `rbcnb.columns`; "" for nothing.
    """

    def table_text(table: pd.DataFrame) -> str:
        return _table(table.assign(**{SIMULATED: simulated}) if simulated else table)

    labelled, groups = cells.dropna(subset=[LABEL]), smears[GROUP].nunique()
    parts = {
        "Sources": source,
        "Cells": (
            f"{len(smears)} smears in {groups} groups; {len(cells)} cells found, {len(labelled)} of them labelled; "
            f"{len(drawn)} drawn for the study. Imbalance ratio, Eq. (5): {imbalance_ratio(labelled[LABEL]):.2f} of "
            f"the labelled, {imbalance_ratio(drawn[LABEL]):.2f} of the drawn cells.\n\n"
            + table_text(_class_table(truth, labelled, drawn))
        ),
        "Labelled cells per smear": _smears_text(labels_per_smear(cells), table_text),
        "Readers": (
            table_text(readers_table(readings))
            + f"\n\n{KINDS[0]} to {KINDS[-1]}: kinds of readings; again: of a cell that the reader had read before."
            if len(readings)
            else "Nobody has read cells in this run: its labels came with the smears."
        ),
        "Agreement": (
            f"Of {in_markdown(compared.source)}; 95 % intervals over smears.\n\n{_table(_agreement_text(agreement))}"
        ),
        "Known flaws": table_text(known_flaws(cells, truth, smears, readings, match_radii=match_radii)),
        **{head: text if isinstance(text, str) else table_text(text) for head, text in (more or {}).items()},
        "What this card cannot know": (
            "Which animals or patients the smears are of and who chose them, stain, microscope and pixel size, the "
            "readers' training, and consent. Tell these beside it."
        ),
    }
    invented = dict.fromkeys(parts, simulated) | {"Agreement": agreement.get(SIMULATED, pd.Series([""])).iloc[0]}
    marks = {head: f" (SIMULATED: {words})" if words else "" for head, words in invented.items()}
    return (
        "\n\n".join([f"# {in_markdown(title)}", *(f"## {head}{marks[head]}\n\n{text}" for head, text in parts.items())])
        + "\n"
    )


def _of(n: int, total: int) -> str:
    return f"{n} of {total}" + (f" ({n / total:.1%})" if total else "")


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


def _smears_text(per_smear: pd.DataFrame, table_text: Callable[[pd.DataFrame], str]) -> str:
    if len(per_smear) <= LONGEST:
        return table_text(per_smear)
    spread = per_smear.drop(columns=SMEAR).describe().loc[["min", "50%", "mean", "max"]].round(1)
    spread = spread.rename(index={"50%": "median"}).rename_axis("of all smears").reset_index()
    return f"{len(per_smear)} smears; each one: `tables/labels_per_smear.csv`.\n\n{table_text(spread)}"


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
            **agreement.filter([SIMULATED]),
        }
    )


def _table(table: pd.DataFrame) -> str:
    """*table* in Markdown: text to the left, numbers to the right."""
    rules = [":--" if table[name].dtype.kind not in "iuf" else "--:" for name in table]
    head, *lines = [" | ".join(map(in_markdown, row)) for row in (table.columns, *table.itertuples(index=False))]
    return "\n".join(f"| {line} |" for line in (head, " | ".join(rules), *lines))
