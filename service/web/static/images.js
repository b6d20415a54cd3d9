// The images of a task: boxes that are switched on and off, and a large view of one image.

const LAYERS = [["show-truth", "no-truth", false], ["show-predicted", "no-predicted", false], ["only-errors", "only-errors", true]];
const dialog = document.getElementById("large");

for (const [id, name, isOn] of LAYERS) {
  const box = document.getElementById(id);
  const apply = () => document.body.classList.toggle(name, box.checked === isOn);
  box?.addEventListener("change", apply);
  if (box) apply();
}

/** Shows a tile in the dialog, with the names of its boxes. */
function enlarge(button) {
  const image = button.querySelector("img").cloneNode();
  image.src = button.dataset.large;
  image.loading = "eager";
  const overlay = button.querySelector("svg")?.cloneNode(true);
  document.getElementById("large-picture").replaceChildren(image, ...(overlay ? [overlay] : []));
  const figure = button.closest("figure");
  document.getElementById("large-title").textContent = figure.querySelector("figcaption bdi").textContent;
  const texts = [...button.querySelectorAll("rect")].map((rect) => [rect.getAttribute("class"), rect.textContent]);
  const classes = [...figure.querySelectorAll(".classes li")].map((item) => [item.className, item.textContent]);
  const items = [...texts, ...classes].map(([name, text]) => {
    const item = document.createElement("li");
    item.className = name;
    item.textContent = text;
    return item;
  });
  document.getElementById("large-marks").replaceChildren(...items);
  dialog.showModal();
}

document.getElementById("tiles")?.addEventListener("click", (event) => {
  const button = event.target.closest("button.picture");
  if (button) enlarge(button);
});
dialog?.addEventListener("click", (event) => event.target === dialog && dialog.close());
