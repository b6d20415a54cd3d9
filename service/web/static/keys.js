// The text of a new key, which the server shows once.

const form = document.getElementById("new-key");
const shown = document.getElementById("new-key-text");

form.addEventListener("htmx:afterRequest", ({ detail }) => {
  if (!detail.successful) return;
  shown.querySelector("code").textContent = JSON.parse(detail.xhr.responseText).text;
  shown.hidden = false;
  form.reset();
});
