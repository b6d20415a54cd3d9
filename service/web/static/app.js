// Behavior of every page: times in the zone of the reader, and requests that change something.

const zone = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
  timeZoneName: "short",
});

/** Writes the times below an element in the zone of the reader. */
export function localize(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.textContent = zone.format(new Date(time.dateTime));
  }
}

/** Shows a problem of the REST API, or a failed connection, above the content. */
export function showProblem(title, detail, errors = []) {
  const box = document.getElementById("problem");
  box.replaceChildren();
  if (!title) return;
  const part = document.createElement("div");
  part.className = "problem";
  const lines = [["strong", title], ["p", detail], ...errors.map((error) => ["p", `${error.pointer} ${error.detail}`])];
  for (const [tag, text] of lines) {
    const line = document.createElement(tag);
    line.textContent = text;
    part.append(line);
  }
  box.append(part);
  part.scrollIntoView({ block: "nearest" });
}

/** Returns whether a problem is shown already. */
function isShown(title, detail) {
  const shown = [...document.querySelectorAll("#problem strong, #problem p")].map((line) => line.textContent);
  return shown[0] === title && shown[1] === detail;
}

/** Returns the problem in the answer to a request of htmx. */
function problemOf(answer) {
  if (!answer.status) return { title: "No connection", detail: "The server does not answer. The page tries again." };
  try {
    const { title, detail, errors } = JSON.parse(answer.responseText);
    return { title, detail, errors };
  } catch {
    return { title: `Status ${answer.status}`, detail: "The server could not process the request." };
  }
}

/** Returns an address with values instead of the names in braces. */
function filled(address, valueOf) {
  return address.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(valueOf(name) ?? ""));
}

localize(document);

document.body.addEventListener("htmx:configRequest", ({ detail }) => {
  if (detail.verb === "get") return;
  // Addresses may name fields of their form, which are not sent then: hx-put="/v1/.../aliases/{alias}".
  detail.path = filled(detail.path, (name) => {
    const value = detail.formData.get(name);
    detail.formData.delete(name);
    return value;
  });
});

// A refreshed part keeps what the reader has opened, and the field in which they write.
window.Idiomorph.defaults.ignoreActiveValue = true;
window.Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, element) =>
  !(name === "open" && element.tagName === "DETAILS");

document.body.addEventListener("htmx:beforeSwap", (event) => {
  // Before the swap, so that unchanged times do not flicker.
  const next = new DOMParser().parseFromString(event.detail.serverResponse, "text/html");
  if (!next.querySelector("time[datetime]")) return;
  localize(next);
  event.detail.serverResponse = next.documentElement.outerHTML;
});

document.body.addEventListener("htmx:afterRequest", ({ detail, target }) => {
  const isChange = detail.requestConfig.verb !== "get";
  if (detail.successful) {
    if (isChange || document.querySelector("#problem [data-passing]")) showProblem();
    if (!isChange) return;
    const then = target.dataset.then;
    // An answer without content (204) has the type of the route nevertheless.
    const isJson = detail.xhr.responseText && detail.xhr.getResponseHeader("content-type")?.includes("json");
    const answer = isJson ? JSON.parse(detail.xhr.responseText) : {};
    if (then) window.location.assign(filled(then, (name) => answer[name]));
    else window.htmx.trigger(document.body, "changed");
    return;
  }
  const { title, detail: text, errors } = problemOf(detail.xhr);
  // A part that updates fails again and again; its reader may have scrolled on.
  if (!isChange && isShown(title, text)) return;
  showProblem(title, text, errors);
  if (!isChange || !detail.xhr.status) document.querySelector("#problem .problem").dataset.passing = "";
});

// Forms with hx-ext="json" send their fields as JSON, as REST expects it.
window.htmx.defineExtension("json", {
  onEvent(name, event) {
    if (name === "htmx:configRequest") event.detail.headers["Content-Type"] = "application/json";
  },
  encodeParameters(_xhr, parameters, element) {
    const fields = Object.fromEntries(parameters.entries?.() ?? Object.entries(parameters));
    for (const input of element.querySelectorAll?.("input[type=number][name]") ?? []) {
      if (input.name in fields) fields[input.name] = Number(fields[input.name]);
    }
    for (const input of element.querySelectorAll?.("input[type=checkbox][name]:not([data-list])") ?? []) {
      fields[input.name] = input.checked;
    }
    for (const input of element.querySelectorAll?.("input[type=date][name]") ?? []) {
      if (fields[input.name] === "") delete fields[input.name];
    }
    for (const { name } of element.querySelectorAll?.("[data-list][name]") ?? []) fields[name] = parameters.getAll(name);
    return JSON.stringify(fields);
  },
});
