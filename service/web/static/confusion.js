// The cells of a confusion matrix lead to the images behind them.

const table = document.getElementById("matrix");

/** Returns the address of the images of a cell; the last row and column of a matrix of boxes are the background. */
function addressOf(truth, predicted, isLastRow, isLastColumn) {
  const query = new URLSearchParams(table.dataset.query);
  const hasBackground = "background" in table.dataset;
  if (hasBackground && isLastRow) query.set("outcome", "false_positive");
  else query.set("label", truth);
  if (hasBackground && isLastColumn) query.set("outcome", "missed");
  else query.set("predicted", predicted);
  return `?${query}#images-title`;
}

if (table) {
  const heads = [...table.tHead.rows[0].cells].slice(1);
  // The text of a name shows symbols for control characters.
  const names = heads.map((cell) => new URLSearchParams(cell.dataset.name).get("name"));
  for (const [row, line] of [...table.tBodies[0].rows].entries()) {
    for (const [column, cell] of [...line.cells].slice(1).entries()) {
      if (!cell.textContent) continue;
      const link = document.createElement("a");
      link.href = addressOf(names[row], names[column], row === names.length - 1, column === names.length - 1);
      link.setAttribute("aria-label", `${heads[row].textContent} as ${heads[column].textContent}: ${cell.textContent}`);
      link.append(...cell.childNodes);
      cell.append(link);
    }
  }
}
