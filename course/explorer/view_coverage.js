// View 3: coverage, and how many samples one policy needs for what another gets. Pass rates are known, so it is exact.
const CoverageView = (() => {
  const $ = (id) => document.getElementById(id);
  const { values, set } = State;
  const MOST = 4096;
  const LABELS = { first: "A", second: "B", untrained: "untrained", rloo: "RLOO", grpo: "GRPO", maxrl: "MaxRL", exact: "exact likelihood", other: "view 1’s table" };
  const CHOICES = Object.fromEntries(Object.entries(LABELS).map(([key, label]) => [key, label.length === 1 ? `${label}: pass rates typed here` : `${label}, in the maze`]));
  const SERIES = { first: "first", second: "second", untrained: "rl", rloo: "rloo", grpo: "grpo", maxrl: "maxrl", exact: "likelihood", other: "table" };

  function rates(key) { // null for a policy that is not there
    if (key === "first" || key === "second") return String(values[key]).split(",").map(Number);
    const world = MazeView.world();
    if (key === "untrained") return Maze.exact(world, Maze.policy(new Float64Array(world.cells * 4))).map(({ p }) => p);
    return MazeView.runs().find((run) => run.key === key)?.rates.map(({ p }) => p) ?? null;
  }
  const KS = (() => { // 1 to MOST, ten to a doubling
    const list = range(121).map((i) => Math.round(2 ** (i / 10)));
    return [...new Set(list)].filter((k) => k <= MOST);
  })();

  const short = (count) => (count === Infinity ? "∞" : count >= 1e5 ? Plot.number(count) : String(count));
  function sentence(mine, other, k) {
    const [me, them] = [mine, other].map((key) => `<b>${LABELS[key]}</b>`), target = Coverage.coverage(rates(mine), k);
    const needed = Coverage.samplesNeeded(rates(other), rates(mine), k);
    const many = needed === Infinity ? "does not get there with any number"
      : needed === k ? "needs as many for that" : `needs ${short(needed)} for that, ${Plot.number(needed / k)} times as many`;
    return `With ${k} sample${k > 1 ? "s" : ""} ${me} solves ${Plot.share(target)} of the tasks; ${them} ${many}.`;
  }

  function draw() {
    const k = values.k, [left, right] = [values.left, values.right].map((key) => (rates(key) ? key : "untrained"));
    drawChoices();
    $("k-out").value = k;
    const [ours, theirs] = [rates(left), rates(right)];
    $("coverage-verdict").innerHTML = `${sentence(left, right, k)}<br>${sentence(right, left, k)}`;
    const target = Coverage.coverage(ours, k), needed = Coverage.samplesNeeded(theirs, ours, k);
    const others = Object.keys(LABELS).filter((key) => key !== left && key !== right && key !== "first" && key !== "second" && rates(key));
    const line = (key) => KS.map((size) => [size, Coverage.coverage(rates(key), size)]);
    const axis = { min: 1, max: MOST, log: true, label: "samples k", ticks: [1, 4, 16, 64, 256, 1024, 4096] };
    const reach = needed <= MOST ? [{ points: [[k, target], [needed, target]], series: "mark", dash: true, thin: true }] : [];
    Plot.plot($("coverage-plot"), {
      curves: [
        ...others.map((key) => ({ label: LABELS[key], series: SERIES[key], points: line(key), thin: true })),
        { label: LABELS[left], series: SERIES[left], points: line(left) },
        { label: LABELS[right], series: SERIES[right], points: line(right), dash: left === right },
        ...reach,
      ],
      x: axis, y: { min: 0, max: 1, label: "coverage, mean pass@k" }, marks: [{ x: k, label: `k = ${k}` }], pick: (x) => set({ k: Math.round(x) }),
      summary: `At k = ${k}: ${LABELS[left]} ${Plot.share(target)}, ${LABELS[right]} ${Plot.share(Coverage.coverage(theirs, k))}.`,
    });
    const ratio = (mine, other) => KS.map((size) => [size, Coverage.samplesNeeded(other, mine, size, false) / size]);
    const forward = ratio(ours, theirs), backward = ratio(theirs, ours), ends = [...forward, ...backward].map(([, value]) => value).filter(Number.isFinite);
    const top = 10 ** Math.min(12, Math.max(2, Math.ceil(Math.log10(Math.max(...ends, 1)))));
    Plot.plot($("ratio-plot"), {
      curves: [
        { label: `${LABELS[right]}, for what ${LABELS[left]} gets`, series: SERIES[right], points: forward },
        { label: `${LABELS[left]}, for what ${LABELS[right]} gets`, series: SERIES[left], points: backward, dash: left === right },
      ],
      x: axis, y: { min: 10 ** Math.min(-2, Math.floor(Math.log10(Math.min(...ends, 1)))), max: top, log: true, label: "times as many samples" },
      marks: [{ x: k }], pick: (x) => set({ k: Math.round(x) }),
      summary: "Where a curve ends, no number of samples is enough.",
    });
    const sizes = [1, 4, 16, 64, 256, 1024];
    $("coverage-table").innerHTML = Plot.table(
      ["samples k", ...sizes],
      [
        [`coverage, ${LABELS[left]}`, ...sizes.map((size) => Plot.share(Coverage.coverage(ours, size)))],
        [`coverage, ${LABELS[right]}`, ...sizes.map((size) => Plot.share(Coverage.coverage(theirs, size)))],
        [`samples of ${LABELS[right]} for the first`, ...sizes.map((size) => short(Coverage.samplesNeeded(theirs, ours, size)))],
      ],
    );
    const tasks = (key) => rates(key).map((p) => Plot.number(p)).join(", ");
    $("coverage-rates").innerHTML = `Pass rates of ${LABELS[left]}: ${tasks(left)}; of ${LABELS[right]}: ${tasks(right)}.`;
  }
  function drawChoices() {
    for (const id of ["left", "right"]) {
      const select = $(id), keys = Object.keys(LABELS).filter((key) => rates(key));
      if (select.options.length !== keys.length) select.innerHTML = keys.map((key) => `<option value="${key}">${CHOICES[key]}</option>`).join("");
      select.value = values[id];
    }
    const isTyped = (key) => values.left === key || values.right === key;
    $("first-label").hidden = !isTyped("first");
    $("second-label").hidden = !isTyped("second");
    $("training-note").textContent = `The policies of the maze are those of view 2, after ${MazeView.runs()[0].step} updates.`;
  }
  return { draw, rates };
})();
