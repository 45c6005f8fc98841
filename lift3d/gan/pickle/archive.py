"""The zip archives that ``torch.save`` has written since PyTorch 1.6: one pickle, and one entry per storage.

Entries are uncompressed and read in place; nothing is inflated, and names are only compared. Archives beyond
4 GB (zip64) are not read. Errors are predicates, as in ``unpickle.py``.
"""

import struct
import zlib
from dataclasses import dataclass
from functools import cache

from lift3d.errors import CheckpointError, CorruptFile
from lift3d.gan.pickle.allowlist import storage_identity, unpickle
from lift3d.gan.pickle.tensors import Storage
from lift3d.gan.pickle.vm import Budget, damaged

_MAX_ENTRIES = 20_000  # a training checkpoint with both optimizers has some thousand
_MAX_NAME = 300  # bytes
_END = struct.Struct("<4s6xHII")  # of the table: magic, number of entries, size, offset; then a comment
_ENTRY = struct.Struct("<4s6xH4xIIIHHH8xI")  # magic, method, CRC, two sizes, three lengths, offset
_LOCAL = struct.Struct("<4s22xHH")  # before the content: magic, lengths of name and extra field
_MAX_COMMENT = 1 << 16


@dataclass(frozen=True)
class Entry:
    """Where a file in the archive starts (with a local header), and what the table says of it."""

    method: int  # 0: uncompressed
    checksum: int
    packed: int  # bytes
    size: int  # bytes
    offset: int


def unpickle_archive(data: memoryview, budget: Budget) -> object:
    """The value in an archive; its tensors stay views of ``data``."""
    entries = _entries(data)
    tops = [name.split("/")[0] for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(tops) != 1:
        raise CheckpointError(
            "is a zip archive, but not one of PyTorch: unpack it and give the checkpoint in it"
        )
    (top,) = tops
    if f"{top}/constants.pkl" in entries:
        raise CheckpointError(
            "is a TorchScript program, such as a classifier, and no checkpoint: give a StyleGAN2 checkpoint"
        )
    if f"{top}/byteorder" in entries and _content(data, entries[f"{top}/byteorder"]) != b"little":
        raise damaged("its numbers are not little-endian")

    @cache  # many tensors may share a storage
    def content(key: str) -> memoryview:
        return _content(data, entries[f"{top}/data/{key}"])

    def storage(identity: object) -> Storage:
        dtype, key, count = storage_identity(identity)
        entry = entries.get(f"{top}/data/{key}")
        if entry is None or entry.size != count * dtype.itemsize:
            raise damaged("a storage is missing or not as long as announced")
        return Storage(dtype, count, lambda: content(key))

    return unpickle(_content(data, entries[f"{top}/data.pkl"]), budget, storage)


def _entries(data: memoryview) -> dict[str, Entry]:
    """The table of contents."""
    tail = bytes(data[-_END.size - _MAX_COMMENT :])
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or end + _END.size > len(tail):
        raise CorruptFile("is truncated: the archive has no table of contents; get the file again")
    _, count, _, at = _END.unpack_from(tail, end)
    if count > _MAX_ENTRIES:
        raise damaged(f"the archive has {count} entries, far more than a GAN has")
    entries = {}
    for _ in range(count):
        if at + _ENTRY.size > len(data):
            raise damaged("the archive's table of contents lies behind its end")
        magic, method, checksum, packed, size, *lengths, offset = _ENTRY.unpack_from(data, at)
        name = bytes(data[at + _ENTRY.size : at + _ENTRY.size + min(lengths[0], _MAX_NAME)])
        if magic != b"PK\x01\x02":
            raise damaged("the archive's table of contents makes no sense")
        entries[name.decode("utf-8", "replace")] = Entry(method, checksum, packed, size, offset)
        at += _ENTRY.size + sum(lengths)
    return entries


def _content(data: memoryview, entry: Entry) -> memoryview:
    """The bytes of an entry, in place, after their checksum was found right."""
    if entry.method != 0 or entry.packed != entry.size:
        raise CorruptFile(
            "is compressed inside, which PyTorch never does: unpack it and pack it uncompressed"
        )
    if entry.offset + _LOCAL.size > len(data):
        raise damaged("an entry of the archive lies behind its end")
    _, *lengths = _LOCAL.unpack_from(data, entry.offset)
    start = entry.offset + _LOCAL.size + sum(lengths)
    content = data[start : start + entry.size]
    if len(content) != entry.size or zlib.crc32(content) != entry.checksum:
        raise damaged("the checksum of an entry of the archive is wrong")
    return content
