/*
 * The icons in the admin's boxes of two lists have a label, but no role that may have one: screen readers skip it.
 */
"use strict";

// The boxes are made when the page is loaded, by a script before this one.
window.addEventListener("load", () => {
  for (const icon of document.querySelectorAll("span.help-tooltip[aria-label]")) icon.setAttribute("role", "img");
});
