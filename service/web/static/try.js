// Predictions of a version for an image of the reader: boxes over the image, and the same as text.

import { showProblem } from "/static/app.js";
import { explain } from "/static/explain.js";
import { neighborsOf } from "/static/neighbors.js";

const part = document.getElementById("try");
const drop = part.querySelector(".drop");
const file = document.getElementById("try-file");
const status = document.getElementById("try-status");
const result = document.getElementById("try-result");
const image = document.getElementById("try-image");
const svg = document.getElementById("try-boxes");
const tasks = document.getElementById("try-tasks");
const slider = document.getElementById("try-threshold");
const sliderText = document.getElementById("try-threshold-text");
const SHOWN_LABELS = 10;
const SHOWN_NEIGHBORS = 3;

/** The answer that is shown, and its image; undefined before the first. */
let shown;
let shownPicture;
/** Embeddings of the image before, by task. */
let earlier = {};

/** Returns a new element with text, which is never markup. */
function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Returns a name of a stranger that cannot change the direction of the text around it. */
function nameOf(text) {
  return make("bdi", text);
}

function makeSvg(tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Returns the cosine similarity of two vectors. */
function similarity(one, other) {
  let [product, first, second] = [0, 0, 0];
  one.forEach((value, index) => {
    product += value * other[index];
    first += value * value;
    second += other[index] * other[index];
  });
  return product / Math.sqrt(first * second || 1);
}

async function predict(picture) {
  status.textContent = "Predicting. The first prediction of a model takes longer, since it is loaded.";
  const body = new FormData();
  body.append("image", picture);
  const headers = JSON.parse(document.body.getAttribute("hx-headers"));
  const start = performance.now();
  let answer;
  try {
    answer = await fetch(part.dataset.predict, { method: "POST", body, headers });
  } catch {
    return fail("No connection", "The server does not answer. Try it again.");
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) return fail(content.title ?? `Status ${answer.status}`, content.detail ?? "", content.errors);
  const seconds = ((performance.now() - start) / 1000).toFixed(2);
  showProblem();
  await show(picture, content);
  const runtime = answer.headers.get("Model-Runtime");
  const warnings = (content.warnings ?? []).map((warning) => ` Warning: ${warning}.`).join("");
  status.textContent = `Version ${answer.headers.get("Model-Version")} on ${runtime}, ${seconds} s.${warnings}`;
}

function fail(title, detail, errors = []) {
  status.textContent = "The image was not predicted.";
  result.hidden = true;
  showProblem(title, detail, errors);
}

async function show(picture, content) {
  URL.revokeObjectURL(image.src);
  image.classList.remove("as-stored");
  image.src = URL.createObjectURL(picture);
  await image.decode().catch(() => {}); // a format that the browser cannot show still has predictions
  const { width, height } = content.image;
  // A model may have been trained on images as they are stored, without the rotation that their EXIF data ask for.
  if (image.naturalWidth !== width && image.naturalWidth === height) image.classList.add("as-stored");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  [shown, shownPicture] = [content, picture];
  drawTasks();
  result.hidden = false;
}

/** Returns the predictions of all tasks that have a place in the image, with task and index. */
function placed() {
  return Object.entries(shown.tasks).flatMap(([task, answer]) =>
    (answer.detections ?? answer.embeddings ?? []).map((found, index) => ({ task, index, ...found })));
}

function drawTasks() {
  tasks.replaceChildren();
  for (const [task, answer] of Object.entries(shown.tasks)) {
    const section = document.createElement("section");
    const heading = make("h3", "");
    heading.append(nameOf(task));
    section.append(heading, ...partsOf(task, answer));
    tasks.append(section);
  }
  earlier = Object.fromEntries(Object.entries(shown.tasks).map(([task, { embedding }]) => [task, embedding]));
  applyThreshold();
}

function partsOf(task, answer) {
  if (answer.detections) return [make("p", "", { class: "muted count" }), listOf(task, answer.detections, detectionLine)];
  if (answer.labels) return [listOf(task, answer.labels.slice(0, SHOWN_LABELS), labelLine)];
  if (answer.embeddings) return [make("p", "", { class: "muted count" }), listOf(task, answer.embeddings, objectLine)];
  const facts = [`A vector of ${answer.embedding.length} numbers.`];
  const before = earlier[task];
  if (before) facts.push(`Its cosine similarity to the image before is ${similarity(answer.embedding, before).toFixed(3)}.`);
  const list = listOf(task, [answer], () => [make("span", facts.join(" "))]);
  return [list];
}

function listOf(task, items, lineOf) {
  const list = make("ol", "", { tabindex: 0, "aria-label": `Predictions of ${task}` });
  items.forEach((item, index) => {
    const line = make("li", "", { "data-task": task, "data-index": index });
    line.append(...lineOf(item, index, items));
    const button = make("button", "Explain", { type: "button", class: "quiet" });
    button.addEventListener("click", () => explain(part.dataset.explain, shownPicture, task, index, item.label ?? task));
    line.append(button);
    if (item.bbox_xywh) line.dataset.score = item.score;
    // A version that this service has not trained has no evaluated images here.
    if (item.embedding && part.dataset.results) line.append(neighborsOf(part.dataset.results, task, item.embedding, items.length === 1));
    list.append(line);
  });
  return list;
}

function scoreOf(score) {
  return make("span", score.toFixed(3), { class: "nowrap" });
}

function detectionLine({ label, score, bbox_xywh: box }) {
  const place = box.map((value) => Math.round(value));
  const name = make("span", "");
  name.append(nameOf(label), make("span", ` at ${place[0]}, ${place[1]}, ${place[2]} × ${place[3]} px`, { class: "muted" }));
  return [name, scoreOf(score)];
}

function labelLine({ label, score }) {
  const name = make("span", "");
  name.append(nameOf(label));
  const value = make("span", "", { class: "nowrap" });
  value.append(make("meter", "", { value: score, "aria-label": `Score of ${label}` }), ` ${score.toFixed(3)}`);
  return [name, value];
}

function objectLine({ embedding, score }, index, items) {
  const near = items
    .map((other, number) => ({ number, value: similarity(embedding, other.embedding) }))
    .filter(({ number }) => number !== index)
    .sort((one, other) => other.value - one.value)
    .slice(0, SHOWN_NEIGHBORS)
    .map(({ number, value }) => `${number + 1} (${value.toFixed(2)})`);
  const text = near.length ? `: most similar to ${near.join(", ")}` : "";
  return [make("span", `Object ${index + 1}${text}`), scoreOf(score)];
}

function applyThreshold() {
  const threshold = Number(slider.value);
  sliderText.textContent = threshold.toFixed(2);
  if (!shown) return;
  for (const line of tasks.querySelectorAll("li[data-score]")) line.hidden = Number(line.dataset.score) <= threshold;
  for (const section of tasks.children) {
    const lines = [...section.querySelectorAll("li[data-score]")];
    const count = section.querySelector(".count");
    if (count) count.textContent = `${lines.filter((line) => !line.hidden).length} of ${lines.length} objects`;
  }
  drawBoxes(threshold);
}

function drawBoxes(threshold) {
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const size = Math.max(width, height) / 36;
  svg.replaceChildren();
  for (const { task, index, score, label, bbox_xywh: [x, y, w, h] } of placed()) {
    if (score <= threshold) continue;
    const isObject = label === undefined; // of an embedding task; drawn while it is chosen in the list
    const box = makeSvg("g", { class: isObject ? "box object" : "box", "data-task": task, "data-index": index });
    box.append(makeSvg("rect", { x, y, width: w, height: h }));
    const place = { x: x + size * 0.2, y: isObject ? y + h - size * 0.3 : Math.max(y - size * 0.3, size) };
    box.append(makeSvg("text", { ...place, "font-size": size }, isObject ? index + 1 : `${label} ${score.toFixed(2)}`));
    svg.append(box);
  }
}

/** Marks a prediction in the list and in the image. */
function choose(element) {
  const { task, index } = element?.dataset ?? {};
  for (const one of part.querySelectorAll("[data-task]")) {
    one.classList.toggle("chosen", one.dataset.task === task && one.dataset.index === index);
  }
}

file.addEventListener("change", () => file.files[0] && predict(file.files[0]));
slider.addEventListener("input", applyThreshold);
part.addEventListener("pointerover", ({ target }) => choose(target.closest("[data-task]")));
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const [picture] = event.dataTransfer.files;
  if (picture) predict(picture);
});
