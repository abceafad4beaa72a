"""Prints Table 1, the statistics of datasets, and writes it as JSON if asked to.

  isolator statistics --data_dir=data --datasets=baby,sports

Without data flags it is of the embedded dataset.
"""

from absl import flags

from isolator_jax.data import make_dataset, read_dataset
from isolator_jax.data.statistics import dataset_statistics
from isolator_jax.errors import ConfigError
from isolator_jax.files import write_json
from isolator_jax.reporting import statistics_table

from .common import cli
from .common.outputs import check_output

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder that holds the datasets' folders.")
_DATASETS = flags.DEFINE_list("datasets", None, "Datasets to read. Default: the embedded dataset.")
_JSON = flags.DEFINE_string("json", None, "Also write the statistics, unrounded, to this file.")


def main() -> None:
    if (_DATA_DIR.value is None) != (_DATASETS.value is None):
        raise ConfigError("--data_dir and --datasets go together: give both, or neither for the embedded dataset")
    if _DATASETS.value == []:
        raise ConfigError("--datasets names no dataset")
    if _JSON.value is not None:
        check_output("json", _JSON.value)
    if _DATA_DIR.value is None or _DATASETS.value is None:
        datasets = [make_dataset()[0]]
    else:
        datasets = [read_dataset(_DATA_DIR.value, name) for name in _DATASETS.value]
    rows = [dataset_statistics(dataset) for dataset in datasets]
    print(statistics_table(rows))
    if _JSON.value is not None:
        write_json(_JSON.value, rows)


if __name__ == "__main__":
    cli.run(main)
