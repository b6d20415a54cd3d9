// The curves of a task from REST, drawn for one class or for all, and the numbers at a threshold.

const HEIGHT_PX = 240;
const AT_SCORE = [["precision", "Precision", undefined], ["recall", "Recall", [8, 4]], ["f1", "F1", [2, 3]]];
const box = document.getElementById("curves");
const select = document.getElementById("curve-class");
const slider = document.getElementById("threshold");
const plots = new Map();
let data = null;

const shown = (number) => (number === null || number === undefined ? "–" : number.toFixed(3));
const steps = (values) => values.map((_, index) => index / (values.length - 1));

/** Returns a color of the style sheet as the browser resolves it in this theme. */
function color(name) {
  const probe = document.createElement("span");
  probe.className = `probe-${name}`;
  box.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const chosen = () => Number(select.value);
const curvesAtScore = () => (chosen() < 0 ? data.at_score : data.per_class[chosen()].at_score);

/** Returns the x values, names and lines of a chart. */
function content(kind) {
  if (kind === "score") {
    const curves = curvesAtScore();
    if (!curves) return null;
    return { x: data.scores, label: "score", lines: AT_SCORE.map(([key, name, dash]) => ({ name, values: curves[key], dash, strong: true })) };
  }
  const key = kind === "roc" ? "recall_at_fpr" : "precision_at_recall";
  const lines = data.per_class
    .map((row, index) => ({ name: row.label, values: row[key], strong: chosen() < 0 || chosen() === index }))
    .filter((line) => line.values);
  if (!lines.length) return null;
  // The chosen class lies above the others.
  lines.sort((one, other) => one.strong - other.strong);
  return { x: steps(lines[0].values), label: kind === "roc" ? "false-positive rate" : "recall", lines };
}

function draw(area) {
  const found = content(area.dataset.chart);
  plots.get(area)?.destroy();
  plots.delete(area);
  area.classList.toggle("none", !found);
  if (!found) return;
  const [text, line, accent] = [color("text"), color("line"), color("accent")];
  const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui" };
  const options = {
    width: area.clientWidth, height: HEIGHT_PX, legend: { show: false }, cursor: { drag: { x: false, y: false } },
    scales: { x: { time: false, range: [0, 1] }, y: { range: [0, 1.02] } },
    axes: [{ ...axis, label: found.label, labelSize: 20, size: 34 }, { ...axis, size: 40 }],
    series: [{}, ...found.lines.map(({ name, dash, strong }) => ({
      label: name, dash, stroke: strong ? accent : line, width: strong ? 2 : 1, points: { show: false },
    }))],
    hooks: { draw: [(plot) => area.dataset.chart === "score" && drawThreshold(plot, text)] },
  };
  plots.set(area, new window.uPlot(options, [found.x, ...found.lines.map(({ values }) => values)], area));
}

function drawThreshold(plot, stroke) {
  const x = Math.round(plot.valToPos(Number(slider.value), "x", true));
  plot.ctx.save();
  plot.ctx.strokeStyle = stroke;
  plot.ctx.setLineDash([]);
  plot.ctx.beginPath();
  plot.ctx.moveTo(x, plot.bbox.top);
  plot.ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
  plot.ctx.stroke();
  plot.ctx.restore();
}

/** Writes the numbers at the threshold, and leads the link to the images at it. */
function showThreshold() {
  const output = document.getElementById("at-threshold");
  if (!slider || !output) return;
  const curves = curvesAtScore();
  const index = data.scores.reduce((best, score, k) => (score <= Number(slider.value) + 1e-9 ? k : best), 0);
  const score = data.scores[index];
  const best = select.selectedOptions[0].dataset.best;
  output.textContent = curves
    ? `Above ${score.toFixed(2)}: precision ${shown(curves.precision[index])}, recall ${shown(curves.recall[index])}, ` +
      `F1 ${shown(curves.f1[index])}.${best ? ` The best threshold of this class is ${shown(Number(best))}.` : ""}`
    : "This class has no labels.";
  const link = document.getElementById("images-at");
  if (link) {
    const query = new URLSearchParams(box.dataset.images);
    query.set("threshold", score.toFixed(2));
    link.href = `?${query}#images-title`;
  }
  for (const [area, plot] of plots) if (area.dataset.chart === "score") plot.redraw(false);
}

/** Writes the curves of the chosen class as a table; for all classes, those over the score. */
function showTable() {
  const table = document.getElementById("curve-table");
  const columns = [];
  const curves = data.scores && curvesAtScore();
  if (curves) {
    columns.push(["Score", data.scores.map((score) => score.toFixed(2))]);
    for (const [key, name] of AT_SCORE) columns.push([name, curves[key].map(shown)]);
  }
  const row = chosen() < 0 ? null : data.per_class[chosen()];
  for (const [key, x, y] of [["precision_at_recall", "Recall", "Precision at recall"], ["recall_at_fpr", "False-positive rate", "Recall at rate"]]) {
    if (row?.[key]) columns.push([x, steps(row[key]).map((value) => value.toFixed(2))], [y, row[key].map(shown)]);
  }
  const line = (cells, tag) => {
    const element = document.createElement("tr");
    for (const text of cells) {
      const cell = document.createElement(tag);
      cell.textContent = text ?? "";
      cell.className = "number";
      if (tag === "th") cell.scope = "col";
      element.append(cell);
    }
    return element;
  };
  const [head, body] = ["thead", "tbody"].map((tag) => document.createElement(tag));
  head.append(line(columns.map(([name]) => name), "th"));
  const length = Math.max(0, ...columns.map(([, values]) => values.length));
  for (let index = 0; index < length; index++) body.append(line(columns.map(([, values]) => values[index]), "td"));
  table.replaceChildren(head, body);
}

function drawAll() {
  for (const area of box.querySelectorAll(".chart")) draw(area);
  showThreshold();
  showTable();
}

/** Loads the library for charts, which most readers of a page do not need at once. */
function loadLibrary() {
  return new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), { src: "/static/vendor/uplot.iife.min.js" });
    script.addEventListener("load", resolve);
    script.addEventListener("error", reject);
    document.head.append(script);
  });
}

async function load() {
  await loadLibrary();
  const answer = await fetch(box.dataset.source);
  if (!answer.ok) return;
  data = await answer.json();
  drawAll();
  select.addEventListener("change", drawAll);
  slider?.addEventListener("input", showThreshold);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  new ResizeObserver(() => {
    for (const [area, plot] of plots) plot.setSize({ width: area.clientWidth, height: HEIGHT_PX });
  }).observe(box);
}

if (box) {
  const observer = new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting) return;
    observer.disconnect();
    load();
  });
  observer.observe(box);
}
