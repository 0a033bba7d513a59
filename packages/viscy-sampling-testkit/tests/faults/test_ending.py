"""What a process prints before it ends is one line, apart from what is ignored."""

import pytest

from viscy_sampling_testkit.faults._ending import message_lines

NOISE = "Exception ignored: a\nTraceback:\n  file\nend of it\n"


@pytest.mark.parametrize(
    ("text", "ignored", "lines"),
    [
        ("error: full\n\n  error: full\n", "", ["error: full"]),
        ("a\nb\n", "", ["a", "b"]),
        ("warning: x\nerror: full\n", "^warning.*$", ["error: full"]),
        (f"error: full\n{NOISE}", "^Exception ignored(?s:.*?)end of it$", ["error: full"]),
        (NOISE, "", ["Exception ignored: a", "Traceback:", "file", "end of it"]),
    ],
)
def test_different_lines_are_counted_except_ignored_text(text, ignored, lines):
    assert message_lines(text, ignored) == lines
