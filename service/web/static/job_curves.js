// The curves of a job: charts that grow with the events of the job, one chart for each group of names.

const HEIGHT_PX = 220;
const MAX_POINTS = 600;
const COLORS = 8;
const SHOWN_AT_FIRST = 6;
const RETRY_MS = 3000;

const box = document.getElementById("charts");
const place = `/v1/jobs/${box.dataset.job}`;
/** name -> { steps, values } */
const curves = new Map();
/** title -> Chart */
const charts = new Map();
let lastSeq = 0;
let source = null;
let drawing = 0;
let retry = 0;

const live = () => document.getElementById("live");
const isOver = () => live().dataset.over === "yes";

/** Returns the title of the chart that shows a curve. */
function titleOf(name) {
  const [group, task] = name.split("/");
  if (name === "lr") return "Learning rate";
  if (name === "train/sum") return "Sum of the losses";
  if (group === "train") return `Losses of ${task}`;
  return group === "val" && task ? `Validation of ${task}` : group;
}

/** Returns the name of a curve in its chart. */
function labelOf(name) {
  const parts = name.split("/");
  const skipped = ["train", "val"].includes(parts[0]) ? 2 : 1;
  return parts.slice(Math.min(skipped, parts.length - 1)).join("/");
}

const GROUPS = ["train", "val", "lr"];
/** Returns the place of the group of a curve on the page. */
const rank = (name) => (GROUPS.indexOf(name.split("/")[0]) + GROUPS.length + 1) % (GROUPS.length + 1);

const short = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(4)).toString());

/** The curves with one title, with a legend in which each can be switched off. */
class Chart {
  constructor(title, order) {
    this.names = [];
    this.element = document.createElement("figure");
    this.element.className = "chart";
    const heading = document.createElement("h3");
    heading.append(Object.assign(document.createElement("bdi"), { textContent: title }));
    this.area = Object.assign(document.createElement("div"), { className: "plot" });
    this.area.setAttribute("role", "img");
    this.area.setAttribute("aria-label", `${title} by step; the values are in the table of curves`);
    this.legend = Object.assign(document.createElement("ul"), { className: "legend" });
    this.element.append(heading, this.area, this.legend);
    this.element.dataset.order = order;
    box.insertBefore(this.element, [...box.children].find((other) => Number(other.dataset.order) > order) ?? null);
    new ResizeObserver(() => this.plot?.setSize({ width: this.area.clientWidth, height: HEIGHT_PX })).observe(this.area);
  }

  add(name) {
    const index = this.names.push(name) - 1;
    const item = document.createElement("li");
    const label = document.createElement("label");
    const swatch = document.createElement("span");
    swatch.className = `swatch s${index % COLORS}${index >= COLORS ? " dashed" : ""}`;
    const toggle = Object.assign(document.createElement("input"), { type: "checkbox", checked: index < SHOWN_AT_FIRST });
    toggle.addEventListener("change", () => this.plot?.setSeries(index + 1, { show: toggle.checked }));
    const text = document.createElement("bdi");
    text.textContent = labelOf(name);
    label.append(toggle, swatch, text, document.createElement("output"));
    item.append(label);
    this.legend.append(item);
    this.plot?.destroy();
    this.plot = null;
  }

  /** Draws the curves as they are now. */
  draw() {
    const tables = this.names.map((name) => [curves.get(name).steps, curves.get(name).values]);
    const data = window.uPlot.join(tables);
    if (this.plot) this.plot.setData(data);
    else this.plot = new window.uPlot(this.options(), data, this.area);
    this.showValues(null);
  }

  options() {
    const style = getComputedStyle(box);
    const axis = { stroke: style.getPropertyValue("color"), grid: { stroke: "#80808040", width: 1 }, ticks: { show: false } };
    const items = [...this.legend.children];
    const series = items.map((item, index) => ({
      show: item.querySelector("input").checked,
      stroke: getComputedStyle(item.querySelector(".swatch")).color,
      width: 2,
      dash: index >= COLORS ? [6, 4] : undefined,
      spanGaps: true,
      points: { show: curves.get(this.names[index]).steps.length < 30 },
    }));
    return {
      width: this.area.clientWidth,
      height: HEIGHT_PX,
      legend: { show: false },
      cursor: { drag: { x: true, y: false } },
      scales: { x: { time: false } },
      axes: [{ ...axis, values: (_plot, ticks) => ticks.map(String) }, { ...axis, size: 60, values: (_plot, ticks) => ticks.map(short) }],
      series: [{}, ...series],
      hooks: { setCursor: [(plot) => this.showValues(plot.cursor.idx)] },
    };
  }

  /** Writes the values at a position, or the last ones, into the legend. */
  showValues(position) {
    for (const [index, item] of [...this.legend.children].entries()) {
      const values = this.plot.data[index + 1];
      const last = curves.get(this.names[index]).values.at(-1);
      item.querySelector("output").textContent = short(position === null || position === undefined ? last : values[position]);
    }
  }
}

function draw() {
  drawing = 0;
  for (const name of [...curves.keys()].sort((one, other) => rank(one) - rank(other))) {
    const title = titleOf(name);
    if (!charts.has(title)) charts.set(title, new Chart(title, rank(name)));
    if (!charts.get(title).names.includes(name)) charts.get(title).add(name);
  }
  for (const chart of charts.values()) chart.draw();
}

function drawSoon() {
  drawing ||= setTimeout(draw, 250);
}

/** Adds a point; like the server, it replaces points of the same and of later steps. */
function add(name, step, value) {
  if (!Number.isFinite(value)) return;
  if (!curves.has(name)) curves.set(name, { steps: [], values: [] });
  const { steps, values } = curves.get(name);
  while (steps.length && steps.at(-1) >= step) {
    steps.pop();
    values.pop();
  }
  steps.push(step);
  values.push(value);
}

function take(event) {
  const { kind, step, data } = event;
  if (kind === "metric") for (const [name, value] of Object.entries(data)) add(name, step, value);
  if (kind === "progress") {
    const losses = Object.entries(data.losses ?? {});
    for (const [name, value] of losses) add(name, step, value);
    if (losses.length) add("train/sum", step, losses.reduce((sum, [, value]) => sum + value, 0));
    for (const [name, value] of Object.entries(data)) if (name === "lr" || name.includes("/")) add(name, step, value);
  }
  if (kind === "status" || kind === "stage") window.htmx.trigger(document.body, "changed");
  if ([...curves.values()].some(({ steps }) => steps.length > 2 * MAX_POINTS)) load();
  else drawSoon();
}

/** Reads all curves, and then follows the events after them. */
async function load() {
  close();
  try {
    const answer = await fetch(`${place}/curves?max_points=${MAX_POINTS}`);
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const found = await answer.json();
    curves.clear();
    for (const [name, { steps, values }] of Object.entries(found.curves)) curves.set(name, { steps, values });
    lastSeq = found.next_after;
    draw();
    if (found.is_complete) follow();
    else load();
  } catch {
    loadLater();
  }
}

function loadLater() {
  clearTimeout(retry);
  retry = setTimeout(load, RETRY_MS);
}

function close() {
  clearTimeout(retry);
  source?.close();
  source = null;
}

/** Follows the events. A page that nobody sees does not, because browsers open only six connections to a server. */
function follow() {
  close();
  if (isOver() || document.hidden) return;
  source = new EventSource(`${place}/events?after=${lastSeq}`);
  for (const kind of ["status", "progress", "metric", "stage", "warning"]) {
    source.addEventListener(kind, ({ data, lastEventId }) => {
      lastSeq = Number(lastEventId);
      take(JSON.parse(data));
    });
  }
  // A browser gives up after an answer with an error, such as that of a proxy while the server starts again.
  source.addEventListener("error", () => {
    if (source?.readyState === EventSource.CLOSED) {
      source = null;
      if (!isOver()) retry = setTimeout(follow, RETRY_MS);
    }
  });
}

document.addEventListener("visibilitychange", () => (document.hidden ? close() : follow()));
window.addEventListener("pagehide", close);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts.values()) {
    chart.plot?.destroy();
    chart.plot = null;
    chart.draw();
  }
});
load();
