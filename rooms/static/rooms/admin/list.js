/*
 * Editing prices and sizes in the list: each is a button that becomes a field. Enter saves, Escape does not.
 *
 * Without this script the list only shows them.
 */
"use strict";

{
  /** The texts in the reader's language, with {names} of what stands in them. */
  const TEXTS = document.currentScript.dataset;
  /** The labels of the columns that are edited, by name. */
  const COLUMNS = JSON.parse(TEXTS.columns);

  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

  const enhance = (row, told) => {
    const key = row.querySelector("input.action-select")?.value;
    const stamp = row.querySelector("[data-version]");
    const code = row.querySelector(".field-named .code")?.textContent.trim();
    if (!key || !stamp) return;
    for (const [name, label] of Object.entries(COLUMNS)) {
      const cell = row.querySelector(`.field-${name}`);
      if (cell) edit({ cell, name, label, key, stamp, code, told });
    }
  };

  const edit = ({ cell, name, label, key, stamp, code, told }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "edit-cell";
    const show = (text) => {
      button.textContent = text;
      button.setAttribute("aria-label", fill(TEXTS.edit, { label, code, value: text }));
    };
    show(cell.textContent.trim());
    cell.replaceChildren(button);

    const close = (field, text) => {
      if (text !== undefined) show(text);
      field.closest(".cell-form").replaceWith(button);
      button.focus();
    };

    const save = async (field) => {
      field.disabled = true;
      const body = new URLSearchParams({ name, value: field.value, version: stamp.dataset.version });
      const headers = { "X-CSRFToken": document.querySelector("[name=csrfmiddlewaretoken]").value, Accept: "application/json" };
      told.textContent = "";
      try {
        const response = await fetch(new URL(`${key}/cell/`, location.href.split("?")[0]), { method: "POST", body, headers, redirect: "manual" });
        if (!response.ok) throw new Error();
        const state = await response.json();
        told.textContent = state.message;
        if (state.invalid) {
          field.disabled = false;
          field.setAttribute("aria-invalid", "true");
          field.focus();
          return;
        }
        if (state.undo) {
          const link = document.createElement("a");
          link.href = state.undo;
          link.textContent = TEXTS.undo;
          told.append(" ", link);
        }
        stamp.dataset.version = state.version;
        stamp.textContent = state.changed;
        close(field, state.shown);
      } catch {
        told.textContent = TEXTS.failed;
        field.disabled = false;
      }
    };

    button.addEventListener("click", () => {
      const form = document.createElement("span");
      form.className = "cell-form";
      const field = document.createElement("input");
      Object.assign(field, { type: "text", inputMode: "numeric", autocomplete: "off", value: button.textContent.replace(/[^0-9-]/g, "") });
      field.setAttribute("aria-label", fill(TEXTS.new, { label, code }));
      field.addEventListener("keydown", (event) => {
        if (event.key === "Enter") {
          event.preventDefault(); // the list is a form of its own
          save(field);
        }
        if (event.key === "Escape") close(field);
      });
      form.append(field);
      button.replaceWith(form);
      field.select();
    });
  };

  document.addEventListener("DOMContentLoaded", () => {
    const table = document.getElementById("result_list");
    if (!table) return;
    const told = document.createElement("p");
    told.setAttribute("role", "status");
    told.className = "edit-told";
    table.closest(".results").before(told);
    for (const row of table.tBodies[0].rows) enhance(row, told);
  });
}
