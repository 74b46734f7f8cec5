"""What is known to be wrong with a run's labels, measured, and what the audit of them found, in words."""

import pandas as pd

from rbcnb.columns import BORDER, GROUP, KIND, LABEL
from rbcnb.current_labels import DISPUTED, current_labels
from rbcnb.labels import MATCH_RADII, click_offsets, count_classes, labels_per_smear, matched
from rbcnb.readings import SKIPPED, UNSURE

FLAWS = ("flaw", "measured", "meaning")


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
        readings: as of `rbcnb.readings.load_readings`.
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
    told = ", ".join(f"{int(kinds.get(kind, 0))} {kind}" for kind in (DISPUTED, UNSURE, SKIPPED))
    rows.append(("cells read and left open", told, "disputed and unsure cells lose their label"))
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


def audit_text(pairs: pd.DataFrame, issues: pd.DataFrame | None = None, estimate: pd.DataFrame | None = None) -> str:
    """What the audit found among the drawn cells, in sentences.

    Args:
        pairs: of `rbcnb.duplicates.duplicate_cells`.
        issues: of `rbcnb.label_issues.find_label_issues`, unless errors were planted.
        estimate: of `rbcnb.relabel.error_estimate`, if a reader took the second look.
    """
    identical = int(pairs["identical"].sum())
    told = [f"{len(pairs)} pairs of drawn cells look the same, {identical} of them to the byte (`duplicates.csv`)."]
    if issues is not None:
        doubted = _of(int(issues["issue"].sum()), len(issues))
        told.append(f"Nets that had not seen the cell's smear doubt {doubted} of the labels (`label_issues.csv`).")
    if estimate is None or pd.isna(estimate["errors"].iloc[-1]):
        told.append("Nobody has looked at doubted labels and controls again, blinded.")
    else:
        row = estimate.iloc[-1]
        told.append(
            f"A blinded second look changed {row['suspects_changed']:.0f} of {row['suspects']:.0f} doubted labels and "
            f"{row['controls_changed']:.0f} of {row['controls']:.0f} controls: about {row['errors']:.0f} "
            f"({row['errors_low']:.0f} to {row['errors_high']:.0f}) of the doubted are wrong."
        )
    return " ".join(told)


def _of(n: int, total: int) -> str:
    return f"{n} of {total}" + (f" ({n / total:.1%})" if total else "")
