// View 2: methods that learn in a maze, side by side on the same random numbers, beside the exact likelihood gradient.
const MazeView = (() => {
  const $ = (id) => document.getElementById(id);
  const { values, set } = State;
  const MAZES = {
    spiral: ["#########", "#1......#", "#.#####.#", "#.#2....#", "#.#.###.#", "#.#.#...#", "#.#...#3#", "#...#..G#", "#########"],
    rooms: ["#########", "#1..#...#", "#...#.3.#", "#.......#", "##.###.##", "#...#...#", "#.......#", "#.2.#..G#", "#########"],
    open: ["#########", "#1......#", "#.......#", "#...2...#", "#.......#", "#.......#", "#......3#", "#......G#", "#########"],
    two_ways: ["#########", "#1.....##", "#.####..#", "#.#..##.#", "#2#.3...#", "#.#####.#", "#.......#", "#.#####G#", "#########"],
  };
  const METHODS = {
    rloo: { key: "rloo", label: "RLOO", series: "rloo", tableAt: (N) => Estimators.table("rloo", N) },
    grpo: { key: "grpo", label: "GRPO", series: "grpo", tableAt: (N) => Estimators.table("grpo", N) },
    maxrl: { key: "maxrl", label: "MaxRL", series: "maxrl", tableAt: (N) => Estimators.table("maxrl", N) },
    exact: { key: "exact", label: "exact likelihood", series: "likelihood", tableAt: null },
  };
  const MOST = 400; // updates

  // ---- the maze of the fields ----------------------------------------------------------------------------------------
  function maze() {
    return values.maze === "own" ? (own() ?? Maze.read(MAZES.spiral)) : Maze.read(MAZES[values.maze]);
  }
  function own() { // walls are the binary digits of a hexadecimal number, starts and goal are cells; null if it is no maze
    const cells = values.side ** 2, starts = String(values.starts).split(",").map(Number);
    const bits = values.walls === "" ? "" : BigInt(`0x${values.walls}`).toString(2);
    if (bits.length > cells) return null;
    const walls = [...bits.padStart(cells, "0")].map((bit) => bit === "1"), marks = [...starts, values.goal];
    const fits = starts.length === 3 && new Set(marks).size === 4 && marks.every((cell) => Number.isInteger(cell) && cell < cells && !walls[cell]);
    return fits ? { size: values.side, walls, starts, goal: values.goal } : null;
  }
  function keep({ size, walls, starts, goal }) {
    const hex = BigInt(`0b${walls.map((wall) => +wall).join("")}`).toString(16);
    set({ maze: "own", side: size, walls: hex, starts: starts.join(","), goal });
  }

  // ---- training: it catches up with the number of updates that is asked for -------------------------------------------
  let world, runs, playing = false, waiting = 0;
  const options = (seed = values.seed, rate = values.rate) => ({ N: values.rollouts, rate, equal: values.equal === 1, seed });
  function methods() {
    const list = Object.values(METHODS);
    if (values.other === 0) return list;
    const spec = values.estimator, parsed = Estimators.parse(spec);
    if (!parsed || values.rollouts < Estimators.least(parsed.name)) return list;
    const other = { key: "other", label: spec, series: "table", tableAt: (N) => Estimators.table(parsed.name, N, parsed.options) };
    return [...list.slice(0, 3), other, list[3]];
  }
  function restart() {
    stopStudy();
    world = Maze.world(maze(), values.steps);
    runs = methods().map((method) => Maze.begin(world, method));
    catchUp();
  }
  const done = () => runs[0].step;
  function advance() {
    const numbers = Maze.uniforms(world, values.rollouts, values.seed, done());
    for (const run of runs) Maze.advance(world, run, options(), numbers);
  }
  function catchUp() { // a few updates at a time, so that the page answers; none while nobody looks
    clearTimeout(waiting);
    if (done() > values.updates) runs = methods().map((method) => Maze.begin(world, method));
    if (values.view === "table") return;
    const end = performance.now() + 25;
    while (done() < values.updates && performance.now() < end) advance();
    redraw();
    if (done() < values.updates) waiting = setTimeout(catchUp);
    else if (playing) waiting = setTimeout(() => (values.updates < MOST ? set({ updates: values.updates + 2 }) : play(false)), 60);
  }
  let redraw = () => {};
  function play(on) {
    playing = on;
    $("play").textContent = on ? "pause" : "play";
    if (on && values.updates >= MOST) set({ updates: 0 });
    if (on) catchUp();
  }

  // ---- curves ----------------------------------------------------------------------------------------------------------
  function smooth(points, width = 9) { // the mean of the last defined values, so that a trend can be seen among the noise
    const kept = points.filter(([, value]) => Number.isFinite(value));
    return kept.map(([step], i) => {
      const last = kept.slice(Math.max(0, i - width + 1), i + 1);
      return [step, sum(last.map(([, value]) => value)) / last.length];
    });
  }
  function draw() {
    if (!world) return;
    const last = Math.max(10, done());
    $("steps-done").textContent = done();
    const ends = runs.map((run) => `${run.label} ${Plot.number(run.curve.at(-1)[1])}`).join(", ");
    const axis = { min: 0, max: last, label: "update" };
    Plot.plot($("rates-plot"), {
      curves: runs.map((run) => ({ label: run.label, series: run.series, points: run.curve, dash: run.key === "exact" })),
      x: axis, y: { min: 0, max: 1, label: "pass rate, mean of starts" }, summary: `After ${done()} updates: ${ends}.`,
    });
    const sampled = runs.filter((run) => run.tableAt);
    Plot.plot($("cosine-plot"), {
      curves: [
        ...sampled.map((run) => ({ series: run.series, points: run.cosines, dots: true, bare: true })),
        ...sampled.map((run) => ({ label: run.label, series: run.series, points: smooth(run.cosines) })),
      ],
      x: axis, y: { min: -0.4, max: 1, label: "cosine with the likelihood", ticks: [-0.25, 0, 0.25, 0.5, 0.75, 1] },
      summary: `The last estimates: ${sampled.map((run) => `${run.label} ${Plot.number(run.cosines.at(-1)?.[1] ?? NaN)}`).join(", ")}.`,
    });
    $("mazes").innerHTML = runs.map(panel).join("");
    if (!$("editor").contains(document.activeElement)) drawEditor();
    drawUntrained();
  }

  // ---- a maze for each method: shades or arrows, and a line for each start ---------------------------------------------
  const CELL = 26;
  function panel(run) {
    const { size, walls, starts, goal } = world, parts = [];
    const visits = values.show === "visits" ? Maze.visits(world, run.pi) : null;
    for (let s = 0; s < world.cells; s++) {
      const x = (s % size) * CELL, y = Math.floor(s / size) * CELL, kind = walls[s] ? "wall" : `floor s-${run.series}`;
      parts.push(`<rect class="${kind}" x="${x}" y="${y}" width="${CELL}" height="${CELL}"${walls[s] ? "" : ` fill-opacity="${visits ? Math.min(0.85, 0.85 * visits[s]).toFixed(3) : 0}"`}/>`);
    }
    if (!visits) parts.push(arrows(run));
    const mark = (s, text) => `<text class="place" x="${(s % size) * CELL + CELL / 2}" y="${Math.floor(s / size) * CELL + 18}" text-anchor="middle">${text}</text>`;
    parts.push(...starts.map((s, task) => mark(s, task + 1)), mark(goal, "G"));
    const rows = run.rates.map(({ p, gradient }, task) => {
      const K = run.successes[task];
      const seen = run.tableAt ? [K === 0 ? { text: 0, kind: "blind" } : K ?? "–"] : [];
      return [task + 1, Plot.number(p), Plot.number(Maze.norm(gradient), 3), ...seen];
    });
    const head = ["start", "exact p", "|∇p|", ...(run.tableAt ? [`K of ${values.rollouts}`] : [])];
    const blind = run.tableAt ? `groups with K = 0: <b class="blind">${run.blind}</b> of ${run.groups}` : "no sampling, so no group";
    const cosine = run.tableAt ? `cosine now: ${Plot.number(run.cosines.at(-1)?.[1] ?? NaN)}` : "cosine: 1";
    return `<figure><figcaption class="name s-${run.series}">${run.label}</figcaption><svg viewBox="0 0 ${size * CELL} ${size * CELL}" role="img" aria-label="${run.label}: ${SHOWN[values.show]}">${parts.join("")}</svg>${Plot.table(head, rows)}<p class="note">${blind}<br>${cosine}</p></figure>`;
  }
  const SHOWN = { visits: "expected visits of the cells", policy: "chance of each move", gradient: "exact likelihood gradient of each move", estimate: "estimated gradient of each move" };
  const TOWARDS = [[0, -1], [0, 1], [-1, 0], [1, 0]]; // x and y of up, down, left, right
  function arrows(run) {
    const field = { policy: run.pi, gradient: run.likelihood, estimate: run.gradient ?? new Float64Array(run.pi.length) }[values.show];
    const top = values.show === "policy" ? 1 : Math.max(1e-300, ...field.map(Math.abs));
    let up = "", down = "";
    for (const s of world.acting) for (let move = 0; move < 4; move++) {
      const value = field[s * 4 + move] / top, [dx, dy] = TOWARDS[move], length = Math.sqrt(Math.abs(value)) * CELL * 0.48;
      if (length < 1) continue;
      const line = `M${(s % world.size) * CELL + CELL / 2} ${Math.floor(s / world.size) * CELL + CELL / 2}l${(dx * length).toFixed(1)} ${(dy * length).toFixed(1)}`;
      if (value > 0) up += line; else down += line;
    }
    return `<path class="arrow s-${run.series}" d="${up}"/><path class="arrow away" d="${down}"/>`;
  }
  function drawUntrained() {
    const rates = Maze.exact(world, Maze.policy(new Float64Array(world.cells * 4)));
    const rows = rates.map(({ p, gradient }, task) => [task + 1, p === 0 ? { text: "0, out of reach", kind: "blind" } : Plot.number(p), Plot.number(Maze.norm(gradient)), Plot.share((1 - p) ** values.rollouts)]);
    $("untrained").innerHTML = Plot.table(["start", "exact p", "|∇p|", "chance of K = 0"], rows, "before training");
  }

  // ---- the editor: a grid of buttons -------------------------------------------------------------------------------------
  let focused = 0;
  const describe = ({ size, walls, starts, goal }, s) => {
    const what = s === goal ? "goal" : starts.includes(s) ? `start ${starts.indexOf(s) + 1}` : walls[s] ? "wall" : "floor";
    return `row ${Math.floor(s / size) + 1}, column ${(s % size) + 1}: ${what}`;
  };
  function drawEditor() {
    const now = maze(), { size, walls, starts, goal } = now;
    focused = Math.min(focused, size * size - 1);
    const cell = (s) => {
      const text = s === goal ? "G" : starts.includes(s) ? starts.indexOf(s) + 1 : "";
      return `<button type="button" role="gridcell" data-cell="${s}" class="${walls[s] ? "wall" : ""}" tabindex="${s === focused ? 0 : -1}" aria-label="${describe(now, s)}">${text}</button>`;
    };
    $("editor").className = `side-${size}`;
    $("editor").innerHTML = range(size).map((row) => `<div role="row">${range(size, row * size).map(cell).join("")}</div>`).join("");
  }
  const tool = () => document.querySelector("[name=tool]:checked").value;
  function put(s, mark) {
    const now = maze(), { walls, starts, goal } = now, isMarked = s === goal || starts.includes(s);
    if (mark === "wall" || mark === "floor") {
      if (isMarked || walls[s] === (mark === "wall")) return;
      walls[s] = mark === "wall";
    } else {
      if (isMarked) return; // a cell holds one mark
      walls[s] = false;
      if (mark === "goal") now.goal = s; else starts[Number(mark) - 1] = s;
    }
    keep(now);
    const held = document.activeElement?.dataset?.cell;
    drawEditor();
    if (held !== undefined) cellAt(held)?.focus();
    $("editor-said").textContent = describe(maze(), s);
  }
  const cellAt = (s) => $("editor").querySelector(`[data-cell="${s}"]`);
  const toggled = (s) => (maze().walls[s] ? "floor" : "wall");
  let painting = null; // what a pointer that moves over the cells leaves behind
  function listenToEditor() {
    const over = (event) => document.elementFromPoint(event.clientX, event.clientY)?.closest?.("[data-cell]");
    $("editor").addEventListener("pointerdown", (event) => {
      const target = event.target.closest("[data-cell]");
      if (!target) return;
      event.preventDefault();
      focused = Number(target.dataset.cell);
      painting = tool() === "wall" ? toggled(focused) : null;
      put(focused, painting ?? tool());
    });
    $("editor").addEventListener("pointermove", (event) => {
      const target = painting && over(event);
      if (target && $("editor").contains(target)) put(Number(target.dataset.cell), painting);
    });
    for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, () => { painting = null; });
    $("editor").addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const size = maze().size, row = Math.floor(focused / size), col = focused % size;
      const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      const marks = { 1: "1", 2: "2", 3: "3", g: "goal", G: "goal" };
      if (moves[event.key]) {
        const [down, right] = moves[event.key];
        cellAt(focused)?.setAttribute("tabindex", -1);
        focused = Math.max(0, Math.min(size - 1, row + down)) * size + Math.max(0, Math.min(size - 1, col + right));
        cellAt(focused)?.setAttribute("tabindex", 0);
        cellAt(focused)?.focus();
      } else if (marks[event.key]) put(focused, marks[event.key]);
      else if (event.key === " " || event.key === "Enter") put(focused, tool() === "wall" ? toggled(focused) : tool());
      else if (event.key === "w" || event.key === "#") put(focused, toggled(focused));
      else return;
      event.preventDefault();
    });
  }

  // ---- studies: ten seeds, and a sweep of the step size --------------------------------------------------------------------
  const SEEDS = 10;
  const RATES = range(7).map((i) => 4 ** (i - 1)); // 1/4 to 1024
  const T_QUANTILE = 2.262157162740992; // 97.5% of Student's t with 9 degrees of freedom
  const mean = (list) => sum(list) / list.length;
  const halfWidth = (list) => {
    const centre = mean(list), spread = sum(list.map((x) => (x - centre) ** 2)) / (list.length - 1);
    return T_QUANTILE * Math.sqrt(spread / list.length);
  };
  let study = 0; // its timer
  function stopStudy(said = "") {
    clearTimeout(study);
    study = 0;
    $("progress").hidden = true;
    $("study-said").textContent = said;
  }
  // run the jobs one after another, without blocking the page, then show the results
  function runStudy(jobs, show) {
    stopStudy();
    playing && play(false);
    const results = [], start = performance.now();
    $("progress").hidden = false;
    $("progress").max = jobs.length;
    (function next() {
      const end = performance.now() + 40;
      while (results.length < jobs.length && performance.now() < end) results.push(jobs[results.length]());
      $("progress").value = results.length;
      if (results.length < jobs.length) { study = setTimeout(next); return; }
      stopStudy(`${jobs.length} trainings in ${((performance.now() - start) / 1000).toFixed(1)} s.`);
      $("study").innerHTML = show(results);
      drawSweep();
    })();
  }
  const studied = () => (values.updates >= 10 ? values.updates : 150);
  // the exact likelihood needs one training, since no random number enters it
  const trained = (method, rate, updates, seed) => Maze.train(world, [method], options(seed, rate), updates)[0];
  function tenSeeds() {
    const updates = studied(), list = methods();
    sweep = null;
    const jobs = list.flatMap((method) => range(method.tableAt ? SEEDS : 1).map((seed) => () => ({ method, run: trained(method, values.rate, updates, seed) })));
    runStudy(jobs, (results) => {
      const rows = list.map((method) => {
        const mine = results.filter((result) => result.method === method).map(({ run }) => run);
        const means = mine.map((run) => mean(run.rates.map(({ p }) => p)));
        const blind = method.tableAt ? Plot.share(sum(mine.map((run) => run.blind)) / sum(mine.map((run) => run.groups))) : "–";
        const all = Plot.number(mean(means)) + (mine.length > 1 ? ` ± ${halfWidth(means).toPrecision(2)}` : "");
        return [{ text: method.label, kind: `name s-${method.series}` }, ...world.starts.map((_, task) => Plot.number(mean(mine.map((run) => run.rates[task].p)))), all, blind];
      });
      const head = ["method", ...world.starts.map((_, task) => `start ${task + 1}`), "mean of starts", "groups with K = 0"];
      return `${Plot.table(head, rows, `exact pass rates after ${updates} updates at step size ${Plot.number(values.rate)}: mean of ${SEEDS} seeds`)}<p class="note">± is half of a 95% interval over seeds (Student’s t). All methods take the same step size, which suits some and not others: see the sweep.</p>`;
    });
  }
  let sweep = null; // curves of the last sweep, drawn anew when the page's width changes
  function rateSweep() {
    const updates = studied(), list = methods(), seeds = 5;
    const jobs = list.flatMap((method) => RATES.flatMap((rate) => range(method.tableAt ? seeds : 1).map((seed) => () => ({ method, rate, p: trained(method, rate, updates, seed).curve.at(-1)[1] }))));
    runStudy(jobs, (results) => {
      const at = (method, rate) => results.filter((result) => result.method === method && result.rate === rate).map(({ p }) => p);
      const rows = list.map((method) => {
        const means = RATES.map((rate) => mean(at(method, rate))), best = means.indexOf(Math.max(...means)), all = at(method, RATES[best]);
        return [{ text: method.label, kind: `name s-${method.series}` }, Plot.number(RATES[best]), Plot.number(means[best]), all.length > 1 ? `${Plot.number(Math.min(...all))} to ${Plot.number(Math.max(...all))}` : "one training"];
      });
      const sampled = list.filter((method) => method.tableAt);
      const winner = (rate) => sampled.reduce((best, method) => (mean(at(method, rate)) > mean(at(best, rate)) ? method : best)).label;
      const winners = RATES.map((rate) => `${winner(rate)} at ${rate}`).join(", ");
      sweep = { list, mean: (method) => RATES.map((rate) => [rate, mean(at(method, rate))]), updates };
      return `<div id="sweep-plot"></div>${Plot.table(["method", "its best step size", "pass rate there", "over seeds"], rows, `after ${updates} updates, mean of starts and of ${seeds} seeds`)}<p class="note">The best sampled method at a common step size: <span id="winners">${winners}</span>. The seeds that choose a step size also measure it here, so the best values are a little too good; the lab’s experiments use other seeds for that.</p>`;
    });
  }
  function drawSweep() {
    if (!sweep || !$("sweep-plot")) return;
    Plot.plot($("sweep-plot"), {
      curves: sweep.list.map((method) => ({ label: method.label, series: method.series, points: sweep.mean(method), dots: true, dash: !method.tableAt })),
      x: { min: RATES[0], max: RATES.at(-1), log: true, label: "step size", ticks: RATES }, y: { min: 0, max: 1, label: "pass rate, mean of starts" },
      summary: `After ${sweep.updates} updates.`,
    });
  }

  function start(afterwards) {
    redraw = afterwards;
    if (values.maze === "own" && !own()) set({ maze: "spiral" });
    listenToEditor();
    $("play").addEventListener("click", () => play(!playing));
    $("once").addEventListener("click", () => { play(false); set({ updates: Math.min(MOST, done() + 1) }); });
    $("restart").addEventListener("click", () => { play(false); set({ updates: 0 }); });
    $("seeds").addEventListener("click", tenSeeds);
    $("sweep").addEventListener("click", rateSweep);
    restart();
  }
  const RESTARTS = ["maze", "side", "walls", "starts", "goal", "rollouts", "rate", "steps", "seed", "equal", "other"];
  function settle(changed) {
    if (RESTARTS.some((key) => changed.has(key)) || (values.other === 1 && changed.has("estimator"))) restart();
    else if (changed.has("updates") || changed.has("view")) catchUp();
    if (changed.has("maze") && values.maze === "own" && !own()) set({ maze: "spiral" });
    if (changed.has("view") && values.view !== "maze") play(false);
  }
  return { start, draw: () => { draw(); drawSweep(); }, settle, maze, runs: () => runs, world: () => world, methods, options };
})();
