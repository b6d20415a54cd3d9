// Tables of the class `sortable`: a click on the head of a column sorts the rows by it.

/** Returns what a row is sorted by: a number, or text; missing numbers come last. */
function keyOf(row, column) {
  const text = row.cells[column].textContent.trim();
  if (text === "–") return null;
  const number = Number(text);
  return text !== "" && Number.isFinite(number) ? number : text;
}

function compare(one, other) {
  if (one === null || other === null) return (one === null) - (other === null);
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other), undefined, { numeric: true });
}

/** Sorts the body of a table by a column, downwards first if it has numbers. */
function sort(head) {
  const table = head.closest("table");
  const rows = [...table.tBodies[0].rows];
  const isNumber = head.classList.contains("number");
  const before = head.getAttribute("aria-sort");
  const direction = before === null ? (isNumber ? "descending" : "ascending") : before === "ascending" ? "descending" : "ascending";
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = rows.map((row) => [keyOf(row, head.cellIndex), row]);
  keyed.sort(([one], [other]) => (one === null || other === null ? compare(one, other) : sign * compare(one, other)));
  table.tBodies[0].append(...keyed.map(([, row]) => row));
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction);
}

for (const head of document.querySelectorAll("table.sortable thead th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "sort";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => sort(head));
}
