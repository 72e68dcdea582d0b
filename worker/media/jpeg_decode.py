"""JPEG files that need nothing but decoding, straight into an array. Runs in the decoding child (picture_child.py).

Pillow and simplejpeg decode with the same library, libjpeg-turbo, by the same rules, so that the pixels are the same
ones. Pillow holds four bytes of each and copies them into an array of three, which costs a third as much again.
"""

from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from worker.media.picture_pixels import orientation_of


def plain_jpeg(image: Image.Image, file: BinaryIO) -> npt.NDArray[np.uint8] | None:
    """uint8 [height, width, 3] RGB, as np.asarray(image): of a file whose header Pillow has read into `image`.

    None for what is no JPEG in colours that lies upright, and for all that is not quite in order: Pillow decides what
    becomes of that.
    """
    # Of other formats the orientation must not be asked for before they are loaded.
    if image.format != "JPEG" or image.mode != "RGB" or orientation_of(image) != 1:
        return None
    file.seek(0)
    try:
        pixels = simplejpeg.decode_jpeg(file.read(), colorspace="RGB", fastdct=False, fastupsample=False)
    except ValueError:
        return None
    return pixels if pixels.shape == (image.height, image.width, 3) else None
