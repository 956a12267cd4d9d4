"""The report: one HTML file that parses, refers to nothing outside itself, and opens in a browser."""

import subprocess
from html.parser import HTMLParser

import browser
import pytest

from experiments import _report
from experiments.catalogue import EXPERIMENTS
from maxrl_lab.command import main

NAMES = ("weight_functions", "length_bias")
VOID = {"meta", "img"}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The file of a report on two runs."""
    folder = tmp_path_factory.mktemp("report")
    place = ["--preset", "smoke", "--out", str(folder / "runs"), "--pictures", str(folder / "pictures")]
    for name in NAMES:
        assert main(["run", name, "--quiet", *place]) == 0
    assert main(["report", *place]) == 0
    return folder / "runs" / "smoke" / "report.html"


class Page(HTMLParser):
    """Tags in order, text, and everything that a page refers to; a tag that is closed wrongly is refused."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.ids, self.text = [], [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        self.links += [values[name] for name in ("src", "href", "data", "action") if name in values]
        self.ids += [values["id"]] if "id" in values else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if self.open[-1:] != ["style"] else ""


@pytest.fixture(scope="module")
def page(report):
    return Page(report.read_text(encoding="utf-8"))


def test_it_refers_to_nothing_outside_itself(report, page):
    outside = [link for link in page.links if not link.startswith(("data:image/png;base64,", "#"))]
    assert outside == []
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    source = report.read_text(encoding="utf-8")
    assert "@import" not in source
    assert "url(" not in source


def test_claims_come_first_and_every_experiment_has_its_picture_and_numbers(page):
    assert page.tags.index("table") < page.tags.index("img")
    assert page.tags.count("img") == len(NAMES)
    assert [name for name in page.ids if name in EXPERIMENTS] == sorted(NAMES, key=list(EXPERIMENTS).index)
    for name in NAMES:
        assert EXPERIMENTS[name].question() in page.text
    assert "The weight of the likelihood is on hard tasks" in page.text
    assert "rest on 95% intervals" in page.text
    assert page.text.count("Provenance") == page.text.count("Settings") == len(NAMES)
    assert page.text.count("; the run took ") == len(NAMES)
    assert "navigation" in page.text  # has no run, and is named


def test_what_is_text_stays_text():
    assert _report._text('<b> & "x"') == "&lt;b&gt; &amp; &quot;x&quot;"


def test_a_report_goes_where_it_is_asked_for(report, tmp_path):
    place = ["--preset", "smoke", "--out", str(report.parents[1]), "--pictures", str(tmp_path)]
    assert main(["report", "length_bias", "--file", str(tmp_path / "one.html"), *place]) == 0
    one = Page((tmp_path / "one.html").read_text(encoding="utf-8"))
    assert [name for name in one.ids if name in EXPERIMENTS] == ["length_bias"]


def test_it_opens_in_a_browser(report, tmp_path):
    command = [browser.executable(), "--headless", *browser.FLAGS, f"--user-data-dir={tmp_path / 'profile'}"]
    dumped = subprocess.run(
        [*command, "--dump-dom", report.as_uri()], capture_output=True, text=True, timeout=120, check=False
    )
    assert dumped.returncode == 0, dumped.stderr
    assert dumped.stdout.count("<h2 id=") == len(NAMES)
    picture = tmp_path / "report.png"
    subprocess.run(
        [*command, "--window-size=1200,2000", f"--screenshot={picture}", report.as_uri()],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert picture.stat().st_size > 20_000  # a blank page of this size has 6 KB
