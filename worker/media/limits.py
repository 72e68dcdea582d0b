"""How large an input may be, before and after it is unpacked. Built from the settings by the runner."""

from collections.abc import Callable
from dataclasses import dataclass

from fleet.errors import InputTooLarge

#: (what, bytes of memory, bytes of files in the scratch folder): called before these are taken, and may raise.
Admit = Callable[[str, int, int], None]


@dataclass(frozen=True)
class VolumeLimits:
    """Bounds on what one input may make us read, hold and wait for."""

    max_voxels: int = 1_500_000_000
    #: Of the voxels as they are held; also of what an archive unpacks to.
    max_bytes: int = 4 * 1024**3
    #: Entries of an archive.
    max_files: int = 20_000
    #: Wall clock for decoding one input.
    max_seconds: float = 300.0
    #: What the decoding process maps besides the volume: interpreter, libraries, thread stacks.
    overhead_bytes: int = 2 * 1024**3

    @property
    def address_space_bytes(self) -> int:
        """What the decoding process may map: a volume in two types while one is converted, and room to spare."""
        return self.overhead_bytes + 3 * self.max_bytes

    def check_voxels(self, size: tuple[int, ...], bytes_per_voxel: int) -> None:
        """Raises InputTooLarge by what a header claims, before anything is allocated for it."""
        voxels = 1
        for n in size:
            voxels *= n
        shown = " × ".join(map(str, size))
        if voxels > self.max_voxels:
            raise InputTooLarge(
                f"the header claims {shown} = {voxels:,} voxels; the limit is {self.max_voxels:,}",
                code="too-many-voxels",
                voxels=voxels,
                limit=self.max_voxels,
            )
        if voxels * bytes_per_voxel > self.max_bytes:
            raise InputTooLarge(
                f"the header claims {shown} voxels of {bytes_per_voxel} bytes, {voxels * bytes_per_voxel:,} bytes; "
                f"the limit is {self.max_bytes:,}",
                code="too-many-bytes",
                bytes=voxels * bytes_per_voxel,
                limit=self.max_bytes,
            )
