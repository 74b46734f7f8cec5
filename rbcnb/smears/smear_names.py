"""Which image a name in somebody's table means, and which spellings of a class are the same class."""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from rbcnb.columns import CLASSES
from rbcnb.smears.decode import IMAGE_SUFFIXES, UNREAD_SUFFIXES

_MOST_NEAR = 3  # names that a message offers


def file_name(text: str) -> str:
    r"""The last part of a path, of Windows (``C:\a\b.png``) or any other: ``b.png``."""
    return re.split(r"[/\\]", text)[-1]


def match_names(
    names: Iterable[str], known: Iterable[str], *, among: str = "images"
) -> tuple[dict[str, str], dict[str, str]]:
    """Finds the image that each name means, however it is written.

    A name may have a path, other capitals, another Unicode form, another ending or none. It is matched by the first of
    these liberties that leads to an image, and only where it leads to one. Names that differ in their folder or their
    ending mean different images, so that at most one of them is matched, the one that is written as the image is.

    Args:
        names: as a table has them.
        known: file names of the images there are.
        among: what these are, for messages.

    Returns:
        name -> image for those that are matched, and name -> why not for the others.
    """
    names, known = list(dict.fromkeys(names)), list(dict.fromkeys(known))
    steps = [{} for _ in _KEYS]
    for key, images in zip(_KEYS, steps, strict=True):
        for image in known:
            images.setdefault(key(image), []).append(image)
    matched, unmatched = {}, {}
    for name in names:
        images = next((step[key(name)] for key, step in zip(_KEYS, steps, strict=True) if key(name) in step), [])
        if len(images) == 1:
            matched[name] = images[0]
        else:
            unmatched[name] = (
                f"may mean {' or '.join(images)}; write the whole name" if images else _nearest(name, known, among)
            )
    meaning: dict[str, list[str]] = {}
    for name, image in matched.items():
        meaning.setdefault(image, []).append(name)
    for image, namesakes in meaning.items():
        if (
            len({_folder(name) for name in namesakes} - {""}) > 1
            or len({_ending(name) for name in namesakes} - {""}) > 1
        ):
            for name in namesakes:
                if name != image:
                    others = ", ".join(repr(other) for other in namesakes if other != name)
                    unmatched[name] = f"may mean {image}, as may {others}; write {image} where it is meant"
                    del matched[name]
    return matched, unmatched


def join_spellings(labels: Iterable[str] | Mapping[str, int], *, known: Iterable[str] = ()) -> dict[str, str]:
    """The class that each label stands for, where spellings differ in capitals or spaces alone.

    Of several spellings the one in *known* is taken, else the paper's, else the most frequent, else the first. A class
    that is spelt in one way only keeps it, unless *known* has another.

    Args:
        labels: as a table has them, once for each cell; or each with the number of its cells.
        known: classes that are in use already.

    Returns:
        label -> class, for the labels that change.
    """
    counts, known = Counter(labels), list(known)
    spellings: dict[str, list[str]] = {}
    for label in counts:
        spellings.setdefault(class_key(label), []).append(label)
    in_use = {class_key(name): name for name in reversed(known)}
    joined = {}
    for key, variants in spellings.items():
        ours = [name for name in variants if name in CLASSES]
        usual = ours[0] if ours else max(variants, key=lambda name: counts[name])
        chosen = next((name for name in variants if name in known), in_use.get(key, usual))
        joined |= {name: chosen for name in variants if name != chosen}
    return joined


def spelling_notes(joined: dict[str, str]) -> list[str]:
    """A sentence for each class of which `join_spellings` joined spellings."""
    by_class: dict[str, list[str]] = {}
    for label, name in joined.items():
        by_class.setdefault(name, []).append(repr(label))
    return [
        f"{', '.join(sorted(labels))} and {name!r} differ in capitals or spaces alone and are taken for {name!r}"
        for name, labels in by_class.items()
    ]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", file_name(name))


def _stem(name: str) -> str:
    return _composed(name).casefold().removesuffix(_ending(name))


def _ending(name: str) -> str:
    """The ending of an image's name, in small letters; empty where the name has none."""
    _, dot, ending = file_name(name).casefold().rpartition(".")
    return f"{dot}{ending}" if f"{dot}{ending}" in (*IMAGE_SUFFIXES, *UNREAD_SUFFIXES) else ""


def _folder(name: str) -> str:
    return name.removesuffix(file_name(name))


def class_key(label: str) -> str:
    """What spellings of one class share: no capitals, no spaces."""
    return "".join(unicodedata.normalize("NFC", label).casefold().split())


def _nearest(name: str, known: list[str], among: str) -> str:
    in_small_letters = {image.casefold(): image for image in known}
    near = difflib.get_close_matches(_composed(name).casefold(), in_small_letters, n=_MOST_NEAR, cutoff=0.4)
    nearest = "the nearest names are" if near[1:] else "the nearest name is"
    offer = f"{nearest} {', '.join(in_small_letters[key] for key in near)}"
    if not near:
        offer = f"there are {', '.join(known[:_MOST_NEAR]) or 'none'} and {max(0, len(known) - _MOST_NEAR)} more"
    return f"is not among the {among}: {offer}; mend the name, add the image or drop the row"


# From the name as it is written to ever freer readings of it.
_KEYS: tuple[Callable[[str], str], ...] = (str, _composed, lambda name: _composed(name).casefold(), _stem)
