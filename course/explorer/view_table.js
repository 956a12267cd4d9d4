// View 1: which objective is this table of advantages? Everything in it is exact.
const TableView = (() => {
  const $ = (id) => document.getElementById(id);
  const { values, set } = State;
  const RATES = range(181).map((i) => 1 / (1 + Math.exp(6.9 - (13.8 * i) / 180)));
  const SERIES = { expected_reward: "rl", maximum_likelihood: "likelihood", grpo_limit: "grpo" };
  let base = "maxrl"; // the estimator of the list that a typed table or a formula began as

  // ---- the table that the fields describe, or why there is none -----------------------------------------------------
  const typed = () => ({ a: String(values.a).split(",").map(Number), b: String(values.b).split(",").map(Number) });
  const isTyped = () => {
    const { a, b } = typed();
    return values.a !== "" && values.b !== "" && a.length === b.length && a.length === values.n + 1;
  };
  function current() {
    if (values.estimator === "formula") return Formula.table($("formula-a").value, $("formula-b").value, values.n);
    if (values.estimator === "table" && isTyped()) return typed();
    const { name, options } = Estimators.parse(values.estimator === "table" ? base : values.estimator);
    const table = Estimators.table(name, values.n, options);
    if (!table) throw new Error(`${name} needs at least ${Estimators.least(name)} rollouts in a group`);
    return table;
  }
  const target = () => Objectives.make(values.target, Objectives.OPTION[values.target] ? Math.max(1, values.size) : undefined);

  const POLICIES = { two: { right: 1, wrong: 1 }, twenty: { right: 4, wrong: 16 }, thousand: { right: 10, wrong: 990 } };
  const policy = () => POLICIES[values.policy];

  // ---- words ---------------------------------------------------------------------------------------------------------
  function verdict(table) {
    const match = Objectives.nearest(table);
    if (!match) return "Its mean gradient is 0 at every pass rate: it optimises <b>nothing</b>.";
    const scale = Math.abs(match.scale - 1) < 1e-9 ? "" : `, times ${Plot.number(match.scale)}`;
    if (match.scale < 0) return `It <b>descends</b>: the nearest objective is ${match.label}, times ${Plot.number(match.scale)}.`;
    if (match.exact) return `It optimises <b>${match.label}</b>${scale}, exactly.`;
    return `It optimises <b>none of the known objectives</b>. The nearest is ${match.label}${scale}, off by up to ${Plot.share(match.residual)}.`;
  }
  function habits(table) {
    const { a, b } = table, N = values.n;
    const sums = range(N + 1).map((K) => K * a[K] + (N - K) * b[K]);
    const isZero = sums.every((total) => Math.abs(total) < 1e-9 * N);
    const silent = [0, N].filter((K) => Theory.isSilent(table, K)).map((K) => (K ? `K = ${N}` : "K = 0"));
    return [
      isZero ? "Its advantages sum to zero in every group." : "Its advantages do not sum to zero.",
      silent.length ? `Groups with ${silent.join(" and ")} teach nothing.` : "No unanimous group is silent.",
    ].join(" ");
  }

  // ---- drawing -------------------------------------------------------------------------------------------------------
  let valid = null; // the last table that could be read
  function draw() {
    let table = null;
    try { table = current(); } catch (error) {
      $("verdict").textContent = `There is no table: ${error.message}.`;
      $("habits").textContent = "";
    }
    $("view-table").classList.toggle("stale", !table); // what is still drawn is an earlier table's
    for (const id of ["formula-a", "formula-b"]) $(id).setAttribute("aria-invalid", !table);
    if (!table && valid?.a.length !== values.n + 1) { drawControls(); return; }
    if (table) {
      $("verdict").innerHTML = verdict(table);
      $("habits").textContent = habits(table);
      valid = table;
      if (values.estimator === "formula") set({ a: table.a.join(","), b: table.b.join(",") }); // for the address
    }
    drawControls();
    drawCurves(valid);
    drawNumbers(valid);
    drawCells(valid);
    drawDial();
  }
  const curve = (f) => RATES.map((p) => [p, f(p)]);
  const AXIS = { min: 1e-3, max: 1, log: true, label: "pass rate p" };
  function drawCurves(table) {
    const p = values.p, weight = (x) => Theory.weight(table, x), aim = target(), highest = 10 ** Math.max(3, Math.ceil(Math.log10(weight(1e-3))));
    const known = ["expected_reward", "maximum_likelihood", "grpo_limit"].map((name) => {
      const objective = Objectives.make(name);
      return { label: { expected_reward: "RL", maximum_likelihood: "likelihood", grpo_limit: "GRPO’s limit" }[name], series: SERIES[name], points: curve(objective.weight), dash: name === "grpo_limit", thin: true };
    });
    if (!SERIES[values.target]) known.push({ label: aim.label, series: "aim", points: curve(aim.weight), thin: true, dash: true });
    Plot.plot($("weights"), {
      curves: [...known, { label: `this table, N = ${values.n}`, series: "table", points: curve(weight) }],
      x: AXIS, y: { min: 0.1, max: Number.isFinite(highest) ? highest : 1000, log: true, label: "weight w(p)" },
      marks: [{ x: p, label: `w = ${Plot.number(weight(p))}` }],
      pick: (x) => set({ p: x }),
      summary: `At p = ${p} the weight of this table is ${Plot.number(weight(p))}; of RL 1, of the likelihood ${Plot.number(1 / p)}, of GRPO’s limit ${Plot.number(1 / Math.sqrt(p * (1 - p)))}.`,
    });
    const accuracy = RATES.map((x) => Theory.accuracy(table, x, aim.weight, values.groups, policy()));
    const line = (key) => RATES.map((x, i) => [x, Math.abs(accuracy[i][key])]);
    const here = Theory.accuracy(table, p, aim.weight, values.groups, policy());
    Plot.plot($("noise"), {
      curves: [
        { label: "|bias|", series: "bias", points: line("bias") },
        { label: "noise", series: "noise", points: line("noise") },
        { label: "error, of both", series: "table", points: line("error") },
        { label: "silent groups", series: "silent", points: curve((x) => Theory.silent(table, x)), dash: true },
      ],
      x: AXIS, y: { min: 1e-3, max: 100, log: true, label: "relative to the aim; share" },
      marks: [{ x: p, label: `error ${Plot.number(here.error)}` }],
      pick: (x) => set({ p: x }),
      summary: `At p = ${p}: bias ${Plot.number(here.bias)}, noise ${Plot.number(here.noise)}, error ${Plot.number(here.error)}, silent groups ${Plot.share(Theory.silent(table, p))}.`,
    });
  }
  function drawNumbers(table) {
    const p = values.p, aim = target(), here = Theory.accuracy(table, p, aim.weight, values.groups, policy());
    const tiles = [
      ["weight w<sub>N</sub>(p)", Plot.number(Theory.weight(table, p)), `the aim has ${Plot.number(aim.weight(p))}`],
      ["bias", `${here.bias > 0 ? "+" : ""}${Plot.number(here.bias)}`, "w<sub>N</sub> over the aim’s w, less 1"],
      ["noise", Plot.number(here.noise), values.groups > 1 ? `of the mean of ${values.groups} groups` : "of one group’s estimate"],
      ["error", Plot.number(here.error), "√(bias² + noise²)"],
      ["silent groups", Plot.share(Theory.silent(table, p)), "share with all advantages 0"],
    ];
    $("tiles").innerHTML = tiles.map(([name, value, note]) => `<div><dt>${name}</dt><dd><b>${value}</b><small>${note}</small></dd></div>`).join("");
  }

  // ---- the table itself, a number in every cell ----------------------------------------------------------------------
  const cellText = (value) => Plot.number(value).replaceAll("−", "-");
  function drawCells(table) {
    const N = values.n, active = document.activeElement;
    if ($("cells").contains(active) && $("cells").querySelectorAll("input").length === 2 * N) { // its numbers are being typed
      for (const input of $("cells").querySelectorAll("input"))
        if (input !== active) input.value = input.defaultValue = cellText(table[input.dataset.kind][input.dataset.k]);
      $("cells").querySelectorAll("tr:last-child td").forEach((cell, J) => { cell.textContent = J < N ? Plot.number(Theory.flips(table)[J]) : ""; });
      return;
    }
    const inputs = (kind) => range(N + 1).map((K) => {
      if (K === (kind === "a" ? 0 : N)) return { text: "–", kind: "none" };
      const who = kind === "a" ? "success" : "failure";
      return { text: `<input type="text" inputmode="decimal" data-kind="${kind}" data-k="${K}" value="${cellText(table[kind][K])}" aria-label="${kind} of ${K}: advantage of a ${who} in a group with ${K} of ${N} right">` };
    });
    const flips = Theory.flips(table).map((flip) => Plot.number(flip));
    $("cells").innerHTML = Plot.table(["K right", ...range(N + 1)], [["a(K), success", ...inputs("a")], ["b(K), failure", ...inputs("b")], ["d(J), flip", ...flips, ""]]);
  }
  function typeCell({ target: input }) {
    const value = Number(input.value.replace("−", "-").replace(",", ".")), { kind, k } = input.dataset;
    if (!kind || !valid || input.value === input.defaultValue) return;
    if (!Number.isFinite(value) || Math.abs(value) > 1e6 || input.value.trim() === "") { input.value = input.defaultValue; return; }
    const table = { a: [...valid.a], b: [...valid.b] };
    table[kind][Number(k)] = value;
    input.defaultValue = input.value;
    if (values.estimator !== "table" && values.estimator !== "formula") base = values.estimator;
    set({ estimator: "table", a: table.a.join(","), b: table.b.join(",") });
  }

  // ---- the dial from RLOO to Algorithm 1 -----------------------------------------------------------------------------
  function drawDial() {
    const N = values.n, last = N - 1, dial = $("dial"), p = values.p, aim = target();
    dial.disabled = N < 2;
    if (N < 2) { $("dial-plot").innerHTML = "<p class=note>The dial needs two rollouts or more.</p>"; $("dial-out").value = "–"; return; }
    const name = values.estimator.split(":")[0];
    const order = name === "maxrl_centred" ? Estimators.settled(name, Estimators.parse(values.estimator).options, N).order : name === "maxrl" ? last : name === "rloo" ? 1 : null;
    dial.max = last;
    if (order !== null) dial.value = order;
    $("dial-out").value = order === null ? "–" : `T = ${order}`;
    dial.setAttribute("aria-valuetext", order === null ? "another estimator is shown" : `order ${order}${order === 1 ? ", RLOO" : ""}${order === last ? ", Algorithm 1" : ""}`);
    const orders = range(last, 1), accuracy = orders.map((T) => Theory.accuracy(Estimators.table("maxrl_centred", N, { order: T }), p, aim.weight, values.groups, policy()));
    const errors = accuracy.map(({ error }) => error), best = orders[errors.indexOf(Math.min(...errors))];
    const line = (key) => orders.map((T, i) => [T, Math.abs(accuracy[i][key])]);
    const top = Math.max(...accuracy.flatMap(({ bias, noise, error }) => [Math.abs(bias), noise, error]));
    Plot.plot($("dial-plot"), {
      curves: [
        { label: "|bias|", series: "bias", points: line("bias"), dots: true },
        { label: "noise", series: "noise", points: line("noise"), dots: true },
        { label: "error, of both", series: "table", points: line("error"), dots: true },
      ],
      x: { min: Math.min(1, last - 0.5), max: Math.max(last, 1.5), label: "order T", ticks: dialTicks(last) }, y: { min: 0, max: top * 1.08 || 1, label: `at p = ${p}` },
      marks: order === null ? [] : [{ x: order }],
      pick: (x) => turn(Math.round(x)), height: 220,
      summary: `The least error is at order ${best}.`,
    });
    $("dial-best").innerHTML = `At p = ${p}, N = ${N} and ${values.groups} group${values.groups > 1 ? "s" : ""} a step the error is least at <b>T = ${best}</b>: ${Plot.number(Math.min(...errors))}, against ${Plot.number(errors[0])} for RLOO and ${Plot.number(errors[last - 1])} for Algorithm 1.`;
  }
  const dialTicks = (last) => {
    const step = Math.max(1, Math.ceil(last / 8));
    return [...range(Math.ceil(last / step)).map((i) => 1 + i * step).filter((T) => T <= last - step / 2), last];
  };
  const turn = (order) => set({ estimator: `maxrl_centred:order=${Math.max(1, Math.min(values.n - 1, order))}` });

  // ---- controls that depend on the estimator ---------------------------------------------------------------------------
  function drawControls() {
    const [name] = values.estimator.split(":");
    $("estimator").value = name;
    $("formulas").hidden = name !== "formula";
    $("size-label").hidden = !Objectives.OPTION[values.target];
    $("size-name").textContent = values.target === "pass_at_k" ? "k" : "order T";
    $("reset-cells").hidden = name !== "table";
    const options = Estimators.ALL[name]?.options ?? {}, given = Estimators.parse(values.estimator)?.options;
    if ($("options").contains(document.activeElement) && $("options").dataset.name === name) return;
    $("options").dataset.name = name;
    const settled = Estimators.ALL[name] ? Estimators.settled(name, given, values.n) : {};
    $("options").innerHTML = Object.entries(options).map(([key, { least, most, step }]) =>
      `<label>${key.replace("_", " ")} <input type="number" data-option="${key}" min="${least}" max="${most(values.n)}" step="${step === 1 ? 1 : "any"}" value="${settled[key]}"></label>`).join("");
  }
  function takeOption() {
    const [name] = values.estimator.split(":"), given = {};
    for (const input of $("options").querySelectorAll("input")) given[input.dataset.option] = input.value === "" ? NaN : Number(input.value);
    set({ estimator: Estimators.format(name, Estimators.settled(name, given, values.n)) });
  }
  function chooseEstimator(name) {
    if (name === "table") {
      const table = valid ?? current();
      set({ estimator: "table", a: table.a.join(","), b: table.b.join(",") });
    } else if (name === "formula") set({ estimator: "formula" });
    else set({ estimator: Estimators.format(name, Estimators.settled(name, {}, values.n)) });
  }
  function listEstimators() {
    const groups = Object.entries(Estimators.LIST).map(([family, members]) =>
      `<optgroup label="${family}">${Object.entries(members).map(([name, { label }]) => `<option value="${name}">${label} · ${name}</option>`).join("")}</optgroup>`);
    $("estimator").innerHTML = `${groups.join("")}<optgroup label="your own"><option value="formula">a formula of K and N</option><option value="table">numbers typed below</option></optgroup>`;
  }

  // a typed table has one size; another N goes back to the estimator that it began as
  function settle(changed) {
    if (values.estimator !== "table") { if (values.estimator !== "formula") base = values.estimator; return; }
    const size = String(values.a).split(",").length - 1;
    if (changed.has("n") && !changed.has("a")) set({ estimator: base });
    else if (size >= 1 && size !== values.n && String(values.b).split(",").length === size + 1) set({ n: size });
    else if (!isTyped()) set({ estimator: base });
  }

  function start() {
    listEstimators();
    $("estimator").addEventListener("input", (event) => chooseEstimator(event.target.value));
    $("options").addEventListener("change", takeOption);
    for (const id of ["formula-a", "formula-b"]) $(id).addEventListener("input", draw);
    $("cells").addEventListener("change", typeCell);
    $("cells").addEventListener("focusout", () => setTimeout(() => values.view === "table" && draw()));
    $("reset-cells").addEventListener("click", () => set({ estimator: base }));
    $("dial").addEventListener("input", (event) => turn(Number(event.target.value)));
  }
  return { start, draw, settle, current, label: () => values.estimator };
})();
