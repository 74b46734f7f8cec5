"""Parameters are read off the notebook itself and checked before anything runs."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from rbcnb.workflow.notebook_parameters import (
    Parameter,
    ParameterError,
    check_parameters,
    check_value,
    declared_parameters,
    find_notebooks,
    load_profile,
    notebooks_folder,
    read_parameters,
    with_lists,
)

SOURCE = """\
run: str = "runs"  # folder of the run
protocol: str = "both"  # one of: paper, honest, both
alphas: list[float] = [0.5, 1.0]
epochs: int = 10  # at least 1
pretrained: bool = False
margin: float = 0.02"""


def write_notebook(path: Path, source: str, *, tags: tuple[str, ...] = ("parameters",)) -> Path:
    cell = new_code_cell(source, metadata={"tags": list(tags)})
    nbformat.write(new_notebook(cells=[new_markdown_cell("# hello"), cell]), path)
    return path


@pytest.fixture
def declared(tmp_path):
    return read_parameters(write_notebook(tmp_path / "01_a.ipynb", SOURCE))


def test_names_types_defaults_comments_and_choices_are_read(declared):
    assert list(declared) == ["run", "protocol", "alphas", "epochs", "pretrained", "margin"]
    assert declared["alphas"].type_name == "list[float]"
    assert declared["alphas"].default == [0.5, 1.0]
    assert declared["run"].comment == "folder of the run"
    assert declared["protocol"].choices == ("paper", "honest", "both")
    assert declared["epochs"].choices == ()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("alphas", [1, 2.5], [1.0, 2.5]),
        ("margin", 1, 1.0),
        ("epochs", 3, 3),
        ("pretrained", True, True),
        ("protocol", "paper", "paper"),
    ],
)
def test_right_values_pass(declared, name, value, expected):
    checked = check_value(declared[name], value)
    assert checked == expected
    assert type(checked) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "margin",
            "1e-3",
            r"margin: expected float, got str '1e-3'; in YAML write numbers with a point, such as 1.0e-3",
        ),
        ("epochs", 2.0, "epochs: expected int, got float"),
        ("epochs", True, "epochs: expected int, got bool"),
        ("margin", True, "margin: expected float, got bool"),
        ("pretrained", 1, "pretrained: expected bool, got int"),
        ("alphas", 0.5, r"alphas: expected a list\[float\], got 0.5; write \[0.5\]; .* -y 'alphas: \[\.\.\.\]'"),
        ("pretrained", "false", "pretrained: expected bool, got str 'false'; give True or False"),
        ("alphas", ["a"], "alphas: expected float, got str"),
        ("epochs", 0, "epochs: must be at least 1, got 0"),
        ("alphas", [], "alphas: the list is empty"),
        ("protocol", "fair", "protocol: 'fair' is not one of paper, honest, both"),
        ("run", None, "run: expected str, got NoneType"),
        ("run", {"first": "then"}, """run: expected str, got dict .*; put text in quotes, .* --set 'run="..."'"""),
    ],
)
def test_wrong_values_are_named_with_the_mend(declared, name, value, message):
    with pytest.raises(ParameterError, match=message):
        check_value(declared[name], value)


def test_values_are_dealt_to_those_who_declare_them(declared, tmp_path):
    other = read_parameters(write_notebook(tmp_path / "02_b.ipynb", "seed: int = 1\nepochs: int = 5"))
    dealt = check_parameters({"epochs": 7}, {"01_a": declared, "02_b": other})
    assert dealt["01_a"]["epochs"] == dealt["02_b"]["epochs"] == 7
    assert dealt["02_b"] == {"seed": 1, "epochs": 7}
    assert "seed" not in dealt["01_a"]


def test_every_mistake_is_told_at_once(declared):
    with pytest.raises(ParameterError) as caught:
        check_parameters({"epochss": 3, "margin": "x", "epochs": 2.5}, {"01_a": declared})
    message = str(caught.value)
    assert "epochss: no notebook declares it; did you mean epochs?" in message
    assert "margin: expected float" in message
    assert "epochs: expected int" in message


def test_a_name_like_no_other_gets_the_whole_list(declared):
    with pytest.raises(ParameterError, match="zzz: no notebook declares it; known: alphas, epochs, margin"):
        check_parameters({"zzz": 3}, {"01_a": declared})


def test_lists_may_be_written_as_on_a_command_line():
    given = {"alphas": "0.5, 1", "architectures": "small,resnet50", "arms": "table2", "smears": "a,b", "epochs": 3}
    lists = {"alphas": [0.5, 1], "architectures": ["small", "resnet50"], "arms": ["table2"]}
    assert with_lists(given) == given | lists


@pytest.mark.parametrize(
    ("comment", "inside", "outside"),
    [
        ("at least 0", [0, 1e9], [-1e-9]),
        ("a weight, above 0", [1e-9, 5], [0, -1]),
        ("at most 2.5", [-7, 2.5], [2.6]),
        ("below 1", [0.999], [1, 2]),
        ("at least 0 and below 1", [0, 0.5], [1, -0.1]),
        ("a share, between 0 and 1; 0.02 in the paper", [0, 0.5, 1], [-0.1, 1.1]),
        ("between -1 and 1", [-1, 0], [-1.5]),
        ("the most that may be chosen; the last two decay", [-5, 1e9], []),
    ],
)
def test_bounds_are_read_off_the_comment(tmp_path, comment, inside, outside):
    kinds = read_parameters(
        write_notebook(tmp_path / "01_a.ipynb", f"x: float = 0.5  # {comment}\nxs: list[float] = [0.5]  # {comment}")
    )
    for value in inside:
        assert check_value(kinds["x"], value) == value
        assert check_value(kinds["xs"], [value]) == [value]
    for value in [*outside, float("nan"), float("inf"), -float("inf")]:
        with pytest.raises(ParameterError, match=r"x: must be .*, got "):
            check_value(kinds["x"], value)
        with pytest.raises(ParameterError, match=r"xs: must be .*, got "):
            check_value(kinds["xs"], [0.5, value])


def numbers() -> list[tuple[str, Parameter]]:
    """Every numeric parameter of the six notebooks."""
    return [
        (notebook, parameter)
        for notebook, parameters in declared_parameters().items()
        for parameter in parameters.values()
        if parameter.type_name.removeprefix("list[").removesuffix("]") in ("int", "float")
    ]


@pytest.mark.parametrize(("notebook", "parameter"), numbers(), ids=lambda value: getattr(value, "name", value))
def test_every_number_of_the_notebooks_has_bounds_and_refuses_what_is_none(notebook, parameter):
    wrong = [-1, float("nan"), float("inf")]
    if parameter.name in ("margin", "queue_share", "slip_rate", "reader_error", "planted_errors", "label_smoothings"):
        wrong.append(1.5)
    for value in wrong:
        given = [value] if parameter.type_name.startswith("list") else value
        with pytest.raises(ParameterError, match=f"^{parameter.name}: "):
            check_parameters({parameter.name: given}, {notebook: {parameter.name: parameter}})


@pytest.mark.parametrize(
    ("source", "tags", "message"),
    [
        ("a = 1", ("parameters",), "line 1: write 'name: type = literal'"),
        ("a: int = 1\nb: dict = {}", ("parameters",), "line 2: type 'dict' is not one of"),
        ("a: int = 1", (), "needs exactly one cell tagged 'parameters', has 0"),
    ],
)
def test_bad_parameter_cells_are_named(tmp_path, source, tags, message):
    with pytest.raises(ParameterError, match=message):
        read_parameters(write_notebook(tmp_path / "01_a.ipynb", source, tags=tags))


def test_profiles_are_found_by_name_or_path(tmp_path):
    (tmp_path / "mine.yaml").write_text("epochs: 3\n")
    assert load_profile("mine", tmp_path) == load_profile(tmp_path / "mine.yaml", tmp_path) == {"epochs": 3}
    with pytest.raises(ParameterError, match="no profile 'yours'; known: mine"):
        load_profile("yours", tmp_path)
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ParameterError, match="must be a mapping"):
        load_profile("list", tmp_path)
    (tmp_path / "torn.yaml").write_text("a: [1,\n")
    with pytest.raises(ParameterError, match="not readable as YAML"):
        load_profile("torn", tmp_path)


@pytest.mark.parametrize("profile", sorted(path.stem for path in notebooks_folder().glob("profiles/*.yaml")))
def test_shipped_profiles_fit_the_shipped_notebooks(profile):
    notebooks = {path.stem: read_parameters(path) for path in find_notebooks()}
    check_parameters(load_profile(profile, notebooks_folder() / "profiles"), notebooks)


def test_paper_profile_holds_the_published_settings():
    from rbcnb.paper import SETTINGS

    values = load_profile("paper", notebooks_folder() / "profiles")
    assert values["alphas"] == list(SETTINGS["alphas"])
    assert (values["epochs"], values["batch_size"], values["gamma"]) == (100, 32, 2.0)
    assert (values["learning_rate"], values["n_folds"], values["size_px"]) == (0.001, 5, 224)
    assert sorted(values["architectures"]) == ["densenet121", "resnet50"]
    assert values["n_smears"] == 22
