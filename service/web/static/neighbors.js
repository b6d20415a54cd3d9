// The images of the evaluation to which an embedding is most similar.

const SIDE = 160;

/** Returns a list that is opened, or fills itself, with the neighbors of an embedding. */
export function neighborsOf(results, task, embedding, isOpen) {
  const part = document.createElement("details");
  part.className = "neighbors";
  const summary = document.createElement("summary");
  summary.textContent = "Neighbors in the evaluated images";
  part.append(summary);
  part.addEventListener("toggle", () => part.open && fill(part, `${results}/${encodeURIComponent(task)}/neighbors`, embedding), { once: true });
  part.open = isOpen;
  return part;
}

async function fill(part, address, embedding) {
  const status = document.createElement("p");
  status.setAttribute("role", "status");
  status.className = "muted";
  status.textContent = "Searching.";
  part.append(status);
  const headers = { ...JSON.parse(document.body.getAttribute("hx-headers")), "Content-Type": "application/json" };
  let answer;
  try {
    answer = await fetch(address, { method: "POST", body: JSON.stringify({ embedding }), headers });
  } catch {
    status.textContent = "The server does not answer. Predict the image again.";
    return;
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    status.textContent = content.detail ?? `The request failed with status ${answer.status}.`;
    return;
  }
  status.textContent = `The most similar of ${content.num_items} embeddings of the split ${content.split}:`;
  const list = document.createElement("ul");
  list.append(...content.neighbors.map(neighbor));
  part.append(list);
}

function neighbor({ identity, file_name: file, bbox_xywh: box, annotation_id: object, similarity, picture }) {
  const item = document.createElement("li");
  const image = document.createElement("img");
  image.src = `${picture}?max_side=${SIDE}`;
  image.loading = "lazy";
  image.alt = "";
  const name = document.createElement("bdi");
  name.textContent = identity ?? file;
  const place = object === null ? "" : ` at ${box.map((value) => Math.round(value)).join(", ")}`;
  const value = document.createElement("span");
  value.className = "muted";
  value.textContent = `${place} ${similarity.toFixed(3)}`;
  item.title = file;
  item.append(image, name, value);
  return item;
}
