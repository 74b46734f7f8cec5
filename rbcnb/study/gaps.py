"""Gaps between methods, from stored fits: on the whole data set, on every rung of the ladder, and along it.

`rbcnb.workflow.run_tables` makes tables of them, from the rows of finished fits and their predictions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rbcnb.columns import SCORES, readable
from rbcnb.evaluation.inference import paired_macro_f1, slope_on_log_rho
from rbcnb.evaluation.power import ALIKE, GAIN, MOST_SEEDS, POWER, plan_seeds
from rbcnb.evaluation.relative_gain import relative_gain
from rbcnb.evaluation.verdicts import (
    BASE,
    LADDER,
    SLOPES,
    Comparison,
    adjust_for_families,
    compare_methods,
    difference_row,
)
from rbcnb.study.ladder import TABLE2_ARM
from rbcnb.study.protocols import best_settings
from rbcnb.study.store import predictions_by_method

NATURAL, BALANCED = "natural", "balanced"  # prevalence of classes in the test set
PREVALENCES = (NATURAL, BALANCED)
BASELINE = "cross_entropy"
EQUAL_STEPS = "over_sampling_equal_steps"


@dataclass(frozen=True)
class Gaps:
    """What a run fitted, and how gaps are judged.

    *final*: the fits on the whole data set, *climbed*: those of the ladder with ``arm`` and ``rho``, both rows of
    `rbcnb.study.run_study`; *store*: where their predictions lie; *margin*, *seed*: of `compare_methods`.
    """

    final: pd.DataFrame
    climbed: pd.DataFrame
    store: Path
    margin: float
    seed: int

    def base(self, comparisons: Sequence[Comparison] = BASE, *, prevalence: str = NATURAL) -> pd.DataFrame:
        """Differences on the whole data set, each method with its best setting; rows of `compare_methods`."""
        parts = []
        for protocol, rows in self.final.groupby("protocol", sort=False):
            parts += self._compared(best_settings(rows), comparisons, prevalence, protocol=str(protocol))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def rungs(
        self, comparisons: Sequence[Comparison] = LADDER, *, prevalence: str = NATURAL, arm: str = TABLE2_ARM
    ) -> pd.DataFrame:
        """Differences on every rung of an *arm*; rows of `compare_methods`."""
        parts = []
        own = self.climbed[self.climbed["arm"] == arm]
        for (protocol, rho), rows in own.groupby(["protocol", "rho"], sort=False):
            parts += self._compared(rows, comparisons, prevalence, protocol=str(protocol), rho=rho)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def ladder(self) -> pd.DataFrame:
        """`rungs` of the honest protocol for every arm and prevalence, told in the columns ``arm``, ``prevalence``.

        Intervals without verdicts: those allow for many tests, and stand in `adjust_for_families` of `together`.
        """
        parts = []
        for arm in self.climbed.loc[self.climbed["protocol"] == "honest", "arm"].unique():
            for prevalence in PREVALENCES:
                rows = self.rungs(prevalence=prevalence, arm=arm)
                parts.append(rows[rows["protocol"] == "honest"].assign(arm=arm, prevalence=prevalence))
        return pd.concat(parts, ignore_index=True).drop(columns="verdict") if parts else pd.DataFrame()

    def slopes(self) -> pd.DataFrame:
        """How far a gap changes along the whole ladder, per arm and prevalence; of the honest protocol alone.

        The paper's protocol has other test cells on every rung: no slope of it has an interval.

        Returns:
            Rows of `difference_row`, in macro F1 *over the whole ladder* (the least-squares slope times its doublings
            of rho), with ``arm``, ``prevalence``, ``doublings`` and ``per_doubling``, without verdicts as `ladder`'s.
            Empty with fewer than two rungs.
        """
        return self._slopes().drop(columns="verdict", errors="ignore")

    def _slopes(self) -> pd.DataFrame:
        rows = []
        honest = self.climbed[self.climbed["protocol"] == "honest"]
        for arm, fits in honest.groupby("arm", sort=False):
            rhos = sorted(fits["rho"].unique())
            if len(rhos) < 2:
                continue
            doublings = math.log2(rhos[-1] / rhos[0])
            where = f"\nρ {rhos[0]:g} to {rhos[-1]:g}, {readable(arm)}"
            for comparison in SLOPES:
                sides = _sides(fits, comparison, self.store)
                for prevalence in PREVALENCES:
                    for architecture, (first, second) in sides.items():
                        balance = prevalence == BALANCED
                        slope = slope_on_log_rho(first, second, seed=self.seed, balance=balance)
                        place = {"architecture": architecture, "protocol": "honest", "where": where}
                        row = difference_row(comparison, slope.times(doublings), margin=self.margin, **place)
                        told = {"arm": arm, "prevalence": prevalence, "doublings": doublings}
                        rows.append(row | told | {"per_doubling": slope.mean})
        return pd.DataFrame(rows)

    def relative(self, protocol: str) -> pd.DataFrame:
        """Intervals of Fig. 13 for *protocol*, along Table 2's ladder: ``rho``, ``score``, ``mean``, ``low``, ``high``.

        In percent.
        """
        rows = []
        own = self.climbed[(self.climbed["arm"] == TABLE2_ARM) & (self.climbed["protocol"] == protocol)]
        for comparison in LADDER:
            ladders = _sides(own, comparison, self.store).values()
            for rho in sorted(own["rho"].unique()):
                pairs = [(first[rho], second[rho]) for first, second in ladders]
                for score in SCORES:
                    gain = relative_gain(pairs, score=score, seed=self.seed)
                    told = {name: getattr(gain, name) for name in ("mean", "low", "high", "n_seeds", "n_groups")}
                    rows.append({"rho": rho, "score": score, **told})
        return pd.DataFrame(rows)

    def together(self, *, prevalence: str = NATURAL) -> pd.DataFrame:
        """All rows that the paper's claims are judged by, not adjusted: whole data set, rungs, and Table 2's slope."""
        slopes = self._slopes()
        if len(slopes):
            slopes = slopes[(slopes["arm"] == TABLE2_ARM) & (slopes["prevalence"] == prevalence)]
            slopes = slopes.drop(columns=["arm", "prevalence", "doublings", "per_doubling"])
        parts = [self.base(prevalence=prevalence), self.rungs(prevalence=prevalence), slopes]
        return pd.concat([part for part in parts if len(part)], ignore_index=True)

    def rivals(self) -> pd.DataFrame:
        """Every other method against cross entropy, and over-sampling at equal steps against itself.

        On the whole data set and on the rungs where it was fitted, at both prevalences; all that one protocol and
        prevalence has is one family, by Benjamini and Hochberg. Fits pair on the seeds that both methods have.
        """
        parts = []
        for prevalence in PREVALENCES:
            found = [self.base(rivals_of(self.final), prevalence=prevalence)]
            found.append(self.rungs(rivals_of(self.climbed), prevalence=prevalence))
            found = [part for part in found if len(part)]
            if found:
                table = adjust_for_families(pd.concat(found, ignore_index=True))
                parts.append(table.assign(prevalence=prevalence))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def plan(self) -> pd.DataFrame:
        """How many seeds and smears the next study needs to decide at the margin, this run being the pilot.

        A gain must pass Holm's first step among as many primary contrasts as this run has.

        Returns:
            Rows of `rbcnb.evaluation.plan_seeds` with the contrast, the goal and ``told``, a sentence. Empty with fewer
            than two seeds: such a pilot does not show how seeds scatter.
        """
        parts = []
        for protocol, rows in self.final.groupby("protocol", sort=False):
            own = best_settings(rows)
            contrasts = _pairs(own, BASE[:2])
            for (architecture, first, second), pair in contrasts.items():
                sides = predictions_by_method(pair, self.store)
                one, other = (sides[architecture, method] for method in (first, second))
                if len(one) < 2:
                    continue
                pilot = paired_macro_f1(one, other, seed=self.seed)
                for goal in (GAIN, ALIKE):
                    plan = plan_seeds(pilot, margin=self.margin, goal=goal, n_tests=len(contrasts))
                    names = {"protocol": protocol, "architecture": architecture, "first": first, "second": second}
                    names |= {"goal": goal, "pilot_seeds": pilot.n_seeds, "pilot_smears": pilot.n_groups}
                    told = [_told(row, pilot.unit) for row in plan.itertuples()]
                    parts.append(plan.assign(**names, told=told))
        if not parts:
            return pd.DataFrame()
        table = pd.concat(parts, ignore_index=True)
        return table[[*names, "smears", "seeds", "power", "told"]]

    def _compared(
        self, fits: pd.DataFrame, comparisons: Sequence[Comparison], prevalence: str, **place: object
    ) -> list[pd.DataFrame]:
        """A table per comparison, so that each pairs on the seeds that its own two methods share."""
        options = {"margin": self.margin, "seed": self.seed, "balance": prevalence == BALANCED, **place}
        found = []
        for comparison in comparisons:
            for pair in _pairs(fits, [comparison]).values():
                found.append(compare_methods(predictions_by_method(pair, self.store), [comparison], **options))
        return found


def rivals_of(fits: pd.DataFrame) -> list[Comparison]:
    """What `Gaps.rivals` compares: the question of the paper is left to its own family."""
    methods = [name for name in dict.fromkeys(fits["method"]) if name not in (BASELINE, "focal")]
    found = [Comparison("", method, BASELINE) for method in methods]
    return found + [Comparison("", "over_sampling", EQUAL_STEPS)] * (EQUAL_STEPS in methods)


def _pairs(fits: pd.DataFrame, comparisons: Sequence[Comparison]) -> dict[tuple[str, str, str], pd.DataFrame]:
    """(architecture, first, second) -> the fits of both methods, of the seeds that both have; where both are there."""
    found = {}
    for architecture, own in fits.groupby("architecture", sort=False):
        for comparison in comparisons:
            sides = [own[own["method"] == method] for method in (comparison.first, comparison.second)]
            shared = set(sides[0]["seed"]) & set(sides[1]["seed"])
            if shared:
                both = pd.concat(sides)
                found[str(architecture), comparison.first, comparison.second] = both[both["seed"].isin(shared)]
    return found


def _sides(fits: pd.DataFrame, comparison: Comparison, store: Path) -> dict[str, tuple[dict, dict]]:
    """architecture -> rho -> predictions of the first method, and of the second."""
    found: dict[str, tuple[dict, dict]] = {}
    for rho, rows in fits.groupby("rho"):
        for (architecture, first, second), pair in _pairs(rows, [comparison]).items():
            tables = predictions_by_method(pair, store)
            for side, method in zip(found.setdefault(architecture, ({}, {})), (first, second), strict=True):
                side[rho] = tables[architecture, method]
    return found


def _told(row: tuple, unit: str) -> str:
    if pd.isna(row.seeds):
        return f"never with {row.smears} test smears: even {MOST_SEEDS} {unit} decide in {row.power:.0%} of studies"
    return f"{row.seeds} {unit} on {row.smears} test smears decide in {POWER:.0%} of studies"
