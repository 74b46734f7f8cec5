"""Red blood cells and class imbalance: smears to cells to verdict.

Heavy imports wait until a command needs them: ``rbcnb --help`` answers at once.
"""

import os
import sys
import traceback
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from shlex import quote
from typing import Any

from rbcnb._utils.errors import SmearWarning, UnfinishedError, is_out_of_memory
from rbcnb._utils.progress import quiet, say
from rbcnb._utils.read_files import MOST_SHOWN, parse_yaml, system_fault
from rbcnb._utils.stop_signal import stoppable
from rbcnb.cli_arguments import DEFAULT_OUT, parse_arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0 done, 1 something failed and was reported, 2 wrong usage.

    Where nobody reads standard output to its end, it ends the process with 141, as other commands do.
    """
    try:
        return _run(arguments)
    finally:
        _end_output("")


def _end_output(text: str) -> None:
    """Writes *text* and all that is left of standard output; ends the process where that takes no more."""
    try:
        print(end=text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left once more
        if isinstance(error, BrokenPipeError):  # as of "| head": its reader has had enough
            sys.exit(141)
        fault = system_fault(OSError(error.errno, error.strerror, "standard output"))
        print(f"rbcnb: {fault}", file=sys.stderr)
        sys.exit(1)


def _run(arguments: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):  # a name that a terminal cannot show ends nothing
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = parse_arguments(arguments)
    commands = {
        "segment": _segment,
        "label": _label,
        "train": _train,
        "count": _count,
        "import-labels": _import_labels,
        "export-labels": _export_labels,
        "reproduce": _reproduce,
        "verify": _verify,
        "report": _report,
        "publish": _publish,
        "results": _results,
        "lesson": _lesson,
        "fetch": _fetch,
    }
    run = commands[options.command]
    try:
        quietly = _hushed() if getattr(options, "quiet", False) else nullcontext()
        with stoppable(), quietly, _notes_of_smears(options.command):
            return run(options)
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None:
            _end_output("\n")  # it may be of standard output, which keeps nothing of what it could not write
        if options.verbose:
            traceback.print_exc()
        if is_out_of_memory(error):
            what = "not enough memory" + " to load a library" * isinstance(error, ImportError)
            remedy = "end other programs, give fewer --jobs, or use a machine with more. What is finished is kept"
            print(f"rbcnb {options.command}: {what} ({str(error) or type(error).__name__}); {remedy}", file=sys.stderr)
            return 1
        if isinstance(error, UnfinishedError | ValueError | OSError):  # of the last two are our errors of input
            cause = system_fault(error) if isinstance(error, OSError) else error
            print(f"rbcnb {options.command}: {cause}", file=sys.stderr)
            return 1 if isinstance(error, UnfinishedError) else 2
        raise
    except KeyboardInterrupt:
        print("rbcnb: stopped; what is finished is kept, the same command carries on from there", file=sys.stderr)
        return 130


@contextmanager
def _hushed() -> Iterator[None]:
    """Inside, neither results nor progress are printed; warnings, errors and what is left out are."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), quiet():
        yield


def _use_models(folder: str | None) -> None:
    """Has this process and the kernels that it starts read Waifu2x's model files from *folder*."""
    if folder:
        from rbcnb.segmentation.waifu2x import Waifu2xUnavailable, use_models

        try:
            use_models(folder)
        except Waifu2xUnavailable as error:
            raise ValueError(f"--models {folder}: {error}") from None


def _overrides(options: Namespace) -> dict[str, Any]:
    given = {name: getattr(options, name) for name in ("smears", "data", "protocol")}
    values = {name: value for name, value in given.items() if value is not None}
    if types := _names(options, "types"):
        values["types"] = types
    settings = {}
    for setting in options.settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting[:MOST_SHOWN]}: write NAME=VALUE")
        if not (name := name.strip()):
            raise ValueError(f"--set {setting[:MOST_SHOWN]}: a name is missing before '='; write NAME=VALUE")
        settings[name] = parse_yaml(text, f"--set {setting[:MOST_SHOWN]}")
    if settings:
        from rbcnb.workflow.notebook_parameters import with_lists

        values |= with_lists(settings)
    return values


def _names(options: Namespace, option: str) -> list[str]:
    """The names that *option* lists between commas; none where it is not given."""
    text = getattr(options, option)
    names = [name.strip() for name in ([] if text is None else text.split(","))]
    if not all(names):
        raise ValueError(f"--{option} {text[:MOST_SHOWN]}: a name is missing beside a comma; write names as A,B")
    return names


def _reproduce(options: Namespace) -> int:
    from rbcnb._utils.duration import duration
    from rbcnb.workflow.notebooks import expected_cost, reproduce, skipped_files

    _use_models(options.models)
    overrides = _overrides(options)
    source = Path(overrides.get("smears", "synthetic")).name
    profiles, skipped = _names(options, "profile"), []
    names = [Path(profile).stem for profile in profiles]
    several = len(profiles) > 1
    chosen = {
        "overrides": overrides,
        "only": _names(options, "only"),
        "jobs": options.jobs,
        "scheduler": options.scheduler,
    }
    for name, profile in zip(names, profiles, strict=True) if several else ():
        cost = expected_cost(profile, overrides=overrides, only=chosen["only"], jobs=options.jobs)
        say(f"{name}: at least {duration(cost)} on this machine, if nothing of it is done")
    for name, profile in zip(names, profiles, strict=True):
        out = f"{options.out}/{name}" if several and options.out else options.out
        from_ = options.resume_from
        if several and from_ is not None:
            from_ = from_ / name if (from_ / name).is_dir() else None  # a profile of which nothing is kept begins
        out = out or f"{DEFAULT_OUT}/{name}-{source}"
        skipped += skipped_files(reproduce(out=out, profile=profile, resume_from=from_, **chosen))
    for message in dict.fromkeys(skipped):
        print(f"rbcnb reproduce: left out: {message}", file=sys.stderr)
    return 1 if skipped else 0


@contextmanager
def _notes_of_smears(command: str) -> Iterator[None]:
    """Prints what was noted of smears as a command's notes, not as a warning of a line of code."""
    with warnings.catch_warnings():
        show, shown = warnings.showwarning, set()

        def show_note(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
            if issubclass(category, SmearWarning):
                if str(message) not in shown:  # a file may be read several times
                    print(f"rbcnb {command}: note: {message}", file=sys.stderr)
                shown.add(str(message))
            else:
                show(message, category, *where, **options)

        warnings.showwarning = show_note
        yield


def _segment(options: Namespace) -> int:
    from rbcnb.columns import SMEAR
    from rbcnb.labels.merge_readings import readings_to_cells
    from rbcnb.labels.readings import READINGS_CSV, load_readings
    from rbcnb.segmentation.batch import segment_files
    from rbcnb.segmentation.cost import segmentation_cost
    from rbcnb.segmentation.segment import FinderSpec
    from rbcnb.smears.images import expand_inputs

    if options.method != "learned" and options.min_score is not None:
        raise ValueError("--min-score is an option of --method learned: the circles of paper have no score")
    if options.method != "paper" and options.leave_out_white_cells:
        raise ValueError("--leave-out-white-cells is an option of --method paper: learned leaves them out anyway")
    _use_models(options.models)
    given = {} if options.min_score is None else {"min_score": options.min_score}
    spec = FinderSpec(
        method=options.method,
        upscale=options.upscale,
        upscale_where=options.upscale_where,
        diameter_px=options.diameter,
        size_px=options.size,
        white_cells=not options.leave_out_white_cells,
        **given,
    )
    cost = "" if options.scheduler else segmentation_cost(expand_inputs(options.paths)[0], spec, jobs=options.jobs)
    if cost:
        say(cost)
    report = segment_files(
        options.paths,
        options.out,
        spec=spec,
        jobs=options.jobs,
        scheduler=options.scheduler,
        mixed=options.mixed,
        pictures=[name for name in ("overlays", "masks") if getattr(options, name)],
        settled=set(load_readings(options.out / READINGS_CSV)[SMEAR]),
        replace_cells=options.replace,
    )
    carried = readings_to_cells(options.out) if report.n_cells else ""
    kept = f"; {report.n_kept} earlier image{'s' * (report.n_kept != 1)} kept" if report.n_kept else ""
    if not report.n_images and not report.n_kept:
        return _print_notes("segment", report)
    print(f"{report.n_cells} cells in {_images(report.n_images)}: {report.cells_csv}{kept}")
    if options.overlays and report.n_images:
        print(f"their rings: {options.out / 'overlays'}")
    exit_code = _print_notes("segment", report)
    if carried:
        print(carried)
    if report.n_cells:
        print(f"next: rbcnb label {quote(str(options.out))} --reader YOUR_NAME")
    return exit_code


def _images(n: int) -> str:
    return f"{n} image{'s' * (n != 1)}"


def _print_notes(command: str, report: Any) -> int:
    """Prints what a batch noted and left out; returns the exit code."""
    for file, message in report.notes:
        print(f"rbcnb {command}: note: {file}: {message}", file=sys.stderr)
    for file, message in report.errors:
        print(f"rbcnb {command}: left out: {file}: {message.removeprefix(f'{file}: ')}", file=sys.stderr)
    return 1 if report.errors else 0


def _import_labels(options: Namespace) -> int:
    from rbcnb.labels.import_export import import_labels
    from rbcnb.smears.segmented import CELLS_CSV

    errors: list[Exception] = []
    given = {name: getattr(options, name) for name in ("reader", "layout", "smears", "pixel_um")}
    print(import_labels(options.source, options.into, **given, errors=errors))
    if options.into.is_dir() and not (options.into / CELLS_CSV).exists():
        print(f"next, so that they get cells: rbcnb segment SMEARS --out {options.into}")
    for error in errors:
        print(f"rbcnb import-labels: left out: {error}", file=sys.stderr)
    return 1 if errors else 0


def _export_labels(options: Namespace) -> int:
    from rbcnb.labels.import_export import export_labels

    given = {name: getattr(options, name) for name in ("reader", "layout", "smears", "replace")}
    print(export_labels(options.source, options.out, **given))
    return 0


def _train(options: Namespace) -> int:
    from rbcnb.workflow.train import train_model

    training = train_model(
        options.folder,
        reader=options.reader,
        seed=options.seed,
        jobs=options.jobs,
        say=say,
    )
    for note in training.notes:
        print(f"rbcnb train: note: {note}", file=sys.stderr)
    print(f"{training.model}: {training.verdict}\nhow good it is, and its mistakes: {training.page}")
    if training.usable:
        model, counts = (quote(str(path)) for path in (training.model, options.folder.with_name("counts")))
        print(f"next: rbcnb count SMEARS --model {model} --out {counts}")
    else:
        print(f"next: label more cells, of more smears: rbcnb label {options.folder} --reader YOUR_NAME")
    return 0


def _count(options: Namespace) -> int:
    from rbcnb.counting.count import count_files, summary_lines

    _use_models(options.models)
    report = count_files(
        options.paths,
        options.model,
        options.out,
        upscale=options.upscale,
        diameter_px=options.diameter,
        jobs=options.jobs,
        scheduler=options.scheduler,
        mixed=options.mixed,
        replace_count=options.replace,
        say=say,
    )
    n_counted = int(report.smears["n_counted"].sum()) if len(report.smears) else 0
    print(f"{n_counted} cells counted in {report.batch.n_images} smears: {options.out / 'differential.csv'}")
    print("\n".join(summary_lines(report)))
    for smear, warning in report.warnings:
        print(f"rbcnb count: warning: {smear}: {warning}", file=sys.stderr)
    if report.doubtful:
        doubtful = "no smear is without a warning, so the pooled count is doubtful; do not take it for an ordinary one"
        print(f"rbcnb count: warning: {doubtful}", file=sys.stderr)
    exit_code = _print_notes("count", report.batch)
    if report.all_in_doubt:
        refused = "every class is in doubt in these smears, so this is no count; label some of them, and train again"
        print(f"rbcnb count: {refused}", file=sys.stderr)
    return 1 if report.all_in_doubt else exit_code


def _verify(options: Namespace) -> int:
    from rbcnb.workflow.verify import verify_run

    report = verify_run(options.run, against=options.against, tolerance=options.tolerance)
    print("\n".join(report.lines))
    return 0 if report.same and (report.complete or options.partial) else 1


def _report(options: Namespace) -> int:
    from rbcnb.workflow.report import report_run

    print(report_run(options.run))
    return 0


def _publish(options: Namespace) -> int:
    from rbcnb.workflow.publish import publish_run, publish_unfinished

    if options.unfinished:
        print(f"{publish_unfinished(options.run, options.out)}: go on from it with rbcnb reproduce --resume-from")
        return 0
    folder = publish_run(options.run, options.out)
    n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder / 'README.md'}: {n_bytes / 1e6:.1f} MB in all; check it with: rbcnb verify {options.out}")
    return 0


def _results(options: Namespace) -> int:
    from rbcnb.workflow.results import manage_results

    given = {"export": options.export, "into": options.merge_into, "prune": options.prune, "seal": options.seal}
    print(manage_results(options.stores, **given))
    return 0


def _lesson(options: Namespace) -> int:
    from rbcnb.workflow.lesson_page import show_lesson, write_lesson

    if options.html:
        write_lesson(options.html, say=lambda line: print(line, flush=True))
        return 0
    if options.quiet:
        raise ValueError("--quiet is an option of lesson --html: without it the page's address is printed")
    return _page("lesson", show_lesson, options)


def _label(options: Namespace) -> int:
    from rbcnb.workflow.pages import show_labeller

    classes = _names(options, "classes") or None
    given = {name: getattr(options, name) for name in ("reader", "readings", "smears", "flagged", "probs", "um_per_px")}
    return _page("label", lambda **where: show_labeller(options.folder, **given, classes=classes, **where), options)


def _page(command: str, show: Callable[..., None], options: Namespace) -> int:
    """Shows a page until Ctrl-C."""
    try:
        show(port=options.port, browse=not options.no_browser, say=lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print(f"rbcnb {command}: ended", file=sys.stderr)
    return 0


def _fetch(options: Namespace) -> int:
    from rbcnb.smears.chula import fetch_chula

    print(fetch_chula(options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
