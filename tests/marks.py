"""What a run says is simulated, read off every place where it shows a table or a figure."""

import html
import re
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from PIL import Image

from rbcnb.columns import PUBLISHED, SIMULATED
from rbcnb.plotting.style import DPI, HEADING_IN, VERMILLION
from rbcnb.workflow.run import Run

HEADING_PX = round(HEADING_IN * DPI)


def has_heading(path: Path) -> bool:
    """Whether the strip at the top of a picture holds words in vermillion on white, and nothing else."""
    with Image.open(path) as image:
        strip = 255.0 - np.asarray(image.convert("RGB"))[: HEADING_PX - 1]
    ink = 255 * (1 - np.array(to_rgb(VERMILLION)))
    share = strip[..., 2] / ink[2]
    return bool(share.max() > 0.99 and np.abs(strip - share[..., None] * ink).max() < 2)


def marks_of(folder: Path) -> dict[str, str]:
    """Name of each table and figure of the run in *folder* -> what of it is simulated, "" for nothing.

    Fails where column or picture, manifest and report do not say the same.
    """
    manifest, page = Run.at(folder).load_manifest(), (folder / "report.html").read_text(encoding="utf-8")
    marks = {}
    for path in sorted([*folder.glob("tables/*.csv"), *folder.glob("figures/*.png")]):
        name = f"{path.parent.name}/{path.name}"
        if path.suffix == ".csv":
            words, shown = column_of(path), re.search(rf'<h2 id="{path.stem}">(.*?)</h2>', page)
        else:
            with Image.open(path) as image:
                words = image.text.get("Simulated", "")
            assert has_heading(path) == bool(words), f"{name}: the picture's heading"
            shown = re.search(rf'<figure id="{path.stem}">.*?<figcaption>(.*?)</figcaption>', page)
        listed = manifest[name].get(SIMULATED, "")
        assert words in (listed, None), f"{name}: {words!r} in the file, {listed!r} in the manifest"
        if shown:  # an empty table is not
            found = re.findall(r"SIMULATED: ([\w ]+)", html.unescape(shown[1]))
            assert found == [listed] * bool(listed), f"{name}: {found} in the report, {listed!r} in the manifest"
        marks[path.stem] = listed
    return marks


def column_of(path: Path) -> str | None:
    """What the column of a table says, the same in every row but the paper's; None of a table that has no row."""
    table = pd.read_csv(path)
    if SIMULATED not in table:
        return ""
    ours = table[table["protocol"] != PUBLISHED] if "protocol" in table else table
    assert table.loc[table.index.difference(ours.index), SIMULATED].isna().all(), f"{path}: the paper's own numbers"
    words = ours[SIMULATED].unique()
    assert len(words) < 2, f"{path}: {words}"
    return words[0] if len(words) else None
