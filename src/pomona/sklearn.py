"""Images to vectors as a step of a scikit-learn pipeline: `pomona.sklearn.ImageFeaturizer`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pomona.building.build import encoder_for
from pomona.embedding import embed
from pomona.encoder.encoder import Encoder
from pomona.encoder.names import DEFAULT_MODEL
from pomona.extras import check_extra
from pomona.worker.prepare import EXACT, DecodeOptions

check_extra("analysis", "pomona.sklearn needs scikit-learn", "sklearn")

from sklearn.base import BaseEstimator, TransformerMixin  # noqa: E402

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ImageFeaturizer"]


class ImageFeaturizer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A transformer that computes the vectors of images, as `pomona.embed` does.

        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        model = make_pipeline(ImageFeaturizer("fruit.encoder"), LogisticRegression())
        model.fit(["a.jpg", "b.jpg"], ["apple", "pear"])

    `fit` learns nothing: the encoder is trained already. It loads the encoder, so that an error
    comes before any image.

    Args:
        encoder: an encoder, its path or URI, the name of a network, or the file of a network.
        decode: how files become pixels; by default exactly.
        errors: `raise` an error for an image without a vector, or return `nan` in its row.

    Attributes:
        encoder_: the encoder, after `fit`.
        n_features_out_: the length D of a vector, after `fit`.
    """

    def __init__(
        self,
        encoder: Encoder | str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        decode: DecodeOptions | None = None,
        errors: str = "raise",
    ) -> None:
        self.encoder = encoder
        self.decode = decode
        self.errors = errors

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002, N803 - scikit-learn's names
        """Load the encoder.

        Raises:
            EncoderError: the encoder cannot be read or built.
        """
        self.encoder_ = encoder_for(self.encoder)
        self.n_features_out_ = self.encoder_.dimension
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:  # noqa: N803 - scikit-learn's name
        """Compute the vectors of images.

        Args:
            X: N images: paths, bytes of image files, PIL images or uint8 arrays; also a column of
                paths, such as an array or a DataFrame (N, 1).

        Returns:
            (N, D) float32.

        Raises:
            ImageError: an image cannot be read or decoded, and `errors` is `raise`.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        images = X.to_numpy() if hasattr(X, "to_numpy") else X
        if isinstance(images, np.ndarray) and images.dtype.kind in "OUS":
            images = images.ravel().tolist()
        return embed(images, self.encoder_, decode=self.decode or EXACT, errors=self.errors)  # type: ignore[arg-type]

    def get_feature_names_out(self, input_features: Sequence[str] | None = None) -> Any:  # noqa: ARG002
        """Return the names of the D numbers: `feature0`, `feature1`, ..."""
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        return np.array([f"feature{number}" for number in range(self.n_features_out_)], object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "encoder_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True
        tags.requires_fit = True
        return tags
