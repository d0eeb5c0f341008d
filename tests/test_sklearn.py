"""`pomona.sklearn.ImageFeaturizer`: a step of scikit-learn pipelines that uses `embed`."""

from __future__ import annotations

import pickle
from pathlib import Path
from unittest import SkipTest

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import Tags
from sklearn.utils.estimator_checks import estimator_checks_generator

import drawn
import pomona
from pomona.encoder.encoder import Encoder
from pomona.errors import EncoderError
from pomona.sklearn import ImageFeaturizer


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    for seed in range(8):
        content = drawn.encode(drawn.picture(40, 30, seed % 2), "PNG")
        (tmp_path / f"{seed}.png").write_bytes(content)
    return [str(tmp_path / f"{seed}.png") for seed in range(8)]


def test_a_pipeline_is_trained_on_paths(encoder: Encoder, paths: list[str]) -> None:
    model = make_pipeline(ImageFeaturizer(encoder), LogisticRegression(max_iter=1000))
    model.fit(paths, [0, 1] * 4)
    assert list(model.predict(paths)) == [0, 1] * 4


def test_every_kind_of_image_column_gives_the_vectors_of_embed(
    encoder: Encoder, paths: list[str]
) -> None:
    expected = pomona.embed(paths, encoder)
    step = ImageFeaturizer(encoder).fit(paths)
    frame = pd.DataFrame({"path": paths})
    for images in (paths, np.array(paths), np.array(paths)[:, None], frame, frame["path"]):
        assert (step.transform(images) == expected).all()


def test_the_featurizer_can_be_cloned_pickled_and_printed(
    encoder_file: Path, encoder: Encoder, paths: list[str]
) -> None:
    step = clone(ImageFeaturizer(str(encoder_file), errors="nan"))
    assert step.get_params()["errors"] == "nan"
    with pytest.raises(NotFittedError):
        step.transform(paths)
    restored = pickle.loads(pickle.dumps(step.fit(paths)))
    assert (restored.transform(paths) == pomona.embed(paths, encoder)).all()
    names = restored.get_feature_names_out()
    assert (len(names), names[0]) == (encoder.dimension, "feature0")
    assert np.isnan(step.transform([b"no image"])).all()


def test_fit_refuses_an_unreadable_encoder(paths: list[str]) -> None:
    with pytest.raises(EncoderError, match="no.encoder"):
        ImageFeaturizer("no.encoder").fit(paths)


class WithChecks(ImageFeaturizer):
    """scikit-learn skips its checks for transformers without matrix input; this one claims it."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


def test_the_checks_of_scikit_learn_that_need_no_numbers_pass(encoder: Encoder) -> None:
    """Checks that pass a matrix of numbers cannot succeed: an image is not a row of numbers."""
    passed, failed = set(), {}
    for step, check in estimator_checks_generator(WithChecks(encoder)):
        try:
            check(step)
        except SkipTest:  # it needs a missing package or setting
            continue
        except Exception as error:  # noqa: BLE001 - checks raise any exception
            failed[check.func.__name__] = str(error)
        else:
            passed.add(check.func.__name__)
    # `fit` does not look at images, so it accepts a sparse matrix; `transform` refuses it. Version
    # 1.6 has no such check.
    failed.pop("check_estimator_sparse_tag", None)
    assert {name for name, message in failed.items() if "images[0] is" not in message} == set()
    assert len(passed) >= 20
