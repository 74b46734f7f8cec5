"""A run's tables again, from what it stored: predictions, curves, labels and splits. Nothing is trained.

Each table is made by the functions that its notebook calls: who changes how a notebook makes it changes it here, too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from rbcnb.evaluation.calibration import calibration_table
from rbcnb.evaluation.metrics import score_predictions
from rbcnb.evaluation.mistakes import confident_mistakes
from rbcnb.evaluation.verdicts import BASE, adjust_for_families, compare_methods, judge_claims
from rbcnb.evaluation.winners_curse import published_spread
from rbcnb.labels.assign import count_classes, detection_table
from rbcnb.paper import load_checks
from rbcnb.study.classical import beside_networks
from rbcnb.study.gaps import BALANCED, Gaps
from rbcnb.study.ladder import ARMS, TABLE2_ARM, dev_rungs
from rbcnb.study.leakage import leakage_gap
from rbcnb.study.protocols import best_settings, choose_settings
from rbcnb.study.store import load_curves, load_predictions, predictions_by_method
from rbcnb.study.tables import forecasts_of, mcnemar_table, resampled_t, table1, table2, table3, with_balanced
from rbcnb.workflow.classical_fits import CLASSICAL, load_classical_fits
from rbcnb.workflow.model_export import choose_trial, stored_predictions
from rbcnb.workflow.run import Run

IN_PERCENT = ("fig13",)  # tables whose numbers are percent
# What a published folder may lack: table -> a file that is then missing, and what it needs, in words.
PUBLISHED_NEEDS = {
    "calibration": ("fold_trials.csv", "what the fits on folds predicted"),
    "choices": ("fold_trials.csv", "the curves of the fits on folds"),
    "class_counts": ("labelled.csv", "the labels of the cells"),
    "classical": (CLASSICAL, "the predictions of the classical classifiers"),
    "detection": ("cells.csv", "the places of the cells, which are the data set's own"),
    "table2": ("splits_honest.csv", "the cells that each protocol trains on"),
}
# What a run stores too little of, and why; of these tables the digest alone is checked.
NOT_RECOMPUTED = {
    "agreement": "readers that were simulated are not stored",
    "finders": "every way to find cells would have to search the smears again",
    "labels_per_smear": "labels that were not drawn for the study are not stored",
    "loss_shares": "follows from no data of the run",
    "second_look": "a reader that was simulated is not stored",
    "skipped": "files that could not be read are not stored",
}


@dataclass
class Stored:
    """What a run stored, and what follows from it."""

    run: Run

    def scored(self, name: str) -> dict[str, pd.DataFrame]:
        """protocol -> the fits listed in *name*, with scores recomputed from their predictions."""
        rows = self.run.load_csv(name)
        for i, key in rows["key"].items():
            for score, value in score_predictions(load_predictions(self.run.store, key)).items():
                rows.loc[i, score] = value
        return {str(protocol): own.reset_index(drop=True) for protocol, own in rows.groupby("protocol", sort=False)}

    @cached_property
    def final(self) -> dict[str, pd.DataFrame]:
        return self.scored("final_trials")

    @cached_property
    def climbed(self) -> dict[str, pd.DataFrame]:
        return {name: with_balanced(rows, self.run.store) for name, rows in self.scored("ladder_trials").items()}

    def parameter(self, notebook: str, name: str) -> Any:
        """A parameter that the run was made with."""
        told = self.run.load_record().get("parameters", {}).get(notebook, {})
        if name not in told:
            raise ValueError(f"run.json does not tell {name}; run the notebooks with rbcnb reproduce")
        return told[name]

    @cached_property
    def judging(self) -> dict[str, Any]:
        """Margin and seed that the run's differences were judged with."""
        return {name: self.parameter("05_final_evaluation", name) for name in ("margin", "seed")}

    def choices(self) -> pd.DataFrame:
        keys, criterion = self.run.load_csv("fold_trials"), self.parameter("04_cv_tuning", "choose_by")
        parts = [
            choose_settings(load_curves(self.run.store, list(own["key"])), protocol=str(protocol), criterion=criterion)
            for (protocol, _), own in keys.groupby(["protocol", "outer"], sort=False)
        ]
        return pd.concat(parts, ignore_index=True)

    def mistakes(self) -> pd.DataFrame:
        """Of the network that is exported: the last protocol's."""
        protocol, results = list(self.final.items())[-1]
        chosen = choose_trial(self.run.load_table("choices"), protocol=protocol, seed=self.judging["seed"])
        return confident_mistakes(stored_predictions(chosen, results, self.run.store))

    def table2(self) -> pd.DataFrame:
        rungs = self.run.load_csv("ladder").set_index("rho").to_dict(orient="index")
        ladders = {(name, TABLE2_ARM): rungs for name in self.climbed if name == "paper"}
        if "honest" in self.climbed:
            kept = dev_rungs(self.run.load_csv("splits_honest"), rungs)
            ladders |= {("honest", arm): ARMS[arm](kept) for arm in self.parameter("06_imbalance_study", "arms")}
        return table2(ladders)

    def splits_t(self) -> pd.DataFrame:
        return resampled_t(
            best_settings(list(self.final.values())[-1]), n_outer=self.parameter("05_final_evaluation", "n_outer")
        )

    @cached_property
    def differences_base(self) -> pd.DataFrame:
        parts = [
            compare_methods(
                predictions_by_method(best_settings(rows), self.run.store), BASE, protocol=name, **self.judging
            )
            for name, rows in self.final.items()
        ]
        return adjust_for_families(pd.concat(parts, ignore_index=True))

    @cached_property
    def gaps(self) -> Gaps:
        """As notebook 06 makes it."""
        judging = {name: self.parameter("06_imbalance_study", name) for name in ("margin", "seed")}
        parts = [pd.concat(list(rows.values()), ignore_index=True) for rows in (self.final, self.climbed)]
        final = parts[0][parts[0]["protocol"].isin(self.climbed)]
        return Gaps(final, parts[1], self.run.store, **judging)

    @cached_property
    def compared(self) -> pd.DataFrame:
        return self.gaps.together()

    def calibration(self) -> pd.DataFrame:
        last = best_settings(list(self.final.values())[-1]).query("method in ['cross_entropy', 'focal']")
        fits, folds = last.sort_values(["seed", "outer"]), self.run.load_csv("fold_trials")
        return calibration_table(forecasts_of(fits, folds, self.run.store))

    def classical(self) -> pd.DataFrame:
        """The baseline's predictions scored again beside the last protocol's networks; seconds as they were stored."""
        fits = load_classical_fits(self.run)
        networks = list(self.climbed.values())[-1]
        return beside_networks(fits, networks[networks["arm"] == TABLE2_ARM])

    def detection(self) -> pd.DataFrame:
        exhaustive = self.parameter("01_segmentation", "smears") == "synthetic"
        return detection_table(*map(self.run.load_csv, ("cells", "truth", "smears")), exhaustive=exhaustive)


# Table of a run -> how it follows from what is stored; each calls what its notebook calls.
RECOMPUTED: dict[str, Callable[[Stored], pd.DataFrame]] = {
    "class_counts": lambda stored: count_classes(stored.run.load_csv("labelled")).reset_index(),
    "choices": Stored.choices,
    "mistakes": Stored.mistakes,
    "table1": lambda stored: table1(stored.final, stored.run.store, seed=stored.judging["seed"]),
    "mcnemar": lambda stored: mcnemar_table(
        predictions_by_method(best_settings(next(iter(stored.final.values()))), stored.run.store)
    ),
    "table2": Stored.table2,
    "table3": lambda stored: table3(stored.climbed, stored.run.store, seed=stored.gaps.seed),
    "differences_base": lambda stored: stored.differences_base,
    "verdict_base": lambda stored: judge_claims(stored.differences_base, margin=stored.judging["margin"]),
    "differences": lambda stored: adjust_for_families(stored.compared),
    "differences_balanced": lambda stored: adjust_for_families(stored.gaps.together(prevalence=BALANCED)),
    "ladder_gaps": lambda stored: stored.gaps.ladder(),
    "slopes": lambda stored: stored.gaps.slopes(),
    "rivals": lambda stored: stored.gaps.rivals(),
    "plan": lambda stored: stored.gaps.plan(),
    "fig13": lambda stored: stored.gaps.relative(list(stored.climbed)[-1]),
    "verdict": lambda stored: judge_claims(stored.compared, margin=stored.gaps.margin),
    "splits_t": Stored.splits_t,
    "leakage": lambda stored: leakage_gap(stored.run.load_csv("leakage_trials"), stored.run.store),
    "calibration": Stored.calibration,
    "classical": Stored.classical,
    "detection": Stored.detection,
    "winners_curse": lambda _: published_spread(),
    "recomputation": lambda _: load_checks(),
}
