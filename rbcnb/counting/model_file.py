"""One file that holds all it takes to count cells: a network's weights, and how to use them.

The file is in the safetensors format, which has numbers and text and nothing that could run. Its text field ``card`` is
the `ModelCard` as JSON; ``format``, ``version`` and ``digest`` say what it is and whether it arrived whole. The digest
finds damage and careless edits; it is no signature, and does not tell who made the file.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np

from rbcnb._utils.errors import InputError, PlainError, WeightsError
from rbcnb._utils.files import atomic_write
from rbcnb._utils.read_files import cause_of, require_file, shown
from rbcnb._utils.spreadsheet import FORMULA_FAULT, is_formula
from rbcnb.counting.smear_shift import MEANING
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.smears.smear_names import NO_CLASS_FAULT, is_no_class

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = "rbcnb-model"
VERSION = 1  # of the format: higher when an older reader would misread the file
SUFFIX = ".safetensors"
_MOST_CHARACTERS = 10_000_000  # of a card
_MOST_PX = 4096  # side of a crop; a card could ask for any memory
_PROBE_PX = 224  # a network is tried on images no larger than this
_AGAIN = "export the model again"
_TYPES_IN_WORDS = {
    "string": "a short text",
    "number": "a number from -1e4 to 1e4",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
}


class ModelFileError(PlainError, ValueError):
    """A model file cannot be used; the message names it and the remedy."""


@dataclass(frozen=True)
class ModelCard:
    """What a model file holds beside the weights: how crops are made, what the outputs mean, and the model's origin."""

    architecture: str  # a key of rbcnb.training.ARCHITECTURES
    classes: tuple[str, ...]  # in the order of the outputs
    size_px: int  # side of a crop
    finder: dict[str, Any]  # `rbcnb.segmentation.FinderSpec` that made the crops
    temperature: float = 1.0  # logits are divided by it before the softmax
    threshold: float = 0.0  # a cell whose largest probability is lower is unsure
    sure: dict[str, float] = field(
        default_factory=dict
    )  # how the threshold was chosen, see `rbcnb.counting.abstention`
    confusion: list = field(
        default_factory=list
    )  # [groups, classes + 1, classes]: out-of-fold outcomes (the last one is unsure) by true class
    look: dict[str, Any] = field(default_factory=dict)  # `smear_shift.Reference` of the smears trained on
    trial: dict[str, Any] = field(default_factory=dict)  # settings of the fit
    scores: dict[str, float | None] = field(default_factory=dict)  # on the test set; None where undefined
    data: str = ""  # digest of the cells, labels, splits and crops (`rbcnb.training.hash_data`)
    run: str = ""  # name of the run's folder
    fit_version: str = ""  # `rbcnb.training.FIT_VERSION` of the fit
    package: str = ""  # version of rbcnb
    data_card: str = ""  # the text of the run's data card
    finder_weights: str = ""  # digest of the learned finder's weights, where it had a say in the cells

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))


@dataclass(frozen=True, eq=False)
class Model:
    """A network ready to predict, on the CPU and in eval mode, with its card and the digest of both."""

    network: "nn.Module"
    card: ModelCard
    digest: str


def save_model(network: "nn.Module", card: ModelCard, path: str | Path) -> Path:
    """Writes *network* and *card* to *path*, whole or not at all; returns the path.

    Args:
        network: of the card's architecture and classes, which `load_model` checks; on any device.
        card: how crops are made, what the outputs mean, and the model's origin.
        path: file to write, which ends in ``.safetensors``; one that is there is replaced.

    Raises:
        ValueError: *path* does not end in ``.safetensors``, or a weight, or a number of *card*, is not finite.
        InputError: a class of *card* has a name that no class can have.
    """
    import torch
    from safetensors.torch import save

    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"{path}: a model file's name ends in {SUFFIX}")
    _check_classes(card.classes)
    # Copies: torch's channels-last tensors are not laid out as the format wants them.
    weights = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }
    if broken := [name for name, value in weights.items() if not torch.isfinite(value).all()]:
        raise ValueError(f"{path}: weights that are no numbers, in {', '.join(broken)}: the fit diverged")
    text = json.dumps(asdict(card), sort_keys=True, allow_nan=False)
    facts = {"format": FORMAT, "version": str(VERSION), "card": text, "digest": _digest(text, weights)}
    with atomic_write(path, durable=True) as part:
        part.write_bytes(save(weights, metadata=facts))  # save_file would leave a file that its owner alone may read
    return path


def load_model(path: str | Path) -> Model:
    """Reads a file of `save_model`. Nothing in it is run, whatever it holds.

    Args:
        path: the model file.

    Raises:
        ModelFileError: no such file; another format, or another version of it; cut short, damaged or edited; of a
            network that this version does not know; a card with an impossible value, or weights that are not finite.
    """
    path = Path(path)
    facts, weights, digest = _read(path)
    if facts.get("format") != FORMAT:
        raise ModelFileError(
            f"{path}: holds weights, but not in the format {FORMAT}; export the model with notebook 05_final_evaluation"
        )
    version = facts.get("version", "")
    if version != str(VERSION):
        remedy = (
            "update this package"
            if version[:9].isdecimal() and int(version[:9]) > VERSION
            else "export the model again"
        )
        format_of = f"model format {version[:50] or 'unknown'}"
        raise ModelFileError(f"{path}: {format_of}, this version reads {VERSION}; {remedy}")
    if digest != facts.get("digest"):
        raise ModelFileError(
            f"{path}: its contents do not match its checksum: damaged or edited; copy it again from where it was made, "
            "or export the model again"
        )
    return Model(_network(path, card := _card(path, facts.get("card", "")), weights), card, digest)


def _read(path: Path) -> tuple[dict[str, str], dict[str, "Tensor"], str]:
    """The text fields and the tensors of a safetensors file, and the digest that they should have."""
    from safetensors import SafetensorError, safe_open

    remedy = "give the model that rbcnb train or notebook 05_final_evaluation exported"
    require_file(path, remedy=remedy, error=ModelFileError)
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        kind = "a zip archive, such as torch.save makes" if start[:2] == b"PK" else "a pickle"
        raise ModelFileError(
            f"{path}: {kind}; such files can run code when they are loaded and are never opened here: export the model "
            f"again, as {SUFFIX}"
        )
    # The last three are what the library and torch raise for a type of number that they do not know.
    faults = (SafetensorError, OSError, MemoryError, ValueError, RuntimeError, TypeError, AttributeError)
    try:
        with safe_open(path, framework="pt") as file:
            facts = dict(file.metadata() or {})
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return facts, weights, _digest(facts.get("card", ""), weights)
    except faults as error:
        raise ModelFileError(
            f"{path}: no model file, or one cut short or damaged ({cause_of(error)}); copy it again from where it was "
            "made"
        ) from None


def _card(path: Path, text: str) -> ModelCard:
    known = {entry.name for entry in fields(ModelCard)}
    try:
        if len(text) > _MOST_CHARACTERS:
            raise InputError(f"it has more than {_MOST_CHARACTERS} characters")
        facts = json.loads(text, parse_constant=_refuse_constant)
        facts = {name: value for name, value in facts.items() if name in known} if isinstance(facts, dict) else facts
        _check_facts(facts)
        return ModelCard(**facts | {"size_px": int(facts["size_px"])})
    except (ValueError, RecursionError) as error:
        cause = str(error) if isinstance(error, InputError) else cause_of(error)
        raise ModelFileError(f"{path}: its card cannot be used: {cause}; {_AGAIN}") from None


def _refuse_constant(name: str) -> None:
    raise InputError(f"it holds {name}, which is no number")


def _check_facts(facts: Any) -> None:
    """Raises InputError for the first thing in a card's *facts* that cannot be; the message names it."""
    wrong = next(_card_validator().iter_errors(facts), None)
    if wrong is not None:
        where = ".".join(map(str, wrong.absolute_path)) or "it"
        if wrong.validator == "required":
            raise InputError(f"it lacks {shown(next(name for name in wrong.validator_value if name not in facts))}")
        wanted = wrong.schema.get("description") or f"be of type {wrong.schema.get('type')}"
        raise InputError(f"{where[:100]} is {shown(wrong.instance)}, and must {wanted}")
    settings = {entry.name for entry in fields(FinderSpec)}  # a count refuses others
    FinderSpec(**{name: value for name, value in facts["finder"].items() if name in settings})
    _check_classes(facts["classes"])
    n_classes = len(facts["classes"])
    if confusion := facts.get("confusion"):
        _check_array("confusion", confusion, (None, n_classes + 1, n_classes), low=0, high=1e9)
    if look := facts.get("look"):
        n_names = len(look["names"])
        _check_array("look.looks", look["looks"], (None, n_names), low=-1e6, high=1e6)
        _check_array("look.spread", look["spread"], (n_names,), low=1e-6, high=1e6)


def _check_classes(classes: Sequence[str]) -> None:
    """Raises InputError for the first of *classes* that would be taken for something else in a table."""
    for name in classes:
        if fault := NO_CLASS_FAULT if is_no_class(name) else FORMULA_FAULT if is_formula(name) else "":
            raise InputError(f"classes has {shown(name)}; {fault}")


def _check_array(name: str, values: list, shape: tuple[int | None, ...], *, low: float, high: float) -> None:
    """Raises InputError unless *values* are numbers within *low* and *high*, of *shape* (None: any size but 0)."""
    try:
        array = np.array(values)
    except (ValueError, OverflowError):  # lists of several lengths, or a number of hundreds of digits
        array = np.array(None)
    fits = (
        array.ndim == len(shape) and array.size and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    )
    if not (fits and array.dtype.kind in "iuf" and ((low <= array) & (array <= high)).all()):
        sizes = " x ".join("any" if n is None else str(n) for n in shape)
        raise InputError(f"{name} is {shown(values)}, and must be {sizes} numbers from {low:g} to {high:g}")


@cache
def _card_validator() -> Any:
    """Of the types and ranges in a card, by JSON Schema; what depends on two values stands in `_check_facts`."""
    from jsonschema import Draft202012Validator

    # No control characters, no broken text: names go into tables, pictures and pages.
    name = {
        "type": "string",
        "minLength": 1,
        "maxLength": 200,
        "pattern": r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+\Z",
        "description": "be a name: text in one line of at most 200 characters",
    }
    text = {"type": "string", "pattern": r"^[^\ud800-\udfff]*\Z", "description": "be text"}
    short = {**text, "maxLength": 300, "pattern": r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*\Z"}
    short["description"] = "be text in one line of at most 300 characters"
    number = {"type": "number", "minimum": -1e15, "maximum": 1e15, "description": "be a number"}
    share = {"type": "number", "minimum": 0, "maximum": 1, "description": "be a number from 0 to 1"}
    plain = {"type": ["string", "number", "boolean", "null"], "minimum": -1e15, "maximum": 1e15, "maxLength": 300}
    plain["description"] = "be a number, a short text, true, false or null"
    plain["pattern"] = short["pattern"]

    def names_and(values: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "maxProperties": 200,
            "propertyNames": name,
            "additionalProperties": values,
            "description": "be names and values",
        }

    look = {
        "names": {
            "type": "array",
            "items": {"enum": [*MEANING], "description": f"be one of {', '.join(MEANING)}"},
            "uniqueItems": True,
            "minItems": 1,
            "description": "be a list of different names",
        },
        "looks": {"type": "array", "description": "be a list"},
        "spread": {"type": "array", "description": "be a list"},
        "limit": {"type": "number", "minimum": 0, "maximum": 1e6, "description": "be a number from 0 to 1e6"},
        "n_smears": {"type": "integer", "minimum": 1, "maximum": 1e9, "description": "be a whole number above 0"},
    }
    finder = {entry: _schema_of(hint) for entry, hint in get_type_hints(FinderSpec).items()}
    finder["size_px"] = _whole_number(8, _MOST_PX)
    properties = {
        "architecture": name,
        "classes": {
            "type": "array",
            "minItems": 2,
            "maxItems": 1000,
            "items": name,
            "uniqueItems": True,
            "description": "be a list of 2 to 1000 different names",
        },
        "size_px": _whole_number(8, _MOST_PX),
        "finder": {
            "type": "object",
            "maxProperties": 200,
            "propertyNames": name,
            "properties": finder,
            "description": "be names and values",
        },
        "temperature": {"type": "number", "minimum": 1e-3, "maximum": 1e6, "description": "be a number above 0"},
        "threshold": share,
        "sure": names_and(share),
        "confusion": {"type": "array", "description": "be a list"},
        "look": {
            "type": "object",
            "properties": look,
            "additionalProperties": False,
            # Empty where there were too few smears to tell a spread.
            "if": {"minProperties": 1},
            "then": {"required": [*look]},
            "description": f"be empty, or have {', '.join(look)} and nothing else",
        },
        "trial": names_and(plain),
        "scores": names_and({**number, "type": ["number", "null"], "description": "be a number or null"}),
        **dict.fromkeys(("data", "run", "fit_version", "package", "finder_weights"), short),
        "data_card": text,
    }
    required = ["architecture", "classes", "size_px", "finder"]
    schema = {"type": "object", "required": required, "properties": properties, "description": "be names and values"}
    return Draft202012Validator(schema)


def _whole_number(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high, "description": f"be a whole number, {low} to {high}"}


def _schema_of(hint: Any) -> dict[str, Any]:
    """JSON Schema of a plain type, or of one or None, as a dataclass declares it."""
    words = {str: "string", float: "number", int: "integer", bool: "boolean", type(None): "null"}
    types = [words[kind] for kind in getattr(hint, "__args__", (hint,))]
    description = f"be {' or '.join(_TYPES_IN_WORDS[name] for name in types)}"
    # A setting of a finder in pixels, diameters or grey levels: any larger only fills the memory.
    return {"type": types, "minimum": -1e4, "maximum": 1e4, "maxLength": 50, "description": description}


def _network(path: Path, card: ModelCard, weights: dict[str, "Tensor"]) -> "nn.Module":
    import torch

    from rbcnb.training.engine import Engine, prepare
    from rbcnb.training.models import ARCHITECTURES, build_model

    if card.architecture not in ARCHITECTURES:
        raise ModelFileError(
            f"{path}: of the architecture {shown(card.architecture)}, which this version does not know (known: "
            f"{', '.join(ARCHITECTURES)}); update this package"
        )
    with torch.random.fork_rng(devices=[]):  # the random weights that are about to be replaced are nobody's business
        try:
            network = build_model(card.architecture, len(card.classes))
        except WeightsError as error:
            raise ModelFileError(f"{path}: {error}") from None
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        misfit = str(error).splitlines()[-1].strip()[:200]
        raise ModelFileError(
            f"{path}: its weights are not those of {card.architecture} with {len(card.classes)} classes ({misfit}); "
            f"{_AGAIN}"
        ) from None
    if broken := [name for name, value in network.state_dict().items() if not torch.isfinite(value).all()]:
        raise ModelFileError(f"{path}: weights that are no numbers, in {', '.join(broken)[:200]}; {_AGAIN}")
    network = prepare(network, Engine(torch.device("cpu"))).eval()
    _try_out(path, network, card)
    return network


def _try_out(path: Path, network: "nn.Module", card: ModelCard) -> None:
    """Raises ModelFileError where *network* gives no numbers for plain images of the card's size."""
    import torch

    from rbcnb.training.normalise import normalise

    size = min(card.size_px, _PROBE_PX)
    ramp = torch.arange(size, dtype=torch.float32) * (255 / size)
    images = torch.stack([torch.zeros(size, size), ramp.expand(size, size), 255 - ramp.expand(size, size).T])
    try:
        with torch.inference_mode():
            logits = network(normalise(images.to(torch.uint8)[..., None].expand(-1, -1, -1, 3)))
    except RuntimeError as error:
        raise ModelFileError(
            f"{path}: {card.architecture} cannot read crops of {card.size_px} pixels ({cause_of(error)}); {_AGAIN}"
        ) from None
    if not torch.isfinite(logits).all():
        raise ModelFileError(f"{path}: its weights are so large that its network gives no numbers; {_AGAIN}")


def _digest(text: str, weights: dict[str, "Tensor"]) -> str:
    """Over the card and every tensor's name, type, shape and bytes."""
    import torch

    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name, value in sorted(weights.items()):
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
