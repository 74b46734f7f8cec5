"""One page that opens offline: the verdict, every table and every figure of a run, and where they came from.

What is simulated stands before everything else, and in the heading of each table and figure.
"""

import base64
import html
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import yaml
from PIL import Image

from rbcnb._utils.errors import InputError, MissingFileError
from rbcnb.columns import READERS, SIMULATED, readable
from rbcnb.plotting.style import CSS_DPI, DPI
from rbcnb.workflow.run import Run, read_table

_TEXTS = yaml.safe_load(Path(__file__).with_name("captions.yaml").read_text(encoding="utf-8"))
CAPTIONS, TABLES = _TEXTS["figures"], _TEXTS["tables"]  # name -> caption, name -> heading, in the report's order

# No script runs in a page of results, whatever a name in it may be.
HEAD = (
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
)
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1b1b1b;max-width:70rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem}h2{font-size:1.25rem;margin-top:2.4rem;border-bottom:1px solid #ccc}
table{border-collapse:collapse;font-size:.86rem;display:block;overflow-x:auto}
th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #e4e4e4;font-variant-numeric:tabular-nums}
th{background:#f4f4f4;position:sticky;top:0}.text{text-align:left}td{vertical-align:top}
.simulated{color:#b34700;font-weight:700}p.simulated{border:2px solid #d55e00;padding:.6rem .9rem;font-size:1.05rem}
td.simulated{font-weight:400;white-space:nowrap}h2 .simulated{font-size:.95rem;margin-left:.4rem}
figure{margin:1.6rem 0}img{max-width:100%;height:auto}figcaption,.note{color:#555;font-size:.9rem}
"""


def report_run(folder: str | Path) -> Path:
    """`write_report` of the run in *folder*, however its notebooks were run.

    Raises:
        MissingFileError: no table and no figure of a run lies in it.
    """
    run = Run.at(folder)
    if not any(
        _ordered(run.folder / kind, f"*.{suffix}", []) for kind, suffix in (("tables", "csv"), ("figures", "png"))
    ):
        raise MissingFileError(
            f"{run.folder}: no tables or figures of a run in it; give the folder of --out of rbcnb reproduce, "
            "or of the notebooks' parameter run"
        )
    return write_report(run)


def write_report(run: Run) -> Path:
    """Writes ``report.html`` from what the run holds by now; nothing in it needs a network."""
    record = run.load_record()
    tables = _ordered(run.folder / "tables", "*.csv", list(TABLES))
    figures = _ordered(run.folder / "figures", "*.png", list(CAPTIONS))
    manifest = run.load_manifest()
    entries = {path: manifest.get(f"{path.parent.name}/{path.name}", {}) for path in [*tables, *figures]}
    first = [path for path in tables if path.stem == "verdict"]
    parts = [
        HEAD,
        f"<title>rbcnb: {html.escape(run.folder.name)}</title><style>{STYLE}</style>",
        "<h1>Does focal loss help? Pasupa et al. (2020), run again</h1>",
        *(f"<p class=simulated>{html.escape(text)}</p>" for text in simulated_notices(run)),
        f"<p class=note>{_provenance(run, record)}</p>",
        *(_table(path, entries[path]) for path in first),
        "<h2>Figures</h2>",
        *(_figure(path, entries[path]) for path in figures),
        *(_table(path, entries[path]) for path in tables if path not in first),
        '<p class=note>About the labels: <a href="data_card.md">data_card.md</a></p>'
        * (run.folder / "data_card.md").exists(),
        "<h2>Notebooks</h2>",
        _notebooks(run, record),
    ]
    run.save_text("\n".join(parts), "report.html")
    return run.folder / "report.html"


def _ordered(folder: Path, pattern: str, order: list[str]) -> list[Path]:
    # A name that starts with a dot is what a killed process had not finished writing.
    found = [path for path in folder.glob(pattern) if not path.name.startswith(".")] if folder.is_dir() else []
    return sorted(found, key=lambda path: (order.index(path.stem) if path.stem in order else len(order), path.stem))


def _provenance(run: Run, record: dict) -> str:
    parameters = {name: value for own in record.get("parameters", {}).values() for name, value in own.items()}
    facts = {
        "profile": record.get("profile"),
        "smears": parameters.get("smears"),
        "protocol": parameters.get("protocol"),
        "seed": parameters.get("seed"),
        "data": record.get("data_hash"),
        **record.get("versions", {}),
    }
    told = ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
    return html.escape(f"Run {run.folder.name}; {told}.")


def _origin(path: Path, entry: Mapping[str, Any]) -> str:
    """Where a file lies, and what the manifest's *entry* says that it was made from."""
    made_from = f", data {entry['data']}, seed {entry['seed']}" if entry else ""
    return html.escape(f"{path.parent.name}/{path.name}{made_from}")


def simulated_notices(run: Run, names: Collection[str] | None = None) -> list[str]:
    """That the smears of *run* are simulated, and where its readers are, a paragraph each, to go before all else.

    *names*: of the files that are shown, as in the manifest; all of the run unless told.
    """
    shown = {name: entry for name, entry in run.load_manifest().items() if names is None or name in names}
    found = sorted({Path(name).stem for name, entry in shown.items() if READERS in entry.get(SIMULATED, "")})
    of_readers = f"SIMULATED readers: these show labels that no person gave: {', '.join(map(readable, found))}."
    return [text for text in (run.notice(), of_readers * bool(found)) if text]


def simulated_words(entry: Mapping[str, Any]) -> str:
    """What a file's *entry* in the manifest says is simulated of it, as a heading has it; "" where nothing is."""
    return f"SIMULATED: {entry[SIMULATED]}" if SIMULATED in entry else ""


def _marked(entry: Mapping[str, Any]) -> str:
    words = simulated_words(entry)
    return f"<span class=simulated>{html.escape(words)}</span> " if words else ""


def _table(path: Path, entry: Mapping[str, Any]) -> str:
    if not path.read_bytes().strip():  # saved without a column
        return ""
    try:
        table = read_table(path)
    except InputError as error:
        return _unreadable(error)
    title = TABLES.get(path.stem, path.stem.replace("_", " "))
    if table.empty:
        return ""
    kinds = [" class=text" if table[name].dtype.kind not in "iufb" else "" for name in table.columns]
    kinds = [" class='text simulated'" if name == SIMULATED else kind for name, kind in zip(table, kinds, strict=True)]
    head = "".join(f"<th{kind}>{html.escape(name)}" for name, kind in zip(table.columns, kinds, strict=True))
    rows = (
        "<tr>" + "".join(f"<td{kind}>{_cell(value)}" for value, kind in zip(row, kinds, strict=True))
        for row in table.itertuples(index=False)
    )
    return (
        f'<h2 id="{html.escape(path.stem)}">{html.escape(title)} {_marked(entry)}</h2>'
        f"<p class=note>{_origin(path, entry)}</p>"
        f"<table><tr>{head}{''.join(rows)}</table>"
    )


def _unreadable(why: object) -> str:
    return f"<p class=simulated>{html.escape(str(why))}</p>"


def _cell(value: object) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))


def _figure(path: Path, entry: Mapping[str, Any]) -> str:
    image = base64.b64encode(path.read_bytes()).decode("ascii")
    name = re.sub(r"^fig0*(\d+)", r"Fig. \1", path.stem).replace("_", " ")
    caption = html.escape(f"{name}. {CAPTIONS.get(path.stem, '')}")
    try:
        with Image.open(path) as picture:
            width = round(picture.width * CSS_DPI / DPI)  # as large as it was drawn, not as many pixels as it has
    except OSError as error:
        return _unreadable(f"{path}: cannot be read ({error}); run the notebook that draws it again")
    alt = html.escape(f"{CAPTIONS.get(path.stem, name)} {simulated_words(entry)}".rstrip(), quote=True)
    return (
        f'<figure id="{html.escape(path.stem)}"><img alt="{alt}" width={width} src="data:image/png;base64,{image}">'
        f"<figcaption>{_marked(entry)}{caption} {_origin(path, entry)}</figcaption></figure>"
    )


def _notebooks(run: Run, record: dict) -> str:
    done = record.get("notebooks", {})
    rows = [_notebook(run, name, done.get(name)) for name in record.get("parameters", {})]
    return "<table><tr><th>notebook<th>time" + "".join(rows) + "</table>"


def _notebook(run: Run, name: str, entry: Mapping[str, Any] | None) -> str:
    """A row of the notebooks: what the batch ran has a time and lies in the run."""
    if entry is None:
        return f"<tr><td>{html.escape(name)}<td>not done"
    if "file" not in entry:
        return f"<tr><td>{html.escape(name)}<td>begun, by papermill, in JupyterLab or in a batch that was stopped"
    return f"<tr><td>{_link(run, entry['file'], name)}<td>{entry['seconds']:.0f} s"


def _link(run: Run, file: str, words: str) -> str:
    """*words*, leading to a file of the run where *file* names one; a record may be anyone's."""
    folder = run.folder.resolve()
    try:
        leads_within = (folder / file).resolve().relative_to(folder).parts and (folder / file).is_file()
    except (ValueError, OSError):
        leads_within = False
    shown = html.escape(words)
    return f'<a href="{quote(file)}">{shown}</a>' if leads_within and not Path(file).is_absolute() else shown
