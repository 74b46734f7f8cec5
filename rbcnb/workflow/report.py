"""One page that opens offline: the verdict, every table and every figure of a run, and where they came from."""

import base64
import html
import re
from pathlib import Path

import pandas as pd
import yaml
from PIL import Image

from rbcnb._utils.files import atomic_write
from rbcnb.plotting.style import CSS_DPI, DPI
from rbcnb.workflow.run import Run

_TEXTS = yaml.safe_load(Path(__file__).with_name("captions.yaml").read_text(encoding="utf-8"))
CAPTIONS, TABLES = _TEXTS["figures"], _TEXTS["tables"]  # name -> caption, name -> heading, in the report's order

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1b1b1b;max-width:70rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem}h2{font-size:1.25rem;margin-top:2.4rem;border-bottom:1px solid #ccc}
table{border-collapse:collapse;font-size:.86rem;display:block;overflow-x:auto}
th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #e4e4e4;font-variant-numeric:tabular-nums}
th{background:#f4f4f4;position:sticky;top:0}.text{text-align:left}td{vertical-align:top}
figure{margin:1.6rem 0}img{max-width:100%;height:auto}figcaption,.note{color:#555;font-size:.9rem}
"""


def write_report(run: Run) -> Path:
    """Writes ``report.html`` from what the run holds by now; nothing in it needs a network."""
    record = run.load_record()
    tables = _ordered(run.folder / "tables", "*.csv", list(TABLES))
    figures = _ordered(run.folder / "figures", "*.png", list(CAPTIONS))
    origins = {name: _origin(entry) for name, entry in run.load_manifest().items()}
    first = [path for path in tables if path.stem == "verdict"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>rbcnb: {html.escape(run.folder.name)}</title><style>{STYLE}</style>",
        "<h1>Does focal loss help? Pasupa et al. (2020), run again</h1>",
        f"<p class=note>{_provenance(run, record)}</p>",
        *(_table(path, origins) for path in first),
        "<h2>Figures</h2>",
        *(_figure(path, origins) for path in figures),
        *(_table(path, origins) for path in tables if path not in first),
        '<p class=note>About the labels: <a href="data_card.md">data_card.md</a></p>'
        * (run.folder / "data_card.md").exists(),
        "<h2>Notebooks</h2>",
        _notebooks(record),
    ]
    target = run.folder / "report.html"
    with atomic_write(target) as part:
        part.write_text("\n".join(parts), encoding="utf-8")
    return target


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
    source = "synthetic cells: figures of a rendering, not of dogs. " if parameters.get("smears") == "synthetic" else ""
    return html.escape(f"{source}Run {run.folder.name}; {told}.")


def _origin(entry: dict) -> str:
    """What a file of the manifest was made from."""
    return f", data {entry['data']}, seed {entry['seed']}"


def _table(path: Path, origins: dict[str, str]) -> str:
    try:
        table = pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return ""
    title = TABLES.get(path.stem, path.stem.replace("_", " "))
    if table.empty:
        return ""
    kinds = [" class=text" if table[name].dtype.kind not in "iufb" else "" for name in table.columns]
    head = "".join(f"<th{kind}>{html.escape(name)}" for name, kind in zip(table.columns, kinds, strict=True))
    rows = (
        "<tr>" + "".join(f"<td{kind}>{_cell(value)}" for value, kind in zip(row, kinds, strict=True))
        for row in table.itertuples(index=False)
    )
    return (
        f"<h2 id={path.stem}>{html.escape(title)}</h2><p class=note>tables/{path.name}"
        f"{html.escape(origins.get(f'tables/{path.name}', ''))}</p>"
        f"<table><tr>{head}{''.join(rows)}</table>"
    )


def _cell(value: object) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))


def _figure(path: Path, origins: dict[str, str]) -> str:
    image = base64.b64encode(path.read_bytes()).decode("ascii")
    name = re.sub(r"^fig0*(\d+)", r"Fig. \1", path.stem).replace("_", " ")
    caption = html.escape(f"{name}. {CAPTIONS.get(path.stem, '')}")
    with Image.open(path) as picture:
        width = round(picture.width * CSS_DPI / DPI)  # as large as it was drawn, not as many pixels as it has
    alt = html.escape(CAPTIONS.get(path.stem, name), quote=True)
    return (
        f'<figure id={path.stem}><img alt="{alt}" width={width} src="data:image/png;base64,{image}">'
        f"<figcaption>{caption} figures/{path.name}"
        f"{html.escape(origins.get(f'figures/{path.name}', ''))}</figcaption></figure>"
    )


def _notebooks(record: dict) -> str:
    done = record.get("notebooks", {})
    rows = [
        f'<tr><td><a href="{html.escape(done[name]["file"], quote=True)}">{html.escape(name)}</a>'
        f"<td>{done[name]['seconds']:.0f} s"
        if name in done
        else f"<tr><td>{html.escape(name)}<td>not done"
        for name in record.get("parameters", {})
    ]
    return "<table><tr><th>notebook<th>time" + "".join(rows) + "</table>"
