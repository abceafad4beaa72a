"""Lists of another library, to be audited: ALS and item neighbours of implicit (pip install implicit).

python docs/audit_implicit.py data mine        writes als.csv and knn.csv
isolator audit --lists=als=als.csv,knn=knn.csv --data_dir=data --dataset=mine --output_dir=audited

It reads the dataset's folder as any library could, and writes original ids where the folder has them.
"""

import sys
from pathlib import Path

import implicit
import numpy as np
import pandas as pd
import scipy.sparse

K = 20
MODELS = {
    "als": implicit.als.AlternatingLeastSquares(
        factors=64, regularization=0.05, alpha=10.0, random_state=0, num_threads=1
    ),
    "knn": implicit.nearest_neighbours.CosineRecommender(K=50, num_threads=1),
}


def ids(folder: Path, side: str, count: int) -> np.ndarray:
    """Original ids by dense id."""
    path = folder / f"{side[0]}_id_mapping.csv"
    if not path.exists():
        return np.arange(count)
    mapping = pd.read_csv(path, sep="\t", dtype={f"{side}_id": str}, keep_default_na=False)
    return mapping.set_index(f"{side}ID")[f"{side}_id"].loc[np.arange(count)].to_numpy()


def main(folder: Path) -> None:
    table = pd.read_csv(folder / f"{folder.name}.inter", sep="\t")
    users, items = (ids(folder, side, table[f"{side}ID"].max() + 1) for side in ("user", "item"))
    train = table[table["x_label"] == 0]
    matrix = scipy.sparse.csr_matrix(
        (np.ones(len(train), np.float32), (train["userID"], train["itemID"])), (len(users), len(items))
    )
    rows = np.flatnonzero(matrix.getnnz(axis=1))
    for name, model in MODELS.items():
        model.fit(matrix, show_progress=False)
        listed, scores = model.recommend(rows, matrix[rows], N=K, filter_already_liked_items=True)
        # Places without an item are filled up, one model's by items of the user's own.
        known = (listed >= 0) & (scores > -1e30)
        known[known] = np.asarray(matrix[np.repeat(rows, K)[known.ravel()], listed[known]]).ravel() == 0
        lists = pd.DataFrame(
            {"user": np.repeat(users[rows], K)[known.ravel()], "item": items[listed[known]], "score": scores[known]}
        )
        lists.to_csv(f"{name}.csv", index=False)
        print(f"{name}.csv: {len(lists)} lines, {lists['user'].nunique()} users")


if __name__ == "__main__":
    main(Path(sys.argv[1]) / sys.argv[2])
