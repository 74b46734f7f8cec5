"""Every command that a page gives can be typed as it stands there, and a test or `.ci/full` runs its kind."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rbcnb._utils.read_files import parse_yaml
from rbcnb.cli import _names, _overrides
from rbcnb.cli_arguments import _EXAMPLES, parse_arguments
from rbcnb.study import protocols
from rbcnb.workflow.notebook_parameters import (
    check_parameters,
    declared_parameters,
    find_notebooks,
    load_profile,
    notebooks_folder,
)

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES.remove(ROOT / "docs" / "study.md")  # a plan of before the first fit, whose words stay as they were
CODE = re.compile(r"```[a-z]*\n(.*?)```|^ {4}(\S[^\n]*)$|`([^`]+)`", re.MULTILINE | re.DOTALL)
PROGRAMS = ("rbcnb", "papermill", "jupyter", "python", "pytest", "pip", ".ci/full")
# What runs a command, and each of its options that a page gives: a test, or a part of .ci/full.
RUN_BY = {
    "count": "counting/test_count.py::test_the_command_says_what_it_did",
    "count --model": "workflow/test_road.py::test_four_commands_lead_from_smears_to_a_count",
    "count --out": "workflow/test_road.py::test_four_commands_lead_from_smears_to_a_count",
    "count --scheduler": "_utils/test_dask_cluster.py::test_smears_are_counted_to_the_same_tables",
    "export-labels": "labels/test_import_export.py::test_from_segment_to_the_truth_that_reproduce_reads",
    "export-labels --as": "labels/test_import_export.py::test_from_segment_to_the_truth_that_reproduce_reads",
    "export-labels --smears": "labels/test_import_export.py::test_from_segment_to_the_truth_that_reproduce_reads",
    "fetch": "smears/test_fetch.py::test_the_command_fetches_them_and_prints_where_they_lie",
    "fetch --out": "smears/test_fetch.py::test_the_command_fetches_them_and_prints_where_they_lie",
    "import-labels": "labels/test_merge_readings.py::test_they_find_their_cells_by_place_and_what_was_missed_is_added",
    "import-labels --reader": "labels/test_import_export.py::test_from_segment_to_the_truth_that_reproduce_reads",
    "label": "workflow/test_road.py::test_four_commands_lead_from_smears_to_a_count",
    "label --classes": "workflow/test_labeller_page.py::test_names_that_are_html_are_shown_and_do_nothing",
    "label --flagged": "labels/test_labeller.py::test_the_command_begins_with_the_flagged_cells_in_their_order",
    "label --reader": "workflow/test_labeller_page.py::test_names_that_are_html_are_shown_and_do_nothing",
    "lesson": "workflow/test_lesson_page.py::test_the_command_shows_the_lesson_and_leaves_nothing",
    "lesson --html": "workflow/test_lesson_html.py::test_the_command_writes_the_file_whole",
    "publish": "workflow/test_publish.py::test_published_tables_follow_from_published_predictions",
    "report": "test_plain_papermill.py::test_as_many_of_its_tables_are_recomputed_as_of_a_batch",
    "reproduce": ".ci/full first",
    "reproduce --data": "test_notebooks_on_other_smears.py::on_real_smears",
    "reproduce --only": "test_notebooks_on_other_smears.py::test_a_folder_of_ones_own_smears_with_one_bad_file",
    "reproduce --out": ".ci/full lowest",
    "reproduce --profile": ".ci/full lowest",
    "reproduce --protocol": "test_notebooks_on_other_smears.py::test_a_folder_of_ones_own_smears_with_one_bad_file",
    "reproduce --resume-from": "test_cli.py::test_several_profiles_are_run_one_after_the_other_each_in_its_folder",
    "reproduce --scheduler": "_utils/test_dask_cluster.py::test_notebooks_have_a_cluster_segment_and_train",
    "reproduce --set": "test_notebooks_on_other_smears.py::on_real_smears",
    "reproduce --smears": "test_notebooks_on_other_smears.py::test_a_folder_of_ones_own_smears_with_one_bad_file",
    "reproduce --types": "test_notebooks_on_other_smears.py::on_real_smears",
    "results": "study/test_store.py::test_command_lists_exports_merges_and_prunes",
    "results --seal": "study/test_store.py::test_trials_of_an_earlier_version_are_sealed_once_and_never_fitted_again",
    "segment": "workflow/test_road.py::test_four_commands_lead_from_smears_to_a_count",
    "segment --masks": "segmentation/test_masks.py::test_the_command_writes_masks_that_lie_on_the_cells",
    "segment --out": "workflow/test_road.py::test_four_commands_lead_from_smears_to_a_count",
    "segment --overlays": "segmentation/test_overlay.py::test_the_command_line_draws_and_marks_what_was_not_read",
    "segment --scheduler": "_utils/test_dask_cluster.py::test_smears_are_segmented_to_the_same_tables_and_crops",
    "train": "workflow/test_road.py::test_four_commands_lead_from_smears_to_a_count",
    "verify": ".ci/full first",
    "verify --partial": "workflow/test_publish.py::test_what_could_not_be_checked_is_no_success",
}


def commands_of(text: str) -> Iterator[str]:
    """The commands of `PROGRAMS` in the code of a page: blocks, indented lines, and code within sentences."""
    for match in CODE.finditer(text):
        body = match[1] or match[2] or " ".join(match[3].split())
        for line in body.splitlines():
            for part in re.split(r"&&|;", re.sub(r"\s#.*", "", line)):
                command = re.sub(r"^([A-Z_]+=\S+ )+", "", part.strip())
                if command.split(" ")[0] in PROGRAMS:
                    yield command


COMMANDS = [(page.name, command) for page in PAGES for command in dict.fromkeys(commands_of(page.read_text("utf-8")))]


def of_program(*names: str) -> list[tuple[str, str]]:
    return [(page, command) for page, command in COMMANDS if command.split(" ")[0] in names]


def words_of(command: str) -> list[str]:
    """A command's words; options in brackets may be left out, and are taken here."""
    return shlex.split(re.sub(r"\[(--[^\]]*)\]", r"\1", command))


def is_mention(command: str) -> bool:
    """Whether a sentence only names a command that needs more, as in "what `rbcnb segment` writes"."""
    return len(words_of(command)) <= 2 and command not in ("rbcnb lesson", "rbcnb reproduce")


def parts_of_ci() -> dict[str, str]:
    """The functions of .ci/full: name -> text."""
    return dict(re.findall(r"^(\w+)\(\) \{\n(.*?)^\}", (ROOT / ".ci" / "full").read_text(), re.MULTILINE | re.DOTALL))


def test_commands_are_found_wherever_a_page_has_them():
    page = "`rbcnb\ntrain a`, `rbcnb`:\n\n    A=1 pytest && rbcnb verify b  # c\n\n```sh\nrbcnb report d\n```\n`pip`"
    assert [*commands_of(page)] == ["rbcnb train a", "rbcnb", "pytest", "rbcnb verify b", "rbcnb report d", "pip"]
    assert {program for program in PROGRAMS if not of_program(program)} == set()
    assert len(COMMANDS) > 80


@pytest.mark.parametrize(("page", "command"), of_program("rbcnb"))
def test_a_command_line_is_read_and_something_runs_its_kind(page, command, monkeypatch):
    words = words_of(command)[1:]
    if not words:
        return
    assert words[0] in _EXAMPLES
    if is_mention(command):
        return
    options = parse_arguments(words)
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    lacking = {words[0], *(f"{words[0]} {option}" for option in given)} - set(RUN_BY)
    assert not lacking, f"{page}: add what runs {sorted(lacking)} to RUN_BY"
    if words[0] == "reproduce":
        declared = declared_parameters()
        if page == "add_loss.md":  # what the page adds
            monkeypatch.setattr(protocols, "_LOSSES", (*protocols._LOSSES, "root_weighted"))
        elif page == "add_network.md":
            networks = declared["04_cv_tuning"]["architectures"]
            declared["04_cv_tuning"]["architectures"] = replace(networks, choices=(*networks.choices, "two_layers"))
        for profile in _names(options, "profile"):
            values = load_profile(profile, notebooks_folder() / "profiles") | _overrides(options)
            check_parameters(values, declared)
        assert {path.stem[:2] for path in find_notebooks(_names(options, "only"))}


@pytest.mark.parametrize("key", RUN_BY)
def test_what_runs_a_command_is_there_and_names_it(key):
    command, _, option = key.partition(" ")
    given = [words_of(line)[1:] for _, line in of_program("rbcnb") if not is_mention(line)]
    assert any(words[:1] == [command] and (not option or option in words) for words in given), "no page gives it"
    place = RUN_BY[key]
    if place.startswith(".ci/full "):
        part = place.split(" ")[1]
        assert re.search(rf"rbcnb {command}\b.*{option}", parts_of_ci()[part])
        assert re.search(rf"\|\| parts=\(.*\b{part}\b", (ROOT / ".ci" / "full").read_text())  # without being named
        return
    name, function = place.split("::")
    source = (ROOT / "tests" / name).read_text(encoding="utf-8")
    assert re.search(rf"^def {function}\(", source, re.MULTILINE)
    assert f'"{option or command}"' in source


@pytest.mark.parametrize(("page", "command"), of_program("papermill", "jupyter", "python", "pytest", "pip", ".ci/full"))
def test_files_and_names_of_other_commands_are_there(page, command):
    words = command.split()
    for word in words:
        if word.startswith(("notebooks/", "benchmarks/", "docs/", "tests/")):
            assert (ROOT / word).exists(), page
    if words[0] == "papermill":
        values = {name: parse_yaml(value, name) for name, value in re.findall(r"-p (\S+) (\S+)", command)}
        stem = Path(words[1]).stem
        check_parameters(values, {stem: declared_parameters()[stem]})
    elif words[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for names in re.findall(r"\[([\w,-]+)\]", command):
            assert set(names.split(",")) <= set(extras)
    elif words[0] == ".ci/full":
        pythons = re.search(r"^later_pythons=\((.*)\)", (ROOT / ".ci" / "full").read_text(), re.MULTILINE)[1].split()
        assert set(words[1:]) <= {*parts_of_ci(), *pythons}
