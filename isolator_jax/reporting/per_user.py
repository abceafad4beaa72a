"""Values of each user as a table, in original ids: what tests of others start from."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from isolator_jax.evaluation import Evaluation, Groups


def per_user_table(
    evaluations: Mapping[str, Evaluation],
    user_ids: np.ndarray,
    consistency: np.ndarray | None = None,
    groups: Groups | None = None,
) -> pd.DataFrame:
    """One row for each system (or strategy) and user.

    Args:
      evaluations: by system.
      user_ids: original ids by dense id, `[U]`.
      consistency: c_u `[U]`, NaN where undefined; None without content.
      groups: of UCBias; None without content.

    Returns:
      `system`, `user`; with content `c_u`, `group` (`consistent`, `diverse`, `both` or `none`)
      and the weights `consistent` and `diverse` that the user has in the groups, below 1 where
      users are tied at a cut; and each metric of `per_user`, NaN where the user has no held-out
      items.
    """
    frames = []
    for name, evaluation in evaluations.items():
        users = evaluation.users
        columns = {"system": name, "user": user_ids[users].astype(str)}
        if consistency is not None and groups is not None:
            weights = {"consistent": groups.consistent[users], "diverse": groups.diverse[users]}
            member = (weights["consistent"] > 0) + 2 * (weights["diverse"] > 0)
            names = np.array(["none", "consistent", "diverse", "both"])
            columns |= {"group": names[member], "c_u": consistency[users], **weights}
        frames.append(pd.DataFrame(columns | evaluation.per_user))
    return pd.concat(frames, ignore_index=True)
