"""One page that opens offline: the answer of a run, its claims and tables, and all else folded by notebook.

What is simulated stands before everything else, and in the heading of each table and figure.
"""

import base64
import html
import io
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from PIL import Image

from rbcnb._utils.errors import InputError, MissingFileError
from rbcnb._utils.files import require_folder
from rbcnb.columns import READERS, SIMULATED, readable
from rbcnb.paper import CLAIMS
from rbcnb.plotting.style import CSS_DPI, DPI
from rbcnb.workflow.run import CAPTIONS, OUT_REMEDY, TABLES, TEXTS, Run, read_table

_CLAIMS, _GLOSSARY, _NOTEBOOKS = (TEXTS[part] for part in ("claims", "glossary", "notebooks"))
_CLAIM, _PROTOCOL = "focal_beats_ce", "honest"  # whose contrasts are the answer
_MAIN_TABLES = ("table1", "table2", "table3")  # never folded
_MOST_LOSSLESS = 100_000  # bytes of a picture
_NAMES = ("architecture", "method", "first", "second", "score")  # columns of names that have printed forms
_PLOTTED = "answer"  # the figure beside the answer
_OTHERS = "Other files"  # of which no notebook is on record

# No script runs in a page of results, whatever a name in it may be.
HEAD = (
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
)
STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882}
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;overflow-wrap:break-word}
h1{font-size:1.7rem;line-height:1.2}h2{font-size:1.25rem;margin-top:2.4rem;border-bottom:1px solid var(--line)}
h3{font-size:1.05rem;margin:1.6rem 0 .3rem}h2,h3,summary{break-after:avoid}
.answer{font-size:1.25rem;line-height:1.4;font-weight:600}
nav{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;padding:.6rem 0;border-bottom:1px solid var(--line)}
details{margin:.8rem 0;border-bottom:1px solid var(--line)}summary{cursor:pointer;font-weight:600;padding:.4rem 0}
.table{overflow-x:auto}table{border-collapse:collapse;font-size:.86rem}
th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid var(--line);font-variant-numeric:tabular-nums}
th{background:var(--soft)}.text{text-align:left}td{vertical-align:top}dt{font-weight:600}dd{margin:0 0 .5rem 1rem}
.table td.text{min-width:6.5rem}.claims td{min-width:7rem}
.verdict{white-space:nowrap;font-weight:600}
.simulated{color:#c25400;font-weight:700}p.simulated{border:2px solid #d55e00;padding:.6rem .9rem;font-size:1.05rem}
td.simulated{font-weight:400;white-space:nowrap}h2 .simulated,h3 .simulated{font-size:.95rem;margin-left:.4rem}
figure{margin:1.6rem 0;overflow-x:auto;break-inside:avoid}img{max-width:100%;height:auto;background:#fff}
figcaption,.note{opacity:.75;font-size:.9rem}
@media(prefers-color-scheme:dark){.simulated{color:#ff8a4c}}
@media(max-width:40rem){img{max-width:none}.answer{font-size:1.1rem}
.claims,.claims tbody,.claims tr,.claims td{display:block;text-align:left;border:0;padding:.1rem 0}
.claims tr{border-bottom:1px solid var(--line);padding:.6rem 0}.claims th{display:none}}
@media print{body{font-size:9.5pt;margin:0;max-width:none}nav{display:none}
table{font-size:6.2pt;width:100%}.table{overflow:visible}
th,td{padding:.1rem .15rem;overflow-wrap:anywhere}h2{margin-top:1.2rem}tr{break-inside:avoid}
.claims{font-size:8pt}.claims td,.claims th{overflow-wrap:normal}.table td.text{min-width:0}}
"""


def report_run(folder: str | Path) -> Path:
    """`write_report` of the run in *folder*, however its notebooks were run.

    Raises:
        MissingFileError: there is no such folder, or no table and no figure of a run in it.
    """
    run, remedy = Run.at(folder), f"{OUT_REMEDY}, or of the notebooks' parameter run"
    require_folder(run.folder, remedy=remedy)
    if not any(
        _ordered(run.folder / kind, f"*.{suffix}", []) for kind, suffix in (("tables", "csv"), ("figures", "png"))
    ):
        raise MissingFileError(f"{run.folder}: no tables or figures of a run in it; {remedy}")
    return write_report(run)


def write_report(run: Run) -> Path:
    """Writes ``report.html`` from what the run holds by now; nothing in it needs a network."""
    record = run.load_record()
    tables = _ordered(run.folder / "tables", "*.csv", list(TABLES))
    figures = _ordered(run.folder / "figures", "*.png", list(CAPTIONS))
    manifest = run.load_manifest()
    entries = {path: manifest.get(f"{path.parent.name}/{path.name}", {}) for path in [*tables, *figures]}
    shown = [path for path in figures if path.stem == _PLOTTED]
    main = [path for path in tables if path.stem in _MAIN_TABLES]
    sections = _folded(run, [path for path in [*figures, *tables] if path not in (*shown, *main)], entries)
    contents = {"claims": "The paper's claims", **{path.stem: _title(path) for path in main}}
    contents |= {f"of-{name}": html.escape(_NOTEBOOKS.get(name, name)) for name in sections} | {
        "glossary": "Words",
        "run": "The run",
    }
    links = "".join(f'<a href="#{quote(name)}">{words}</a>' for name, words in contents.items())
    parts = [
        HEAD,
        f"<title>rbcnb: {html.escape(run.folder.name)}</title><style>{STYLE}</style>",
        "<h1>Does focal loss help? Pasupa et al. (2020), run again</h1>",
        *(f"<p class=simulated>{html.escape(text)}</p>" for text in simulated_notices(run)),
        *_answer(run),
        *(_figure(run, path, entries[path]) for path in shown),
        f"<nav aria-label=contents>{links}</nav>",
        '<h2 id="claims">The paper\'s claims</h2>',
        _claims(run),
        *(_table(run, path, entries[path], rank=2) for path in main),
        *(
            f'<details id="of-{html.escape(name)}"><summary>{contents[f"of-{name}"]} ({len(pieces)})</summary>'
            f"{''.join(pieces)}</details>"
            for name, pieces in sections.items()
        ),
        '<h2 id="glossary">Words</h2><dl>',
        *(f"<dt>{html.escape(word)}<dd>{html.escape(meaning)}" for word, meaning in _GLOSSARY.items()),
        '</dl><h2 id="run">The run</h2>',
        f"<p>About the labels: {_link(run, 'data_card.md', 'data_card.md')}" * (run.folder / "data_card.md").exists(),
        _notebooks(run, record),
        f"<p class=note>{_provenance(run, record)}",
    ]
    run.save_text("\n".join(parts), "report.html")
    return run.folder / "report.html"


def _folded(run: Run, paths: Sequence[Path], entries: Mapping[Path, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Notebook -> the pieces of the page that it made, figures first."""
    of = {path: str(entries[path].get("notebook", _OTHERS)) for path in paths}
    sections: dict[str, list[str]] = {}
    for name in sorted(set(of.values())):  # their numbers order them, and digits come before letters
        mine = [path for path in paths if of[path] == name]
        pieces = [
            _figure(run, path, entries[path]) if path.suffix == ".png" else _table(run, path, entries[path], rank=3)
            for path in mine
        ]
        if pieces := [piece for piece in pieces if piece]:
            sections[name] = pieces
    return sections


def _answer(run: Run) -> list[str]:
    """The run's answer in a sentence that a student understands, and its numbers: the contrast of each network."""
    try:
        rows = run.load_table("differences_base")
        rows = rows[(rows["claim"] == _CLAIM) & (rows["protocol"] == _PROTOCOL)]
        rows = rows[["architecture", "mean", "low", "high", "verdict", "margin"]].drop_duplicates("architecture")
        return _answer_of(rows)
    except MissingFileError:
        return ["<p class=answer>This run has not compared the losses yet."]
    except (InputError, OSError, LookupError, TypeError, ValueError) as error:
        return [_unreadable(error)]


def _answer_of(rows: pd.DataFrame) -> list[str]:
    if rows.empty:
        return [
            "<p class=answer>This run does not judge: the published protocol gives one number for each method, and no "
            "interval. Run the honest protocol, too."
        ]
    kinds = {kind: [readable(name) for name in part["architecture"]] for kind, part in rows.groupby("verdict")}
    gained, lost = kinds.get("supported", []), kinds.get("not supported", [])
    unsure = [name for kind, names in kinds.items() if kind not in ("supported", "not supported") for name in names]
    margin = f"{rows['margin'].max():g}"
    parts = []
    if gained:
        parts.append(f"focal loss scored higher than cross entropy with {_list(gained)}")
    if lost:
        parts.append(f"focal loss brought no gain worth having (of {margin} in macro F1) with {_list(lost)}")
    if unsure:
        parts.append(f"for {_list(unsure)} this run is too small to tell")
    first = "No" if lost and not gained else "Yes" if gained and not lost else "In part" if gained else "Not clear"
    figures = "; ".join(
        f"{readable(row.architecture)} {row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in rows.itertuples()
    )
    answer = html.escape(f"{first}: {', '.join(parts)}.")
    return [
        f"<p class=answer>{answer}",
        f"<p>Focal loss minus cross entropy, macro F1 with its 95 % interval: {html.escape(figures)}.",
    ]


def _list(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _claims(run: Run) -> str:
    """The claims of the paper, a row each: ours in a sentence, the paper's words, the verdict, and why."""
    try:
        table = run.load_table("verdict").reindex(columns=["claim", "place", "verdict", "evidence"])
        rows = table.astype(object).fillna("").astype(str).to_dict("records")
    except MissingFileError:
        return "<p>No claim was judged yet: notebook 06 does.</p>"
    except (InputError, OSError, LookupError) as error:
        return _unreadable(error)
    ids = {claim.quote: claim.id for claim in CLAIMS}
    shown = []
    for row in rows:
        ours = html.escape(_CLAIMS.get(ids.get(row["claim"], ""), row["claim"]))
        words = html.escape(f"\u201c{row['claim']}\u201d, {row['place']}".rstrip(", "))
        verdict = html.escape(row["verdict"])
        cells = f"<td class=text>{ours}<td class='text note'>{words}<td class='text verdict'>{verdict}"
        shown.append(f"<tr>{cells}<td class=text>{html.escape(_why(row['evidence']))}")
    head = "".join(f"<th class=text>{words}" for words in ("claim", "the paper's words", "verdict", "why"))
    where = _link(run, "tables/verdict.csv", "tables/verdict.csv")
    return (
        f"<table class=claims><tr>{head}{''.join(shown)}</table>"
        f"<p class=note>Differences with 95 % intervals. All p values: {where}.</p>"
    )


def _why(evidence: str) -> str:
    """The evidence of a claim less its p values: what is compared, then each network and its interval."""
    found = [re.match(r"(.*?): ([-+.\d]+ \[[^\]]*\])", part) for part in evidence.split("; ")]
    if None in found:
        return evidence
    names = [[word for word in part[1].split(", ") if word != _PROTOCOL] for part in found]
    together = zip(*names, strict=False)
    shared = sum(1 for _ in takewhile(lambda words: len(set(words)) == 1, together)) if len(names) > 1 else 1
    rest = (f"{', '.join(words[shared:])} {part[2]}".strip() for words, part in zip(names, found, strict=True))
    return f"{', '.join(names[0][:shared])}: {'; '.join(rest)}".removeprefix(": ")


def _title(path: Path) -> str:
    return html.escape(TABLES.get(path.stem, path.stem.replace("_", " ")))


def _ordered(folder: Path, pattern: str, order: list[str]) -> list[Path]:
    # A name that starts with a dot is what a killed process had not finished writing.
    found = [path for path in folder.glob(pattern) if path.is_file() and path.name[0] != "."] if folder.is_dir() else []
    return sorted(found, key=lambda path: (order.index(path.stem) if path.stem in order else len(order), path.stem))


def _provenance(run: Run, record: dict) -> str:
    parameters = {name: value for values in record.get("parameters", {}).values() for name, value in values.items()}
    facts = {
        "profile": record.get("profile"),
        "smears": parameters.get("smears"),
        "protocol": parameters.get("protocol"),
        "seed": parameters.get("seed"),
        "data": record.get("data_hash"),
        **record.get("versions", {}),
    }
    listed = ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
    return html.escape(f"Run {run.folder.name}; {listed}.")


def _origin(run: Run, path: Path, entry: Mapping[str, Any]) -> str:
    """Where a file lies, and what the manifest's *entry* says that it was made from."""
    made_from = f", data {entry['data']}, seed {entry['seed']}" if entry else ""
    name = f"{path.parent.name}/{path.name}"
    return _link(run, name, name) + html.escape(made_from)


def simulated_notices(run: Run, names: Collection[str] | None = None) -> list[str]:
    """That the smears of *run* are simulated, and where its readers are, a paragraph each, to go before all else.

    *names*: of the files that are shown, as in the manifest; by default all of the run.
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


def _table(run: Run, path: Path, entry: Mapping[str, Any], *, rank: int) -> str:
    if not path.read_bytes().strip():  # saved without a column
        return ""
    try:
        table = read_table(path)
    except InputError as error:
        return _unreadable(error)
    if table.empty:
        return ""
    for name in table.columns.intersection(_NAMES):
        table[name] = table[name].map(readable, na_action="ignore")
    kinds = [" class=text" if table[name].dtype.kind not in "iufb" else "" for name in table.columns]
    kinds = [" class='text simulated'" if name == SIMULATED else kind for name, kind in zip(table, kinds, strict=True)]
    head = "".join(f"<th{kind}>{html.escape(name)}" for name, kind in zip(table.columns, kinds, strict=True))
    rows = (
        "<tr>" + "".join(f"<td{kind}>{_cell(value)}" for value, kind in zip(row, kinds, strict=True))
        for row in table.itertuples(index=False, name=None)
    )
    return (
        f'<h{rank} id="{html.escape(path.stem)}">{_title(path)} {_marked(entry)}</h{rank}>'
        f"<p class=note>{_origin(run, path, entry)}</p>"
        f"<div class=table><table><tr>{head}{''.join(rows)}</table></div>"
    )


def _unreadable(why: object) -> str:
    return f"<p class=simulated>{html.escape(str(why))}</p>"


def _cell(value: object) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))


def _figure(run: Run, path: Path, entry: Mapping[str, Any]) -> str:
    name = re.sub(r"^fig0*(\d+)", r"Fig. \1", path.stem).replace("_", " ")
    words = CAPTIONS.get(path.stem, "")
    caption = html.escape(words if words and not name.startswith("Fig.") else f"{name}. {words}")
    try:
        with Image.open(path) as picture:
            width = round(picture.width * CSS_DPI / DPI)  # as large as it was drawn, not as many pixels as it has
            picture = picture.convert("RGB")
            stream = io.BytesIO()
            picture.save(stream, "WEBP", lossless=True, method=2)
            if len(stream.getvalue()) > _MOST_LOSSLESS:  # of smears: a tenth of it without a difference to be seen
                stream = io.BytesIO()
                picture.save(stream, "WEBP", quality=85)
    except OSError as error:
        return _unreadable(f"{path}: cannot be read ({error}); run the notebook that draws it again")
    image = base64.b64encode(stream.getvalue()).decode("ascii")
    alt = html.escape(f"{CAPTIONS.get(path.stem, name)} {simulated_words(entry)}".rstrip(), quote=True)
    return (
        f'<figure id="{html.escape(path.stem)}"><img alt="{alt}" width={width} src="data:image/webp;base64,{image}">'
        f"<figcaption>{_marked(entry)}{caption} {_origin(run, path, entry)}</figcaption></figure>"
    )


def _notebooks(run: Run, record: dict) -> str:
    done = record.get("notebooks", {})
    rows = [_notebook(run, name, done.get(name)) for name in record.get("parameters", {})]
    return "<table><tr><th class=text>notebook<th class=text>time" + "".join(rows) + "</table>"


def _notebook(run: Run, name: str, entry: Mapping[str, Any] | None) -> str:
    """A row of the notebooks: what the batch ran has a time and lies in the run."""
    shown = html.escape(name)
    if entry is None:
        state = "not done"
    elif "file" not in entry:
        state = "begun, by papermill, in JupyterLab or in a batch that was stopped"
    else:
        shown, state = _link(run, entry["file"], name), f"{entry['seconds']:.0f} s"
    return f"<tr><td class=text>{shown}<td class=text>{state}"


def _link(run: Run, file: str, words: str) -> str:
    """*words*, leading to a file of the run where *file* names one; a record may be anyone's."""
    folder = run.folder.resolve()
    try:
        leads_within = (folder / file).resolve().relative_to(folder).parts and (folder / file).is_file()
    except (ValueError, OSError):
        leads_within = False
    shown = html.escape(words)
    return f'<a href="{quote(file)}">{shown}</a>' if leads_within and not Path(file).is_absolute() else shown
