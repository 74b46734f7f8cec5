"""How often the intervals of a lab's first model cover the truth: three smears of Chula RBC-12 learnt, others counted.

Usage: ``python benchmarks/count_coverage.py CHULA FOLDER``; some four minutes for each trio on two cores. What FOLDER
holds already is not done again. Each trio goes through `rbcnb segment`, `import-labels`, `train` and `count`; the truth
of a counted smear is its label file. Prints a row for each class that has ten cells or more there, and how many of the
intervals cover the truth. A model that can tell no class is refused by `count` and has no row.
"""

import subprocess
import sys
from pathlib import Path

import pandas as pd

from rbcnb.smears.chula import read_chula_labels

# Slides of targets, stomatocytes, ovalocytes and spherocytes, each with other smears of the same slide, and a mixture.
# No two smears of a line show the same cells (`rbcnb.smears.overlap`).
TRIOS = {
    "targets": (("27", "29", "33"), ("32", "34", "38", "39", "141", "239")),
    "stomatocytes": (
        ("302", "303", "305"),
        ("306", "307", "309", "310", "314", "316", "320", "328", "329", "331", "333"),
    ),
    "ovalocytes": (("253", "254", "256"), ("257", "258", "43")),
    "spherocytes": (("83", "96", "97"), ("222", "245", "246", "251")),
    "mixture": (("27", "302", "253"), ("29", "33", "38", "306", "310", "254", "257", "258", "320")),
}
FEWEST_CELLS = 10


def main(chula: Path, folder: Path) -> None:
    """Measures and prints."""
    rows = []
    for name, (learnt, counted) in TRIOS.items():
        print(f"== {name}: {', '.join(learnt)}", flush=True)
        go_the_road(chula, folder / name, learnt, counted)
        rows += coverage(chula, folder / name / "counts" / "differential.csv")
    table = pd.DataFrame(rows)
    print(table.round(3).to_string())
    given = table.dropna(subset=["low"])
    covers = (given["low"] <= given["truth"]) & (given["truth"] <= given["high"])
    width = (given["high"] - given["low"]).median()
    print(
        f"{covers.sum()} of {len(given)} intervals cover the truth, at a median width of {width:.2f}; "
        f"{len(table) - len(given)} shares cannot be told"
    )


def go_the_road(chula: Path, folder: Path, learnt: tuple[str, ...], counted: tuple[str, ...]) -> None:
    """Segments, labels and trains on the smears *learnt*, and counts the others."""
    labels = folder / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    for name in learnt:
        (labels / f"{name}.txt").write_bytes((chula / "Label" / f"{name}.txt").read_bytes())
    images = {name: str(chula / "Dataset" / f"{name}.jpg") for name in (*learnt, *counted)}
    cells, model = folder / "cells", folder / "cells" / "model.safetensors"
    if not model.exists():
        run("segment", *(images[name] for name in learnt), "--out", cells)
        run("import-labels", labels, cells, "--reader", "anna")
        run("train", cells)
    run("count", *(images[name] for name in counted), "--model", model, "--out", folder / "counts")


def run(*arguments: object) -> None:
    """Runs a command of rbcnb; what it leaves out or refuses is part of what is measured."""
    subprocess.run([sys.executable, "-m", "rbcnb.cli", *map(str, arguments)], check=False)


def coverage(chula: Path, differential: Path) -> list[dict]:
    """A row for each class and smear of the table *differential* whose label file has enough cells of the class."""
    if not differential.exists():
        return []
    rows = []
    for (smear, name), row in pd.read_csv(differential).set_index(["smear", "class"]).iterrows():
        if smear == "pooled":
            continue
        truth = read_chula_labels(chula / "Label" / f"{Path(smear).stem}.txt")["label"].value_counts()
        if truth.get(name, 0) >= FEWEST_CELLS:
            shares = {"truth": truth[name] / truth.sum(), "low": row["adjusted_low"], "high": row["adjusted_high"]}
            rows.append({"smear": smear, "class": name, **shares})
    return rows


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
