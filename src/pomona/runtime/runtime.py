"""The interface of a loaded network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pomona.encoder.preprocessing import Pixels, Preprocessing

__all__ = ["Runtime"]


class Runtime(Protocol):
    """A loaded network.

    Attributes:
        batch_size: the best number of images per call.
        preprocessing: the preprocessing of its input.
        dimension: the length D of a vector.
    """

    batch_size: int
    preprocessing: Preprocessing
    dimension: int

    def predict(self, images: Pixels, features: NDArray[np.float32]) -> None:
        """Fill `features` (N, D) float32 from `images` (N, height, width, 3), RGB.

        The images are uint8, or float32 if that is the `pixel_type` of the preprocessing.
        """
