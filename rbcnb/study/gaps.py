"""Gaps between methods, from stored fits: on the whole data set, on every rung of the ladder, and along it.

`rbcnb.workflow.run_tables` makes tables of them, from the rows of finished fits and their predictions. Whatever of it
is tested is one family beside the primary contrasts (`Gaps.rows`), so that no table has a verdict of its own.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from rbcnb.columns import SCORES, readable
from rbcnb.evaluation.hypothesis_tests import sign_flip
from rbcnb.evaluation.inference import LESS, LadderGaps, contrast_of, gaps_on_ladder, paired_macro_f1
from rbcnb.evaluation.power import ALIKE, GAIN, MOST_SEEDS, POWER, plan_seeds
from rbcnb.evaluation.prior_shift import BALANCED, NATURAL, RUNG, Prior, shift_predictions
from rbcnb.evaluation.relative_gain import RelativeGain, interval_of_gains, relative_gain
from rbcnb.evaluation.verdicts import (
    BASE,
    LADDER,
    SLOPES,
    Comparison,
    adjust_for_families,
    compare_methods,
    difference_row,
    hold_to_checks,
)
from rbcnb.study.ladder import TABLE2_ARM, Splits, priors_divided_out, training_prior
from rbcnb.study.protocols import best_settings
from rbcnb.study.secondary import of_shared_seeds, secondary_rows
from rbcnb.study.store import predictions_by_method
from rbcnb.study.tables import over_splits

HONEST = "honest"
BASELINE = "cross_entropy"
EQUAL_STEPS = "over_sampling_equal_steps"
ALL_RUNGS, PRIOR_CORRECTED = "all rungs", "priors corrected"  # checks of a slope, beside each rung left out
_OF_SPLITS = ("n_splits", "split_mean", "split_low", "split_high")
_SOME_ROWS = ("doublings", "per_doubling", "failed_checks", *_OF_SPLITS)
Sides = dict[str, tuple[dict, dict]]  # architecture -> rho -> predictions of the first method, and of the second


@dataclass(frozen=True)
class Gaps:
    """What a run fitted, and how gaps are judged.

    *final*: the fits on the whole data set, *climbed*: those of the ladder with ``arm`` and ``rho``, both rows of
    `rbcnb.study.run_study`; *store*: where their predictions lie; *splits*: name of each outer split -> its cells;
    *margin*, *seed*: of `compare_methods`.

    Test cells are the same for all rungs of the honest protocol; how often each class counts is a matter of weights.
    Three prevalences are shown: "natural" as the cells are, "balanced" with every class alike, and on rungs "rung" with
    the shares that the rung's training cells have, as if smears from there were met.
    """

    final: pd.DataFrame
    climbed: pd.DataFrame
    store: Path
    splits: Splits
    margin: float
    seed: int

    @cached_property
    def rows(self) -> pd.DataFrame:
        """All that the run shows of differences, adjusted as what it is: the primary contrasts, and one family beside.

        Rows of `rbcnb.evaluation.verdicts.adjust_for_families`, with the ``table`` that each stands in: whole data set,
        rungs and slopes ("differences"), "rivals", and "secondary". Slopes are held to their checks.
        """
        secondary = [*self._secondary(), *self._relative_claims()]
        parts = {
            "differences": [self.base(prevalences=(NATURAL, BALANCED)), self.rungs(), self.slopes()],
            "rivals": [self._rivals()],
            "secondary": [pd.DataFrame(secondary)],
        }
        named = [part.assign(table=name) for name, some in parts.items() for part in some if len(part)]
        if not named:
            return pd.DataFrame(columns=["table"])
        checks = self.slope_checks()
        checks = checks[checks["check"] != ALL_RUNGS] if len(checks) else checks
        return hold_to_checks(adjust_for_families(pd.concat(named, ignore_index=True)), checks)

    def table(self, name: str) -> pd.DataFrame:
        """The `rows` that stand in the table *name*, without columns that only others have."""
        rows = self.rows[self.rows["table"] == name].drop(columns="table").reset_index(drop=True)
        if rows.empty:
            return pd.DataFrame()
        return rows.drop(columns=[column for column in _SOME_ROWS if column in rows and _is_empty(rows[column])])

    def slope_rows(self) -> pd.DataFrame:
        """The slopes among the `rows`."""
        gaps = self.table("differences")
        return gaps[gaps["doublings"].notna()].reset_index(drop=True) if "doublings" in gaps else pd.DataFrame()

    def base(
        self, comparisons: Sequence[Comparison] = BASE, *, prevalences: Sequence[str] = (NATURAL,)
    ) -> pd.DataFrame:
        """Differences on the whole data set, each method with its best setting; rows of `compare_methods`.

        Where a contrast has several outer splits, ``n_splits`` and the interval of Nadeau and Bengio over them
        (`rbcnb.study.tables.over_splits`), ``split_mean``, ``split_low``, ``split_high``, stand beside the interval.
        """
        parts = []
        for protocol, rows in self.final.groupby("protocol", sort=False):
            best = best_settings(rows)
            priors = {name: name for name in prevalences}
            for part in self._compared(best, comparisons, priors, protocol=str(protocol)):
                parts.append(part.assign(**self._split_columns(best, part.iloc[0])))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def _split_columns(self, fits: pd.DataFrame, row: pd.Series) -> dict[str, float]:
        if row["prevalence"] != NATURAL:
            return {}
        architecture_fits = fits[fits["architecture"] == row["architecture"]]
        test = over_splits(architecture_fits, row["first"], row["second"], self.splits) or {}
        return {name: test[name.removeprefix("split_")] for name in _OF_SPLITS if test}

    def rungs(self, comparisons: Sequence[Comparison] = LADDER, *, arms: Sequence[str] | None = None) -> pd.DataFrame:
        """Differences on every rung, at each prevalence of the test set; rows of `compare_methods`.

        Args:
            comparisons: their claim is judged on Table 2's rungs at the natural prevalence.
            arms: of the ladder; None for all.
        """
        parts = []
        for (protocol, arm, rho), fits in self._by_rung():
            if arms is None or arm in arms:
                place = {"protocol": protocol, "arm": arm, "rho": rho}
                parts += self._compared(fits, comparisons, self._priors(arm, rho, protocol), **place)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def _by_rung(self) -> Sequence[tuple[tuple[str, str, float], pd.DataFrame]]:
        return self.climbed.groupby(["protocol", "arm", "rho"], sort=False) if len(self.climbed) else ()

    @cached_property
    def rung_priors(self) -> dict[tuple[str, float], dict[str, int]]:
        """(arm, rho) -> class -> training cells of the honest protocol, all outer splits together."""
        rungs = [(arm, rho, fits) for (protocol, arm, rho), fits in self._by_rung() if protocol == HONEST]
        return {(arm, rho): training_prior(fits, self.splits) for arm, rho, fits in rungs}

    def _priors(self, arm: str, rho: float, protocol: str = HONEST) -> dict[str, Prior]:
        """Prevalence -> prior of a rung's test cells; under the paper's protocol these are of the rung themselves."""
        priors: dict[str, Prior] = {NATURAL: NATURAL, BALANCED: BALANCED}
        return priors | ({RUNG: self.rung_priors[arm, rho]} if protocol == HONEST else {})

    def slopes(self) -> pd.DataFrame:
        """How far a gap changes along the whole ladder, per arm and prevalence; of the honest protocol alone.

        The paper's protocol has other test cells on every rung: no slope of it has an interval.

        Returns:
            Rows of `difference_row`, in macro F1 *over the whole ladder* (the least-squares slope times its doublings
            of rho), with ``doublings`` and ``per_doubling``. Empty with fewer than two rungs.
        """
        rows = []
        for place, ladder, _ in self._ladders:
            (comparison,) = SLOPES
            asked = comparison if _bears_claim(place) else replace(comparison, claim="")
            slope = ladder.slope()
            where = f"\nρ {ladder.rhos[0]:g} to {ladder.rhos[-1]:g}, {readable(place['arm'])}"
            options = {"margin": self.margin, "protocol": HONEST, "where": where, **place}
            row = difference_row(asked, slope.times(ladder.doublings), **options)
            rows.append(row | {"doublings": ladder.doublings, "per_doubling": slope.mean})
        return pd.DataFrame(rows)

    def slope_checks(self) -> pd.DataFrame:
        """Does a gap that grows do so without any one rung, and once priors are corrected?

        The lowest rungs train at nearly equal priors and are tested at others, so that a gap may change along the
        ladder because the mismatch does. Corrected, each fit's known training prior is divided out of its probabilities
        and the test's known prior multiplied in; focal loss's probabilities are mapped back first.

        Returns:
            A row per slope and check: ``check``; how many ``rungs`` are left; the slope through them, as the change
            of the gap over the whole ladder in macro F1, ``mean``, ``low``, ``high``, ``n_seeds``, ``unit``,
            ``n_groups`` and ``p``, not adjusted, as a slope must pass all checks; ``p_flip`` and the least p that a
            sign flip of so many seeds could have, ``p_flip_least``; and whether the slope ``survives``, its interval
            above 0. With two rungs none can be left out, and the slope does not survive.
        """
        rows = []
        for place, ladder, corrected in self._ladders:
            names = {"first": SLOPES[0].first, "second": SLOPES[0].second, **place}
            checks = {ALL_RUNGS: ladder}
            checks |= {f"without ρ {rho:g}": ladder.without(rho) for rho in ladder.rhos}
            checks |= {PRIOR_CORRECTED: corrected}
            rows += [names | {"check": check} | _check(left, ladder.doublings) for check, left in checks.items()]
        return pd.DataFrame(rows)

    @cached_property
    def _ladders(self) -> list[tuple[dict[str, str], LadderGaps, LadderGaps]]:
        """Per arm, architecture and prevalence: that place, its gaps, and the same with priors corrected."""
        found = []
        honest = self.climbed[self.climbed["protocol"] == HONEST] if len(self.climbed) else self.climbed
        for arm, fits in honest.groupby("arm", sort=False) if len(honest) else ():
            if fits["rho"].nunique() < 2:
                continue
            plain = _sides(fits, SLOPES[0], lambda pair: predictions_by_method(pair, self.store))
            equal = _sides(fits, SLOPES[0], lambda pair: priors_divided_out(pair, self.splits, self.store))
            priors = {rho: self._priors(arm, rho) for rho in fits["rho"].unique()}
            for prevalence in (NATURAL, BALANCED, RUNG):
                for architecture, sides in plain.items():
                    place = {"architecture": architecture, "arm": str(arm), "prevalence": prevalence}
                    at = {rho: priors[rho][prevalence] for rho in sides[0]}
                    options = {"seed": self.seed, "priors": at}
                    corrected = (
                        {rho: _at(at[rho], tables) for rho, tables in side.items()} for side in equal[architecture]
                    )
                    found.append((place, gaps_on_ladder(*sides, **options), gaps_on_ladder(*corrected, **options)))
        return found

    def relative(self, protocol: str) -> pd.DataFrame:
        """Intervals of Fig. 13 for *protocol*, along Table 2's ladder: ``rho``, ``score``, ``mean``, ``low``, ``high``.

        In percent.
        """
        rows = []
        gains = self._honest_gains if protocol == HONEST else self._gains(protocol)
        for (rho, score), gain in gains.items():
            interval = gain.interval()
            figures = {name: getattr(interval, name) for name in ("mean", "low", "high", "n_seeds", "n_groups")}
            rows.append({"rho": rho, "score": score, **figures})
        return pd.DataFrame(rows)

    def _gains(self, protocol: str) -> dict[tuple[float, str], RelativeGain]:
        """(rho, score) -> relative improvement of focal loss, a mean over architectures, on Table 2's rungs."""
        if not len(self.climbed):
            return {}
        climbed = self.climbed[(self.climbed["arm"] == TABLE2_ARM) & (self.climbed["protocol"] == protocol)]
        ladders = _sides(climbed, LADDER[0], lambda pair: predictions_by_method(pair, self.store)).values()
        gains = {}
        for rho in sorted(climbed["rho"].unique()):
            pairs = [(first[rho], second[rho]) for first, second in ladders]
            gains |= {(rho, score): relative_gain(pairs, score=score, seed=self.seed) for score in SCORES}
        return gains

    @cached_property
    def _honest_gains(self) -> dict[tuple[float, str], RelativeGain]:
        return self._gains(HONEST)

    def _relative_claims(self) -> list[dict[str, object]]:
        """Two claims of Fig. 13, of relative improvements as fractions: F1 gains most, and accuracy's gain falls."""
        gains = self._honest_gains
        rhos = sorted({rho for rho, _ in gains})
        if len(rhos) < 2:
            return []
        where = f"\nρ {rhos[0]:g} to {rhos[-1]:g}, {readable(TABLE2_ARM)}"
        options = {"margin": self.margin, "architecture": "", "protocol": HONEST, "arm": TABLE2_ARM, "where": where}
        rows = []
        for other in SCORES:
            if other != "macro_f1":
                terms = [
                    (sign / len(rhos), gains[rho, score])
                    for score, sign in (("macro_f1", 1), (other, -1))
                    for rho in rhos
                ]
                asked = Comparison("f1_gains_most", "macro_f1", other, score="relative_improvement")
                rows.append(difference_row(asked, interval_of_gains(terms).times(0.01), **options))
        doublings = math.log2(rhos[-1] / rhos[0])
        terms = [
            (factor * doublings, gains[rho, "accuracy"]) for factor, rho in zip(contrast_of(rhos), rhos, strict=True)
        ]
        asked = Comparison("accuracy_gain_falls", "focal", BASELINE, LESS, "relative_accuracy")
        return [*rows, difference_row(asked, interval_of_gains(terms).times(0.01), **options)]

    def _secondary(self) -> list[dict[str, object]]:
        options = {"splits": self.splits, "store": self.store, "margin": self.margin, "seed": self.seed}
        rows = []
        for protocol, fits in self.final.groupby("protocol", sort=False):
            rows += secondary_rows(best_settings(fits), protocol=str(protocol), **options)
        return rows

    def _rivals(self) -> pd.DataFrame:
        """Every other method against cross entropy, and over-sampling at equal steps against itself.

        On the whole data set and on the rungs of Table 2 where it was fitted, over the seeds that both methods have.
        """
        parts = [self.base(rivals_of(self.final), prevalences=(NATURAL, BALANCED))]
        if len(self.climbed):
            parts.append(self.rungs(rivals_of(self.climbed), arms=[TABLE2_ARM]))
        parts = [part for part in parts if len(part)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def plan(self) -> pd.DataFrame:
        """How many seeds and smears the next study needs to decide at the margin, this run being the pilot.

        A gain must pass Holm's first step among as many primary contrasts as this run has.

        Returns:
            Rows of `rbcnb.evaluation.plan_seeds` with the contrast, the goal and ``in_words``, a sentence. Empty with
            fewer than two seeds: such a pilot does not show how seeds scatter.
        """
        parts = []
        for protocol, rows in self.final.groupby("protocol", sort=False):
            fits = best_settings(rows)
            contrasts = _pairs(fits, BASE[:2])
            for (architecture, first, second), pair in contrasts.items():
                sides = predictions_by_method(pair, self.store)
                first_fits, second_fits = (sides[architecture, method] for method in (first, second))
                if len(first_fits) < 2:
                    continue
                pilot = paired_macro_f1(first_fits, second_fits, seed=self.seed)
                for goal in (GAIN, ALIKE):
                    plan = plan_seeds(pilot, margin=self.margin, goal=goal, n_tests=len(contrasts))
                    names = {"protocol": protocol, "architecture": architecture, "first": first, "second": second}
                    names |= {"goal": goal, "pilot_seeds": pilot.n_seeds, "pilot_smears": pilot.n_groups}
                    sentences = [_plan_sentence(row, pilot.unit) for row in plan.itertuples()]
                    parts.append(plan.assign(**names, in_words=sentences))
        if not parts:
            return pd.DataFrame()
        table = pd.concat(parts, ignore_index=True)
        return table[[*names, "smears", "seeds", "power", "in_words"]]

    def _compared(
        self, fits: pd.DataFrame, comparisons: Sequence[Comparison], priors: Mapping[str, Prior], **place: object
    ) -> list[pd.DataFrame]:
        """A table per comparison, network and prevalence, each over the seeds that its own two methods share."""
        options = {"margin": self.margin, "seed": self.seed, **place}
        found = []
        for comparison in comparisons:
            for pair in _pairs(fits, [comparison]).values():
                predictions = predictions_by_method(pair, self.store)
                for prevalence, prior in priors.items():
                    judged = _bears_claim({"arm": place.get("arm", TABLE2_ARM), "prevalence": prevalence})
                    asked = comparison if judged else replace(comparison, claim="")
                    found.append(compare_methods(predictions, [asked], prior=prior, **options))
        return found


def rivals_of(fits: pd.DataFrame) -> list[Comparison]:
    """What the rivals' table compares: the question of the paper is left to its own family."""
    methods = [name for name in dict.fromkeys(fits["method"]) if name not in (BASELINE, "focal")]
    found = [Comparison("", method, BASELINE) for method in methods]
    return found + [Comparison("", "over_sampling", EQUAL_STEPS)] * (EQUAL_STEPS in methods)


def _bears_claim(place: Mapping[str, object]) -> bool:
    """Whether a claim of the paper is judged there: on Table 2's counts, at the natural prevalence."""
    return place["arm"] == TABLE2_ARM and place["prevalence"] == NATURAL


def _check(ladder: LadderGaps, doublings: float) -> dict[str, object]:
    """What `Gaps.slope_checks` says of the rungs that are left, over the doublings of the whole ladder."""
    row: dict[str, object] = {"rungs": len(ladder.rhos), "survives": False}
    if len(ladder.rhos) < 2:
        return row
    change = ladder.slope().times(doublings)
    names = ("mean", "low", "high", "level", "n_seeds", "unit", "n_groups")
    row |= {name: getattr(change, name) for name in names}
    row |= {"p": change.p_value, "p_flip": sign_flip(change.by_seed)}
    row["p_flip_least"] = 2.0 ** (1 - change.n_seeds) if change.n_seeds > 1 else math.nan
    return row | {"survives": bool(change.low > 0)}


def _at(prior: Prior, tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Predictions under equal priors, under that of the cells that they are tested on."""
    new = tables[0]["target"].value_counts().to_dict() if prior == NATURAL else prior
    return [shift_predictions(table, old_prior=BALANCED, new_prior=new) for table in tables]


def _is_empty(values: pd.Series) -> bool:
    return values.isna().all() or (values == "").all()


def _pairs(fits: pd.DataFrame, comparisons: Sequence[Comparison]) -> dict[tuple[str, str, str], pd.DataFrame]:
    """(architecture, first, second) -> the fits of both methods, of the seeds that both have; where both are there."""
    found = {}
    for architecture, architecture_fits in fits.groupby("architecture", sort=False):
        for comparison in comparisons:
            names = comparison.first, comparison.second
            pair = of_shared_seeds(architecture_fits, "method", names)
            if pair is not None:
                found[(str(architecture), *names)] = pair
    return found


def _sides(fits: pd.DataFrame, comparison: Comparison, load: Callable[[pd.DataFrame], Mapping]) -> Sides:
    """Predictions of a comparison's two methods on every rung; *load* gives those of fits, by network and method."""
    found: Sides = {}
    for rho, rows in fits.groupby("rho"):
        for (architecture, first, second), pair in _pairs(rows, [comparison]).items():
            tables = load(pair)
            for side, method in zip(found.setdefault(architecture, ({}, {})), (first, second), strict=True):
                side[rho] = tables[architecture, method]
    return found


def _plan_sentence(row: tuple, unit: str) -> str:
    if pd.isna(row.seeds):
        return f"never with {row.smears} test smears: even {MOST_SEEDS} {unit} decide in {row.power:.0%} of studies"
    return f"{row.seeds} {unit} on {row.smears} test smears decide in {POWER:.0%} of studies"
