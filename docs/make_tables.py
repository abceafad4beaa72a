"""Writes the tables of the pages from the CSV files beside them.

  python docs/make_tables.py            rewrites what stands between the markers
  python docs/make_tables.py --check    writes nothing; names the pages that differ and ends with 1

A page has `<!-- table: results/baby.csv -->` before a table and `<!-- end -->` after it; paths count from
docs/, and a pattern, `results/*/summary.csv`, means the rows of all files that match it. Columns `X sd` and
`X low`, `X high` are shown with column X. A file with a row for each seed and strategy is shown as means and
standard deviations over seeds. The column `groups` says how UCBias was made: `shared`, users tied at a cut
share the places left; `earlier`, see below.
"""

import csv
import re
import statistics
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PAGES = (*sorted(DOCS.glob("*.md")), DOCS.parent / "README.md", DOCS.parent / "BUILD_NOTES.md")
EARLIER = (
    "The UCBias values of this table{but} were made with the earlier grouping, "
    "in which rounding ordered users of equal c_u."
)
_TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_OVER_SEEDS = (
    ("recall@20", ("vanilla", "training_strategy", "d", "u")),
    ("ucbias@20", ("vanilla", "d", "u")),
    ("rho", ("vanilla",)),
)


def rows_of(file: str) -> list[dict[str, str]]:
    """The rows of a CSV file below docs/, or of all files that a pattern means."""
    rows = []
    for path in sorted(DOCS.glob(file)):
        with open(path, newline="") as lines:
            rows += csv.DictReader(lines)
    if not rows:
        raise FileNotFoundError(f"no rows in {DOCS / file}")
    return rows


def over_seeds(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """One row a backbone: mean and standard deviation over seeds, for chosen metrics and strategies."""
    table = []
    for backbone in dict.fromkeys(row["backbone"] for row in rows):
        line = {"backbone": backbone}
        for metric, strategies in _OVER_SEEDS:
            for strategy in strategies:
                values = [
                    float(row[metric])
                    for row in rows
                    if (row["backbone"], row["strategy"]) == (backbone, strategy) and row[metric]
                ]
                name = f"{metric} {strategy}"
                line[name] = f"{statistics.mean(values):.4f}"
                line[f"{name} sd"] = f"{statistics.stdev(values):.4f}"
        groups = {row["groups"] for row in rows if row["backbone"] == backbone}
        table.append(line | {"groups": "earlier" if "earlier" in groups else "shared"})
    return table


def cell(row: dict[str, str], name: str) -> str:
    """A value, with its standard deviation or its interval where the row has one."""
    if row.get(f"{name} sd"):
        return f"{row[name]} ± {row[f'{name} sd']}"
    if row.get(f"{name} low"):
        return f"{row[name]} ({row[f'{name} low']} to {row[f'{name} high']})"
    return row[name] or "-"


def markdown(rows: list[dict[str, str]]) -> str:
    """A table, and a sentence below it on which of its UCBias was made with the earlier grouping."""
    if "seed" in rows[0] and "strategy" in rows[0]:
        rows = over_seeds(rows)
    names = [name for name in rows[0] if name != "groups" and not re.search(r" (sd|low|high)$", name)]
    lines = [names, ["---"] * len(names), *([cell(row, name) for name in names] for row in rows)]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
    if all(row.get("groups") != "earlier" for row in rows):
        return text
    shared = ", ".join(dict.fromkeys(row[names[0]] for row in rows if row["groups"] == "shared"))
    return f"{text}\n{EARLIER.format(but=f', but those of {shared},' if shared else '')}\n"


def rewritten(page: str) -> str:
    """The page with the tables that its files give."""
    return _TABLE.sub(lambda match: f"{match[1]}\n{markdown(rows_of(match[2]))}\n{match[3]}", page)


def main(check: bool) -> int:
    differ = [page for page in PAGES if rewritten(page.read_text()) != page.read_text()]
    for page in differ:
        print(f"{page.name} differs from its tables' files" if check else f"written: {page.name}")
        if not check:
            page.write_text(rewritten(page.read_text()))
    return 1 if check and differ else 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
