"""A process that writes where others write at the same time: python writers.py readings|ledger|manifest FOLDER WHO N

It prints the name of each thing once the package has acknowledged it; what is refused goes to stderr and ends it.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path


def write_readings(folder: Path, who: int) -> Callable[[int], str]:
    """One reading a call, by reader *who*."""
    from rbcnb.labels.readings import Reading, append_readings

    long = "x" * 12_000  # so that each row lies in several pages of the file, and others may see half of one

    def write(number: int) -> str:
        reading = Reading(smear="a.png", cell=number, reader=f"r{who}", label="normal", comment=long)
        append_readings(folder / "readings.csv", [reading])
        return f"r{who} {number}"

    return write


def write_ledger(folder: Path, who: int) -> Callable[[int], str]:
    """One opening of the same test set a call, by a method of its own."""
    import numpy as np
    import pandas as pd

    from rbcnb.columns import CELL, LABEL, SMEAR, SPLIT, TEST
    from rbcnb.study.ledger import Entry, open_test

    cells = pd.DataFrame({SMEAR: ["a.png", "b.png"], CELL: [0, 0], LABEL: ["normal", "codocyte"], SPLIT: [TEST, TEST]})
    crops = np.zeros((2, 4, 4, 3), np.uint8)

    def write(number: int) -> str:
        method = f"m{who}_{number}"
        open_test(folder, [Entry("paper", "0", "small", method, "{}")], cells, crops)
        return method

    return write


def write_manifest(folder: Path, who: int) -> Callable[[int], str]:
    """One text file of a run a call, which its manifest tells."""
    from rbcnb.workflow.run import Run

    run = Run.at(folder, seed=0)

    def write(number: int) -> str:
        name = f"text{who}_{number}.md"
        run.save_text(f"{who} {number}\n", name)
        return name

    return write


def there(what: str, folder: Path) -> Iterator[str]:
    """The names of all that *folder* holds of what the writers of *what* wrote."""
    if what == "readings":
        from rbcnb.labels.readings import load_readings

        table = load_readings(folder / "readings.csv")
        yield from (f"{reader} {cell}" for reader, cell in zip(table["reader"], table["cell"], strict=True))
    elif what == "ledger":
        from rbcnb.study.ledger import load_ledger

        yield from load_ledger(folder)["method"]
    else:
        from rbcnb._utils.files import file_digest
        from rbcnb.workflow.run import Run

        for name, entry in Run.at(folder).load_manifest().items():
            if entry["digest"] == file_digest(folder / name):
                yield name


WRITERS = {"readings": write_readings, "ledger": write_ledger, "manifest": write_manifest}


def main(what: str, folder: str, who: str, n: str) -> None:
    """Writes *n* times as soon as the folder has a file ``go``."""
    import time

    from rbcnb._utils.errors import PlainError

    place = Path(folder)
    write = WRITERS[what](place, int(who))
    (place / f"ready{who}").touch()
    while not (place / "go").exists():
        time.sleep(0.005)
    try:
        for number in range(int(n)):
            print(write(number), flush=True)
    except (PlainError, OSError) as error:
        sys.exit(f"refused: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
