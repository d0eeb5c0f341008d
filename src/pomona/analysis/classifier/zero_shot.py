"""Zero-shot classifier: labels in words -> a classifier, without training."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from pomona.analysis.classifier.classifier import Classifier
from pomona.analysis.vectors import unit
from pomona.building.build import encoder_for
from pomona.encoder.encoder import Encoder
from pomona.errors import ClassifierError, EncoderError, UsageError
from pomona.runtime.text import text_vectors

__all__ = ["TEMPLATE", "zero_shot"]

TEMPLATE = "This is a photo of {}."
"""The sentence for a label. It is that of transformers' pipeline for zero-shot classification."""


def zero_shot(
    labels: Sequence[str],
    encoder: Encoder | str | os.PathLike[str],
    template: str = TEMPLATE,
) -> Classifier:
    """Make a classifier of labels in words, with an encoder for images and texts.

        fruit = pomona.zero_shot(["apple", "kiwi"], "clip.encoder")
        for answer in pomona.classify(fruit, "photos/"):
            print(answer.path, answer.label, answer.probability)

    A probability is that of CLIP or SigLIP: softmax over all labels, or sigmoid for each label, of
    logit_scale * cosine(image, sentence) + logit_bias. With sigmoid, the probabilities of an image
    do not add up to 1, and all are small if no label fits.

    Args:
        labels: two or more names, which all differ.
        encoder: an encoder with a text tower, its path or URI, or the folder of a network.
        template: the sentence for a label, which replaces `{}`.

    Raises:
        EncoderError: the encoder has no text tower, or does not know its logit scale.
        ClassifierError: there are fewer than two labels, or one is given twice.
        UsageError: the template has no `{}`.
    """
    if isinstance(labels, str) or len(set(labels)) != len(labels) or len(labels) < 2:
        raise ClassifierError(f"labels are {labels!r:.200}: give two or more, which all differ")
    if "{}" not in template:
        raise UsageError(f"template is {template!r}: write {{}} where the label belongs")
    encoder = encoder_for(encoder)
    vectors = text_vectors(encoder, [template.replace("{}", label) for label in labels])
    if encoder.text is None or encoder.text.logit_scale is None:
        raise EncoderError(
            f"the files of {encoder.model} did not contain the scale of its scores, which "
            "probabilities need: build the encoder again with `logit_scale`, and for SigLIP "
            "`logit_bias`, from the model's weights (100 for CLIP of OpenAI)"
        )
    return Classifier(
        classes=tuple(labels),
        mean=np.zeros(encoder.dimension, np.float32),
        scale=np.ones(encoder.dimension, np.float32),
        coefficients=unit(vectors) * np.float32(encoder.text.logit_scale),
        intercept=np.full(len(labels), encoder.text.logit_bias, np.float32),
        provenance=encoder.provenance(),
        training={"template": template},
        encoder=encoder.for_images(),
        probability=encoder.text.probability,
        unit_vectors=True,
    )
