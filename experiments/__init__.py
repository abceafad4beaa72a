"""The commands, one a module. `python -m` imports this first: from here on a signal ends a command in one line."""

import sys

from .common import process

# While `python -m` looks for the module it will run, its arguments begin so; whoever imports
# a command for another reason keeps the handlers and streams that there are.
if sys.argv[:1] == ["-m"]:
    process.begin()
