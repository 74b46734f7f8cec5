"""Cells of new smears, found, classified and counted by an exported model. Stopped or run again, it carries on.

DIR/differential.csv      the count, per smear and pooled, raw and adjusted, with intervals
DIR/cells.csv             one row per cell: place, call, class of the largest probability, calibrated probabilities
DIR/smears.csv            one row per smear: cells found, counted and unsure, its looks, and what is unlike about it
DIR/overlays/<smear>.jpg  the smear with its cells ringed in the colours of their calls
DIR/count.json            the model, the settings and the rule for "unsure"
DIR/crops, parts, errors.csv   as `rbcnb.segmentation.batch` leaves them; classified/<smear>.json, one smear each

Cells are found and cut as they were for the training. Cells cut off by the image's border are not counted, nor those
of a smear that the finder did not read with confidence. The
pooled count leaves out smears with a warning: those that look unlike the training's, or have too few cells to compare.
Where every smear has one they are pooled all the same, but under another name, `DOUBTFUL`, so that nothing takes that
count for an ordinary one. Smears are segmented side by side and classified as they come, a smear at a time.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import ImageColor

from rbcnb import __version__
from rbcnb._utils.code_digest import code_digest
from rbcnb._utils.errors import InputError
from rbcnb._utils.files import atomic_write, file_digest
from rbcnb._utils.read_files import read_table, shown
from rbcnb._utils.sealed import read_sealed, write_sealed
from rbcnb.columns import BORDER, PRED, SMEAR, UNSURE, prob_columns, readable
from rbcnb.counting.abstention import call_cells
from rbcnb.counting.class_doubts import class_doubts
from rbcnb.counting.differential import POOL, differential_count
from rbcnb.counting.model_file import Model, ModelFileError, load_model
from rbcnb.counting.smear_shift import MIN_CELLS, Reference, look_of_smear, times_the_limit, unlike, warning_of
from rbcnb.evaluation.calibration import apply_temperature
from rbcnb.plotting.style import BLACK, colours_of
from rbcnb.segmentation.batch import (
    CROP_SCALE,
    NOTE,
    READ,
    BatchError,
    BatchReport,
    ImageCells,
    read_crops,
    segment_files,
)
from rbcnb.segmentation.cost import segmentation_cost
from rbcnb.segmentation.overlay import PALE, Rings, draw_rings, save_overlay
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.smears.images import expand_inputs, read_image
from rbcnb.smears.segmented import CELLS_CSV, SMEARS_CSV

CALL = "call"
COUNTED = "counted"
POOLED = "pooled"
DOUBTFUL = "pooled (doubtful: every smear has a warning)"  # in differential.csv, in the place of "pooled"
WARNING = "warning"
UNLIKE = "unlike"  # how many times the limit a smear lies from those of the training; 0 within it
FAR = 2.5  # of these: what the model confuses there says nothing here. Of few smears the limit itself is a guess
_COUNT_JSON = "count.json"


@dataclass(frozen=True)
class CountReport:
    """What `count_files` did."""

    batch: BatchReport  # images, cells, errors and notes
    differential: pd.DataFrame
    smears: pd.DataFrame
    out: Path

    @property
    def doubtful(self) -> bool:
        """Whether the pooled count is of smears with a warning alone."""
        return bool((self.differential["smear"] == DOUBTFUL).any())

    @property
    def all_in_doubt(self) -> bool:
        """Whether every class is in doubt in each of the smears."""
        return bool(
            len(self.differential) and self.differential.loc[self.differential["class"] != UNSURE, "doubt"].all()
        )

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """(smear, what is unlike the training smears) of each that is unlike."""
        unlike = self.smears[self.smears[WARNING] != ""] if len(self.smears) else self.smears
        return [] if unlike.empty else list(zip(unlike[SMEAR], unlike[WARNING], strict=True))


def count_files(
    paths: Iterable[str | Path],
    model: str | Path,
    out: str | Path,
    *,
    upscale: str | None = None,
    diameter_px: float | None = None,
    seed: int = 0,
    jobs: int = 1,
    scheduler: str | None = None,
    mixed: bool = False,
    replace_count: bool = False,
    say: Callable[[str], None] | None = None,
) -> CountReport:
    """Counts the cells of image files and of the images in folders; see the module for what *out* then holds.

    A file that fails is reported and never stops the others. A smear that an earlier call finished, with the same
    bytes, model, settings and code, is not done again.

    Args:
        paths: images, or folders whose image files are taken.
        model: file of `rbcnb.workflow.export_model`.
        upscale: another method than the model's crops were made by; None keeps to it.
        diameter_px: of a cell in the images; None: as in training, estimated from each unless it was given there.
        seed: of the draws for adjusted intervals.
        jobs: images segmented at once, each in a process of its own.
        scheduler: address of a Dask scheduler, whose workers segment in place of this machine, which classifies; see
            `rbcnb.segmentation.segment_files` for the folders that they must share.
        mixed: images of one folder are of several microscopes: each is read by itself.
        replace_count: write over the count of other smears in *out*.
        say: takes how long it will about take, before it starts; not of a cluster, which nobody can time.

    Raises:
        ModelFileError: the model cannot be used, or can tell no class.
        InputError: there is no image.
        rbcnb.segmentation.BatchError: *out* cannot be written to, has what this would write over, another batch works
            there, or a process dies.
        rbcnb._utils.errors.ClusterError: the cluster cannot do the work.
    """
    loaded = load_model(model)
    doubts = class_doubts(loaded.card.confusion, loaded.card.classes) if loaded.card.confusion else {}
    _refuse_poor(doubts, str(model))
    spec = finder_of(loaded, str(model), upscale=upscale, diameter_px=diameter_px)
    out, paths = Path(out), list(paths)
    images, errors, _ = expand_inputs(paths)
    if not images:  # no table without a row is written
        raise InputError("; ".join(f"{shown(file)}: {shown(message)}" for file, message in errors))
    if not replace_count:
        _refuse_occupied(out, images)
    if say and not scheduler and (cost := segmentation_cost(images, spec, jobs=jobs)):
        say(cost)
    facts = {
        "model": str(model),
        "digest": loaded.digest,
        "package": __version__,
        "seed": seed,
        "finder": asdict(spec),
        **{name: getattr(loaded.card, name) for name in ("temperature", "threshold", "sure", "data", "run", "trial")},
    }
    with suppress(OSError):  # where nothing can be written, the batch says so
        if not out.exists() or not any(out.iterdir()):
            _save_facts(out, facts)  # they mark a count that was stopped as no cells of rbcnb segment
    classifier = _Classifier(loaded, out)
    batch = segment_files(
        paths,
        out,
        spec=spec,
        jobs=jobs,
        scheduler=scheduler,
        finish=classifier,
        mixed=mixed,
        replace_cells=replace_count,
    )
    if note := _note_on_weights(loaded, spec):
        batch = replace(batch, notes=((str(model), note), *batch.notes))
    # Smears are classified as they come, which changes with *jobs*; tables keep the order of the files.
    done = [classifier.done[path.name] for path in images if path.name in classifier.done]
    smears = pd.DataFrame([facts for _, facts in done])
    if len(smears):
        alike = (smears[WARNING] == "") & (smears["n_counted"] > 0)
        doubtful = not alike.any()
        smears.insert(4, POOLED, smears["n_counted"] > 0 if doubtful else alike)
    card = loaded.card
    tables = [table.loc[table[COUNTED], [SMEAR, CALL]] for table, _ in done]
    calls = pd.concat(tables) if tables else pd.DataFrame(columns=[SMEAR, CALL])
    confusion = np.array(card.confusion) if card.confusion else None
    pool = set(smears.loc[smears[POOLED], SMEAR]) if len(smears) else set()
    differential = differential_count(
        calls,
        card.classes,
        confusion=confusion,
        pool=pool,
        class_doubts=doubts,
        smear_doubts=_smear_doubts(smears),
        seed=seed,
    )
    if len(smears) and doubtful:
        differential = differential.replace({SMEAR: {POOL: DOUBTFUL}})
    for table, name in ((differential, "differential"), (smears, "smears")):
        with atomic_write(out / f"{name}.csv") as part:
            table.to_csv(part, index=False, float_format="%.6f")
    _save_facts(out, facts)
    return CountReport(batch, differential, smears, out)


def _save_facts(out: Path, facts: dict[str, Any]) -> None:
    with atomic_write(out / _COUNT_JSON) as part:
        part.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _refuse_poor(doubts: Mapping[str, str], file: str) -> None:
    """Raises ModelFileError where *doubts* leave no class that the model tells."""
    if doubts and all(doubts.values()):
        reasons = "; ".join(f"{readable(name)}: {doubt}" for name, doubt in doubts.items())
        raise ModelFileError(
            f"{file}: this model can tell no class ({reasons}), so that no count by it would mean anything; label more "
            "cells of more smears, and train again"
        )


def _refuse_occupied(out: Path, images: Sequence[Path]) -> None:
    """Raises BatchError where *out* is a folder of `rbcnb segment`, or holds the count of other smears."""
    if (out / CELLS_CSV).exists() and not (out / _COUNT_JSON).exists():
        raise BatchError(f"{out}: holds cells of rbcnb segment, which this would write over; choose another --out")
    if not (out / SMEARS_CSV).exists():
        return
    try:
        table = read_table(out / SMEARS_CSV, remedy="", dtype=str, usecols=[SMEAR], keep_default_na=False)
        others = sorted(set(table[SMEAR]) - {path.name for path in images})
    except InputError:  # damaged: it is made again, if no other smears than these were counted
        counted = {path.stem for path in (out / "classified").glob("[!.]*.json")}
        others = sorted(counted - {path.stem for path in images})
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise BatchError(
            f"{out / SMEARS_CSV}: holds the count of other smears ({', '.join(others[:3])}{more}), which this would "
            "write over; name them as well to count all together, choose another --out, or say --replace"
        )


def _smear_doubts(smears: pd.DataFrame) -> dict[str, str]:
    """Smear, or the pool of smears -> why no adjusted count of it is to be trusted."""
    if smears.empty:
        return {}
    far = smears[smears[UNLIKE] >= FAR]
    doubts = dict(zip(far[SMEAR], far[WARNING], strict=True))
    pooled = smears.loc[smears[POOLED], SMEAR]
    return doubts | ({POOL: "every smear is far from those of the training"} if set(pooled) <= set(doubts) else {})


def finder_of(model: Model, name: str, *, upscale: str | None, diameter_px: float | None) -> FinderSpec:
    """How the model's crops were made, with *upscale* and *diameter_px* in place of its own where given."""
    known = {entry.name for entry in fields(FinderSpec)}
    given = {"upscale": upscale, "diameter_px": diameter_px}
    settings = model.card.finder | {"size_px": model.card.size_px}
    settings |= {key: value for key, value in given.items() if value is not None}
    if strangers := set(settings) - known:
        raise ModelFileError(
            f"{name}: its crops were made with settings that this version does not know "
            f"({', '.join(sorted(strangers))}); install {_maker(model)}, or train and export the model again"
        )
    return FinderSpec(**settings)


def _note_on_weights(model: Model, spec: FinderSpec) -> str:
    """What to say where other weights than the installed ones found the cells of the training; "" where none did."""
    trained = model.card.finder_weights
    if not trained or not spec.uses_learned_finder:
        return ""
    from rbcnb.segmentation.finder_net import load_finder

    if trained == load_finder().digest:
        return ""
    return (
        "the cells that it was trained on were found by other weights of the learned finder than those installed, so "
        f"that other cells may be counted; train and export the model again, or install {_maker(model)}"
    )


def _maker(model: Model) -> str:
    return f"rbcnb {model.card.package}" if model.card.package else "the version of rbcnb that exported it"


def summary_lines(report: CountReport) -> list[str]:
    """The pooled count in words, a line per class."""
    pooled = report.smears[report.smears[POOLED]] if len(report.smears) else report.smears
    table = report.differential[report.differential["smear"].isin([POOL, DOUBTFUL])]
    doubt = ", DOUBTFUL: every one has a warning" if report.doubtful else ""
    lines = [f"pooled over {len(pooled)} of {len(report.smears)} smears{doubt}:"] if len(pooled) else []
    for row in table.itertuples():
        line = f"{row._2:>14} {row.n_cells:6d}  {row.share:6.1%} [{row.low:.1%}, {row.high:.1%}]"
        if row.doubt:
            line += f"  {row.doubt}"
        elif not np.isnan(row.adjusted):
            line += f"  adjusted {row.adjusted:6.1%} [{row.adjusted_low:.1%}, {row.adjusted_high:.1%}]"
        lines.append(line)
    return lines


def draw_overlay(
    image: np.ndarray, cells: pd.DataFrame, classes: Sequence[str], *, note: str = "", read: bool = True
) -> np.ndarray:
    """*image* [H, W, 3] uint8 RGB with a ring around each cell and a legend below -> [H', W', 3] uint8 RGB.

    Unsure cells have a broken black ring, cells cut off by the border a thin grey one.

    Args:
        image: the smear.
        cells: ``x_px``, ``y_px``, ``radius_px``, ``border`` and ``call``.
        classes: of the model, for the colours; all are in the legend.
        note: a line above the legend, such as a warning.
        read: False: the smear was not read with confidence, and is not counted; the note is red and all has a red
            frame.
    """
    cut, calls = cells[BORDER].to_numpy(bool), cells[CALL].to_numpy(object)
    rings = []
    for name, colour in {**colours_of(classes), UNSURE: BLACK}.items():
        called = (calls == name) & ~cut
        text = f"{readable(name)} {called.sum()} ({called.sum() / max((~cut).sum(), 1):.0%})"
        rings.append(Rings(text, called, ImageColor.getrgb(colour), broken=name == UNSURE))
    rings.append(Rings(f"cut off, not counted {cut.sum()}", cut, PALE, thin=True))
    return draw_rings(image, cells, rings, note=note, alarm=not read)


class _Classifier:
    """Classifies one finished smear after another (`rbcnb.segmentation.batch.Finish`) and keeps what it said."""

    def __init__(self, model: Model, out: Path) -> None:
        self.model, self.out = model, out
        self.reference = Reference(**model.card.look) if model.card.look else None
        self.done: dict[str, tuple[pd.DataFrame, dict[str, Any]]] = {}

    def __call__(self, path: Path, image: ImageCells) -> pd.DataFrame:
        cells = image.cells
        part = self.out / "classified" / f"{path.stem}.json"
        overlay = self.out / "overlays" / f"{path.stem}.jpg"
        code = code_digest("evaluation", "training", "counting")
        key = hashlib.sha256(f"{image.key} {self.model.digest} {code}".encode()).hexdigest()
        saved = _saved(part, key, overlay)
        if saved is None:
            probabilities, facts = self._classify(path, cells)
        else:
            probabilities, facts = np.array(saved["probabilities"]), saved["facts"]
        read = bool(image.facts[READ])
        if not read and len(cells):
            facts = facts | {WARNING: f"not read with confidence, so not counted: {image.facts[NOTE]}"}
        table = self._with_calls(cells, probabilities, read=read)
        if saved is None:
            part.unlink(missing_ok=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they are among the batch's notes
                pixels = read_image(path)
            picture = draw_overlay(pixels, table, self.model.card.classes, note=facts[WARNING], read=read)
            save_overlay(overlay, picture)
            saved = {"key": key, "facts": facts, "probabilities": probabilities.tolist()}
            write_sealed(part, saved | {"overlay": file_digest(overlay)})
        self.done[path.name] = table, self._row_of(path.name, table, facts, image.facts)
        return table

    def _classify(self, path: Path, cells: pd.DataFrame) -> tuple[np.ndarray, dict[str, Any]]:
        """Calibrated probabilities [N, C] of a smear's cells, and its looks with a warning where they are unlike."""
        from rbcnb.training.predict import predict_crops

        card = self.model.card
        if cells.empty:
            return np.empty((0, len(card.classes))), {"look": {}, UNLIKE: 0.0, WARNING: "no cell was found"}
        crops = read_crops(self.out, path.name, len(cells), card.size_px)
        table = pd.DataFrame(predict_crops(self.model.network, crops), columns=prob_columns(card.classes))
        probabilities = apply_temperature(table, card.temperature).to_numpy()
        diameter_px = card.size_px / cells[CROP_SCALE].iloc[0]
        look = look_of_smear(crops, cells, diameter_px=diameter_px, confidence=probabilities.max(axis=1))
        if look is None:
            few = f"fewer than {MIN_CELLS} whole cells: too few to compare"
            return probabilities, {"look": {}, UNLIKE: 0.0, WARNING: few}
        differences = unlike(look, self.reference) if self.reference else {}
        return probabilities, {"look": look, UNLIKE: times_the_limit(differences), WARNING: warning_of(differences)}

    def _with_calls(self, cells: pd.DataFrame, probabilities: np.ndarray, *, read: bool) -> pd.DataFrame:
        card = self.model.card
        probabilities = probabilities.reshape(-1, len(card.classes))
        shares = pd.DataFrame(probabilities, columns=prob_columns(card.classes), index=cells.index)
        pred = np.array(card.classes, dtype=object)[probabilities.argmax(axis=1)]
        calls = call_cells(probabilities, card.classes, threshold=card.threshold)
        table = cells.assign(**{COUNTED: ~cells[BORDER].astype(bool) & read, CALL: calls, PRED: pred})
        return pd.concat([table, shares], axis=1)

    def _row_of(self, smear: str, table: pd.DataFrame, facts: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
        counted = table[table[COUNTED]]
        numbers = {"n_found": len(table), "n_counted": len(counted), "n_unsure": int((counted[CALL] == UNSURE).sum())}
        reading = {name: found[name] for name in (READ, "trust", "explained", "stained", NOTE)}
        return {
            SMEAR: smear,
            **numbers,
            **{name: facts[name] for name in (WARNING, UNLIKE)},
            **reading,
            **facts["look"],
        }


def _saved(part: Path, key: str, overlay: Path) -> dict[str, Any] | None:
    """What is kept of a smear that was classified; None where that, or its picture, is not what was written then."""
    saved = read_sealed(part)
    if not saved or saved.get("key") != key or not overlay.is_file() or saved.get("overlay") != file_digest(overlay):
        return None
    return saved
