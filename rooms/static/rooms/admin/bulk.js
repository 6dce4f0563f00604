/*
 * The page of a bulk change: requests batch after batch, and shows how far it came.
 *
 * Without this script each click on "Continue" runs some batches.
 */
"use strict";

{
  const PAUSE = 2000; // milliseconds before another try, where other work holds the rooms or the site is away

  const start = (form) => {
    const text = document.getElementById("bulk-text");
    const bar = document.getElementById("bulk-progress");
    const [go, stop] = form.querySelectorAll("button");
    let running = false;
    let stopping = false;

    const send = async (name) => {
      const body = new URLSearchParams(new FormData(form));
      body.set(name, "yes");
      return fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" }, redirect: "manual" });
    };

    const show = (state) => {
      text.textContent = state.text;
      bar.value = state.changed;
    };

    const run = async () => {
      running = true;
      go.disabled = true;
      while (running) {
        let wait = 0;
        try {
          const response = await send(stopping ? "cancel" : "continue");
          if (response.type === "opaqueredirect" || response.status === 403) {
            text.textContent = form.dataset.refused;
            running = false;
            break;
          }
          if (response.ok) {
            const state = await response.json();
            show(state);
            running = state.running;
            if (!running) location.replace(location.pathname); // the page of a finished job, which can be undone
            wait = state.waits ? PAUSE : 0;
          } else {
            wait = PAUSE;
          }
        } catch {
          text.textContent = form.dataset.away;
          wait = PAUSE;
        }
        if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
      }
      go.disabled = false;
    };

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      stopping = event.submitter === stop;
      if (stopping) stop.disabled = true;
      if (!running) run();
    });
    if (form.dataset.begins === "yes") run();
  };

  document.addEventListener("DOMContentLoaded", () => {
    const form = document.getElementById("bulk-form");
    if (form) start(form);
  });
}
