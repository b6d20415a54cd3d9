// The progress of an upload.

const form = document.getElementById("upload");
const bar = document.getElementById("upload-progress");
const text = document.getElementById("upload-text");
const MIB = 1024 * 1024;

form.addEventListener("htmx:xhr:progress", ({ detail: { loaded, total } }) => {
  // The answer, which is small, has progress too.
  if (total < bar.max) return;
  bar.max = total;
  bar.value = loaded;
  const sizes = `${(loaded / MIB).toFixed(1)} of ${(total / MIB).toFixed(1)} MiB`;
  text.textContent = loaded < total ? sizes : `${sizes}, the server stores the archive`;
});
form.addEventListener("htmx:afterRequest", ({ detail }) => {
  if (detail.successful) return;
  bar.max = 1;
  bar.value = 0;
  text.textContent = "The archive was not uploaded.";
});
