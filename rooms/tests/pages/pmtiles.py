"""A small PMTiles file (version 3), written by its specification: one tile for all places of all zooms."""

import struct
import zlib
from pathlib import Path

RED = (200, 30, 40)
IMAGE, VECTOR = 2, 1
"""Tile types: PNG, Mapbox Vector Tile."""

ZOOMS = 16


def varint(number: int) -> bytes:
    low, high = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(high) if high else bytes([low])


def write_pmtiles(path: Path, tile_type: int) -> None:
    tile = red_image() if tile_type == IMAGE else land_tile()
    tiles = (4**ZOOMS - 1) // 3
    # One entry: tile 0, repeated for all tiles, its length, its offset plus one.
    directory = b"".join(map(varint, (1, 0, tiles, len(tile), 1)))
    metadata = b"{}"
    offsets = (127, len(directory), 127 + len(directory), len(metadata))
    data = 127 + len(directory) + len(metadata)
    header = b"PMTiles\x03" + struct.pack("<4Q4Q3Q", *offsets, data, 0, data, len(tile), tiles, 1, 1)
    header += struct.pack("<6B", 1, 1, 1, tile_type, 0, ZOOMS - 1)  # clustered, nothing is compressed
    header += struct.pack("<4i", -1_800_000_000, -850_000_000, 1_800_000_000, 850_000_000)
    header += struct.pack("<B2i", 0, 0, 0)
    path.write_bytes(header + directory + metadata + tile)


def red_image() -> bytes:
    """A PNG of 256 × 256 red pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    rows = (b"\x00" + bytes(RED) * 256) * 256
    head = struct.pack(">2I5B", 256, 256, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def land_tile() -> bytes:
    """A vector tile whose layer `earth` covers it."""

    def field(number: int, content: bytes | int) -> bytes:
        if isinstance(content, int):
            return varint(number << 3) + varint(content)
        return varint(number << 3 | 2) + varint(len(content)) + content

    across = 2 * 4096  # zigzag
    ring = (9, 0, 0, 26, across, 0, 0, across, across - 1, 0, 15)  # move to, three lines, close
    polygon = field(3, 3) + field(4, b"".join(map(varint, ring)))
    layer = field(15, 2) + field(1, b"earth") + field(2, polygon) + field(5, 4096)
    return field(3, layer)
