"""Which images of Chula RBC-12 show the same cells, and what that means for the published study.

Usage: ``python benchmarks/overlaps.py CHULA [SHEET.png]``; two minutes on two cores. Prints the pairs that
`rbcnb.smears.overlap` finds among the different images, and draws what both images of each pair show, side by side, so
that a person can check them. Then compares the losses again without the test smears that show a cell of the networks'
own development smears, smears that overlap taken as one, and fills the mark ``overlaps`` of ``docs/results.md``.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from paper_numbers import fill_page
from study_results import LOSSES, PAGE, ROOT, interval_text, markdown, published

from rbcnb.columns import DEV, GROUP, SMEAR, SPLIT, TEST, readable
from rbcnb.evaluation.inference import Difference, paired_macro_f1
from rbcnb.smears.images import identical_image_groups, images_in, read_image
from rbcnb.smears.overlap import Overlap, join_groups, overlaps_of_files
from rbcnb.study.store import predictions_by_method
from rbcnb.workflow.publish import unpacked
from rbcnb.workflow.run_tables import RunTables

HONEST = "honest"
_TILE_PX = 320
_COLUMNS = 6


def chula_overlaps(chula: Path) -> tuple[dict[str, str], tuple[Overlap, ...]]:
    """Image -> its group of the same bytes; and the overlaps of the different images."""
    groups = {path.name: group for path, group in identical_image_groups(images_in(chula / "Dataset")).items()}
    different = {name: chula / "Dataset" / name for name, group in groups.items() if name == group}
    return groups, overlaps_of_files(different)


def repeated_smears(splits: Sequence[pd.DataFrame], overlaps: Sequence[Overlap], groups: dict[str, str]) -> set[str]:
    """The smears that are tested by networks whose development smears show some of the same cells."""
    partners = defaultdict(set)
    for overlap in overlaps:
        partners[overlap.first].add(overlap.second)
        partners[overlap.second].add(overlap.first)
    repeated = set()
    for cells in splits:
        side = cells.drop_duplicates(SMEAR).set_index(SMEAR)[SPLIT]
        learnt = {groups[smear] for smear in side.index[side == DEV]}
        repeated |= {smear for smear in side.index[side == TEST] if partners[groups[smear]] & learnt}
    return repeated


def compared(folder: Path, overlaps: Sequence[Overlap], groups: dict[str, str]) -> list[dict]:
    """A row per network of a run: focal loss minus cross entropy, as published and without `repeated_smears`."""
    fields = join_groups(groups, [(overlap.first, overlap.second) for overlap in overlaps])
    with unpacked(folder) as run:
        tables = RunTables(run, run.load_record()["parameters"]["05_final_evaluation"])
        splits = [cells for name, cells in tables.fitted_splits.items() if name.startswith(HONEST)]
        repeated = repeated_smears(splits, overlaps, groups)
        by_method = predictions_by_method(tables.best[HONEST], run.store)
        seed = tables.value("seed")
    rows = []
    for network in dict.fromkeys(network for network, _ in by_method):
        sides = [by_method[network, loss] for loss in LOSSES]
        without = [[_without(table, repeated, fields) for table in side] for side in sides]
        before, after = paired_macro_f1(*sides, seed=seed), paired_macro_f1(*without, seed=seed)
        n_cells, n_left = len(sides[0][0]), len(without[0][0])
        rows.append(
            {
                "Network": readable(network),
                "As published": _interval(before),
                "Without them": _interval(after),
                "Cells left out": f"{n_cells - n_left} of {n_cells:,}",
                "Smears left out": f"{len(repeated)} of {sides[0][0][SMEAR].nunique()}",
            }
        )
    return rows


def draw_sheet(chula: Path, overlaps: Sequence[Overlap], path: Path) -> None:
    """What both images of each pair show, side by side, the least first."""
    tiles = []
    for overlap in sorted(overlaps, key=lambda overlap: overlap.share):
        first, second = (read_image(chula / "Dataset" / name) for name in (overlap.first, overlap.second))
        dx, dy = overlap.dx_px, overlap.dy_px
        height, width = first.shape[0] - abs(dy), first.shape[1] - abs(dx)
        sides = [
            image[max(0, sign * dy) :, max(0, sign * dx) :][:height, :width]
            for image, sign in ((first, -1), (second, 1))
        ]
        both = np.concatenate(sides, axis=int(height < width) ^ 1)
        scale = _TILE_PX / max(both.shape)
        both = cv2.resize(both, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        tile = np.full((_TILE_PX, _TILE_PX, 3), 255, np.uint8)
        tile[: both.shape[0], : both.shape[1]] = both
        tiles.append(tile)
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % _COLUMNS)
    rows = [np.hstack(tiles[i : i + _COLUMNS]) for i in range(0, len(tiles), _COLUMNS)]
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def _without(table: pd.DataFrame, smears: set[str], fields: dict[str, str]) -> pd.DataFrame:
    table = table[~table[SMEAR].isin(smears)].reset_index(drop=True)
    return table.assign(**{GROUP: table[SMEAR].map(fields)})


def _interval(difference: Difference) -> str:
    return interval_text(difference.mean, difference.low, difference.high)


def main() -> None:
    """Measures, prints, and fills the page."""
    chula = Path(sys.argv[1])
    groups, overlaps = chula_overlaps(chula)
    for overlap in sorted(overlaps, key=lambda overlap: overlap.share):
        print(f"{overlap.first} {overlap.second}: {overlap.share:.1%}, moved by {overlap.dx_px}, {overlap.dy_px} px")
    n = len(set(groups.values()))
    print(f"{len(overlaps)} of {n * (n - 1) // 2:,} pairs of {n} different images show the same cells")
    if len(sys.argv) > 2:
        draw_sheet(chula, overlaps, Path(sys.argv[2]))
    table = pd.DataFrame([row for folder in published(ROOT / "results") for row in compared(folder, overlaps, groups)])
    PAGE.write_text(fill_page(PAGE.read_text(encoding="utf-8"), {"overlaps": markdown(table)}), encoding="utf-8")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
