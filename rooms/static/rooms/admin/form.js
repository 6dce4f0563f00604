/* The form of a room: asks before unsaved changes are left, and copies the code. */
"use strict";

{
  /** Asks before changes are left that are not saved. */
  const watchChanges = (form) => {
    const content = () => new URLSearchParams(new FormData(form)).toString();
    const opened = form.querySelector(".errornote, .conflict") ? "" : content();
    let sent = false;
    form.addEventListener("submit", () => (sent = true));
    window.addEventListener("beforeunload", (event) => {
      if (!sent && content() !== opened) event.preventDefault();
    });
  };

  /** Puts a button beside the code; browsers have a clipboard on https and on this machine only. */
  const offerCopy = (code, texts) => {
    if (!code || !navigator.clipboard) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy-code";
    button.textContent = texts.copy;
    button.setAttribute("aria-label", texts.copyCode);
    const told = document.createElement("output");
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(code.value ?? code.textContent.trim());
      told.textContent = texts.copied;
      setTimeout(() => (told.textContent = ""), 2000);
    });
    code.after(button, told);
  };

  document.addEventListener("DOMContentLoaded", () => {
    const form = document.getElementById("room_form");
    if (!form) return;
    watchChanges(form);
    offerCopy(form.querySelector(".field-code input, .field-code .readonly"), document.getElementById("form-texts").dataset);
  });
}
