"""What reading and writing a volume takes at its peak, in bytes, by what its header says.

Every factor was measured as the growth of anonymous memory (SimpleITK 2.5, ITK 5.4, numpy 2); benchmarks/memory.py
repeats it.
"""

import numpy as np

from worker.media.header import Header

MIB = 1024**2
#: A decoding child that had to be started for it, two chunks, a plane, and the allocator's leavings.
CHILD_BYTES = 80 * MIB


def single_file_bytes(header: Header, source_format: str) -> int:
    """NIfTI, NRRD or MetaImage.

    ITK's NIfTI reader holds the file's voxels twice, as stored and as its image, and when it rescales integers a
    third time as floats (4 bytes, 8 from 8-byte ones on): 2, 4, 8, 16 bytes per voxel measured for 1, 2, 4 and 8
    stored, 9 and 10 for rescaled uint8 and int16. The other two read straight into the image: 1 × what is stored.
    """
    stored = header.dtype.itemsize
    if source_format != "nifti":
        held = stored
    elif header.rescaled_bytes and header.dtype.kind != "f":
        held = stored + (16 if stored == 8 else 8)
    else:
        held = 2 * stored
    return CHILD_BYTES + _voxels(header.size) * held


def single_file_scratch_bytes(header: Header) -> int:
    """Files while it is decoded: the unpacked volume, and then the voxels that are handed on."""
    return _voxels(header.size) * (header.dtype.itemsize + header.held_bytes_per_voxel)


def slices_bytes(size: tuple[int, int, int], itemsize: int, largest_file: int) -> int:
    """A DICOM series: the stack in the type that its rescaling leads to (2 or 8 bytes measured), and one slice as
    its file, as GDCM unpacks it and as it is rescaled."""
    columns, rows, _ = size
    return CHILD_BYTES + _voxels(size) * itemsize + 3 * largest_file + 4 * columns * rows * itemsize


def scan_bytes(largest_file: int) -> int:
    """Headers of DICOM slices: GDCM reads a slice's pixels along with them (2 × its file measured)."""
    return CHILD_BYTES + 3 * largest_file


def mask_file_bytes(mask_bytes: int, file_format: str) -> int:
    """Writing a mask: SimpleITK's copy of it (1.0 to 1.1 × measured), and in MetaIO its compressed form, which grows
    by doubling: 4.0 × for noise, 1.0 × for masks as they are."""
    return (4 if file_format == "mha" else 1) * mask_bytes + 16 * MIB


def mask_scratch_bytes(mask_bytes: int) -> int:
    """Files: the mask as it is, and compressed."""
    return 2 * mask_bytes


def _voxels(size: tuple[int, int, int]) -> int:
    return int(np.prod(size, dtype=np.int64))
