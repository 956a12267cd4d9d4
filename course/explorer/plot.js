// Drawing: curves in an SVG as wide as the page allows, numbers as short text. Colours are classes (style.css).
const Plot = (() => {
  function number(x, digits = 4) { // so many significant digits
    if (x === Infinity) return "∞";
    if (!Number.isFinite(x)) return "–";
    const size = Math.abs(x);
    if (size < 1e-15) return "0";
    if (size >= 1e5 || size < 1e-3) return x.toExponential(2).replace("e+", "e").replaceAll("-", "−");
    return String(+x.toPrecision(digits)).replace("-", "−");
  }
  const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
  const tickText = (axis, v) => (axis.log && (v < 1e-3 || v > 1e4) ? `10${[...String(Math.round(Math.log10(v)))].map((sign) => RAISED[sign]).join("")}` : number(v));
  function share(x) { // a percentage, which says 0% and 100% only where it is
    if (x > 0 && x < 1e-6) return "< 0.0001%";
    if (x < 1 && x > 0.9995) return x > 1 - 1e-6 ? "> 99.9999%" : `${+(100 * x).toFixed(4)}%`;
    return `${+(100 * x).toPrecision(3)}%`;
  }

  const scaleOf = ({ log, min, max }, from, to) => {
    const f = log ? Math.log : (v) => v;
    const low = f(min), high = f(max);
    return {
      to: (v) => from + ((f(v) - low) / (high - low)) * (to - from),
      back: (pixel) => { const v = low + ((pixel - from) / (to - from)) * (high - low); return log ? Math.exp(v) : v; },
    };
  };
  function ticks(axis) {
    if (axis.ticks) return axis.ticks;
    if (!axis.log) {
      const raw = (axis.max - axis.min) / 5, unit = 10 ** Math.floor(Math.log10(raw));
      const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= raw * 0.999);
      const first = Math.ceil(axis.min / step - 1e-9);
      return range(Math.floor(axis.max / step + 1e-9) - first + 1, first).map((i) => +(i * step).toPrecision(12));
    }
    const first = Math.ceil(Math.log10(axis.min) - 1e-9), last = Math.floor(Math.log10(axis.max) + 1e-9);
    const every = Math.ceil((last - first) / 7) || 1;
    return range(Math.floor((last - first) / every) + 1).map((i) => 10 ** (first + i * every));
  }

  // curves: {label, series, points: [[x, y]], dash, thin, dots}; marks: {x, label}; pick(x) is called while one points
  let count = 0;
  function plot(node, { curves, x, y, marks = [], summary, pick, height = 270 }) {
    const W = Math.max(260, Math.round(node.clientWidth || 480)), H = height;
    const left = 52, right = W - 10, top = 8, bottom = H - 38, clip = `clip-${(count += 1)}`;
    const px = scaleOf(x, left, right), py = scaleOf(y, bottom, top), parts = [];
    const at = (value) => value.toFixed(1);
    for (const v of ticks(x)) parts.push(`<path class="tick" d="M${at(px.to(v))} ${top}V${bottom}"/><text x="${at(px.to(v))}" y="${bottom + 16}" text-anchor="middle">${tickText(x, v)}</text>`);
    for (const v of ticks(y)) parts.push(`<path class="tick" d="M${left} ${at(py.to(v))}H${right}"/><text x="${left - 6}" y="${at(py.to(v) + 4)}" text-anchor="end">${tickText(y, v)}</text>`);
    parts.push(`<clipPath id="${clip}"><rect x="${left}" y="${top - 2}" width="${right - left}" height="${bottom - top + 4}"/></clipPath><g clip-path="url(#${clip})">`);
    const keep = (v) => Math.max(top - 500, Math.min(bottom + 500, v));
    for (const curve of curves) {
      let pen = "M", path = "", dots = "";
      for (const [u, v] of curve.points) {
        if (!Number.isFinite(v) || (y.log && v <= 0)) { pen = "M"; continue; } // a gap, not a bridge
        const where = `${at(px.to(u))} ${at(keep(py.to(v)))}`;
        if (curve.dots) dots += `M${where}h0`;
        path += pen + where;
        pen = "L";
      }
      if (!curve.bare) parts.push(`<path class="${classes(curve)}" d="${path}"/>`);
      if (curve.dots) parts.push(`<path class="dot s-${curve.series}${curve.bare ? " faint" : ""}" d="${dots}"/>`);
    }
    for (const mark of marks) parts.push(`<path class="mark" d="M${at(px.to(mark.x))} ${top}V${bottom}"/>`);
    parts.push(`</g><rect class="frame" x="${left}" y="${top}" width="${right - left}" height="${bottom - top}"/>`);
    for (const mark of marks) {
      const position = px.to(mark.x), isLeft = position < (left + right) / 2;
      if (mark.label) parts.push(`<text class="label" x="${at(position + (isLeft ? 5 : -5))}" y="${top + 15}" text-anchor="${isLeft ? "start" : "end"}">${mark.label}</text>`);
    }
    parts.push(`<text x="${(left + right) / 2}" y="${H - 5}" text-anchor="middle">${x.label}</text><text transform="translate(12 ${(top + bottom) / 2}) rotate(-90)" text-anchor="middle">${y.label}</text>`);
    const key = curves.filter((curve) => curve.label).map((curve) => `<li><svg viewBox="0 0 26 8" aria-hidden="true"><path class="${classes(curve)}" d="M0 4H26"/></svg>${curve.label}</li>`);
    node.innerHTML = `<ul class="legend">${key.join("")}</ul><svg class="plot" viewBox="0 0 ${W} ${H}" role="img" aria-label="${y.label} against ${x.label}. ${summary ?? ""}">${parts.join("")}</svg>`;
    const use = (event) => {
      const box = node.querySelector("svg.plot").getBoundingClientRect(), pixel = ((event.clientX - box.left) / box.width) * W;
      pick(Math.min(x.max, Math.max(x.min, px.back(pixel))));
    };
    node.classList.toggle("pick", !!pick);
    node.onpointerdown = pick && ((event) => {
      if (!event.target.closest("svg.plot")) return;
      node.setPointerCapture(event.pointerId); // the plot is drawn anew while the pointer moves; its parent stays
      use(event);
    });
    node.onpointermove = pick && ((event) => node.hasPointerCapture(event.pointerId) && use(event));
  }
  const classes = ({ series, dash, thin }) => `line s-${series}${dash ? " dash" : ""}${thin ? " thin" : ""}`;

  // a table of the page: a head and rows of cells (text, or {text, kind})
  function table(head, rows, caption = "") {
    const cell = (tag) => (value, i) => {
      const { text, kind } = typeof value === "object" && value !== null ? value : { text: value };
      const scope = tag === "th" ? ' scope="col"' : i === 0 ? ' scope="row"' : "";
      const name = tag === "td" && i === 0 ? "th" : tag;
      return `<${name}${scope}${kind ? ` class="${kind}"` : ""}>${text}</${name}>`;
    };
    const line = (values, tag) => `<tr>${values.map(cell(tag)).join("")}</tr>`;
    return `<table>${caption ? `<caption>${caption}</caption>` : ""}<thead>${line(head, "th")}</thead><tbody>${rows.map((row) => line(row, "td")).join("")}</tbody></table>`;
  }
  return { plot, table, number, share };
})();
