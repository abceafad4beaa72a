"""What the pages have in their blocks: commands and Python."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# As a reader comes to them: the front, then the site's order.
PAGES = ["README.md", *(f"docs/{page}" for page in re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text()))]
PLACEHOLDERS = {
    "BACKBONE": "vbpr", "SEED": "0", "HPARAMS": "reg=0.1", "$name": "vbpr", "$hparams": "reg=0.1", "$reg": "1",
    "DATA/": "data/", "=DATA ": "=data ", "NAME": "planted",
}  # fmt: skip


def lines_of(page, languages):
    """The lines of a page's blocks, those that go on in the next one joined."""
    blocks = re.findall(rf"```(?:{languages})\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    return "\n".join(blocks).replace("\\\n", " ").splitlines()


def commands_of(page):
    """The commands of a page, `[name, arguments]` each, with something in place of what stands for something."""
    for line in lines_of(page, "sh|text"):
        line = re.split(r"\s#|; done", line)[0]
        for name, value in PLACEHOLDERS.items():
            line = line.replace(name, value)
        match = re.search(r"(?:bin/|^|\s)isolator (\w+)(.*)", line)
        if match and match[1] != "COMMAND":
            yield [match[1], shlex.split(match[2])]


def code_of(page):
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL))
