"""The parts of `pretraining/` that define the training targets and the evaluation."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from conftest import REPOSITORY

PRETRAINING = REPOSITORY / "pretraining"


def of_pretraining(name: str) -> ModuleType:
    """Import one of the programs, which are not a package."""
    if not PRETRAINING.is_dir():
        pytest.skip("pretraining/ is not in source distributions")
    sys.path.insert(0, str(PRETRAINING))
    try:
        return __import__(name)
    finally:
        sys.path.pop(0)


@pytest.fixture
def guides() -> ModuleType:
    return of_pretraining("guides")


@pytest.fixture
def ahead() -> ModuleType:
    return of_pretraining("ahead")


@pytest.fixture
def schedule() -> ModuleType:
    return of_pretraining("schedule")


def cut_out(colour: str, size: tuple[int, int] = (40, 20)) -> bytes:
    """A PNG file of a filled box on a large transparent background."""
    image = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    image.paste(Image.new("RGBA", size, colour), (30, 50))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_name_ends_with_the_kind_of_object(guides: ModuleType) -> None:
    names = ["Kitchen chair (low) 2", "Chairs", "chair", "3"]
    assert [guides.kind(name) for name in names] == ["chair", "chair", "chair", ""]


def test_the_opaque_object_fills_the_picture_on_white(guides: ModuleType) -> None:
    image = np.asarray(guides.shown(cut_out("red"), "white", np.random.default_rng(0)))
    assert image.shape == (224, 224, 3)
    red = (image == (255, 0, 0)).all(-1)
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    assert (len(rows), len(columns)) == (101, 202)  # 0.9 of 224, at 2 to 1
    assert (image[~red] == 255).mean() > 0.99


def test_noise_depends_on_the_seed_and_stays_behind_the_object(guides: ModuleType) -> None:
    images = [
        np.asarray(guides.shown(cut_out("red"), "noise", np.random.default_rng(seed)))
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(images[0], images[1])
    assert (images[0] != images[2]).any()
    assert tuple(images[0][112, 112]) == (255, 0, 0)
    assert images[0][:10].std() > 5


def test_stamps_exclude_non_photos_and_small_classes(guides: ModuleType, tmp_path: Path) -> None:
    top = tmp_path / "package/usr/share/tuxpaint/stamps"
    for folder, count in {"animals/birds": 4, "animals/birds/cartoon": 5, "town": 3}.items():
        (top / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (top / folder / f"{i}.png").write_bytes(cut_out("red", (10 + i, 10)))
    (top / "animals/birds/again.png").write_bytes(cut_out("red", (10, 10)))
    counts = guides.write_tree(guides.stamps(tmp_path), tmp_path / "out", "white")
    assert counts == (4, 1)
    assert sorted(p.name for p in (tmp_path / "out/animals birds").iterdir()) == [
        "000.png", "001.png", "002.png", "003.png",
    ]  # fmt: skip


def test_furniture_is_named_by_its_catalogue(guides: ModuleType, tmp_path: Path) -> None:
    lines = [f"name#{i}={n}\nicon#{i}=/a/{i}.png" for i, n in enumerate(["Low chair", "Sofa"])]
    with zipfile.ZipFile(tmp_path / "some.sh3f", "w") as catalogue:
        catalogue.writestr("PluginFurnitureCatalog.properties", "\n".join([*lines, "name#9=Bed"]))
        for i, colour in enumerate(["red", "blue"]):
            catalogue.writestr(f"a/{i}.png", cut_out(colour))
    items = list(guides.furniture(tmp_path))
    assert items == [("chair", cut_out("red")), ("sofa", cut_out("blue"))]


def test_half_the_pixels_are_half_the_work(schedule: ModuleType) -> None:
    plan = schedule.stages("64:400,128:100")
    assert plan == [(64, 400), (128, 100)]
    shares = [schedule.progress(plan, step) for step in (0, 200, 400, 450, 500)]
    assert shares == [0, 0.25, 0.5, 0.75, 1]


def test_the_learning_rate_warms_up_and_decays_to_zero(schedule: ModuleType) -> None:
    plan = schedule.stages("64:400,128:100")
    rates = [schedule.learning_rate(1.0, step, plan) for step in range(501)]
    assert rates[0] == 0
    assert int(np.argmax(rates)) == 25  # a twentieth of all steps
    assert np.all(np.diff(rates[25:]) < 0)
    assert rates[500] == pytest.approx(0, abs=1e-12)


def test_a_description_depends_on_the_position_in_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="pretraining's requirements are not installed")
    batches, dictionary = of_pretraining("batches"), of_pretraining("dictionary")
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (4, 3, 8, 8, 3)).astype(np.uint8)
    np.save(tmp_path / "00000.npy", coarse.repeat(16, axis=2).repeat(16, axis=3))
    shards = batches.Shards(tmp_path)
    learned = dictionary.learned(shards, rng, pictures=500, patches=2000, rounds=2)
    describe = dictionary.Dictionary(learned)
    image = np.full((1, 64, 64, 3), 0.2, np.float32)
    image[0, 8:24, 8:24] = (0.9, -0.5, -0.5)
    brighter = image * 1.05
    elsewhere = image[:, ::-1]
    description, alike, moved = describe(np.concatenate([image, brighter, elsewhere]))
    assert description.shape == (dictionary.SIZE,)
    assert np.linalg.norm(description - alike) < 0.5 * np.linalg.norm(description - moved)


@pytest.mark.parametrize(
    ("share", "name"), [("classes", "class"), ("descriptions", "description"), ("crops", "crop")]
)
def test_gradients_of_the_targets_are_slopes_of_the_loss(
    share: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = of_pretraining("heads")
    monkeypatch.setattr(heads, "SMOOTHING", 0.0)  # the reported loss excludes it
    monkeypatch.setattr(heads, "DESCRIPTION_SCALE", 1.0)
    rng = np.random.default_rng(3)
    features, descriptions = rng.normal(0.4, 1, (6, 20)), rng.normal(size=(6, 7))
    classes = rng.integers(5, size=6)
    shares = heads.Shares(**{"classes": 0, "descriptions": 0, "crops": 0} | {share: 2})

    def asked(features: np.ndarray, parameters: np.ndarray | None = None):
        head = heads.Heads(features=20, classes=5, description=7, seed=0)
        head.parameters = head.parameters.astype(float) if parameters is None else parameters
        return head.parameters, head.loss(features, classes, descriptions, shares)

    parameters, answer = asked(features)
    along = rng.normal(size=features.shape), rng.normal(size=parameters.shape)
    for by_features, by_parameters in ((1e-6, 0), (0, 1e-6)):
        ends = [
            asked(features + s * by_features * along[0], parameters + s * by_parameters * along[1])
            for s in (-1, 1)
        ]
        low, high = (end[1].told[name] for end in ends)
        slope = (answer.by_features * along[0]).sum() * (by_features > 0)
        slope += (answer.by_parameters * along[1]).sum() * (by_parameters > 0)
        assert 2 * (high - low) / 2e-6 == pytest.approx(slope, rel=1e-3)


def test_crops_of_one_picture_are_recognized_among_all_others() -> None:
    heads = of_pretraining("heads")
    head = heads.CropHead(features=20)
    flat = head.initial(np.random.default_rng(0))
    pictures = np.random.default_rng(1).normal(size=(4, 20)).astype(np.float32)
    in_pairs = head(np.repeat(pictures, 2, axis=0), flat)
    assert in_pairs.told["paired"] == 1
    apart = head(np.tile(pictures, (2, 1)), flat)
    assert apart.told["crop"] > in_pairs.told["crop"] + 0.5


def test_prefetched_items_arrive_in_order_and_end(ahead: ModuleType) -> None:
    assert list(ahead.ahead(iter(range(10)), depth=3)) == list(range(10))


def test_an_error_during_prefetching_is_raised_in_the_consumer(ahead: ModuleType) -> None:
    def batches() -> Iterator[int]:
        yield 1
        raise OSError("no space left")

    coming = ahead.ahead(batches())
    assert next(coming) == 1
    with pytest.raises(OSError, match="no space left"):
        next(coming)
