"""A run: the folder that one execution of the notebooks fills, and the names of what lies in it.

``cells.csv`` (found), ``truth.csv`` (labels of the smears), ``readings.csv`` and ``second_look.csv`` (what readers say
of the cells, at first and in a blinded second look, see `rbcnb.labels.readings`; theirs, so no notebook makes it),
``labelled.csv``, ``crops.npy``, ``smears/*.jpg``, ``smear.png`` (the first one), ``finder.json`` (how cells were
found), ``splits_<protocol>.csv``, ``data_card.md``, ``tables/*.csv``, ``figures/*.png``, ``trials/`` (a store, see
`rbcnb.study.store`), ``classical_predictions.parquet`` (see `rbcnb.workflow.classical_fits`), ``notebooks/``,
``run.json``, ``manifest.json``, ``report.html``; ``model.safetensors`` where one was exported.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from rbcnb import __version__
from rbcnb._utils import read_files
from rbcnb._utils.errors import InputError, MissingFileError
from rbcnb._utils.files import atomic_write, file_digest, inside
from rbcnb._utils.manifest import DIGEST, Entries, changed_files, load_manifest, record_files
from rbcnb._utils.read_files import read_array, read_json
from rbcnb.columns import GROUP, LABEL, PUBLISHED, SIMULATED, SMEAR, SMEARS, TOY_CELLS
from rbcnb.labels.readings import READINGS_CSV, SECOND_LOOK_CSV
from rbcnb.plotting.style import SelfShowingFigure
from rbcnb.smears.images import Smear, read_image
from rbcnb.smears.segmented import is_segmented

if TYPE_CHECKING:
    from rbcnb.plotting.explorers import Explorer

AnyFigure = TypeVar("AnyFigure", SelfShowingFigure, "Explorer")
RUN_JSON = "run.json"
TEXTS = yaml.safe_load(Path(__file__).with_name("captions.yaml").read_text(encoding="utf-8"))
CAPTIONS, TABLES = TEXTS["figures"], TEXTS["tables"]  # name -> caption, name -> heading, in the report's order
# What each result is made by, so that a missing one can say which notebook to run.
_MADE_BY = {
    "cells.csv": "01_segmentation",
    "truth.csv": "01_segmentation",
    "crops.npy": "01_segmentation",
    "finder.json": "01_segmentation",
    "smear.png": "01_segmentation",
    "labelled.csv": "02_labelling_audit",
    "ladder.csv": "02_labelling_audit",
    "fold_trials.csv": "04_cv_tuning",
    "tables/choices.csv": "04_cv_tuning",
    "tables/table1.csv": "05_final_evaluation",
    "final_trials.csv": "05_final_evaluation",
    "ladder_trials.csv": "06_imbalance_study",
    "tables/table3.csv": "06_imbalance_study",
    "tables/verdict.csv": "06_imbalance_study",
}
RECORD_REMEDY = "put back a copy, or remove it: rbcnb reproduce then writes it again"
OUT_REMEDY = "give the folder of --out of rbcnb reproduce"
_FILE_REMEDY = "run the notebook that makes it again, with the same run folder"
_RECORD_PARTS = ("parameters", "seeds", "versions", "notebooks", "estimated_s")  # each a mapping
_FIRST = "01_segmentation"  # the notebook that knows where the smears come from
# Files that no smear of the run has a part in, and what of them is simulated. All others are made of its smears.
_OF_NO_SMEAR = {
    **dict.fromkeys(
        ("fig01", "fig02", "fig03", "fig04", "winners_curse", "recomputation", "finder", "loss_shares"), ""
    ),
    **dict.fromkeys(("alpha_lecture", "noise_training", "toy_losses"), TOY_CELLS),
}
_RENDERED = (
    "SIMULATED smears: a computer drew every smear of this run, and no animal's cell is in it. What comes out shows "
    "how the methods behave on such pictures, not what is true of dogs."
)


class MissingResultError(MissingFileError):
    """A notebook asks for what an earlier one makes; the message names it."""


class DamagedResultError(InputError):
    """A file of the run is not as it was written; the message names what makes it again."""


def read_table(source: str | Path | IO[str]) -> pd.DataFrame:
    """A table from CSV in which names such as "1" or "NA" stay what they are; only an empty field is missing."""
    options = {"dtype": dict.fromkeys((SMEAR, GROUP, LABEL), str), "keep_default_na": False, "na_values": [""]}
    if isinstance(source, str | Path):
        return read_files.read_table(source, remedy=_FILE_REMEDY, **options)
    return pd.read_csv(source, **options)


def _digest_now(path: Path) -> str:
    return _digest(path, path.stat().st_size, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _digest(path: Path, _size: int, _time_ns: int) -> str:
    """Digest of a file, read again only when its size or time has changed."""
    return file_digest(path)


@dataclass(frozen=True)
class Run:
    """Reads and writes the results of one run under *folder*; every file is written whole.

    What each file was made from (data, seed, version) and its digest go to ``manifest.json``; `rbcnb.workflow.verify`
    reads it.
    """

    folder: Path
    seed: int | None = None  # recorded with each file; None: the seed in ``run.json``
    notebook: str = ""  # name of the notebook that writes, without suffix; "" outside notebooks
    checked: bool = True  # whether a file that is read must have its digest in the manifest

    @classmethod
    def at(cls, folder: str | Path, *, seed: int | None = None, notebook: str = "") -> "Run":
        """The run in *folder*, which is made when something is first saved."""
        return cls(Path(folder).expanduser().resolve(), seed, notebook)

    @property
    def store(self) -> Path:
        """Folder of finished trials."""
        return self.folder / "trials"

    @property
    def readings(self) -> Path:
        """The table of what readers say of the run's cells; it may not be there.

        Where `rbcnb segment` found these cells, readers said it in its folder, and go on there.
        """
        return self.readings_of(self._source())

    def readings_of(self, smears: str) -> Path:
        """`readings` of a run whose smears come from *smears*, which its record may not tell yet."""
        return (Path(smears) if is_segmented(smears) else self.folder) / READINGS_CSV

    @property
    def second_look(self) -> Path:
        """The readings of a blinded second look, which change no label by themselves; it may not be there."""
        return self.folder / SECOND_LOOK_CSV

    def _path(self, name: str) -> Path:
        path = inside(self.folder, name)
        if not path.is_file():
            made_by = "04_cv_tuning" if name.startswith("splits_") else _MADE_BY.get(name)
            first = f"notebook {made_by} first, with the same run folder" if made_by else "the earlier notebooks"
            raise MissingResultError(f"{path}: not there; run {first}")
        entry = self.load_manifest().get(name) if self.checked else None
        if entry and _digest_now(path) != entry[DIGEST]:
            by = entry.get("notebook") or _MADE_BY.get(name)
            raise DamagedResultError(
                f"{path}: not as it was written (the manifest has its digest); run "
                f"{f'notebook {by}' if by else 'what made it'} again, with the same run folder. Changes by hand belong "
                f"into {READINGS_CSV}, or into corrections of notebook 02"
            )
        return path

    @property
    def rendered(self) -> bool:
        """Whether the run's smears were rendered; all that is made of them is simulated then."""
        return self._source() == "synthetic"

    def _source(self) -> str:
        """Where the smears come from, a parameter of the first notebook; "" before it is known."""
        return self.load_record().get("parameters", {}).get(_FIRST, {}).get("smears", "")

    def simulated(self, name: str, part: str = "") -> str:
        """What of the file *name* is invented: *part* of it, and its smears where they were rendered; "" for nothing.

        Args:
            name: of a table, figure or other file, with or without its folder and ending.
            part: what is invented beside the smears, a word of `rbcnb.columns` such as ``READERS``.
        """
        stem = Path(name).stem
        return _OF_NO_SMEAR.get(stem, " and ".join(word for word in (part, SMEARS * self.rendered) if word))

    def marked(self, table: pd.DataFrame, name: str, part: str = "") -> pd.DataFrame:
        """*table* with what `simulated` says as a column, empty in rows of the paper's own numbers.

        Where nothing is invented, and where there is no column at all, *table* itself.
        """
        words = self.simulated(name, part)
        if not words or not len(table.columns):
            return table
        table = table.assign(**{SIMULATED: words})
        if "protocol" in table:
            table.loc[table["protocol"] == PUBLISHED, SIMULATED] = None
        return table

    def notice(self) -> str:
        """That the smears were rendered, in a sentence that goes before all that is made of them; else ""."""
        return _RENDERED if self.rendered else ""

    def save_csv(self, table: pd.DataFrame, name: str, *, index: bool = False, simulated: str = "") -> pd.DataFrame:
        """Writes *table* to ``<name>.csv`` and returns it, `marked` if something beside the smears is *simulated*."""
        if simulated:
            table = self.marked(table, name, simulated)
        with self._recorded(f"{name}.csv", simulated) as part:
            table.to_csv(part, index=index)
        return table

    def load_csv(self, name: str) -> pd.DataFrame:
        """Reads ``<name>.csv``; a table that was saved without a column comes back so."""
        path = self._path(f"{name}.csv")
        return read_table(path) if path.read_bytes().strip() else pd.DataFrame()

    def save_table(self, table: pd.DataFrame, name: str, *, simulated: str = "") -> pd.DataFrame:
        """Writes a result table, `marked`, to ``tables/<name>.csv`` and returns it, to be shown."""
        return self.save_csv(self.marked(table, name, simulated), f"tables/{name}", simulated=simulated)

    def load_table(self, name: str) -> pd.DataFrame:
        """Reads ``tables/<name>.csv``."""
        return self.load_csv(f"tables/{name}")

    def save_parquet(self, table: pd.DataFrame, name: str, **options: Any) -> None:
        """Writes *table* to ``<name>.parquet``, *options* as of `pandas.DataFrame.to_parquet`."""
        with self._recorded(f"{name}.parquet") as part:
            table.to_parquet(part, index=False, **options)

    def save_crops(self, crops: np.ndarray) -> None:
        """Writes the crops, uint8 [N, S, S, 3], in the order of ``cells.csv``."""
        with self._recorded("crops.npy") as part:
            np.save(part, crops)

    def load_crops(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Reads the crops, all or those at *rows*; mapped, so that only what is asked for is read."""
        crops = read_array(self._path("crops.npy"), remedy=_FILE_REMEDY)
        return np.array(crops if rows is None else crops[rows])

    def save_text(self, text: str, name: str, *, simulated: str = "") -> str:
        """Writes *text* to the file *name* and returns it."""
        with self._recorded(name, simulated) as part:
            part.write_text(text, encoding="utf-8")
        return text

    def save_json(self, facts: Mapping[str, Any], name: str) -> None:
        """Writes *facts* to ``<name>.json``."""
        self.save_text(json.dumps(facts, indent=1) + "\n", f"{name}.json")

    def save_image(self, image: np.ndarray, name: str) -> None:
        """Writes an image [H, W, 3] uint8 RGB to ``<name>.png``."""
        with self._recorded(f"{name}.png") as part:
            Image.fromarray(image).save(part)

    def load_image(self, name: str) -> np.ndarray:
        """Reads ``<name>.png`` as [H, W, 3] uint8 RGB."""
        return read_image(self._path(f"{name}.png"))

    def keep_smears(self, smears: Iterable[Smear]) -> Iterator[Smear]:
        """Passes *smears* on and writes each image to ``smears/<name>.jpg``, to be looked at beside its cells."""
        written = []
        try:
            for smear in smears:
                image, name = Image.fromarray(smear.image), f"smears/{smear.name}.jpg"
                with atomic_write(inside(self.folder, name)) as part:
                    image.save(part, quality=92, subsampling=0)
                written.append(name)
                yield smear
        finally:
            self.record(*written)

    def load_smear(self, name: str) -> np.ndarray | None:
        """The image of the smear *name* as `keep_smears` wrote it, [H, W, 3] uint8 RGB; None where it did not."""
        path = inside(self.folder, f"smears/{name}.jpg")
        return read_image(path) if path.is_file() else None

    def save_figure(self, figure: AnyFigure, name: str, *, simulated: str = "") -> AnyFigure:
        """Writes ``figures/<name>.png``, under a heading that says what is simulated, and returns the figure.

        Of an explorer it is the still picture. The file's text fields tell what it was drawn from.
        """
        facts = {"Software": f"rbcnb {__version__}", "Source": self.provenance()}
        explorer = hasattr(figure, "still")
        still = figure.still() if explorer else figure
        if words := self.simulated(name, simulated):
            facts["Simulated"] = words
            still.set_heading(f"SIMULATED: {words}")
            if explorer:
                figure = replace(figure, heading=f"SIMULATED: {words}")
        if not explorer:
            figure.alt = CAPTIONS.get(name, name)
        with self._recorded(f"figures/{name}.png", simulated) as part:
            still.savefig(part, metadata=facts)
        return figure

    def provenance(self) -> str:
        """What everything that is saved now comes from: run, data and seed, in words."""
        simulated = f", SIMULATED {SMEARS}" * self.rendered
        return f"run {self.folder.name}, data {self.data_hash()}, seed {self._seed()}{simulated}"

    def _seed(self) -> int | None:
        return self.load_record().get("seeds", {}).get("seed") if self.seed is None else self.seed

    @contextmanager
    def _recorded(self, name: str, simulated: str = "") -> Iterator[Path]:
        """`atomic_write` of a file of the run, and its entry in the manifest."""
        with atomic_write(inside(self.folder, name)) as part:
            yield part
        self.record(name, simulated=simulated)

    def record(self, *names: str, simulated: str = "") -> None:
        """Enters files of the run into its manifest, as they lie there now.

        Args:
            names: relative to the run's folder.
            simulated: what of them is invented beside the smears, see `simulated`.
        """
        if not names:
            return
        common = {"data": self.data_hash(), "seed": self._seed(), "rbcnb": __version__}
        if self.notebook:
            common["notebook"] = self.notebook
        words = {name: self.simulated(name, simulated) for name in names}
        record_files(
            self.folder,
            {name: common | ({SIMULATED: words[name]} if words[name] else {}) for name in names},
        )

    def load_manifest(self) -> Entries:
        """File, relative to the run -> its ``digest``, and the ``data``, ``seed`` and version that it was made with.

        Where something of it is `simulated`, that stands there, too, and the ``notebook`` where one made it.
        """
        return load_manifest(self.folder)

    def changed_results(self, notebook: str) -> list[str]:
        """Files that *notebook* made, and that are gone or no more as it wrote them."""
        made = {name: entry for name, entry in self.load_manifest().items() if entry.get("notebook") == notebook}
        return sorted({*self.missing_results(notebook), *changed_files(self.folder, made)})

    def data_hash(self) -> str:
        """Digest of cells, labels and crops as they lie in the run; as its record tells it where they are gone."""
        found = [path for name in ("cells.csv", "labelled.csv", "crops.npy") if (path := self.folder / name).exists()]
        if not found:
            return self.load_record().get("data_hash", "none")
        digests = [_digest_now(path) for path in found]
        return hashlib.blake2b("".join(digests).encode(), digest_size=8).hexdigest()

    def missing_results(self, notebook: str) -> list[str]:
        """Files that *notebook* (its name without suffix) makes for later ones and that are not there."""
        return [name for name, maker in _MADE_BY.items() if maker == notebook and not (self.folder / name).exists()]

    def load_record(self) -> dict:
        """``run.json``: parameters, versions, data hash and seconds per notebook; empty when there is none yet."""
        path = self.folder / RUN_JSON
        if not path.exists():
            return {}
        record = read_json(path, remedy=RECORD_REMEDY)
        if not all(isinstance(record.get(name, {}), dict) for name in _RECORD_PARTS):
            raise InputError(f"{path}: is not the record of a run; {RECORD_REMEDY}")
        return record

    def save_record(self, record: dict) -> None:
        """Writes ``run.json``."""
        with self._recorded(RUN_JSON) as part:
            part.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
