"""The zip archives that ``torch.save`` has written since PyTorch 1.6: one pickle, and one uncompressed entry
per storage.

Only what the pickle refers to is looked at, in place; nothing is inflated. Errors are predicates, as in
``unpickle.py``."""

import io
import struct
import zipfile
import zlib

from lift3d.errors import CheckpointError, CorruptFile
from lift3d.gan.machine import Budget
from lift3d.gan.storages import Storage
from lift3d.gan.unpickle import storage_identity, unpickle

_MAX_ENTRIES = 20_000  # a training checkpoint with both optimizers has some thousand
_ENTRY_MAGIC = b"PK\x01\x02"
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # magic, lengths of name and extra field


def unpickle_archive(data: memoryview, budget: Budget) -> object:
    """The value in an archive; its tensors stay views of ``data``."""
    entries = _entries(data)
    tops = [
        name.removesuffix("/data.pkl")
        for name in entries
        if name.endswith("/data.pkl") and name.count("/") == 1
    ]
    if len(tops) != 1:
        raise CheckpointError(
            "is a zip archive, but not one of PyTorch: unpack it and give the checkpoint in it"
        )
    (top,) = tops
    if f"{top}/constants.pkl" in entries:
        raise CheckpointError(
            "is a TorchScript program, such as a classifier or detector, and is no StyleGAN2 checkpoint"
        )
    if f"{top}/byteorder" in entries and _content(data, entries[f"{top}/byteorder"]) != b"little":
        raise CorruptFile("is damaged: its numbers are not little-endian")

    def storage(identity: object) -> Storage:
        dtype, key, count = storage_identity(identity)
        entry = entries.get(f"{top}/data/{key}")
        if entry is None or entry.file_size != count * dtype.itemsize:
            raise CorruptFile("is damaged: a storage is missing or not as long as announced")
        return Storage(dtype, count, lambda: _content(data, entry))

    return unpickle(_content(data, entries[f"{top}/data.pkl"]), budget, storage)


def _entries(data: memoryview) -> dict[str, zipfile.ZipInfo]:
    """The archive's table of contents."""
    if data.obj.count(_ENTRY_MAGIC) > _MAX_ENTRIES:
        raise CorruptFile(f"is an archive of more than {_MAX_ENTRIES} entries, far more than a GAN has")
    try:
        with zipfile.ZipFile(io.BytesIO(data.obj)) as archive:
            return {entry.filename: entry for entry in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, LookupError, struct.error) as error:
        raise CorruptFile(f"is truncated or damaged: {error}; get the file again") from error


def _content(data: memoryview, entry: zipfile.ZipInfo) -> memoryview:
    """The bytes of an uncompressed entry, in place, after their checksum was found right."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise CorruptFile(
            "is compressed inside, which PyTorch never does: unpack it and pack it uncompressed"
        )
    header = data[entry.header_offset : entry.header_offset + _LOCAL_HEADER.size]
    if len(header) < _LOCAL_HEADER.size:
        raise CorruptFile("is truncated: an entry of the archive lies behind its end; get the file again")
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    start = entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    content = data[start : start + entry.file_size]
    if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
        raise CorruptFile("is damaged: the checksum of an entry of the archive is wrong; get the file again")
    return content
