// The log of a job: its last lines, and new ones while it runs.

const MAX_LINES = 2000;
const FIRST_LINES = 500;
const EVERY_MS = 2000;

const box = document.getElementById("log");
const follow = document.getElementById("log-follow");
const level = document.getElementById("log-level");
const place = `/v1/jobs/${document.getElementById("live").dataset.job}/logs`;
const ERROR = /^\s*(\[?(error|critical|fatal)\b|traceback \(most recent)|^[\w.]*(Error|Exception)\b/i;
const WARNING = /^\s*\[?warning\b|\bwarning: |[A-Z]\w*Warning\b/i;
/** Marks that change the direction of the text after them; the server removes all other control characters. */
const MARKS = /[\u202a-\u202e\u2066-\u2069]/g;

let attempt = 0;
let offset = 0;
let previous = "info";

/** Returns the level of a line; the indented lines of a traceback belong to its first line. */
function levelOf(text) {
  if (ERROR.test(text)) return "error";
  if (previous === "error" && /^\s+\S/.test(text)) return "error";
  return WARNING.test(text) ? "warning" : "info";
}

function append(text, name) {
  const line = document.createElement("div");
  line.className = `line ${name}`;
  line.textContent = text.replace(MARKS, "\ufffd");
  box.append(line);
}

function take({ attempt: number, offset: end, text }) {
  if (number !== attempt && box.children.length) append(`attempt ${number}`, "separator");
  [attempt, offset] = [number, end];
  previous = levelOf(text);
  append(text, previous);
}

async function read(query) {
  const answer = await fetch(`${place}?${query}`, { headers: { Accept: "application/x-ndjson" } });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const lines = (await answer.text()).split("\n").filter(Boolean);
  lines.slice(-MAX_LINES).forEach((line) => take(JSON.parse(line)));
  while (box.children.length > MAX_LINES) box.firstElementChild.remove();
  if (lines.length && follow.checked) box.scrollTop = box.scrollHeight;
  return lines.length;
}

/** Reads new lines. After the end of an attempt, the next one may already have a log. */
async function readNew() {
  const newest = Number(document.getElementById("live").dataset.attempt);
  if (!attempt) return read(`attempt=all&tail=${FIRST_LINES}`);
  const found = await read(`attempt=${attempt}&after=${offset}`);
  if (found || newest <= attempt) return found;
  const before = attempt;
  const first = await read(`attempt=${before + 1}`);
  if (!first && newest > before + 1) [attempt, offset] = [before + 1, 0];
  return first;
}

async function run() {
  const wasOver = document.getElementById("live").dataset.over === "yes";
  let found = 0;
  try {
    if (!document.hidden) found = await readNew();
    if (wasOver && !found && !document.hidden) {
      if (!box.children.length) append("The log is empty.", "info");
      return;
    }
  } catch {
    // The server may be starting again; the lines of the next request start at the same place.
  }
  setTimeout(run, found ? EVERY_MS / 4 : EVERY_MS);
}

level.addEventListener("change", () => {
  box.dataset.level = level.value;
  if (follow.checked) box.scrollTop = box.scrollHeight;
});
follow.addEventListener("change", () => {
  if (follow.checked) box.scrollTop = box.scrollHeight;
});
run();
