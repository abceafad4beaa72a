"""The flags of a training run, and their conversion into a `RunConfig`."""

from pathlib import Path
from typing import Any

from absl import flags

from isolator_jax.backbones import BACKBONES
from isolator_jax.errors import ConfigError, RunError, brief
from isolator_jax.features import FUSIONS
from isolator_jax.runs import read_config
from isolator_jax.runs.config import TABLE_DTYPES, RunConfig

from . import knock_out
from .parsing import parse_hparams

_FLAGS = flags.FLAGS

flags.adopt_module_key_flags(knock_out)

flags.DEFINE_string(
    "config", None, "Start from the configuration of a run, RUN_DIR/config.json; flags given beside it win."
)
flags.DEFINE_enum("backbone", "vbpr", list(BACKBONES), "Recommender to train.")
flags.DEFINE_string(
    "hparams", "", "Hyper-parameters of the backbone, as name=value,name=value; those left out take their defaults."
)
flags.DEFINE_string("data_dir", None, "Folder that holds the dataset's folder. Default: the embedded dataset.")
flags.DEFINE_string("dataset", None, "Dataset to read: DATA_DIR/DATASET/DATASET.inter and its *_feat.npy.")
flags.DEFINE_list("modalities", None, "Modalities to use, in this order. Default: all there are.")
flags.DEFINE_integer("seed", RunConfig.seed, "Seed of initial parameters, shuffling and negatives.")
flags.DEFINE_bool(
    "training_strategy",
    RunConfig.training_strategy,
    "Train ISOLATOR's score (Eq. 7); --notraining_strategy: plain BPR.",
)
flags.DEFINE_float("gamma", RunConfig.gamma, "Exponent of the training strategy (Eq. 7).")
flags.DEFINE_float("alpha", RunConfig.alpha, "U-ISOLATOR: fall of g above the user's consistency (Eq. 12).")
flags.DEFINE_float("beta", RunConfig.beta, "U-ISOLATOR: rise of g below the user's consistency (Eq. 12).")
flags.DEFINE_float("iota", RunConfig.iota, "U-ISOLATOR: exponent at inference (Eq. 13).")
flags.DEFINE_enum(
    "fusion",
    RunConfig.fusion,
    FUSIONS,
    "Average the modalities' similarities (the paper) or their sigmoids (its release).",
)
flags.DEFINE_integer("batch_size", RunConfig.batch_size, "Training triples a step, at most.")
flags.DEFINE_integer("max_epochs", RunConfig.max_epochs, "Train at most so many epochs.")
flags.DEFINE_integer("patience", RunConfig.patience, "Stop after so many epochs without better validation Recall@20.")
flags.DEFINE_integer(
    "similarity_budget_mb",
    RunConfig.similarity_budget_mb,
    "Largest users x items similarity table in MiB; a larger one is not stored but computed on the fly.",
)
flags.DEFINE_enum("similarity_dtype", RunConfig.similarity_dtype, TABLE_DTYPES, "Storage type of that table.")


def config_from_flags() -> RunConfig:
    """The run's configuration: of the flags, over that of `--config` if it is given.

    Raises:
      ConfigError: unknown, contradictory or impossible values.
      RunError: the file of `--config` cannot be read or is none of a run.
    """
    names = [name for name in RunConfig.__dataclass_fields__ if name not in ("hparams", "modalities", "knock_out")]
    values: dict[str, Any] = {name: _FLAGS[name].value for name in names}
    values["modalities"] = None if _FLAGS.modalities is None else tuple(_FLAGS.modalities)
    values["knock_out"] = knock_out.knock_out_from_flags()
    values["hparams"] = parse_hparams("hparams", _FLAGS.hparams)
    if _FLAGS.config is not None:
        saved = _read_saved(Path(_FLAGS.config))
        if not _FLAGS["backbone"].present or values["backbone"] == saved.backbone:
            values["hparams"] = saved.given_hparams | values["hparams"]
        kept = [name for name in RunConfig.__dataclass_fields__ if name != "hparams" and not _FLAGS[name].present]
        values |= {name: getattr(saved, name) for name in kept}
    if not values["training_strategy"] and _FLAGS["gamma"].present:
        raise ConfigError("--gamma belongs to the training strategy; leave it out with --notraining_strategy")
    return RunConfig(**values)


def _read_saved(path: Path) -> RunConfig:
    if path.name != "config.json":
        raise RunError(f"--config={brief(path)}: give the config.json of a run folder")
    return RunConfig.from_dict(read_config(path.parent)["config"])
