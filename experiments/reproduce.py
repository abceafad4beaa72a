"""Makes the paper's tables and figures, training what is missing.

  isolator reproduce --artefact=table2,fig1 --data_dir=data --datasets=instruments \\
      --runs_dir=runs --output_dir=artefacts --seeds=0,1,2

The runs are isolator train's: RUNS_DIR/DATASET/BACKBONE/seed-SEED (of chosen modalities:
.../modalities-NAME+NAME/...), with plain BPR in `vanilla`; those that are finished are used, the others
are trained or resumed, and a run of another configuration is refused. Backbones have their default
hyper-parameters, but for what `--tuned` sets, such as what isolator sweep chose. U-ISOLATOR's alpha, beta
and iota are chosen on validation, by Recall@20 averaged over the seeds.

Tables are written as Markdown, LaTeX and CSV, figures as PNG, PDF and the CSV of what they
show. `claims` says which of the paper's claims hold on each dataset, `confounding` how much of UCBias activity
and popularity explain, beside rankers by popularity and by content alone.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from absl import flags

from isolator_jax.backbones import BACKBONES
from isolator_jax.data import read_dataset
from isolator_jax.data.statistics import dataset_statistics
from isolator_jax.errors import ConfigError, brief
from isolator_jax.runs.config import RunConfig

from .common import cli
from .common.artefacts import ARTEFACTS, Made, check_drawing, make, write_statistics
from .common.outputs import check_output
from .common.parsing import parse_counts, parse_seeds, parse_tuned
from .common.tested import check_models, load_models, load_references

_ARTEFACT = flags.DEFINE_list("artefact", None, f"What to make, of {', '.join(ARTEFACTS)}; or all.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder that holds the datasets' folders.", required=True)
_DATASETS = flags.DEFINE_list("datasets", None, "Datasets.", required=True)
_MODALITIES = flags.DEFINE_list("modalities", None, "Modalities to use, in this order. Default: all there are.")
_BACKBONES = flags.DEFINE_list("backbones", list(BACKBONES), "Backbones, in the order shown.")
_TABLE3_BACKBONE = flags.DEFINE_enum("table3_backbone", "vbpr", list(BACKBONES), "Backbone of Table 3.")
_TUNED = flags.DEFINE_multi_string(
    "tuned",
    [],
    "Hyper-parameters, or gamma, of one backbone in place of the common ones: backbone:name=value,name=value; "
    "may be repeated.",
)
_SEEDS = flags.DEFINE_list("seeds", ["0"], "Seeds of every run.")
_FEWER_SEEDS = flags.DEFINE_list(
    "fewer_seeds", [], "backbone:COUNT, for backbones that are to have the first COUNT of --seeds alone."
)
_GAMMA = flags.DEFINE_float(
    "gamma", RunConfig.gamma, "Exponent of the training strategy (Eq. 7), but for what --tuned sets."
)
_MAX_EPOCHS = flags.DEFINE_integer("max_epochs", RunConfig.max_epochs, "Train at most so many epochs.", 1)
_RUNS_DIR = flags.DEFINE_string("runs_dir", "runs", "Folder of the runs.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "artefacts", "Folder for the tables and figures.")


def main() -> None:
    wanted = ARTEFACTS if _ARTEFACT.value == ["all"] else _ARTEFACT.value
    unknown = [name for name in wanted if name not in ARTEFACTS]
    for flag, names in [
        ("artefact", wanted),
        ("datasets", _DATASETS.value),
        ("backbones", _BACKBONES.value),
        ("modalities", _MODALITIES.value),
    ]:
        if names is not None and len(set(names)) < max(1, len(names)):
            raise ConfigError(f"--{flag} must have at least one name, and each once")
    if unknown:
        raise ConfigError(
            f"--artefact has no {brief(', '.join(unknown))}; there are {', '.join(ARTEFACTS)}, and all, by itself"
        )
    unknown = [name for name in _BACKBONES.value if name not in BACKBONES]
    if unknown:
        raise ConfigError(f"--backbones has no {brief(', '.join(unknown))}; there are {', '.join(BACKBONES)}")
    of_table3 = [_TABLE3_BACKBONE.value] if "table3" in wanted else []
    backbones = list(dict.fromkeys(_BACKBONES.value + of_table3))
    seeds = seeds_of(backbones)
    configs = make_configs(backbones)
    if any(name.startswith("fig") for name in wanted):
        check_drawing()
    check_output("runs_dir", _RUNS_DIR.value, folder=True)
    output = check_output("output_dir", _OUTPUT_DIR.value, folder=True)
    if "table1" in wanted:
        statistics = [
            dataset_statistics(read_dataset(_DATA_DIR.value, name, _MODALITIES.value)) for name in _DATASETS.value
        ]
        write_statistics(statistics, output / "table1")
    planned = [needed(wanted, configs, dataset) for dataset in _DATASETS.value]
    # What can be wrong with any is found before the first is trained.
    for config in itertools.chain.from_iterable(itertools.chain.from_iterable(planned)):
        check_models(config, seeds[config.backbone], _RUNS_DIR.value)
    for dataset, configs_of_dataset in zip(_DATASETS.value, planned, strict=True):
        models, of_modalities = (
            [load_models(config, seeds[config.backbone], _RUNS_DIR.value) for config in part]
            for part in configs_of_dataset
        )
        references = load_references(configs_of_dataset[0][0]) if "confounding" in wanted else []
        made = Made(models, of_modalities, references)
        for name in wanted:
            if name != "table1":
                make(name, made, output / f"{name}-{dataset}")


def needed(
    wanted: Sequence[str], configs: Mapping[str, RunConfig], dataset: str
) -> tuple[list[RunConfig], list[RunConfig]]:
    """The models that the wanted artefacts of a dataset need: of all backbones, and Table 3's by modality."""
    chosen = None if _MODALITIES.value is None else tuple(_MODALITIES.value)
    of_dataset = {
        backbone: dataclasses.replace(config, dataset=dataset, modalities=chosen)
        for backbone, config in configs.items()
    }
    models, of_modalities = [], []
    if set(wanted) - {"table1", "table3"}:
        models = [of_dataset[backbone] for backbone in _BACKBONES.value]
    if "table3" in wanted:
        names = list(read_dataset(_DATA_DIR.value, dataset, chosen).features)
        subsets = [*((name,) for name in names if len(names) > 1), chosen]
        config = of_dataset[_TABLE3_BACKBONE.value]
        of_modalities = [dataclasses.replace(config, modalities=subset) for subset in subsets]
    return models, of_modalities


def seeds_of(backbones: Sequence[str]) -> dict[str, list[int]]:
    """The seeds of each backbone: --seeds, or the first of them.

    Raises:
      ConfigError: seeds that are none, or --fewer_seeds of a backbone that is not wanted.
    """
    seeds = parse_seeds("seeds", _SEEDS.value)
    counts = parse_counts("fewer_seeds", _FEWER_SEEDS.value, most=len(seeds))
    if unwanted := counts.keys() - set(backbones):
        raise ConfigError(f"--fewer_seeds names {brief(', '.join(unwanted))}; the backbones are {', '.join(backbones)}")
    return {backbone: seeds[: counts.get(backbone)] for backbone in backbones}


def make_configs(backbones: Sequence[str]) -> dict[str, RunConfig]:
    """Each backbone's configuration, on the first dataset.

    Raises:
      ConfigError: an impossible value, or --tuned of a backbone that is not wanted.
    """
    tuned = parse_tuned("tuned", _TUNED.value)
    if unwanted := tuned.keys() - set(backbones):
        raise ConfigError(f"--tuned names {brief(', '.join(unwanted))}; the backbones are {', '.join(backbones)}")
    configs = {}
    for backbone in backbones:
        hparams = tuned.get(backbone, {})
        try:
            gamma = float(hparams.pop("gamma", _GAMMA.value))
        except ValueError:
            raise ConfigError(f"--tuned: gamma of {backbone} must be a number") from None
        configs[backbone] = RunConfig(
            backbone=backbone,
            hparams=hparams,
            data_dir=_DATA_DIR.value,
            dataset=_DATASETS.value[0],
            gamma=gamma,
            max_epochs=_MAX_EPOCHS.value,
        )
    return configs


if __name__ == "__main__":
    cli.run(main)
