// What the visitor has chosen: one value for each field, bound to the controls with its name, and written into the
// address behind "#", so that a link shows the same page. An address holds numbers and known names; what else stands
// in it is ignored, and no text of it is ever shown or executed.
const State = (() => {
  const clamp = (value, least, most) => Math.max(least, Math.min(most, value));
  const real = (value, least, most, digits = 4) => ({
    value,
    read: (text) => (text !== "" && Number.isFinite(Number(text)) ? clamp(+Number(text).toPrecision(digits), least, most) : undefined),
  });
  const whole = (value, least, most) => ({
    value,
    read: (text) => (text !== "" && Number.isFinite(Number(text)) ? clamp(Math.round(Number(text)), least, most) : undefined),
  });
  const name = (value, names) => ({ value, read: (text) => (names.includes(text) ? text : undefined) });
  const numbers = (value, least, most, longest) => ({
    value,
    read: (text) => {
      const list = String(text).split(/[\s,;]+/).filter(Boolean).map(Number);
      return list.length && list.length <= longest && list.every((x) => x >= least && x <= most) ? list.join(",") : undefined;
    },
  });
  const estimator = (value) => ({
    value,
    read: (text) => {
      if (text === "table" || text === "formula") return text;
      const parsed = Estimators.parse(text);
      return parsed ? Estimators.format(parsed.name, parsed.options) : undefined;
    },
  });
  const digits = { value: "", read: (text) => (/^[0-9a-f]{0,64}$/.test(text) ? text : undefined) };

  const POLICIES = ["first", "second", "untrained", "rloo", "grpo", "maxrl", "exact", "other"];
  const FIELDS = {
    view: name("table", ["table", "maze", "coverage"]),
    // view 1
    estimator: estimator("maxrl"),
    n: whole(8, 1, 64),
    p: real(0.1, 0.001, 0.999, 3),
    target: name("maximum_likelihood", Objectives.NAMES),
    size: whole(4, 1, 64),
    groups: whole(1, 1, 4096),
    policy: name("twenty", ["two", "twenty", "thousand"]),
    a: numbers("", -1e6, 1e6, 65),
    b: numbers("", -1e6, 1e6, 65),
    // view 2
    maze: name("spiral", ["spiral", "rooms", "open", "two_ways", "own"]),
    side: whole(9, 5, 13),
    walls: digits,
    starts: numbers("", 0, 168, 3),
    goal: whole(0, 0, 168),
    rollouts: whole(32, 2, 64),
    rate: real(4, 0.125, 1024, 3),
    steps: whole(16, 4, 40),
    seed: whole(0, 0, 99),
    equal: whole(0, 0, 1),
    other: whole(0, 0, 1),
    updates: whole(150, 0, 400),
    show: name("visits", ["visits", "policy", "gradient", "estimate"]),
    // view 3
    left: name("exact", POLICIES),
    right: name("rloo", POLICIES),
    k: whole(1, 1, 4096),
    first: numbers("0.95,0.9,0.001", 0, 1, 12),
    second: numbers("0.6,0.5,0.1", 0, 1, 12),
  };
  const values = Object.fromEntries(Object.entries(FIELDS).map(([key, field]) => [key, field.value]));

  // how a slider's position becomes a value, and back
  const SCALES = {
    linear: [(v) => v, (v) => v],
    logit: [(v) => 1 / (1 + Math.exp(-v)), (v) => Math.log(v / (1 - v))],
    log2: [(v) => 2 ** v, (v) => Math.log2(v)],
  };
  const controls = () => document.querySelectorAll("[data-field]");
  const scale = (control) => SCALES[control.dataset.scale ?? "linear"];
  const listeners = [];
  let writing = 0;

  // take changes that can be read, bring every control up to date, and tell the views; refused ones change nothing
  function set(changes) {
    const known = Object.entries(changes).filter(([key]) => Object.hasOwn(FIELDS, key));
    take(known.map(([key, text]) => [key, FIELDS[key].read(text) ?? values[key]]));
  }
  function take(pairs) {
    const changed = pairs.filter(([key, value]) => value !== values[key]).map(([key]) => key);
    Object.assign(values, Object.fromEntries(pairs));
    if (changed.length === 0) return;
    show();
    for (const listener of listeners) listener(new Set(changed));
    clearTimeout(writing);
    writing = setTimeout(() => history.replaceState(null, "", address() || "#"), 200);
  }
  function show() {
    for (const control of controls()) {
      const value = values[control.dataset.field];
      if (control.type === "checkbox") control.checked = value === 1;
      else if (control.type === "radio") control.checked = control.value === value;
      else if (control.tagName === "OUTPUT") control.value = Plot.number(value);
      else if (control !== document.activeElement || control.type === "range") control.value = control.type === "range" ? scale(control)[1](value) : value;
      if (control.type === "range") control.setAttribute("aria-valuetext", Plot.number(value));
    }
  }
  function listen() {
    for (const control of controls()) {
      if (control.tagName === "OUTPUT") continue;
      const isText = control.type === "text" || control.type === "number";
      control.addEventListener(isText ? "change" : "input", () => {
        const raw = control.type === "checkbox" ? (control.checked ? 1 : 0) : control.type === "range" ? scale(control)[0](Number(control.value)) : control.value;
        set({ [control.dataset.field]: raw });
        if (isText) control.value = values[control.dataset.field];
      });
    }
  }

  // fields that say nothing where another is not so
  const IDLE = {
    a: () => values.estimator !== "table" && values.estimator !== "formula",
    b: () => values.estimator !== "table" && values.estimator !== "formula",
    side: () => values.maze !== "own", walls: () => values.maze !== "own",
    starts: () => values.maze !== "own", goal: () => values.maze !== "own",
  };
  function address() {
    const parts = Object.entries(values)
      .filter(([key, value]) => value !== FIELDS[key].value && !IDLE[key]?.())
      .map(([key, value]) => `${key}=${key === "estimator" && value === "formula" ? "table" : value}`); // never a formula: its table
    return parts.length ? `#${parts.join("&")}` : "";
  }
  function readAddress(text) { // what an address does not say is as at first
    const given = Object.fromEntries(text.replace(/^#/, "").split("&").map((pair) => [pair.split("=")[0], pair.slice(pair.indexOf("=") + 1)]));
    take(Object.entries(FIELDS).map(([key, field]) => [key, (Object.hasOwn(given, key) ? field.read(decode(given[key])) : undefined) ?? field.value]));
  }
  function decode(text) {
    try { return decodeURIComponent(text ?? ""); } catch { return ""; }
  }
  return { values, set, show, listen, listeners, address, readAddress, POLICIES };
})();
