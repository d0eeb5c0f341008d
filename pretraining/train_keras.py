"""The training of train.py in Keras 3, on any backend: for a GPU, or a CPU without AVX-512.

    KERAS_BACKEND=jax python train_keras.py SHARDS RUN --stages 128:12000,192:3000 --batch 256

Same pictures, losses, schedule and checkpoint arrays as train.py, so export.py takes either's. A
run is continued by the same command, from the folder's last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from ahead import ahead
from batches import Shards
from dictionary import SIZE, Dictionary
from heads import DESCRIPTION_SCALE, SHARPNESS, SMOOTHING
from keras import ops
from schedule import learning_rate, stages
from train import prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_CHECKPOINT_STEPS = 500


@keras.saving.register_keras_serializable("pretraining")
class CosineClassifier(keras.layers.Layer):
    """Scores of classes: the cosine between features and one learned vector each, times a scale."""

    def __init__(self, classes: int, **options: Any) -> None:
        super().__init__(**options)
        self.classes = classes

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the vectors of the classes."""
        start = keras.initializers.RandomNormal(stddev=0.02)
        self.prototypes = self.add_weight(shape=(shape[-1], self.classes), initializer=start)

    def call(self, features: Any) -> Any:
        """(N, D) -> (N, classes)."""
        towards = ops.normalize(self.prototypes, axis=0)
        return SHARPNESS * ops.matmul(ops.normalize(features, axis=-1), towards)

    def get_config(self) -> dict[str, Any]:
        """What makes it again."""
        return {**super().get_config(), "classes": self.classes}


def network() -> Any:
    """MobileNetV2 up to its features, for images of any size."""
    return keras.applications.MobileNetV2(
        include_top=False, weights=None, pooling="avg", input_shape=(None, None, 3)
    )


def training_model(classes: int, asked: argparse.Namespace) -> Any:
    """Build the network with both heads, compiled."""
    backbone = network()
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.99  # 0.999 is for runs of millions of steps
    score = CosineClassifier(classes, name="class", dtype="float32")(backbone.output)
    told = keras.layers.Dense(SIZE, name="description", dtype="float32")(backbone.output)
    model = keras.Model(backbone.input, {"class": score, "description": told})
    optimizer = keras.optimizers.AdamW(
        asked.rate, weight_decay=asked.weight_decay, beta_2=0.99, epsilon=1e-8
    )
    still = ("gamma", "beta", "depthwise", "bias", "class", "description")
    optimizer.exclude_from_weight_decay(
        var_list=[v for v in model.trainable_variables if any(word in v.path for word in still)]
    )
    model.compile(
        optimizer,
        loss={
            "class": keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=SMOOTHING
            ),
            "description": "mse",
        },
        loss_weights={
            "class": asked.class_share,
            "description": DESCRIPTION_SCALE * asked.description_share,
        },
        metrics={"class": ["accuracy"]},
    )
    return model


def backbone_layers(model: Any) -> list[Any]:
    """The layers of the network without its heads, which come after it and are not exported."""
    return [layer for layer in model.layers if layer.name not in ("class", "description")]


def start_from(path: Path, model: Any) -> None:
    """Take the network of another run, of train.py or of this program."""
    with np.load(path) as kept:
        left = iter([kept[f"network_{i}"] for i in range(sum(k[:8] == "network_" for k in kept))])
    for layer in backbone_layers(model):
        layer.set_weights([next(left) for _ in layer.get_weights()])


def save(folder: Path, model: Any, step: int) -> None:
    """Write the model with its optimizer, and the network's arrays for export.py."""
    partial = folder / "partial.keras"
    model.save(partial)
    partial.rename(folder / "last.keras")
    values = [array for layer in backbone_layers(model) for array in layer.get_weights()]
    arrays = {f"network_{i}": array for i, array in enumerate(values)}
    with (folder / "last.partial").open("wb") as file:
        np.savez(file, step=np.array(step), **arrays)
    (folder / "last.partial").rename(folder / "last.npz")


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--stages", type=stages, default=stages("128:12000,192:3000"))
    parser.add_argument("--use", type=int, help="how many of the shards to use")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--class-share", type=float, default=0.3, help="weight of their loss")
    parser.add_argument("--description-share", type=float, default=1.0, help="likewise")
    parser.add_argument("--start", type=Path, help="another run's checkpoint to begin with")
    parser.add_argument("--threads", type=int, default=8, help="that prepare batches")
    parser.add_argument("--precision", default="float32", help="mixed_bfloat16 on a recent GPU")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    keras.utils.set_random_seed(asked.seed)
    keras.mixed_precision.set_global_policy(asked.precision)
    asked.run.mkdir(parents=True, exist_ok=True)
    (asked.run / "train.pid").write_text(f"{os.getpid()}\n")
    shards = Shards(asked.shards, asked.use)
    kept = asked.run / "last.keras"
    model = keras.models.load_model(kept) if kept.exists() else training_model(
        shards.classes, asked
    )  # fmt: skip
    if asked.start and not kept.exists():
        start_from(asked.start, model)
    dictionary = Dictionary.load(asked.run / "dictionary.npz", shards, asked.seed)
    begun = 0
    for side, steps in asked.stages:
        _stage(asked, (shards, dictionary), model, (side, begun + steps))
        begun += steps
    print(f"done: {asked.run / 'last.npz'}", file=sys.stderr)


def _stage(
    asked: argparse.Namespace,
    pictures: tuple[Shards, Dictionary],
    model: Any,
    stage: tuple[int, int],
) -> None:
    side, end = stage
    total, classes_drawn = sum(steps for _, steps in asked.stages), pictures[0].classes
    step = int(model.optimizer.iterations)
    if step >= end:
        return
    source = ahead(
        prepared(
            *pictures, asked.seed, step, (asked.batch, asked.batch, side), threads=asked.threads
        ),
        depth=8,
    )
    while step < end:
        images, classes, wanted = next(source)
        model.optimizer.learning_rate = learning_rate(asked.rate, step + 1, asked.stages)
        one_hot = np.eye(classes_drawn, dtype=np.float32)[classes]
        told = model.train_on_batch(
            images, {"class": one_hot, "description": wanted}, return_dict=True
        )
        step += 1
        if step % 50 == 0 or step == end:
            line: dict[str, Any] = {"step": step, "side": side}
            line |= {name: round(float(value), 4) for name, value in told.items()}
            line["time"] = time.strftime("%H:%M:%S", time.gmtime())
            with (asked.run / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"\r{step}/{total} {line}", end="", file=sys.stderr)
            model.reset_metrics()
        if step % _CHECKPOINT_STEPS == 0 or step == end:
            save(asked.run, model, step)


if __name__ == "__main__":
    main()
