// What the tests ask of the explorer page: functions by name, each called with one argument.
({
  tables: ([rows, rates]) => rows.map(({ estimator, rollouts }) => {
    const { name, options } = explorer.Estimators.parse(estimator);
    const table = explorer.Estimators.table(name, rollouts, options);
    return {
      ...table,
      weight: rates.map((p) => explorer.Theory.weight(table, p)),
      variance: rates.map((p) => explorer.Theory.variance(table, p, { right: 1, wrong: 1 }) / 2),
      silent: rates.map((p) => explorer.Theory.silent(table, p)),
    };
  }),
  softmax: ({ estimator, rollouts, pass_rates, right, wrong }) => {
    const { name, options } = explorer.Estimators.parse(estimator), { Theory } = explorer;
    const table = explorer.Estimators.table(name, rollouts, options);
    return pass_rates.map((p) => [Theory.moments(p, { right, wrong }).norm, Theory.variance(table, p, { right, wrong })]);
  },
  options: () => Object.fromEntries(
    Object.entries(explorer.Estimators.ALL).map(([name, { options }]) => [name, Object.keys(options ?? {})]),
  ),
  verdicts: (rows) => rows.map(({ estimator, rollouts }) => {
    const { name, options } = explorer.Estimators.parse(estimator);
    const match = explorer.Objectives.nearest(explorer.Estimators.table(name, rollouts, options));
    return match?.exact ? match.spec : null;
  }),
  objective: ([name, size, rates]) => rates.map(explorer.Objectives.make(name, size).weight),
  maze: ({ lines, horizon, logits }) => {
    const world = explorer.Maze.world(explorer.Maze.read(lines), horizon);
    const rates = explorer.Maze.exact(world, explorer.Maze.policy(Float64Array.from(logits)));
    return rates.map(({ p, gradient }) => ({ p, gradient: [...gradient] }));
  },
  training: ({ lines, horizon, training: { rate, updates } }) => {
    const world = explorer.Maze.world(explorer.Maze.read(lines), horizon);
    const [run] = explorer.Maze.train(world, [{ tableAt: null }], { N: 2, rate, seed: 0 }, updates);
    return run.rates.map(({ p }) => p);
  },
  // standard errors between the mean of 4,000 sampled estimates and the exact mean, along the exact mean
  sampling: ({ lines, horizon, logits }) => {
    const { Maze, Theory, Estimators } = explorer, N = 4;
    const world = Maze.world(Maze.read(lines), horizon), pi = Maze.policy(Float64Array.from(logits));
    const rates = Maze.exact(world, pi);
    return ["rloo", "grpo", "maxrl", "maxrl_no_baseline"].map((name) => {
      const table = Estimators.table(name, N), aim = Maze.exactGradient(rates, (p) => Theory.weight(table, p));
      const along = Array.from({ length: 4000 }, (_, step) => {
        const { gradient } = Maze.estimate(world, pi, Maze.uniforms(world, N, 7, step), N, table);
        return Maze.dot(aim, gradient);
      });
      const mean = along.reduce((x, y) => x + y) / along.length;
      const spread = Math.sqrt(along.reduce((x, y) => x + (y - mean) ** 2, 0)) / along.length;
      return (mean - Maze.dot(aim, aim)) / spread;
    });
  },
  coverage: ({ rates, ks, few }) => {
    const { coverage, samplesNeeded } = explorer.Coverage;
    return [
      rates.map((mine) => ks.map((k) => coverage(mine, k))),
      rates.map((mine) => rates.map((other) => few.map((k) => samplesNeeded(other, mine, k)))),
    ];
  },
  formula: (text) => explorer.Formula.parse(text)(3, 8),
  refusal: (text) => {
    try { return explorer.Formula.parse(text)(3, 8); } catch (error) { return error.message; }
  },
  runs: () => explorer.MazeView.runs().map(({ curve, blind, groups, logits }) => ({
    first: curve[0][1], last: curve.at(-1)[1], blind, groups, finite: logits.every(Number.isFinite),
  })),
  seconds: (updates) => { // of all methods together
    const { Maze, MazeView } = explorer, start = performance.now();
    Maze.train(MazeView.world(), MazeView.methods(), MazeView.options(), updates);
    return (performance.now() - start) / 1000;
  },
  slide: ([selector, value]) => { // put a slider where a visitor would
    const slider = document.querySelector(selector);
    slider.value = value;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  },
  unnamed: () => [...document.querySelectorAll("button, input, select, output, progress, svg[role=img], [role=grid]")]
    .filter((node) => node.getClientRects().length > 0)
    .filter((node) => !(node.getAttribute("aria-label") || node.textContent.trim()))
    .filter((node) => ![...(node.labels ?? [])].some((label) => label.textContent.trim()))
    .map((node) => node.outerHTML.slice(0, 80)),
  plotScales: () => [...document.querySelectorAll("svg.plot")].filter((svg) => svg.clientWidth)
    .map((svg) => svg.clientWidth / svg.viewBox.baseVal.width),
  hardToRead: (least) => { // texts whose contrast with what is behind them is lower (WCAG 2)
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const luminance = (colour) => {
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((value) => linear(value / 255));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (node) => {
      const colour = node ? getComputedStyle(node).backgroundColor : "white";
      return colour === "rgba(0, 0, 0, 0)" ? behind(node.parentElement) : colour;
    };
    const texts = document.querySelectorAll("h1, h2, p, small, label, button, th, td, dt, dd, li, figcaption, b, caption");
    return [...texts].filter((node) => node.offsetParent && node.textContent.trim()).flatMap((node) => {
      const pair = [luminance(getComputedStyle(node).color), luminance(behind(node))];
      const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
      return contrast < least ? [`${node.tagName} ${node.textContent.trim().slice(0, 30)}: ${contrast.toFixed(2)}`] : [];
    });
  },
})
