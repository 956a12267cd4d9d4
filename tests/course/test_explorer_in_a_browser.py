"""The explorer as a visitor has it: in a browser without network; every request and every complaint is a failure."""

import re

import browser
import pytest
from browser import until
from explorer import ask, slide, trained

from course.explorer import build

SMALLEST_CONTRAST = 4.5  # WCAG 2, level AA
VIEWS = ("table", "maze", "coverage")

# ---- view 1 ---------------------------------------------------------------------------------------------------------


def test_the_first_screen_says_what_algorithm_1_optimises(visit):
    page = visit()
    assert page.inner_text("#verdict") == "It optimises truncated likelihood of order 7, exactly."
    assert (
        page.inner_text("#habits")
        == "Its advantages sum to zero in every group. Groups with K = 0 and K = 8 teach nothing."
    )
    entry = page.wait_for_function("performance.getEntriesByName('first-contentful-paint')[0]")  # written a frame later
    painted = entry.evaluate("entry => entry.startTime")
    print(f"first contentful paint after {painted:.0f} ms, {build.PAGE.stat().st_size} bytes")


def test_grpo_at_two_rollouts_is_plain_rl(visit):
    page = visit()
    page.select_option("#estimator", "grpo")
    assert "none of the known objectives" in page.inner_text("#verdict")
    slide(page, "n", 2)
    assert page.inner_text("#verdict") == "It optimises expected reward (RL), exactly."


def test_the_dial_leads_from_rloo_to_algorithm_1(visit):
    page = visit()
    verdicts = []
    for order in (1, 4, 7):
        ask(page, "slide", ["#dial", order])
        verdicts.append(page.inner_text("#verdict"))
    assert [re.search(r"<?(expected reward|of order \d)", verdict)[1] for verdict in verdicts] == [
        "expected reward",
        "of order 4",
        "of order 7",
    ]
    assert page.evaluate("explorer.State.values.estimator") == "maxrl_centred:order=7"
    assert "T = 7" in page.inner_text("#dial-out")


def test_a_number_of_the_table_can_be_changed(visit):
    page = visit()
    page.fill("[aria-label^='b of 0:']", "-1")
    page.keyboard.press("Tab")
    assert page.inner_text("#verdict") == "It optimises truncated likelihood of order 8, exactly."  # Eq. 10
    assert page.input_value("#estimator") == "table"
    page.fill("[aria-label^='b of 0:']", "nonsense")
    page.keyboard.press("Tab")
    assert page.input_value("[aria-label^='b of 0:']") == "-1"
    page.click("#reset-cells")
    assert "of order 7" in page.inner_text("#verdict")


def test_a_formula_is_read_and_never_leaves_the_page(visit):
    page = visit()
    page.select_option("#estimator", "formula")
    page.fill("#formula-a", "N / K - (K >= 2)")
    page.fill("#formula-b", "K >= 1 ? -1 : 0")
    assert page.inner_text("#verdict") == "It optimises truncated likelihood of order 8, exactly."
    page.fill("#formula-a", "N / K - alert(1)")
    assert page.inner_text("#verdict").startswith("There is no table: “alert” is unknown;")
    page.fill("#formula-a", "2 * C(N - K, 1) / C(N - 1, 1)")
    page.fill("#formula-b", "0")
    assert page.inner_text("#verdict") == "It optimises pass@2, exactly."
    until(page, "location.hash.includes('estimator=table')")
    assert re.fullmatch(r"#estimator=table&a=[-\d.,e]+&b=[-\d.,e]+", page.evaluate("location.hash"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * K ^ 2", 19),
        ("-2 ^ 2", -4),
        ("2 ** 3 ** 2 / 2", 256),
        ("(K > 2) + (K == 3) - (K != N)", 1),
        ("K < 2 ? 1 : K < 4 ? 10 : 100", 10),
        ("max(K, N) - min(K, N) + abs(-1)", 6),
        ("C(N, K) + sqrt(4) + log(exp(1))", 59),
        ("K >= 1 && K <= 2 || N == 8", 1),
        ("1e-1 * .5", 0.05),
    ],
)
def test_formulas_have_the_usual_order(visit, text, value):
    assert ask(visit(), "formula", text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the formula ends too early"),
        ("K +", "the formula ends too early"),
        ("(K", "expected “)” at the end"),
        ("K ? 1, 2", "expected “:” before “,”"),
        ("K K", "“K” is left over"),
        ("K.N", "cannot read “.N”"),
        ("1 = 2", "cannot read “= 2”"),
        ("sqrt(1, 2)", "sqrt takes 1 number, not 2"),
        ("constructor(1)", "“constructor” is unknown; a formula has K, N and sqrt, exp, log, abs, min, max, C"),
    ],
)
def test_what_is_no_formula_is_refused(visit, text, complaint):
    assert ask(visit(), "refusal", text) == complaint


# ---- the address ----------------------------------------------------------------------------------------------------


def test_an_address_brings_the_page_back(visit):
    page = visit("#estimator=maxrl_centred:order=3&n=16&p=0.02&target=pass_at_k&size=8")
    assert "of order 3" in page.inner_text("#verdict")
    assert page.inner_text("#tiles div:first-child small").startswith("the aim has ")
    slide(page, "n", 12)
    until(page, "location.hash.includes('n=12')")
    again = visit(page.evaluate("location.hash"))
    assert again.inner_text("#tiles") == page.inner_text("#tiles")
    assert again.inner_text("#verdict") == page.inner_text("#verdict")


def test_a_typed_table_travels_as_numbers(visit):
    page = visit("#estimator=table&a=0,1,1&b=0,0,0")
    assert page.inner_text("#verdict") == "It optimises expected reward (RL), exactly."
    assert page.evaluate("explorer.State.values.n") == 2


@pytest.mark.parametrize(
    "address",
    [
        "#estimator=<img src=x onerror=alert(1)>&n=1e9&p=-3&view=nowhere",
        "#estimator=formula&a=alert(1),2&b=__proto__",
        "#estimator=table&a=1,2&b=1,2,3",
        "#view=maze&maze=own&walls=zz&starts=1,1,1&goal=1",
        "#view=maze&maze=own&side=5&walls=ffffffffffffffff&starts=1,2,3&goal=4",
        "#view=coverage&first=2,-1&left=first&right=constructor&k=0",
        "#view=coverage&left=other",
        "#constructor=1&toString=2&=&%E0%A4%A",
    ],
)
def test_a_hostile_address_does_nothing(visit, address):
    page = visit(address)
    values = page.evaluate("explorer.State.values")
    assert 1 <= values["n"] <= 64
    assert 0.001 <= values["p"] <= 0.999
    assert page.locator("img").count() == 0
    assert page.locator("[role=tabpanel]:visible svg.plot").count() > 0
    assert values["maze"] == "spiral"
    assert "NaN" not in page.inner_text("main")


# ---- view 2 ---------------------------------------------------------------------------------------------------------


def test_the_methods_learn_side_by_side(visit):
    page = visit("#view=maze")
    trained(page, 150)
    assert page.locator("#mazes figcaption").all_inner_texts() == ["RLOO", "GRPO", "MaxRL", "exact likelihood"]
    runs = ask(page, "runs")
    assert all(run["last"] > run["first"] for run in runs)
    assert [run["groups"] for run in runs] == [450, 450, 450, 0]
    assert all(0 < run["blind"] < 450 for run in runs[:3])
    assert f"groups with K = 0: {runs[0]['blind']} of 450" in page.inner_text("#mazes figure:first-child")
    print(f"150 updates of 4 methods: {ask(page, 'seconds', 150):.2f} s")


def test_an_address_shows_the_same_training(visit):
    first, second = (visit("#view=maze&updates=20&seed=3&other=1&estimator=maxrl_centred:order=8") for _ in range(2))
    for page in (first, second):
        trained(page, 20)
    assert first.locator("#mazes figcaption").all_inner_texts()[3] == "maxrl_centred:order=8"
    assert first.inner_text("#mazes") == second.inner_text("#mazes")


def test_buttons_and_settings_train_anew(visit):
    page = visit("#view=maze&updates=3")
    trained(page, 3)
    page.click("#once")
    trained(page, 4)
    before = page.inner_text("#mazes")
    slide(page, "rate", 5)  # 2^5
    trained(page, 4)
    assert page.inner_text("#mazes") != before
    page.click("#restart")
    trained(page, 0)
    page.click("#play")
    until(page, "Number(document.getElementById('steps-done').textContent) > 3")
    page.click("#play")
    assert page.inner_text("#play") == "play"


def test_the_maze_is_edited_by_keyboard_and_by_pointer(visit):
    page = visit("#view=maze&updates=0")
    page.click("[data-cell='11']")  # row 2, column 3: floor
    assert page.get_attribute("[data-cell='11']", "aria-label") == "row 2, column 3: wall"
    page.focus("[data-cell='11']")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("1")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "row 2, column 4: start 1"
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    assert page.inner_text("#editor-said") == "row 2, column 5: wall"
    assert "0, out of reach" in page.inner_text("#untrained")  # walls on both sides
    assert page.input_value("[data-field='maze']") == "own"
    until(page, "location.hash.includes('walls=')")
    again = visit(page.evaluate("location.hash"))
    assert again.inner_text("#untrained") == page.inner_text("#untrained")
    page.click("#once")
    trained(page, 1)
    assert all(
        run["finite"] for run in ask(page, "runs")
    )  # a start that cannot arrive has no gradient, and harms no other


def test_ten_seeds_and_the_sweep(visit):
    """In the first maze each of the three methods is the best at some common step size, as the page says."""
    page = visit("#view=maze")
    page.click("#seeds")
    until(page, "document.querySelector('#study table') !== null")
    rows = page.locator("#study tbody tr").all_inner_texts()
    assert [row.split("\t")[0] for row in rows] == ["RLOO", "GRPO", "MaxRL", "exact likelihood"]
    assert ["±" in row for row in rows] == [True, True, True, False]
    print(page.inner_text("#study-said"))
    page.click("#sweep")
    until(page, "document.querySelector('#sweep-plot svg') !== null")
    print(page.inner_text("#study-said"), page.inner_text("#winners"))
    winners = re.findall(r"(\w+) at ([\d.]+)", page.inner_text("#winners"))
    assert [size for _, size in winners] == ["0.25", "1", "4", "16", "64", "256", "1024"]
    assert {name for name, _ in winners} == {"RLOO", "GRPO", "MaxRL"}


def test_a_study_ends_when_a_setting_changes(visit):
    page = visit("#view=maze&updates=20")
    page.click("#sweep")
    assert page.is_visible("#progress")
    slide(page, "seed", 5)
    assert page.is_hidden("#progress")
    assert page.inner_text("#study") == ""


# ---- view 3 ---------------------------------------------------------------------------------------------------------


def test_coverage_says_how_many_samples_one_needs_for_what_the_other_gets(visit):
    page = visit("#view=coverage&left=first&right=second&k=1&first=0.5&second=0.1")
    first, second = page.inner_text("#coverage-verdict").split("\n")
    assert first == "With 1 sample A solves 50% of the tasks; B needs 7 for that, 7 times as many."  # 1 - 0.9^7 = 0.52
    assert second == "With 1 sample B solves 10% of the tasks; A needs as many for that."
    page.fill("[data-field='second']", "0.1, 0")
    page.keyboard.press("Tab")
    assert "B does not get there with any number." in page.inner_text("#coverage-verdict")
    page.fill("[data-field='second']", "0.1, 7")
    page.keyboard.press("Tab")
    assert page.input_value("[data-field='second']") == "0.1,0"


def test_coverage_takes_the_policies_of_the_maze(visit):
    page = visit("#view=coverage&updates=30")
    trained(page, 30)
    page.select_option("#left", "maxrl")
    page.select_option("#right", "untrained")
    assert "MaxRL solves" in page.inner_text("#coverage-verdict")
    assert "after 30 updates" in page.inner_text("#training-note")


# ---- for everybody --------------------------------------------------------------------------------------------------


def test_tabs_are_left_and_entered_by_keyboard(visit):
    page = visit()
    page.focus("#tab-table")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-maze"
    assert page.is_visible("#view-maze")
    page.keyboard.press("End")
    assert page.get_attribute("#tab-coverage", "aria-selected") == "true"
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#view-table")
    assert page.locator("[role=tabpanel]:visible").count() == 1


def test_every_control_and_picture_has_a_name(visit):
    page = visit("#updates=1")
    for view in VIEWS:
        page.click(f"#tab-{view}")
        assert ask(page, "unnamed") == []


def test_the_plots_say_their_numbers_to_a_screen_reader(visit):
    label = visit().get_attribute("#weights svg.plot", "aria-label")
    assert label.startswith(
        "weight w(p) against pass rate p. At p = 0.1 the weight of this table is 5.217; of RL 1, of the likelihood 10"
    )


@pytest.mark.parametrize("view", VIEWS)
def test_a_phone_s_width_is_enough(visit, view):
    page = visit(f"#view={view}&updates=2&estimator=grpo&other=1", width=360, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    sizes = ask(page, "plotScales")
    assert sizes
    assert all(size > 0.99 for size in sizes)  # letters keep their size


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_both_schemes(visit, scheme):
    page = visit("#updates=2", color_scheme=scheme)
    colours = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    assert colours == (
        ["rgb(255, 255, 255)", "rgb(27, 31, 36)"] if scheme == "light" else ["rgb(20, 23, 27)", "rgb(230, 232, 235)"]
    )
    for view in VIEWS:
        page.click(f"#tab-{view}")
        assert ask(page, "hardToRead", SMALLEST_CONTRAST) == []


def test_a_page_that_asks_or_complains_would_be_noticed(chromium, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<script>console.error('no'); fetch('http://127.0.0.1:9/x'); undefinedName()</script>", encoding="utf-8"
    )
    page = chromium.new_page()
    watch = browser.Watch(page)
    page.goto(bad.as_uri())
    page.wait_for_timeout(100)
    page.close()
    assert {problem.partition(":")[0] for problem in watch.problems} == {"error", "request"}
    assert any("undefinedName" in problem for problem in watch.problems)
