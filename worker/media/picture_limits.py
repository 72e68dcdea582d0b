"""How large a picture may be. Built from the settings by the runner."""

from dataclasses import dataclass, replace

from fleet.errors import InputTooLarge


@dataclass(frozen=True)
class PictureLimits:
    """Bounds on one picture, and on an archive of them."""

    #: Of a picture's file, and of each file of an archive once it is unpacked.
    max_bytes: int = 64 * 1024**2
    max_pixels: int = 50_000_000
    #: The long side by the short one.
    max_aspect: float = 100.0
    #: Entries of an archive.
    max_files: int = 20_000
    #: Wall clock for decoding one picture.
    max_seconds: float = 60.0
    #: Of a picture that is looked at in tiles, which then lies on disk; 0: there are none.
    max_tiled_pixels: int = 900_000_000
    #: The settings that say so.
    pixels_setting: str = "IMAGE_MAX_PIXELS"
    bytes_setting: str = "IMAGE_MAX_SIZE"

    def tiled(self) -> "PictureLimits":
        """Those of a picture that is looked at in tiles. Its file may be as large as its pixels with alpha."""
        pixels, setting = self.max_tiled_pixels, "IMAGE_MAX_TILED_PIXELS"
        seconds = self.max_seconds * max(1.0, pixels / self.max_pixels)
        return replace(
            self,
            max_bytes=max(self.max_bytes, 4 * pixels),
            max_pixels=pixels,
            max_seconds=seconds,
            pixels_setting=setting,
            bytes_setting=setting,
        )

    def check_file(self, size: int) -> None:
        """Raises InputTooLarge `too-many-bytes`."""
        if size > self.max_bytes:
            raise InputTooLarge(
                f"the picture's file has {size:,} bytes; the limit is {self.max_bytes:,} ({self.bytes_setting})",
                code="too-many-bytes",
                bytes=size,
                limit=self.max_bytes,
            )

    def check_size(self, width: int, height: int) -> None:
        """By what a header claims. Raises InputTooLarge `too-many-pixels` or `extreme-aspect`."""
        if width * height > self.max_pixels:
            raise InputTooLarge(
                f"the picture has {width} × {height} = {width * height:,} pixels; the limit is {self.max_pixels:,} "
                f"({self.pixels_setting}): send it smaller",
                code="too-many-pixels",
                width=width,
                height=height,
                limit=self.max_pixels,
            )
        if max(width, height) > self.max_aspect * min(width, height):
            raise InputTooLarge(
                f"the picture has {width} × {height} pixels: its long side is more than {self.max_aspect:g} times its "
                "short one (IMAGE_MAX_ASPECT), which is no picture that a model was made for",
                code="extreme-aspect",
                width=width,
                height=height,
                limit=self.max_aspect,
            )
