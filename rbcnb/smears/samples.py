"""Samples of any depth as 8 bits; the error of a file that is not read, and the warning of one read in part."""

import numpy as np

MAX_PIXELS = 200_000_000  # a decoded smear of this size fills 600 MB


class SmearError(ValueError):
    """A smear, or its labels, cannot be read; the message names the file and the mend."""


class SmearWarning(UserWarning):
    """What was guessed or left out when a smear, or a folder of them, was read; the message names the file."""


def check_size(width: int, height: int, path: object) -> None:
    """Raises SmearError for more pixels than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise SmearError(f"{path}: {width} x {height} is over {MAX_PIXELS // 10**6} million pixels; cut it into tiles")


def eight_bits(values: np.ndarray, path: object, notes: list[str]) -> np.ndarray:
    """Samples of any type and shape as uint8; what had to be guessed goes to *notes*.

    Deep integers keep their highest bits: the highest bit that any sample uses is taken for a depth of 8, 10, 12, 14 or
    16. Floats between 0 and 1 are black to white; other floats must be whole numbers, and are read as those. Raises
    SmearError for NaN, for samples below 0 or above 65535, and for fractions above 1.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    low, high = values.min(), values.max()
    fractions = values.dtype.kind == "f" and not (values == np.rint(values)).all()
    if not (low >= 0 and high <= 65535) or (fractions and high > 1):  # so put that NaN fails, too
        raise SmearError(
            f"{path}: its samples ({values.dtype}, {low:g} to {high:g}) are not 8 or 16 bit; "
            "save it as 8-bit PNG or TIFF, or scaled to 0 to 1"
        )
    if values.dtype.kind == "f" and high <= 1:
        notes.append(f"its {values.dtype} samples lie between 0 and 1, read as black to white")
        return np.rint(values * 255).astype(np.uint8)
    used = int(high).bit_length()
    bits = next(bits for bits in (8, 10, 12, 14, 16) if used <= bits) if used else 16
    if bits < 16:
        notes.append(f"its {8 * values.dtype.itemsize}-bit samples use {used} bits, read as a camera's {bits}")
    return (values.astype(np.uint16) >> (bits - 8)).astype(np.uint8)
