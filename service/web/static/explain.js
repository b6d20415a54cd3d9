// The parts of an image that a prediction depends on, as a map over the image.

const dialog = document.getElementById("explanation");
const heading = document.getElementById("explanation-heading");
const status = document.getElementById("explanation-status");
const method = document.getElementById("explanation-method");
const image = document.getElementById("explanation-map");

/** What is explained: the address of the request, the file, and the prediction. */
let wanted;

/** Shows the map of a prediction: the number `index` of a task in the answer of predict. */
export function explain(address, picture, task, index, name) {
  wanted = { address, picture, task, index };
  heading.textContent = `Why ${name}?`;
  dialog.showModal();
  request();
}

async function request() {
  const { address, picture, task, index } = wanted;
  image.hidden = true;
  status.textContent = "Computing. The network runs up to some hundred times, which takes seconds.";
  const body = new FormData();
  body.append("image", picture);
  const query = new URLSearchParams({ task, prediction: index });
  if (method.value) query.set("method", method.value);
  const headers = { ...JSON.parse(document.body.getAttribute("hx-headers")), Accept: "image/png" };
  let answer;
  try {
    answer = await fetch(`${address}&${query}`, { method: "POST", body, headers });
  } catch {
    status.textContent = "The server does not answer. Try it again.";
    return;
  }
  if (!answer.ok) {
    const { detail } = await answer.json().catch(() => ({}));
    status.textContent = detail ?? `The request failed with status ${answer.status}.`;
    return;
  }
  const map = await answer.blob();
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(map);
  image.hidden = false;
  status.textContent = "The prediction depends most on the brightest parts. A good model looks at the object.";
}

method.addEventListener("change", request);
