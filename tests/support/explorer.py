"""Questions to the explorer page, and moves of its visitors."""

from pathlib import Path

from browser import until

PROBES = (
    (Path(__file__).parents[1] / "course" / "explorer_probes.js").read_text(encoding="utf-8").partition("\n")[2].strip()
)


def ask(page, probe, argument=None):
    """Return what a function of `explorer_probes.js` answers in the page."""
    return page.evaluate(f"(argument) => {PROBES}.{probe}(argument)", argument)


def slide(page, field, value):
    """Put the slider of a field where a visitor would."""
    ask(page, "slide", [f"input[data-field={field}]", value])


def trained(page, updates):
    """Wait until the maze's methods have made so many updates."""
    until(page, f"explorer.MazeView.runs()[0].step === {updates}")
