"""Writes docs/cli.md, the reference of the command line, from the commands' own help.

    python docs/generate_cli.py            # write the page
    python docs/generate_cli.py --check    # exit with 1 if the page is not what would be written

A new command needs an entry in `TEXTS`: one or two sentences, and an example where it helps. The
examples were run on the pictures that `make demo` draws; their output is copied from a terminal.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from pomona.cli.main import app

PAGE = Path(__file__).with_name("cli.md")
COLUMNS = 80 - 2  # click leaves the last two columns of a terminal free

HEAD = """\
<!-- Written by docs/generate_cli.py from the commands' own help: edit that, not this page. -->
# The command line

Results go to stdout; progress, notes and errors go to stderr. The progress bar is drawn only where
stderr is a terminal. An error is one line that says what was given, what was expected and what to
do.

| exit code | meaning |
|---|---|
| 0 | done; an image that failed has its row, and its status there |
| 1 | a run could not go on, or `inspect` found vectors that are not as they should be |
| 2 | bad use; nothing was written |
| 3 | `extract` or `classify`: every image that this run did failed |
| 130 | stopped by Ctrl-C (SIGINT) |
| 143 | stopped by SIGTERM |

One Ctrl-C or SIGTERM stops `extract` after the images in hand. It commits what is done, says how
many images are kept, and the same command continues. A second one stops at once: images that are
not yet committed are done again by the next run. Neither leaves anything half-written. On Spark,
the workers see the first signal if TABLE is on this machine or on storage that they share; if it is
behind a URI such as `s3a://`, the waves that run are cancelled, so choose `--wave-files` by what a
stop may cost.

A path may begin with `~`, in quotes and behind an option's `=` as well. A glob as SOURCE must be in
quotes.

## Shell completion

Put one of these lines into the file that your shell reads at its start:

```text
eval "$(_POMONA_COMPLETE=bash_source pomona)"             # bash: ~/.bashrc
eval "$(_POMONA_COMPLETE=zsh_source pomona)"              # zsh: ~/.zshrc
_POMONA_COMPLETE=fish_source pomona | source              # fish: ~/.config/fish/config.fish
```

The bash line needs bash 4.4 or later. The zsh line must come after `compinit`. All of them need
`pomona` on the PATH.

The examples use the pictures that `make demo` draws: five kinds of fruit, and three files that are
no good.
"""


class Text(NamedTuple):
    """What the page says about a command beside its help."""

    before: str
    after: str = ""


TEXTS = {
    "pomona": Text("`python -m pomona` is the same program."),
    "pomona extract": Text(
        "The main job. [feature-table.md](feature-table.md) describes what it writes,\n"
        "[decoding.md](decoding.md) how images become pixels, [spark.md](spark.md) how it runs on\n"
        "Spark.",
        """\
```console
$ pomona extract demo/pictures demo/features --weights drawn
203 images in 3.3 s (62 images/s): 200 ok, 3 failed
failed: 1 empty, 1 truncated, 1 unsupported
  file:/data/demo/pictures/Kiwi/half.jpg: JPEG: image file is truncated: ...
  file:/data/demo/pictures/Plum/empty.jpg: the file is empty: 0 bytes
  file:/data/demo/pictures/Plum/page.jpg: not an image that can be read: ...
table: demo/features (encoder 7140144fbcd8)
next: pomona inspect demo/features
$ pomona extract demo/pictures demo/features --weights drawn
nothing to do: 203 images already done
table: demo/features (encoder 7140144fbcd8)
next: pomona inspect demo/features
```

SOURCE in detail:

- A folder is searched with all folders below it. Links are followed.
- Files are chosen by extension, in any letter case: `.apng` `.avif` `.avifs` `.bmp` `.btf` `.dib`
  `.gif` `.heic` `.heics` `.heif` `.heifs` `.hif` `.icb` `.ico` `.j2c` `.j2k` `.jfi` `.jfif` `.jif`
  `.jp2` `.jpc` `.jpe` `.jpeg` `.jpf` `.jpg` `.jpg2` `.jpx` `.mpo` `.pbm` `.pfm` `.pgm` `.pjp`
  `.pjpeg` `.png` `.pnm` `.ppm` `.targa` `.tf8` `.tga` `.tif` `.tiff` `.vda` `.vst` `.webp`. The
  extension only chooses a file. The bytes decide what it is.
- `--glob` chooses by name instead, and letter case counts. A PATTERN with a slash is held against
  the path below SOURCE, and its `*` takes slashes as well. `--glob '*'` takes every file.
- A glob as SOURCE is for Pomona to expand, so put it into quotes. Its `*` ends at a slash, and
  `**` stands for any number of folders. A file that is named or matched directly is taken
  whatever its extension. A wildcard matches no leading dot.

SOURCE, TABLE and all other locations:

- `file:/x`, `file:///x` and `file://localhost/x` are the path `/x` of this machine.
- Any other `scheme:/` names another file system: `s3a://bucket/x`, `hdfs:/x`, `dbfs:/x`. With
  Spark, Hadoop reads and writes it. Without Spark, `extract` refuses it. Letter case of the scheme
  does not matter, and `hdfs:/x` is `hdfs:///x`.
- If a file or folder of the name `scheme:/x` exists here, that path is meant. With Spark, a known
  scheme such as `hdfs:` is refused then: write `./hdfs:/x` or `hdfs:///x`.
- Paths of Windows (`C:\\photos`), `file:` URIs of other hosts and web addresses are refused.

Excluded files and folders:

- `--exclude PATTERN` leaves out files and folders, also those that `--glob` chooses.
- A PATTERN without a slash is a name or matches names, at any depth: `@eaDir`, `*.mov`.
- A PATTERN with a slash matches paths below SOURCE: `2019/raw/*`, `/drafts`. If SOURCE is a glob,
  such paths start at the folder before its first wildcard.
- A slash at the end matches folders only: `drafts/`.
- `*`, `?` and `[...]` stay within one name, `**` matches any number of folders, and letter case
  counts.
- An excluded folder is not entered, so no pattern takes back a file in it.
- The last PATTERN that matches decides. `!` in front takes back what an earlier one excludes.
- These are excluded by default: hidden files and folders (`.*`); `@eaDir`, `.thumbnails`,
  `.@__thumb`, `__MACOSX`, `Thumbs.db`; `#recycle`, `@Recycle`, `.Trash*`, `$RECYCLE.BIN`,
  `#snapshot`, `@Recently-Snapshot`; and what Spark and Databricks write beside data: the files
  `_SUCCESS`, `_metadata`, `_common_metadata`, `_committed_*`, `_started_*` and the folders
  `_temporary`, `_spark_metadata`, `_delta_log`. All other names that begin with `_` are taken.
- You get such files if you name them. SOURCE may be one of them, or spell its name out
  (`'photos/*/@eaDir'`, `'photos/.*.jpg'`). A part of a `--glob` that begins with a dot matches
  hidden names (`--glob '.*.jpg'`). `--exclude '!.*'` takes all hidden files and folders back.
- A file that has a row and is excluded now counts as gone: `--prune` deletes its row.

The summary counts files that were not chosen by extension (`passed over: 1,000 .mov, 3 .xmp`), and
excluded files and folders by pattern (`excluded: 12 @eaDir, 5 hidden`). An excluded folder counts
once, whatever is in it. The ten most frequent kinds are named; `--json` has all, up to 1,000
extensions. A PATTERN that matches nothing is told, and counts 0 in `--json`.

```console
$ pomona extract 'demo/pictures/**/00*.jpg' few/ --encoder fruit.encoder
$ pomona extract demo/pictures few/ --encoder fruit.encoder --glob 'Kiwi/*' --glob '*9.jpg'
```

Labels in detail:

| `--label` | the label of an image |
|---|---|
| `parent` | the name of the folder that it lies in |
| `none` | null |
| `regex:PATTERN` | the first group of PATTERN, searched in the path as the table has it |
| `csv:FILE` | what a CSV file says of it; null if the file does not name it |

```console
$ pomona extract photos/ features/ --label 'regex:/([^/]+)/[^/]+/[^/]+$'
$ pomona extract photos/ features/ --label csv:labels.csv
$ pomona extract photos/ features/ --label csv:labels.csv:path=id,label=breed
```

The first of these labels by the folder above the image's own.

- Each run compares the labels of all images in SOURCE and changes those that differ, without the
  network: `labels changed: 20`. Rows of other sources keep theirs.
- TABLE keeps the rule in `.pomona-label.json`. A later run without `--label` follows the rule of
  the last `--label`. If TABLE has no such file, new rows get `parent`, rows that exist keep their
  labels, and the summary counts those that `parent` would change (`labels kept: 20 rows`).
- If only some images have a label, the summary says `labels: 3 of 6 images have a label`.

How Pomona reads a CSV file of labels:

- The separator is a comma, a semicolon, a tab or `|`: the one that gives all lines the same number
  of columns. `sep=` overrides it: `csv:labels.txt:sep=tab`. A first line `sep=;`, as Excel knows
  it, counts too.
- The encoding is UTF-8, or UTF-16 with a byte order mark. Other encodings are refused.
- `path=` and `label=` name the columns. Without them, usual names are found in any letter case
  (`path`, `filename`, `image_id`, `id`, ...; `label`, `class`, `category`, `target`, ...). A file
  of two columns needs no first line of names: the first column is the path. Other columns are
  ignored.
- A path is absolute, a URI, or the end of one from a slash on: `Kiwi/000.jpg`. It may lack the
  extension: `Kiwi/000`. If several lines fit an image, the longest path counts. A whole name goes
  before a name without the extension. A file with backslashes only is read as one with slashes.
- A path that several lines give different labels is an error. So are a line that stands for two
  images, and a file that names no image of SOURCE. Pomona checks this before any work.

`--json` in detail:

```console
$ pomona extract demo/pictures demo/features --weights drawn --json | python -m json.tool
{
    "files": 203,
    "ok": 200,
    "failed": 3,
    "skipped": 0,
    "new": 203,
    "changed": 0,
    "retried": 0,
    "gone": 0,
    "pruned": 0,
    "taken_over": 0,
    "missing": 0,
    "missing_kept": 0,
    "absent_folders": {},
    "labels_changed": 0,
    "labels_kept": 0,
    "labelled": 203,
    "label": "parent",
    "dry_run": false,
    "seconds": 1.973,
    "images_per_second": 102.9,
    "table": "demo/features",
    "encoder": "7140144fbcd86a20e64bd31d17c4bf9b22cbce7a93e03744999210e5c0be618c",
    "model_loads": 2,
    "by_status": {
        "ok": 200,
        "truncated": 1,
        "empty": 1,
        "unsupported": 1
    },
    "unlisted": [],
    "passed_over": {},
    "excluded": {}
}
```

| key | meaning |
|---|---|
| `files` | images that SOURCE listed |
| `ok`, `failed` | rows that this run wrote, with and without a vector; `by_status` says more |
| `skipped` | images that had their row already |
| `new`, `changed`, `retried` | images without a row, with a stale one, failed ones tried again |
| `gone`, `pruned` | rows whose file was in SOURCE and is no more; those of them that were removed |
| `taken_over` | images without a row that got the vector of a row with the same bytes |
| `missing` | with `--missing`: rows that were removed because their file does not exist |
| `missing_kept` | such rows that stay because their folder does not exist or is empty |
| `absent_folders` | such folders, each with its number of rows |
| `labels_changed` | rows that exist and got another label |
| `labels_kept` | rows that keep a label which `parent` would not give |
| `labelled`, `label` | images of SOURCE that have a label, and by which rule |
| `dry_run` | whether all that was only found out |
| `seconds` | of the whole job, with the building of the encoder and the start of Spark |
| `images_per_second` | rows that this run wrote, by these seconds |
| `table`, `encoder` | where the rows are, and the fingerprint of what made them |
| `model_loads` | how often the network was loaded, over all processes |
| `unlisted` | folders that could not be listed, each with its reason |""",
    ),
    "pomona encoder": Text(
        "An encoder is everything that decides a feature vector, in one file: network, weights,\n"
        "preprocessing. `extract` builds one where it is needed and keeps it in a cache:\n"
        "`encoders` in `$POMONA_CACHE`, or in `pomona` in the user's cache folder."
    ),
    "pomona encoder build": Text(
        "For machines that have no Keras, no network access or no weights at hand, and to keep\n"
        "what made a table.",
        """\
```console
$ pomona encoder build mobilenet_v2 --weights untrained:0 -o fruit.encoder
fruit.encoder: mobilenet_v2, 9.3 MB
encoder
fingerprint     710847ef024b9ae6df42232b0a52f334e1be5719a9ed7526a415c39ac87c58cf
model           mobilenet_v2
architecture    keras.applications.MobileNetV2
weights         untrained:0
weights_sha256  878b9f7db2400f4fe5976e7ff5966f93b34535d143aa8941ff5bbbcedefde35d
input_size      224x224
resize          bicubic, squash
channel_order   RGB
mean            127.5, 127.5, 127.5
std             127.5, 127.5, 127.5
output          global_average_pooling2d
dimension       1280
precision       f32
runtime         openvino
pomona_version  0.1.0
$ pomona extract demo/pictures demo/features --encoder fruit.encoder
```""",
    ),
    "pomona encoder convert": Text(
        "For an encoder that is at hand without its weights. [precision.md](precision.md) says\n"
        "what each precision saves, and what it changes.",
        """\
```console
$ pomona encoder convert fruit.encoder --precision int8 \\
      --calibrate demo/pictures -o int8.encoder | head -1
int8.encoder: mobilenet_v2, 2.7 MB
```
""",
    ),
    "pomona encoder show": Text(
        "It prints what `pomona encoder build` printed. A table made by this encoder has the same\n"
        "in its provenance."
    ),
    "pomona inspect": Text(
        "Reads a table once, whichever engine wrote it. A table on another file system than this\n"
        "machine's is for Spark to read.",
        """\
```console
$ pomona inspect demo/features --rows 2
demo/features: 203 rows, 200 ok, 3 failed
model:     mobilenet_v2, weights drawn
dimension: 1,280
vectors:   200 of the right length, without NaN, none all zero
classes:   5

status       images
empty             1
ok              200
truncated         1
unsupported       1

truncated: file:/data/demo/pictures/Kiwi/half.jpg
  JPEG: image file is truncated: Corrupt JPEG data: premature end of data segment
empty: file:/data/demo/pictures/Plum/empty.jpg
  the file is empty: 0 bytes
unsupported: file:/data/demo/pictures/Plum/page.jpg
  not an image that can be read: looks like HTML, perhaps an error page; ...

label      images
Apple Red      40
Banana         40
Kiwi           41
Plum           42
Pêche          40

status  label      size          path
ok      Apple Red  100x100 JPEG  file:/data/demo/pictures/Apple Red/000.jpg
ok      Apple Red  100x100 JPEG  file:/data/demo/pictures/Apple Red/001.jpg

provenance
fingerprint     7140144fbcd86a20e64bd31d17c4bf9b22cbce7a93e03744999210e5c0be618c
model           mobilenet_v2
architecture    keras.applications.MobileNetV2
weights         drawn
weights_sha256  32b7bbb67334293f24594e53412372fc85a1435ec7896ae0250d0c1817bdbccd
input_size      224x224
resize          bicubic, squash
channel_order   RGB
mean            127.5, 127.5, 127.5
std             127.5, 127.5, 127.5
output          global_average_pooling2d
dimension       1280
precision       f32
runtime         openvino
pomona_version  0.1.0
decode          exact
$ pomona inspect demo/features --failed --csv > failed.csv
```

In a terminal of 120 columns or more, and in a pipe, the rows also show the first numbers of each
vector. `--failed` lists all failed files, each with its reason.""",
    ),
    "pomona train": Text(
        "Makes a classifier of a table's labels. [using-features.md](using-features.md) says how\n"
        "it learns, what it tests on, and what the interval means.",
        """\
```console
$ pomona train demo/features -o fruit.classifier --plot confusion.png
pomona: note: skipped 3 images without a vector
trained on 160 images of 5 classes in 3.1 s (C = 1, 5-fold cross-validation on 160 images)
accuracy: 1.0000, 40 of 40 images right (95 % Wilson interval 0.9124 to 1.0000)
class      images  precision  recall
Apple Red       8      1.000   1.000
Banana          8      1.000   1.000
Kiwi            8      1.000   1.000
Plum            8      1.000   1.000
Pêche           8      1.000   1.000
classifier: fruit.classifier (encoder 7140144fbcd8)
confusion matrix: confusion.png
next: pomona classify fruit.classifier IMAGES
```

`--json` prints the same, the confusion matrix and the surest mistakes as one object.""",
    ),
    "pomona classify": Text(
        "Images need the encoder of the table that the classifier was trained on: inside the\n"
        "classifier, in `--encoder`, or built again by its name. A table needs none.",
        """\
```console
$ pomona classify fruit.classifier demo/pictures/Plum | tail -2
pomona: classified 40 images; failed: 1 empty, 1 unsupported
file:/data/demo/pictures/Plum/036.jpg   Plum    0.9998  ok
file:/data/demo/pictures/Plum/page.jpg                  unsupported  not an image that ...
```

`--json` prints one object with a list `images`, each with `path`, `label`, `probability`, `status`
and `error`.""",
    ),
    "pomona search": Text(
        "[exploring.md](exploring.md) has a picture of what it finds, and says when an index\n"
        "pays.",
        """\
```console
$ pomona search demo/features 'Kiwi/000.jpg' -k 3
```""",
    ),
    "pomona duplicates": Text(
        "[exploring.md](exploring.md) says how to choose the threshold, and shows its histogram.",
        """\
```console
$ pomona duplicates demo/features --threshold 0.995 --groups 2
```""",
    ),
    "pomona project": Text(
        "[exploring.md](exploring.md) shows the plot. With `--master` the tables may lie on any\n"
        "file system that Hadoop reads, and Spark ML computes the components.",
        """\
```console
$ pomona project demo/features -k 20 -o small --plot pca.png
```""",
    ),
    "pomona report": Text(
        "[exploring.md](exploring.md) shows the page. It holds small pictures of the images:\n"
        "share it with those who may see them.",
        """\
```console
$ pomona report demo/features -o report.html
```""",
    ),
    "pomona models": Text(
        "The networks that `--model` knows. The licence is that of the ImageNet weights that\n"
        "Keras publishes.",
        """\
```console
$ pomona models | head -6
model                input    dimension  parameters  weights' licence
mobilenet            224x224       1024   3,228,864  Apache-2.0
mobilenet_v2_035     224x224       1280     410,208  Apache-2.0
mobilenet_v2_050     224x224       1280     706,224  Apache-2.0
mobilenet_v2_075     224x224       1280   1,382,064  Apache-2.0
mobilenet_v2         224x224       1280   2,257,984  Apache-2.0
```""",
    ),
}


def page() -> str:
    """The page as it should be.

    Raises:
        SystemExit: a command has no entry in `TEXTS`, or an entry has no command.
    """
    contexts = list(_contexts(app, None))
    names = {context.command_path for context in contexts}
    if strange := names ^ set(TEXTS):
        sys.exit(f"{Path(__file__).name}: TEXTS and the commands differ: {sorted(strange)}")
    return "\n".join([HEAD, *(_section(context) for context in contexts)])


def _contexts(command: click.Command, parent: click.Context | None) -> Iterator[click.Context]:
    """A context for the command and for each below it, in the order that its help lists them."""
    settings = command.context_settings | {"terminal_width": COLUMNS}
    name = command.name if parent else "pomona"
    context = click.Context(command, parent, info_name=name, **settings)
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from _contexts(command.commands[below], context)


def _section(context: click.Context) -> str:
    name, text = context.command_path, TEXTS[context.command_path]
    parts = [f"## {name}", text.before, f"```text\n{context.get_help()}\n```", text.after]
    return "\n\n".join(filter(None, parts)) + "\n"


def main() -> None:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it differs")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        sys.exit(f"{PAGE.name} is not what the commands say: run python docs/generate_cli.py")


if __name__ == "__main__":
    main()
