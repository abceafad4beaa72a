"""Writes a small dataset with planted structure in MMRec's format, its ground truth beside it.

  isolator make_dataset --output_dir=data --name=planted --users=2000 --items=800 \\
      --modalities=image:64,text:32,audio:16 --consistent_share=0.3 --seed=1
"""

import dataclasses
from typing import Any

from absl import flags

from isolator_jax.data import SyntheticConfig, make_dataset, write_dataset
from isolator_jax.errors import ConfigError

from .common import cli
from .common.outputs import check_output
from .common.parsing import parse_widths

_DEFAULTS = SyntheticConfig()
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to make the dataset's folder in.", required=True)
_NAME = flags.DEFINE_string("name", "planted", "The dataset's name.")
_MODALITIES = flags.DEFINE_list(
    "modalities",
    [f"{name}:{width}" for name, width in _DEFAULTS.modalities.items()],
    "Modalities and their feature widths.",
)
flags.DEFINE_integer("users", _DEFAULTS.users, "Users.")
flags.DEFINE_integer("items", _DEFAULTS.items, "Items.")
flags.DEFINE_integer("clusters", _DEFAULTS.clusters, "Content clusters, which the features show.")
flags.DEFINE_integer("styles", _DEFAULTS.styles, "Styles, which the features do not show.")
flags.DEFINE_float("consistent_share", _DEFAULTS.consistent_share, "Share of content-consistent users.")
flags.DEFINE_float("loyalty", _DEFAULTS.loyalty, "Share of interactions that follow a user's cluster or style.")
flags.DEFINE_float("mean_interactions", _DEFAULTS.mean_interactions, "Mean interactions of a user.")
flags.DEFINE_float("popularity_exponent", _DEFAULTS.popularity_exponent, "Popularity falls as rank ** -exponent.")
flags.DEFINE_float("feature_noise", _DEFAULTS.feature_noise, "Deviation of features around their cluster's centre.")
flags.DEFINE_integer("seed", _DEFAULTS.seed, "Seed.")


def main() -> None:
    names = [field.name for field in dataclasses.fields(SyntheticConfig) if field.name != "modalities"]
    given: dict[str, Any] = {name: flags.FLAGS[name].value for name in names}
    try:
        config = SyntheticConfig(**given, modalities=parse_widths("modalities", _MODALITIES.value))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    output = check_output("output_dir", _OUTPUT_DIR.value, folder=True)
    dataset, truth = make_dataset(config)
    folder = write_dataset(output, _NAME.value, dataset, truth, config)
    print(f"Written: {folder} ({', '.join(f'{count} {name}' for name, count in dataset.counts().items())})")


if __name__ == "__main__":
    cli.run(main)
