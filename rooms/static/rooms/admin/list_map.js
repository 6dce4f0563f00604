/* The map over the list stays open, or closed, on every page of the list. */
"use strict";

{
  const details = document.querySelector(".list-map");
  const kept = sessionStorage.getItem("list-map");
  if (kept && !location.hash) details.open = kept === "open";
  details.addEventListener("toggle", () => sessionStorage.setItem("list-map", details.open ? "open" : "closed"));
}
