"""The help of a command: flags by topic, all of them, in 80 columns."""

import pytest
from absl import flags

from experiments.common.help import TOPICS, help_text

DOC = """Does a thing.

  isolator thing --run_dir=runs/first --output_dir=a/rather/long/path/of/a/folder --alphas=1,2 --betas=3,4
  isolator thing --of=one \\
      --and=another

A paragraph that is
on two lines, the second of which is longer than eighty columns would be on a screen.
"""


@pytest.fixture
def of_command():
    values = flags.FlagValues()
    flags.DEFINE_float("alpha", 2.0, "How " + "very " * 40 + "much.", flag_values=values)
    flags.DEFINE_bool("trick", True, "Whether.", flag_values=values)
    flags.DEFINE_enum("fusion", "mean", ["mean", "other"], "Which.", flag_values=values)
    flags.DEFINE_multi_string("grid", [], "Values.", flag_values=values)
    flags.DEFINE_multi_enum("measure", ["a", "b"], ["a", "b"], "What to measure.", flag_values=values)
    flags.DEFINE_string("run_dir", None, "Where.", flag_values=values, required=True)
    return [values[name] for name in values]


def test_flags_are_by_topic_with_what_they_take_and_nothing_is_wider_than_the_screen(of_command):
    text = help_text("thing", DOC, of_command)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["thing:", "results:", "model:", "training:", "inference:"]
    flag_lines = [line.strip() for line in lines if line.startswith("  --")]
    assert flag_lines == [
        "--[no]trick (default: true)", "--measure=VALUE (default: a, b)", "--run_dir=VALUE (required)", "--grid=VALUE",
        "--fusion=VALUE (default: mean)", "--alpha=X (default: 2.0)",
    ]  # fmt: skip
    assert "      Which. One of: mean, other." in lines and "      Values." in lines
    assert "      What to measure. One of: a, b." in lines
    assert "  isolator thing --of=one --and=another" in lines
    assert "A paragraph that is on two lines, the second" in text


def test_no_flag_has_two_topics():
    names = [name for topic in TOPICS.values() for name in topic]
    assert len(set(names)) == len(names)
