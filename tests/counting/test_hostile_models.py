"""Model files whose digest is right and whose content is not: one clear line, soon, and never a traceback."""

import json
import os
import re
import struct
import time
from dataclasses import asdict, fields, replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from rbcnb._utils.errors import InputError
from rbcnb.counting import model_file
from rbcnb.counting.model_file import ModelCard, ModelFileError, load_model, save_model
from rbcnb.counting.smear_shift import MEANING
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.training.models import build_model

K = len(MEANING)
LOOK = {"names": [*MEANING], "looks": [[0.1] * K] * 4, "spread": [0.5] * K, "limit": 2.0, "n_smears": 4}
CARD = ModelCard(
    "small",
    ("codocyte", "hypochromia", "normal"),
    16,
    finder=asdict(FinderSpec(size_px=16)),
    temperature=1.5,
    threshold=0.7,
    sure={"asked": 0.95, "precision": 0.96, "sure": 0.8},
    confusion=[[[5, 0, 0], [0, 5, 0], [0, 0, 5], [1, 1, 1]]] * 3,
    look=LOOK,
    trial={"architecture": "small", "seed": 0, "alpha": None, "pretrained": False},
    scores={"accuracy": 0.9, "auroc": None},
    data="0123",
    run="run",
    fit_version="3",
    package="0.1",
    data_card="Ours.\nOf two lines.",
)
NESTED = '{"a": ' * 50 + "1" + "}" * 50
# As JSON, since some of them no Python value says.
WRONG = [
    *(
        "null",
        "true",
        "[]",
        "[[1, 2], [3]]",
        '["a", "a"]',
        "{}",
        '{"a": [1, {"b": 2}]}',
        NESTED,
        '""',
        '"x\\ny\\ud800"',
    ),
    *("-1", "1e9", "1e999", "NaN", "-Infinity", "0.5", "1" * 400, "1" * 5000, '"' + "x" * 5000 + '"', "[" * 3000),
    *('["codocyte", "normal"]', '["a", "b", "c", "d"]', '["a", "b", 3]', '["a", "b\\nc", "d"]'),
]
FIELDS = [entry.name for entry in fields(ModelCard)]
WITHIN = [*(("finder", entry.name) for entry in fields(FinderSpec)), *(("look", name) for name in LOOK)]
WITHIN += [("sure", "asked"), ("scores", "accuracy"), ("trial", "seed"), ("confusion", 0), ("look", "later")]
# Values that are right, or that a card may have: settings of the fit are told on, and not used.
RIGHT = {("scores", "accuracy"): {"null", "-1", "1e9", "0.5"}, ("trial", "seed"): {"null", "true", '""', "-1", "1e9"}}
RIGHT["trial", "seed"] |= {"0.5"}
RIGHT["sure", "asked"] = RIGHT["threshold",] = RIGHT["finder", "blur"] = {"0.5"}
RIGHT["temperature",] = RIGHT["finder", "radius_min"] = {"0.5"}
RIGHT["look", "limit"] = {"0.5"}
RIGHT["look", "n_smears"] = {"1e9"}
RIGHT["confusion",] = RIGHT["look",] = RIGHT["sure",] = RIGHT["scores",] = RIGHT["trial",] = {"[]", "{}"}
# Of settings that this version does not know the count says so.
RIGHT["finder",] = {"{}", NESTED, '{"a": [1, {"b": 2}]}'}
RIGHT |= {(name,): {'""'} for name in ("data", "run", "fit_version", "package", "finder_weights")}
RIGHT["data_card",] = {'""', '"' + "x" * 5000 + '"'}
RIGHT |= {("finder", name): {"0.5"} for name in ("clahe_clip", "clahe_tile", "min_distance", "edge", "votes")}
RIGHT |= {("finder", "min_score"): {"0.5"}, ("finder", "diameter_px"): {"null"}, ("finder", "expected_px"): {"null"}}
RIGHT |= {("finder", "upscale_where"): {"null"}, ("finder", "white_cells"): {"true"}}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_model("small", 3).eval()


@pytest.fixture(scope="module")
def whole(network, tmp_path_factory):
    path = save_model(network, CARD, tmp_path_factory.mktemp("model") / "model.safetensors")
    load_model(path)  # what is imported for the first model is not timed
    return path


def with_card(path, whole, text):
    """The file *whole* under another name with the card *text*, and the digest that belongs to it."""
    weights = load_file(whole)
    facts = {"format": model_file.FORMAT, "version": "1", "card": text, "digest": model_file._digest(text, weights)}
    save_file(weights, path, metadata=facts)


def refused(path):
    """The message; None where the model is taken."""
    start = time.process_time()
    try:
        load_model(path)
        message = None
    except ModelFileError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        assert "; " in message
        assert len(message) < len(str(path)) + 700
    assert time.process_time() - start < 1
    return message


def test_the_whole_card_is_taken(whole):
    assert load_model(whole).card == CARD


@pytest.mark.parametrize("place", [*((name,) for name in FIELDS), *WITHIN], ids=str)
def test_every_field_with_a_wrong_value_is_one_line(tmp_path, whole, place):
    path, mark = tmp_path / "model.safetensors", "<here>"
    card = json.loads(json.dumps(asdict(CARD)))
    within = card
    for name in place[:-1]:
        within = within[name]
    within[place[-1]] = mark
    outcome = {}
    for wrong in WRONG:
        with_card(path, whole, json.dumps(card).replace(json.dumps(mark), wrong))
        outcome[wrong] = refused(path)
    taken = {wrong for wrong, message in outcome.items() if message is None}
    assert taken <= RIGHT.get(place, set()), taken
    assert sum(message is not None for message in outcome.values()) > 15


@pytest.mark.parametrize("word", ["unsure", " Strike", "S K I P", "=cmd|x!A0", "@a"])
def test_no_class_has_a_name_that_means_something_else_in_a_table(tmp_path, network, whole, word):
    card = replace(CARD, classes=(word, *CARD.classes[1:]))
    path = tmp_path / "model.safetensors"
    why = "a spreadsheet takes that for a formula" if word[0] in "=@" else "that is no class but a key of rbcnb label"
    with_card(path, whole, json.dumps(asdict(card)))
    assert f"its card cannot be used: classes has {word!r}; {why}" in refused(path)
    with pytest.raises(InputError, match=re.escape(why)):
        save_model(network, card, tmp_path / "saved.safetensors")
    assert not (tmp_path / "saved.safetensors").exists()


@pytest.mark.parametrize("text", ["null", "[]", "3", '"card"', "", "{", "{}", "[" * 100_000, '{"a": ' * 500])
def test_a_card_that_is_no_object_is_one_line(tmp_path, whole, text):
    path = tmp_path / "model.safetensors"
    with_card(path, whole, text)
    assert "its card cannot be used" in refused(path)


@pytest.mark.parametrize("name", ["architecture", "classes", "size_px", "finder"])
def test_what_a_card_must_say_is_named(tmp_path, whole, name):
    path, card = tmp_path / "model.safetensors", asdict(CARD)
    del card[name]
    with_card(path, whole, json.dumps(card))
    assert f"it lacks '{name}'" in refused(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_weights_that_give_no_numbers_are_refused(tmp_path, whole, value):
    path, weights, text = tmp_path / "model.safetensors", load_file(whole), json.dumps(asdict(CARD))
    for name, tensor in weights.items():
        if name.endswith("weight"):
            weights[name] = torch.full_like(tensor, value)
    facts = {"format": model_file.FORMAT, "version": "1", "card": text, "digest": model_file._digest(text, weights)}
    save_file(weights, path, metadata=facts)
    assert "no numbers" in refused(path)


def test_weights_of_other_shapes_names_and_types_are_refused(tmp_path, whole):
    path, text = tmp_path / "model.safetensors", json.dumps(asdict(CARD))
    weights = load_file(whole)
    some = next(name for name in weights if name.endswith("weight"))
    without = {name: value for name, value in weights.items() if name != some}
    for changed in (without, without | {some: torch.zeros(2, 2)}, weights | {"more": torch.zeros(1)}, {}):
        digest = model_file._digest(text, changed)
        save_file(changed, path, metadata={"format": "rbcnb-model", "version": "1", "card": text, "digest": digest})
        assert "not those of small" in refused(path)


def test_crops_too_small_for_the_network_are_refused(tmp_path):
    path, deep = tmp_path / "model.safetensors", build_model("densenet121", 3)
    card = ModelCard("densenet121", CARD.classes, 8, finder={})
    assert "cannot read crops of 8 pixels" in refused(save_model(deep, card, path))


def test_files_that_are_no_safetensors_are_one_line(tmp_path, whole):
    path, data = tmp_path / "model.safetensors", whole.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    some = next(name for name in header if name != "__metadata__")
    tensors = []
    for change in (
        {"shape": [2**40]},
        {"data_offsets": [0, 2**50]},
        {"shape": [-1]},
        {"dtype": "F4"},
        {"dtype": "X"},
        {"dtype": None},
    ):
        text = json.dumps(header | {some: header[some] | change}).encode()
        tensors.append(struct.pack("<Q", len(text)) + text + data[8 + size :])
    absurd = struct.pack("<Q", 2**63) + data[8:], struct.pack("<Q", 2**40) + data[8:], struct.pack("<Q", 99) + b"{" * 99
    for damaged in (b"", b"\0", data[:7], os.urandom(5000), *absurd, *tensors):
        path.write_bytes(damaged)
        assert "no model file, or one cut short or damaged" in refused(path)


def test_folders_and_pipes_are_no_models(tmp_path):
    path = tmp_path / "model.safetensors"
    path.mkdir()
    assert "is a folder" in refused(path)
    path.rmdir()
    os.mkfifo(path)
    assert "is a pipe" in refused(path)  # and nobody waits for it


def test_versions_are_shown_short(tmp_path, whole):
    path = tmp_path / "model.safetensors"
    save_file(load_file(whole), path, metadata={"format": model_file.FORMAT, "version": "9" * 100_000})
    assert "this version reads 1" in refused(path)
