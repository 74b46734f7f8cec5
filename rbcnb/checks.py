"""What the checks of the paper share: the shape of a row, the names they print, a claim's quote."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from rbcnb.printed import count_behind
from rbcnb.published import CLAIMS

ARCHITECTURES: Mapping[str, str] = MappingProxyType({"densenet121": "DenseNet-121", "resnet50": "ResNet-50"})
SCORE_NAMES: Mapping[str, str] = MappingProxyType({"accuracy": "accuracy", "macro_f1": "F1", "auroc": "AUROC"})


class Check(NamedTuple):
    """A published number or claim beside what it comes to; see `rbcnb.paper.recomputation`."""

    claim: str  # id in CLAIMS, or empty
    place: str
    number: str
    published: str
    recomputed: str
    agrees: bool | None  # None: a remark rather than a check
    remark: str


def quote(claim_id: str) -> str:
    """The words of a claim."""
    return next(claim.quote for claim in CLAIMS if claim.id == claim_id)


def fits(accuracies: Sequence[float], sizes: Sequence[int]) -> dict[int, int]:
    """How many accuracies are a whole number of right cells, by the decimals they fit to."""
    found = [count_behind(accuracy, n) for accuracy, n in zip(accuracies, sizes, strict=True)]
    return {decimals: sum(fit is not None and fit[1] == decimals for fit in found) for decimals in (2, 1)}
