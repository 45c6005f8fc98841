"""Where the numbers stand that change while an HDF5 file is filled: its end, chunk entries, lengths, rows.

The HDF5 library orders neither its writes nor its metadata, so a process killed inside ``H5Fflush`` can leave
a chunk index that points nowhere, and the newer formats mark such a file as "open for writing".
``hdf5_writer`` therefore lets the library make a complete file first, in the oldest format (superblock 0,
object headers 1, version-1 B-trees: no checksums), with an index that already has an entry for every chunk,
so that nothing is ever re-balanced. From then on writing is: append data, then overwrite a few numbers in
place. That changes only bytes of the sample being written, so no torn write can hurt another one.

Format: "HDF5 File Format Specification 3.0", II.A (superblock), III.A.1 (B-trees), IV.A (object headers).
Addresses are byte offsets in the file; all integers are little-endian.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from lift3d.errors import CorruptFile

NOWHERE = 2**64 - 1  # HDF5's undefined address
END_OF_FILE = 40  # where superblock 0 holds the file's length
FANOUT = 64  # children of a B-tree node: 2 K, K = 32 in superblock 0
_DATASPACE, _LAYOUT, _CONTINUATION = 0x01, 0x08, 0x10  # object header messages


@dataclass(frozen=True)
class ChunkIndex:
    """A version-1 B-tree with an entry for every chunk, in row-major order.

    The leaves lie one after the other, then the levels above, the root last: an entry's place is arithmetic.
    """

    grid: tuple[int, ...]  # chunks per axis
    chunk: tuple[int, ...]  # elements per axis of a chunk
    itemsize: int  # bytes per element
    address: int  # of the first leaf

    @staticmethod
    def over(extent: tuple[int, ...], chunk: tuple[int, ...], itemsize: int, address: int) -> "ChunkIndex":
        """Index of a dataset with ``extent`` elements per axis."""
        return ChunkIndex(
            tuple(-(-n // c) for n, c in zip(extent, chunk, strict=True)), chunk, itemsize, address
        )

    @property
    def n_chunks(self) -> int:
        return math.prod(self.grid)

    @cached_property
    def key(self) -> np.dtype:
        """Bytes stored, filter mask (0: all applied), first element of the chunk (last: byte in it, 0)."""
        return np.dtype([("size", "<u4"), ("mask", "<u4"), ("first", "<u8", (len(self.grid) + 1,))])

    @cached_property
    def entry(self) -> np.dtype:
        """A key and what follows it: a chunk's address, or a node's."""
        return np.dtype([("key", self.key), ("address", "<u8")])

    @cached_property
    def node(self) -> np.dtype:
        return np.dtype(
            [
                ("signature", "S4"),
                ("type", "u1"),
                ("level", "u1"),
                ("used", "<u2"),
                ("left", "<u8"),
                ("right", "<u8"),
                ("entries", self.entry, (FANOUT,)),
                ("end", self.key),
            ]
        )

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """Nodes per level, leaves first."""
        counts = [-(-self.n_chunks // FANOUT)]
        while counts[-1] > 1:
            counts.append(-(-counts[-1] // FANOUT))
        return tuple(counts)

    @property
    def nbytes(self) -> int:
        return sum(self.levels) * self.node.itemsize

    @property
    def root(self) -> int:
        """Address of the root node."""
        return self.address + self.nbytes - self.node.itemsize

    def entries(self, first: int, addresses: NDArray, sizes: NDArray) -> NDArray:
        """Entries of consecutive chunks from number ``first``."""
        entries = np.zeros(len(addresses), self.entry)
        scaled = np.stack(np.unravel_index(np.arange(first, first + len(addresses)), self.grid), -1)
        entries["key"]["first"][:, :-1] = scaled * np.array(self.chunk)
        entries["key"]["size"], entries["address"] = sizes, addresses
        return entries

    def patches(self, first: int, entries: NDArray) -> Iterator[tuple[int, bytes]]:
        """(file offset, bytes) that put ``entries`` at chunk numbers from ``first``: one patch per leaf."""
        done = 0
        while done < len(entries):
            leaf, slot = divmod(first + done, FANOUT)
            run = min(FANOUT - slot, len(entries) - done)
            at = (
                self.address
                + leaf * self.node.itemsize
                + self.node.fields["entries"][1]
                + slot * self.entry.itemsize
            )
            yield at, entries[done : done + run].tobytes()
            done += run

    def build(self, placeholder: int, size: int) -> bytes:
        """The whole tree; every entry points to the one placeholder chunk."""
        n, end = self.n_chunks, np.zeros((), self.key)
        end["first"] = np.multiply((*self.grid, 1), (*self.chunk, self.itemsize))  # beyond the last chunk
        entries = self.entries(0, np.full(n, placeholder), np.full(n, size))
        address, blocks = self.address, []
        for level, count in enumerate(self.levels):
            padded = np.zeros(count * FANOUT + 1, self.entry)
            padded[: len(entries)] = entries
            padded["key"][len(entries)] = end
            nodes = np.zeros(count, self.node)
            places = address + np.arange(count, dtype=np.uint64) * self.node.itemsize
            nodes["signature"], nodes["type"], nodes["level"] = b"TREE", 1, level
            nodes["used"] = np.minimum(len(entries) - np.arange(count) * FANOUT, FANOUT)
            nodes["left"], nodes["right"] = np.r_[NOWHERE, places[:-1]], np.r_[places[1:], NOWHERE]
            nodes["entries"], nodes["end"] = padded[:-1].reshape(count, FANOUT), padded["key"][FANOUT::FANOUT]
            blocks.append(nodes.tobytes())
            entries = np.zeros(count, self.entry)
            entries["key"], entries["address"] = nodes["entries"]["key"][:, 0], places
            address += nodes.nbytes
        return b"".join(blocks)


@dataclass(frozen=True)
class Header:
    """Addresses inside the object header of a dataset that ``h5py`` wrote with ``libver="earliest"``."""

    length: int  # of the dataset's first axis
    storage: int  # of the address of the rows (contiguous datasets) or of the chunk index's root


def header(file: BinaryIO, dataset: h5py.Dataset) -> Header:
    """Find the patchable numbers of a dataset; ``file`` holds the same bytes."""
    messages = dict(_messages(file, h5py.h5o.get_info(dataset.id).addr))
    space, layout = messages.get(_DATASPACE, 0), messages.get(_LAYOUT, 0)
    versions = _read(file, space, 1) + _read(file, layout, 2)
    offsets = {b"\x01\x03\x01": 2, b"\x01\x03\x02": 3}  # dataspace 1, layout 3, contiguous or chunked
    if versions not in offsets:
        raise CorruptFile(f"{dataset.name} is stored in another way than lift3d writes it; write a new file")
    return Header(length=space + 8, storage=layout + offsets[versions])


def _messages(file: BinaryIO, address: int) -> Iterator[tuple[int, int]]:
    """(type, address of the data) of every message of an object header."""
    version, _, count, _, size = struct.unpack("<BBHII", _read(file, address, 12))
    if version != 1:
        raise CorruptFile(
            f"object header version {version}, expected 1, so lift3d did not write the file; write a new one"
        )
    blocks = [(address + 16, size)]
    for start, length in blocks:
        at = start
        while count and at + 8 <= start + length:
            kind, size = struct.unpack("<HH", _read(file, at, 4))
            if kind == _CONTINUATION:
                blocks.append(struct.unpack("<QQ", _read(file, at + 8, 16)))
            yield kind, at + 8
            at, count = at + 8 + size, count - 1


def _read(file: BinaryIO, address: int, size: int) -> bytes:
    file.seek(address)
    data = file.read(size)
    if len(data) != size:
        raise CorruptFile(
            f"the file is truncated: it ends in an object header, byte {address + len(data)}; write it again"
        )
    return data
