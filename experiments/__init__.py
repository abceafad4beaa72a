"""The commands, one a module. Whoever starts one imports this first: from here on a signal ends it in one line."""

import sys
from pathlib import Path

from .common import process

# So are the arguments while `python -m` looks for the module it will run, and under the installed
# command; whoever imports a command for another reason keeps the handlers and streams that there are.
if sys.argv[:1] == ["-m"] or (sys.argv and Path(sys.argv[0]).stem == "isolator"):
    process.begin()
