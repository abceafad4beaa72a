"""The flags of a training run, and their conversion into a `RunConfig`."""

from absl import flags

from experiments.parsing import parse_hparams
from isolator_jax.backbones import BACKBONES
from isolator_jax.config import TABLE_DTYPES, ConfigError, RunConfig
from isolator_jax.similarity import FUSIONS

_FLAGS = flags.FLAGS

flags.DEFINE_enum("backbone", "vbpr", list(BACKBONES), "Recommender to train.")
flags.DEFINE_string(
    "hparams", "", "Hyper-parameters of the backbone, as name=value,name=value; those left out take their defaults."
)
flags.DEFINE_string("data_dir", None, "Folder that holds the dataset's folder. Default: the embedded dataset.")
flags.DEFINE_string("dataset", None, "Dataset to read: DATA_DIR/DATASET/DATASET.inter and its *_feat.npy.")
flags.DEFINE_list("modalities", None, "Modalities to use, in this order. Default: all there are.")
flags.DEFINE_integer("seed", 0, "Seed of initial parameters, shuffling and negatives.")
flags.DEFINE_bool("training_strategy", True, "Train ISOLATOR's score (Eq. 7); --notraining_strategy: plain BPR.")
flags.DEFINE_float("gamma", 0.1, "Exponent of the training strategy (Eq. 7).")
flags.DEFINE_float("alpha", 2.0, "U-ISOLATOR: fall of g above the user's consistency (Eq. 12).")
flags.DEFINE_float("beta", 5.0, "U-ISOLATOR: rise of g below the user's consistency (Eq. 12).")
flags.DEFINE_float("iota", 0.1, "U-ISOLATOR: exponent at inference (Eq. 13).")
flags.DEFINE_enum(
    "fusion", "mean", FUSIONS, "Average the modalities' similarities (the paper) or their sigmoids (its release)."
)
flags.DEFINE_integer("batch_size", 2048, "Training triples a step, at most.")
flags.DEFINE_integer("max_epochs", 1000, "Train at most so many epochs.")
flags.DEFINE_integer("patience", 25, "Stop after so many epochs without better validation Recall@20.")
flags.DEFINE_integer(
    "similarity_budget_mb",
    2048,
    "Largest users x items similarity table in MiB; a larger one is not stored but computed on the fly.",
)
flags.DEFINE_enum("similarity_dtype", "float32", TABLE_DTYPES, "Storage type of that table.")


def config_from_flags() -> RunConfig:
    """The run's configuration.

    Raises:
      ConfigError: unknown, contradictory or impossible values.
    """
    if not _FLAGS.training_strategy and _FLAGS["gamma"].present:
        raise ConfigError("--gamma belongs to the training strategy; leave it out with --notraining_strategy")
    names = RunConfig.__dataclass_fields__
    values = {name: _FLAGS[name].value for name in names if name not in ("hparams", "modalities")}
    modalities = None if _FLAGS.modalities is None else tuple(_FLAGS.modalities)
    return RunConfig(**values, hparams=parse_hparams(_FLAGS.hparams), modalities=modalities)
