"""From an upright picture to what a network is fed: as the recipe says, with the numbers that its library computes."""

from functools import cached_property
from typing import Literal

import numpy as np

from worker.contract import Array
from worker.pictures.channels import channels_first, looked_up
from worker.pictures.recipe import Recipe
from worker.pictures.resize import linear, pillow
from worker.pictures.shrink import Shrink, resized_to

#: A byte can have so many values, so what becomes of each is computed once.
_LEVELS = 256
#: Which end of the rows and of the columns is kept; None: the middle.
Corner = tuple[Literal["first", "last"] | None, Literal["first", "last"] | None]


class Preprocess:
    """Thread-safe. Made once per loaded model."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @property
    def shrink(self) -> Shrink | None:
        """What `resized` does first of all, where Pillow does it: a picture may come with that done already."""
        recipe = self.recipe
        if recipe.resize == "none" or recipe.kernel == "opencv-linear":
            return None
        return Shrink(recipe.resize, recipe.size, recipe.kernel)

    def pixels(self, picture: Array) -> Array:
        """uint8 [h, w, 3], RGB -> uint8 [height, width, 3], RGB: resized and cropped."""
        return self.cropped(self.resized(picture))

    def resized(self, picture: Array) -> Array:
        """uint8 [h, w, 3], RGB -> uint8 [height, width, 3], RGB."""
        recipe = self.recipe
        height, width = picture.shape[:2]
        if recipe.resize != "none":
            height, width = resized_to(recipe.resize, recipe.size, (height, width))
        if recipe.kernel == "opencv-linear":
            return linear(picture, (width, height))
        return pillow(picture, (width, height), recipe.kernel)

    def cropped(self, resized: Array, at: Corner = (None, None)) -> Array:
        """uint8 [h, w, 3] -> uint8 [height, width, 3]: the middle, or that corner; all of it where none is cut out.

        What is smaller is set in the middle of black.
        """
        if self.recipe.crop is None or self.recipe.fed is None:
            return resized
        height, width = self.recipe.fed
        here_y, there_y = self._taken(resized.shape[0], height, at[0])
        here_x, there_x = self._taken(resized.shape[1], width, at[1])
        if there_y.stop - there_y.start == height and there_x.stop - there_x.start == width:
            return resized[here_y, here_x]
        whole = np.zeros((height, width, 3), np.uint8)
        whole[there_y, there_x] = resized[here_y, here_x]
        return whole

    def numbers(self, pixels: Array) -> Array:
        """uint8 [height, width, 3], RGB -> float32 [3, height, width], in the recipe's order of channels."""
        channels = channels_first(pixels)
        # Mean and deviation are told in the order in which channels are fed.
        return looked_up(channels[::-1] if self.recipe.channels == "bgr" else channels, self._table)

    def __call__(self, picture: Array) -> Array:
        """uint8 [h, w, 3], RGB -> float32 [3, height, width]."""
        return self.numbers(self.pixels(picture))

    @cached_property
    def _table(self) -> Array:
        """float32 [3, 256]: scaled as float64, then normalised as float32, which is what transformers does."""
        recipe = self.recipe
        levels = (np.arange(_LEVELS) * recipe.rescale).astype(np.float32) + np.float32(recipe.shift)
        mean, std = np.array(recipe.mean, np.float32)[:, None], np.array(recipe.std, np.float32)[:, None]
        table: Array = (levels[None, :] - mean) / std
        return table / std if recipe.std_twice else table

    def _taken(self, size: int, wanted: int, end: Literal["first", "last"] | None) -> tuple[slice, slice]:
        """Which part of `size` pixels is taken, and where it lies among the `wanted` ones."""
        if size >= wanted:
            free = size - wanted
            middle = round(free / 2) if self.recipe.centre == "round" else free // 2
            begin = {"first": 0, "last": free, None: middle}[end]
            return slice(begin, begin + wanted), slice(0, wanted)
        # In transformers the odd pixel of black comes first, in torchvision last.
        begin = (wanted - size + (self.recipe.centre == "floor")) // 2
        return slice(0, size), slice(begin, begin + size)
