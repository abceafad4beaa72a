"""Every exception type of the library, and how foreign text is shown in a message. It imports nothing."""


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the value and what is allowed."""


class DataError(ValueError):
    """Input data that cannot be used; the message names the place and the remedy."""


class RunError(RuntimeError):
    """A run folder that cannot be used as asked; the message says what to do."""


class FolderInUse(RunError):
    """Another command holds the folder's lock; it may be free later."""


class CheckpointError(RuntimeError):
    """No checkpoint can be used; the message says which and what to do."""


class TrainingDiverged(RuntimeError):
    """The loss or a parameter is no longer finite."""


class TrainingInterrupted(Exception):
    """Training was told to stop before its end; the run can be resumed."""


class NothingSaved(TrainingInterrupted):
    """Training was told to stop before there was anything to save; the run begins anew."""


def printable(value: object) -> str:
    """Foreign text on one line, with control and other invisible characters as their escapes.

    Examples:
      >>> printable("a\\x1b[2J\\n  b")
      'a\\\\x1b[2J   b'
    """
    text = " ".join(str(value).splitlines())
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def brief(value: object, length: int = 160) -> str:
    """Foreign text for a message: on one line, printable, cut where it is long.

    Examples:
      >>> brief("bad\\nvalue"), brief("9" * 400, length=8)
      ('bad value', '99999...')
    """
    text = printable(str(value)[: 4 * length])
    return text if len(text) <= length else text[: length - 3] + "..."
