"""Draws the pictures of the pages from the library's own functions: python docs/make_figures.py"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from isolator_jax import elu_prime, u_score

FOLDER = Path(__file__).resolve().parent / "figures"
SETTINGS = ((2, 5, 1), (2, 20, 1), (10, 5, 1), (2, 5, 0.1))  # alpha, beta, iota


def method() -> Figure:
    """ELU' and U-ISOLATOR's factor under some settings."""
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    x = np.linspace(-4, 3, 200, dtype=np.float32)
    left.plot(x, elu_prime(x), color="#1b6ca8")
    left.set(xlabel="f", ylabel="ELU'(f)", ylim=(0, None))
    x = np.linspace(-1, 1, 401, dtype=np.float32)
    for (alpha, beta, iota), style in zip(SETTINGS, ("-", "--", "-.", ":"), strict=True):
        factor = u_score(np.zeros_like(x), x[None], np.zeros((1, 1), np.float32), alpha, beta, iota)  # ELU'(0) = 1
        right.plot(x, factor, style, label=f"alpha {alpha}, beta {beta}, iota {iota}")
    right.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    right.set(xlabel="s - c", ylabel="factor")
    right.legend(fontsize=7, frameon=False)
    return figure


def main(folder: Path = FOLDER) -> None:
    with matplotlib.rc_context({"svg.hashsalt": "isolator", "svg.fonttype": "path", "font.size": 9}):
        method().savefig(folder / "method.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
