"""Write a data set of images as the library datasets of Hugging Face does.

In an environment of its own: datasets is not needed by any test.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import datasets

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from noise import noise  # noqa: E402 - beside this folder

CLASSES = ("kiwi", "quince")


def main() -> None:
    rows = []
    for number in range(7):
        file = io.BytesIO()
        noise(20 + number, 30 - number).save(file, "PNG")
        content = b"no image" if number == 3 else file.getvalue()
        rows.append(
            {
                "image": {"bytes": content, "path": f"{CLASSES[number % 2]}/{number}.png"},
                "label": number % 2,
                "id": 100 + number,
            }
        )
    features = datasets.Features(
        image=datasets.Image(),
        label=datasets.ClassLabel(names=list(CLASSES)),
        id=datasets.Value("int64"),
    )
    made = datasets.Dataset.from_list(rows, features=features)
    made.to_parquet(FOLDER / "images.parquet", batch_size=3)


if __name__ == "__main__":
    main()
