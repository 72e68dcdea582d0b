"""From an upright picture to what a network is fed: as the recipe says, with the numbers that its library computes."""

from functools import cached_property

import numpy as np

from worker.contract import Array
from worker.pictures.recipe import Recipe
from worker.pictures.resize import linear, pillow

#: A byte can have so many values, so what becomes of each is computed once.
_LEVELS = 256


class Preprocess:
    """Thread-safe. Made once per loaded model."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def pixels(self, picture: Array) -> Array:
        """uint8 [h, w, 3], RGB -> uint8 [height, width, 3], RGB: resized and cropped."""
        recipe = self.recipe
        height, width = picture.shape[:2]
        if recipe.resize == "stretch":
            height, width = recipe.stretched
        elif recipe.resize == "shortest-edge" and isinstance(recipe.size, int):
            short, long = min(height, width), max(height, width)
            other = max(1, int(recipe.size * long / short))
            height, width = (recipe.size, other) if height <= width else (other, recipe.size)
        if recipe.kernel == "opencv-linear":
            picture = linear(picture, (width, height))
        else:
            picture = pillow(picture, (width, height), recipe.kernel)
        return picture if recipe.crop is None else self._cropped(picture, *(recipe.fed or (height, width)))

    def numbers(self, pixels: Array) -> Array:
        """uint8 [height, width, 3], RGB -> float32 [3, height, width], in the recipe's order of channels."""
        order = (2, 1, 0) if self.recipe.channels == "bgr" else (0, 1, 2)
        numbers = np.empty((3, *pixels.shape[:2]), np.float32)
        for place, channel in enumerate(order):
            # Mean and deviation are told in the order in which channels are fed.
            np.take(self._table[place], pixels[:, :, channel], out=numbers[place], mode="clip")
        return numbers

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

    def _cropped(self, picture: Array, height: int, width: int) -> Array:
        """The middle; what is smaller is set in the middle of black."""
        here_y, there_y = self._middle(picture.shape[0], height)
        here_x, there_x = self._middle(picture.shape[1], width)
        if there_y.stop - there_y.start == height and there_x.stop - there_x.start == width:
            return picture[here_y, here_x]
        whole = np.zeros((height, width, 3), np.uint8)
        whole[there_y, there_x] = picture[here_y, here_x]
        return whole

    def _middle(self, size: int, wanted: int) -> tuple[slice, slice]:
        """Which part of `size` pixels is taken, and where it lies among the `wanted` ones."""
        if size >= wanted:
            free = size - wanted
            begin = round(free / 2) if self.recipe.centre == "round" else free // 2
            return slice(begin, begin + wanted), slice(0, wanted)
        # In transformers the odd pixel of black comes first, in torchvision last.
        begin = (wanted - size + (self.recipe.centre == "floor")) // 2
        return slice(0, size), slice(begin, begin + size)
