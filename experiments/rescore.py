"""Rescores a model trained elsewhere: D- and U-ISOLATOR lists and a bias report.

  isolator rescore --features=image.npy,text.npy --histories=train.csv --test=test.csv \\
      --validation=valid.csv --user_embeddings=users.npy --item_embeddings=items.npy \\
      --output_dir=rescored
  isolator rescore --features=image.npy --histories=train.npz --scores=scores.npy \\
      --output_dir=rescored

f(u, i) is the inner product of the embeddings, or a stored score; of the scores only a user
chunk is read at a time. Interactions are .inter, .csv or .parquet, with 0-based rows of the
arrays in columns userID,itemID or user,item, or a scipy sparse matrix users x items (.npz); a
file with x_label gives all three splits. With u_id_mapping.csv or i_id_mapping.csv beside the
histories (two columns: the original id, and userID or itemID, the row), columns user and item
hold original ids, and so do the lists.

With validation data, those of alpha, beta and iota that are not given are chosen on it for
--aim; where no setting qualifies, that is said, and Vanilla's lists stand.
docs/models_trained_elsewhere.md says what the results mean.

OUTPUT_DIR/lists.csv and lists.parquet have the columns user, strategy, rank, item and score,
report.json and report.md accuracy and bias; with test data, per_user.parquet has a row for each
user. --trec_runs adds STRATEGY.run.
"""

import dataclasses
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from absl import flags

from isolator_jax.backbones import Encoded
from isolator_jax.content import Content, make_content
from isolator_jax.data import Dataset
from isolator_jax.data.arrays import read_embeddings, read_scores
from isolator_jax.data.external import read_external
from isolator_jax.data.lists import refuse_blanks
from isolator_jax.errors import ConfigError
from isolator_jax.evaluation import Evaluation, Model, Settings, consistency_groups, evaluate_lists
from isolator_jax.evaluation.bias import measured_summary
from isolator_jax.evaluation.grid import UParameters
from isolator_jax.evaluation.metrics import RECALL, UCBIAS_K
from isolator_jax.evaluation.rescoring import Rescored, ScoreSummary, rescore, summarize_scores, tune
from isolator_jax.evaluation.significance import bootstrap_ucbias
from isolator_jax.features import FUSIONS
from isolator_jax.files import write_atomically, write_json, write_text
from isolator_jax.histories import Histories
from isolator_jax.reporting import metrics_table, none_qualifies, rescoring_markdown, tied_sentence
from isolator_jax.runs.config import LARGEST_PARAMETER, RunConfig
from isolator_jax.runs.ids import OriginalIds, id_mappings
from isolator_jax.strategies import BASELINE, MAIN

from .common import aim, cli
from .common.ids import warn_of_formulas
from .common.outputs import check_output, refuse_inputs, refuse_results_of_others, refuse_values_of_others
from .common.parsing import check_list_length
from .common.per_user import PER_USER, write_per_user, write_trec_runs

flags.adopt_module_key_flags(aim)
_FEATURES = flags.DEFINE_list("features", None, "Item features, an .npy for each modality.", required=True)
_HISTORIES = flags.DEFINE_string("histories", None, "Training interactions.", required=True)
_VALIDATION = flags.DEFINE_string("validation", None, "Held-out interactions to choose U-ISOLATOR's parameters by.")
_TEST = flags.DEFINE_string("test", None, "Held-out interactions to measure accuracy and bias on.")
_USER_EMBEDDINGS = flags.DEFINE_string("user_embeddings", None, "User embeddings (users, dim), .npy.")
_ITEM_EMBEDDINGS = flags.DEFINE_string("item_embeddings", None, "Item embeddings (items, dim), .npy.")
_SCORES = flags.DEFINE_string(
    "scores", None, "Scores (users, items), .npy, in place of embeddings; -inf: no candidate."
)
_ALPHA = flags.DEFINE_float("alpha", None, "U-ISOLATOR's alpha. Default: chosen on validation, else 2.")
_BETA = flags.DEFINE_float("beta", None, "U-ISOLATOR's beta. Default: chosen on validation, else 5.")
_IOTA = flags.DEFINE_float("iota", None, "U-ISOLATOR's iota. Default: chosen on validation, else 0.1.")
_FUSION = flags.DEFINE_enum(
    "fusion", "mean", FUSIONS, "Average the modalities' similarities (the paper) or their sigmoids (its release)."
)
_K = flags.DEFINE_integer("k", 20, "List length.", 1)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the lists and the report.", required=True)
_TREC_RUNS = flags.DEFINE_bool("trec_runs", False, "Also write each strategy's lists as a TREC run.")

_DEFAULTS = UParameters(RunConfig.alpha, RunConfig.beta, RunConfig.iota)

# More neighbours than this of equal f, or made equal by ELU', and the order is no longer that of the equations.
_TOLERATED_TIES = 0.01


def main() -> None:
    given = _given_parameters()
    before = _check_output()
    if not _FEATURES.value:
        raise ConfigError("--features names no file; U-ISOLATOR needs at least one modality")
    model = _read_model()
    num_users, num_items = (model.users.shape[0], model.items.shape[0]) if isinstance(model, Encoded) else model.shape
    check_list_length("k", _K.value, num_items)
    original = id_mappings(Path(_HISTORIES.value).parent, num_users, num_items)
    ids = OriginalIds.of(original, num_users, num_items)
    if _TREC_RUNS.value:
        refuse_blanks(ids.users, ids.items)
    dataset = _read_data(num_users, num_items, original)
    histories = dataset.train.histories(num_users)
    content = make_content(dataset.features, histories, fusion=_FUSION.value)
    parameters, chosen = _choose_parameters(given, model, dataset, histories, content)
    rescored = rescore(model, histories, content, parameters, k=max(_K.value, UCBIAS_K))
    results = {
        split: evaluate_lists(
            rescored.lists,
            rescored.users,
            histories,
            dataset.split(split).histories(num_users),
            content,
            ks=sorted({10, UCBIAS_K, _K.value}),
        )
        for split in ("validation", "test")
    }
    written = dataclasses.replace(
        rescored, lists=_first(_K.value, rescored.lists), scores=_first(_K.value, rescored.scores)
    )
    summary = summarize_scores(written)
    report = {
        "config": _config(),
        "dataset": dataset.counts(),
        "parameters": {**dict.fromkeys(UParameters._fields), **(parameters._asdict() if parameters else {}), **chosen},
        "without_training": {split: dataset.without_training(split) for split in ("validation", "test")},
        **_measured(results["test"], dataset, content),
        **_on_validation(results["validation"], dataset),
        "f": {**summary._asdict(), "warning": _warning(summary)},
    }
    names = _write(report, written, ids)
    if len(dataset.test):
        write_per_user(Path(_OUTPUT_DIR.value), results["test"], content, ids)
        names.append(PER_USER)
    for path in before:
        if path.name not in names:
            path.unlink(missing_ok=True)
    if report["f"]["warning"]:
        print(f"warning: {report['f']['warning']}", file=sys.stderr)
    if parameters is None:
        print(none_qualifies(aim.aim_from_flags(), "U-ISOLATOR") + "\n")
    print(metrics_table(report["metrics"]))
    if note := tied_sentence(report.get("groups")):
        print(f"\n{note}")


def _check_output() -> list[Path]:
    """Files of an earlier rescoring in --output_dir that this one may leave out, and which would tell of another."""
    folder = check_output("output_dir", _OUTPUT_DIR.value, folder=True)
    runs = [f"{name}.run" for name in MAIN]
    given = [_HISTORIES, _VALIDATION, _TEST, _USER_EMBEDDINGS, _ITEM_EMBEDDINGS, _SCORES]
    read = [*(_FEATURES.value or []), *(flag.value for flag in given if flag.value is not None)]
    written = ["report.json", "report.md", "lists.csv", "lists.parquet", PER_USER, *runs]
    refuse_inputs((folder / name for name in written), map(Path, read))
    refuse_results_of_others(folder, "rescoring", "without_training")
    refuse_values_of_others(folder, own="a rescoring")
    return [folder / name for name in (PER_USER, *runs)] if (folder / "report.json").exists() else []


def _given_parameters() -> dict[str, float]:
    """alpha, beta and iota as far as the flags give them."""
    values = {name: flags.FLAGS[name].value for name in UParameters._fields}
    given = {name: float(value) for name, value in values.items() if value is not None}
    for name, value in given.items():
        if not 0 <= value <= LARGEST_PARAMETER:
            raise ConfigError(f"--{name} must be at least 0 and at most {LARGEST_PARAMETER:g}, got {value}")
    return given


def _read_model() -> Model:
    users, items, scores = _USER_EMBEDDINGS.value, _ITEM_EMBEDDINGS.value, _SCORES.value
    if scores is not None and users is None and items is None:
        return read_scores(Path(scores))
    if scores is None and users is not None and items is not None:
        return Encoded(*map(jnp.asarray, read_embeddings(Path(users), Path(items))))
    raise ConfigError("give either --user_embeddings and --item_embeddings, or --scores")


def _read_data(num_users: int, num_items: int, original: Mapping[str, np.ndarray]) -> Dataset:
    splits = {"train": _HISTORIES.value, "validation": _VALIDATION.value, "test": _TEST.value}
    return read_external(
        [Path(path) for path in _FEATURES.value],
        {split: Path(path) for split, path in splits.items() if path is not None},
        num_users,
        num_items,
        original,
    )


def _choose_parameters(
    given: Mapping[str, float], model: Model, dataset: Dataset, histories: Histories, content: Content
) -> tuple[UParameters | None, dict[str, Any]]:
    """U-ISOLATOR's parameters, None where none qualify, and how they were chosen."""
    missing = [name for name in UParameters._fields if name not in given]
    if aim.aim_is_given() and (not missing or not len(dataset.validation)):
        reason = "there is no validation data" if missing else "--alpha, --beta and --iota are all given"
        raise ConfigError(f"--aim says what to choose on validation data, and there is nothing to choose: {reason}")
    if not missing and _VALIDATION.value is not None:
        warnings.warn("--validation is not used: --alpha, --beta and --iota are all given", stacklevel=2)
    if not missing or not len(dataset.validation):
        return _DEFAULTS._replace(**given), {"tuned": [], "default": missing}
    # A parameter that is given is a grid of one value.
    grids = zip(UParameters._fields, Settings(), strict=True)
    settings = Settings(*([given[name]] if name in given else grid for name, grid in grids))
    validation = dataset.validation.histories(dataset.num_users)
    parameters, recall = tune(model, histories, validation, content, settings, aim=aim.aim_from_flags())
    return parameters, {
        "tuned": missing,
        "default": [],
        "aim": aim.aim_from_flags(),
        "validation_recall@20": recall,
    }


def _config() -> dict[str, Any]:
    model = _SCORES.value or f"{_USER_EMBEDDINGS.value}, {_ITEM_EMBEDDINGS.value}"
    return {
        "model": model,
        "features": _FEATURES.value,
        "histories": _HISTORIES.value,
        "validation": _VALIDATION.value,
        "test": _TEST.value,
        "fusion": _FUSION.value,
        "k": _K.value,
    }


def _measured(results: Mapping[str, Evaluation], dataset: Dataset, content: Content) -> dict[str, Any]:
    """Metrics by strategy; where there is test data, also UCBias's intervals and the groups' sizes."""
    if not len(dataset.test):
        return {
            "metrics": {
                name: {metric: value for metric, value in result.metrics.items() if metric.startswith("rho")}
                for name, result in results.items()
            }
        }
    groups = consistency_groups(content.consistency)
    per_user = {name: result.per_user[RECALL] for name, result in results.items()}
    users = results[BASELINE].users
    return {
        "metrics": {name: result.metrics for name, result in results.items()},
        "intervals": {name: bootstrap_ucbias(values, users, groups) for name, values in per_user.items()},
        "groups": measured_summary(per_user[BASELINE], users, groups),
    }


def _on_validation(results: Mapping[str, Evaluation], dataset: Dataset) -> dict[str, Any]:
    """Metrics by strategy on what U-ISOLATOR's setting is chosen by, where it is there."""
    if not len(dataset.validation):
        return {}
    return {"validation": {name: result.metrics for name, result in results.items()}}


def _warning(summary: ScoreSummary) -> str | None:
    told = []
    if summary.equal > _TOLERATED_TIES:
        told.append(
            f"{100 * summary.equal:.1f}% of the neighbours on f's lists have equal scores in float32, so Vanilla and "
            "D-ISOLATOR order them by item id"
        )
    if summary.tied > _TOLERATED_TIES:
        told.append(
            f"{100 * summary.tied:.1f}% of the neighbours with different f are equal in what U-ISOLATOR ranks by in "
            "float32, so it orders them by content and item id alone"
        )
    remedy = "give scores of another scale or offset, such as logits in place of probabilities"
    return "; ".join([*told, remedy]) if told else None


def _write(report: Mapping[str, Any], rescored: Rescored, ids: OriginalIds) -> list[str]:
    """Writes the lists and the report; the names of the TREC runs among them."""
    folder = Path(_OUTPUT_DIR.value)
    table = _lists_table(rescored, ids)
    warn_of_formulas(folder / "lists.csv", np.concatenate([table["user"].unique(), table["item"].unique()]))
    write_atomically(folder / "lists.parquet", lambda draft: table.to_parquet(draft, index=False))
    write_atomically(folder / "lists.csv", lambda draft: table.to_csv(draft, index=False))
    write_json(folder / "report.json", report)
    write_text(folder / "report.md", rescoring_markdown(report))
    runs = write_trec_runs(folder, rescored.users, rescored.lists, ids) if _TREC_RUNS.value else []
    print(f"Written: lists.parquet, lists.csv, report.json and report.md in {folder}\n")
    return runs


def _first(k: int, by_strategy: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The first k places of each strategy's lists or scores: metrics at 20 may need longer ones than are written."""
    return {name: values[:, :k] for name, values in by_strategy.items()}


def _lists_table(rescored: Rescored, ids: OriginalIds) -> pd.DataFrame:
    """user, strategy, rank, item, score: by user, then strategy, then rank."""
    names = list(rescored.lists)
    lists, scores = (np.stack([x[name] for name in names], axis=1) for x in (rescored.lists, rescored.scores))
    users, strategies, ranks = np.nonzero(lists >= 0)
    return pd.DataFrame(
        {
            "user": ids.users[rescored.users[users]],
            "strategy": pd.Categorical.from_codes(strategies, names),
            "rank": ranks + 1,
            "item": ids.items[lists[users, strategies, ranks]],
            "score": scores[users, strategies, ranks],
        }
    )


if __name__ == "__main__":
    cli.run(main)
