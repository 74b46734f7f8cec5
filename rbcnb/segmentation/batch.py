"""Cells of many files: crops and one table of cells in a folder. Stopped or run again, it carries on.

DIR/cells.csv            one row per cell
DIR/crops/<smear>/0000.png    the crop of cell 0 of <smear> (file name without ending), and so on
DIR/smears.csv           one row per image: its cells, their diameter, how far it can be trusted, notes, where it lies
DIR/finder.json          how cells were found and cut (`FinderSpec`)
DIR/scale.json           the diameter of a typical cell in each folder of images, fixed once it is written
DIR/masks/<smear>.png    the area of each cell: 16-bit, 1 for cell 0 and so on, where they are asked for
DIR/overlays/<smear>.jpg the image with a ring around each cell and any notes below, where they are asked for
DIR/errors.csv           file, message: what could not be segmented; absent if all went well
DIR/parts/<smear>.json   the cells of one finished image; a key over its bytes, the settings and the code; digests of
                         itself, the crops and the pictures, so that nothing damaged is taken for finished

A later run adds its images to the tables, or does them again; what was there before stays. Images of one folder are
taken for one microscope's: the learned finder keeps to one diameter for all of them, but for
those that clearly have another. One batch at a time works in DIR (DIR/.lock tells), and clears away what a killed one
left half done.
"""

import errno
import hashlib
import json
import os
import platform
import shutil
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd

from rbcnb._utils import read_files
from rbcnb._utils.code_digest import code_digest, installed_versions
from rbcnb._utils.dask_cluster import ask_all_workers, connect, shared_folder_probe
from rbcnb._utils.errors import DeadWorkerError, InputError, UnfinishedError, WeightsError, is_out_of_memory
from rbcnb._utils.files import atomic_write, file_digest, folder_lock, inside, parts_digest
from rbcnb._utils.opencv import cv2
from rbcnb._utils.parallel import run_all
from rbcnb._utils.progress import progress
from rbcnb._utils.read_files import folder_fault
from rbcnb._utils.sealed import DIGEST, is_whole, read_sealed, seal, write_sealed
from rbcnb._utils.spreadsheet import without_formulas
from rbcnb.columns import BORDER, CELL, FOUND, RADIUS, SMEAR, X, Y
from rbcnb.segmentation import upscaling, waifu2x
from rbcnb.segmentation.learned import read_maps, typical_diameter
from rbcnb.segmentation.masks import cell_masks, save_masks
from rbcnb.segmentation.overlay import draw_overlay, save_overlay
from rbcnb.segmentation.segment import FinderSpec, finder_spec, segment_smear
from rbcnb.smears.images import SmearError, decode_image, expand_inputs, image_bytes, read_image
from rbcnb.smears.segmented import CELLS_CSV, DIAMETER, FILE, FINDER_JSON, NOTE, SMEARS_CSV, part_file, read_tables
from rbcnb.smears.smear_names import shown

if TYPE_CHECKING:
    from distributed import Client

# Pixels may depend on them.
_LIBRARIES = ("ncnn", "numpy", "opencv-python", "opencv-python-headless", "pillow", "tifffile")
SCALE_JSON = "scale.json"
_SCALE_FACTS = {"finder", "images", "looked_at", "read", "unlike", "diameter_px", DIGEST}
_MOST_LOOKED_AT = 25  # images of a folder, spread over it, that tell its diameter
_FEWEST_LOOKED_AT = 3
READ = "read"
PICTURES = {"overlays": ".jpg", "masks": ".png"}  # name of the folder -> ending of its files
# The columns of smears.csv.
FACTS = (SMEAR, "cells", DIAMETER, READ, "trust", "explained", "stained", "dark_field", NOTE, FILE)
_PART = {"key", "image", "notes", "facts", "cells", "crops", "pictures"}  # of what is kept of an image
_SAME_PX = 0.001  # circles that differ less are the same: tables are rounded
CROP_SCALE = "crop_scale"  # pixels of the crop per pixel of the smear
COLUMNS = (*FOUND, BORDER, CROP_SCALE)


class BatchError(UnfinishedError):
    """The batch cannot go on, whatever the file; what is finished is kept. The message says what to put right."""


@dataclass(frozen=True, eq=False)
class ImageCells:
    """What came of an image."""

    cells: pd.DataFrame
    facts: dict[str, Any]  # its row of smears.csv
    notes: list[str]
    resumed: bool
    key: str


Finish = Callable[[Path, ImageCells], pd.DataFrame]  # (file, what came of it) -> its rows of cells.csv


@dataclass(frozen=True)
class BatchReport:
    """What ``segment_files`` did."""

    n_images: int  # segmented, now or by an earlier run
    n_resumed: int  # of these, taken from an earlier run
    n_cells: int
    errors: tuple[tuple[str, str], ...]  # (file, message)
    notes: tuple[tuple[str, str], ...]  # (file, message): "has 2 pages" of an image, or what a folder holds unread
    cells_csv: Path
    smears: pd.DataFrame  # columns FACTS, a row per image of this run
    n_kept: int = 0  # images of earlier runs whose rows stay in the tables


def segment_files(
    paths: Iterable[str | Path],
    out: str | Path,
    *,
    spec: FinderSpec | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    finish: Finish | None = None,
    mixed: bool = False,
    pictures: Collection[str] = (),
    settled: Collection[str] = (),
    replace_cells: bool = False,
) -> BatchReport:
    """Find and crop the cells of image files and of the images in folders; see the module for what *out* then holds.

    A file that fails is reported and never stops the others. What a folder holds that looks like an image but is not
    read is noted. An image that an earlier run finished, with the same bytes, settings, code and libraries, is not done
    again. The tables keep the cells of images that an earlier run found and this one does not name. An image whose name
    another one has in *out* is left out and reported. Files that share a name (endings aside) would share a folder of
    crops; most often they are one smear twice, saved in two formats, whose cells would count double, or a smear and its
    mask. They are left out and reported.

    Args:
        paths: images, or folders whose image files are taken (not those of folders within).
        out: folder of tables, crops and pictures; see the module.
        spec: how cells are found; `FinderSpec()` by default.
        jobs: images worked on at once, each in a process of its own.
        scheduler: address of a Dask scheduler, whose workers do it in place of this machine. They read the images and
            write the crops themselves, for these are many gigabytes: inputs and *out* must be folders that they share.
        finish: is called here for each finished image in turn, while others are worked on, and may add to its cells;
            the tables then hold the images of this run alone. The key changes when the image, the settings, the code or
            the libraries do. What it raises is the image's error.
        mixed: images of one folder are of several microscopes: each is read by itself.
        pictures: of "overlays" (each image with its cells ringed) and "masks" (of the learned finder alone); those that
            an earlier run made of the same cells stay.
        settled: names of smears whose cells people have read: where *out* has them from other settings or another
            version, they stay, so that a cell's number goes on meaning that cell, and this is noted. Where they are
            damaged, and other cells are found now, that is the image's error.
        replace_cells: do even those again, and take the place of another image of the same name that nobody has read.
            The readings then go to new cells (`rbcnb.labels.merge_readings.readings_to_cells`).

    Raises:
        BatchError: *out* cannot be written to, another batch works there, it has images that were done with other
            settings, or a process dies.
        ClusterError: the cluster cannot do the work.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, not {jobs}")
    spec = spec or FinderSpec()
    if "masks" in pictures and spec.method != "learned":
        raise ValueError("masks come from the learned finder's map of red cells: take method 'learned'")
    images, errors, notes = expand_inputs(paths)
    if not images:  # no table without a row is written
        errors, notes = (tuple((shown(file), shown(message)) for file, message in some) for some in (errors, notes))
        return BatchReport(0, 0, 0, errors, notes, Path(out) / CELLS_CSV, pd.DataFrame(columns=list(FACTS)))
    try:
        with connect(scheduler) as client:
            if (
                spec.upscale in upscaling.METHODS
            ):  # so that the fallback is reported once and is part of each image's key
                spec = replace(spec, upscale=ask_all_workers(client, upscaling.usable_method, spec.upscale))
            out = Path(out).absolute() if client else Path(out)
            out.mkdir(parents=True, exist_ok=True)
            with folder_lock(out):
                _clear_away(out)
                earlier, leaving = _Tables(), False
                if finish is None:
                    earlier = _Tables.load(out, images)
                    again = {path.name for path in images} if replace_cells else set()
                    leaving = _has_other_settings(out, spec, earlier, again)
                specs = [spec] * len(images)
                if spec.method == "learned" and spec.diameter_px is spec.expected_px is None and not mixed:
                    expected, doubts = _expected_diameters(images, out, jobs=jobs, client=client)
                    specs = [replace(spec, expected_px=expected.get(path.parent)) for path in images]
                    notes = [*notes, *doubts]
                done = _Done(out, tuple(pictures), earlier.namesakes(images), earlier.read(settled), replace_cells)
                report = _segment_images(
                    images, errors, done, specs, earlier, leaving, jobs=jobs, client=client, finish=finish
                )
                if finish is None and (report.n_images or not leaving):
                    with atomic_write(out / FINDER_JSON) as part:
                        part.write_text(json.dumps(seal(asdict(spec)), indent=1) + "\n", encoding="utf-8")
                noted = tuple((shown(file), shown(message)) for file, message in (*notes, *report.notes))
                return replace(report, notes=noted)
    except BlockingIOError as error:
        raise BatchError(str(error)) from error
    except DeadWorkerError as error:
        raise BatchError(
            "a process died, most likely because memory ran out; what is finished is kept: run the same command again "
            "with fewer --jobs, or cut the largest images into tiles"
        ) from error
    except OSError as error:
        raise _no_place(out, error) from error


def _expected_diameters(
    images: list[Path], out: Path, *, jobs: int, client: "Client | None"
) -> tuple[dict[Path, float], list[tuple[str, str]]]:
    """The diameter of a typical cell in each folder of *images* that has one, and notes on those that do not.

    A diameter that ``scale.json`` says already stays, whatever was added to the folder, so that finished images stay
    finished. A folder without one is looked at again when it has more or fewer images than it had.
    """
    path = out / SCALE_JSON
    weights = _finder_digest()[:16]
    known = {name: entry for name, entry in _known_scales(path).items() if entry["finder"] == weights}
    scales = dict(known)
    by_folder: dict[Path, list[Path]] = {}
    for image in images:
        by_folder.setdefault(image.parent, []).append(image)
    for folder, images_there in by_folder.items():
        name = str(folder.absolute())
        entry = scales.get(name)
        if entry is not None and (entry["diameter_px"] is not None or entry["images"] == len(images_there)):
            continue
        if len(images_there) < _FEWEST_LOOKED_AT:
            scales.pop(name, None)
            continue
        step = max(1.0, len(images_there) / _MOST_LOOKED_AT)
        chosen = [images_there[int(i * step)].absolute() for i in range(min(len(images_there), _MOST_LOOKED_AT))]
        looked_at = run_all(_try_diameter, chosen, shared=(), jobs=min(jobs, len(chosen)), client=client)
        facts = {"finder": weights, "images": len(images_there), "looked_at": len(chosen)}
        scales[name] = seal(facts | _common_diameter([diameter for _, diameter in looked_at]))
    if scales != known:
        with atomic_write(path) as part:
            part.write_text(json.dumps(scales, indent=1) + "\n", encoding="utf-8")
    entries = {folder: scales[name] for folder in by_folder if (name := str(folder.absolute())) in scales}
    notes = [
        (
            str(folder),
            f"cells differ in size from image to image ({entry['unlike']} of {entry['read']} are unlike the others): "
            "each image is read by itself; give images of one microscope at a time, or --mixed if this is meant",
        )
        for folder, entry in entries.items()
        if entry["unlike"] and entry["diameter_px"] is None
    ]
    return {folder: entry["diameter_px"] for folder, entry in entries.items() if entry["diameter_px"]}, notes


def _known_scales(path: Path) -> dict[str, dict[str, Any]]:
    """What an earlier run found out of each folder; without what is damaged, so that it is looked at again."""
    try:
        saved = read_files.read_json(path, remedy="")
    except InputError:
        return {}
    return {name: entry for name, entry in saved.items() if is_whole(entry) and set(entry) == _SCALE_FACTS}


def _common_diameter(found: list[Any]) -> dict[str, Any]:
    """How many of the diameters *found* are numbers, how many of these are unlike the others, and what the rest share.

    They share none where most images tell none. The middle is one of them, not between two: of as many small as large
    ones half is then unlike the others.
    """
    sizes = np.log([size for size in found if isinstance(size, float) and size > 0])
    if len(sizes) < max(_FEWEST_LOOKED_AT, len(found) / 2):
        return {"read": len(sizes), "unlike": 0, "diameter_px": None}
    alike = np.abs(sizes - np.quantile(sizes, 0.5, method="lower")) <= np.log(1.3)
    unlike = int((~alike).sum())
    diameter_px = round(float(np.exp(np.median(sizes[alike]))), 3) if unlike <= len(sizes) / 4 else None
    return {"read": len(sizes), "unlike": unlike, "diameter_px": diameter_px}


def _try_diameter(path: Path) -> float | None:
    """The diameter of a typical cell in an image; None where it cannot be read, as is reported when its turn comes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return typical_diameter(decode_image(image_bytes(path), path))
    except Exception:  # whatever ails one file, the others are still to be looked at
        return None


def _clear_away(out: Path) -> None:
    """Removes what a batch that was killed, or lost power, had begun to write."""
    for path in (*out.glob(".*.part.*"), *out.glob("*/.*.part*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Done:
    """Where finished images lie, and what may become of them."""

    out: Path
    pictures: tuple[str, ...]
    namesakes: dict[str, str]  # image of this run -> one of another name in the tables that has its place in *out*
    settled: dict[str, np.ndarray | None]  # smear that people have read -> its circles [N, 3] by cells.csv, if there
    replace_cells: bool

    def part(self, path: Path) -> Path:
        """What is kept of an image that is finished."""
        return self.out / "parts" / f"{path.stem}.json"

    def crops(self, path: Path) -> Path:
        """The folder of its crops."""
        return self.out / "crops" / path.stem

    def picture(self, path: Path, name: str) -> Path:
        """A picture of it, of ``PICTURES``."""
        return self.out / name / f"{path.stem}{PICTURES[name]}"


@dataclass(frozen=True, eq=False)
class _Tables:
    """``cells.csv`` and ``smears.csv`` of earlier runs."""

    cells: pd.DataFrame | None = None
    smears: pd.DataFrame | None = None

    @classmethod
    def load(cls, out: Path, images: Iterable[Path]) -> "_Tables":
        """Those in *out*; none where there are none, or where *images*, which are about to be done, are all it has.

        Raises:
            BatchError: one of them is damaged or missing, and rows of other images would be lost.
        """
        if not any((out / name).exists() for name in (CELLS_CSV, SMEARS_CSV)):
            return cls()
        try:
            cells, smears = read_tables(out, columns=(SMEAR, "cells"))
            return cls(cells, smears)
        except SmearError as error:
            finished = {path.stem for path in (out / "parts").glob("[!.]*.json")}
            if others := sorted(finished - {path.stem for path in images}):
                more = f" and {len(others) - 3} more" if len(others) > 3 else ""
                raise BatchError(f"{error} (also {', '.join(others[:3])}{more})") from None
            return cls()

    def namesakes(self, images: Iterable[Path]) -> dict[str, str]:
        """Names of *images* -> another name that has the same place, endings aside."""
        known = {Path(name).stem: name for name in ([] if self.smears is None else self.smears[SMEAR])}
        return {path.name: name for path in images if (name := known.get(path.stem, path.name)) != path.name}

    def read(self, settled: Iterable[str]) -> dict[str, np.ndarray | None]:
        """Names in *settled* -> the circles of their cells, by number; None where no table has that smear."""
        if self.cells is None:
            return dict.fromkeys(settled)
        circles = self.cells[self.cells[SMEAR].isin(settled)].sort_values(CELL)
        by_smear = {name: rows[[X, Y, RADIUS]].to_numpy(float) for name, rows in circles.groupby(SMEAR)}
        known = dict.fromkeys(self.smears[SMEAR], np.empty((0, 3))) | by_smear
        return {name: known.get(name) for name in settled}

    def without(self, names: Iterable[str]) -> "_Tables":
        """The rows of other smears than *names* and those that had their place."""
        if self.cells is None:
            return self
        places = {Path(name).stem for name in names}
        stay = [name for name in self.smears[SMEAR] if Path(name).stem not in places]
        return _Tables(*(table[table[SMEAR].isin(stay)] for table in (self.cells, self.smears)))

    def as_written(self, done: _Done) -> "_Tables":
        """The same smears with what their parts say of them, where these are whole: a table may have been edited."""
        if self.cells is None:
            return self
        parts = {name: saved for name in self.smears[SMEAR] if (saved := _load_part(done.part(Path(name))))}
        cells = []
        for name, rows in self.cells.groupby(SMEAR, sort=False):
            found = pd.DataFrame(parts[name]["cells"]) if name in parts else rows.iloc[:0]
            if len(found) == len(rows):
                rows = rows.sort_values(CELL).assign(**{at: found[at].to_numpy() for at in found if at in rows})
            cells.append(rows)
        facts = [
            row | {at: value for at, value in parts.get(row[SMEAR], {"facts": {}})["facts"].items() if at in row}
            for row in self.smears.to_dict("records")
        ]
        return _Tables(_stacked(cells, list(self.cells)), pd.DataFrame(facts, columns=list(self.smears)))


def _has_other_settings(out: Path, spec: FinderSpec, earlier: "_Tables", again: Collection[str]) -> bool:
    """Whether the cells of *earlier* runs were found with other settings than *spec*, or nobody knows with which.

    Args:
        out: the batch's folder.
        spec: of this run.
        earlier: the tables there.
        again: names of images to be done again.

    Raises:
        BatchError: they were, and some of them stay: no network could learn of both.
    """
    if earlier.smears is None or earlier.smears.empty:
        return False
    path, settings = out / FINDER_JSON, asdict(spec)
    try:
        known = asdict(finder_spec(out))
        changes = ", ".join(
            f"{name} {read_files.shown(known[name])} there, {read_files.shown(settings[name])} now"
            for name in settings
            if known[name] != settings[name]
        )
        fault, remedy = f"were done with other settings ({changes})", "give the same ones, "
    except InputError:
        fault, changes, remedy = f"stay, and {path.name}, which tells their settings, is missing or damaged", "all", ""
    if changes and (staying := len(earlier.without(again).smears)):
        remedy += "name all its images and say --replace, or choose another --out"
        raise BatchError(f"{out}: {staying} of its images {fault}; {remedy}")
    return bool(changes)


def _segment_images(
    images: list[Path],
    errors: list[tuple[str, str]],
    done: _Done,
    specs: list[FinderSpec],
    earlier: _Tables,
    leaving: bool,
    *,
    jobs: int,
    client: "Client | None",
    finish: Finish | None,
) -> BatchReport:
    out = done.out
    # Processes share the cores among them instead of each taking all.
    jobs = min(jobs, max(1, len(images)))
    threads = 1 if client else max(1, joblib.cpu_count() // jobs) if jobs > 1 else None
    outcomes: dict[int, ImageCells | str | DeadWorkerError] = {}
    with shared_folder_probe(out) if client else nullcontext() as mark:
        places = [(path.absolute() if client else path, spec) for path, spec in zip(images, specs, strict=True)]
        work = run_all(_try_image, places, shared=(done, threads, mark), jobs=jobs, client=client)
        for number, outcome in progress(work, total=len(images), unit="image"):
            path = images[number]
            if finish is not None and isinstance(outcome, ImageCells):
                table = _guarded(path, _finished_by, finish, path, outcome, out)
                outcome = table if isinstance(table, str) else replace(outcome, cells=table)
            outcomes[number] = outcome
    tables, facts, notes, n_resumed = [], [], [], 0
    for number, path in enumerate(images):
        outcome = outcomes[number]
        if isinstance(outcome, str | DeadWorkerError):
            errors.append((str(path), str(outcome)))
        else:
            if not _is_there(done, path, len(outcome.cells)):
                raise BatchError(
                    f"{out}: files of {shown(path.name)} were removed during this command; run it again, which makes "
                    "what is missing, and leave the folder alone meanwhile"
                )
            tables.append(outcome.cells)
            facts.append(outcome.facts | {FILE: str(path.absolute())})
            notes += [(str(path), note) for note in outcome.notes]
            n_resumed += outcome.resumed

    errors = [(shown(file), shown(message)) for file, message in errors]
    columns = list(tables[0].columns) if tables else list(COLUMNS)
    cells = _stacked(tables, columns)
    smears = pd.DataFrame(facts, columns=list(FACTS))
    leaving = leaving and len(smears) > 0
    # Of other settings none may stay, not even cells of an image that cannot be done now.
    kept = earlier.without(earlier.smears[SMEAR] if leaving else smears[SMEAR]).as_written(done)
    order = [] if earlier.smears is None else earlier.smears[SMEAR]
    try:
        if leaving:
            (out / FINDER_JSON).unlink(missing_ok=True)  # comes last: a command that is stopped here leaves no mixture
        for now, before, name in ((cells, kept.cells, CELLS_CSV), (smears, kept.smears, SMEARS_CSV)):
            with atomic_write(out / name) as part:
                _in_order_of(order, before, now).to_csv(part, index=False, float_format="%.4f")
        if errors:
            with atomic_write(out / "errors.csv") as part:
                without_formulas(pd.DataFrame(errors, columns=["file", "message"])).to_csv(part, index=False)
        else:
            (out / "errors.csv").unlink(missing_ok=True)
    except OSError as error:
        raise _no_place(out, error) from error
    n_kept = 0 if kept.smears is None else len(kept.smears)
    return BatchReport(len(tables), n_resumed, len(cells), tuple(errors), tuple(notes), out / CELLS_CSV, smears, n_kept)


def _stacked(tables: Iterable[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """*tables* below each other; those without a row have columns without a kind, and are left out."""
    full = [table for table in tables if len(table)]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=columns)


def _in_order_of(smears: Iterable[str], before: pd.DataFrame | None, now: pd.DataFrame) -> pd.DataFrame:
    """The rows of both tables: each smear where *smears* had it, those that it had not behind them."""
    if before is None:
        return now
    place = {name: i for i, name in enumerate(dict.fromkeys([*smears, *now[SMEAR]]))}
    return _stacked([before, now], list(now.columns)).sort_values(
        SMEAR, key=lambda names: names.map(place), kind="stable", ignore_index=True
    )


def _try_image(work: tuple[Path, FinderSpec], done: _Done, threads: int | None, mark: Path | None) -> ImageCells | str:
    """What came of one image, or the message of what went wrong with it."""
    path, spec = work
    if mark is not None and not mark.exists():
        raise BatchError(
            f"{done.out}: a worker on {platform.node()} does not share this folder; put inputs and --out where all "
            "workers see them under the same path"
        )
    if threads is not None:
        cv2.setNumThreads(threads)
    return _guarded(path, _segment_image, path, spec, done)


def _finished_by(finish: Finish, path: Path, image: ImageCells, out: Path) -> pd.DataFrame:
    """What *finish* makes of a finished image; where *out* takes no more, the error names the folder."""
    try:
        return finish(path, image)
    except OSError as error:
        raise _unwritable(path, out, error) from error


def _guarded(path: Path, work: Callable[..., Any], *arguments: Any) -> Any:
    """``work(*arguments)``, or the message of what went wrong with the image *path*."""
    try:
        return work(*arguments)
    except BatchError:
        raise
    except Exception as error:  # whatever ails one file, the others are still to be done
        if is_out_of_memory(error):
            return f"{path}: not enough memory; run fewer --jobs, use --upscale-where crops, or cut it into tiles"
        message = str(error) or type(error).__name__
        return message if str(path) in message else f"{path}: {message}"


def _segment_image(path: Path, spec: FinderSpec, done: _Done) -> ImageCells:
    out, part, crops = done.out, done.part(path), done.crops(path)
    data = image_bytes(path)
    key, image_digest = image_key(data, path.name, spec), hashlib.sha256(data).hexdigest()
    saved, keeps = _load_part(part), path.name in done.settled and not done.replace_cells
    place = saved["facts"][SMEAR] if saved else done.namesakes.get(path.name, path.name)
    if place != path.name or (saved and saved["image"] != image_digest):
        fault = f"{path}: {out} has another image of that name, {place}"
        if place in done.settled:  # whose readings would pass for readings of this one
            raise SmearError(f"{fault}, whose cells people have read; rename this one, or choose another --out")
        if not done.replace_cells:
            raise SmearError(f"{fault}; rename one of them, choose another --out, or say --replace")
    finished = None if saved is None else _finished(saved, crops)
    if finished and finished.key != key:
        if keeps:
            note = (
                "found with other settings or another version, and kept, as people have read its cells; --replace finds"
            )
            finished.notes.append(f"{note} them again")
        else:
            finished = None
    if finished:
        wanted = [name for name in PICTURES if _is_wanted(done.picture(path, name), name, saved, done.pictures)]
        if wanted:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they are among the notes already
                image = decode_image(data, path)
            _write_pictures(wanted, done, path, image, finished, saved)
        return finished

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = decode_image(data, path)
    notes = [str(warning.message).removeprefix(f"{path}: ") for warning in caught]
    del data
    found = segment_smear(image, spec)
    notes += found.notes
    measured = (found.diameter_px, found.read, found.trust, found.explained, found.stained, found.dark_field)
    values = [path.name, len(found.cells), *(None if pd.isna(value) else value for value in measured), "; ".join(notes)]
    facts = dict(zip(FACTS[:-1], values, strict=True))  # where it lies may change
    table = found.cells.assign(**{SMEAR: path.name, CROP_SCALE: spec.size_px / found.diameter_px})
    rest = [name for name in table.columns if name not in (*FOUND, CROP_SCALE)]
    table = table[[*FOUND, *rest, CROP_SCALE]]
    if keeps:
        _refuse_other_cells(path, part, table, done.settled[path.name])
    saved = {"key": key, "image": image_digest, "notes": notes, "facts": facts, "cells": table.to_dict("list")}
    try:
        # The part says "finished", so it goes first and comes last.
        part.unlink(missing_ok=True)
        for name in PICTURES:  # they show the earlier cells
            done.picture(path, name).unlink(missing_ok=True)
        saved |= {"crops": write_crops(crops, found.crops), "pictures": {}}
        if not done.pictures:
            write_sealed(part, saved)
    except OSError as error:
        raise _unwritable(path, out, error) from error
    result = ImageCells(table, facts, list(notes), False, key)
    if done.pictures:
        _write_pictures(done.pictures, done, path, image, result, saved)
    return result


def _refuse_other_cells(path: Path, part: Path, found: pd.DataFrame, read: np.ndarray | None) -> None:
    """Raises SmearError where people have *read* cells [N, 3] other than those *found* now: numbers mean cells."""
    if read is None and not part.exists():
        return  # the readings came from elsewhere, before the cells
    circles = found[[X, Y, RADIUS]].to_numpy(float)
    if read is None or len(read) != len(found) or not np.allclose(circles, read, rtol=0, atol=_SAME_PX):
        raise SmearError(
            f"{path}: people have read its cells, but what was kept of them ({part.name} in {part.parent}, or its "
            "crops) is damaged or of an earlier version, and other cells are found now; put those files back from a "
            "copy, or find the cells again with --replace, which takes the readings to the cells at their places"
        )


def _is_wanted(file: Path, name: str, saved: dict[str, Any], pictures: Collection[str]) -> bool:
    """Whether a picture is to be made: it is asked for and was not written, or it is no longer what was written."""
    written = saved["pictures"].get(name)
    if written is None or not file.is_file():
        return name in pictures
    return written != file_digest(file)


def _write_pictures(
    names: Iterable[str], done: _Done, path: Path, image: np.ndarray, result: ImageCells, saved: dict[str, Any]
) -> None:
    """Writes pictures of a finished image, and their digests into what is *saved* of it."""
    digests = dict(saved["pictures"])
    try:
        for name in names:
            file = done.picture(path, name)
            if name == "overlays":
                save_overlay(file, draw_overlay(image, result.cells, note=result.facts[NOTE]))
            else:
                masks = np.zeros(image.shape[:2], np.int32)
                if len(result.cells):
                    seen = 255 - image if result.facts["dark_field"] else image
                    red_cell = read_maps(seen, diameter_px=result.facts["diameter_px"])["red_cell"]
                    masks = cell_masks(result.cells, red_cell, image.shape[:2])
                try:
                    save_masks(file, masks)
                except ValueError as error:  # too many cells: the table of them stands all the same
                    result.notes.append(f"its masks are not written: {error}")
                    file.unlink(missing_ok=True)
                    continue
            digests[name] = file_digest(file)
        write_sealed(done.part(path), saved | {"pictures": digests})
    except OSError as error:
        raise _unwritable(path, done.out, error) from error


def image_key(data: bytes, name: str, spec: FinderSpec) -> str:
    """Changes when the image's bytes or *name*, the settings, the code, the libraries or a network's weights do.

    Raises:
        BatchError: the learned finder is used, and its weights cannot be read: no image could be segmented.
    """
    # A network is what its files hold, wherever they lie.
    files = waifu2x.model_files(waifu2x.model_folder()) if spec.upscale == "waifu2x" else ()
    network = [file_digest(path) for path in files]
    if spec.uses_learned_finder:
        network += [_finder_digest(), installed_versions(["torch"])]
    digest = hashlib.sha256(json.dumps([_stamp(), network, name, asdict(spec)], default=str).encode())
    digest.update(data)
    return digest.hexdigest()


def _finder_digest() -> str:
    """The digest of the learned finder's weights; raises BatchError where they cannot be read."""
    from rbcnb.segmentation.finder_net import load_finder

    try:
        return load_finder().digest
    except WeightsError as error:
        raise BatchError(str(error)) from None


@cache
def _stamp() -> list[Any]:
    """What code and which libraries make a table and its crops."""
    return [code_digest("smears", "segmentation"), installed_versions(_LIBRARIES)]


def _finished(saved: dict[str, Any], crops: Path) -> ImageCells | None:
    """What an earlier run *saved* of an image, if its *crops* are still those that it wrote."""
    if not _has_crops(crops, saved):
        return None
    return ImageCells(pd.DataFrame(saved["cells"]), dict(saved["facts"]), list(saved["notes"]), True, saved["key"])


def _load_part(part: Path) -> dict[str, Any] | None:
    """What an earlier run wrote of an image; None where it wrote nothing, or that is no longer what it wrote."""
    saved = read_sealed(part)
    ours = saved and set(saved) >= _PART and Path(saved["facts"][SMEAR]).stem == part.stem  # not moved there
    return saved if ours else None


def _is_there(done: _Done, path: Path, n_cells: int) -> bool:
    """Whether the part and the crops of a finished image are still there; only names are looked at."""
    try:
        crops = sum(entry.name.endswith(".png") for entry in os.scandir(done.crops(path)))
        return crops == n_cells and done.part(path).is_file()
    except OSError:
        return False


def _has_crops(folder: Path, saved: dict[str, Any]) -> bool:
    """Whether the crops in *folder* are those that were written with the part *saved*."""
    return _crops_digest(folder, len(pd.DataFrame(saved["cells"]))) == saved["crops"]


def _crops_digest(folder: Path, n_cells: int) -> str | None:
    """Digest of all crops in *folder*; None where there are other ones than those of *n_cells* cells."""
    names = [_crop_name(cell) for cell in range(n_cells)]
    try:
        there = {entry.name for entry in os.scandir(folder) if entry.name.endswith(".png") and entry.is_file()}
        return parts_digest((folder / name).read_bytes() for name in names) if there == set(names) else None
    except OSError:
        return None


def image_groups(out: Path, smears: Iterable[str]) -> dict[str, str]:
    """Smear -> its group: the first of *smears* that is the same image byte for byte; itself where nobody knows."""
    first: dict[str, str] = {}
    groups = {}
    for name in smears:
        part = _load_part(part_file(out, name)) or {}
        groups[name] = first.setdefault(part.get("image", name), name)
    return groups


def read_crops(out: Path, smear: str, n_cells: int, size_px: int) -> np.ndarray:
    """The first *n_cells* crops [N, S, S, 3] uint8 RGB that a batch wrote into *out* for the image file *smear*.

    Raises:
        SmearError: they are not those that it wrote, or of another size.
        InputError: *smear* is no name of an image.
    """
    part, folder = part_file(out, smear), inside(out / "crops", Path(smear).stem)
    again = f"run rbcnb segment over {smear} again"
    saved = _load_part(part)
    if saved is None or len(pd.DataFrame(saved["cells"])) < n_cells:
        raise SmearError(f"{part}: missing, damaged, or of an earlier version; {again}")
    if not _has_crops(folder, saved):
        raise SmearError(f"{folder}: a crop is missing, or not the one that was written there; {again}")
    crops = np.empty((n_cells, size_px, size_px, 3), np.uint8)
    for cell in range(n_cells):
        path = folder / _crop_name(cell)
        crop = read_image(path)
        if crop.shape != crops.shape[1:]:
            raise SmearError(f"{path}: is {crop.shape[1]} px wide, not {size_px}; {again}")
        crops[cell] = crop
    return crops


def changed_crops(out: Path, smear: str) -> bool:
    """Whether the crops of the image file *smear* are other ones than a batch wrote; False if its part is not there."""
    saved = _load_part(part_file(out, smear))
    return saved is not None and not _has_crops(inside(out / "crops", Path(smear).stem), saved)


def write_crops(folder: Path, crops: np.ndarray) -> str:
    """Replace *folder* by one with these crops, so that none of an earlier run is left among them; their digest.

    Raises:
        BatchError: something else than a folder lies there.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        what = "a link" if folder.is_symlink() else "a file"
        raise BatchError(
            f"{folder}: is {what}, not a folder of crops; remove or rename it, and run the same command again"
        )
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)

    def written() -> Iterator[bytes]:
        for cell, crop in enumerate(crops):
            _, png = cv2.imencode(".png", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
            data = png.tobytes()
            (temporary / _crop_name(cell)).write_bytes(data)  # OpenCV itself cannot write to every name on Windows
            yield data

    digest = parts_digest(written())
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(temporary, folder)
    return digest


def _crop_name(cell: int) -> str:
    return f"{cell:04d}.png"


def _unwritable(path: Path, out: Path, error: OSError) -> Exception:
    """The error of the batch, or of the image *path* alone where the file system of *out* does not take its name."""
    if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
        return SmearError(f"{path}: no file of that name can be written in {out} ({error.strerror}); rename it")
    return _no_place(out, error)


def _no_place(out: Path, error: OSError) -> BatchError:
    return BatchError(
        f"{folder_fault(out, error)}, or choose another --out. What is finished is kept: the same command carries on"
    )
