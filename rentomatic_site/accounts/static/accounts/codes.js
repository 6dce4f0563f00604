/* The page of the recovery codes: prints itself. */
"use strict";

{
  const button = document.getElementById("print-codes");
  button.hidden = false;
  button.addEventListener("click", () => window.print());
}
