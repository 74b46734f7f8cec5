"""What the tests of this folder tried and what survived: a table, written where ``RBCNB_FAULTS_CSV`` says.

    RBCNB_FAULTS_CSV=faults.csv pytest -m faults && python tests/faults/outcomes.py faults.csv

The second command puts it into docs/faults.md.
"""

import os
import sys
from pathlib import Path

import pandas as pd

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- outcomes -->", "<!-- end of outcomes -->"
# Kind of fault -> how it is known that it was survived.
KINDS = {
    "segment killed": "the rerun ends with the bytes of a run that was left alone; no finished image is done again; "
    "no process and no temporary file is left",
    "count killed": "the same",
    "reproduce killed": "the same, of tables; no finished trial is fitted again",
    "labeller killed": "every reading that the page called saved is in readings.csv, once",
    "writer of readings killed": "every acknowledged reading is in readings.csv, once",
    "small disk": "one line names file and remedy, exit code 1 or 2; with more space the same command ends the same",
    "no write permission": "the same, with permission",
    "folder removed": "the same, started again",
    "little memory": "the same, with more; or it works with so little",
    "few file descriptors": "the same, with more; or it works with so few",
    "several writers": "what was acknowledged is there: readings, ledger and manifest, by 2 and 10 processes",
    "several writers without locks": "the same, or it was refused",
    "damaged run": "`rbcnb verify` ends with another code than 0 for each that changes what a person reads",
    "damaged published folder": "the same",
    "damaged run repaired": "the same `rbcnb reproduce` makes the tables of before; what it cannot make is named",
    "damaged trial": "it is not read, or as what it was",
    "damaged segment folder": "the same `rbcnb segment` makes what it made before, or names the file",
    "damaged count folder": "the same `rbcnb count` makes what it made before, or names the file",
    "damaged readings": "they are read, or the file is named with the remedy; what is then acknowledged can be read",
    "damaged model": "it is refused by a line that names it, or is what it was",
}
COLUMNS = ("kind", "what", "tried", "survived")


def share(n: int) -> int:
    """*n*, or what ``RBCNB_FAULTS_SHARE`` (such as 0.1) leaves of it, at least 1: to try the tests themselves."""
    return max(1, round(n * float(os.environ.get("RBCNB_FAULTS_SHARE", "1"))))


def record(kind: str, tried: int, failed: int, what: str = "") -> None:
    """Notes what became of *tried* faults of *kind*, of which *failed* were not survived."""
    if kind not in KINDS:
        raise ValueError(f"no kind of fault is called {kind!r}; name it in KINDS")
    print(f"{kind}{what and f' ({what})'}: {tried} tried, {tried - failed} survived")
    if path := os.environ.get("RBCNB_FAULTS_CSV"):
        line = f"{kind},{what},{tried},{tried - failed}\n"
        with Path(path).open("a", encoding="utf-8") as file:  # in one write, as two processes test
            file.write(line)


def table(path: Path | None = None) -> str:
    """The table of docs/faults.md; without counts where there is no file of them."""
    lines = ["| kind | tried | survived | how it is known |", "| --- | --- | --- | --- |"]
    counts = pd.DataFrame(columns=list(COLUMNS)) if path is None else pd.read_csv(path, names=list(COLUMNS))
    sums = counts.groupby("kind")[["tried", "survived"]].sum()
    for kind, how in KINDS.items():
        numbers = sums.loc[kind].tolist() if kind in sums.index else ["not run", ""]
        lines.append(f"| {kind} | {numbers[0]} | {numbers[1]} | {how} |")
    return "\n".join(lines)


def main(path: str) -> None:
    """Writes the table of the outcomes at *path* into the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(Path(path))}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
