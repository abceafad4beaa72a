"""Writes the top-k list of chosen users under one strategy, as CSV or parquet.

  isolator recommend --run_dir=runs/first --strategy=u --k=20 --users=0,5,9 --output=lists.csv

Columns: user, rank (from 1), item, score. Where the dataset's folder has u_id_mapping.csv
or i_id_mapping.csv (two columns: the original id, and userID or itemID), users or items
are read and written in their original ids, as they are: a spreadsheet may take an id that
begins with =, +, - or @ for a formula, so import the columns of a CSV file as text.
"""

import numpy as np
from absl import flags

from isolator_jax.errors import ConfigError, brief
from isolator_jax.files import write_atomically
from isolator_jax.histories import Histories
from isolator_jax.runs import load_run, original_ids, recommendations, strategies_of, vanilla_folder
from isolator_jax.runs.ids import with_training_items
from isolator_jax.strategies import BASELINE, IN_RUNS

from .common import cli
from .common.ids import warn_of_formulas
from .common.outputs import check_output
from .common.parsing import check_list_length

_RUN_DIR = flags.DEFINE_string("run_dir", None, "Run folder written by isolator train.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "File to write: .csv or .parquet.", required=True)
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    None,
    IN_RUNS,
    "Inference strategy to rank by; vanilla is of RUN_DIR/vanilla. Default: d, or vanilla where the run is plain BPR.",
)
_K = flags.DEFINE_integer("k", 20, "List length.", 1)
_USERS = flags.DEFINE_list("users", None, "Ids of the users to recommend to. Default: all with training items.")

WRITERS = {
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".parquet": lambda table, path: table.to_parquet(path, index=False),
}


def main() -> None:
    output = check_output("output", _OUTPUT.value)
    if output.suffix not in WRITERS:
        raise ConfigError(f"--output must end in {' or '.join(WRITERS)}, got {brief(output)}")
    config, problem, encoded, _ = load_run(_RUN_DIR.value)
    check_list_length("k", _K.value, problem.dataset.num_items)
    strategies = strategies_of(config, problem.content is not None)
    name = _STRATEGY.value or ("d" if config.training_strategy else BASELINE)
    if name not in strategies:
        plain = vanilla_folder(_RUN_DIR.value)
        elsewhere = f"; {BASELINE} is of {plain}" if name == BASELINE and plain.is_dir() else ""
        raise ConfigError(f"--strategy={name} does not fit this run; it has {', '.join(strategies)}{elsewhere}")
    strategy = strategies[name]
    user_ids, item_ids = original_ids(config, problem.dataset.num_users, problem.dataset.num_items)
    users = _chosen_users(user_ids, problem.train.histories)
    table = recommendations(problem, encoded, users, strategy, k=_K.value, user_ids=user_ids, item_ids=item_ids)
    if output.suffix == ".csv":
        warn_of_formulas(output, np.concatenate([user_ids[users], table["item"].unique()]))
    write_atomically(output, lambda draft: WRITERS[output.suffix](table, draft))
    print(f"Written: {output} ({len(users)} users, {len(table)} recommendations)")


def _chosen_users(user_ids: np.ndarray, histories: Histories) -> np.ndarray:
    if _USERS.value is None:
        return histories.users_with_items()
    index = {str(original): user for user, original in enumerate(user_ids)}
    unknown = [user for user in _USERS.value if user not in index]
    if unknown or not _USERS.value:
        named = brief(", ".join(map(repr, unknown[:5]))) or "given"
        raise ConfigError(f"--users: no user {named} in the dataset; write an id with a comma in double quotes")
    chosen = dict.fromkeys(index[user] for user in _USERS.value)
    return with_training_items(np.array(list(chosen), np.int32), np.asarray(histories.lengths), user_ids)


if __name__ == "__main__":
    cli.run(main)
