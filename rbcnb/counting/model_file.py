"""One file that holds all it takes to count cells: a network's weights, and how to use them.

The file is in the safetensors format, which has numbers and text and nothing that could run. Its text field ``card`` is
the `ModelCard` as JSON; ``format``, ``version`` and ``digest`` say what it is and whether it arrived whole. The digest
finds damage and careless edits; it is no signature, and does not tell who made the file.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rbcnb._utils.errors import PlainError, WeightsError
from rbcnb._utils.files import atomic_write

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = "rbcnb-model"
VERSION = 1  # of the format: higher when an older reader would misread the file
SUFFIX = ".safetensors"


class ModelFileError(PlainError, ValueError):
    """A model file cannot be used; the message names it and the mend."""


@dataclass(frozen=True)
class ModelCard:
    """What stands beside the weights: how crops are made, what the outputs mean, and where it all came from."""

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

    Raises:
        ValueError: *path* does not end in ``.safetensors``, or a weight is not a finite number.
    """
    import torch
    from safetensors.torch import save

    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"{path}: a model file's name ends in {SUFFIX}")
    # Copies: torch's channels-last tensors are not laid out as the format wants them.
    weights = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }
    if broken := [name for name, value in weights.items() if not torch.isfinite(value).all()]:
        raise ValueError(f"{path}: weights that are no numbers, in {', '.join(broken)}: the fit diverged")
    text = json.dumps(asdict(card), sort_keys=True, allow_nan=False)
    facts = {"format": FORMAT, "version": str(VERSION), "card": text, "digest": _digest(text, weights)}
    with atomic_write(path) as part:
        part.write_bytes(save(weights, metadata=facts))  # save_file would leave a file that its owner alone may read
    return path


def load_model(path: str | Path) -> Model:
    """Reads a file of `save_model`. Nothing in it is run, whatever it holds.

    Raises:
        ModelFileError: no such file; another format; a newer version; cut short, damaged or edited; of a network that
            this version does not know.
    """
    path = Path(path)
    facts, weights = _read(path)
    if facts.get("format") != FORMAT:
        raise ModelFileError(
            f"{path}: holds weights, but not in the format {FORMAT}; export the model with notebook 05_final_evaluation"
        )
    version = facts.get("version", "")
    if version != str(VERSION):
        mend = "update this package" if version.isdecimal() and int(version) > VERSION else "export the model again"
        raise ModelFileError(f"{path}: model format {version or 'unknown'}, this version reads {VERSION}; {mend}")
    text = facts.get("card", "")
    digest = _digest(text, weights)
    if digest != facts.get("digest"):
        raise ModelFileError(
            f"{path}: its contents do not match its checksum: damaged or edited; copy it again from where it was made, "
            "or export the model again"
        )
    return Model(_network(path, card := _card(path, text), weights), card, digest)


def _read(path: Path) -> tuple[dict[str, str], dict[str, "Tensor"]]:
    """The text fields and the tensors of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelFileError(f"{path}: no such file; give the model that notebook 05_final_evaluation exported")
    if (start := path.open("rb").read(4))[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        kind = "a zip archive, such as torch.save makes" if start[:2] == b"PK" else "a pickle"
        raise ModelFileError(
            f"{path}: {kind}; such files can run code when they are loaded and are never opened here: export the model "
            f"again, as {SUFFIX}"
        )
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelFileError(
            f"{path}: no model file, or one cut short or damaged ({error}); copy it again from where it was made"
        ) from None


def _card(path: Path, text: str) -> ModelCard:
    known = {entry.name for entry in fields(ModelCard)}
    try:
        return ModelCard(**{name: value for name, value in json.loads(text).items() if name in known})
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path}: its card cannot be read ({error}); export the model again") from None


def _network(path: Path, card: ModelCard, weights: dict[str, "Tensor"]) -> "nn.Module":
    import torch

    from rbcnb.training.engine import Engine, prepare
    from rbcnb.training.models import ARCHITECTURES, build_model

    if card.architecture not in ARCHITECTURES:
        raise ModelFileError(
            f"{path}: of the architecture {card.architecture!r}, which this version does not know (known: "
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
        raise ModelFileError(
            f"{path}: its weights are not those of {card.architecture} with {len(card.classes)} classes "
            f"({str(error).splitlines()[-1].strip()}); export the model again"
        ) from None
    return prepare(network, Engine(torch.device("cpu"))).eval()


def _digest(text: str, weights: dict[str, "Tensor"]) -> str:
    """Over the card and every tensor's name, type, shape and bytes."""
    import torch

    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name, value in sorted(weights.items()):
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
