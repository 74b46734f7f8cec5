"""Notebook cells that show a labeller over many cells, for tests and benchmarks of it in a browser."""

# Rendered once per kernel; the n cells are those of two smears, again and again under other names of the smears.
CELLS = """\
import numpy as np
import pandas as pd
from rbcnb.labels import Labeller
from rbcnb.segmentation.crops import crop_cells
from rbcnb.smears import synthetic_smears

smears = {{smear.name: smear for smear in synthetic_smears(2, seed=0)}}
found = pd.concat([smear.truth.assign(smear=name) for name, smear in smears.items()], ignore_index=True)
crops = np.concatenate([crop_cells(s.image, s.truth, 48) for s in smears.values()])
found = found.assign(crop=found.index)
copies = [found.assign(smear=found["smear"] + (f"+{{k}}" if k else "")) for k in range(-(-{n} // len(found)))]
cells = pd.concat(copies, ignore_index=True)[:{n}].drop(columns=["label", "border"])
cells = cells.assign(cell=cells.groupby("smear").cumcount())
"""
SHOW = """\
labeller = Labeller(
    cells, "readings.csv", reader="Ann", crops=crops, smear_image=lambda name: smears[name.split("+")[0]].image
)
labeller
"""
