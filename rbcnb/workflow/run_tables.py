"""The tables of a run, from what it stored: predictions, curves, labels and splits. Nothing is trained.

A notebook saves its tables with `RunTables.save`; `rbcnb.workflow.verify` makes them again in the same way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pandas as pd

from rbcnb._utils.errors import InputError
from rbcnb.columns import readable
from rbcnb.evaluation.calibration import calibration_table
from rbcnb.evaluation.metrics import confident_mistakes, score_predictions
from rbcnb.evaluation.verdicts import adjust_for_families, judge_claims, without_rest
from rbcnb.labels.assign import count_classes, detection_table
from rbcnb.paper import load_checks, load_spread
from rbcnb.study.classical import beside_networks
from rbcnb.study.gaps import Gaps
from rbcnb.study.imbalance_lesson import imbalance_lesson
from rbcnb.study.ladder import ARMS, TABLE2_ARM, dev_rungs
from rbcnb.study.leakage import leakage_gap
from rbcnb.study.protocols import best_settings, choose_settings, protocol_names
from rbcnb.study.store import load_curves, load_predictions, predictions_by_method
from rbcnb.study.tables import (
    forecasts_of,
    mcnemar_table,
    resampled_t,
    seed_scores,
    table1,
    table2,
    table3,
    with_balanced,
)
from rbcnb.training.splits import split_name
from rbcnb.training.trial import Trial
from rbcnb.workflow.classical_fits import load_classical_fits
from rbcnb.workflow.model_export import choose_trial, stored_predictions
from rbcnb.workflow.run import MissingResultError, Run

_TWO_LOSSES = ("cross_entropy", "focal")


@dataclass
class RunTables:
    """The tables that a run stored and those that follow from them; each is read when first used, and then kept.

    Args:
        run: the run.
        values: parameters of the notebook that the tables are of, by name; each table needs a few of them.
    """

    run: Run
    values: Mapping[str, Any]

    def make(self, name: str) -> pd.DataFrame:
        """The table *name* of ``TABLES``, from what lies in the run now, with what of it is simulated."""
        return self.run.marked(_MAKERS[name](self), name)

    def save(self, name: str) -> pd.DataFrame:
        """Makes the table *name*, writes it to ``tables/<name>.csv`` and returns it; one without a column stays out."""
        table = self.make(name)
        return self.run.save_table(table, name) if len(table.columns) else table

    def value(self, name: str) -> Any:
        """A parameter that the tables are made with."""
        if name not in self.values:
            raise InputError(f"run.json does not tell {name}; run the notebook that has it with this run")
        return self.values[name]

    @cached_property
    def protocols(self) -> tuple[str, ...]:
        """Of the run, as `protocol_names` orders them."""
        return protocol_names(self.value("protocol"))

    @cached_property
    def choices(self) -> pd.DataFrame:
        """What notebook 04 chose for the protocols."""
        choices = self.run.load_table("choices")
        if missing := set(self.protocols) - set(choices["protocol"]):
            raise MissingResultError(
                f"nothing chosen for {', '.join(sorted(missing))}; run notebook 04_cv_tuning for it"
            )
        return choices[choices["protocol"].isin(self.protocols)]

    @cached_property
    def splits(self) -> dict[str, pd.DataFrame]:
        """Name of each outer split that was tuned (`rbcnb.training.outer_splits`) -> its cells."""
        names = [split_name(*place) for place, _ in self.choices.groupby(["protocol", "outer"], sort=False)]
        return {name: self.run.load_csv(f"splits_{name}") for name in names}

    @cached_property
    def rungs(self) -> dict[float, dict[str, int]]:
        """The ladder of imbalance: rho -> class -> cells of the rung."""
        return self.run.load_csv("ladder").set_index("rho").to_dict(orient="index")

    @cached_property
    def curves(self) -> dict[str, pd.DataFrame]:
        """Name of each outer split -> validation curves of its fits on folds."""
        groups = self.run.load_csv("fold_trials").groupby(["protocol", "outer"], sort=False)
        return {split_name(*place): load_curves(self.run.store, list(rows["key"])) for place, rows in groups}

    @cached_property
    def chosen(self) -> dict[str, pd.DataFrame]:
        """Name of each outer split -> the settings that its curves choose."""
        return {
            name: choose_settings(curves, protocol=curves["protocol"].iloc[0], criterion=self.value("choose_by"))
            for name, curves in self.curves.items()
        }

    @cached_property
    def final(self) -> dict[str, pd.DataFrame]:
        """Protocol -> its final fits on the whole data set."""
        return self._scored("final_trials")

    @cached_property
    def climbed(self) -> dict[str, pd.DataFrame]:
        """Protocol -> its fits of the ladder."""
        return {name: with_balanced(rows, self.run.store) for name, rows in self._scored("ladder_trials").items()}

    def _scored(self, name: str) -> dict[str, pd.DataFrame]:
        """The fits listed in *name*, by protocol, with scores that follow from their predictions."""
        rows = self.run.load_csv(name)
        for i, key in rows["key"].items():
            for score, value in score_predictions(load_predictions(self.run.store, key)).items():
                rows.loc[i, score] = value
        return {name: rows[rows["protocol"] == name].reset_index(drop=True) for name in self.protocols}

    @cached_property
    def best(self) -> dict[str, pd.DataFrame]:
        """Protocol -> its final fits, of each method those of the best setting."""
        return {name: best_settings(rows) for name, rows in self.final.items()}

    @cached_property
    def two_losses(self) -> dict[str, list[pd.DataFrame]]:
        """Architecture, loss and protocol, as a figure names them -> predictions of cross entropy or focal loss."""
        found = {}
        for protocol, rows in self.best.items():
            predictions = predictions_by_method(rows[rows["method"].isin(_TWO_LOSSES)], self.run.store)
            for architecture in rows["architecture"].unique():
                for method in _TWO_LOSSES:
                    title = f"{readable(architecture)}, {readable(method)}, {protocol}"
                    found[title] = predictions[architecture, method]
        return found

    @cached_property
    def forecasts(self) -> dict[str, list[pd.DataFrame]]:
        """As of `rbcnb.study.tables.forecasts_of`: cross entropy and focal loss of the last protocol."""
        rows = self.best[self.protocols[-1]]
        fits = rows[rows["method"].isin(_TWO_LOSSES)].sort_values(["seed", "outer"])
        return forecasts_of(fits, self.run.load_csv("fold_trials"), self.run.store)

    @cached_property
    def exported(self) -> Trial:
        """The fit whose network is kept."""
        return choose_trial(self.choices, protocol=self.protocols[-1], seed=self.value("seed"))

    @cached_property
    def judged(self) -> pd.DataFrame:
        """What the network that is kept predicted of its test cells."""
        return stored_predictions(self.exported, self.final[self.protocols[-1]], self.run.store)

    def _gaps(self, ladder: pd.DataFrame) -> Gaps:
        final = pd.concat(list(self.final.values()), ignore_index=True)
        judging = {"margin": self.value("margin"), "seed": self.value("seed")}
        return Gaps(final, ladder, self.run.store, splits=self.fitted_splits, **judging)

    @cached_property
    def fitted_splits(self) -> dict[str, pd.DataFrame]:
        """Name of each outer split that has final fits -> its cells."""
        places = pd.concat(list(self.final.values()))[["protocol", "outer"]].drop_duplicates()
        names = [split_name(*place) for place in places.itertuples(index=False)]
        return {name: self.run.load_csv(f"splits_{name}") for name in names}

    @cached_property
    def gaps(self) -> Gaps:
        """Gaps between methods on the whole data set and along the ladder."""
        return self._gaps(pd.concat(list(self.climbed.values()), ignore_index=True))

    @cached_property
    def climbed_seeds(self) -> dict[str, pd.DataFrame]:
        """Protocol -> the scores of every seed's pooled cells on every rung, as Table 3 has their means."""
        by = ["arm", "rho", "architecture", "method"]
        priors = {"honest": self.gaps.rung_priors}
        return {
            name: seed_scores(rows, by, store=self.run.store, rung_priors=priors.get(name))
            for name, rows in self.climbed.items()
        }

    @cached_property
    def differences_base(self) -> pd.DataFrame:
        """Differences on the whole data set; only the primary contrasts are judged before the ladder."""
        return without_rest(adjust_for_families(self._gaps(pd.DataFrame()).base()))

    def table2(self) -> pd.DataFrame:
        """The rungs of the ladder, published and of this run."""
        ladders = {}
        if "paper" in self.protocols:
            ladders["paper", TABLE2_ARM] = self.rungs
        if "honest" in self.protocols:
            kept = dev_rungs(self.run.load_csv("splits_honest"), self.rungs)
            ladders |= {("honest", arm): ARMS[arm](kept) for arm in self.value("arms")}
        return table2(ladders)

    def table3(self) -> pd.DataFrame:
        """The scores of the methods on every rung."""
        return table3(self.climbed, self.run.store, seed=self.value("seed"), rung_priors=self.gaps.rung_priors)

    def classical(self) -> pd.DataFrame:
        """The baseline's predictions scored again beside the last protocol's networks."""
        fits = load_classical_fits(self.run)
        networks = list(self.climbed.values())[-1]
        return beside_networks(fits, networks[networks["arm"] == TABLE2_ARM])

    def detection(self) -> pd.DataFrame:
        """How well cells were found."""
        exhaustive = self.value("smears") == "synthetic"
        return detection_table(*map(self.run.load_csv, ("cells", "truth", "smears")), exhaustive=exhaustive)


# Notebook -> its tables, and how each follows from what is stored.
TABLES: dict[str, dict[str, Callable[[RunTables], pd.DataFrame]]] = {
    "01_segmentation": {"detection": RunTables.detection},
    "02_labelling_audit": {"class_counts": lambda it: count_classes(it.run.load_csv("labelled")).reset_index()},
    "04_cv_tuning": {"choices": lambda it: pd.concat(it.chosen.values(), ignore_index=True)},
    "05_final_evaluation": {
        "table1": lambda it: table1(it.final, it.run.store, seed=it.value("seed")),
        "winners_curse": lambda _: load_spread(),
        "mcnemar": lambda it: mcnemar_table(predictions_by_method(it.best[it.protocols[0]], it.run.store)),
        "calibration": lambda it: calibration_table(it.forecasts),
        "differences_base": lambda it: it.differences_base,
        "splits_t": lambda it: resampled_t(it.best[it.protocols[-1]], it.fitted_splits),
        "leakage": lambda it: leakage_gap(it.run.load_csv("leakage_trials"), it.run.store),
        "recomputation": lambda _: load_checks(),
        "mistakes": lambda it: confident_mistakes(it.judged),
        "verdict_base": lambda it: judge_claims(it.differences_base),
    },
    "06_imbalance_study": {
        "table2": RunTables.table2,
        "table3": RunTables.table3,
        "fig13": lambda it: it.gaps.relative(it.protocols[-1]),
        "differences": lambda it: it.gaps.table("differences"),
        "slopes": lambda it: it.gaps.slope_rows(),
        "slope_checks": lambda it: it.gaps.slope_checks(),
        "rivals": lambda it: it.gaps.table("rivals"),
        "secondary": lambda it: it.gaps.table("secondary"),
        "plan": lambda it: it.gaps.plan(),
        "classical": RunTables.classical,
        "verdict": lambda it: judge_claims(it.gaps.rows),
        "imbalance_lesson": lambda it: imbalance_lesson(
            it.run.load_csv("lesson_trials"), it.run.store, seed=it.value("seed")
        ),
    },
}
_MAKERS = {name: maker for tables in TABLES.values() for name, maker in tables.items()}


def recomputed(run: Run) -> dict[str, Callable[[], pd.DataFrame]]:
    """Table -> what makes it again, with the parameters that the run was made with."""
    made_with = run.load_record().get("parameters", {})
    sources = {notebook: RunTables(run, made_with.get(notebook, {})) for notebook in TABLES}
    return {name: partial(sources[notebook].make, name) for notebook, tables in TABLES.items() for name in tables}
