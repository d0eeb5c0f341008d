"""Images, or a table of their vectors -> a label and its probability for each image."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pomona.analysis.classifier.classifier import Classifier
from pomona.analysis.classifier.zero_shot import zero_shot
from pomona.analysis.table_encoder import (
    built_as,
    encoder_of_table,
    from_cache,
    has_named_weights,
    refuse_projected,
)
from pomona.analysis.vectors import vectors_of
from pomona.building.build import encoder_for
from pomona.encoder.encoder import Encoder
from pomona.encoder.endpoint import Endpoint
from pomona.encoder.networks import CARDS
from pomona.errors import ClassifierError, EncoderError, SourceError, UsageError
from pomona.io.location import check_spelling, is_remote, local_path, without_password
from pomona.progress import no_progress
from pomona.runtime.endpoint.runtime import served_by
from pomona.source.listing import Source
from pomona.table.feature_table import FeatureTable
from pomona.worker.decode import MAX_PIXELS
from pomona.worker.prepare import DecodeOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.runtime.endpoint.runtime import served_by
from pomona.progress import Progress

__all__ = ["Prediction", "classify", "zero_shot_for"]

Predict = Callable[[FeatureTable], Iterator["Prediction"]]

_COLUMNS = ["path", "features", "status", "error"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        path: absolute URI of the image, as in a feature table.
        label: the most probable class; None if there is no vector.
        probability: probability of that class, 0 to 1; None if there is no vector.
        status: `ok`, or the kind of failure.
        error: the reason of a failure, in one line; None if `ok`.
        top: the most probable classes and their probabilities, the first one first; as many as
            were asked for; empty if there is no vector.
        nearness: how near the image is to those of the training, above 0 to 1, if `unlike` was
            asked for: see `Classifier.nearness`; None if there is no vector.
    """

    path: str
    label: str | None
    probability: float | None
    status: str = "ok"
    error: str | None = None
    top: tuple[tuple[str, float], ...] = ()
    nearness: float | None = None


def classify(  # noqa: PLR0913 - several ways to give the encoder
    classifier: Classifier | str | os.PathLike[str],
    source: FeatureTable | str | os.PathLike[str],
    *,
    encoder: Encoder | Endpoint | str | os.PathLike[str] | None = None,
    weights: str | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    top: int | None = 1,
    unlike: bool = False,
    progress: Progress = no_progress,
) -> Iterator[Prediction]:
    """Yield a prediction for each image. Bad images have a status and a reason instead of a label.

    Predictions for a table are in its order; predictions for images in the order of their paths.

    Args:
        classifier: a classifier, or the path of its file.
        source: a feature table or its path, a folder of images, an image, or a glob.
        encoder: for images: the encoder of the table that the classifier was trained on, or its
            path, or an `Endpoint`. By default the one in the classifier's file, or a known network
            that is built again with its weights.
        weights: for images: a Keras weights file of that network, if its weights have no name.
        workers: number of processes for images; by default one for each core.
        max_pixels: images with more pixels get the status `too_large`.
        top: number of classes in `Prediction.top`; None for all.
        unlike: whether to compute `Prediction.nearness`, which is small for images of none of the
            classes.
        progress: called with the progress.

    Raises:
        ClassifierError: the file is not a classifier, another encoder made the vectors, or it was
            made without images and `unlike` needs them.
        UsageError: `top` is below 1.
        EncoderError: no encoder was given, and none can be built.
        SourceError: there are no images.
    """
    probe = classifier if isinstance(classifier, Classifier) else Classifier.load(classifier)
    if top is not None and top < 1:
        raise UsageError(f"`top` is {top}, expected 1 or more, or None for all classes")
    if unlike:
        probe.nearness(np.empty((0, probe.dimension), np.float32))  # it has examples
    predict = partial(_predictions, probe, top=top, unlike=unlike)
    if isinstance(source, FeatureTable):
        return _classify_table(probe, source, predict)
    given = os.fspath(source)
    check_spelling(given, "`source`", SourceError)
    if is_remote(given) and not FeatureTable.at(given).exists():
        raise SourceError(
            f"{without_password(given)} is not a feature table, and images must be on this "
            "machine: extract them with Spark, and classify the table"
        )
    if _is_table(given):
        if encoder is not None or weights is not None:
            raise EncoderError(f"{given} is a table of vectors: leave `encoder` and `weights` out")
        return _classify_table(probe, FeatureTable.at(given), predict)
    Source(given).check()  # before an encoder is found or built
    found = _encoder_for(probe, encoder, weights)
    decode = DecodeOptions(max_pixels, fast=probe.provenance.get("decode") == "fast")
    return _classify_images(given, found, decode, workers, progress, predict)


def zero_shot_for(
    source: str, labels: Sequence[str], template: str, encoder: str | None = None
) -> Classifier:
    """Return a zero-shot classifier for images, or for a table by the encoder that made it.

    Args:
        source: a feature table, a folder of images, an image, or a glob.
        labels: as for `pomona.zero_shot`.
        template: as for `pomona.zero_shot`.
        encoder: path of the encoder; by default that of the table, from the cache.

    Raises:
        EncoderError: no encoder was given for images, or another one made the table; or as for
            `pomona.zero_shot`.
        ClassifierError: as for `pomona.zero_shot`.
    """
    if not is_remote(source) and not _is_table(source):
        Source(source).check()  # before an encoder is built
        if encoder is None:
            raise EncoderError(
                "labels for images need an encoder with a text tower: give `encoder`"
            )
        return zero_shot(labels, encoder, template)
    made_by = encoder_of_table(FeatureTable.at(source).provenance(), encoder)
    return zero_shot(labels, made_by, template)


def _is_table(source: str) -> bool:
    if is_remote(source):
        return True
    folder = Path(local_path(source))
    return folder.is_dir() and FeatureTable(folder).exists()


def _classify_table(
    probe: Classifier, table: FeatureTable, predict: Predict
) -> Iterator[Prediction]:
    provenance = table.provenance()
    probe.check_same_encoder(provenance, str(table))
    # Words were not trained on any vectors.
    if provenance.get("decode") != probe.provenance.get("decode", provenance.get("decode")):
        raise ClassifierError(
            f"{table} was made with `decode` {provenance.get('decode')}, but the classifier was "
            f"trained on vectors of `decode` {probe.provenance.get('decode')}: extract the table "
            "again in the same way"
        )
    return predict(table)


def _classify_images(  # noqa: PLR0913, PLR0917 - the settings of an extraction
    source: str,
    encoder: Encoder,
    decode: DecodeOptions,
    workers: int | None,
    progress: Progress,
    predict: Predict,
) -> Iterator[Prediction]:
    from pomona.extraction import extract
    from pomona.job.options import LocalEngine

    with _temporary_table() as folder:
        extract(
            source,
            folder,
            encoder=encoder,
            label="none",
            decode=decode,
            engine=LocalEngine(workers=workers),
            progress=progress,
        )
        table = FeatureTable(folder)
        # Workers finish in any order; predictions are sorted by path.
        found = sorted(predict(table), key=attrgetter("path"))
    yield from found  # a reader that stops early leaves no temporary files


@contextmanager
def _temporary_table() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        yield Path(folder, "features")


def _predictions(
    probe: Classifier, table: FeatureTable, *, top: int | None, unlike: bool
) -> Iterator[Prediction]:
    import pyarrow.compute as pc

    for batch in table.batches(_COLUMNS):
        ok = batch.filter(pc.equal(batch["status"], "ok"))
        vectors = vectors_of(ok, probe.dimension, table)
        best = _best(probe, vectors, top)
        near = iter(probe.nearness(vectors).tolist() if unlike else repeat(None))
        for row in batch.drop_columns(["features"]).to_pylist():
            path, status, error = row["path"], row["status"], row["error"]
            if status == "ok":
                classes = next(best)
                yield Prediction(path, *classes[0], status, error, classes, next(near))
            else:
                yield Prediction(path, None, None, status, error)


def _best(
    probe: Classifier, vectors: NDArray[np.float32], top: int | None
) -> Iterator[tuple[tuple[str, float], ...]]:
    """Yield the most probable classes of each vector, the first one first."""
    probabilities = probe.probabilities(vectors)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    for row, places in zip(probabilities, order.tolist(), strict=True):
        yield tuple((probe.classes[place], float(row[place])) for place in places)


def _encoder_for(
    probe: Classifier,
    source: Encoder | Endpoint | str | os.PathLike[str] | Callable[[], Encoder] | None,
    weights: str | None,
) -> Encoder:
    """Return the encoder whose vectors the classifier takes."""
    if isinstance(source, Endpoint):
        return served_by(source, _encoder_for(probe, source.encoder, weights))
    if source is not None and weights is not None:
        raise EncoderError("`encoder` contains its weights: leave `weights` out")
    refuse_projected(
        probe.provenance,
        "classify a table with the same projection, or train on the table that was projected",
    )
    if source is not None:
        encoder = encoder_for(source)
        probe.check_same_encoder(encoder.provenance(), "`encoder`")
        return encoder
    if weights is None and probe.encoder is not None:
        return probe.encoder
    if weights is None and (cached := from_cache(probe.provenance)):
        return cached
    return _built_again(probe, weights)


def _built_again(probe: Classifier, weights: str | None) -> Encoder:
    provenance = probe.provenance
    model, original = provenance.get("model", ""), provenance.get("weights", "")
    named = weights or has_named_weights(provenance)
    if model not in CARDS or not named or provenance.get("precision") == "int8":
        raise EncoderError(
            f"classifying images needs the encoder that made the table, {probe.encoder_name}, "
            "which is not in this machine's cache: give its file as `encoder`"
            + (f", or a file of its weights ({original}) as `weights`" if model in CARDS else "")
            + ", or train the classifier again with `encoder`, which stores it in the file"
        )
    encoder = built_as(provenance, model, weights or original)
    probe.check_same_encoder(encoder.provenance(), f"{model} with weights {weights or original}")
    return encoder
