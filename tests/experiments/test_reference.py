"""Publishing: rows and pictures of finished runs go to the gallery, and come back from there without training."""

import json
import re
import shlex
import shutil

import pytest
import torch
from panels import smoke_tables

from experiments import _pages, _runs, _times
from experiments._publish import for_others
from experiments.catalogue import EXPERIMENTS
from experiments.exact import length_bias, weight_functions
from maxrl_lab.command import main
from maxrl_lab.errors import InputError
from maxrl_lab.runs.folder import read_tables
from maxrl_lab.runs.record import sealed

PAGE = "Text.\n\n<!-- claims: weight_functions -->\n- old\n<!-- /claims -->\n\nMore text.\n"


@pytest.fixture
def gallery(tmp_path, monkeypatch):
    """A gallery and a page of one's own."""
    folder, page = tmp_path / "gallery", tmp_path / "page.md"
    page.write_text(PAGE)
    monkeypatch.setattr(_runs, "GALLERY", folder)
    monkeypatch.setattr(_runs, "REFERENCE", folder / "rows")
    monkeypatch.setattr(_pages, "pages", lambda: [page])
    return folder


@pytest.fixture
def runs(tmp_path):
    """Flags that lead to two finished runs of today's code."""
    place = ["--preset", "smoke", "--out", str(tmp_path / "runs"), "--pictures", str(tmp_path / "pictures")]
    for name in ("weight_functions", "length_bias"):
        assert main(["run", name, "--quiet", *place]) == 0
    return place


def test_published_rows_come_back_bit_by_bit(gallery, runs, tmp_path, capsys):
    assert main(["publish", *runs]) == 0
    for name in ("weight_functions", "length_bias"):
        kept, made = gallery / "rows" / name, tmp_path / "runs" / "smoke" / name
        assert {path.name for path in kept.iterdir()} == {"rows.csv.gz", "settings.json", "provenance.json"}
        assert read_tables(kept)["rows"].equals(read_tables(made)["rows"])
        assert (gallery / f"{name}.png").read_bytes() == (tmp_path / "pictures/smoke" / f"{name}.png").read_bytes()
    assert sorted(json.loads((gallery / "rows/times.json").read_text())["smoke"]) == ["length_bias", "weight_functions"]
    capsys.readouterr()
    # what is drawn and judged from them is what is drawn and judged from the run
    assert main(["draw", "weight_functions", "--reference", "--pictures", str(tmp_path / "again")]) == 0
    drawn = capsys.readouterr().out
    assert main(["draw", "weight_functions", *runs]) == 0
    assert drawn.partition("picture: ")[0] == capsys.readouterr().out.partition("picture: ")[0]
    again = tmp_path / "again" / "reference" / "weight_functions.png"
    assert again.read_bytes() == (gallery / "weight_functions.png").read_bytes()
    judged = []
    for flags in (["--reference"], runs):
        assert main(["claims", "weight_functions", "length_bias", "--json", *flags[:4]]) == 0
        judged.append(json.loads(capsys.readouterr().out))
    assert judged[0] == judged[1]


def test_one_experiment_is_published_alone_and_replaces_what_was_there(gallery, runs):
    assert main(["publish", *runs]) == 0
    left = gallery / "rows" / "weight_functions" / "old.csv.gz"
    left.write_bytes(b"of an earlier version")
    stamp = (gallery / "rows/length_bias/rows.csv.gz").stat().st_mtime_ns
    assert main(["publish", "weight_functions", *runs]) == 0
    assert not left.exists()
    assert (gallery / "rows/length_bias/rows.csv.gz").stat().st_mtime_ns == stamp


def test_publishing_writes_the_claims_into_the_pages(gallery, runs, tmp_path):
    assert main(["publish", *runs]) == 0
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("Text.\n\n<!-- claims: weight_functions -->\n- *holds* (Fig. 1): ")
    assert text.endswith("\n<!-- /claims -->\n\nMore text.\n")
    assert "- old" not in text
    assert main(["claims", "--reference", "--pages"]) == 0
    assert (tmp_path / "page.md").read_text() == text


def test_pages_are_of_all_committed_rows(capsys):
    assert main(["claims", "--pages"]) == 2
    assert main(["claims", "weight_functions", "--reference", "--pages"]) == 2
    assert capsys.readouterr().err.count("give --reference, and no names") == 2


def test_runs_of_other_code_are_not_published(gallery, tmp_path, capsys):
    smoke_tables(weight_functions, tmp_path / "runs" / "smoke")  # without a fingerprint
    place = ["--preset", "smoke", "--out", str(tmp_path / "runs")]
    assert main(["publish", *place]) == 2
    assert not gallery.exists()
    assert main(["publish", "weight_functions", *place]) == 2
    assert "holds a run of other code" in capsys.readouterr().err


def test_rows_of_another_processor_replace_nothing(gallery, runs, capsys):
    assert main(["publish", "length_bias", *runs, "--processor", "second"]) == 2
    assert "--processor takes in maze_scaling and maze_baselines, got length_bias" in capsys.readouterr().err
    assert not gallery.exists()


class TestTimes:
    def test_times_are_kept_by_preset(self, tmp_path):
        file = tmp_path / "times.json"
        assert _times.recorded(file, "quick") == {}
        _times.record(file, "quick", {"a": 1.23, "b": 2})
        _times.record(file, "smoke", {"a": 0.5})
        _times.record(file, "quick", {"b": 3})
        assert _times.recorded(file, "quick") == {"a": 1.2, "b": 3}
        assert _times.recorded(file, "smoke") == {"a": 0.5}

    @pytest.mark.parametrize(
        ("names", "text"),
        [
            (["a", "b"], "about 50 s left"),
            (["a", "c"], "about 30 s left, without 1 of unknown time"),
            (["c"], "time left unknown: no earlier run"),
        ],
    )
    def test_the_time_left_counts_what_is_known(self, names, text):
        assert _times.left_text(names, {"a": 30, "b": 20}) == text

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0, "0 s"), (99, "99 s"), (100, "2 min"), (3600, "60 min"), (7500, "2 h 5 min")]
    )
    def test_durations(self, seconds, text):
        assert _times.duration(seconds) == text


def test_reproduce_counts_and_says_how_long_it_still_takes(tmp_path, monkeypatch, capsys):
    """On two cores, one of which is enough for each of these experiments."""
    monkeypatch.setattr(_runs, "REFERENCE", tmp_path / "gallery")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    two = {name: EXPERIMENTS[name] for name in ("weight_functions", "length_bias")}
    monkeypatch.setattr("experiments.__main__.EXPERIMENTS", two)
    _times.record(tmp_path / "gallery" / "times.json", "smoke", {"weight_functions": 40, "length_bias": 2})
    place = ["--preset", "smoke", "--out", str(tmp_path / "runs"), "--pictures", str(tmp_path / "pictures")]
    assert main(["reproduce", *place]) == 0
    shown = capsys.readouterr()
    assert "2 experiments side by side: about 21 s left\n" in shown.err
    assert "[2 of 2] length_bias: made\n" in shown.err
    report = tmp_path / "runs" / "smoke" / "report.html"
    assert shown.out.splitlines()[-1].startswith(f"next: open {report} in a browser")
    assert f"`maxrl-lab claims --preset smoke --out {tmp_path / 'runs'}`" in shown.out
    assert report.exists()
    # its own times count from now on, and what is complete takes none
    own = _times.recorded(tmp_path / "runs" / "smoke" / "times.json", "smoke")
    assert set(own) == set(two)
    assert main(["reproduce", *place]) == 0
    assert "[1 of 2] weight_functions: complete\n" in capsys.readouterr().err
    assert main(["reproduce", "--quiet", *place]) == 0
    assert "[1 of 2]" not in capsys.readouterr().err
    shutil.rmtree(tmp_path / "runs" / "smoke" / "length_bias")
    assert main(["reproduce", *place]) == 0
    assert "[2 of 2] length_bias: about" in capsys.readouterr().err


@pytest.mark.slow
def test_side_by_side_makes_the_rows_of_one_by_one(tmp_path, monkeypatch):
    """Byte for byte, on as many cores as there are: exact rows, a stack of trained tables, and a policy in tokens."""
    some = ("bias_variance", "classification", "trajectories", "maze_scaling")
    monkeypatch.setattr("experiments.__main__.EXPERIMENTS", {name: EXPERIMENTS[name] for name in some})
    place = ["--preset", "smoke", "--quiet", "--pictures", str(tmp_path / "pictures")]
    assert main(["reproduce", *place, "--out", str(tmp_path / "together")]) == 0
    for name in some:
        assert main(["run", name, *place, "--out", str(tmp_path / "alone")]) == 0
        together, alone = (tmp_path / way / "smoke" / name for way in ("together", "alone"))
        files = sorted(file.name for file in alone.glob("*.csv") if file.name != "timings.csv")
        assert files
        assert [(together / file).read_bytes() for file in files] == [(alone / file).read_bytes() for file in files]


class TestPages:
    @pytest.fixture
    def verdicts(self, tmp_path):
        from experiments import _verdicts

        tables, settings = smoke_tables(length_bias, tmp_path)

        class Run:
            entry = EXPERIMENTS["length_bias"]

            def note(self):
                return ""

        run = Run()
        run.settings = settings
        return _verdicts.judge([(run, tables)], {"navigation": "no finished run"})

    def test_one_claim_and_an_experiment_without_rows(self, verdicts):
        text = "<!-- claims: length_bias/token_mean_favours_short navigation -->\n<!-- /claims -->"
        lines = _pages.rendered(text, verdicts).splitlines()
        assert lines[1].startswith("- *holds* (App. F): The mean over the batch's tokens favours short right answers")
        assert "- (no reference rows of `navigation` are published yet)" in lines
        assert max(map(len, lines)) <= 120

    def test_several_experiments_have_a_heading_each(self, verdicts):
        text = "<!-- claims: length_bias navigation -->\n<!-- /claims -->"
        lines = _pages.rendered(text, verdicts).splitlines()
        assert [line for line in lines if line.startswith("#")] == ["### `length_bias`", "### `navigation`"]
        assert lines[:3] == ["<!-- claims: length_bias navigation -->", "### `length_bias`", ""]
        place = lines.index("### `navigation`")
        assert (lines[place - 1], lines[place + 1]) == ("", "")
        assert lines[place + 2] == "- (no reference rows of `navigation` are published yet)"
        one = _pages.rendered("<!-- claims: length_bias -->\n<!-- /claims -->", verdicts)
        assert "#" not in one

    def test_rows_that_cannot_be_read_are_not_called_unpublished(self, verdicts, monkeypatch, refuses):
        monkeypatch.setattr(_pages, "pages", lambda: pytest.fail("a page was looked at"))
        verdicts.missing["navigation"] = "settings.json holds no settings of today's code"
        message = "publish a new run of navigation, whose committed rows cannot be read: settings.json holds no "
        with refuses(f"{message}settings of today's code"):
            _pages.write(verdicts)

    def test_the_table_of_all(self, verdicts):
        text = _pages.rendered("<!-- claims: all -->\nold\n<!-- /claims -->", verdicts)
        assert "| verdict | claim |" in text
        assert "3 claims: holds 3, fails 0, undecided 0." in text

    @pytest.mark.parametrize("name", ["length_bias/no_such", "no_such"])
    def test_a_claim_that_does_not_exist_is_refused(self, verdicts, name):
        with pytest.raises(InputError, match=f"a page names the claim '{name}', which does not exist; there are: "):
            _pages.rendered(f"<!-- claims: {name} -->\n<!-- /claims -->", verdicts)


def test_a_published_command_names_no_folder_of_one_machine():
    given = [
        "maxrl-lab",
        "run",
        "coverage",
        "--out",
        "/some where/rows",
        "--seeds",
        "3",
        "--pictures=/there",
        "--quiet",
    ]
    sessions = [{"command": shlex.join(given), "commit": "abc"}]
    content = for_others({"complete": True, "sessions": sessions, "tables": {"curves": "a", "timings": "b"}})
    assert content["tables"] == {"curves": "a"}
    (session,) = content["sessions"]
    assert session == {"command": "maxrl-lab run coverage --seeds 3 --quiet", "commit": "abc"}


def test_every_committed_provenance_is_as_it_was_written():
    for file in _runs.REFERENCE.glob("*/provenance.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        assert content == sealed(content), file


def test_no_committed_provenance_names_a_folder_of_one_machine():
    for file in _runs.REFERENCE.glob("*/provenance.json"):
        assert not re.search(r"--(out|pictures)\b", file.read_text(encoding="utf-8")), file


@pytest.mark.parametrize(("name", "threads"), [("weight_functions", 1), ("feedback", 2), ("diffusion_likelihood", 2)])
def test_one_thread_for_an_experiment_that_does_not_spread_its_work_itself(name, threads, tmp_path, monkeypatch):
    """What has the flag --processes takes as many as there are threads, unless it is told how many."""
    seen = []

    def run(_settings, _context):
        seen.append(torch.get_num_threads())
        raise InputError("seen")

    monkeypatch.setattr(EXPERIMENTS[name].load(), "run", run)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert main(["run", name, "--preset", "smoke", "--device", "cpu", "--out", str(tmp_path)]) == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [threads]
