"""Makes a dataset folder in MMRec's format of raw interactions and item features.

  isolator prepare --interactions=ratings.csv.gz --output_dir=data --name=mine --min_rating=4 --k_core=5
  isolator prepare --interactions=reviews.jsonl --output_dir=data --name=reviews --split=time \\
      --features=image=image.npy,audio=audio.parquet --feature_ids=image=image_ids.txt \\
      --text=items.csv --text_columns=title,description --missing_features=zeros

Writes NAME.inter, u_id_mapping.csv and i_id_mapping.csv (original ids), MODALITY_feat.npy, and
prepare.json: every choice, the counts after each step, and checksums. The file is read once, from
start to end: at most some 45 bytes of memory a line and 150 for each different id (50 million
lines of 500,000 users and 100,000 items: 2.3 GB).
"""

from pathlib import Path
from typing import Any

from absl import flags

from isolator_jax.data.prepare import MISSING_FEATURES, SPLITTERS, PrepareConfig, prepare_dataset
from isolator_jax.errors import ConfigError, brief

from .common import cli
from .common.outputs import check_output
from .common.parsing import parse_hparams

_INTERACTIONS = flags.DEFINE_string(
    "interactions",
    None,
    "Raw interactions: CSV, TSV or other separated text, JSON lines, any of them plain or .gz, or parquet.",
    required=True,
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to make the dataset's folder in.", required=True)
_NAME = flags.DEFINE_string("name", None, "The dataset's name.", required=True)
_COLUMNS = flags.DEFINE_list("columns", None, "Names of the columns of interactions without a header.")
for _role in ("user", "item", "rating", "time", "split"):
    flags.DEFINE_string(f"{_role}_column", None, f"Column of {_role}s. Default: one of the usual names.")
flags.DEFINE_float("min_rating", None, "Drop interactions rated lower. Default: ratings are not read.")
flags.DEFINE_enum("duplicates", "first", ["first", "last"], "Which interaction of a user with an item to keep.")
flags.DEFINE_integer("k_core", 0, "Drop users and items of fewer interactions, until none are left. 0: keep all.")
flags.DEFINE_enum(
    "split",
    "random",
    SPLITTERS,
    "How to part the interactions: each user's at random or by time (user_time), each user's last two "
    "(leave_one_out; two drawn ones where there are no times), all at two moments (time), or as given by a column or "
    "by --validation and --test. A given split may lack validation, for lists to be audited alone.",
)
_RATIOS = flags.DEFINE_list("ratios", ["8", "1", "1"], "Shares of training, validation and test.")
flags.DEFINE_integer("seed", 0, "Seed of a random split, of ties in time, and of the text's decomposition.")
_VALIDATION = flags.DEFINE_string("validation", None, "Validation interactions of a given split.")
_TEST = flags.DEFINE_string("test", None, "Test interactions of a given split.")
_FEATURES = flags.DEFINE_string(
    "features", "", "Feature files, as image=image.npy,audio=audio.parquet; tables need a column of item ids."
)
_FEATURE_IDS = flags.DEFINE_string("feature_ids", "", "Item ids of the rows of .npy features, as image=ids.txt.")
flags.DEFINE_enum(
    "missing_features",
    "refuse",
    MISSING_FEATURES,
    "Items that a feature file lacks: refuse them, zeros (no content), mean of the others, or drop their interactions.",
)
flags.DEFINE_bool(
    "all_items",
    False,
    "Keep items that have features and no interactions: lists may hold them, and models rank them.",
)
_TEXT = flags.DEFINE_string("text", None, "Table of items with text, for the modality text (TF-IDF and SVD).")
_TEXT_COLUMNS = flags.DEFINE_list("text_columns", [], "Its columns of text.")
flags.DEFINE_integer("text_dim", 256, "Width of the modality text.")

_AS_THEY_ARE = (
    *("user_column", "item_column", "rating_column", "time_column", "split_column"),
    *("min_rating", "duplicates", "k_core", "split", "seed", "missing_features", "all_items", "text_dim"),
)


def main() -> None:
    as_they_are: dict[str, Any] = {name: flags.FLAGS[name].value for name in _AS_THEY_ARE}
    config = PrepareConfig(
        interactions=Path(_INTERACTIONS.value),
        name=_NAME.value,
        columns=None if _COLUMNS.value is None else tuple(_COLUMNS.value),
        ratios=_parse_ratios(_RATIOS.value),
        validation=_path(_VALIDATION.value),
        test=_path(_TEST.value),
        features=_paths("features", _FEATURES.value),
        feature_ids=_paths("feature_ids", _FEATURE_IDS.value),
        text=_path(_TEXT.value),
        text_columns=tuple(_TEXT_COLUMNS.value),
        **as_they_are,
    )
    output = check_output("output_dir", _OUTPUT_DIR.value, folder=True)
    folder = prepare_dataset(config, output, report=lambda line: print(line, flush=True))
    print(f"Written: {folder}")


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _paths(flag: str, text: str) -> dict[str, Path]:
    return {name: Path(path) for name, path in parse_hparams(flag, text).items()}


def _parse_ratios(parts: list[str]) -> tuple[int, int, int]:
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise ConfigError(f"--ratios must be three whole numbers, as 8,1,1; got {brief(repr(','.join(parts)))}")
    return int(parts[0]), int(parts[1]), int(parts[2])


if __name__ == "__main__":
    cli.run(main)
