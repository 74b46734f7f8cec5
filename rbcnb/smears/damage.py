"""Damage in the middle of a file that decoders pass over in silence: JPEG data that do not add up, PNG checksums."""

import functools
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

_MARKER = re.compile(rb"\xff+[^\x00\xff]", re.DOTALL)
_SOI, _EOI, _SOS, _DHT, _DQT, _DRI, _RST0 = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD, 0xD0
_BASELINE = (0xC0, 0xC1)  # start of a frame that is coded by Huffman, in one pass
_OTHER_FRAMES = (0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_END_OF_BLOCK, _NO_CODE = 128, 1 << 15  # in a look-up table, far over the 64 coefficients of a block
_PIECE = 1 << 20  # bytes that are looked at together
_LONGEST_UNIT = 1 << 13  # bytes; 10 blocks of 64 coefficients of up to 27 bits are fewer
_LOST = bytes(40)  # more than a block holds, as where a sector of a disk was lost
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
    """Reads a JPEG's codes without making pixels of them; returns a note where more are left than the image needs.

    libjpeg goes on after a wrong code with whatever it finds, shifted and in other colours, or in grey. The codes of a
    sound file are known, fill each block exactly, keep to the range of brightness, and are used up at its end (or at
    each restart marker). Progressive files, and those of several scans, are not looked at.

    Raises DamageError where that is not so.
    """
    try:
        frame = _frame(data)
    except (IndexError, KeyError, ValueError):  # tables left out, or others than the standard's: not to be judged
        return ""
    return _check_scan(data, frame) if frame else ""


@dataclass
class _Frame:
    """What is needed to walk through a scan."""

    start: int  # of its codes
    units: int  # groups of blocks (MCU) in it
    restart: int  # units between restart markers; 0: none
    blocks: list[tuple[int, Sequence[int], Sequence[int], int]] = field(default_factory=list)
    """Of a unit: component, tables for DC and AC, and the step of DC."""


def _frame(data: bytes) -> _Frame | None:
    position, restart, size = 2, 0, (0, 0)
    tables: dict[int, list[int]] = {}
    steps: dict[int, int] = {}
    parts: dict[int, tuple[int, int, int]] = {}  # component -> blocks across, blocks down, number of its steps
    while True:
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position + 4 : position + 2 + length]
        position += 2 + length
        if marker == _DHT:
            while segment:
                n_codes = sum(segment[1:17])
                tables[segment[0]] = _lookup(segment[1:17], segment[17 : 17 + n_codes], ac=segment[0] >= 16)
                segment = segment[17 + n_codes :]
        elif marker == _DQT:
            while segment:
                wide = segment[0] >> 4
                steps[segment[0] & 15] = segment[1] << 8 | segment[2] if wide else segment[1]
                segment = segment[129 if wide else 65 :]
        elif marker == _DRI:
            restart = segment[0] << 8 | segment[1]
        elif marker in _BASELINE:
            if segment[0] != 8:
                return None
            size = segment[3] << 8 | segment[4], segment[1] << 8 | segment[2]
            for part in range(segment[5]):
                name, sampling, number = segment[6 + 3 * part : 9 + 3 * part]
                parts[name] = sampling >> 4, sampling & 15, number
        elif marker in _OTHER_FRAMES or marker == _EOI:
            return None
        elif marker == _SOS:
            break
    scanned = [segment[1 + 2 * part : 3 + 2 * part] for part in range(segment[0])]
    if len(scanned) != len(parts) or not all(size):
        return None
    alone = len(parts) == 1  # then a unit is one block, whatever its sampling
    across = 1 if alone else max(across for across, _, _ in parts.values())
    down = 1 if alone else max(down for _, down, _ in parts.values())
    frame = _Frame(position, -(-size[0] // (8 * across)) * -(-size[1] // (8 * down)), restart)
    for component, (name, numbers) in enumerate(scanned):
        own_across, own_down, number = parts[name]
        block = component, tables[numbers >> 4], tables[16 + (numbers & 15)], steps[number]
        frame.blocks += [block] * (1 if alone else own_across * own_down)
    return frame


@functools.lru_cache(16)  # a TIFF's strips share theirs
def _lookup(counts: bytes, symbols: bytes, *, ac: bool) -> list[int]:
    """For each 16 bits that may come: bits used in the lower five, above them the DC's size or the AC's advance."""
    table, code, codes = [_NO_CODE] * (1 << 16), 0, iter(symbols)
    for length, count in enumerate(counts, 1):
        for symbol in (next(codes) for _ in range(count)):
            value = length | symbol << 5
            if ac:
                run, n_bits = symbol >> 4, symbol & 15
                advance = run + 1 if n_bits or run == 15 else _END_OF_BLOCK
                value = length + n_bits | advance << 5
            first, past = code << 16 - length, code + 1 << 16 - length
            table[first:past] = [value] * (past - first)
            code += 1
        code <<= 1
    return table


def _check_scan(data: bytes, frame: _Frame) -> str:
    """Walks through the scan, from restart marker to restart marker."""
    position, done, n_restarts, most_left = frame.start, 0, 0, 0
    while done < frame.units:
        marker = _MARKER.search(data, position)
        end = marker.start() if marker else len(data)
        codes = np.frombuffer(data[position:end].replace(b"\xff\x00", b"\xff"), np.uint8)
        # Zeros say "smooth", or else all but one of a block's waves at once, which no image has.
        if _LOST in data[position:end] and all(ac[0] >> 5 != _END_OF_BLOCK for _, _, ac, _ in frame.blocks):
            raise DamageError("a part of it is zeros")
        units = min(frame.restart or frame.units, frame.units - done)
        used = _walk(codes, units, frame.blocks)
        rest = codes[used:].tobytes().rstrip(b"\0\xff")  # encoders fill up with these
        most_left = max(most_left, len(rest))
        done += units
        if done < frame.units:
            if marker is None or marker.group()[-1] != _RST0 + n_restarts % 8:
                raise DamageError("a restart marker is missing")
            position, n_restarts = marker.end(), n_restarts + 1
    return f"{most_left} bytes of its data are left over" if most_left > _FEW_BYTES else ""


def _walk(codes: np.ndarray, units: int, blocks: Sequence[tuple[int, Sequence[int], Sequence[int], int]]) -> int:
    """How many bytes of *codes* the blocks of *units* use; raises DamageError where they cannot be theirs."""
    brightness = [0] * (1 + max(component for component, *_ in blocks))
    start = 0  # byte at which the piece begins
    ahead = _next_sixteen(codes[: _PIECE + _LONGEST_UNIT])
    n_bits, bit = 8 * len(codes), 0  # bit: counted from *start*
    for _ in range(units):
        if bit >= 8 * _PIECE:
            start, bit = start + bit // 8, bit % 8
            ahead = _next_sixteen(codes[start : start + _PIECE + _LONGEST_UNIT])
        try:
            for component, dc, ac, step in blocks:
                found = dc[ahead[bit]]
                bit += found & 31
                if size := found >> 5:
                    if size > 11:
                        raise DamageError("it holds a code that no encoder writes")
                    difference = ahead[bit] >> 16 - size
                    bit += size
                    brightness[component] += difference - ((1 << size) - 1 if difference < 1 << size - 1 else 0)
                    # 1024 is white, or black; the step is what rounding may add.
                    if abs(brightness[component]) * step > 1024 + step:
                        raise DamageError("its brightness leaves the range of an image")
                coefficient = 1
                while coefficient < 64:
                    found = ac[ahead[bit]]
                    bit += found & 31
                    coefficient += found >> 5
                if coefficient > 64 and not _END_OF_BLOCK < coefficient < _END_OF_BLOCK + 64:
                    raise DamageError("its codes do not fit")
        except IndexError:
            raise DamageError("its data end too early") from None
    if 8 * start + bit > n_bits:
        raise DamageError("its data end too early")
    return start + -(-bit // 8)


def _next_sixteen(codes: np.ndarray) -> memoryview:
    """At each bit of *codes*, the 16 bits from there on; zeros follow the last."""
    padded = np.concatenate([codes, np.zeros(2, np.uint8)]).astype(np.uint32)
    three = padded[:-2] << 16 | padded[1:-1] << 8 | padded[2:]
    shifted = [(three >> 8 - offset & 0xFFFF).astype(np.uint16) for offset in range(8)]
    return memoryview(np.stack(shifted, axis=1).ravel())
