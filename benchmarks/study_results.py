"""The tables of the study's answer, from its published runs: python benchmarks/study_results.py

Fills the marks of ``docs/results.md``, draws its picture (``docs/pictures/answer.png``), and writes the numbers of the
lesson's last drawing. Each run judges its own networks; the primary family of the plan (``docs/study.md``) is that of
all networks of all runs, so that it is adjusted here. Takes a minute: only the first outer fold is compared again, from
the stored predictions.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from paper_numbers import fill_page

from rbcnb._utils.files import atomic_write
from rbcnb.columns import readable
from rbcnb.evaluation.verdicts import adjust_for_families
from rbcnb.plotting import plot_study_answer
from rbcnb.study.gaps import Gaps
from rbcnb.workflow.publish import unpacked
from rbcnb.workflow.run_tables import RunTables

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
ANSWER = ROOT / "rbcnb" / "study" / "answer.csv"
PICTURE = ROOT / "docs" / "pictures" / "answer.png"
MARGIN = 0.02  # of the plan
RUNS = ("study", "study_pretrained")  # of the honest protocol
CLAIM = "focal_beats_ce"
LOSSES = ("focal", "cross_entropy")  # in the place of the network, where one network is held against another
_FIGURES = ["mean", "low", "high", "p_adjusted"]
_ANSWER_COLUMNS = ["architecture", "method", "score", "mean", "low", "high"]


def published(results: Path) -> list[Path]:
    """The folders of the runs that are there."""
    return [folder for name in RUNS if (folder := results / name).joinpath("tables").is_dir()]


def primary_rows(folders: Sequence[Path]) -> pd.DataFrame:
    """Focal loss minus cross entropy of every network of all runs, judged as one family by Holm."""
    rows = pd.concat([_table(folder, "differences_base") for folder in folders], ignore_index=True)
    asked = rows[(rows["claim"] == CLAIM) & (rows["protocol"] == "honest") & rows["rho"].isna()]
    return adjust_for_families(asked[asked["prevalence"] == "natural"].reset_index(drop=True))


def first_fold_rows(folder: Path) -> pd.DataFrame:
    """The same contrasts on the test cells of the first outer fold alone, whose recipe no test cell had a part in."""
    with unpacked(folder) as run:
        tables = RunTables(run, run.load_record()["parameters"]["05_final_evaluation"])
        fits = pd.concat(list(tables.final.values()), ignore_index=True)
        judging = {"margin": tables.value("margin"), "seed": tables.value("seed")}
        gaps = Gaps(fits[fits["outer"] == 0], pd.DataFrame(), run.store, splits=tables.fitted_splits, **judging)
        rows = gaps.base()
    return rows[rows["claim"] == CLAIM]


def primary_table(folders: Sequence[Path]) -> pd.DataFrame:
    """What the plan asks first, a row per network, as the page shows it."""
    rows = primary_rows(folders).set_index("architecture")
    first = pd.concat([first_fold_rows(folder) for folder in folders]).set_index("architecture")
    scores = pd.concat([_table(folder, "table1") for folder in folders])
    scores = scores[scores["protocol"] == "honest"].set_index(["architecture", "method"])["macro_f1"]
    shown = []
    for network, row in rows.iterrows():
        split = row if pd.notna(row.get("split_mean")) else None
        shown.append(
            {
                "Network": readable(network),
                "Focal loss": f"{scores[network, 'focal']:.3f}",
                "Cross entropy": f"{scores[network, 'cross_entropy']:.3f}",
                "Difference [95 %]": interval_text(row["mean"], row["low"], row["high"]),
                "Seeds": row["n_seeds"],
                "p of no difference¹": _p(row["p_adjusted"]),
                "p of a gain of 0.02¹": _p(row["against_adjusted"]),
                "Answer": row["verdict"],
                "Over three folds²": ""
                if split is None
                else interval_text(*split[["split_mean", "split_low", "split_high"]]),
                "First fold alone": interval_text(*first.loc[network, ["mean", "low", "high"]]),
            }
        )
    return pd.DataFrame(shown)


def secondary_table(folders: Sequence[Path]) -> pd.DataFrame:
    """The secondary questions, a row per question, a column per network; bold where the adjusted p is below 0.05."""
    rows = _secondary_rows(folders)
    rows = rows[~rows["architecture"].isin(LOSSES)]
    names = rows["first"].map(readable) + " − " + rows["second"].map(readable) + ", " + rows["score"].map(_score)
    cells = [interval_text(row[0], row[1], row[2], strong=row[3] < 0.05) for row in rows[_FIGURES].to_numpy(float)]
    table = pd.DataFrame({"Question": names, "network": rows["architecture"].map(readable), "cell": cells})
    wide = table.pivot_table("cell", "Question", "network", aggfunc="first").fillna("")
    return wide.reindex(index=table["Question"].unique(), columns=table["network"].unique()).reset_index()


def network_table(folders: Sequence[Path]) -> pd.DataFrame:
    """One network minus another, a row per pair, a column per loss; bold where the adjusted p is below 0.05."""
    rows = _secondary_rows(folders)
    rows = rows[rows["architecture"].isin(LOSSES)]
    cells = [interval_text(row[0], row[1], row[2], strong=row[3] < 0.05) for row in rows[_FIGURES].to_numpy(float)]
    names = rows["first"].map(readable) + " − " + rows["second"].map(readable) + ", " + rows["score"].map(_score)
    table = pd.DataFrame({"Question": names, "loss": rows["architecture"].map(readable), "cell": cells})
    return table.pivot_table("cell", "Question", "loss", aggfunc="first").rename_axis(columns=None).reset_index()


def answer_table(folders: Sequence[Path]) -> pd.DataFrame:
    """For `rbcnb.study.load_study_answer`: focal loss, and priors divided out, each minus plain cross entropy."""
    rows = pd.concat([primary_rows(folders), _secondary_rows(folders)], ignore_index=True)
    asked = rows["first"].isin(["focal", "cross_entropy_priors_out"]) & (rows["second"] == "cross_entropy")
    rows = rows[asked & rows["score"].isin(["macro_f1", "balanced_accuracy"])]
    return rows.rename(columns={"first": "method"})[_ANSWER_COLUMNS].reset_index(drop=True)


def _secondary_rows(folders: Sequence[Path]) -> pd.DataFrame:
    rows = pd.concat([_table(folder, "secondary") for folder in folders], ignore_index=True)
    return rows[(rows["protocol"] == "honest") & rows["rho"].isna()]


def _score(name: str) -> str:
    """A score's printed name: that of one class names the class."""
    kind, _, class_name = name.partition("_")
    return f"AUROC of {readable(class_name)}" if kind == "auroc" and class_name else readable(name)


def page_tables(results: Path) -> dict[str, str]:
    """The tables of ``docs/results.md`` as Markdown, by the name that its marks give them."""
    folders = published(results)
    tables = {"primary": primary_table, "secondary": secondary_table, "networks": network_table}
    return {name: markdown(make(folders)) for name, make in tables.items()}


def _table(folder: Path, name: str) -> pd.DataFrame:
    table = pd.read_csv(folder / "tables" / f"{name}.csv")
    return table.fillna({column: "" for column in table.columns if table[column].dtype == object})


def interval_text(mean: float, low: float, high: float, *, strong: bool = False) -> str:
    words = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]".replace("-", "−")
    return f"**{words}**" if strong else words


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def markdown(table: pd.DataFrame) -> str:
    rows = [list(table), ["---"] * table.shape[1], *table.itertuples(index=False, name=None)]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def answer_contrasts(answer: pd.DataFrame) -> pd.DataFrame:
    """The rows of *answer* that the picture shows: focal loss minus cross entropy in macro F1, a row per network."""
    return answer[(answer["method"] == "focal") & (answer["score"] == "macro_f1")]


def main() -> None:
    """Prints the tables, and fills the page where it is there."""
    tables = page_tables(ROOT / "results")
    if PAGE.exists():
        PAGE.write_text(fill_page(PAGE.read_text(encoding="utf-8"), tables), encoding="utf-8")
    answer = answer_table(published(ROOT / "results"))
    with atomic_write(ANSWER) as part:
        answer.round(4).to_csv(part, index=False, lineterminator="\n")
    with atomic_write(PICTURE) as part:
        plot_study_answer(answer_contrasts(answer), margin=MARGIN).savefig(part, format="png")
    for name, table in tables.items():
        print(f"{name}\n{table}\n")


if __name__ == "__main__":
    main()
