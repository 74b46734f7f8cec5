"""Damage in the middle of a file that decoders pass over in silence: JPEG data that do not add up, PNG checksums."""

import re
import zlib

import simplejpeg

# What libjpeg says of codes that are wrong; of other things that it does not take, such as rare ways of subsampling,
# Pillow is the judge.
_DAMAGE = re.compile(r"Corrupt JPEG|Premature end|Unsupported marker|Invalid JPEG file|Bogus|Unsupported JPEG process")
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")  # the end of the image
_FEW_BYTES = 2  # left over; some cameras write as many behind a sound image


class DamageError(ValueError):
    """Part of the image is damaged."""


def check_png(data: bytes) -> None:
    """Raises DamageError where a checksum of the pixels, or of what they need, is wrong; Pillow does not look at it."""
    position = 8
    while position + 12 <= len(data):
        size, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        end = position + 8 + size
        needed = kind[:1].isupper()  # the others hold text, times and the like
        if (
            needed
            and end + 4 <= len(data)
            and zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big")
        ):
            raise DamageError("a checksum is wrong")
        position = end + 4


def check_jpeg(data: bytes) -> str:
    """Returns a note where a JPEG holds more data than its image needs; raises DamageError where they are damaged.

    libjpeg warns of a wrong code and goes on with whatever it finds, shifted and in other colours, or in grey. Pillow
    drops its warnings; here they are heeded. The pixels are made at an eighth of their size, which reads all the codes.
    """
    try:
        simplejpeg.decode_jpeg(data, min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        if left := _LEFT_OVER.search(str(error)):
            n_bytes = int(left.group(1))
            return f"{n_bytes} bytes of its data are left over" if n_bytes > _FEW_BYTES else ""
        if _DAMAGE.search(str(error)):
            raise DamageError(str(error)) from error
    return ""
