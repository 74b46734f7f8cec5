"""Many smears to one cells table, the crops in its order, and the smears' truth."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from rbcnb._utils.dask_cluster import ask_all_workers, connect
from rbcnb._utils.errors import DeadWorkerError
from rbcnb._utils.parallel import run_all
from rbcnb.columns import BORDER, CELL, CROP, FOUND, GROUP, LABEL, RADIUS, SMEAR, X, Y
from rbcnb.segmentation.segment import FinderSpec, Segmentation, crops_of, segment_smear
from rbcnb.segmentation.upscaling import METHODS, usable_method
from rbcnb.smears.images import Smear
from rbcnb.smears.segmented import DIAMETER

TRUTH_COLUMNS = (SMEAR, GROUP, X, Y, RADIUS, LABEL)


@dataclass(frozen=True, eq=False)
class SegmentedSmears:
    """What Algorithm 1 makes of many smears."""

    cells: pd.DataFrame  # columns.FOUND, border and crop (row in crops), one row per found cell
    crops: np.ndarray  # uint8 [N, S, S, 3]
    truth: pd.DataFrame  # smear, group, x_px, y_px, radius_px, label: one row per labelled cell
    smears: pd.DataFrame  # smear, group, height_px, width_px, diameter_px, cells: one row per smear


def segment_smears(
    smears: Iterable[Smear], spec: FinderSpec, *, jobs: int = 1, scheduler: str | None = None
) -> SegmentedSmears:
    """Runs `segment_smear` over *smears*, *jobs* at a time; the result does not depend on *jobs*.

    Of a smear whose cells were found already (`Smear.cells`) the crops alone are cut.

    Args:
        scheduler: address of a Dask scheduler, whose workers do it in place of this machine. Smears are sent to them,
            and read here no faster than they are worked on.

    Raises:
        ValueError: there are no smears, or no cell is found in any.
        DeadWorkerError: a process died; on a cluster: one smear killed several workers.
        ClusterError: the cluster cannot do the work.
    """
    done = {}
    with connect(scheduler) as client:
        if spec.upscale in METHODS:
            spec = replace(spec, upscale=ask_all_workers(client, usable_method, spec.upscale))
        for number, part in run_all(_segmented, iter(smears), shared=(spec,), jobs=jobs, client=client):
            if isinstance(part, DeadWorkerError):
                raise DeadWorkerError(f"smear {number + 1}: {part}; cut it into tiles, or give workers more memory")
            done[number] = part
    parts = [done[number] for number in sorted(done)]
    if not parts:
        raise ValueError("there are no smears to segment")
    cells = pd.concat([part[0] for part in parts], ignore_index=True)
    if cells.empty:
        raise ValueError(f"no cell was found in any of {len(parts)} smears; give the cell diameter (diameter_px)")
    crops = np.concatenate([part[1] for part in parts])
    first = [*FOUND]
    cells = cells[first + [name for name in cells.columns if name not in first]]
    truths = [part[2] for part in parts if len(part[2])]
    truth = pd.concat(truths, ignore_index=True) if truths else pd.DataFrame(columns=list(TRUTH_COLUMNS))
    return SegmentedSmears(
        cells=cells.assign(**{CROP: np.arange(len(cells))}),
        crops=crops,
        truth=truth,
        smears=pd.DataFrame([part[3] for part in parts]),
    )


def first_example(smears: Iterable[Smear], spec: FinderSpec) -> tuple[Smear, Segmentation]:
    """The first of *smears* with a whole cell in it, and what Algorithm 1 makes of it, step by step (Fig. 7).

    Args:
        smears: read one by one, up to this one.
        spec: how cells are found.

    Raises:
        ValueError: no whole cell is found in any, or `segment_smear` cannot use an image.
    """
    for smear in smears:
        steps = segment_smear(smear.image, spec, keep=True)
        if not steps.cells[BORDER].all():
            return smear, steps
    raise ValueError("no whole cell was found in the first smears; give the cell diameter (diameter_px)")


def _segmented(smear: Smear, spec: FinderSpec) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame, dict]:
    if smear.cells is None:
        found = segment_smear(smear.image, spec)
    else:
        crops = crops_of(smear.image, smear.cells, spec, diameter_px=smear.diameter_px)
        found = Segmentation(smear.cells, crops, smear.diameter_px)
    cells = found.cells.assign(**{SMEAR: smear.name})
    truth = pd.DataFrame(columns=list(TRUTH_COLUMNS)) if smear.truth is None else smear.truth
    truth = truth.assign(**{SMEAR: smear.name, GROUP: smear.group}).reindex(columns=list(TRUTH_COLUMNS))
    height, width = smear.image.shape[:2]
    facts = {
        SMEAR: smear.name,
        GROUP: smear.group,
        "height_px": height,
        "width_px": width,
        DIAMETER: found.diameter_px,
        CELL + "s": len(cells),
    }
    return cells, found.crops, truth, facts
