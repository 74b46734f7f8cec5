"""Which image a name in somebody's table means, which names an image cannot have, and which classes are the same."""

import difflib
import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from rbcnb._utils.spreadsheet import is_formula
from rbcnb.columns import CLASSES, NO_CLASSES
from rbcnb.smears.decode import IMAGE_SUFFIXES, UNREAD_SUFFIXES

UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")  # line breaks, other controls, broken text
NO_CLASS_FAULT = "that is no class but a key of rbcnb label; name the class"
_BROKEN = re.compile(r"[\ud800-\udfff]")  # bytes of a name that are no text
_LONGEST = 230  # bytes: file systems allow 255, and temporary names are longer than the file's own
_MOST_NEAR = 3  # names that a message offers


def name_fault(image: str | Path) -> str:
    """Why an image, a path or a name out of a table, cannot be done under its name, and the remedy; "" where it can.

    A smear's name stands in tables, readings and file names, so that all of them must be able to hold it, and none may
    run it.
    """
    name = image.name if isinstance(image, Path) else image
    stem, place = Path(name).stem, str(image.absolute()) if isinstance(image, Path) else name
    if _BROKEN.search(place):
        what = "its name" if _BROKEN.search(name) else "the name of its folder"
        if sys.getfilesystemencoding().lower() != "utf-8":
            return f"{what} has letters that Python cannot read under this locale; set PYTHONUTF8=1, or rename it"
        return f"{what} is not text in UTF-8; rename it"
    if UNFIT.search(name):
        return "its name has a line break or another control character, which no reading can hold; rename it"
    if not name or name.startswith("."):
        return "its name begins with a dot, as do names of hidden and unfinished files; rename it"
    if is_formula(name):
        return f"its name begins with {name[0]}, so that a spreadsheet would run it as a formula; rename it"
    if len(os.fsencode(stem)) > _LONGEST:
        return f"its name is too long for a folder of crops; keep to {_LONGEST} bytes"
    if "/" in name:
        return "its name leads to another folder; correct the table"
    if "\\" in name:
        return "its name has a backslash, which stands between folders on Windows; rename it"
    return ""


def shown(text: object) -> str:
    """*text* in one line that every file and terminal in UTF-8 can hold: other characters of names are escaped."""
    return UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


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
    """The class that each label stands for, where spellings differ in capitals, spaces or unseen letters alone.

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
        f"{', '.join(sorted(labels))} and {name!r} differ in capitals, spaces or unseen letters alone and are taken "
        f"for {name!r}"
        for name, labels in by_class.items()
    ]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", _visible(file_name(name)))


def _visible(text: str) -> str:
    """*text* without characters that nobody sees, such as a space of no width."""
    return "".join(letter for letter in text if unicodedata.category(letter) != "Cf")


def _stem(name: str) -> str:
    return _composed(name).casefold().removesuffix(_ending(name))


def _ending(name: str) -> str:
    """The ending of an image's name, in small letters; empty where the name has none."""
    _, dot, ending = file_name(name).casefold().rpartition(".")
    return f"{dot}{ending}" if f"{dot}{ending}" in (*IMAGE_SUFFIXES, *UNREAD_SUFFIXES) else ""


def _folder(name: str) -> str:
    return name.removesuffix(file_name(name))


def class_key(label: str) -> str:
    """What spellings of one class share: no capitals, no spaces, nothing that is not seen."""
    return "".join(unicodedata.normalize("NFC", _visible(label)).casefold().split())


def is_no_class(label: str) -> bool:
    """Whether *label* is a word that stands in place of a class, in whatever capitals and spaces."""
    return class_key(label) in NO_CLASSES


def _nearest(name: str, known: list[str], among: str) -> str:
    in_small_letters = {image.casefold(): image for image in known}
    near = difflib.get_close_matches(_composed(name).casefold(), in_small_letters, n=_MOST_NEAR, cutoff=0.4)
    nearest = "the nearest names are" if near[1:] else "the nearest name is"
    offer = f"{nearest} {', '.join(in_small_letters[key] for key in near)}"
    if not near:
        more = f" and {len(known) - _MOST_NEAR} more" if len(known) > _MOST_NEAR else ""
        offer = f"there {'is' if len(known) < 2 else 'are'} {', '.join(known[:_MOST_NEAR]) or 'none'}{more}"
    return f"is not among the {among}: {offer}; correct the name, add the image or drop the row"


# From the name as it is written to ever freer readings of it.
_KEYS: tuple[Callable[[str], str], ...] = (str, _composed, lambda name: _composed(name).casefold(), _stem)
