// Chooses the part of the form that somebody starts to fill in.

document.getElementById("new-job").addEventListener("input", ({ target }) => {
  const radio = target.closest("fieldset")?.querySelector("input[name=mode]");
  if (radio && target !== radio) radio.checked = true;
});
